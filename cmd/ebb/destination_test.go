package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ebbtransfer/ebb/bits"
)

func TestFileName(t *testing.T) {
	long := strings.Repeat("ä", 200)
	for url, want := range map[string]string{
		"https://h/a/image.iso":                  "image.iso",
		"https://h/image.iso?x=1#part":           "image.iso",
		"https://h/with%20space.txt":             "with space.txt",
		"https://h/a%2Fb":                        "a_b",
		"https://h/a%5Cb":                        "a_b",
		"https://h/%2e%2e":                       "index.html",
		"https://h/..":                           "index.html",
		"https://h/.":                            "index.html",
		"https://h/dir/":                         "index.html",
		"https://h":                              "index.html",
		"https://h/":                             "index.html",
		"https://h?file=x":                       "index.html",
		"https://h/%00%1b%5b31m":                 "__[31m",
		"https://h/a%E2%80%AEcod.exe":            "a_cod.exe",
		"https://h/%ff%fe":                       "__",
		"https://h/%E4%B8%AD.txt":                "中.txt",
		"https://h/..%2f..%2fetc%2fpasswd":       ".._.._etc_passwd",
		"https://h/x/" + long + ".tar":           strings.Repeat("ä", 125) + ".tar",
		"https://h/" + long:                      strings.Repeat("ä", 127),
		"https://h/." + strings.Repeat("e", 400): "." + strings.Repeat("e", 254),
	} {
		if got := fileName(url); got != want {
			t.Errorf("fileName(%.60q) = %q, want %q", url, got, want)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, s := range []string{"https://h/a", "http://h/%2e%2e/", "https://h/%00", "http://[::1]:80/a%2Fb?c#d", "https://h/" + strings.Repeat("%E4", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, url string) {
		name := fileName(url)
		if name == "" || name == "." || name == ".." || len(name) > 255 || filepath.Base(name) != name || !filepath.IsLocal(name) {
			t.Errorf("fileName(%q) = %q is not a plain name", url, name)
		}
		if !utf8.ValidString(name) || strings.IndexFunc(name, garbles) >= 0 {
			t.Errorf("fileName(%q) = %q could garble a terminal", url, name)
		}
	})
}

func TestDestination(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.MkdirAll("sub/a", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("old", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, args, want, wrong, hint string
	}{
		{"the current directory", "https://h/a.iso", "a.iso", "", ""},
		{"a file", "https://h/a.iso b.iso", "b.iso", "", ""},
		{"a file that exists", "https://h/a.iso old", "old", "", ""},
		{"a directory", "https://h/a.iso sub", "sub/a.iso", "", ""},
		{"a directory with a slash", "https://h/a.iso sub/", "sub/a.iso", "", ""},
		{"an absolute path", "https://h/a.iso " + dir + "/sub/c", "sub/c", "", ""},
		{"a path that is not clean", "https://h/a.iso sub/../c", "c", "", ""},
		{"upper case", "HTTPS://h/a.iso", "a.iso", "", ""},
		{"several", "https://h/a https://h/b sub", "sub/b|in the way", "is a directory", ""},
		{"several into a directory", "https://h/b https://h/c sub", "sub/b sub/c", "", ""},
		{"several into the current directory", "https://h/b https://i/c", "b c", "", ""},
		{"several into a file", "https://h/b https://i/c old", "", "is not a directory", ""},
		{"several into what is not there", "https://h/b https://i/c none", "", "does not exist", "mkdir -p"},
		{"a directory that is not there", "https://h/b none/", "", "does not exist", "mkdir -p " + dir + "/none"},
		{"a file where no directory is", "https://h/b none/c", "", "does not exist", "mkdir -p"},
		{"the same name twice", "https://h/b https://i/b", "", `"https://h/b" and "https://i/b" would both become`, "name of its own"},
		{"a directory in the way", "https://h/a sub", "", "is a directory", ""},
		{"no URL", "", "", "there is no URL", "ebb get"},
		{"only a destination", "sub", "", "there is no URL", "ebb get"},
		{"another scheme", "ftp://h/a", "", `"ftp://h/a" is not an http, https, file or smb URL`, ""},
		{"two destinations", "https://h/a b c", "", `"b" is not an http, https, file or smb URL`, "URLs come first"},
		{"the standard output", "https://h/a -", "", "standard output", ""},
		{"a device", "https://h/a /dev/null", "", "cannot be replaced|not a file that can be replaced", ""},
		{"no host", "https:///a", "", "has no host", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := new(app).planGet(getOptions{}, strings.Fields(c.args))
			if c.wrong != "" {
				wrong := strings.Split(c.wrong, "|")
				if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), wrong[len(wrong)-1]) {
					t.Fatalf("got %v, want an error in usage about %q", err, c.wrong)
				}
				if e, ok := err.(*exitError); !ok || !strings.Contains(e.hint, c.hint) {
					t.Errorf("hint %q, want %q", e.hint, c.hint)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range p.files {
				rel, _ := filepath.Rel(dir, f.Local)
				got = append(got, rel)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestGetList(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("sub", 0o755); err != nil {
		t.Fatal(err)
	}
	sum := "sha256:" + strings.Repeat("AB", 32)
	a := &app{in: strings.NewReader("\ufeff# images\r\nhttps://h/a\r\n\nhttps://h/b\tsub/\nhttps://h/b\tc\t" + sum + "\nhttps://h/d\t\t" + sum + "\n")}
	p, err := a.planGet(getOptions{list: "-"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := p.files
	want := []bits.FileSpec{
		{Remote: "https://h/a", Local: dir + "/a"},
		{Remote: "https://h/b", Local: dir + "/sub/b"},
		{Remote: "https://h/b", Local: dir + "/c", Checksum: strings.ToLower(sum)},
		{Remote: "https://h/d", Local: dir + "/d", Checksum: strings.ToLower(sum)},
	}
	if len(files) != len(want) {
		t.Fatalf("got %v, want %v", files, want)
	}
	for i := range want {
		if !reflect.DeepEqual(files[i], want[i]) {
			t.Errorf("file %d: got %v, want %v", i, files[i], want[i])
		}
	}
}

func TestWrongList(t *testing.T) {
	t.Chdir(t.TempDir())
	for list, want := range map[string]string{
		"https://h/a\nb\n":                             `line 2: "b" is not an http`,
		"https://h/a\tx\ty\tz":                         "line 1: there are 4 fields",
		"https://h/a\t../x":                            `line 1: the destination "../x" leaves the directory`,
		"https://h/a\tnone/x":                          "line 1: the directory",
		"https://h/a\tx\tmd5:0":                        "line 1: the checksum",
		"# nothing\n":                                  "holds no URL",
		"https://h/a\nhttps://i/a\n":                   "would both become",
		"\n" + strings.Repeat("x", maxListLine) + "\n": "line 2: the line is longer",
	} {
		_, err := (&app{in: strings.NewReader(list)}).planGet(getOptions{list: "-"}, nil)
		if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", list, err, want)
		}
	}
	absolute := func() *app { return &app{in: strings.NewReader("# x\nhttps://h/a\t/x\n")} }
	if p, err := absolute().planGet(getOptions{list: "-"}, nil); err != nil || p.files[0].Local != "/x" {
		t.Errorf("an absolute destination: got %v, %v", p, err)
	}
	for _, dest := range []string{".", "./", t.TempDir()} {
		if _, err := absolute().planGet(getOptions{list: "-"}, []string{dest}); exitCode(err) != exitUsage || !strings.Contains(err.Error(), `line 2: the destination "/x" is absolute`) {
			t.Errorf("an absolute destination with %s: got %v", dest, err)
		}
	}
	_, err := new(app).planGet(getOptions{list: "none"}, nil)
	if exitCode(err) != exitUsage {
		t.Errorf("a list that is not there: got %v", err)
	}
}

func FuzzList(f *testing.F) {
	for _, s := range []string{"", "# x\nhttps://h/a\tb\tsha256:00\n", "https://h/a\r\n\r\n", "\ufeffhttp://h\t\t", "https://h/a\t/etc/x", "https://h/a\t..\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		entries, err := readList(strings.NewReader(list), listOfURLs)
		if err != nil && exitCode(err) != exitUsage {
			t.Errorf("%q: %v is not an error in usage", list, err)
		}
		last := 0
		for _, e := range entries {
			if e.line <= last || !isURL(e.url) || strings.ContainsAny(e.url+e.dest+e.checksum, "\t\n") {
				t.Errorf("%q: bad entry %+v", list, e)
			}
			if e.dest != "" && !filepath.IsAbs(e.dest) && !filepath.IsLocal(e.dest) {
				t.Errorf("%q: %q leaves the directory", list, e.dest)
			}
			last = e.line
		}
	})
}

func TestJobName(t *testing.T) {
	file := func(url, local string) bits.FileSpec { return bits.FileSpec{Remote: url, Local: local} }
	for want, files := range map[string][]bits.FileSpec{
		"a.iso":                           {file("https://h/a.iso", "/d/a.iso")},
		"2 files from this machine":       {file("file:///s/a", "/d/a"), file("file:///s/b", "/d/b")},
		"2 files from h":                  {file("https://h/a", "/d/a"), file("https://h/b", "/d/b")},
		"2 files from h and another host": {file("https://h/a", "/d/a"), file("https://i/b", "/d/b")},
		"3 files from h and other hosts":  {file("https://h/a", "/d/a"), file("https://i/b", "/d/b"), file("https://j/b", "/d/c")},
	} {
		if got := jobName(files); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
