package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLocalSources plans to fetch directories and patterns of this machine.
func TestLocalSources(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"src/deep/er", "src/none", "dst"} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"src/a.iso", "src/b b.iso", "src/.c.iso", "src/deep/er/d", "src/x[1]*?%20"} {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for to, name := range map[string]string{"a.iso": "src/linked", "deep": "src/elsewhere", "nowhere": "src/broken"} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	base := "file://" + dir
	literal := base + "/src/" + url.PathEscape("x[1]*?%20")
	for _, c := range []struct {
		name, args string
		want       string // destination<source, both below the directory
		wrong      string
		hint       string
	}{
		{"a file", base + "/src/a.iso dst", "dst/a.iso<src/a.iso", "", ""},
		{"a pattern", base + "/src/*.iso dst", "dst/a.iso<src/a.iso dst/b b.iso<src/b%20b.iso", "", ""},
		{"a pattern with a blank", base + "/src/b%20?.iso dst", "dst/b b.iso<src/b%20b.iso", "", ""},
		{"a pattern of names with a dot", base + "/src/.* dst", "dst/.c.iso<src/.c.iso", "", ""},
		{"a pattern in the middle", base + "/s*/deep/er/d", "d<src/deep/er/d", "", ""},
		{"a directory", base + "/src/deep dst", "dst/deep/er/d<src/deep/er/d", "", ""},
		{"what is in a directory", base + "/src/deep/ dst", "dst/er/d<src/deep/er/d", "", ""},
		{"links", base + "/src/ dst", "dst/.c.iso<src/.c.iso dst/a.iso<src/a.iso dst/b b.iso<src/b%20b.iso dst/deep/er/d<src/deep/er/d dst/linked<src/linked dst/x[1]*?%20<src/" + url.PathEscape("x[1]*?%20"), "", ""},
		{"a name like a pattern", literal + " dst/", "dst/x[1]*?%20<src/" + url.PathEscape("x[1]*?%20"), "", ""},
		{"a file that is not there", base + "/src/none/x dst", "dst/x<src/none/x", "", ""}, // the service says so
		{"nothing fits", base + "/src/*.img dst", "", "no file fits", ""},
		{"an empty directory", base + "/src/none dst", "", "holds no file", ""},
		{"no directory to go to", base + "/src/*.iso none", "", "does not exist", "mkdir"},
		{"a server", "https://h/a/*.iso dst", "", "servers have no listing", "%2A"},
		{"an asterisk elsewhere", "https://h/*/a?x=* dst", "dst/a<https://h/*/a?x=*", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := new(app).planGet(getOptions{}, strings.Fields(c.args))
			if c.wrong != "" {
				if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("got %v, want an error in usage about %q", err, c.wrong)
				}
				if e, ok := err.(*exitError); !ok || !strings.Contains(e.hint, c.hint) {
					t.Errorf("hint %q, want %q", e.hint, c.hint)
				}
				return
			}
			if err == nil {
				err = p.makeDirs()
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range p.files {
				rel, _ := filepath.Rel(dir, f.Local)
				got = append(got, rel+"<"+strings.ReplaceAll(strings.TrimPrefix(f.Remote, base+"/"), "%2A", "*"))
				if !isDir(filepath.Dir(f.Local)) {
					t.Errorf("the directory of %s is not there", f.Local)
				}
			}
			if got, want := strings.Join(got, " "), strings.ReplaceAll(c.want, "%2A", "*"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if others := strings.Join(p.finder.others, " "); c.name == "links" && (!strings.Contains(others, "elsewhere") || !strings.Contains(others, "broken")) {
				t.Errorf("left out: %q", others)
			}
		})
	}
}

func FuzzFileSource(f *testing.F) {
	for _, s := range []string{"file:///a/*", "file://localhost/a%2A?", `\\srv\share\*.iso`, "smb://h/s/[a-z]", "file://", "file:///%zz", "file:///[", "https://h/*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, ok := fileSource(raw)
		if ok && p.scheme != "file" && p.scheme != "smb" {
			t.Errorf("%q has the scheme %q", raw, p.scheme)
		}
		if !strings.ContainsAny(raw, wildcards+"%") && p.pattern != p.name {
			t.Errorf("%q is the pattern %q for %q", raw, p.pattern, p.name)
		}
	})
}
