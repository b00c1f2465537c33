// Command bench compares Ebb with its rivals on this machine, one subject a call, and prints what
// it measured as tables in markdown, with the targets beside the figures:
//
//	go run ./bench large         a file of 1 GiB: processor and time, HTTP, HTTPS and with a checksum
//	go run ./bench memory        page cache, dirty pages, resident memory, wake-ups
//	go run ./bench small         a job of 10,000 files of 16 KiB
//	go run ./bench queue         100,000 waiting jobs: adding, listing, restarting
//	go run ./bench kill          kill -9 of the service at 200 random moments
//	go run ./bench change        a file that changes on the server while a download is interrupted
//	go run ./bench upload        a file of 1 GiB to ebb serve and to nginx
//	go run ./bench upload-small  10,000 uploads of 16 KiB
//	go run ./bench upload-kill   kill -9 of either side of a BITS upload at 100 random moments
//	go run ./bench peers         a file of 200 MB behind a slow line, with peers: one after the other, and six at once;
//	                             with --faults what peers that do harm cost
//	go run ./bench upload-slow   1,000 clients that send 10 KB a second each
//	go run ./bench attack        a user who attacks the service of all users, and another who is served
//	go run ./bench peerdist      blocks from one peer, the description of files, and a peer that serves 64
//
// Contenders take turns, so that a machine that becomes slower does so for all of them, and the
// figures are medians. A call builds ebb, starts its own servers and its own service, and removes
// all that it made. It ends with 1 when something was wrong (a mixed file, a lost job), not when a
// target was missed. docs/benchmarks.md has the results.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/ebbtransfer/ebb/test/faultpeer"
)

// A subject is what one call measures. Its function takes the flags it wants and returns what runs
// when they are parsed.
type subject struct {
	name  string
	flags func(*flag.FlagSet) func(context.Context, *lab) error
}

var subjects = []subject{
	{"large", large},
	{"memory", memory},
	{"small", small},
	{"queue", queue},
	{"kill", kill},
	{"change", change},
	{"upload", upload},
	{"upload-small", uploadSmall},
	{"upload-kill", uploadKill},
	{"upload-slow", uploadSlow},
	{"peerdist", peerDist},
	{"peers", peers},
	{"attack", attack},
}

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) > 0 && args[0] == actsAs {
		return act(args[1:])
	}
	if len(args) > 0 && args[0] == faultpeer.Acts {
		return faultpeer.Main(ctx, args[1:], func() { fmt.Println("ready") })
	}
	s, err := find(args)
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("bench "+s.name, flag.ContinueOnError)
	dir := flags.String("dir", ".", "`directory` on the disk to measure; what is made there is removed")
	runs := flags.Int("runs", 5, "`number` of runs of each contender")
	ebb := flags.String("ebb", "", "measure this `binary` instead of building one")
	measure := s.flags(flags)
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if flags.NArg() > 0 || *runs < 1 {
		return fmt.Errorf("%s takes flags only, and at least one run; see --help", s.name)
	}
	l, err := newLab(ctx, *dir, *ebb)
	if err != nil {
		return err
	}
	defer l.close()
	l.runs = *runs
	l.describe()
	if err := measure(ctx, l); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	fmt.Printf("\nLoad average at the end: %s.\n", loadAverage())
	return nil
}

// find returns the subject that the first argument names.
func find(args []string) (subject, error) {
	names := ""
	for _, s := range subjects {
		if len(args) > 0 && args[0] == s.name {
			return s, nil
		}
		names += " " + s.name
	}
	return subject{}, fmt.Errorf("usage: go run ./bench SUBJECT [FLAGS], with a subject of:%s", names)
}
