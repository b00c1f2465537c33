package main

import (
	"bufio"
	"bytes"
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

// readList reads lines of the form "URL [TAB destination [TAB checksum]]". Blank lines and
// lines that begin with '#' are skipped; lines may end in CR LF.
func readList(r io.Reader) ([]entry, error) {
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
		switch {
		case len(fields) > 3:
			return nil, usagef("line %d: there are %d fields; want URL, destination and checksum, separated by one TAB each", n, len(fields))
		case !isSource(fields[0]):
			return nil, usagef("line %d: %q is not an http, https, file or smb URL", n, bits.RedactURL(fields[0]))
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

// addList plans the files of a list; name "-" is the standard input.
func (p *planner) addList(name string, stdin io.Reader) error {
	var b []byte
	var err error
	if name == "-" {
		name = "standard input"
		b, err = io.ReadAll(stdin)
	} else {
		b, err = os.ReadFile(name)
	}
	if err != nil {
		return usagef("the list cannot be read: %w", err)
	}
	var entries []entry
	switch {
	case metalink.Is(b):
		entries, err = readMetalink(b)
	case isCSV(name, b):
		entries, err = readCSV(bytes.NewReader(b))
	default:
		entries, err = readList(bytes.NewReader(b))
	}
	if err != nil {
		return within(name, err)
	}
	for _, e := range entries {
		if p.given && filepath.IsAbs(e.dest) {
			return usagef("%s: line %d: the destination %q is absolute, but the list's files are to go below %q", name, e.line, e.dest, p.base)
		}
		if err := p.add(e.url, e.dest, e.checksum, e.mirrors...); err != nil {
			return within(fmt.Sprintf("%s: line %d", name, e.line), err)
		}
	}
	if len(entries) == 0 {
		return usagef("%s: the list holds no URL", name)
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
