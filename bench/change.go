package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// change kills a client in the middle of a download, puts another version of the file on the
// server (of the same length, with another ETag and Last-Modified), and looks at what the client
// makes of it when it goes on.
func change(flags *flag.FlagSet) func(context.Context, *lab) error {
	n, rate := size(gib), size(200*mib)
	flags.TextVar(&n, "size", n, "`bytes` of the file")
	flags.TextVar(&rate, "rate", rate, "`bytes` a second of each connection")
	only := flags.String("only", "", "only clients whose name begins with this `text`")
	seed := flags.Uint64("seed", 1, "chooses the moments")
	return func(ctx context.Context, l *lab) error {
		if err := l.free(3 * int64(n)); err != nil {
			return err
		}
		w := &swap{l: l, rate: int64(rate), random: rand.New(rand.NewPCG(*seed, 2)),
			old: faultserver.File{Seed: 1, Size: int64(n)}, new: faultserver.File{Seed: 2, Size: int64(n)}}
		var err error
		if w.web, err = faultserver.Start(faultserver.Options{SendBuffer: sendBuffer}); err != nil {
			return err
		}
		l.onClose(w.web.Close)
		if err := w.compare(ctx, *only); err != nil {
			return err
		}
		return w.ownCases(ctx)
	}
}

// swap is a file on a server, with another version to put in its place.
type swap struct {
	l        *lab
	web      *faultserver.Server
	entry    *faultserver.Entry
	old, new faultserver.File
	rate     int64
	random   *rand.Rand
	dirs     int
}

const swapName = "image.iso"

// reset serves the old version, with a program, at the start of a new log, and returns an empty
// directory.
func (w *swap) reset(p faultserver.Program) (dir string, err error) {
	p.Rate = w.rate
	w.entry = w.web.File("/"+swapName, w.old)
	w.entry.Set(func(standing *faultserver.Program) { *standing = p })
	w.web.ForgetRequests()
	w.dirs++
	return w.l.mkdir(fmt.Sprintf("change-%d", w.dirs))
}

// patience is how long a download may take.
func (w *swap) patience() time.Duration {
	return time.Minute + 4*time.Duration(w.old.Size/w.rate)*time.Second
}

// part returns the context of a part of a download.
func (w *swap) part(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, w.patience())
}

// A downloader fetches the file into a directory, can be killed, and goes on.
type downloader interface {
	// start begins the download or, after Kill, goes on.
	start(ctx context.Context) error
	// Kill ends the program as kill -9 does.
	Kill()
	// wait returns when the download has ended, with what the program says of it.
	wait(ctx context.Context) error
}

// rival is a row of the table.
type rival struct {
	name    string
	program string
	pkg     string // Debian's
	make    func(w *swap, dir string) (downloader, error)
}

var rivals = []rival{
	{"curl -C -", "curl", "curl", cli("curl", "-q", "-sf", "-C", "-", "-o", swapName, "URL")},
	{"wget -c", "wget", "wget", cli("wget", "--no-config", "-q", "-c", "URL")},
	{"wget2 -c", "wget2", "wget2", cli("wget2", "--no-config", "-q", "-c", "URL")},
	{"aria2c -c", "aria2c", "aria2", cli("aria2c", "--no-conf", "-q", "-c", "URL")},
	{"aria2c daemon, -c, all intervals 1 s", "aria2c", "aria2", newAriaDownload},
	{"lftp get -c", "lftp", "lftp", cli("lftp", "--norc", "-c", "get -c URL")},
	{"axel -n 4", "axel", "axel", cli("axel", "-q", "-n", "4", "-o", swapName, "URL")},
	{"Ebb", "", "", newEbbDownload},
}

