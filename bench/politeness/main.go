// Command politeness is the link laboratory: it measures what a transfer in the background does to
// others who use the same link, and what it makes of a link that nobody else uses.
//
//	sudo go run ./bench/politeness                          one link, bulk foreground on a neighbour
//	sudo go run ./bench/politeness --links all --rivals ebb,curl,aria2c,wget,counters --plots DIR
//	sudo go run ./bench/politeness --load web,page,video,voice --links 20m-100ms
//
// The bed is made of network namespaces with a server, a router, this machine and a neighbour; the
// link between them is emulated in user space (package link) and checked against arithmetic before
// anything is measured. docs/politeness.md says what is measured and how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "politeness:", err)
		os.Exit(1)
	}
}

// programs are those of servers, loads and others that run in a part of the bed.
var programs = map[string]func(context.Context, []string) error{"serve": serve, "load": load, "follow": follow, "watch": watch}

// run is this program, or one of those, which are the same with other arguments.
func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if len(args) > 0 && programs[args[0]] != nil {
		return programs[args[0]](ctx, args[1:])
	}
	return measure(ctx, args)
}

// measure makes all runs that the flags name and prints the table.
func measure(ctx context.Context, args []string) error {
	var o options
	if err := o.parse(args); err != nil {
		return err
	}
	// Clean up also when nobody reads the output any more.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGPIPE)
	defer stop()
	if err := need(o); err != nil {
		return err
	}
	if o.smoke {
		return smoke(ctx, o)
	}
	if err := queueUp(ctx); err != nil {
		return err
	}
	emulated := slices.DeleteFunc(slices.Clone(o.links), func(l linkSpec) bool { return l.rate == 0 })
	cables := len(o.links) - len(emulated)
	if o.links = emulated; len(emulated) > 0 {
		if err := measureLinks(ctx, o); err != nil {
			return err
		}
	}
	if cables > 0 {
		return measureCable(ctx, o)
	}
	return nil
}

// measureLinks measures what goes over emulated links.
func measureLinks(ctx context.Context, o options) error {
	l, err := newLab(ctx, o, false, o.fileSize())
	if err != nil {
		return err
	}
	defer l.close()
	if o.plots != "" {
		if err := os.MkdirAll(o.plots, 0o755); err != nil {
			return err
		}
	}
	if err := l.validate(ctx, o.links); err != nil {
		return err
	}
	var results []*result
	for _, c := range o.cases() {
		r, err := l.measureCase(ctx, c, o)
		if err != nil {
			return err
		}
		results = append(results, r...)
	}
	printTables(results)
	if o.json != "" {
		return writeJSON(o.json, results)
	}
	return nil
}

// measureCase makes the references of a case, and then its runs.
func (l *lab) measureCase(ctx context.Context, c spec, o options) ([]*result, error) {
	alone := c
	switch {
	case c.probing():
		alone.phases = [3]time.Duration{0, c.total(), 0}
	case len(c.link.steps) == 0:
		alone.phases = [3]time.Duration{0, c.phases[1], 0}
	}
	reference, err := l.run(ctx, alone)
	if err != nil {
		return nil, err
	}
	idle := c
	idle.load, idle.rival, idle.connections = "", curl, 1
	idle.phases = [3]time.Duration{max(c.phases[0], 5*time.Second), 0, 0}
	curlAlone, err := l.run(ctx, idle)
	if err != nil {
		return nil, err
	}
	var results []*result
	for i := range o.runs {
		for _, name := range o.rivals {
			s := c
			s.rival, s.seed = name, uint64(i)
			t, err := l.run(ctx, s)
			if err != nil {
				return nil, err
			}
			r := evaluate(t, reference, curlAlone)
			fmt.Fprintln(os.Stderr, r)
			if o.plots != "" {
				if err := plotRun(filepath.Join(o.plots, s.String()+".svg"), t); err != nil {
					return nil, err
				}
			}
			results = append(results, r)
		}
	}
	return results, nil
}

// options are the flags.
type options struct {
	links         []linkSpec
	loads, rivals []string
	from, proto   string
	server        string
	connections   int
	upload        bool
	smoke         bool
	runs          int
	phases        [3]time.Duration
	dir, ebb      string
	plots, json   string
	logs          string
	sysctls       []string
}

