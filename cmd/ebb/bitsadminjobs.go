package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// adminJobs are the switches that make, move and list jobs.
var adminJobs = []adminSwitch{
	{"list", "[/ALLUSERS] [/VERBOSE]", 0, 2, "lists the jobs", "list jobs", (*bitsadmin).list},
	{"monitor", "[/ALLUSERS] [/REFRESH SECONDS]", 0, 3, "lists the jobs again and again until Ctrl+C", "monitor jobs", (*bitsadmin).monitor},
	{"reset", "[/ALLUSERS]", 0, 1, "cancels all jobs of the caller, or of all users", "reset jobs", (*bitsadmin).reset},
	{"transfer", "NAME [/DOWNLOAD | /UPLOAD | /UPLOAD-REPLY] [/PRIORITY P] [/ACLFLAGS F] [/DYNAMIC] REMOTE LOCAL [REMOTE LOCAL...]", 3, -1, "moves files in one job and waits for them", "transfer", (*bitsadmin).transfer},
	{"create", "[/DOWNLOAD | /UPLOAD | /UPLOAD-REPLY] NAME", 1, 2, "creates a job and prints its id", "create job", (*bitsadmin).create},
	{"info", "JOB [/VERBOSE]", 1, 2, "tells of a job", "get job info", (*bitsadmin).info},
	{"addfile", "JOB REMOTE LOCAL", 3, 3, "adds a file to a job", "add file to job", withJob((*bitsadmin).addFile)},
	{"addfileset", "JOB TEXTFILE", 2, 2, "adds files to a job, from lines REMOTE LOCAL", "add files to job", withJob((*bitsadmin).addFileSet)},
	{"addfilewithranges", "JOB REMOTE LOCAL OFFSET:LENGTH[,OFFSET:LENGTH...]", 4, 4, "adds parts of a file, back to back; the length EOF is all that follows", "add file to job", withJob((*bitsadmin).addFileWithRanges)},
	{"replaceremoteprefix", "JOB OLD NEW", 3, 3, "replaces the beginning of the files' URLs", "replace remote prefix", withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, args []string) error {
		outcome, err := job.ReplaceRemotePrefix(b.ctx, args[0], args[1])
		if err != nil {
			return err
		}
		if outcome.Code == bits.False.Name() {
			b.say("No file has a URL that begins with %s.\n", safeURL(args[0]))
		} else {
			b.say("Remote prefix %s replaced by %s.\n", safeURL(args[0]), safeURL(args[1]))
		}
		return nil
	})},
	{"listfiles", "JOB", 1, 1, "lists the files of a job", "list files", withJob((*bitsadmin).listFiles)},
	{"suspend", "JOB", 1, 1, "suspends a job", "suspend job", doing("Job suspended.", func(ctx context.Context, j *client.Job) (*bits.Outcome, error) { return done(j.Suspend(ctx)) })},
	{"resume", "JOB", 1, 1, "resumes a job", "resume job", doing("Job resumed.", func(ctx context.Context, j *client.Job) (*bits.Outcome, error) { return done(j.Resume(ctx)) })},
	{"cancel", "JOB", 1, 1, "cancels a job", "cancel job", doing("Job canceled.", func(ctx context.Context, j *client.Job) (*bits.Outcome, error) { return j.Cancel(ctx) })},
	{"complete", "JOB", 1, 1, "completes a job: its files come to their places", "complete job", doing("Job completed.", func(ctx context.Context, j *client.Job) (*bits.Outcome, error) { return j.Complete(ctx) })},
}

// doing is a switch that does one thing to a job.
func doing(text string, do func(context.Context, *client.Job) (*bits.Outcome, error)) func(*bitsadmin, []string) error {
	return withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, _ []string) error {
		outcome, err := do(b.ctx, job)
		if err != nil {
			return err
		}
		b.say("%s\n", text)
		if outcome.Code != bits.OK.Name() {
			b.say("%s (%s %s)\n", outcome.Message, outcome.Code, outcome.HResult)
		}
		return nil
	})
}

