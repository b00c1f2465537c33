package main

import (
	"bytes"
	"testing"
	"unicode/utf8"
)

// TestPlainText reads texts as Windows writes them.
func TestPlainText(t *testing.T) {
	for in, want := range map[string]string{
		"plain ü":                               "plain ü",
		"\ufeffmarked":                          "marked",
		"\xff\xfea\x00\xfc\x00\n\x00":           "aü\n",
		"\xfe\xff\x00a\x00\xfc\xd8\x3d\xde\x00": "aü😀",
		"\xff\xfea\x00b":                        "a", // half a character
		"\xff\xfe":                              "",
		"":                                      "",
	} {
		if got := string(plainText([]byte(in))); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// FuzzPlainText: what has a mark of UTF-16 becomes valid UTF-8; other bytes stay.
func FuzzPlainText(f *testing.F) {
	f.Add([]byte("\xff\xfe\x00\xd8a"))
	f.Add([]byte("#TYPE x\nSource\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		text := plainText(bytes.Clone(b))
		if len(b) > 1 && (b[0] == 0xff && b[1] == 0xfe || b[0] == 0xfe && b[1] == 0xff) && !utf8.Valid(text) {
			t.Errorf("%q becomes %q", b, text)
		}
		if below := belowType(text); bytes.HasPrefix(below, []byte("#")) || bytes.Count(below, []byte("\n")) < bytes.Count(text, []byte("\n")) {
			t.Errorf("%q becomes %q", text, below)
		}
	})
}

// TestLocalName: a path of Windows is refused, a name that only looks a little like one is not.
func TestLocalName(t *testing.T) {
	for name, fine := range map[string]bool{`C:\x`: false, `c:/x`: false, `\\nas\x`: false, `x\y`: false, `.\x`: false, `/srv/x`: true, `x`: true, `./C:\x`: true, `C:x`: true, `/srv/a\x2db`: true, "": true} {
		if _, err := localName(name); (err == nil) != fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}
