package ietf

import (
	"bytes"
	"math"
	"net/http"
	"strings"
	"testing"
)

func TestFieldsOfAnotherTypeCountAsNone(t *testing.T) {
	for value, want := range map[string]int64{
		"5": 5, " 5 ": 5, "5;param=1": 5, "0": 0, "999999999999999": 999999999999999,
		"": -1, "-5": -1, "5.0": -1, "?1": -1, `"5"`: -1, ":NQ==:": -1, "5, 6": -1, "9999999999999999": -1, "five": -1, "0x5": -1,
	} {
		if got := count(http.Header{offsetHeader: {value}}, offsetHeader); got != want {
			t.Errorf("%q: got %d, want %d", value, got, want)
		}
	}
	for value, want := range map[string]string{
		"?1": "true", "?0": "false", "?1;a": "true", "": "none", "1": "none", "true": "none", "?2": "none", "?1, ?1": "none",
	} {
		b, ok := item[bool](http.Header{completeHeader: {value}}, completeHeader)
		if got := map[bool]string{true: "true", false: "false"}[b]; ok && got != want || !ok && want != "none" {
			t.Errorf("%q: got %v, %v, want %s", value, b, ok, want)
		}
	}
}

func TestWanted(t *testing.T) {
	for value, want := range map[string]string{
		"":                      "",
		"sha-256=1":             "sha-256",
		"sha-512=3, sha-256=10": "sha-256",
		"sha-512=10, sha-256=3": "sha-512",
		"sha-512=1, sha-256=1":  "sha-256",
		"sha-256=0, unixsum=10": "",
		"sha-256=0, sha-512=2":  "sha-512",
		"sha-256=?1":            "",
		"sha-256=(1 2)":         "",
		"sha-256=1;sha-512=2":   "sha-256",
		"SHA-256=1":             "", // keys are lower case
		"sha-256=1, =":          "",
	} {
		if got := wanted([]string{value}); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

func FuzzDigest(f *testing.F) {
	for _, s := range []string{"", digestOf([]byte("hello")), "sha-256=:YQ==:", "sha-256=?1", "sha=:YQ==:", "sha-256=(1 2);a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		d, err := parseDigests([]string{field})
		if err != nil {
			return
		}
		all := newSums(func(string) bool { return true })
		for name, sum := range d {
			if all[name] == nil || len(sum) != all[name].Size() {
				t.Fatalf("%q has a sum of %d bytes of %q", field, len(sum), name)
			}
			// Written anew it means the same.
			text, err := digestField(name, sum)
			if err != nil {
				t.Fatal(err)
			}
			again, err := parseDigests([]string{text})
			if err != nil || !bytes.Equal(again[name], sum) {
				t.Fatalf("%q: got %v, then %v, %v", field, d, again, err)
			}
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add("?1", "5", "10", "8", "sha-256=1", int64(5))
	f.Add("?0", "", "", "", "", int64(-1))
	f.Add("?1", "999999999999999", "", "", "", int64(math.MaxInt64))
	f.Add("?1;a", "5;b=?1", "999999999999999", "8.0", "sha-512=10, sha-256=(1)", int64(1)<<62)
	f.Fuzz(func(t *testing.T, complete, offset, length, version, want string, n int64) {
		r := &http.Request{ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
			completeHeader: {complete}, offsetHeader: {offset}, lengthHeader: {length}, interopHeader: {version},
		}}
		q, err := parse(r)
		if err != nil {
			t.Fatal(err)
		}
		if q.offset < -1 || q.length < -1 || q.told && !q.resumable {
			t.Fatalf("got %+v", q)
		}
		size, err := q.size(max(q.offset, 0), max(n, -1))
		if err == nil && (size < -1 || q.length >= 0 && size != q.length || size >= 0 && size < max(q.offset, 0)) {
			t.Fatalf("%+v with %d bytes has the size %d", q, n, size)
		}
		if name := wanted([]string{want}); name != "" && !strings.Contains(want, name) {
			t.Fatalf("%q wants %s", want, name)
		}
	})
}
