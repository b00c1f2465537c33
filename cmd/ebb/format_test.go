package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{-1: "?", 0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB",
		1 << 30: "1.0 GiB", 5 << 40: "5.0 TiB", 1<<63 - 1: "8.0 EiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestProgressText(t *testing.T) {
	for want, p := range map[string]bits.Progress{
		"-":                     {},
		"0 B / ? ":              {FilesTotal: 1, BytesTotal: bits.Unknown},
		"1.0 GiB / 4.0 GiB 25%": {FilesTotal: 1, BytesTotal: 4 << 30, BytesTransferred: 1 << 30},
		"1.0 MiB / 1.0 MiB 99%": {FilesTotal: 1, BytesTotal: 1 << 20, BytesTransferred: 1<<20 - 1},
		"0 B / 0 B 100%":        {FilesTotal: 1},
		"1023 B / 1023 B 100%":  {FilesTotal: 2, BytesTotal: 1023, BytesTransferred: 1023},
	} {
		if got := progressText(p); got != strings.TrimSpace(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestListedProgress(t *testing.T) {
	for want, p := range map[string]bits.Progress{
		"-":              {},
		"0 B / ?":        {FilesTotal: 1, BytesTotal: bits.Unknown},
		"25% of 4.0 GiB": {FilesTotal: 1, BytesTotal: 4 << 30, BytesTransferred: 1 << 30},
	} {
		if got := listedProgress(p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestFit makes a table as narrow as terminals are.
func TestFit(t *testing.T) {
	for _, c := range []struct {
		over int
		want []int
	}{
		{0, []int{8, 40, 8, 12, 14, 9, 5, 50}},
		{10, []int{8, 30, 8, 12, 14, 9, 5, 50}},
		{36, []int{8, 24, 8, 12, 14, 9, 5, 30}},
		{48, []int{8, 12, 8, 12, 14, 9, 5, 30}},
		{50, []int{8, 12, 8, 12, 14, 0, 5, 30}},
		{70, []int{8, 8, 8, 12, 14, 0, 5, 23}},
		{999, []int{8, 8, 8, 12, 14, 0, 5, 10}},
	} {
		widths := []int{8, 40, 8, 12, 14, 9, 5, 50}
		fit(widths, c.over, len(widths)-1)
		if !slices.Equal(widths, c.want) {
			t.Errorf("%d too wide: got %v, want %v", c.over, widths, c.want)
		}
	}
}

func TestTrackTellsWhy(t *testing.T) {
	at := time.Unix(0, 0)
	tr := &track{}
	event := func(state bits.State, done int64, pace *bits.Pace) bits.Event {
		return bits.Event{Kind: bits.EventProgress, State: state, Pace: pace, Progress: &bits.Progress{FilesTotal: 1, BytesTotal: 8192, BytesTransferred: done}}
	}
	for _, c := range []struct {
		e    bits.Event
		want string
	}{
		{event(bits.Connecting, 0, nil), "connecting"},
		{event(bits.Transferring, 0, &bits.Pace{State: bits.PaceProbing}), "transferring, probing"},
		{event(bits.Transferring, 1024, &bits.Pace{State: bits.PaceIdle}), "1.0 KiB/s, 7 s left"},
		{event(bits.Transferring, 2048, nil), "1.0 KiB/s, 6 s left"},
		{event(bits.Transferring, 3072, &bits.Pace{State: bits.PaceYielding}), "1.0 KiB/s, 5 s left, giving way"},
		{event(bits.Transferring, 4096, nil), "1.0 KiB/s, 4 s left, giving way"}, // news without a pace changes none
		{event(bits.Transferring, 5120, &bits.Pace{State: bits.PaceCapped}), "1.0 KiB/s, 3 s left, capped by policy"},
		{event(bits.Transferring, 6144, &bits.Pace{State: bits.PaceUnrestricted}), "1.0 KiB/s, 2 s left"},
		{event(bits.Queued, 6144, nil), "waiting for its turn"},
		{event(bits.Transferring, 6144, nil), "transferring"},
	} {
		at = at.Add(time.Second)
		tr.update(c.e, at)
		if got := tr.status(at); got != c.want {
			t.Errorf("after %s %+v: got %q, want %q", c.e.State, c.e.Pace, got, c.want)
		}
	}
}

func TestTimeLeft(t *testing.T) {
	for _, c := range []struct {
		total bits.Size
		rate  int64
		want  time.Duration
		known bool
	}{
		{1000, 10, 90 * time.Second, true},
		{1000, 0, 0, false},
		{100, 10, 0, false},
		{bits.Unknown, 10, 0, false},
		{1 << 60, 1, 0, false},
	} {
		got, known := timeLeft(bits.Progress{BytesTotal: c.total, BytesTransferred: 100}, c.rate)
		if known != c.known || known && got != c.want {
			t.Errorf("%d at %d: got %v, %v", c.total, c.rate, got, known)
		}
	}
}

func TestTimes(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for d, want := range map[time.Duration]string{0: "just now", 3 * time.Second: "3 s ago", 3 * time.Minute: "3 min ago", time.Hour: "1 hour ago",
		49 * time.Hour: "2 days ago", -90 * time.Second: "in 1 min"} {
		if got := relative(now.Add(-d), now); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0 s", 59 * time.Second: "59 s", 80 * time.Second: "1 min 20 s", 2*time.Hour + 5*time.Minute: "2 h 05 min",
		50 * time.Hour: "2 d 02 h"} {
		if got := duration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestSafe(t *testing.T) {
	for s, want := range map[string]string{"plain ä 中": "plain ä 中", "\x1b[2J": `\x1b[2J`, "a\nb\tc": `a\nb\tc`, "\u009b1m": `\u009b1m`, "x\u202ey": `x\u202ey`,
		"\xff\xfe": `\xff\xfe`, "\ufffd": "\ufffd", "\x7f": `\x7f`} {
		if got := safe(s); got != want {
			t.Errorf("safe(%q) = %q, want %q", s, got, want)
		}
	}
	if got := safe("get \"https://user:se@cret@h/a@b:c\" or http://h:80/c@d"); got != `get "https://user:xxxxx@h/a@b:c" or http://h:80/c@d` {
		t.Errorf("a password is shown: %s", got)
	}
	if got := safeURL("https://user:secret@h/a"); got != "https://user:xxxxx@h/a" {
		t.Errorf("a password is shown: %s", got)
	}
}

func TestJSONOnTerminal(t *testing.T) {
	const in = "[\n\t{\"name\": \"a\\\"\u009b1m\u202eä中\U0001f600\x7f\xff\ufffd\"}\r\n]\n"
	const want = "[\n\t{\"name\": \"a\\\"\\u009b1m\\u202eä中\U0001f600\\u007f\\ufffd\\ufffd\"}\r\n]\n"
	var b strings.Builder
	w := terminal{is: true}.forJSON(&b)
	for i := range len(in) { // characters come in pieces
		if n, err := w.Write([]byte{in[i]}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	if w := (terminal{}).forJSON(&b); w != &b {
		t.Error("a program does not get what the service sent")
	}
}

func FuzzSafe(f *testing.F) {
	f.Add("\x1b]0;title\x07")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range safe(s) {
			if r != '\ufffd' && garbles(r) {
				t.Errorf("safe(%q) lets %q through", s, r)
			}
		}
	})
}

func TestMeter(t *testing.T) {
	var m meter
	at := time.Unix(0, 0)
	for range 40 { // 1,000 bytes every half second for 20 s
		at = at.Add(time.Second / 2)
		m.add(at, int64(at.Sub(time.Unix(0, 0))/time.Millisecond)*2)
	}
	if got := m.perSecond(); got != 2000 {
		t.Errorf("got %d bytes a second, want 2000", got)
	}
	if len(m.samples) > 12 {
		t.Errorf("%d samples are kept", len(m.samples))
	}
	m.add(at.Add(time.Second), 0)
	if got := m.perSecond(); got != 0 {
		t.Errorf("after a new start: got %d, want 0", got)
	}
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("whatever"), 1},
		{usagef("wrong"), 2},
		{told(130), 130},
		{told(0), 0},
		{fmt.Errorf("%w on /x: %w", client.ErrNoService, os.ErrNotExist), 3},
		{fmt.Errorf("%w on /x: %w", client.ErrNoService, os.ErrPermission), 5},
		{&bits.Error{Code: bits.NotFound}, 4},
		{&bits.Error{Code: bits.InvalidArg, Cause: &client.AmbiguousError{}}, 2},
		{&bits.Error{Code: bits.AccessDenied}, 5},
		{fmt.Errorf("add: %w", &bits.Error{Code: bits.InvalidState}), 6},
		{&bits.Error{Code: bits.Empty}, 6},
		{&bits.Error{Code: bits.Pending}, 6},
		{&bits.Error{Code: bits.ReadOnlyAfterAddFile}, 6},
		{&bits.Error{Code: bits.ReadOnlyAfterResume}, 6},
		{&bits.Error{Code: bits.ReadOnlyWhenJobActive}, 6},
		{&bits.Error{Code: bits.InvalidArg}, 2},
		{&bits.Error{Code: bits.DatabaseCorrupt}, 1},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
}

func TestCommonDir(t *testing.T) {
	for want, places := range map[string][]string{"/a/b": {"/a/b/c", "/a/b/d"}, "/a": {"/a/b/c", "/a/bb/c"}, "/": {"/a/b", "/c"}} {
		if got := commonDir(places); got != want {
			t.Errorf("%v: got %s, want %s", places, got, want)
		}
	}
}