func (o *options) parse(args []string) (err error) {
	flags := flag.NewFlagSet("politeness", flag.ContinueOnError)
	links := flags.String("links", "short", "links and groups of links, separated by commas; groups: short, tail, corners, other, all; links: "+linkNames())
	loads := flags.String("loads", bulk, "foreground `loads`: bulk, bulk-bbr, web, page, video, voice")
	names := flags.String("rivals", "ebb,curl", "who transfers in the background: "+strings.Join(rivals, ", "))
	phases := flags.String("phases", "10s,12s,9s", "`durations` of idle, contention, idle; a negative first one has the background start after the foreground")
	flags.StringVar(&o.from, "from", neighbour, "`where` the load runs: neighbour, or local beside ebb")
	flags.StringVar(&o.proto, "proto", "http", "`protocol` of the background: http, https (HTTP/1.1) or h2; with --upload also bits")
	flags.StringVar(&o.server, "server", cubic, "congestion `control` of the background's server: cubic or bbr")
	flags.IntVar(&o.connections, "connections", 1, "`number` of files that ebb and curl fetch at once")
	flags.BoolVar(&o.upload, "upload", false, "the background uploads; a bulk load and voice send, other loads fetch")
	flags.IntVar(&o.runs, "runs", 1, "`number` of runs of each case")
	flags.BoolVar(&o.smoke, "smoke", false, "make a short run with ebb, up to three times, and end with 1 unless it yields and recovers")
	flags.StringVar(&o.dir, "dir", "", "`directory` for what is downloaded; it is removed (default the system's for temporary files)")
	flags.StringVar(&o.ebb, "ebb", "", "measure this `binary` instead of building one")
	flags.StringVar(&o.plots, "plots", "", "write a plot of each run to this `directory`")
	flags.StringVar(&o.json, "json", "", "write the results of all runs, with their bins, to this `file`")
	flags.StringVar(&o.logs, "logs", "", "keep the logs of ebb's services, with all detail, in this `directory`")
	flags.Func("sysctl", "`KEY=VALUE` in the namespace of this machine, such as net.ipv4.tcp_timestamps=0; may be repeated", func(s string) error {
		o.sysctls = append(o.sysctls, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || o.runs < 1 || o.connections < 1 {
		return errors.New("it takes flags only, at least one run and one connection; see --help")
	}
	o.loads, o.rivals = strings.Split(*loads, ","), strings.Split(*names, ",")
	for _, c := range []struct {
		flag   string
		values []string
		known  []string
	}{
		{"loads", o.loads, []string{bulk, bulkBBR, web, page, video, voice}}, {"rivals", o.rivals, rivals},
		{"from", []string{o.from}, []string{neighbour, local}}, {"proto", []string{o.proto}, []string{"http", "https", "h2", protoBITS}},
		{"server", []string{o.server}, []string{cubic, bbr}},
	} {
		for _, v := range c.values {
			if !slices.Contains(c.known, v) {
				return fmt.Errorf("--%s %s: there are %s", c.flag, v, strings.Join(c.known, ", "))
			}
		}
	}
	if o.upload && slices.ContainsFunc(o.rivals, func(r string) bool { return r != ebbRival && r != ebbForeground && r != curl }) {
		return errors.New("--upload: the rivals are ebb, ebb-foreground and curl")
	}
	if o.proto == protoBITS && !o.upload {
		return errors.New("--proto bits is for uploads: add --upload")
	}
	if o.from == local {
		o.from = machine
	}
	if o.links, err = findLinks(*links); err != nil {
		return err
	}
	parts := strings.Split(*phases, ",")
	if len(parts) != len(o.phases) {
		return fmt.Errorf("--phases %s: want three durations", *phases)
	}
	for i, p := range parts {
		if o.phases[i], err = time.ParseDuration(p); err != nil || i > 0 && o.phases[i] < 0 {
			return fmt.Errorf("--phases %s: want three durations", *phases)
		}
	}
	return nil
}

// need checks that what the lab runs is installed.
func need(o options) error {
	programs := []string{"ip", "nice", "chrt"}
	if !o.smoke {
		programs = append(programs, curl)
	}
	for _, r := range o.rivals {
		if r == aria2 || r == wget {
			programs = append(programs, r)
		}
	}
	missing := slices.DeleteFunc(programs, func(p string) bool {
		_, err := exec.LookPath(p)
		return err == nil
	})
	if len(missing) > 0 {
		return fmt.Errorf("not installed: %s; apt-get install iproute2 util-linux curl aria2 wget", strings.Join(missing, ", "))
	}
	return nil
}

// fileSize returns how large a file must be that no run finishes.
func (o *options) fileSize() int64 {
	var most int64
	for _, l := range o.links {
		most = max(most, l.rate)
	}
	total := lead + spec{phases: o.phases}.total()
	return max(64<<20, most/8*int64(total/time.Second+1)*5/4)
}

// cases returns a spec without rival for every row of the table.
func (o *options) cases() []spec {
	var list []spec
	for _, l := range o.links {
		for _, load := range o.loads {
			list = append(list, spec{link: l, load: load, from: o.from, server: o.server, proto: o.proto, connections: o.connections, upload: o.upload, phases: o.phases})
		}
	}
	return list
}
