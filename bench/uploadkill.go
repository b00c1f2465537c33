package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/test/faultserver"
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
			{what: "most sent twice after a kill, in fragments of 13 MiB", limit: 1, got: k.again.max() / bupwire.MaxFragment, format: "%.2f"},
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
	tap, err := newTap(server.address, k.rate)
	if err != nil {
		return err
	}
	k.l.onClose(tap.close)
	client, err := k.l.startService(ctx, "upload-kill")
	if err != nil {
		return err
	}
	for len(k.again) < kills {
		if err := k.upload(ctx, source, want, client, server, tap, kills); err != nil {
			return fmt.Errorf("upload %d, after %d kills: %w; the client said: %s; the server said: %s", k.uploads+1, len(k.again), err, client.said(), server.said())
		}
		k.uploads++
		note("upload %d: %d kills so far, at most %s sent twice", k.uploads, len(k.again), size(k.again.max()))
	}
	client.Kill()
	server.Kill()
	return nil
}

// upload moves the file once, killing one side or the other until it is there.
func (k *uploadKiller) upload(ctx context.Context, source string, want content, client *service, server *ebbServer, tap *tap, kills int) error {
	name := fmt.Sprintf("file-%03d", k.uploads)
	target := filepath.Join(server.dir, name)
	tap.forget()
	id := bits.NewID()
	spec := foreground("upload", bits.FileSpec{Remote: tap.url() + name, Local: source})
	spec.ID, spec.Type = &id, bits.Upload
	delay := int64(5)
	spec.MinimumRetryDelay = &delay
	if _, err := client.Create(ctx, spec); err != nil {
		return err
	}
	var moments []time.Time
	for left := kills - len(k.again); left > len(moments); {
		if err := process.Sleep(ctx, time.Duration(k.random.Int64N(int64(k.life)))); err != nil {
			return err
		}
		if _, err := os.Stat(target); err == nil {
			break
		}
		side := k.random.IntN(2)
		k.killed[side]++
		moments = append(moments, time.Now())
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
	again, sent := chargeKills(tap.requests(), moments)
	for _, n := range again {
		k.again = append(k.again, float64(n))
	}
	k.sent += sent
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

// tap lies between a client and a server and notes which bytes of which file pass.
type tap struct {
	listener net.Listener
	server   string
	rate     int64

	mu  sync.Mutex
	log []faultserver.Request // guarded by mu
}

func newTap(server string, rate int64) (*tap, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &tap{listener: l, server: server, rate: rate}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go t.connect(c)
		}
	}()
	return t, nil
}

func (t *tap) url() string { return "http://" + t.listener.Addr().String() + "/" }
func (t *tap) close()      { _ = t.listener.Close() }

func (t *tap) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log = nil
}

func (t *tap) requests() []faultserver.Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log
}

// connect passes on what both sides say. It ends when either side does.
func (t *tap) connect(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", t.server)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	defer func() { _ = server.Close() }()
	r := bufio.NewReaderSize(io.TeeReader(client, server), 64<<10)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		from := int64(-1)
		if span, err := bupwire.ParseRange(req.Header.Get("Content-Range")); err == nil {
			from = span.First
		}
		began := time.Now()
		n, err := t.pass(req.Body)
		t.mu.Lock()
		t.log = append(t.log, faultserver.Request{Path: req.URL.Path, Offset: from, Sent: n, Time: began})
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// pass reads a body no faster than the rate.
func (t *tap) pass(body io.Reader) (n int64, err error) {
	began := time.Now()
	buf := make([]byte, 256<<10)
	for {
		m, err := body.Read(buf)
		n += int64(m)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		time.Sleep(time.Duration(float64(n)/float64(t.rate)*float64(time.Second)) - time.Since(began))
	}
}
