package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// putOptions are the flags of put.
type putOptions struct {
	jobOptions
	protocol string
	reply    string
	list     string
}

// toOutput is the argument that means the standard output.
const toOutput = "-"

func newPutCmd(a *app) *cobra.Command {
	var o putOptions
	cmd := &cobra.Command{
		Use:   "put FILE... URL | put -i LIST [URL]",
		Short: "Upload files and wait for them",
		Long: `Upload one or more files through the service, wait for them with a progress bar, and
print where they are.

A URL that ends in '/' is a directory, and so is any URL for several files: each file
goes there under its own name. Each file is a job of its own. A file must stay as it is
until it is uploaded: if it changes, its job fails.

A FILE may be a directory: then all files below it are uploaded, to the same places below
URL. The directory keeps its name there unless it ends in '/'. It may have the wildcards
'*', '?' and '[...]' too, for where no shell expands them. Symbolic links to directories are
not followed, and devices and the like are left out. Directories are not made on the server:
most servers want them to be there.

A list for -i ('-' is the standard input) has a FILE in each line and, separated by a TAB,
where it goes, if that is not URL: a URL, or a place below URL. Or it is CSV, with a first
line that names the columns Source and Destination. Files are below the current directory or
absolute.

The upload survives a broken connection, a restart of the service and of the machine,
and goes on where the server has it; with the protocol put, which knows no resuming, it
starts again. Ctrl+C cancels it, and so does an error that no attempt helps against; the
server is told to forget what it has. With --keep the first Ctrl+C leaves the job in the
queue, where it is finished by itself, and a job that failed stays too; the end of the
session (SIGTERM, or a terminal that goes away) leaves it as --keep does. After kill -9
the job goes on as well, but stays TRANSFERRED until ` + "`ebb complete`" + ` ends it.

Protocols: bits (BITS servers, such as IIS and ebb serve), tus (tus 1.0), ietf (the draft
of the IETF for resumable uploads), s3 (S3 multipart), put (a plain PUT), and auto, which
asks the server what it speaks. For s3://BUCKET/KEY the endpoint, the region and the
credentials are those of the service's environment, as for other S3 tools. A reply, which
the server's application gives to a file, comes with the protocol bits only.

The URL may also be file:///PATH, or smb://SERVER/SHARE/PATH for a share that is mounted
here. Files are written there with the rights of the job's owner, get their names when they
are whole, and replace what has them.`,
		Example: `  ebb put image.iso https://example.org/upload/image.iso
  ebb put *.log https://example.org/logs/
  ebb put reports/ https://example.org/reports/
  ebb put -i list.csv https://example.org/upload/
  ebb put --background=low --detach image.iso https://example.org/upload/
  ebb put --reply answer.xml order.xml https://example.org/orders/7.xml
  ebb put image.iso smb://nas/backup/image.iso
  ebb put --header-from ~/.config/ebb-token --protocol tus a.bin https://example.org/files/`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.put(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.list, "input", "i", "", "read files from the list `FILE`")
	protocolFlag(cmd, &o.protocol, bits.ProtocolAuto, "`how` to upload: auto, bits, tus, ietf, s3 or put; file for what its URL says is one")
	f.StringVar(&o.reply, "reply", "", "write what the server's application answers to `FILE`, or with '-' to the standard output")
	o.flags(cmd)
	return cmd
}

// protocolFlag adds --protocol to a verb that makes an upload.
func protocolFlag(cmd *cobra.Command, v *string, otherwise bits.Protocol, usage string) {
	cmd.Flags().StringVar(v, "protocol", string(otherwise), usage)
	var names []string
	for _, p := range bits.Protocols {
		names = append(names, string(p))
	}
	complete(cmd, "protocol", names...)
}

// upload is a file that put uploads.
type upload struct {
	spec bits.NewJob
	job  *client.Job
	info *bits.Job
	err  error
}

func (a *app) put(ctx context.Context, o putOptions, args []string) error {
	if err := a.readHeaders(&o.jobOptions, o.list); err != nil {
		return err
	}
	uploads, err := a.planPut(o, args)
	if err != nil {
		return err
	}
	if o.dryRun {
		var files []bits.FileSpec
		for _, u := range uploads {
			files = append(files, u.spec.Files...)
		}
		return a.printPlan(files)
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
	began := time.Now()
	for i := range uploads {
		u := &uploads[i]
		// A signal must not leave a job behind that nobody knows of.
		if u.job, err = srv.Create(context.WithoutCancel(ctx), u.spec); err != nil {
			for _, made := range uploads[:i] {
				_, cerr := made.job.Cancel(context.WithoutCancel(ctx))
				a.printError(cerr)
			}
			return createFailed(err)
		}
	}
	if o.detach {
		return a.printNewUploads(ctx, uploads)
	}

	waiting := srv.wait(ctx)
	var wg sync.WaitGroup
	turns := make(chan struct{}, mostWaitedFor)
	for i := range uploads {
		wg.Go(func() {
			turns <- struct{}{}
			uploads[i].finish(ctx, a, srv, waiting, show)
			<-turns
		})
	}
	wg.Wait()
	show.end()
	took := time.Since(began)
	code := exitDone
	for i := range uploads {
		code = max(code, a.tellUpload(ctx, o, &uploads[i]))
	}
	if a.json {
		if err := a.printUploads(ctx, uploads); err != nil {
			return err
		}
	}
	if code == exitDone {
		show.say(sentText(uploads, took))
	}
	return told(code)
}

// mostWaitedFor is how many uploads are followed at once: each takes a connection to the service,
// which runs no more at a time anyway.
const mostWaitedFor = 64

// finish waits for an upload and completes it.
func (u *upload) finish(ctx context.Context, a *app, srv *service, waiting context.Context, show display) {
	following := a.follow(u.job, show)
	if u.info, u.err = following.wait(waiting); u.err != nil || u.info.State != bits.Transferred {
		return
	}
	last, cancel := outlive(ctx)
	defer cancel()
	if u.info, u.err = following.finish(srv.wait(last)); u.err != nil {
		u.err = hinted(&exitError{code: exitFailed, err: u.err}, "the job is kept: `ebb complete %[1]s` tries again, `ebb cancel %[1]s` ends it", shortID(u.job.ID))
	}
}

// tellUpload tells how an upload ended and returns the exit code for it.
func (a *app) tellUpload(ctx context.Context, o putOptions, u *upload) int {
	switch {
	case u.err != nil && interrupted(ctx):
		a.leave(ctx, u.job, o.keep || errors.Is(context.Cause(ctx), errHungUp))
		return exitInterrupted
	case u.err != nil:
		a.printError(u.err)
		return exitCode(u.err)
	case u.info.State == bits.Errored:
		return exitCode(a.failed(ctx, u.job, u.info, o.keep))
	case u.info.State == bits.Cancelled:
		a.printError(errors.New("the job was cancelled"))
		return exitFailed
	}
	if o.reply == toOutput {
		if err := a.printReply(u.info); err != nil {
			a.printError(err)
			return exitFailed
		}
		return exitDone
	}
	if !a.json {
		a.printPlaces(u.info)
	}
	return exitDone
}

// printReply prints a reply for which no file was asked for, and removes the one it was in.
func (a *app) printReply(info *bits.Job) error {
	f, err := os.Open(info.Reply.File)
	if err != nil {
		return fmt.Errorf("the reply: %w", err)
	}
	defer func() { _ = f.Close() }()
	if _, err := io.Copy(a.out, f); err != nil {
		return fmt.Errorf("print the reply %s: %w", info.Reply.File, err)
	}
	return os.Remove(info.Reply.File)
}

// uploadedTo is the URL of an uploaded file.
func uploadedTo(f bits.File) string {
	u, err := url.Parse(f.Remote)
	if err != nil {
		return bits.RedactURL(f.Remote)
	}
	return bits.RedactURL(inDirectory(u, f.Local).String()) // an older service tells the directory
}

// inDirectory adds a file's name to a URL that ends in '/'.
func inDirectory(u *url.URL, local string) *url.URL {
	if u.Path != "" && !strings.HasSuffix(u.Path, "/") {
		return u
	}
	return u.JoinPath(url.PathEscape(filepath.Base(local)))
}

// sentText sums up uploads that went well.
func sentText(uploads []upload, took time.Duration) string {
	var n int64
	by := ""
	for i, u := range uploads {
		n += u.info.Progress.BytesTransferred
		p := string(u.info.Files[0].Protocol)
		if i > 0 && p != by {
			p = "several protocols"
		}
		by = p
	}
	text := fmt.Sprintf("%s sent in %s (%s)", size(n), seconds(took), rate(int64(float64(n)/took.Seconds())))
	if by != "" {
		text += ", protocol " + by
	}
	return text
}

// printNewUploads prints the ids of jobs, or the whole jobs for programs.
func (a *app) printNewUploads(ctx context.Context, uploads []upload) error {
	if a.json {
		return a.printUploads(ctx, uploads)
	}
	for _, u := range uploads {
		a.printf("%s\n", u.job.ID)
	}
	return nil
}

// printUploads prints jobs for programs, as they are now but with the error that ended them.
func (a *app) printUploads(ctx context.Context, uploads []upload) error {
	jobs := []jobJSON{}
	for _, u := range uploads {
		info, err := u.job.Info(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		if u.info != nil && info.Error == nil {
			info.Error = u.info.Error // a job that failed is cancelled by now
		}
		jobs = append(jobs, asJSON(info))
	}
	return a.printJSON(jobs)
}

// sending is a file that is to be uploaded, and where to: a URL that ends in '/' is a directory.
type sending struct {
	local, name string // name is where it goes below a directory
	to          *url.URL
}

// planPut reads the arguments of put.
func (a *app) planPut(o putOptions, args []string) ([]upload, error) {
	var dir *url.URL
	if n := len(args); n > 0 && (strings.Contains(args[n-1], "://") || isTarget(args[n-1])) {
		var err error
		if dir, err = parseTarget(args[n-1]); err != nil {
			return nil, err
		}
		args = args[:n-1]
	}
	if o.list == "" && (dir == nil || len(args) == 0) {
		return nil, hinted(usagef("put needs a file, or several, and a URL at the end"), "`ebb put image.iso https://example.org/upload/`; see `ebb put --help`")
	}
	if o.list != "" && len(args) > 0 && dir == nil {
		return nil, hinted(usagef("with -i, put takes a URL at the end, but %q is none", args[len(args)-1]), "see `ebb put --help`")
	}
	protocol, err := bits.ParseProtocol(o.protocol)
	if err != nil {
		return nil, usagef("--protocol: %w", err)
	}
	files, err := a.planFiles(o, args, dir)
	if err != nil {
		return nil, err
	}
	return a.planUploads(o, protocol, files)
}

// parseTarget reads the URL that files are uploaded to.
func parseTarget(raw string) (*url.URL, error) {
	if !isTarget(raw) {
		return nil, usagef("%q is not an http, https, s3, file or smb URL", bits.RedactURL(raw))
	}
	if share, ok := strings.CutPrefix(raw, `\\`); ok { // as Windows names it
		raw = "smb:/" + (&url.URL{Path: "/" + strings.ReplaceAll(share, `\`, "/")}).EscapedPath()
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, usagef("%q is not a URL", bits.RedactURL(raw))
	}
	return u, nil
}

// planFiles finds the files to upload, and where each goes; dir is nil if only a list says so.
func (a *app) planFiles(o putOptions, args []string, dir *url.URL) ([]sending, error) {
	var f finder
	various := len(args) > 1 || o.list != ""
	for _, arg := range args {
		many, err := findUpload(&f, arg)
		if err != nil {
			return nil, err
		}
		various = various || many
	}
	if various && dir != nil {
		dir = asDirectory(dir)
	}
	var out []sending
	for _, file := range f.files {
		out = append(out, sending{file.path, file.rel, dir})
	}
	if o.list != "" {
		listed, err := a.listedFiles(&f, o.list, dir)
		if err != nil {
			return nil, err
		}
		out = append(out, listed...)
	}
	a.tellOthers(f.others)
	return out, nil
}

// asDirectory makes a URL end in '/'.
func asDirectory(u *url.URL) *url.URL {
	if strings.HasSuffix(u.Path, "/") {
		return u
	}
	return u.JoinPath("/")
}

// listedFiles reads a list of files to upload.
func (a *app) listedFiles(f *finder, name string, dir *url.URL) ([]sending, error) {
	entries, name, err := readEntries(name, a.in, listOfFiles)
	if err != nil {
		return nil, err
	}
	var out []sending
	for _, e := range entries {
		f.files = nil
		many, err := findUpload(f, e.url)
		if err == nil {
			var to *url.URL
			if to, err = e.target(dir); err == nil {
				if many {
					to = asDirectory(to)
				}
				for _, file := range f.files {
					out = append(out, sending{file.path, file.rel, to})
				}
				continue
			}
		}
		return nil, within(fmt.Sprintf("%s: line %d", name, e.line), err)
	}
	return out, nil
}

// target returns where the file of a list's line goes: to a URL of its own, or to a place below dir.
func (e entry) target(dir *url.URL) (*url.URL, error) {
	switch {
	case strings.Contains(e.dest, "://") || isTarget(e.dest):
		return parseTarget(e.dest)
	case dir == nil:
		return nil, hinted(usagef("nothing says where %q goes", e.url), "give the list a column with URLs, or the call a URL at the end")
	case filepath.IsAbs(e.dest):
		return nil, usagef("the destination %q is neither a URL nor a place below one", e.dest)
	case e.dest == "":
		return dir, nil
	}
	return below(dir, filepath.ToSlash(e.dest)), nil
}

// below adds a path to a URL.
func below(u *url.URL, name string) *url.URL {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return u.JoinPath(strings.Join(parts, "/"))
}

// planUploads makes a job of each file.
func (a *app) planUploads(o putOptions, protocol bits.Protocol, files []sending) ([]upload, error) {
	taken := map[string]string{}
	var uploads []upload
	for _, f := range files {
		remote := f.to
		if sub := path.Dir(f.name); sub != "." && (remote.Path == "" || strings.HasSuffix(remote.Path, "/")) {
			remote = below(remote, sub+"/")
		}
		whole := inDirectory(remote, f.local)
		if other := taken[whole.String()]; other != "" {
			return nil, hinted(usagef("%q and %q would both become %q", other, f.local, bits.RedactURL(whole.String())), "upload one of them in a call of its own")
		}
		taken[whole.String()] = f.local
		u := upload{spec: bits.NewJob{Type: bits.Upload, Resume: true}}
		if o.reply != "" {
			u.spec.Type = bits.UploadReply
		}
		if protocol == bits.ProtocolBITS || o.reply != "" || fileScheme(remote.Scheme) {
			remote = whole
		}
		spec := bits.FileSpec{Remote: remote.String(), Local: f.local}
		if e := spec.Check(u.spec.Type); e != nil {
			return nil, usagef("%s", e.Sentence())
		}
		u.spec.Files = []bits.FileSpec{spec}
		more := []setting{{"--protocol", "protocol", string(protocol)}}
		if o.reply != "" {
			path, err := a.checkReply(o, len(files))
			if err != nil {
				return nil, err
			}
			more = append(more, setting{"--reply", "reply_file", path})
		}
		var err error
		if u.spec.Settings, err = o.settings(cutRunes(filepath.Base(f.local), bits.MaxNameLen), more...); err != nil {
			return nil, err
		}
		uploads = append(uploads, u)
	}
	return uploads, nil
}

// isTarget reports whether an argument is meant as something to upload to: a URL, or a Windows network
// path. No other path is: it may as well be a file to upload before a URL that was forgotten.
func isTarget(s string) bool {
	return isSource(s) || strings.HasPrefix(strings.ToLower(s), "s3://")
}

// findUpload finds the files that an argument of put stands for; many says that it is not just one.
func findUpload(f *finder, file string) (many bool, err error) {
	switch {
	case file == toOutput:
		return false, hinted(usagef("ebb cannot upload the standard input: the service reads the file, perhaps again and again"), "write it to a file first")
	case isTarget(file):
		return false, hinted(usagef("put takes files and one URL, which is the last argument"), "quote a name that holds spaces")
	}
	if err := checkText("file name", file); err != nil {
		return false, err
	}
	return f.find(file)
}

// checkReply returns the reply file's path, which is empty if the service may choose one.
func (a *app) checkReply(o putOptions, files int) (string, error) {
	switch {
	case files > 1:
		return "", usagef("--reply is for one file")
	case o.reply != toOutput:
		return filepath.Abs(o.reply)
	case o.detach:
		return "", hinted(usagef("--reply - does not go with --detach"), "name a file for the reply")
	case a.json:
		return "", hinted(usagef("--reply - does not go with --json"), "name a file for the reply")
	}
	return "", nil
}
