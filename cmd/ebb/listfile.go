package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/metalink"
)

// An entry is one line of a list for -i.
type entry struct {
	line                int
	url, dest, checksum string
	mirrors             []string
}

// maxListLine bounds a line of a list: a URL, a path and a digest of the longest kind.
const maxListLine = bits.MaxURLLen + 4096 + 256

// listKind says what a list has as its sources.
type listKind int

const (
	listOfURLs  listKind = iota // URLs, and files of this machine as URLs
	listOfFiles                 // of this machine
)

// check says whether a source is of the kind.
func (k listKind) check(source string) error {
	switch {
	case k == listOfFiles && (source == "" || strings.Contains(source, "://")):
		return usagef("%q is no file to upload", bits.RedactURL(source))
	case k == listOfURLs && !isSource(source):
		return usagef("%q is not an http, https, file or smb URL", bits.RedactURL(source))
	}
	return nil
}

// readList reads lines of the form "SOURCE [TAB destination [TAB checksum]]". Blank lines and
// lines that begin with '#' are skipped; lines may end in CR LF.
func readList(r io.Reader, k listKind) ([]entry, error) {
	var entries []entry
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 4096), maxListLine)
	n := 0
	for sc.Scan() {
		n++
		line := sc.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
			continue
		}
		fields := strings.Split(line, "\t")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if err := k.check(fields[0]); err != nil {
			return nil, within(fmt.Sprintf("line %d", n), err)
		}
		switch {
		case k == listOfFiles && len(fields) > 2:
			return nil, usagef("line %d: there are %d fields; want file and destination, separated by one TAB", n, len(fields))
		case len(fields) > 3:
			return nil, usagef("line %d: there are %d fields; want URL, destination and checksum, separated by one TAB each", n, len(fields))
		case len(entries) == bits.MaxFilesPerJob:
			return nil, usagef("line %d: a job has at most %d files", n, bits.MaxFilesPerJob)
		}
		fields = append(fields, "", "")
		e := entry{line: n, url: fields[0], dest: fields[1], checksum: fields[2]}
		if err := e.stays(); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	if err := sc.Err(); err == bufio.ErrTooLong {
		return nil, usagef("line %d: the line is longer than %d bytes", n+1, maxListLine)
	} else if err != nil {
		return nil, err
	}
	return entries, nil
}

// readEntries reads a list and returns how it is called; name "-" is the standard input.
func readEntries(name string, stdin io.Reader, k listKind) (entries []entry, as string, err error) {
	var b []byte
	switch {
	case isURL(name) && k == listOfFiles:
		return nil, name, usagef("a list of files to upload is a file itself, not %s", bits.RedactURL(name))
	case isURL(name): // withList has fetched it
		b, err = io.ReadAll(stdin)
		name = bits.RedactURL(name)
		if err == nil && !metalink.Is(b) {
			return nil, name, hinted(usagef("%s is no Metalink 4 document (RFC 5854)", name), "other lists have to be files: `ebb get` fetches them")
		}
	case name == "-":
		name = "standard input"
		b, err = io.ReadAll(stdin)
	default:
		b, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, name, usagef("the list cannot be read: %w", err)
	}
	switch {
	case k == listOfURLs && metalink.Is(b):
		entries, err = readMetalink(b)
	case isCSV(name, plainText(b)):
		entries, err = readCSV(plainText(b), k)
	default:
		entries, err = readList(bytes.NewReader(plainText(b)), k)
	}
	switch {
	case err != nil:
		return nil, name, within(name, err)
	case len(entries) == 0 && k == listOfFiles:
		return nil, name, usagef("%s: the list holds no file", name)
	case len(entries) == 0:
		return nil, name, usagef("%s: the list holds no URL", name)
	}
	return entries, name, nil
}

// withList returns the app with the document at a list's URL as its input; for other lists it is the
// app itself. The service fetches it, so that proxies, headers and the like are those of all transfers.
func (a *app) withList(ctx context.Context, list string, o jobOptions) (*app, error) {
	if !isURL(list) {
		return a, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(cache, "ebb-list-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	o.background, o.detach, o.name = "", false, ""
	settings, err := o.settings("list of files", setting{"", "maximum_download_size", fmt.Sprint(metalink.MaxSize)})
	if err != nil {
		return nil, err
	}
	file := bits.FileSpec{Remote: list, Local: filepath.Join(dir, "list")}
	if e := file.Check(bits.Download); e != nil {
		return nil, usagef("%s", e.Sentence())
	}
	show, err := a.newDisplay("none")
	if err != nil {
		return nil, err
	}
	srv := a.connect()
	defer srv.Close()
	ctx, stop := catchSignals(ctx)
	defer stop()
	job, err := srv.Create(context.WithoutCancel(ctx), bits.NewJob{Settings: settings, Files: []bits.FileSpec{file}, Resume: true})
	if err != nil {
		return nil, createFailed(err)
	}
	following := a.follow(job, show)
	info, err := following.wait(srv.wait(ctx))
	if err == nil && info.State == bits.Errored {
		return nil, a.failed(ctx, job, info, false)
	}
	if err == nil {
		_, err = following.finish(srv.wait(ctx))
	}
	if err != nil {
		_, cerr := job.Cancel(context.WithoutCancel(ctx))
		if interrupted(ctx) {
			return nil, told(exitInterrupted)
		}
		return nil, errors.Join(err, cerr)
	}
	text, err := os.ReadFile(file.Local)
	if err != nil {
		return nil, err
	}
	with := *a
	with.in = bytes.NewReader(text)
	return &with, nil
}

// addList plans the files of a list; name "-" is the standard input.
func (p *planner) addList(name string, stdin io.Reader) error {
	if isURL(name) {
		p.namedBy = name
		defer func() { p.namedBy = "" }()
	}
	entries, name, err := readEntries(name, stdin, listOfURLs)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if p.given && filepath.IsAbs(e.dest) {
			return usagef("%s: line %d: the destination %q is absolute, but the list's files are to go below %q", name, e.line, e.dest, p.base)
		}
		add := func() error { return p.add(e.url, e.dest, e.checksum, e.mirrors...) }
		if e.checksum == "" && len(e.mirrors) == 0 {
			add = func() error { return p.addSource(e.url, e.dest) }
		}
		if err := add(); err != nil {
			return within(fmt.Sprintf("%s: line %d", name, e.line), err)
		}
	}
	return nil
}

// within says where an error was found, and keeps its exit code and hint.
func within(where string, err error) error {
	e, ok := err.(*exitError)
	if !ok {
		return fmt.Errorf("%s: %w", where, err)
	}
	return &exitError{code: e.code, err: fmt.Errorf("%s: %w", where, e.err), hint: e.hint}
}
