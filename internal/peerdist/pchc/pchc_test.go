package pchc

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
)

func segment(t testing.TB) peerdist.Segment {
	t.Helper()
	h, err := peerdist.Generate(context.Background(), bytes.NewReader(make([]byte, 200000)), peerdist.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	f, err := h.Info(peerdist.SHA256.ServerKey([]byte("p")), bits.Range{Length: 200000})
	if err != nil {
		t.Fatal(err)
	}
	return f.Segments[0]
}

func TestGoldenBatchedOffer(t *testing.T) {
	b, err := os.ReadFile("../testdata/branchcache-golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Offer string                  `json:"pchc_batched_offer"`
		V1    struct{ HoHoDk string } `json:"v1_sha256"`
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	id, err := hex.DecodeString(g.V1.HoHoDk)
	if err != nil {
		t.Fatal(err)
	}
	m := &BatchedOffer{Port: 80, Segments: []Offered{{BlockSize: 65536, SegmentSize: 128000, Tag: TagBITS, Version: 1, ID: id}}}
	got := m.Append(nil)
	if hex.EncodeToString(got) != g.Offer || len(got) != 75 {
		t.Errorf("it is %x, want %s", got, g.Offer)
	}
	back, err := Decode2(got)
	if d := cmp.Diff(m, back); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
}

func TestMessagesComeBack(t *testing.T) {
	s := segment(t)
	for _, m := range []interface{ Append([]byte) []byte }{
		&InitialOffer{Port: 2178, ID: s.ID()},
		&SegmentInfo{Port: 2178, Tag: TagBITS, Segment: s},
		&SegmentInfo{Port: 2178, Segment: s, Start: 65536},
	} {
		b := m.Append(nil)
		got, err := Decode1(b)
		if d := cmp.Diff(any(m), got); d != "" || err != nil {
			t.Errorf("%T: %v %s", m, err, d)
		}
		for n := range b {
			if got, err := Decode1(b[:n]); err == nil && n < 17 {
				t.Errorf("%T: the first %d bytes are taken as %+v", m, n, got)
			}
		}
		if _, err := Decode2(b); err == nil {
			t.Errorf("%T is taken for version 2", m)
		}
	}
	for _, a := range []Answer{OK, Interested} {
		b := AppendAnswer(nil, a)
		if got, err := DecodeAnswer(b); err != nil || got != a || len(b) != 5 {
			t.Errorf("answer %d: %x, %d, %v", a, b, got, err)
		}
	}
	for _, b := range []string{"", "\x00\x00\x00\x01", "\x00\x00\x00\x01\x02", "\x00\x00\x00\x02\x00", "\x00\x00\x00\x01\x00\x00"} {
		if a, err := DecodeAnswer([]byte(b)); err == nil {
			t.Errorf("%q is taken as %d", b, a)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	s := segment(t)
	one := Offered{BlockSize: 65536, SegmentSize: 128000, Tag: TagBITS, Version: 1, ID: s.ID()}
	batch := (&BatchedOffer{Port: 80, Segments: []Offered{one, one}}).Append(nil)
	info := (&SegmentInfo{Port: 80, Segment: s}).Append(nil)
	set := func(at int, with ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], with); return b }
	}
	for _, v := range []struct {
		name   string
		of     []byte
		change func([]byte) []byte
	}{
		{"nothing", nil, set(0)},
		{"half a header", batch[:8], set(0)},
		{"version 3", batch, set(1, 3)},
		{"version 2.1", batch, set(0, 1)},
		{"another type of version 2", batch, set(3, 1)},
		{"another type of version 1", info, set(3, 3)},
		{"no segments", batch[:16], set(0)},
		{"half a segment", batch[:len(batch)-1], set(0)},
		{"too many segments", (&BatchedOffer{Segments: slices.Repeat([]Offered{one}, 129)}).Append(nil), set(0)},
		{"another length of the tag", batch, set(16+9, 15)},
		{"an empty tag", batch, set(16+10, make([]byte, 16)...)},
		{"an algorithm that is none", batch, set(16+26, 2)},
		{"an empty segment", batch, set(16+4, 0, 0, 0, 0)},
		{"a long segment", batch, set(16+4, 2, 0, 0, 1)},
		{"empty blocks", batch, set(16, 0, 0, 0, 0)},
		{"a long segment of version 2", batch, func(b []byte) []byte { return set(16+4, 0, 2, 0, 1)(set(16+26, 4)(b)) }},
		{"an empty id", info[:16], set(3, 1)},
		{"a long id", info[:16+65], set(3, 1)},
		{"half a segment's information", info[:len(info)-1], set(0)},
		{"more than there may be", slices.Concat(info, make([]byte, MaxMessage)), set(0)},
	} {
		b := v.change(slices.Clone(v.of))
		if m, err := Decode1(b); err == nil {
			t.Errorf("%s: taken as %+v", v.name, m)
		}
		if m, err := Decode2(b); err == nil {
			t.Errorf("%s: taken as %+v", v.name, m)
		}
	}
}

func FuzzDecode(f *testing.F) {
	s := segment(f)
	f.Add((&InitialOffer{Port: 1, ID: s.ID()}).Append(nil))
	f.Add((&SegmentInfo{Port: 1, Segment: s, Start: 3}).Append(nil))
	f.Add((&BatchedOffer{Port: 1, Segments: []Offered{{BlockSize: 9, SegmentSize: 9, Tag: TagBITS, Version: 2, ID: s.ID()}}}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := Decode2(b); err == nil {
			again, err := Decode2(m.Append(nil))
			if d := cmp.Diff(m, again); d != "" || err != nil {
				t.Fatal(err, d)
			}
		}
		if m, err := Decode1(b); err == nil {
			again, err := Decode1(m.(interface{ Append([]byte) []byte }).Append(nil))
			if d := cmp.Diff(m, again); d != "" || err != nil {
				t.Fatal(err, d)
			}
		}
		_, _ = DecodeAnswer(b)
	})
}
