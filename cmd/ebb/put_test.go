package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

func TestPlanPut(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"sub", "odd"} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"a": "", "b c": "", "sub/a": "", "100%": "", "odd/[x]*": "", ".b": "",
		"list": "a\nb c\td/e\nsub/a\thttps://i/x\n", "list.csv": "Destination,Source\nhttps://i/x,s*\n", "up.csv": "Source,Destination\na,../a\n", "web": "https://h/a\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	auto := putOptions{protocol: "auto"}
	asBITS := putOptions{protocol: "bits"}
	for _, c := range []struct {
		name  string
		o     putOptions
		args  []string
		want  string
		wrong string
		hint  string
	}{
		{"a file", auto, []string{"a", "https://h/x"}, "a>https://h/x", "", ""},
		{"a directory's URL", auto, []string{"a", "https://h/u/"}, "a>https://h/u/", "", ""},
		{"a directory's URL and BITS", asBITS, []string{"a", "https://h/u/"}, "a>https://h/u/a", "", ""},
		{"a host", asBITS, []string{"a", "https://h"}, "a>https://h/a", "", ""},
		{"names to be escaped", asBITS, []string{"b c", "100%", "https://h/u?k=v"}, "b c>https://h/u/b%20c?k=v 100%>https://h/u/100%25?k=v", "", ""},
		{"several files", auto, []string{"a", "b c", "https://h/u"}, "a>https://h/u/ b c>https://h/u/", "", ""},
		{"a file of this machine", auto, []string{"a", "FILE:///srv/x"}, "a>file:///srv/x", "", ""},
		{"a share", auto, []string{"a", "smb://NAS/in/"}, "a>smb://nas/in/a", "", ""},
		{"a share as Windows names it", auto, []string{"b c", `\\nas\in\50%\`}, "b c>smb://nas/in/50%25/b%20c", "", ""},
		{"a reply from a file", putOptions{protocol: "auto", reply: "r"}, []string{"a", "file:///srv/x"}, "", "a reply comes from http", ""},
		{"a path that may be a file to upload", auto, []string{"a", "/nowhere/x"}, "", "a URL at the end", "ebb put"},
		{"a bucket", auto, []string{"a", "s3://bucket/dir/"}, "a>s3://bucket/dir/", "", ""},
		{"a reply from a bucket", putOptions{protocol: "auto", reply: "r"}, []string{"a", "s3://bucket/a"}, "", "is not an http or https URL", ""},
		{"a reply", putOptions{protocol: "auto", reply: "r"}, []string{"a", "https://h/u/"}, "a>https://h/u/a reply>r", "", ""},
		{"a reply to print", putOptions{protocol: "auto", reply: "-"}, []string{"a", "https://h/x"}, "a>https://h/x reply>", "", ""},
		{"a reply to nobody", putOptions{jobOptions: jobOptions{detach: true}, protocol: "auto", reply: "-"}, []string{"a", "https://h/x"}, "", "--detach", "name a file"},
		{"a reply for two", putOptions{protocol: "auto", reply: "r"}, []string{"a", "b c", "https://h/x"}, "", "for one file", ""},
		{"a reply by tus", putOptions{protocol: "gopher"}, []string{"a", "https://h/x"}, "", "unknown protocol", ""},
		{"no URL", auto, []string{"a"}, "", "a URL at the end", "ebb put"},
		{"no file", auto, []string{"https://h/x"}, "", "a URL at the end", "ebb put"},
		{"another scheme", auto, []string{"a", "ftp://u:secret@h/x"}, "", "is not an http, https, s3, file or smb URL", ""},
		{"two URLs", auto, []string{"https://h/a", "https://h/x"}, "", "files and one URL", ""},
		{"a file that is not there", auto, []string{"none", "https://h/x"}, "", "no such file", ""},
		{"a directory", auto, []string{"sub", "https://h/x"}, "sub/a>https://h/x/sub/", "", ""},
		{"a directory and BITS", asBITS, []string{"sub", "https://h/x/?k=v"}, "sub/a>https://h/x/sub/a?k=v", "", ""},
		{"what is in a directory", auto, []string{"sub/", "https://h/x"}, "sub/a>https://h/x/", "", ""},
		{"a pattern", asBITS, []string{"[ab]*", "https://h/x"}, "a>https://h/x/a b c>https://h/x/b%20c", "", ""},
		{"a pattern of a directory", asBITS, []string{"s*", "https://h/x"}, "sub/a>https://h/x/sub/a", "", ""},
		{"a name like a pattern", asBITS, []string{"odd/[x]*", "https://h/x"}, "odd/[x]*>https://h/x", "", ""},
		{"a pattern for nothing", auto, []string{"z*", "https://h/x"}, "", "no file fits", ""},
		{"a bad pattern", auto, []string{"[", "https://h/x"}, "", "syntax error", ""},
		{"a list", putOptions{protocol: "auto", list: "list"}, []string{"https://h/u"}, "a>https://h/u/ b c>https://h/u/d/e sub/a>https://i/x", "", ""},
		{"a list with all URLs", putOptions{protocol: "auto", list: "list.csv"}, nil, "sub/a>https://i/x/sub/", "", ""},
		{"a list that leaves the URL", putOptions{protocol: "auto", list: "up.csv"}, []string{"https://h/x"}, "", "leaves the directory", ""},
		{"a list of URLs", putOptions{protocol: "auto", list: "web"}, []string{"https://h/x"}, "", "is no file to upload", ""},
		{"a list at a URL", putOptions{protocol: "auto", list: "https://h/list"}, []string{"https://h/x"}, "", "is a file itself", ""},
		{"a list without a URL", putOptions{protocol: "auto", list: "list"}, nil, "", "line 1: nothing says where \"a\" goes", "column with URLs"},
		{"a list and a directory here", putOptions{protocol: "auto", list: "list"}, []string{"sub"}, "", "a URL at the end", "--help"},
		{"a device", auto, []string{"/dev/null", "https://h/x"}, "", "not a regular file", ""},
		{"the standard input", auto, []string{"-", "https://h/x"}, "", "standard input", "write it to a file"},
		{"one name twice", auto, []string{"a", "sub/a", "https://h/u/"}, "", `/sub/a" would both become "https://h/u/a"`, "call of its own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			uploads, err := new(app).planPut(c.o, c.args)
			if c.wrong != "" {
				if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), "secret") {
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
			for _, u := range uploads {
				s := u.spec
				rel, _ := filepath.Rel(dir, s.Files[0].Local)
				got = append(got, rel+">"+s.Files[0].Remote)
				if s.Type == bits.UploadReply {
					rel := ""
					if s.ReplyFile != nil {
						rel, _ = filepath.Rel(dir, *s.ReplyFile)
					}
					got = append(got, "reply>"+rel)
				}
				if want := strings.ToLower(c.o.protocol); string(*s.Protocol) != want {
					t.Errorf("protocol %q, want %q", *s.Protocol, want)
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestUploadedTo(t *testing.T) {
	for _, c := range []struct{ remote, protocol, want string }{
		{"https://h/u/", "put", "https://h/u/a"},
		{"https://h/u/x", "put", "https://h/u/x"},
		{"https://me:secret@h/u/", "bits", "https://me:xxxxx@h/u/a"},
		{"https://h/files/", "tus", "https://h/files/a"},
	} {
		if got := uploadedTo(bits.File{Remote: c.remote, Local: "/d/a", Protocol: bits.Protocol(c.protocol)}); got != c.want {
			t.Errorf("%s by %s: %s, want %s", c.remote, c.protocol, got, c.want)
		}
	}
}