// options takes words such as /ALLUSERS from anywhere in the arguments.
func adminOptions(args []string, known ...string) (given map[string]bool, err error) {
	given = map[string]bool{}
	for _, arg := range args {
		name := adminName(arg)
		if !slices.Contains(known, name) {
			return nil, bits.Errorf(bits.InvalidArg, "%q is not an option here (want /%s)", arg, strings.Join(known, ", /"))
		}
		given[name] = true
	}
	return given, nil
}

func (b *bitsadmin) list(args []string) error {
	given, err := adminOptions(args, "allusers", "verbose")
	if err != nil {
		return err
	}
	return b.printList(given["allusers"], given["verbose"])
}

func (b *bitsadmin) printList(all, verbose bool) error {
	n := 0
	for j, err := range b.srv.List(b.ctx, client.ListOptions{AllUsers: all, Files: verbose}) {
		if err != nil {
			return err
		}
		n++
		if verbose {
			b.printInfo(&j)
		} else {
			b.a.printf("%s\n", adminLine(&j))
		}
	}
	if n > 0 {
		b.say("\n")
	}
	b.say("Listed %d job(s).\n", n)
	return nil
}

// adminLine is a job in a list: id, name, state, files and bytes, done and in all.
func adminLine(j *bits.Job) string {
	return fmt.Sprintf("%s %s %s %d / %d %s", braced(j.ID), safe(j.Name), j.State, j.Progress.FilesTransferred, j.Progress.FilesTotal, adminBytes(j.Progress.BytesTransferred, j.Progress.BytesTotal))
}

func adminBytes(moved int64, total bits.Size) string {
	return fmt.Sprintf("%d / %s", moved, adminSize(total))
}

func adminSize(n bits.Size) string {
	if n < 0 {
		return "UNKNOWN"
	}
	return strconv.FormatInt(int64(n), 10)
}

