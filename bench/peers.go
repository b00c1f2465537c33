package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/netlab"
)

// peers puts an origin behind a slow line and machines on a fast network, and measures what it takes until one has
// a file, then another, then several at once, and what that costs the line.
func peers(flags *flag.FlagSet) func(context.Context, *lab) error {
	n := size(200e6)
	flags.TextVar(&n, "size", n, "`bytes` of the file")
	line := flags.Int64("line", 20, "`Mbit/s` of the origin's line")
	clients := flags.Int("clients", 6, "`number` of machines that begin at once")
	by := flags.String("by", "both", "addresses of the network: `4`, 6 or both")
	version1 := flags.Bool("version1", false, "content information of version 1")
	faults := flags.Bool("faults", false, "measure what machines that do harm cost, over IPv4, in place of what others save")
	return func(ctx context.Context, l *lab) error {
		if why := netlab.Missing(); why != "" {
			return errors.New(why)
		}
		if *by != "4" && *by != "6" && *by != "both" {
			return fmt.Errorf("--by %s: want 4, 6 or both", *by)
		}
		if err := l.free(int64(*clients+4) * 2 * int64(n)); err != nil {
			return err
		}
		o := &office{l: l, line: *line * 1e6, four: *by != "6", six: *by != "4", version1: *version1, size: int64(n)}
		if *faults {
			o.four, o.six = true, false
			return o.measureFaults(ctx)
		}
		return o.measure(ctx, *clients)
	}
}

// office is the network of one measurement.
type office struct {
	l         *lab
	size      int64
	line      int64 // bits per second
	four, six bool
	version1  bool
	net       *netlab.Net
	origin    *netlab.Machine
	server    *process.Process
	dir, root string // of the network, and of the files that the origin serves
	url       string
	files     map[string]content // by name
	machines  int
}

// fetched is what a download took: time, and bytes that the origin sent.
type fetched struct {
	time time.Duration
	sent int64
}

func (o *office) measure(ctx context.Context, clients int) error {
	var first, second, share, cost, slowest figures
	for run := range o.l.runs {
		one, two, all, err := o.run(ctx, clients)
		if err != nil {
			return fmt.Errorf("run %d: %w", run+1, err)
		}
		first = append(first, one.time.Seconds())
		second = append(second, two.time.Seconds())
		share = append(share, 100*float64(two.sent)/float64(o.size))
		cost = append(cost, float64(all.sent)/float64(o.size))
		slowest = append(slowest, all.time.Seconds())
	}
	ratio := second.median() / first.median()
	t := table{head: []string{"", "measured", "target"}}
	t.add("first machine, s", first.spread("%.1f"), "")
	t.add("second machine, with a warm peer, s", second.spread("%.1f"), "")
	t.add("second to first", fmt.Sprintf("%.3f", ratio), "0.1 or less")
	t.add("sent by the origin for the second, % of the file", share.spread("%.2f"), "less than 1")
	t.add(fmt.Sprintf("%d machines at once, until the last has it, s", clients), slowest.spread("%.1f"), "")
	t.add(fmt.Sprintf("sent by the origin for %d at once, times the file", clients), cost.spread("%.2f"), "1.3 or less")
	fmt.Printf("\nA file of %s, a line of %d Mbit/s, what the origin sent with all headers:\n\n%s", size(o.size), o.line/1e6, &t)
	return nil
}

// open makes a network with an origin that has described its files, of the given names, and returns the machine that
// has fetched them all, which runs no more. Its line is as fast as the network yet. close must be called.
func (o *office) open(ctx context.Context, names ...string) (warm *service, err error) {
	if o.net, err = netlab.New(); err != nil {
		return
	}
	if o.dir, err = o.l.mkdir(fmt.Sprintf("peers-%d", o.machines)); err != nil {
		return
	}
	o.root = filepath.Join(o.dir, "root")
	if err = os.MkdirAll(o.root, 0o755); err != nil {
		return
	}
	o.files = map[string]content{}
	for i, name := range names {
		if o.files[name], err = generate(filepath.Join(o.root, name), uint64(2*o.machines+i+1), o.size); err != nil {
			return
		}
	}
	if o.origin, err = o.net.Machine(o.four, o.six); err != nil {
		return
	}
	if err = o.serve(); err != nil {
		return
	}
	if warm, err = o.machine(ctx, "local"); err != nil {
		return
	}
	// The origin describes its files once somebody asked for them; that is not what is measured.
	for _, name := range names {
		if err = o.describe(ctx, warm, name); err != nil {
			return
		}
	}
	warm.Kill()
	return
}

// serve starts the origin.
func (o *office) serve() (err error) {
	at := o.origin.Four
	if !o.four {
		at = o.origin.Six
	}
	o.url = "http://" + netip.AddrPortFrom(at, 8080).String()
	o.server, err = process.Spawn(filepath.Join(o.dir, "serve.log"), nil, "/", append(o.origin.Inside(), o.l.ebb, "serve", "--root", o.root,
		"--state", filepath.Join(o.dir, "serve-state"), "--listen", netip.AddrPortFrom(at, 8080).String(), "--branchcache", "--branchcache-http")...)
	return err
}

