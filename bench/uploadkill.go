package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/test/tap"
)

// uploadKill kills the service that uploads by BITS, and the server that takes the upload, again and
// again.
func uploadKill(flags *flag.FlagSet) func(context.Context, *lab) error {
	n, rate := size(256*mib), size(100*mib)
	flags.TextVar(&n, "size", n, "`bytes` of a file")
	flags.TextVar(&rate, "rate", rate, "`bytes` a second that get from the one to the other")
	kills := flags.Int("kills", 100, "`number` of kills, of either side about half")
	seed := flags.Uint64("seed", uint64(time.Now().Unix()), "chooses the moments and the sides")
	life := flags.Duration("life", time.Second, "the longest time between two kills")
	return func(ctx context.Context, l *lab) error {
		if err := l.free(3 * int64(n)); err != nil {
			return err
		}
		k := uploadKiller{l: l, size: int64(n), rate: int64(rate), life: *life, random: rand.New(rand.NewPCG(*seed, 1))}
		if err := k.run(ctx, *kills); err != nil {
			return fmt.Errorf("--seed %d: %w", *seed, err)
		}
		t := table{head: []string{"uploads", "kills of the client", "kills of the server", "wrong or missing files", "stray files and sessions", "sent twice per kill, median", "most", "all bytes sent / needed"}}
		t.add(fmt.Sprint(k.uploads), fmt.Sprint(k.killed[0]), fmt.Sprint(k.killed[1]), fmt.Sprint(k.wrong), fmt.Sprint(k.stray),
			size(k.again.median()).String(), size(k.again.max()).String(), fmt.Sprintf("%.3f", float64(k.sent)/float64(k.size*int64(k.uploads))))
		t.print("kill -9 of either side at random moments of uploads of %s by BITS in the foreground, at %s/s (--seed %d):", size(k.size), rate, *seed)
		printTargets([]target{
			{what: "wrong, missing or stray files and sessions", limit: 0, got: float64(k.wrong + k.stray), format: "%.0f"},
			{what: "most sent twice after a kill, by the length of the fragment that it cut", limit: 1, got: k.cut.max(), format: "%.2f"},
		})
		return nil
	}
}

// uploadKiller uploads the same file again and again, killing both sides on the way.
type uploadKiller struct {
	l      *lab
	size   int64
	rate   int64
	life   time.Duration
	random *rand.Rand

	uploads      int
	killed       [2]int // client, server
	wrong, stray int
	again        figures // bytes sent twice because of each kill
	cut          figures // the same for those that cost something, by the length of the fragment that was cut
	sent         int64
}

func (k *uploadKiller) run(ctx context.Context, kills int) error {
	source := k.l.path("source")
	want, err := generate(source, 1, k.size)
	if err != nil {
		return err
	}
	server, err := k.l.startEbbServer(ctx, "serve")
	if err != nil {
		return err
	}
	wire, err := tap.New(server.address, k.rate)
	if err != nil {
		return err
	}
	k.l.onClose(wire.Close)
	client, err := k.l.startService(ctx, "upload-kill")
	if err != nil {
		return err
	}
	for k.kills() < kills {
		if err := k.upload(ctx, source, want, client, server, wire, kills); err != nil {
			return fmt.Errorf("upload %d, after %d kills: %w; the client said: %s; the server said: %s", k.uploads+1, k.kills(), err, client.said(), server.said())
		}
		k.uploads++
		note("upload %d: %d kills so far, at most %s sent twice", k.uploads, k.kills(), size(k.again.max()))
	}
	client.Kill()
	server.Kill()
	return nil
}

func (k *uploadKiller) kills() int { return k.killed[0] + k.killed[1] }

// upload moves the file once, killing one side or the other until it is there.
func (k *uploadKiller) upload(ctx context.Context, source string, want content, client *service, server *ebbServer, wire *tap.Tap, kills int) error {
	name := fmt.Sprintf("file-%03d", k.uploads)
	target := filepath.Join(server.dir, name)
	wire.Forget()
	id := bits.NewID()
	spec := foreground("upload", bits.FileSpec{Remote: wire.URL() + "/" + name, Local: source})
	spec.ID, spec.Type = &id, bits.Upload
	delay := int64(5)
	spec.MinimumRetryDelay = &delay
	if _, err := client.Create(ctx, spec); err != nil {
		return err
	}
	before := k.kills()
	for k.kills() < kills {
		if err := process.Sleep(ctx, time.Duration(k.random.Int64N(int64(k.life)))); err != nil {
			return err
		}
		if _, err := os.Stat(target); err == nil {
			break
		}
		side := k.random.IntN(2)
		k.killed[side]++
		var err error
		if side == 0 {
			client.Kill()
			err = client.launch()
		} else {
			server.Kill()
			err = server.launch()
		}
		if err != nil {
			return err
		}
	}
	const patience = 5 * time.Minute
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := server.ready(waiting); err != nil {
		return err
	}
	if err := client.ready(waiting); err != nil {
		return err
	}
	if err := client.finish(waiting, id); err != nil {
		return err
	}
	fragments := wire.Fragments()
	for _, f := range fragments {
		k.sent += f.Passed
	}
	returns := tap.Returns(fragments)
	for _, r := range returns {
		k.again = append(k.again, float64(r.Again))
		k.cut = append(k.cut, float64(r.Again)/float64(r.Cut.Range.Len()))
	}
	for range k.kills() - before - len(returns) { // those that cost nothing
		k.again = append(k.again, 0)
	}
	if err := want.check(target); err != nil {
		note("%v", err)
		k.wrong++
	}
	return k.inspect(server.dir, name)
}

// inspect counts what should not be there once an upload has ended, and removes the file. Beside the
// file that is the server's lock.
func (k *uploadKiller) inspect(dir, name string) error {
	target, lock := filepath.Join(dir, name), filepath.Join(dir, session.Hidden, "lock")
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path != target && path != lock {
			note("left behind: %s", path)
			k.stray++
		}
		return err
	})
	if err != nil {
		return err
	}
	return os.Remove(target)
}