func (b *bitsadmin) monitor(args []string) error {
	every, all := 5*time.Second, false
	for i := 0; i < len(args); i++ {
		switch name := adminName(args[i]); {
		case name == "allusers":
			all = true
		case name == "refresh" && i+1 < len(args):
			i++
			n, err := strconv.Atoi(args[i])
			if err != nil || n < 1 {
				return bits.Errorf(bits.InvalidArg, "/refresh %s: want a number of seconds", args[i])
			}
			every = time.Duration(n) * time.Second
		default:
			return bits.Errorf(bits.InvalidArg, "%q is not an option here (want /allusers, /refresh SECONDS)", args[i])
		}
	}
	ctx, stop := catchSignals(b.ctx)
	defer stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if b.a.outTerm.is {
			b.a.printf("\x1b[H\x1b[2J")
		}
		b.say("MONITORING BACKGROUND COPY MANAGER (%d second refresh)\n", every/time.Second)
		if err := b.printList(all, false); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (b *bitsadmin) reset(args []string) error {
	given, err := adminOptions(args, "allusers")
	if err != nil {
		return err
	}
	var ids []bits.ID
	for j, err := range b.srv.List(b.ctx, client.ListOptions{AllUsers: given["allusers"]}) {
		if err != nil {
			return err
		}
		ids = append(ids, j.ID)
	}
	cancelled := 0
	worst := exitDone
	for _, id := range ids {
		_, err := b.srv.Job(id).Cancel(b.ctx)
		switch {
		case err == nil:
			cancelled++
			b.say("%s canceled.\n", braced(id))
		case errors.Is(err, &bits.Error{Code: bits.InvalidState}): // it ended in the meantime
		default:
			b.a.printError(fmt.Errorf("%s: %w", braced(id), err))
			worst = max(worst, exitCode(err))
		}
	}
	b.say("%d out of %d jobs canceled.\n", cancelled, len(ids))
	return told(worst)
}

// adminType reads a word such as /UPLOAD.
func adminType(arg string) (bits.Type, bool) {
	switch adminName(arg) {
	case "download":
		return bits.Download, true
	case "upload":
		return bits.Upload, true
	case "upload-reply":
		return bits.UploadReply, true
	}
	return bits.Download, false
}

func (b *bitsadmin) create(args []string) error {
	spec := bits.NewJob{}
	if len(args) == 2 {
		var ok bool
		if spec.Type, ok = adminType(args[0]); !ok {
			return bits.Errorf(bits.InvalidArg, "%q is not the type of a job (want /download, /upload or /upload-reply)", args[0])
		}
		args = args[1:]
	}
	spec.Name = &args[0]
	job, err := b.srv.Create(b.ctx, spec)
	if err != nil {
		return err
	}
	if b.raw {
		b.a.printf("%s", braced(job.ID))
	} else {
		b.a.printf("Created job %s.\n", braced(job.ID))
	}
	return nil
}

func (b *bitsadmin) info(args []string) error {
	given, err := adminOptions(args[1:], "verbose")
	if err != nil {
		return err
	}
	_, info, err := b.find(args[0])
	if err != nil {
		return err
	}
	if given["verbose"] {
		b.printInfo(info)
	} else {
		b.a.printf("%s\n", adminLine(info))
	}
	return nil
}

// adminFile is a file as bitsadmin names it: the local path may be relative to the directory in
// which the script runs.
func adminFile(remote, local string) (bits.FileSpec, error) {
	abs, err := localName(local)
	return bits.FileSpec{Remote: remote, Local: abs}, err
}

func (b *bitsadmin) addFile(job *client.Job, _ *bits.Job, args []string) error {
	f, err := adminFile(args[0], args[1])
	if err != nil {
		return err
	}
	return b.addFiles(job, f)
}

func (b *bitsadmin) addFileWithRanges(job *client.Job, _ *bits.Job, args []string) error {
	f, err := adminFile(args[0], args[1])
	if err != nil {
		return err
	}
	if f.Ranges, err = bits.ParseRanges(args[2]); err != nil {
		return bits.Errorf(bits.InvalidArg, "%s", err)
	}
	return b.addFiles(job, f)
}

// addFiles adds files and tells of each.
func (b *bitsadmin) addFiles(job *client.Job, files ...bits.FileSpec) error {
	if err := job.AddFiles(b.ctx, files...); err != nil {
		return err
	}
	for _, f := range files {
		b.say("Added %s -> %s to job.\n", safeURL(f.Remote), safe(f.Local))
	}
	return nil
}

func (b *bitsadmin) addFileSet(job *client.Job, _ *bits.Job, args []string) error {
	list, err := localName(args[0])
	if err != nil {
		return err
	}
	text, err := os.ReadFile(list)
	if err != nil {
		return bits.Errorf(bits.InvalidArg, "the list cannot be read: %s", err)
	}
	var files []bits.FileSpec
	n := 0
	for line := range strings.Lines(string(plainText(text))) {
		n++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		remote, local := line, ""
		if quoted, ok := strings.CutPrefix(line, `"`); ok {
			remote, local, _ = strings.Cut(quoted, `"`)
		} else if i := strings.IndexAny(line, " \t"); i > 0 {
			remote, local = line[:i], line[i:]
		}
		if local = strings.Trim(strings.TrimSpace(local), `"`); local == "" {
			return bits.Errorf(bits.InvalidArg, "%s: line %d: want REMOTE LOCAL", args[0], n)
		}
		f, err := adminFile(remote, local)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return bits.Errorf(bits.InvalidArg, "%s holds no files", args[0])
	}
	return b.addFiles(job, files...)
}

func (b *bitsadmin) listFiles(_ *client.Job, info *bits.Job, _ []string) error {
	for _, f := range info.Files {
		b.a.printf("%s\n", adminFileLine(info.State, f))
	}
	return nil
}

// adminFileLine is a file in a list: bytes done and in all, whether it is done, and its names.
func adminFileLine(s bits.State, f bits.File) string {
	state := "WORKING"
	if f.Completed || f.BytesTotal >= 0 && f.BytesTransferred == int64(f.BytesTotal) && (s == bits.Transferred || f.BytesTotal > 0) {
		state = "COMPLETED"
	}
	return fmt.Sprintf("%s %s %s -> %s", adminBytes(f.BytesTransferred, f.BytesTotal), state, safeURL(f.Remote), safe(f.Local))
}

// noteDynamic tells of a job that the service will not begin as it is.
func (a *app) noteDynamic(s *bits.Settings) {
	if s.DynamicContent != nil && *s.DynamicContent && s.Priority != nil && *s.Priority != bits.Foreground {
		a.note("dynamic content is fetched in the foreground only: the job waits until its priority is FOREGROUND")
	}
}

// transfer is a whole job: it is created, waited for, and completed or cancelled.
func (b *bitsadmin) transfer(args []string) error {
	spec := bits.NewJob{Resume: true, Settings: bits.Settings{Name: &args[0]}}
	var pairs []string
	for i := 1; i < len(args); i++ {
		name := adminName(args[i])
		if t, ok := adminType(args[i]); ok && len(pairs) == 0 {
			spec.Type = t
			continue
		}
		switch {
		case len(pairs) > 0: // a path may begin with '/'
		case name == "dynamic":
			spec.DynamicContent = new(true)
			continue
		case name == "priority" && i+1 < len(args):
			i++
			if err := spec.Set("priority", args[i]); err != nil {
				return bits.Errorf(bits.InvalidArg, "/priority: %s", err)
			}
			continue
		case name == "aclflags" && i+1 < len(args):
			i++
			flags, err := parseACL(args[i])
			if err != nil {
				return err
			}
			spec.ACLFlags = &flags
			continue
		}
		pairs = append(pairs, args[i])
	}
	if len(pairs) == 0 || len(pairs)%2 != 0 {
		b.a.printf("Invalid number of arguments.\n")
		return hinted(usagef("/transfer needs a local path for each URL"), "see `ebb bitsadmin /help`")
	}
	for i := 0; i < len(pairs); i += 2 {
		f, err := adminFile(pairs[i], pairs[i+1])
		if err != nil {
			return err
		}
		spec.Files = append(spec.Files, f)
	}
	if spec.DynamicContent != nil && spec.Priority == nil {
		// A job of dynamic content is begun in the foreground only: it would wait for ever.
		spec.Priority = new(bits.Foreground)
	}
	b.a.noteDynamic(&spec.Settings)
	ctx, stop := catchSignals(b.ctx)
	defer stop()
	job, err := b.srv.Create(context.WithoutCancel(ctx), spec)
	if err != nil {
		return err
	}
	show, err := b.a.originalDisplay()
	if err != nil {
		return err
	}
	following := b.a.follow(job, show)
	info, err := following.wait(b.srv.wait(ctx))
	if err == nil && info.State == bits.Transferred {
		last, cancel := outlive(ctx)
		defer cancel()
		info, err = following.finish(b.srv.wait(last))
	}
	show.end()
	if err != nil {
		if interrupted(ctx) {
			b.a.leave(ctx, job, false)
			return told(exitInterrupted)
		}
		return err
	}
	b.say("DISPLAY: '%s' TYPE: %s STATE: %s\nPRIORITY: %s FILES: %d / %d BYTES: %s\n", safe(info.Name), info.Type, info.State, info.Priority,
		info.Progress.FilesTransferred, info.Progress.FilesTotal, adminBytes(info.Progress.BytesTransferred, info.Progress.BytesTotal))
	switch info.State {
	case bits.Errored:
		info.Error.Message = insteadOfResume(info.Error.Message)
		b.printAdminError(info)
		if _, err := job.Cancel(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, &bits.Error{Code: bits.InvalidState}) {
			return err
		}
		b.a.printf("Unable to transfer: the job is canceled.\n")
		_, hint := jobError(info.Error)
		b.a.hint(insteadOfResume(hint))
		return told(exitFailed)
	case bits.Cancelled:
		b.a.printf("The job was canceled.\n")
		return told(exitFailed)
	}
	b.say("Transfer complete.\n")
	return nil
}
