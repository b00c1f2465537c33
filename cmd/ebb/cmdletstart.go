package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// bitsTransferName is the display name of a job that is given none.
const bitsTransferName = "BITS Transfer"

// start is Start-BitsTransfer: one job of the arguments, or one of each row of a CSV list on the
// standard input.
func (c *cmdletCall) start() error {
	spec, err := c.newJob()
	if err != nil {
		return err
	}
	credentials, err := c.credentials()
	if err != nil {
		return err
	}
	rows := [][2][]string{{c.arguments["Source"], c.arguments["Destination"]}}
	if !c.has("Source") {
		if rows, err = c.pipedRows(); err != nil {
			return err
		}
	}
	c.a.noteDynamic(&spec.Settings)
	return inTurn(c, rows, func(row [2][]string) (*bits.Job, error) {
		job := spec
		var err error
		if job.Files, err = startFiles(job.Type, row[0], row[1]); err != nil {
			return nil, err
		}
		if ok, err := c.goAhead(pairsText(job.Files)); err != nil || !ok {
			return nil, err
		}
		return c.startOne(job, credentials)
	})
}

// startOne makes a job and, unless it is to be left to the service, waits for it.
func (c *cmdletCall) startOne(spec bits.NewJob, credentials []bits.Credential) (*bits.Job, error) {
	ctx, stop := catchSignals(c.ctx)
	defer stop()
	// A signal must not leave a job behind that nobody knows of.
	whole := context.WithoutCancel(ctx)
	job, err := c.srv.Create(whole, spec)
	if err != nil {
		return nil, createFailed(err)
	}
	if err := c.prepare(whole, job, credentials); err != nil {
		_, undo := job.Cancel(whole)
		return nil, errors.Join(err, undo)
	}
	if !c.on("Suspended") {
		if err := job.Resume(whole); err != nil {
			return nil, err
		}
		if !c.on("Asynchronous") {
			return nil, c.wait(ctx, job)
		}
	}
	return job.Info(whole)
}

// newJob makes of the parameters what all jobs of the call share.
func (c *cmdletCall) newJob() (bits.NewJob, error) {
	s, err := c.settings()
	spec := bits.NewJob{Settings: s}
	if err != nil {
		return spec, err
	}
	if spec.Name == nil {
		name := bitsTransferName
		spec.Name = &name
	}
	if spec.Priority == nil {
		priority := bits.Foreground
		spec.Priority = &priority
	}
	switch c.text("TransferType") {
	case "Upload":
		spec.Type = bits.Upload
	case "UploadReply":
		spec.Type = bits.UploadReply
	}
	return spec, nil
}

// pipedRows reads a CSV list with the columns Source and Destination, as Import-Csv does.
func (c *cmdletCall) pipedRows() (rows [][2][]string, err error) {
	text, _, err := c.piped()
	if err != nil {
		return nil, err
	}
	text = belowType(text)
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, usagef("-Source is needed, or a CSV list with the columns Source and Destination on the standard input")
	}
	r := csv.NewReader(bytes.NewReader(text))
	r.TrimLeadingSpace = true
	header, err := r.Read()
	if err != nil {
		return nil, usagef("the CSV list: %w", err)
	}
	source, destination := -1, -1
	for i, name := range header {
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "source":
			source = i
		case "destination":
			destination = i
		}
	}
	if source < 0 {
		return nil, usagef("the CSV list has no column Source: its first line is %q", strings.Join(header, ","))
	}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, usagef("the CSV list: %w", err)
		}
		row := [2][]string{{fields[source]}}
		if destination >= 0 && fields[destination] != "" {
			row[1] = []string{fields[destination]}
		}
		rows = append(rows, row)
	}
}

