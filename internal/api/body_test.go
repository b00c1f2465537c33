package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

// FuzzBody: a body that is read as it comes says what it says as a whole.
func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`{"name":"a","files":[{"remote":"http://h/a","local":"/a","ranges":[{"offset":1,"length":null}],"mirrors":["http://i/a"]}],"resume":true}`,
		`[{"name":"a"},{"Name":"b","Files":[{}]},null]`, `[{"remote":"http://h/a","local":"/a"}]`, `null`, `{}`, `[]`, `{"files":null}`, `{"files":{}}`, `{"files":[],"files":[{}]}`,
		`{"name":"a"}{}`, `{"name":`, `{"prio":1}`, `[1]`, `[{"colour":1}]`, ``, ` `, `{"name":"a",}`, `{"a\u0000":1}`, `{"name":"\ud800"}`, `{"files":[{}`, "\xff", `{"id":5}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		compare[bits.NewJob](t, data)
		compare[[]bits.NewJob](t, data)
		compare[[]bits.FileSpec](t, data)
	})
}

func compare[T any](t *testing.T, data []byte) {
	t.Helper()
	var want T
	werr := jsonFormat.Unmarshal(data, &want)
	for _, most := range []int64{maxBody, small} {
		var got T
		err := newBodyReader(bytes.NewReader(data), most).body(&got)
		if errors.Is(err, errTooLarge) {
			continue
		}
		if (err == nil) != (werr == nil) {
			t.Fatalf("%q: %v, as a whole %v", data, err, werr)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %+v, as a whole %+v", data, got, want)
		}
	}
}

// TestBodyBounds: what a body may hold, and what of it is read.
func TestBodyBounds(t *testing.T) {
	again := func(s string, bytes int64) io.Reader { return io.LimitReader(&repeated{s: s}, bytes) }
	var jobs []bits.NewJob
	var files []bits.FileSpec
	for _, c := range []struct {
		name  string
		body  io.Reader
		into  any
		limit int64
		most  int64 // bytes to be read of it
		want  string
	}{
		{"blanks", again(" ", maxBody), &bits.NewJob{}, maxBody, 4 * maxValue, "a value has"},
		{"a long string", io.MultiReader(strings.NewReader(`{"name":"`), again("n", maxBody)), &bits.NewJob{}, maxBody, 4 * maxValue, "a value has"},
		{"a long number", again("1", maxBody), &files, maxBody, 4 * maxValue, "a value has"},
		{"a deep value", io.MultiReader(strings.NewReader(`{"name":`), again("[", maxBody)), &bits.NewJob{}, maxBody, 4 * maxValue, "depth"},
		{"many long values", io.MultiReader(strings.NewReader(`{`), again(`"name":"`+strings.Repeat("n", 1<<20)+`",`, maxBody)), &bits.NewJob{}, maxBody, 4 * maxValue, "without its files"},
		{"many files", io.MultiReader(strings.NewReader(`[`), again("{},", maxBody)), &files, maxBody, 4 * maxItems, "more than 1048576 files"},
		{"many jobs", io.MultiReader(strings.NewReader(`[`), again("{},", maxBody)), &jobs, maxBody, 16 * bits.MaxBatch, "one call takes"},
		{"many ranges", io.MultiReader(strings.NewReader(`[`), again(`{"ranges":[`+strings.Repeat("{},", 9999)+`{}]},`, maxBody)), &files, maxBody, 4 * maxItems, "more than 1048576 files"},
		{"two values", again(`[{"name":"n"}]`, maxBody), &jobs, maxBody, maxValue, "more than one"},
		{"too many bytes", io.MultiReader(strings.NewReader(`[`), again(`{"name":"`+strings.Repeat("n", 1000)+`"},`, maxBody)), &jobs, 10_000, 10_001, "too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newBodyReader(c.body, c.limit)
			err := r.body(c.into)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if r.read > c.most {
				t.Errorf("%d bytes were read, want %d at most", r.read, c.most)
			}
		})
	}
	// What is as large as it may be is taken.
	spec := bits.FileSpec{Remote: "http://h/a", Local: "/a", Ranges: make([]bits.Range, bits.MaxRangesPerFile)}
	for i := range spec.Ranges {
		spec.Ranges[i] = bits.Range{Offset: 1 << 60, Length: 1 << 60}
	}
	data, err := json.Marshal([]bits.FileSpec{spec, spec})
	if err != nil {
		t.Fatal(err)
	}
	if err := newBodyReader(bytes.NewReader(data), maxBody).body(&files); err != nil || len(files) != 2 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// repeated is a text without an end.
type repeated struct {
	s  string
	at int
}

func (r *repeated) Read(p []byte) (n int, err error) {
	for n < len(p) {
		k := copy(p[n:], r.s[r.at:])
		n, r.at = n+k, (r.at+k)%len(r.s)
	}
	return n, nil
}