// compare prints the table of all clients.
func (w *swap) compare(ctx context.Context, only string) error {
	t := table{head: []string{"client", "fetched twice, file unchanged", "result, file unchanged", "result, file changed", "what the client said"}}
	missing := map[string]bool{}
	for _, r := range rivals {
		if !strings.HasPrefix(r.name, only) {
			continue
		}
		if _, err := exec.LookPath(r.program); r.program != "" && err != nil {
			missing[r.pkg] = true
			continue
		}
		var again figures
		same, changed, said := tally{}, tally{}, tally{}
		for round := range w.l.runs {
			at := w.old.Size * (400 + w.random.Int64N(300)) / 1000
			o, err := w.interrupt(ctx, r, at, false)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			again = append(again, float64(o.again))
			same.add(o.verdict)
			if o, err = w.interrupt(ctx, r, at, true); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			changed.add(o.verdict)
			said.add(o.said)
			note("run %d of %d: %-38s %s fetched twice, unchanged %s, changed %s", round+1, w.l.runs, r.name, size(again[round]), same, changed)
		}
		t.add(r.name, fmt.Sprintf("%s (%s to %s)", size(again.median()), size(again.min()), size(again.max())), same.String(), changed.String(), said.String())
		if r.program == "" && (same[whole] < w.l.runs || changed[whole] < w.l.runs) {
			t.print("")
			return errors.New("a file of Ebb's is not what the server has")
		}
	}
	t.print("%s at %s/s and connection, kill -9 at 40 to 70 %%, then the client goes on; %d runs:", size(w.old.Size), size(w.rate), w.l.runs)
	for pkg := range missing {
		fmt.Printf("\nMissing: %s (apt-get install %[1]s).\n", pkg)
	}
	return nil
}

// tally counts results.
type tally map[string]int

func (t tally) add(what string) { t[what]++ }

// String is the one result, or each with its number.
func (t tally) String() string {
	var all []string
	for what, n := range t {
		if len(t) > 1 {
			what = fmt.Sprintf("%d × %s", n, what)
		}
		all = append(all, what)
	}
	return strings.Join(all, ", ")
}

// outcome is how a download ended.
type outcome struct {
	verdict string
	said    string
	again   int64 // bytes sent more than once
}

