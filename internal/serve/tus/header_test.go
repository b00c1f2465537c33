package tus

import (
	"encoding/base64"
	"maps"
	"strings"
	"testing"
)

func TestParseMetadata(t *testing.T) {
	for header, want := range map[string]map[string]string{
		"":                           {},
		"filename d29ybGQudHh0":      {"filename": "world.txt"},
		"a YQ==,b Yg==":              {"a": "a", "b": "b"},
		"a YQ==, b Yg== ,c,d ":       {"a": "a", "b": "b", "c": "", "d": ""},
		"filename R3LDvMOfZS50eHQ=":  {"filename": "Grüße.txt"},
		"key with YQ==":              nil, // a space is not base64
		"a YQ==,a Yg==":              nil,
		",":                          nil,
		" YQ==":                      {"YQ==": ""}, // a key as any other
		"a YQ":                       nil,
		"a YQ==\tb":                  nil,
		"filename ZGF0YQ==,is_final": {"filename": "data", "is_final": ""},
	} {
		got, err := parseMetadata(header)
		if (err != nil) != (want == nil) || want != nil && !maps.Equal(got, want) {
			t.Errorf("%q: got %q, %v, want %q", header, got, err, want)
		}
	}
}

func FuzzUploadMetadata(f *testing.F) {
	for _, s := range []string{"", "filename d29ybGQudHh0,is_confidential", "a YQ==,b Yg==", ", ,", "a  YQ=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		metadata, err := parseMetadata(header)
		if err != nil {
			return
		}
		// Written anew it means the same.
		var pairs []string
		for key, value := range metadata {
			if key == "" || strings.ContainsAny(key, " ,") {
				t.Fatalf("%q has the key %q", header, key)
			}
			pairs = append(pairs, key+" "+base64.StdEncoding.EncodeToString([]byte(value)))
		}
		again, err := parseMetadata(strings.Join(pairs, ","))
		if err != nil || !maps.Equal(again, metadata) {
			t.Fatalf("%q: got %q, then %q, %v", header, metadata, again, err)
		}
	})
}

func FuzzUploadConcat(f *testing.F) {
	for _, s := range []string{"", "partial", "final;/files/a /files/b", "final;https://tus.example.org/files/a", "final; ", "final;%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		c, err := parseConcat(header)
		if err != nil {
			return
		}
		if c.final != strings.HasPrefix(header, "final;") || c.partial != (header == "partial") || c.final != (len(c.parts) > 0) {
			t.Fatalf("%q: got %+v", header, c)
		}
		for _, path := range c.parts {
			if path == "" {
				t.Fatalf("%q: a part has no path", header)
			}
		}
	})
}

func FuzzUploadChecksum(f *testing.F) {
	for _, s := range []string{"", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "crc32 y/Q5Jg==", "md5", "sha256 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		c, err := parseChecksum(header)
		if err == nil && len(c.sum) != algorithms[c.algorithm]().Size() {
			t.Fatalf("%q: a sum of %d bytes", header, len(c.sum))
		}
	})
}
