package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/test/faultpeer"
	"github.com/ebbtransfer/ebb/test/netlab"
)

// Faults besides those that package faultpeer knows.
const (
	goodPeer      = "none: a peer that has all" // for comparison
	datedBack     = "dates of the cache a year back"
	datedAhead    = "dates of the cache a year ahead"
	noRoom        = "no room for the cache"
	changedFile   = "changed file at the origin"
	rottenCache   = "rotten cache of the peer"
	anotherSecret = "another secret at the origin"
)

// clocks are how wrong the dates of what the peer has are: by more than the age at which a cache forgets.
var clocks = map[string]time.Duration{datedBack: -365 * 24 * time.Hour, datedAhead: 365 * 24 * time.Hour}

// neighbour is a machine that does harm, or not, and the two that download next to it: one of them with peers.
type neighbour struct {
	o             *office
	at            *netlab.Machine
	cache         string // the file is in it
	plain, shares *netlab.Machine
}

// measureFaults measures downloads next to a machine with each fault against downloads without peers over the same
// line, one after the other.
func (o *office) measureFaults(ctx context.Context) error {
	names := []string{goodPeer}
	for _, f := range slices.Concat(faultpeer.Faults, faultpeer.Floods) {
		names = append(names, f.Name)
	}
	// The last ones leave the peer's cache of no use to others.
	names = append(names, datedBack, datedAhead, noRoom, changedFile, rottenCache, anotherSecret)
	without, with, ratios := make([]figures, len(names)), make([]figures, len(names)), make([]figures, len(names))
	for run := range o.l.runs {
		if err := o.harm(ctx, names, func(i int, plain, shared time.Duration) {
			without[i] = append(without[i], plain.Seconds())
			with[i] = append(with[i], shared.Seconds())
			ratios[i] = append(ratios[i], shared.Seconds()/plain.Seconds())
			note("run %d of %d: %-30s %6.2f s without peers, %6.2f s with: %.2f", run+1, o.l.runs, names[i], plain.Seconds(), shared.Seconds(), shared.Seconds()/plain.Seconds())
		}, run); err != nil {
			return fmt.Errorf("run %d: %w", run+1, err)
		}
	}
	t := table{head: []string{"fault of the only peer", "without peers, s", "with it, s", "ratio", "target", ""}}
	for i, name := range names {
		verdict := "met"
		if ratios[i].median() > 1.10 {
			verdict = "**not met**"
		}
		t.add(name, without[i].spread("%.1f"), with[i].spread("%.1f"), ratios[i].spread("%.2f"), "1.10 or less", verdict)
	}
	fmt.Printf("\nA file of %s, a line of %d Mbit/s, one other machine on the network, which says to have all of the file:\n\n%s", size(o.size), o.line/1e6, &t)
	return nil
}

