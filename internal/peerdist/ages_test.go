package peerdist

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAges(t *testing.T) {
	const sample = "AAEDAgBg6gACYOoA" // of section 9.2
	b, err := base64.StdEncoding.DecodeString(sample)
	if err != nil {
		t.Fatal(err)
	}
	want := []Age{{0, 10 * time.Minute}, {2, 10 * time.Minute}}
	if d := cmp.Diff(want, DecodeAges(b)); d != "" {
		t.Error(d)
	}
	if got := base64.StdEncoding.EncodeToString(AppendAges(nil, want)); got != sample {
		t.Errorf("they are %s, want %s", got, sample)
	}
	for unit, d := range map[byte]time.Duration{1: 60000 * time.Second, 2: 6000 * time.Second, 4: time.Minute} {
		b[2] = unit
		if got := DecodeAges(b); len(got) != 2 || got[0].Age != d {
			t.Errorf("unit %d: %v", unit, got)
		}
	}
	for _, b := range []string{"", "\x00\x01\x03", "\x00\x02\x03\x00", "\x00\x01\x00\x00", "\x00\x01\x05\x00", "\x00\x01\x03\x01\x00\x00\x00"} {
		if got := DecodeAges([]byte(b)); got != nil {
			t.Errorf("%q is %v", b, got)
		}
	}
	long := AppendAges(nil, []Age{{1, 1000 * time.Hour}, {2, -time.Second}})
	if got := DecodeAges(long); got[0].Age != (1<<24-1)*10*time.Millisecond || got[1].Age != 0 {
		t.Errorf("ages out of range became %v", got)
	}
	if got := DecodeAges(AppendAges(nil, make([]Age, 300))); len(got) != 255 {
		t.Errorf("%d ages", len(got))
	}
}

func FuzzDecodeAges(f *testing.F) {
	f.Add([]byte("\x00\x01\x03\x01\x00\x60\xea\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ages := DecodeAges(b)
		if len(b) > 2 && b[2] == ageUnit {
			if d := cmp.Diff(ages, DecodeAges(AppendAges(nil, ages))); d != "" && len(ages) > 0 {
				t.Fatal(d)
			}
		}
	})
}
