package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// In the foreground somebody waits: try again soon, and give up the same day.
const (
	foregroundRetryDelay = "5"
	foregroundNoProgress = "3600"
)

// jobOptions are the flags of verbs that make a job and wait for it.
type jobOptions struct {
	background string
	detach     bool
	keep       bool
	headers    []string
	headerFrom string
	name       string
	retryDelay string
	timeout    string
	transfer   string
	progress   string
	dryRun     bool
}

// getOptions are the flags of get.
type getOptions struct {
	jobOptions
	sourceOptions
	list        string
	connections string
}

func newGetCmd(a *app) *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use:   "get URL... [DEST]",
		Short: "Fetch files and wait for them",
		Long: `Fetch one or more files through the service, wait for them with a progress bar, put
them in their places and print where they are.

DEST is the last argument if it is not an http or https URL. For one URL it is a file,
or a directory (one that exists, or a name that ends in '/'); for several URLs and for
-i it is a directory that exists. Without DEST files go to the current directory, under
the last part of the URL's path (index.html where it has none; characters that do not
belong in a file name become '_'). A file that exists is replaced when the new one is
whole. All files of one call are one job: they all arrive, or the job fails.

The transfer survives a broken connection, a restart of the service and of the machine.
Ctrl+C cancels it, and so does an error that no attempt helps against; a second Ctrl+C
leaves at once. With --keep the first Ctrl+C leaves the job in the queue, where it is
finished by itself, and a job that failed stays too; the end of the session (SIGTERM, or a
terminal that goes away) leaves it as --keep does. After kill -9 the job goes on as well,
but its files come to their places only with ` + "`ebb complete`" + `.

A list for -i ('-' is the standard input) has a URL in each line and, separated by a
TAB each, a destination and a checksum that may be left out. Blank lines and lines that
begin with '#' are skipped. A destination is below DEST; without DEST it is below the
current directory or absolute. A list may also be CSV, with a first line that names
the columns Source, Destination, Checksum and Mirrors (Source at least), or a Metalink 4
document (RFC 5854), whose files come from the best of their URLs that works and are
checked by their digests. Of a Metalink document -i takes the http or https URL too; headers
and credentials of the job then go to the document's server alone. To give them to the servers
that it names, too, fetch the document, look at it, and pass it as a file.

With --range only parts of the file on the server are fetched; they stand back to back in
the file here, in the order given.

A URL may also be file:///PATH, or smb://SERVER/SHARE/PATH for a share that is mounted here. Such
a path may be a directory, whose files are fetched with all below it, or have the wildcards
'*', '?' and '[...]' (quote them); DEST is a directory then, and directories below it are made.
A directory keeps its name below DEST unless it ends in '/'. Servers have no listings, so URLs of
http and https have no wildcards.`,
		Example: `  ebb get https://example.org/image.iso
  ebb get --url https://mirror.example.net/image.iso https://example.org/image.iso
  ebb get https://example.org/image.iso /srv/images/
  ebb get --checksum sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 https://example.org/a
  ebb get --range 0:4096,1048576:eof https://example.org/image.iso parts.bin
  ebb get --background=low --detach https://example.org/image.iso
  ebb get -i list.txt mirror/
  ebb get -i https://example.org/image.meta4
  ebb get 'file:///srv/images/*.iso' mirror/`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.get(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.list, "input", "i", "", "read URLs from the list `FILE`, or from the Metalink document at a URL")
	o.sourceOptions.flags(cmd)
	f.StringVar(&o.connections, "connections", "", "files that move at once, 1 to 64 (`number`, default 16)")
	o.jobOptions.flags(cmd)
	return cmd
}

