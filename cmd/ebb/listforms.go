package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/metalink"
)

// stays refuses a destination above the directory that the list is for: a list may come from
// elsewhere. That an absolute path is meant is plain to see, unless a directory was asked for: addList.
func (e entry) stays() error {
	if e.dest != "" && !filepath.IsAbs(e.dest) && !filepath.IsLocal(e.dest) {
		return usagef("line %d: the destination %q leaves the directory", e.line, e.dest)
	}
	return nil
}

// readMetalink reads a Metalink 4 document: each file goes below the directory under its own name.
func readMetalink(b []byte) ([]entry, error) {
	files, err := metalink.Parse(bytes.NewReader(b))
	if err != nil {
		return nil, usagef("%w", err)
	}
	var entries []entry
	for _, f := range files {
		entries = append(entries, entry{url: f.URLs[0], dest: filepath.FromSlash(f.Name), checksum: f.Checksum, mirrors: f.URLs[1:]})
	}
	return entries, nil
}

// isCSV reports whether a list has comma-separated values: by its name, or because its first line
// names the column Source, as the lists for Import-Csv and Start-BitsTransfer do.
func isCSV(name string, b []byte) bool {
	if strings.EqualFold(filepath.Ext(name), ".csv") {
		return true
	}
	b = bytes.TrimLeft(belowType(b), "\n")
	line, _, _ := strings.Cut(string(b[:min(len(b), 4096)]), "\n")
	if strings.Contains(line, "://") || strings.Contains(line, "\t") {
		return false
	}
	for column := range strings.SplitSeq(line, ",") {
		if strings.EqualFold(strings.Trim(strings.TrimSpace(column), `"`), "source") {
			return true
		}
	}
	return false
}

// readCSV reads comma-separated values with a first line that names the columns: Source, and if
// wanted Destination, Checksum and Mirrors (URLs that blanks separate). Others are left alone.
func readCSV(text []byte, k listKind) ([]entry, error) {
	c := csv.NewReader(bytes.NewReader(belowType(text)))
	c.FieldsPerRecord = -1
	c.TrimLeadingSpace = true
	head, err := c.Read()
	if err != nil {
		return nil, usagef("the list has no first line that names its columns: %w", err)
	}
	column := map[string]int{}
	for i, name := range head {
		column[strings.ToLower(strings.TrimSpace(name))] = i
	}
	if _, ok := column["source"]; !ok {
		return nil, usagef("line 1: no column is named Source; the others may be Destination, Checksum and Mirrors")
	}
	var entries []entry
	for {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, usagef("%w", err)
		}
		line, _ := c.FieldPos(0)
		get := func(name string) string {
			if i, ok := column[name]; ok && i < len(row) {
				return strings.TrimSpace(row[i])
			}
			return ""
		}
		e := entry{line: line, url: get("source"), dest: get("destination"), checksum: get("checksum"), mirrors: strings.Fields(get("mirrors"))}
		if e.url == "" && e.dest == "" {
			continue
		}
		if err := k.check(e.url); err != nil {
			return nil, within(fmt.Sprintf("line %d", line), err)
		}
		if len(entries) == bits.MaxFilesPerJob {
			return nil, usagef("line %d: a job has at most %d files", line, bits.MaxFilesPerJob)
		}
		if err := e.stays(); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
}
