package transfer

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

func TestReplyURL(t *testing.T) {
	for _, c := range []struct{ remote, reply, want string }{
		{"http://h/u", "", ""},
		{"http://h/u", "http://h/BITS-Sessions/Replies/x", "http://h/BITS-Sessions/Replies/x"},
		{"http://h/u", "https://other/x", "https://other/x"},
		{"http://h/u", "file:///etc/passwd", "error"},
		{"http://h/u", "/x", "error"},
		{"http://h/u", "http://user:secret@h/x", "http://h/x"},
		{"http://user@h/u", "http://h:80/x", "http://user@h:80/x"},
		{"http://user@h/u", "http://other/x", "http://other/x"},
		{"http://h/u", "http://h/" + strings.Repeat("x", bits.MaxURLLen), "error"},
		{"http://h/u", "http://h/\x00", "error"},
	} {
		s := &sending{f: store.File{Remote: c.remote}, task: upload.Task{State: upload.State{Reply: c.reply}}}
		got, err := s.replyURL()
		if c.want == "error" {
			if !errors.Is(err, &bits.Error{Code: bits.InvalidServerResponse}) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s for %s: %q, %v", c.reply, c.remote, got, err)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%s for %s: %q, %v; want %q", c.reply, c.remote, got, err, c.want)
		}
	}
}

func TestReplyHeader(t *testing.T) {
	own := http.Header{"X-Own": {"1"}}
	for _, c := range []struct {
		remote, reply string
		header, want  http.Header
	}{
		{"http://h/u", "http://h/x", own, own},
		{"http://user@h/u", "http://h:80/x", own, own},
		{"http://user@h/u", "http://h/x", http.Header{"Authorization": {"Bearer x"}}, http.Header{"Authorization": {"Bearer x"}}},
		{"http://user@h/u", "http://other/x", own, nil},
		{"http://user@h/u", "https://h/x", own, nil},
		{"http://user@h/u", "http://h:8080/x", own, nil},
	} {
		s := &sending{run: &run{job: Job{Header: c.header}}, f: store.File{Remote: c.remote}}
		if got := s.replyHeader(c.reply); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s for %s: %v, want %v", c.reply, c.remote, got, c.want)
		}
	}
	if len(own) != 1 {
		t.Error("the owner's headers are changed")
	}
}

func TestReplyName(t *testing.T) {
	id := bits.NewID()
	for _, local := range []string{"/d/a", "/d/" + strings.Repeat("x", 255)} {
		name := ReplyName(local, id)
		if filepath.Dir(name) != "/d" || len(filepath.Base(name)) > 255 || name == ReplyName(local, bits.NewID()) || !strings.HasSuffix(name, ".reply") {
			t.Errorf("the reply to %s is %s", local, name)
		}
	}
}

// TestSourceNoticesChanges changes a file in ways that a size, or a date that was set back, does
// not show.
func TestSourceNoticesChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	now := time.Now()
	write := func(text string) error { return os.WriteFile(path, []byte(text), 0o600) }
	for what, change := range map[string]func() error{
		"nothing":            nil,
		"other bytes":        func() error { return write("54321") },
		"more bytes":         func() error { return write("123456") },
		"fewer bytes":        func() error { return os.Truncate(path, 4) },
		"the date, set back": func() error { return errors.Join(write("54321"), os.Chtimes(path, now, now)) },
		"another file": func() error {
			return errors.Join(os.WriteFile(path+"2", []byte("12345"), 0o600), os.Rename(path+"2", path))
		},
		"no file of its name": func() error { return os.Remove(path) },
	} {
		if err := errors.Join(write("12345"), os.Chtimes(path, now, now)); err != nil {
			t.Fatal(err)
		}
		s, err := openSource(localfile.Owner{}, path)
		if err == nil {
			err = s.settle(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			if err := change(); err != nil {
				t.Fatal(err)
			}
		}
		b := make([]byte, 5)
		n, err := s.ReadAt(b, 0)
		if change == nil {
			if n != 5 || string(b) != "12345" || err != nil {
				t.Errorf("%s: read %q, %v", what, b[:n], err)
			}
		} else if n != 0 || !errors.Is(err, &bits.Error{Code: bits.LocalFileChanged}) {
			t.Errorf("%s: read %d bytes, %v", what, n, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpen(t *testing.T) {
	for _, c := range []struct {
		what string
		up   *store.Upload
		want bool
	}{
		{"not begun", nil, false},
		{"nothing with the server", &store.Upload{}, false},
		{"a session", &store.Upload{State: upload.State{Protocol: upload.BITS, ID: "x"}}, true},
		{"a whole file in a session", &store.Upload{State: upload.State{Protocol: upload.BITS, ID: "x", Done: true}}, true},
		{"a session that is over", &store.Upload{State: upload.State{Protocol: upload.BITS, ID: "x", Done: true}, Closed: true}, false},
		{"an upload", &store.Upload{State: upload.State{Protocol: upload.Tus, URL: "x"}}, true},
		{"parts", &store.Upload{State: upload.State{Protocol: upload.Tus, Parts: []upload.Part{{URL: "x"}}}}, true},
		{"an upload that is the file by now", &store.Upload{State: upload.State{Protocol: upload.Tus, URL: "x", Done: true}}, false},
		{"a PUT", &store.Upload{State: upload.State{Protocol: upload.Put, Offset: 5}}, false},
	} {
		if got := Open(c.up); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestSame(t *testing.T) {
	a := upload.State{ID: "x", Offset: 1, Parts: []upload.Part{{URL: "u", Size: 5, Offset: 1}}}
	b := upload.State{ID: "x", Offset: 2, Parts: []upload.Part{{URL: "u", Size: 5, Offset: 4}}}
	if !same(a, b) {
		t.Error("an offset makes a difference")
	}
	if b.Parts[0].ETag = "e"; same(a, b) {
		t.Error("a finished part makes none")
	}
	if acknowledged(a) != 1 || acknowledged(b) != 5 {
		t.Errorf("acknowledged: %d and %d", acknowledged(a), acknowledged(b))
	}
}