// flags adds the options to a verb.
func (o *jobOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.background, "background", "", "let other programs go first, at `priority` high, normal or low")
	f.Lookup("background").NoOptDefVal = "normal"
	f.BoolVarP(&o.detach, "detach", "d", false, "print the job's id and leave the job to the service")
	f.BoolVar(&o.keep, "keep", false, "keep the job when it fails or when waiting is interrupted")
	f.StringArrayVar(&o.headers, "header", nil, "send the request header `'Name: value'`; repeat it for more; what is secret comes from a file")
	f.StringVar(&o.headerFrom, "header-from", "", "send the request headers that are the lines of `FILE`; '-' is the standard input")
	f.StringVar(&o.name, "name", "", "display `name` of the job (default the file's name)")
	f.StringVar(&o.retryDelay, "retry-delay", "", "least `time` until a failed attempt is repeated, such as 30 or 10m (default 5 s; 10 min in the background)")
	f.StringVar(&o.timeout, "timeout", "", "give up after this `time` without progress (default 1 h; 14 days in the background)")
	dryRunFlag(cmd, &o.dryRun)
	transferPolicyFlag(cmd, &o.transfer)
	progressFlag(cmd, &o.progress)
	complete(cmd, "background", "high", "normal", "low")
}

// progressFlag adds --progress to a verb that waits.
func progressFlag(cmd *cobra.Command, v *string) {
	cmd.Flags().StringVar(v, "progress", "auto", "`how` to show progress on the standard error: auto, plain, json or none")
	complete(cmd, "progress", "auto", "plain", "json", "none")
}

// complete gives a flag's values to the shell's completion.
func complete(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) get(ctx context.Context, o getOptions, args []string) error {
	if err := a.readHeaders(&o.jobOptions, o.list); err != nil {
		return err
	}
	a, err := a.withList(ctx, o.list, o.jobOptions)
	if err != nil {
		return err
	}
	p, err := a.planGet(o, args)
	if err != nil {
		return err
	}
	files := p.files
	a.tellOthers(p.finder.others)
	if o.dryRun {
		return a.printPlan(files)
	}
	if err := p.makeDirs(); err != nil {
		return err
	}
	settings, err := o.settings(jobName(files), setting{"--connections", "connections", o.connections})
	if err != nil {
		return err
	}
	show, err := a.newDisplay(o.progress)
	if err != nil {
		return err
	}

	srv := a.connect()
	defer srv.Close()
	srv.notices(ctx)
	ctx, stop := catchSignals(ctx)
	defer stop()
	// A signal must not leave a job behind that nobody knows of.
	began := time.Now()
	job, err := srv.Create(context.WithoutCancel(ctx), bits.NewJob{Settings: settings, Files: files, Resume: true})
	if err != nil {
		return createFailed(err)
	}
	if o.detach {
		return a.printNewJob(ctx, job)
	}

	following := a.follow(job, show)
	info, err := following.wait(srv.wait(ctx))
	if err != nil && interrupted(ctx) {
		show.end()
		a.leave(ctx, job, o.keep || errors.Is(context.Cause(ctx), errHungUp))
		a.printFinal(ctx, job)
		return told(exitInterrupted)
	}
	if err == nil && info.State == bits.Transferred {
		last, cancel := outlive(ctx)
		defer cancel()
		if info, err = following.finish(srv.wait(last)); err != nil {
			err = hinted(&exitError{code: exitFailed, err: err}, "the job is kept: `ebb complete %[1]s` tries again, `ebb cancel %[1]s` ends it", shortID(job.ID))
		}
	}
	show.end()
	if err != nil {
		a.printFinal(ctx, job)
		return err
	}
	return a.arrived(ctx, job, info, show, o.keep, time.Since(began))
}

// arrived tells how a job ended that was waited for.
func (a *app) arrived(ctx context.Context, job *client.Job, info *bits.Job, show display, keep bool, took time.Duration) error {
	if a.json {
		if err := a.printJSON(asJSON(info)); err != nil {
			return err
		}
	}
	switch info.State {
	case bits.Errored:
		return a.failed(ctx, job, info, keep)
	case bits.Cancelled:
		return &exitError{code: exitFailed, err: errors.New("the job was cancelled")}
	}
	if !a.json {
		a.printPlaces(info)
	}
	n := info.Progress.BytesTransferred
	show.say(fmt.Sprintf("%s in %s (%s)", size(n), seconds(took), rate(int64(float64(n)/took.Seconds()))))
	return nil
}

// printFinal prints, for programs, a job that waiting did not bring to its end.
func (a *app) printFinal(ctx context.Context, job *client.Job) {
	if !a.json {
		return
	}
	if info, err := job.Info(context.WithoutCancel(ctx)); err == nil {
		_ = a.printJSON(asJSON(info))
	}
}

func seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return duration(d)
}

// planGet reads the arguments of get.
func (a *app) planGet(o getOptions, args []string) (*planner, error) {
	urls, dest := args, ""
	if n := len(args); n > 0 && !isSource(args[n-1]) {
		urls, dest = args[:n-1], args[n-1]
		if dest == "-" {
			return nil, usagef("ebb cannot write to the standard output: a file appears only when it is whole")
		}
		if strings.Contains(dest, "://") {
			return nil, usagef("%q is not an http, https, file or smb URL", bits.RedactURL(dest))
		}
	}
	for _, u := range urls {
		if isSource(u) {
			continue
		}
		err := usagef("%q is not an http, https, file or smb URL", bits.RedactURL(u))
		if p := new(bits.Priority); o.background != "" && p.UnmarshalText([]byte(u)) == nil {
			return nil, hinted(err, "write the priority with an equals sign: --background=%s", u)
		}
		return nil, hinted(err, "URLs come first and one destination last; quote a name that holds spaces")
	}
	single := len(urls) == 1 && o.list == ""
	switch {
	case len(urls) == 0 && o.list == "":
		return nil, hinted(usagef("there is no URL to fetch"), "`ebb get https://example.org/file`; see `ebb get --help`")
	case o.single() != "" && !single:
		return nil, hinted(usagef("%s is for one URL", o.single()), "in a list for -i each line may have a checksum and mirrors of its own")
	}
	if single {
		p, err := newPlanner("")
		if err == nil {
			err = p.addOne(urls[0], dest, o.sourceOptions)
		}
		return p, err
	}
	p, err := newPlanner(dest)
	if err != nil {
		return nil, err
	}
	p.onlyIfNewer = o.onlyIfNewer
	for _, u := range urls {
		if err := p.addSource(u, ""); err != nil {
			return nil, err
		}
	}
	if o.list != "" {
		if err := p.addList(o.list, a.in); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// setting is a property that a flag gives; an empty value leaves it alone.
type setting struct{ flag, property, value string }

// settings makes a job's properties of the flags, and of more that the verb has.
func (o *jobOptions) settings(name string, more ...setting) (bits.Settings, error) {
	values := append([]setting{{"--name", "name", cmp.Or(o.name, name)}}, more...)
	priority := bits.Foreground
	if o.background == "" {
		values = append(values, setting{"", "minimum_retry_delay", foregroundRetryDelay}, setting{"", "no_progress_timeout", foregroundNoProgress})
	} else if err := priority.UnmarshalText([]byte(o.background)); err != nil || priority == bits.Foreground {
		return bits.Settings{}, usagef("--background=%s: want high, normal or low", o.background)
	}
	values = append(values, setting{"--retry-delay", "minimum_retry_delay", o.retryDelay}, setting{"--timeout", "no_progress_timeout", o.timeout}, setting{"--transfer-policy", "transfer_policy", o.transfer})
	s := bits.Settings{Priority: &priority, AutoComplete: &o.detach}
	for _, v := range values {
		if v.value == "" {
			continue
		}
		if err := s.Set(v.property, v.value); err != nil {
			return s, usagef("%s: %w", v.flag, err)
		}
	}
	if len(o.headers) > 0 {
		s.Headers = &o.headers
	}
	if e := s.Check(true); e != nil {
		return s, usagef("%s", e.Sentence())
	}
	return s, nil
}

// following is a job that is waited for.
type following struct {
	app   *app
	job   *client.Job
	show  display
	track *track
}

func (a *app) follow(job *client.Job, show display) *following {
	return &following{a, job, show, &track{id: job.ID}}
}

func (f *following) say(lines []string) {
	for _, line := range lines {
		f.show.say(f.app.errTerm.paint(yellow, "ebb:") + " " + safe(line))
	}
}

// wait waits for the job and shows how it moves. The files of one that is TRANSFERRED are missing: they come
// from finish, or from info.
func (f *following) wait(ctx context.Context) (*bits.Job, error) {
	of := client.Filter{Progress: true}
	if _, all := f.show.(*jsonLines); !all { // of the single files only what is remarkable is shown
		of.Kind = []bits.EventKind{bits.EventNote}
	}
	info, err := f.job.WaitFunc(ctx, of, func(e bits.Event) {
		f.say(f.track.update(e, time.Now()))
		f.show.show(f.track, e)
	})
	if err == nil && info.State != bits.Transferred {
		info, err = f.info(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return info, err
}

// info returns the job with its files, and tells what was not told of them yet.
func (f *following) info(ctx context.Context) (info *bits.Job, err error) {
	err = persist(ctx, func() error {
		info, err = f.job.Info(ctx)
		return err
	})
	if err == nil {
		f.say(f.track.missed(info.Files))
	}
	return info, err
}

// finish completes the job, which is TRANSFERRED. It may be repeated: that somebody else, or the
// same call before the service went away, completed the job is as good.
func (f *following) finish(ctx context.Context) (*bits.Job, error) {
	err := persist(ctx, func() error {
		_, err := f.job.Complete(ctx)
		return err
	})
	if err != nil && !errors.Is(err, &bits.Error{Code: bits.InvalidState}) {
		return nil, err
	}
	return f.info(ctx)
}

// leave ends the waiting for a job that was interrupted: it cancels the job or, if it is to be
// kept, has it finished by the service.
func (a *app) leave(ctx context.Context, job *client.Job, keep bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	id := shortID(job.ID)
	if keep {
		yes := true
		if err := job.Set(ctx, bits.Settings{AutoComplete: &yes}); err != nil {
			a.printError(err)
			a.note("the job stays in the queue: `ebb wait %[1]s` waits for it, `ebb complete %[1]s` puts its files in their places", id)
		} else {
			a.note("the job goes on without you: `ebb wait %[1]s` waits for it, `ebb cancel %[1]s` ends it", id)
		}
	} else if _, err := job.Cancel(ctx); err != nil {
		a.printError(err)
		a.note("the job may still be in the queue: `ebb cancel %s` ends it", id)
	} else {
		_, _ = fmt.Fprintf(a.err, "%s interrupted; the job is cancelled\n", a.errTerm.paint(red, "ebb:"))
	}
}

// failed tells why a job ended in ERROR and removes it unless it is to be kept.
func (a *app) failed(ctx context.Context, job *client.Job, info *bits.Job, keep bool) error {
	sentence, hint := jobError(info.Error)
	if len(info.Files) == 1 && info.Type != bits.Download && !strings.Contains(sentence, info.Files[0].Local) {
		sentence = info.Files[0].Local + ": " + sentence
	}
	a.printProblem(sentence, hint)
	if keep {
		a.note("the job is kept: `ebb resume %[1]s` tries again, `ebb cancel %[1]s` ends it", shortID(job.ID))
		return told(exitFailed)
	}
	if _, err := job.Cancel(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, &bits.Error{Code: bits.InvalidState}) {
		a.printError(fmt.Errorf("cancel the job: %w", err))
	} else {
		a.note("the job is cancelled; with --keep it stays and can be resumed")
	}
	return told(exitFailed)
}

// mostPlaces is how many files are told one by one.
const mostPlaces = 20

// printPlaces prints where the finished files of a job are.
func (a *app) printPlaces(info *bits.Job) {
	if info.Type != bits.Download {
		for _, f := range info.Files {
			a.printf("%s\n", a.place(uploadedTo(f)))
		}
		if r := info.Reply; r != nil {
			a.printf("%s\n", a.place(r.File))
		}
		return
	}
	var places []string
	for _, f := range info.Files {
		if f.Completed {
			places = append(places, f.Local)
		}
	}
	if len(places) > mostPlaces {
		a.printf("%d files in %s\n", len(places), a.place(commonDir(places)))
		return
	}
	for _, p := range places {
		a.printf("%s\n", a.place(p))
	}
}

// place is a path for the standard output: as it is for programs, harmless on a terminal.
func (a *app) place(path string) string {
	if a.outTerm.is {
		return safe(path)
	}
	return path
}

// commonDir is the deepest directory that holds all files.
func commonDir(places []string) string {
	dir := filepath.Dir(places[0])
	for _, p := range places[1:] {
		for dir != filepath.Dir(dir) && !strings.HasPrefix(p, dir+string(os.PathSeparator)) {
			dir = filepath.Dir(dir)
		}
	}
	return dir
}