// startFiles pairs sources and destinations by position. A source of this machine may have
// wildcards, and its destination is a directory then. Without a destination files go to the
// current directory; several sources may share one that is a directory.
func startFiles(t bits.Type, sources, destinations []string) ([]bits.FileSpec, error) {
	shared := len(destinations) == 1 && (len(sources) > 1 || hasWildcard(sources[0])) && (t != bits.Download || isDirectory(destinations[0]))
	if len(destinations) > 0 && !shared && len(destinations) != len(sources) {
		return nil, usagef("there are %d sources and %d destinations; each source needs one, or all share a directory", len(sources), len(destinations))
	}
	var files []bits.FileSpec
	for i, source := range sources {
		destination := ""
		if shared {
			destination = destinations[0]
		} else if i < len(destinations) {
			destination = destinations[i]
		}
		found, err := expand(t, source)
		if err != nil {
			return nil, err
		}
		if len(found) > 1 && t == bits.Download && destination != "" && !isDirectory(destination) {
			return nil, usagef("%q stands for %s, but %q is no directory", source, filesText(len(found)), destination)
		}
		for _, one := range found {
			f, err := startFile(t, one, destination)
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	if t != bits.Download && len(files) > 1 {
		return nil, hinted(usagef("an upload takes one file, not %d", len(files)), "start one upload for each file, or use `ebb put`")
	}
	return files, nil
}

// hasWildcard reports whether a source of this machine, or of a share, stands for several files.
func hasWildcard(source string) bool {
	if place, ok := fileSource(source); ok {
		return strings.ContainsAny(place.pattern, wildcards)
	}
	return !strings.Contains(source, "://") && strings.ContainsAny(source, wildcards)
}

func isDirectory(name string) bool {
	return name != "" && (os.IsPathSeparator(name[len(name)-1]) || isDir(name))
}

// expand returns the files that a source stands for: itself, or the files, not the directories, that fit its
// wildcards on this machine or on a share that is mounted here.
func expand(t bits.Type, source string) ([]string, error) {
	place, named := fileSource(source) // by a URL or as \\server\share
	pattern := source
	switch {
	case t != bits.Download && (named || strings.Contains(source, "://")):
		return nil, usagef("the source of an upload is a file, not %q", bits.RedactURL(source))
	case named && hasWildcard(source):
		name, fits, err := place.locate()
		if err != nil {
			return nil, hinted(errors.New(insteadOfResume(err.Error())), "mount the share, then start the transfer again")
		}
		if _, err := os.Stat(name); err == nil { // the file has such a name
			return []string{source}, nil
		}
		pattern = fits
	case named || strings.Contains(source, "://"):
		return []string{source}, nil
	}
	if _, err := localName(pattern); err != nil {
		return nil, err
	}
	found := []string{source}
	if hasWildcard(source) {
		var err error
		if found, err = filepath.Glob(pattern); err != nil {
			return nil, usagef("%q: %w", source, err)
		}
	}
	var files []string
	for _, name := range found {
		info, err := os.Stat(name)
		if err != nil {
			return nil, usagef("the source cannot be used: %w", err)
		}
		if !info.Mode().IsRegular() {
			continue
		}
		if named {
			name = place.url(name)
		}
		files = append(files, name)
	}
	if len(files) == 0 {
		return nil, usagef("%q is no file", source)
	}
	return files, nil
}

// startFile pairs one source with its destination.
func startFile(t bits.Type, source, destination string) (bits.FileSpec, error) {
	if t != bits.Download {
		if !isURL(destination) {
			return bits.FileSpec{}, usagef("the destination of an upload is a URL, not %q", bits.RedactURL(destination))
		}
		local, err := filepath.Abs(source)
		return bits.FileSpec{Remote: destination, Local: local}, err
	}
	name := fileName(source)
	if !strings.Contains(source, "://") && !strings.HasPrefix(source, `\\`) {
		abs, err := filepath.Abs(source)
		if err != nil {
			return bits.FileSpec{}, err
		}
		name = filepath.Base(abs)
		source = (&url.URL{Scheme: "file", Path: abs}).String()
	}
	local, err := localName(destination)
	if err != nil {
		return bits.FileSpec{}, err
	}
	if destination == "" || isDirectory(destination) {
		local = filepath.Join(local, name)
	}
	f := bits.FileSpec{Remote: source, Local: local}
	if e := f.Check(t); e != nil {
		return f, usagef("%s", e.Sentence())
	}
	return f, nil
}

// pairsText names files for -WhatIf.
func pairsText(files []bits.FileSpec) string {
	var pairs []string
	for _, f := range files {
		pairs = append(pairs, fmt.Sprintf("%s -> %s", bits.RedactURL(f.Remote), f.Local))
	}
	return strings.Join(pairs, ", ")
}

// add is Add-BitsFile.
func (c *cmdletCall) add() error {
	if !c.has("Source") {
		return usagef("-Source is needed")
	}
	return c.each(func(j *client.Job) error {
		info, err := j.Status(c.ctx)
		if err != nil {
			return err
		}
		files, err := startFiles(info.Type, c.arguments["Source"], c.arguments["Destination"])
		if err != nil {
			return err
		}
		return j.AddFiles(c.ctx, files...)
	})
}
