//go:build unix

package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

// handleFiles adds what is asked of single files. What was asked for comes at once.
func (f *fake) handleFiles(mux *http.ServeMux) {
	details := map[string]*bits.FileDetail{} // by path; guarded by mu, which withJob holds
	one := func(do func(r *http.Request, j *bits.Job, d *bits.FileDetail) *bits.Error) http.HandlerFunc {
		return f.withJob(func(w http.ResponseWriter, r *http.Request, j *bits.Job) *bits.Error {
			i, err := strconv.Atoi(r.PathValue("index"))
			if err != nil || i >= len(j.Files) {
				return bits.Errorf(bits.FileNotFound, "there is no such file")
			}
			key := j.ID.String() + "/" + r.PathValue("index")
			d := details[key]
			if d == nil {
				d = &bits.FileDetail{Filled: []bits.Range{}, ResponseHeaders: "Content-Type: text/plain\r\nServer: fa\x1bke\r\n"}
				details[key] = d
			}
			d.File = j.Files[i]
			d.Temporary = "/part"
			if e := do(r, j, d); e != nil {
				return e
			}
			j.Files[i].Validated = d.Validated
			if r.Method == "GET" {
				reply(w, d)
			} else {
				reply(w, bits.Summary{ID: j.ID, Name: j.Name, State: j.State})
			}
			return nil
		})
	}
	read := func(r *http.Request, v any) *bits.Error {
		if err := json.NewDecoder(r.Body).Decode(v); err != nil {
			return bits.Errorf(bits.InvalidArg, "%v", err)
		}
		return nil
	}
	const path = "/v1/jobs/{ref}/files/{index}"
	mux.HandleFunc("GET "+path, one(func(*http.Request, *bits.Job, *bits.FileDetail) *bits.Error { return nil }))
	mux.HandleFunc("POST "+path+"/ranges", one(func(r *http.Request, j *bits.Job, d *bits.FileDetail) *bits.Error {
		var ranges []bits.Range
		e := read(r, &ranges)
		for _, r := range ranges {
			if r.Length == bits.ToEOF {
				d.Wanted = append(d.Wanted, r)
			} else {
				d.Filled = append(d.Filled, r)
			}
		}
		f.emit(j, bits.EventRanges)
		last := &f.events[len(f.events)-1]
		last.File, last.Ranges = &d.File, ranges
		return e
	}))
	mux.HandleFunc("PUT "+path+"/position", one(func(r *http.Request, _ *bits.Job, d *bits.FileDetail) *bits.Error {
		in := struct{ Offset int64 }{}
		e := read(r, &in)
		d.Position = in.Offset
		return e
	}))
	mux.HandleFunc("PUT "+path+"/validated", one(func(r *http.Request, _ *bits.Job, d *bits.FileDetail) *bits.Error {
		in := struct{ Validated bool }{}
		e := read(r, &in)
		d.Validated = in.Validated
		return e
	}))
}

func TestPartsOfFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	f := newFake()
	socket := startFake(t, f)
	do := func(args ...string) outcome { t.Helper(); return ebb(t, socket, args...) }
	do("create", "game").want(t, 0, "", "")
	do("add", "game", "https://h/a", "a", "--range", "0:10,20:5", "--range", "4096:eof").want(t, 0, "added 1 file", "")
	want := []bits.Range{{Offset: 0, Length: 10}, {Offset: 20, Length: 5}, {Offset: 4096, Length: bits.ToEOF}}
	if got := f.job(t).Files[0].Ranges; rangesText(got, 9) != rangesText(want, 9) {
		t.Errorf("the service was asked for %v, want %v", got, want)
	}
	do("show", "game").want(t, 0, "    parts 0:10,20:5,4096:eof\n", "")
	do("add", "game", "https://h/b", "b").want(t, 0, "", "")

	for _, test := range []struct {
		args, err string
	}{
		{"add game https://h/c c --range 0", `--range: "0" is not a range (want OFFSET:LENGTH, such as 0:4096 or 4096:eof)`},
		{"add game https://h/c c --range 0:10,5:10", "overlap"},
		{"add game https://h/c c --range 5:0", "has no bytes"},
		{"add game https://h/c c --range 0:5 --url https://m/c", "a file with ranges has no mirrors"},
		{"add game file:///etc/hostname c --range 0:5", "ranges can be had from http and https servers only"},
		{"add game -i list --range 0:5", "--range is for one URL"},
		{"get https://h/c https://h/d --range 0:5", "--range is for one URL"},
		{"file ranges game 0 5", `"5" is not a range`},
		{"file position game 0 -- -5", `"-5" is not an offset`},
		{"file validate game 0 TRUE", `"TRUE": want right or wrong`},
	} {
		do(strings.Fields(test.args)...).want(t, 2, "", test.err)
	}
	do("get", "--dry-run", "--range", "0:5", "https://h/c").want(t, 0, "  parts 0:5\n", "")
	do("file", "ranges", "game", "7").want(t, 1, "", "the job has no file")

	do("file", "ranges", "game", "b").want(t, 0, "", "nothing of the file is here")
	do("file", "ranges", "--json", "game", "b").want(t, 0, "[]", "")
	do("file", "ranges", "game", "b", "0:10", "20:5,30:eof").want(t, 0, "changed file 1, ", "")
	do("file", "ranges", "game", "1").want(t, 0, "0:10\n20:5\n", "")
}

func TestFileShow(t *testing.T) {
	t.Chdir(t.TempDir())
	f := newFake()
	socket := startFake(t, f)
	do := func(args ...string) outcome { t.Helper(); return ebb(t, socket, args...) }
	do("create", "game").want(t, 0, "", "")
	do("add", "game", "https://u:secret@h/a", "a").want(t, 0, "", "")
	do("file", "ranges", "game", "0", "0:10", "30:eof").want(t, 0, "", "")
	do("file", "position", "game", "0", "4096").want(t, 0, "changed file 0", "")
	do("file", "validate", "game", "0", "right").want(t, 0, "changed file 0", "")
	out := do("file", "show", "game", "a").want(t, 0, "", "").out
	for _, line := range []string{"index      0", "temporary  /part", "here       0:10", "wanted     30:eof", "position   4096", "content    found right", "answer\n  Content-Type: text/plain\n  Server: fa"} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in\n%s", line, out)
		}
	}
	if strings.ContainsAny(out, "\x1b\r") || strings.Contains(out, "secret") {
		t.Errorf("%q", out)
	}
	var d bits.FileDetail
	if err := json.Unmarshal([]byte(do("file", "show", "--json", "game", "a").want(t, 0, "", "").out), &d); err != nil || d.Position != 4096 || len(d.Filled) != 1 || !d.Validated {
		t.Errorf("%+v, %v", d, err)
	}
	do("file", "validate", "--json", "game", "0", "wrong").want(t, 0, `"filled"`, "")
	do("__complete", "file", "show", "game", "").want(t, 0, "0\t", "")
	do("__complete", "file", "validate", "game", "0", "").want(t, 0, "right\nwrong\n", "")
	do("__complete", "add", "--ra").want(t, 0, "--range", "")
}
