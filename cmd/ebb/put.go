package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
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
}

// toOutput is the argument that means the standard output.
const toOutput = "-"

func newPutCmd(a *app) *cobra.Command {
	var o putOptions
	cmd := &cobra.Command{
		Use:   "put FILE... URL",
		Short: "Upload files and wait for them",
		Long: `Upload one or more files through the service, wait for them with a progress bar, and
print where they are.

A URL that ends in '/' is a directory, and so is any URL for several files: each file
goes there under its own name. Each file is a job of its own. A file must stay as it is
until it is uploaded: if it changes, its job fails.

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
the server's application gives to a file, comes with the protocol bits only.`,
		Example: `  ebb put image.iso https://example.org/upload/image.iso
  ebb put *.log https://example.org/logs/
  ebb put --background=low --detach image.iso https://example.org/upload/
  ebb put --reply answer.xml order.xml https://example.org/orders/7.xml
  ebb put --header 'Authorization: Bearer 1234' --protocol tus a.bin https://example.org/files/`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.put(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	protocolFlag(cmd, &o.protocol, bits.ProtocolAuto, "`how` to upload: auto, bits, tus, ietf, s3 or put")
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
	for i := range uploads {
		wg.Go(func() { uploads[i].finish(ctx, a, srv, waiting, show) })
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

// finish waits for an upload and completes it.
func (u *upload) finish(ctx context.Context, a *app, srv *service, waiting context.Context, show display) {
	if u.info, u.err = a.follow(waiting, u.job, show); u.err != nil || u.info.State != bits.Transferred {
		return
	}
	last, cancel := outlive(ctx)
	defer cancel()
	if u.info, u.err = finish(srv.wait(last), u.job); u.err != nil {
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

// planPut reads the arguments of put.
func (a *app) planPut(o putOptions, args []string) ([]upload, error) {
	n := len(args)
	if n > 0 && strings.Contains(args[n-1], "://") && !isTarget(args[n-1]) {
		return nil, usagef("%q is not an http, https or s3 URL", bits.RedactURL(args[n-1]))
	}
	if n < 2 || !isTarget(args[n-1]) {
		return nil, hinted(usagef("put needs a file, or several, and a URL at the end"), "`ebb put image.iso https://example.org/upload/`; see `ebb put --help`")
	}
	files, raw := args[:n-1], args[n-1]
	dir, err := url.Parse(raw)
	if err != nil {
		return nil, usagef("%q is not a URL", bits.RedactURL(raw))
	}
	protocol, err := bits.ParseProtocol(o.protocol)
	if err != nil {
		return nil, usagef("--protocol: %w", err)
	}
	if len(files) > 1 && !strings.HasSuffix(dir.Path, "/") {
		dir = dir.JoinPath("/")
	}
	names := map[string]string{}
	var uploads []upload
	for _, file := range files {
		local, err := checkUpload(file)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(local)
		if other, taken := names[name]; taken {
			return nil, hinted(usagef("%q and %q would both become %q", other, file, name), "upload one of them in a call of its own")
		}
		names[name] = file
		u := upload{spec: bits.NewJob{Type: bits.Upload, Resume: true}}
		if o.reply != "" {
			u.spec.Type = bits.UploadReply
		}
		remote := dir
		if protocol == bits.ProtocolBITS || o.reply != "" {
			remote = inDirectory(dir, local)
		}
		spec := bits.FileSpec{Remote: remote.String(), Local: local}
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
		if u.spec.Settings, err = o.settings(cutRunes(name, bits.MaxNameLen), more...); err != nil {
			return nil, err
		}
		uploads = append(uploads, u)
	}
	return uploads, nil
}

// isTarget reports whether an argument is meant as a URL to upload to.
func isTarget(s string) bool { return isURL(s) || strings.HasPrefix(strings.ToLower(s), "s3://") }

// checkUpload says whether a file can be uploaded, and returns its absolute path.
func checkUpload(file string) (string, error) {
	switch {
	case file == toOutput:
		return "", hinted(usagef("ebb cannot upload the standard input: the service reads the file, perhaps again and again"), "write it to a file first")
	case isTarget(file):
		return "", hinted(usagef("put takes files and one URL, which is the last argument"), "quote a name that holds spaces")
	}
	if err := checkText("file name", file); err != nil {
		return "", err
	}
	local, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	switch info, err := os.Stat(local); {
	case err != nil:
		return "", usagef("%w", err)
	case info.IsDir():
		return "", hinted(usagef("%q is a directory", file), "name the files in it: `ebb put %s URL`", filepath.Join(shellQuote(file), "*"))
	case !info.Mode().IsRegular():
		return "", usagef("%q is not a regular file", file)
	}
	return local, nil
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
