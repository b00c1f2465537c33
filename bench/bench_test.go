package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

func TestParseFieldsOfProc(t *testing.T) {
	const text = `Name:	ebb
VmHWM:	   21932 kB
VmRSS:	    9604 kB
Threads:	7
Cpus_allowed_list:	0-1
voluntary_ctxt_switches:	12
HugePages_Total:       0
rchar: 323934931
Seccomp
odd:	3 GB
`
	got, err := parseFields(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"VmHWM": 21932 << 10, "VmRSS": 9604 << 10, "Threads": 7, "voluntary_ctxt_switches": 12, "HugePages_Total": 0, "rchar": 323934931}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s = %d, want %d", name, got[name], n)
		}
	}
}

func TestProcessorTimeOfAProcess(t *testing.T) {
	before, err := process.CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const work = 20 * time.Millisecond
	for end := time.Now().Add(work); time.Now().Before(end); {
		continue
	}
	after, err := process.CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got := after - before; got <= 0 || got > time.Minute {
		t.Errorf("%v of work took %v of processor time", work, got)
	}
	if _, err := wakeups(os.Getpid()); err != nil {
		t.Error(err)
	}
	if now, peak, err := memoryUse(os.Getpid()); err != nil || now <= 0 || peak < now {
		t.Errorf("resident memory %d, peak %d, %v", now, peak, err)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		f    figures
		want float64
	}{{nil, 0}, {figures{3}, 3}, {figures{9, 1, 2}, 2}, {figures{4, 1, 3, 2}, 2.5}} {
		if got := c.f.median(); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.f, got, c.want)
		}
	}
}

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		g    target
		want bool
	}{
		{target{limit: 0.6, got: 0.6}, true}, {target{limit: 0.6, got: 0.61}, false},
		{target{limit: 3, got: 3, least: true}, true}, {target{limit: 3, got: 2.9, least: true}, false},
	} {
		if got := c.g.met(); got != c.want {
			t.Errorf("%+v is met: %v, want %v", c.g, got, c.want)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]size{"1": 1, "1000": 1000, "64K": 64 << 10, "10M": 10 << 20, "4G": 4 << 30} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s is %d, %v; want %d", text, s, err, want)
		}
		if back, _ := s.MarshalText(); string(back) != text {
			t.Errorf("%s comes back as %s", text, back)
		}
	}
	for _, text := range []string{"", "0", "-1", "K", "1T", "1KK", "M1", "9999999G"} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %d", text, s)
		}
	}
}

func TestBytesSentAgainAreChargedToTheLastKill(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	log := []faultserver.Request{
		{Time: at(0), Path: "/a", Offset: 0, Sent: 100},
		{Time: at(0), Path: "/b", Offset: 0, Sent: 10},
		{Time: at(2), Path: "/a", Offset: 90, Sent: 60}, // 10 again after the first kill
		{Time: at(4), Path: "/a", Offset: 140, Sent: 10},
		{Time: at(6), Path: "/a", Offset: -1, Sent: 7},  // none of the file's bytes
		{Time: at(6), Path: "/a", Offset: 0, Sent: 200}, // 150 again after the third kill
	}
	again, sent := chargeKills(log, []time.Time{at(1), at(3), at(5)})
	if want := []int64{10, 10, 150}; !slices.Equal(again, want) {
		t.Errorf("charged %v, want %v", again, want)
	}
	if sent != 380 {
		t.Errorf("sent %d, want 380", sent)
	}
}

func TestVerdictsOnFiles(t *testing.T) {
	const n = 200_000
	old, new := faultserver.File{Seed: 1, Size: n}, faultserver.File{Seed: 2, Size: n}
	read := func(f faultserver.File) []byte {
		b := make([]byte, n)
		_, _ = faultserver.Content(f.Seed, n).ReadAt(b, 0)
		return b
	}
	spoilt := read(new)
	spoilt[5]++
	name := filepath.Join(t.TempDir(), "file")
	for _, c := range []struct {
		content []byte
		want    string
	}{
		{read(new), whole}, {read(old), oldWhole}, {append(read(old)[:131072], read(new)[131072:]...), mix},
		{read(new)[:1024], "cut at 1.0 KiB"}, {spoilt, "**CORRUPT**"}, {append(read(new), 0), "**CORRUPT**"},
	} {
		if err := os.WriteFile(name, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := compareFile(name, new, old, new)
		if err != nil || got != c.want {
			t.Errorf("verdict %q, %v; want %q", got, err, c.want)
		}
	}
	if got, err := compareFile(name+"-none", new, old, new); err != nil || got != missing {
		t.Errorf("verdict %q, %v; want %q", got, err, missing)
	}
}
