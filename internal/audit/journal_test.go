package audit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// parse reads a message in the journal's native form.
func parse(t *testing.T, b []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	for len(b) > 0 {
		i := bytes.IndexAny(b, "=\n")
		if i < 0 {
			t.Fatalf("a field without a value: %q", b)
		}
		name, long := string(b[:i]), b[i] == '\n'
		b = b[i+1:]
		end := bytes.IndexByte(b, '\n')
		if long {
			n := binary.LittleEndian.Uint64(b)
			b = b[8:]
			end = int(n)
		}
		if end < 0 || end >= len(b) || b[end] != '\n' {
			t.Fatalf("the field %s has no end", name)
		}
		if _, twice := out[name]; twice {
			t.Errorf("the field %s is there twice", name)
		}
		out[name] = string(b[:end])
		b = b[end+1:]
	}
	return out
}

// listen is a journal.
func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func next(t *testing.T, c *net.UnixConn) map[string]string {
	t.Helper()
	buf := make([]byte, 256<<10)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, buf[:n])
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c := listen(t, path)
	h, err := NewJournal(path, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(h)
	log.Debug("not this")
	log.With("service", "x").WithGroup("g").Info("job created", "a-b", 1)
	want := map[string]string{"MESSAGE": "job created  service=x  g_a-b=1", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "ebb", "EBB_SERVICE": "x", "EBB_G_A_B": "1"}
	if got := next(t, c); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	log.Warn("job created", Event(Created), "job", "7", "name", "evil\nPRIORITY=0\nEBB_USER=root", "by", "me", "pid", 12)
	got := next(t, c)
	for name, want := range map[string]string{"EBB_EVENT_ID": "3", "EBB_JOB_ID": "7", "EBB_JOB_NAME": "evil\nPRIORITY=0\nEBB_USER=root", "EBB_USER": "me", "PRIORITY": "4",
		"EBB_CLIENT_PID": "12", "MESSAGE": `job created  job=7  name="evil\nPRIORITY=0\nEBB_USER=root"  by=me  pid=12`} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	log.Info("long", "x", strings.Repeat("é", 100<<10))
	if got := next(t, c)["EBB_X"]; len(got) > mostField || !strings.HasPrefix(got, "éé") {
		t.Errorf("a long field has %d bytes", len(got))
	}
}

// A journal that is started anew gets what comes after.
func TestJournalRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c := listen(t, path)
	h, err := NewJournal(path, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(h)
	c.Close()
	log.Info("nobody listens")
	_ = os.Remove(path)
	c = listen(t, path)
	log.Info("somebody does")
	if got := next(t, c)["MESSAGE"]; got != "somebody does" {
		t.Errorf("got %q", got)
	}
}
