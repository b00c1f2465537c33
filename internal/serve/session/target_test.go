package session_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

func TestCheckTarget(t *testing.T) {
	for _, good := range []string{
		"a", "a.txt", "a/b/c", "...", "a..b", ".hidden", "con1", "com", "com10", "nulls.txt", "Ångström", "a b", "a+b%2e", "-", strings.Repeat("x", 255),
	} {
		if err := session.CheckTarget(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", `a\b`, `..\a`, "a\x00b", "a\nb", "a\x7f", "a\u0085b", "\xff",
		"CON", "con", "nul.txt", "a/PRN", "Aux.tar.gz", "com1", "LPT9.x", "COM²", "nul ", "con:x", "CONIN$", "lpt0",
		".ebb-uploads", ".ebb-uploads/x", "a/.EBB-uploads/b", "BITS-Sessions/Replies", "bits-sessions", "x/BITS-Sessions", ".ebb-uploads.", "BITS-Sessions /x",
		strings.Repeat("x", 256), strings.Repeat("x/", 600) + "x",
	} {
		if err := session.CheckTarget(bad); !errors.Is(err, session.ErrTarget) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzCheckTarget(f *testing.F) {
	for _, s := range []string{"a/b", "../x", "a\\b", "NUL", ".ebb-uploads/x", "a/./b", "com¹"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if session.CheckTarget(target) != nil {
			return
		}
		if !filepath.IsLocal(target) || filepath.ToSlash(filepath.Clean(target)) != target {
			t.Errorf("%q is not a clean local path", target)
		}
		for element := range strings.SplitSeq(target, "/") {
			if session.Reserved(element) {
				t.Errorf("%q has a reserved element", target)
			}
		}
		// Whatever it is, it is one file below the root.
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "up", filepath.Dir(target)), 0o755); err != nil {
			t.Skip(err)
		}
		if err := os.WriteFile(filepath.Join(root, "up", target), nil, 0o600); err != nil {
			t.Errorf("%q cannot be a file: %v", target, err)
		}
		if list, err := os.ReadDir(root); err != nil || len(list) != 1 {
			t.Errorf("%q made something outside: %v, %v", target, list, err)
		}
	})
}

func TestGUID(t *testing.T) {
	const id, guid = "0123456789abcdef0123456789abcdef", "{01234567-89AB-CDEF-0123-456789ABCDEF}"
	if got := session.GUID(id); got != guid {
		t.Errorf("GUID = %s, want %s", got, guid)
	}
	for _, s := range []string{guid, strings.ToLower(guid), strings.Trim(guid, "{}")} {
		if got, ok := session.ParseGUID(s); !ok || got != id {
			t.Errorf("ParseGUID(%s) = %s, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "{}", "{01234567-89AB-CDEF-0123-456789ABCDEF", "01234567-89AB-CDEF-0123-456789ABCDEF}", "{01234567-89AB-CDEF-0123-456789ABCDEG}",
		"{0123456789AB-CDEF-0123-456789ABCDEF}", "{0123456-789AB-CDEF-0123-456789ABCDEF}", "{01234567-89AB-CDEF-0123-456789ABCDE/}", id} {
		if got, ok := session.ParseGUID(s); ok {
			t.Errorf("ParseGUID(%s) = %s", s, got)
		}
	}
}