// close removes the network and what is on its machines.
func (o *office) close() error {
	if o.net == nil {
		return nil
	}
	if o.server != nil {
		o.server.Kill()
		o.server = nil
	}
	if o.dir != "" {
		_ = os.RemoveAll(o.dir)
	}
	return o.net.Close()
}

// run makes a network and lets machines fetch: one, then another, then several that have nothing yet, of another
// file.
func (o *office) run(ctx context.Context, clients int) (one, two, all fetched, err error) {
	defer func() { err = errors.Join(err, o.close()) }()
	if _, err = o.open(ctx, "one", "all"); err != nil {
		return
	}
	if err = o.origin.Shape(o.line); err != nil {
		return
	}
	a, err := o.machine(ctx, "distributed")
	if err != nil {
		return
	}
	if one, err = o.together(ctx, "one", a); err != nil {
		return
	}
	b, err := o.machine(ctx, "distributed")
	if err != nil {
		return
	}
	if two, err = o.together(ctx, "one", b); err != nil {
		return
	}
	a.Kill()
	b.Kill()
	var many []*service
	for range clients {
		s, merr := o.machine(ctx, "distributed")
		if err = merr; err != nil {
			return
		}
		many = append(many, s)
	}
	all, err = o.together(ctx, "all", many...)
	for _, s := range many {
		s.Kill()
	}
	return
}

// machine starts a service on a machine of its own.
func (o *office) machine(ctx context.Context, mode string) (*service, error) {
	m, err := o.net.Machine(o.four, o.six)
	if err != nil {
		return nil, err
	}
	s, err := o.service()
	if err != nil {
		return nil, err
	}
	return s, o.start(ctx, s, m, mode)
}

// service makes one that has nothing yet.
func (o *office) service() (*service, error) {
	o.machines++
	return o.l.newService(fmt.Sprintf("machine%d", o.machines))
}

// start starts a service on a machine.
func (o *office) start(ctx context.Context, s *service, m *netlab.Machine, mode string) (err error) {
	config := s.state + ".toml"
	text := fmt.Sprintf("[peers]\nmode = %q\ninterfaces = %q\nplain_http = true\ncache_size = \"10 GiB\"\nversion1_only = %v\n", mode, netlab.Interface, o.version1)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	s.Process, err = process.Spawn(s.log, []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent/bus"}, "/",
		append(m.Inside(), o.l.ebb, "--socket", s.socket, "daemon", "--state", s.state, "--config", config)...)
	if err != nil {
		return err
	}
	return s.ready(ctx)
}

// describe lets a machine fetch a file until the origin has described it.
func (o *office) describe(ctx context.Context, s *service, name string) error {
	before, err := s.Cache(ctx)
	for err == nil {
		if err = errors.Join(o.fetch(ctx, s, name), o.check(s, name)); err != nil {
			break
		}
		var after *bits.CacheInfo
		if after, err = s.Cache(ctx); err == nil && after.Bytes-before.Bytes >= o.size {
			return nil
		}
		if err == nil {
			err = process.Sleep(ctx, time.Second)
		}
	}
	return err
}

// fetch fetches a file as a foreground job.
func (o *office) fetch(ctx context.Context, s *service, name string) error {
	job, err := s.Create(ctx, foreground(name, bits.FileSpec{Remote: o.url + "/" + name, Local: s.local(name)}))
	if err != nil {
		return err
	}
	return s.finish(ctx, job.ID)
}

// local is where a machine keeps a file.
func (s *service) local(name string) string { return s.state + "-" + name }

// check checks what a machine fetched, and removes it.
func (o *office) check(s *service, name string) error {
	if err := o.files[name].check(s.local(name)); err != nil {
		return err
	}
	return os.Remove(s.local(name))
}

// together lets machines fetch a file at the same time.
func (o *office) together(ctx context.Context, name string, machines ...*service) (fetched, error) {
	before, err := o.sent()
	if err != nil {
		return fetched{}, err
	}
	began := time.Now()
	errs := make([]error, len(machines))
	var wait sync.WaitGroup
	for i, s := range machines {
		wait.Go(func() { errs[i] = o.fetch(ctx, s, name) })
	}
	wait.Wait()
	took := time.Since(began)
	after, err := o.sent()
	if err = errors.Join(append(errs, err)...); err != nil {
		return fetched{}, err
	}
	for _, s := range machines {
		if err := o.check(s, name); err != nil {
			return fetched{}, err
		}
	}
	return fetched{took, after - before}, nil
}

// sent returns the bytes that the origin has sent, of all kinds.
func (o *office) sent() (int64, error) {
	words := append(o.origin.Inside(), "cat", "/sys/class/net/"+netlab.Interface+"/statistics/tx_bytes")
	out, err := exec.Command(words[0], words[1:]...).Output()
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(out)), 10, 64)
}
