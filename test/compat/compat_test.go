package compat

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/compat.md anew")

// TestDocumentIsFresh: docs/compat.md says what the table says.
func TestDocumentIsFresh(t *testing.T) {
	name := filepath.Join("..", "..", "docs", "compat.md")
	want := Markdown()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/compat.md is old: go test ./test/compat -update")
	}
}

// TestEveryRowIsProved: each row has a counterpart and a test that exists, or a reason.
func TestEveryRowIsProved(t *testing.T) {
	packages := map[string]tests{}
	seen := map[string]bool{}
	for _, s := range Sections() {
		for _, r := range s.Rows {
			at := s.Title + ": " + r.BITS
			if r.BITS == "" || seen[at] {
				t.Errorf("%s stands twice, or has no name", at)
			}
			seen[at] = true
			if r.Ebb == "" && r.Why == "" {
				t.Errorf("%s has neither a counterpart nor a reason", at)
			}
			if r.Test == "" {
				if r.Ebb != "" {
					t.Errorf("%s names no test", at)
				}
				continue
			}
			for _, test := range strings.Split(r.Test, "; ") {
				dir, name, ok := strings.Cut(test, ".")
				if !ok {
					t.Errorf("%s: %q is not of the form directory.Test", at, test)
					continue
				}
				if packages[dir] == nil {
					packages[dir] = testsOf(t, filepath.Join("..", "..", filepath.FromSlash(dir)))
				}
				name, sub, _ := strings.Cut(name, "/")
				subs, ok := packages[dir][name]
				if !ok {
					t.Errorf("%s: there is no test %s in %s", at, name, dir)
				} else if sub != "" && !subs[strings.ReplaceAll(sub, " ", "_")] {
					t.Errorf("%s: the test %s in %s has no subtest %q", at, name, dir, sub)
				}
			}
		}
	}
}