// interrupt starts a download, kills the client when at bytes have been sent, changes the file if
// that is wanted, and lets the client go on to the end.
func (w *swap) interrupt(ctx context.Context, r rival, at int64, changed bool) (o outcome, err error) {
	dir, err := w.reset(faultserver.Program{})
	if err != nil {
		return o, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d, err := r.make(w, dir)
	if err != nil {
		return o, err
	}
	if err := w.killAt(ctx, d, at); err != nil {
		return o, err
	}
	want := w.old
	if changed {
		want = w.new
		w.entry.Replace(w.new)
	}
	return w.goOn(ctx, d, dir, want)
}

// killAt starts a download and kills the client when the server has sent so many bytes.
func (w *swap) killAt(ctx context.Context, d downloader, at int64) error {
	ctx, cancel := w.part(ctx)
	defer cancel()
	if err := d.start(ctx); err != nil {
		return err
	}
	err := w.web.Await(ctx, func() bool { return w.web.Sent("/"+swapName) >= at })
	d.Kill()
	if err != nil {
		return fmt.Errorf("the server has sent %d bytes, not yet %d: %w", w.web.Sent("/"+swapName), at, err)
	}
	return w.web.Await(ctx, w.web.Idle)
}

// goOn lets a client go on that was killed, and looks at the result.
func (w *swap) goOn(ctx context.Context, d downloader, dir string, want faultserver.File) (o outcome, err error) {
	part, cancel := w.part(ctx)
	defer cancel()
	if err := d.start(part); err != nil {
		return o, err
	}
	o.said = "done"
	if err := d.wait(part); err != nil {
		o.said = err.Error()
	}
	d.Kill()
	if ctx.Err() != nil {
		return o, ctx.Err()
	}
	if err := w.web.Await(part, w.web.Idle); err != nil {
		return o, err
	}
	o.again = w.web.Refetched("/" + swapName)
	o.verdict, err = compareFile(filepath.Join(dir, swapName), want, w.old, w.new)
	return o, err
}

// What a file is found to be.
const (
	whole    = "whole"
	oldWhole = "the old version"
	mix      = "**CORRUPT MIX**"
	missing  = "no file"
)

// compareFile tells what a file consists of.
func compareFile(path string, want, old, new faultserver.File) (verdict string, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return missing, nil
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	const block = 64 << 10
	got, version := make([]byte, block), make([]byte, block)
	var n, ofOld, ofNew int64
	for {
		k, err := io.ReadFull(f, got)
		if k > 0 {
			switch {
			case sameBlock(got[:k], version[:k], old, n):
				ofOld += int64(k)
			case sameBlock(got[:k], version[:k], new, n):
				ofNew += int64(k)
			}
			n += int64(k)
		}
		if err != nil {
			if err != io.EOF && err != io.ErrUnexpectedEOF {
				return "", err
			}
			break
		}
	}
	versionOf := map[uint64]int64{old.Seed: ofOld, new.Seed: ofNew}
	switch {
	case versionOf[want.Seed] == n && n == want.Size:
		return whole, nil
	case ofOld == n && n == old.Size:
		return oldWhole, nil
	case ofOld > 0 && ofNew > 0:
		return mix, nil
	case n < want.Size:
		return fmt.Sprintf("cut at %s", size(n)), nil
	}
	return "**CORRUPT**", nil
}

// sameBlock compares got, which is at an offset, with a version; buf is as long as got.
func sameBlock(got, buf []byte, f faultserver.File, offset int64) bool {
	_, _ = faultserver.Content(f.Seed, f.Size).ReadAt(buf, offset) // io.EOF at the end
	return bytes.Equal(got, buf)
}

// commandLine is a downloader that is one command.
type commandLine struct {
	*process.Process
	dir, log string
	argv     []string
}

// cli returns what makes a commandLine; URL stands for the file's.
func cli(argv ...string) func(*swap, string) (downloader, error) {
	return func(w *swap, dir string) (downloader, error) {
		c := &commandLine{dir: dir, log: filepath.Join(w.l.temp, argv[0]+".log")}
		for _, a := range argv {
			c.argv = append(c.argv, strings.ReplaceAll(a, "URL", w.entry.URL()))
		}
		return c, nil
	}
}

func (c *commandLine) start(context.Context) (err error) {
	c.Process, err = process.Spawn(c.log, nil, c.dir, c.argv...)
	return err
}

func (c *commandLine) wait(ctx context.Context) error {
	err := c.Wait(ctx)
	if ctx.Err() != nil {
		return errors.New("does not end")
	}
	return err
}

// ariaDownload is a download in aria2's daemon, which saves its session and the state of its files
// as often as it can.
type ariaDownload struct {
	*aria2
	url, dir, session string
	added             bool
}

func newAriaDownload(w *swap, dir string) (downloader, error) {
	session := filepath.Join(w.l.temp, fmt.Sprintf("session-%d", w.dirs))
	if err := os.WriteFile(session, nil, 0o600); err != nil {
		return nil, err
	}
	a, err := w.l.newAria2("aria2-change", "-c", "--dir="+dir, "--save-session="+session, "--input-file="+session, "--save-session-interval=1", "--auto-save-interval=1")
	return &ariaDownload{aria2: a, url: w.entry.URL(), dir: dir, session: session}, err
}

func (a *ariaDownload) start(ctx context.Context) error {
	if err := a.aria2.start(ctx, a.dir); err != nil || a.added {
		return err
	}
	a.added = true
	return a.call(ctx, "aria2.addUri", nil, []string{a.url})
}

func (a *ariaDownload) wait(ctx context.Context) error {
	for {
		var active, stopped []struct{ Status, ErrorMessage string }
		if err := a.call(ctx, "aria2.tellActive", &active, []string{"status"}); err != nil {
			return err
		}
		if err := a.call(ctx, "aria2.tellStopped", &stopped, 0, 10, []string{"status", "errorMessage"}); err != nil {
			return err
		}
		switch {
		case len(stopped) > 0 && stopped[0].Status == "complete":
			return nil
		case len(stopped) > 0:
			return errors.New(stopped[0].ErrorMessage)
		case len(active) == 0:
			return errors.New("the job is gone")
		}
		if process.Sleep(ctx, 20*time.Millisecond) != nil {
			return errors.New("does not end")
		}
	}
}

// ebbDownload is a job of a service.
type ebbDownload struct {
	*service
	url, local string
	job        bits.ID // zero before there is one
}

func newEbbDownload(w *swap, dir string) (downloader, error) {
	s, err := w.l.newService(fmt.Sprintf("change-%d", w.dirs))
	return &ebbDownload{service: s, url: w.entry.URL(), local: filepath.Join(dir, swapName)}, err
}

func (e *ebbDownload) start(ctx context.Context) error {
	if _, err := e.service.start(ctx); err != nil || e.job != (bits.ID{}) {
		return err
	}
	job, err := e.Create(ctx, foreground("change", bits.FileSpec{Remote: e.url, Local: e.local}))
	if err == nil {
		e.job = job.ID
	}
	return err
}

func (e *ebbDownload) wait(ctx context.Context) error { return e.finish(ctx, e.job) }

// ownCases are ways in which a file changes that Ebb must see; after each the file must be whole.
func (w *swap) ownCases(ctx context.Context) error {
	at := w.old.Size / 2
	killed := func(d downloader) error {
		if err := w.killAt(ctx, d, at); err != nil {
			return err
		}
		w.entry.Replace(w.new)
		return nil
	}
	reset := faultserver.Cut{How: faultserver.Reset, After: at}
	swapped := &faultserver.Change{To: w.new, After: at}
	inPlace := &faultserver.Change{To: w.new, After: at, InPlace: true}
	t := table{head: []string{"how the file changes", "result", "bytes sent / size"}}
	mixed := 0
	for _, c := range []struct {
		name     string
		standing faultserver.Program
		first    *faultserver.Program // of the first request
		kill     bool
	}{
		{"while the service is dead", faultserver.Program{}, nil, true},
		{"the same, and the server ignores If-Range", faultserver.Program{IgnoreIfRange: true}, nil, true},
		{"the same, and its 206 names no version", faultserver.Program{IgnoreIfRange: true, BareRange: true}, nil, true},
		{"while the service is dead, the ETag is weak", faultserver.Program{ETag: faultserver.ETagWeak}, nil, true},
		{"while the service is dead, there is no ETag", faultserver.Program{ETag: faultserver.ETagNone}, nil, true},
		{"while the service is dead, there is neither ETag nor Last-Modified", faultserver.Program{ETag: faultserver.ETagNone, NoLastModified: true}, nil, true},
		{"while the connection is broken", faultserver.Program{}, &faultserver.Program{Change: swapped, Cut: reset}, false},
		{"the same, and the server ignores If-Range", faultserver.Program{IgnoreIfRange: true}, &faultserver.Program{Change: swapped, Cut: reset}, false},
		{"under the running answer, in place", faultserver.Program{}, &faultserver.Program{Change: inPlace}, false},
	} {
		for _, redirected := range []bool{false, true} {
			dir, err := w.reset(c.standing)
			if err != nil {
				return err
			}
			if c.first != nil {
				first := *c.first
				first.Rate = w.rate
				w.entry.Script(first)
			}
			name := c.name
			d, err := newEbbDownload(w, dir)
			if err != nil {
				return err
			}
			if redirected {
				name += ", behind a redirect"
				front := w.web.File("/latest", faultserver.File{})
				front.Set(func(p *faultserver.Program) { p.Redirect = w.entry.URL() })
				d.(*ebbDownload).url = front.URL()
			}
			if c.kill {
				if err := killed(d); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			o, err := w.goOn(ctx, d, dir, w.new)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if o.said != "done" {
				o.verdict += ", " + o.said
			}
			if o.verdict != whole {
				mixed++
			}
			t.add(name, o.verdict, fmt.Sprintf("%.2f", float64(w.web.Sent("/"+swapName))/float64(w.old.Size)))
			note("%s: %s", name, o.verdict)
			_ = os.RemoveAll(dir)
		}
	}
	t.print("Ebb, and a file of the same length that changes on the server after half of it:")
	printTargets([]target{{what: "results that are not whole", limit: 0, got: float64(mixed), format: "%.0f"}})
	if mixed > 0 {
		return fmt.Errorf("%d results of Ebb's are not the new version, whole", mixed)
	}
	return nil
}