// harm makes a network and measures each fault once. odd runs have the other order.
func (o *office) harm(ctx context.Context, names []string, measured func(i int, plain, shared time.Duration), run int) (err error) {
	defer func() { err = errors.Join(err, o.close()) }()
	warm, err := o.open(ctx, "one")
	if err != nil {
		return err
	}
	n := &neighbour{o: o, cache: filepath.Join(warm.state, "peers")}
	for _, m := range []**netlab.Machine{&n.at, &n.plain, &n.shares} {
		if *m, err = o.net.Machine(o.four, o.six); err != nil {
			return err
		}
	}
	if err := o.origin.Shape(o.line); err != nil {
		return err
	}
	for i, name := range names {
		var plain, shared time.Duration
		steps := []func() error{
			func() (err error) { plain, err = n.alone(ctx, name); return },
			func() (err error) { shared, err = n.beside(ctx, name); return },
		}
		if (i+run)%2 == 1 {
			slices.Reverse(steps)
		}
		if name == anotherSecret {
			err = n.newSecret(ctx)
		}
		for _, step := range steps {
			err = errors.Join(err, step())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		measured(i, plain, shared)
	}
	return nil
}

// alone fetches the file without peers.
func (n *neighbour) alone(ctx context.Context, name string) (time.Duration, error) {
	s, err := n.o.service()
	if err != nil {
		return 0, err
	}
	if err := n.o.start(ctx, s, n.plain, "off"); err != nil {
		return 0, err
	}
	defer s.Kill()
	return n.fetch(ctx, s, name)
}

// beside fetches the file next to the machine with a fault.
func (n *neighbour) beside(ctx context.Context, name string) (took time.Duration, err error) {
	fault := name
	known, err := faultpeer.Find(name)
	if err != nil {
		fault = ""
	}
	if name == changedFile { // else all would be here before
		fault = "has nothing"
	}
	if name == rottenCache {
		if err := rot(n.cache); err != nil {
			return 0, err
		}
	}
	log := filepath.Join(n.o.dir, "faultpeer.log")
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	p, err := process.Spawn(log, nil, "/", append(n.at.Inside(), self, faultpeer.Acts, fault, n.cache)...)
	if err != nil {
		return 0, err
	}
	defer func() {
		p.Kill()
		err = errors.Join(err, os.Remove(log), n.at.Run("ip", "link", "set", netlab.Interface, "up"))
	}()
	for {
		if b, _ := os.ReadFile(log); string(b) == "ready\n" {
			break
		} else if len(b) > 0 || !p.Running() {
			return 0, fmt.Errorf("the machine with the fault says %q", b)
		}
		if err := process.Sleep(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
	if off, ok := clocks[name]; ok { // set while the peer runs, which would remove what is too old when it starts
		if err := faultpeer.Date(n.cache, time.Now().Add(off)); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, faultpeer.Date(n.cache, time.Now())) }()
	}
	s, err := n.o.service()
	if err != nil {
		return 0, err
	}
	if name == noRoom {
		dir := filepath.Join(s.state, "peers")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return 0, err
		}
		if err := unix.Mount("ebb-bench", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
			return 0, fmt.Errorf("mount a small disk: %w", err)
		}
		defer func() { err = errors.Join(err, unix.Unmount(dir, 0)) }()
	}
	defer func() {
		if s.Process != nil {
			s.Kill()
		}
	}()
	if err := n.o.start(ctx, s, n.shares, "distributed"); err != nil {
		return 0, err
	}
	if took, err = n.fetch(ctx, s, name); err != nil {
		return 0, err
	}
	b, err := os.ReadFile(s.log)
	if err == nil && known.Lies && !strings.Contains(string(b), "a peer sent what is wrong and is not asked for a while") {
		err = errors.New("the log does not name the peer that lied")
	}
	return took, err
}

// fetch fetches and checks the file. Where it is to change, that happens when two fifths of it could be here, and it is
// as it was after that.
func (n *neighbour) fetch(ctx context.Context, s *service, name string) (took time.Duration, err error) {
	o := n.o
	if name == changedFile {
		place, old, next := filepath.Join(o.root, "one"), filepath.Join(o.dir, "old"), filepath.Join(o.dir, "next")
		was := o.files["one"]
		now, err := generate(next, uint64(1000+o.machines), o.size)
		if err != nil {
			return 0, err
		}
		changed := make(chan error, 1)
		time.AfterFunc(time.Duration(float64(o.size)*8/float64(o.line)*0.4*float64(time.Second)), func() {
			changed <- errors.Join(os.Rename(place, old), os.Rename(next, place))
		})
		o.files["one"] = now
		defer func() {
			err = errors.Join(err, <-changed, os.Rename(old, place))
			o.files["one"] = was
		}()
	}
	began := time.Now()
	if err := o.fetch(ctx, s, "one"); err != nil {
		return 0, err
	}
	took = time.Since(began)
	return took, o.check(s, "one")
}

// rot changes a byte of each block of a cache.
func rot(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "seg", "*", "*.dat"))
	for _, name := range files {
		b, rerr := os.ReadFile(name)
		for i := 0; i < len(b); i += 32 << 10 {
			b[i] ^= 1
		}
		err = errors.Join(err, rerr, os.WriteFile(name, b, 0o600))
	}
	if len(files) == 0 {
		err = errors.Join(err, errors.New("there is nothing in the cache"))
	}
	return err
}

// newSecret gives the origin another secret, so that what the peer has is of no use, and gives the peer back what had
// rotted: it is under ids that nobody asks for.
func (n *neighbour) newSecret(ctx context.Context) error {
	o := n.o
	if _, err := o.server.Terminate(ctx); err != nil {
		return err
	}
	if err := errors.Join(os.Remove(filepath.Join(o.dir, "serve-state", "branchcache.secret")), rot(n.cache)); err != nil {
		return err
	}
	if err := o.serve(); err != nil {
		return err
	}
	return o.origin.Run("sh", "-c", "until ss -ltn | grep -q :8080; do sleep 0.1; done")
}
