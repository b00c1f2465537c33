package peerdist

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/ebbtransfer/ebb/bits"
)

// cheap makes hashes of version 1 of a file of any size without having one.
func cheap(size int64) *Hashes {
	h := &Hashes{Algorithm: SHA256, Size: size}
	for at := int64(0); at < size; at += SegmentSize {
		n := min(SegmentSize, size-at)
		if at >= 8*SegmentSize && n == SegmentSize {
			h.Segments = append(h.Segments, h.Segments[0])
			continue
		}
		blocks := bytes.Repeat([]byte{byte(at / SegmentSize)}, int((n+BlockSize-1)/BlockSize)*32)
		h.Segments = append(h.Segments, SegmentHashes{Length: int(n), HashOfData: SHA256.sum(nil, blocks), Blocks: blocks})
	}
	return h
}

func TestRangesAreDescribedAsTheyWereAskedFor(t *testing.T) {
	const mi = 1 << 20
	two := &Hashes{Algorithm: TruncatedSHA512, Size: 150000}
	for i, n := range []int{61440, 60000, 28560} {
		two.Segments = append(two.Segments, SegmentHashes{Length: n, HashOfData: bytes.Repeat([]byte{byte(i)}, 32)})
	}
	one := cheap(100*mi + 5)
	for _, v := range []struct {
		h             *Hashes
		first, end    int64
		segments      int
		dwOffset      uint32
		dwRead        uint32
		index, length uint64
	}{
		{one, 0, 100*mi + 5, 4, 0, 0, 0, 0},
		{one, 0, 1, 1, 0, 1, 0, 0},
		{one, 100, 200, 1, 100, 100, 0, 0},
		{one, 100, 32 * mi, 1, 100, 0, 0, 0}, // up to the segment's end
		{one, 100, 32*mi + 1, 2, 100, 1, 0, 0},
		{one, 32 * mi, 96 * mi, 2, 0, 0, 0, 0},
		{one, 100 * mi, 100*mi + 5, 1, 4 * mi, 0, 0, 0},
		{one, 33 * mi, 100 * mi, 3, mi, 4 * mi, 0, 0},
		{two, 0, 150000, 3, 0, 0, 0, 0},
		{two, 0, 61440, 1, 0, 0, 0, 61440},
		{two, 61439, 61441, 2, 61439, 0, 0, 2},
		{two, 61441, 150000, 2, 1, 0, 1, 88559},
		{two, 149999, 150000, 1, 28559, 0, 2, 1},
	} {
		t.Run(fmt.Sprint(v.h.Algorithm.Version(), v.first, v.end), func(t *testing.T) {
			f := infoOf(t, v.h, v.h.Algorithm.ServerKey([]byte("p")), v.first, v.end)
			b := f.Append(nil)
			if len(b) != f.Size() {
				t.Errorf("Size says %d bytes, there are %d", f.Size(), len(b))
			}
			if f.Version() == 1 {
				if o, r := binary.LittleEndian.Uint32(b[6:]), binary.LittleEndian.Uint32(b[10:]); o != v.dwOffset || r != v.dwRead {
					t.Errorf("dwOffset %d, dwReadBytes %d; want %d, %d", o, r, v.dwOffset, v.dwRead)
				}
			} else if o, i, l := binary.BigEndian.Uint32(b[19:]), binary.BigEndian.Uint64(b[11:]), binary.BigEndian.Uint64(b[23:]); o != v.dwOffset || i != v.index || l != v.length {
				t.Errorf("dwOffset %d, index %d, length %d; want %d, %d, %d", o, i, l, v.dwOffset, v.index, v.length)
			}
			got, err := Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Segments) != v.segments || got.Range.Offset != v.first || got.Range.End() != v.end {
				t.Errorf("%d segments, range %v; want %d, %d to %d", len(got.Segments), got.Range, v.segments, v.first, v.end)
			}
			if d := cmp.Diff(f, got); d != "" {
				t.Errorf("it came back as another:\n%s", d)
			}
		})
	}
	for _, r := range []bits.Range{{Offset: -1, Length: 2}, {Length: 0}, {Length: -1}, {Offset: one.Size, Length: 1}, {Offset: 1, Length: one.Size}, {Offset: 1, Length: 1<<63 - 1}} {
		if _, err := one.Info(nil, r); err == nil {
			t.Errorf("a range of %v was described", r)
		}
	}
}

func TestContentInformationOfHugeFilesIsRefusedButNotOfTheirRanges(t *testing.T) {
	h := cheap(160 << 30)
	if _, err := h.Info(nil, bits.Range{Length: h.Size}); err == nil || !strings.Contains(err.Error(), "are allowed") {
		t.Errorf("it was described: %v", err)
	}
	if _, err := h.Info(nil, bits.Range{Offset: h.Size / 2, Length: 1 << 20}); err != nil {
		t.Error(err)
	}
}

func TestBothWaysToSayTheWholeOfTheLastSegment(t *testing.T) {
	b := infoOf(t, cheap(128000), SHA256.ServerKey(nil), 0, 128000).Append(nil)
	for _, n := range []uint32{0, 128000} {
		binary.LittleEndian.PutUint32(b[10:], n)
		if f, err := Decode(b); err != nil || f.Range != (bits.Range{Length: 128000}) {
			t.Errorf("with %d: %+v, %v", n, f, err)
		}
	}
}

func TestDecodeTakesPrefixesOfHashesAndBytesAfterTheEnd(t *testing.T) {
	f := infoOf(t, cheap(40<<20), SHA256.ServerKey(nil), 100, 33<<20)
	f.Segments[1].Hashes = f.Segments[1].Hashes[:16*32] // 1 MiB, just enough
	got, err := Decode(append(f.Append(nil), "more"...))
	if err != nil {
		t.Fatal(err)
	}
	if s := &got.Segments[1]; s.Known() != 16 || s.Blocks() != 128 || got.Trailing != 4 {
		t.Errorf("%d of %d blocks, %d bytes after the end", s.Known(), s.Blocks(), got.Trailing)
	}
	f.Segments[1].Hashes = f.Segments[1].Hashes[:15*32]
	if _, err := Decode(f.Append(nil)); err == nil {
		t.Error("a list that ends before the range was taken")
	}
}

func TestDecodeRefuses(t *testing.T) {
	one := infoOf(t, cheap(40<<20), SHA256.ServerKey(nil), 100, 33<<20).Append(nil)
	single := infoOf(t, cheap(128000), SHA256.ServerKey(nil), 1000, 100000).Append(nil)
	h2 := &Hashes{Algorithm: TruncatedSHA512, Size: 100, Segments: []SegmentHashes{{Length: 60, HashOfData: make([]byte, 32)}, {Length: 40, HashOfData: make([]byte, 32)}}}
	two := infoOf(t, h2, TruncatedSHA512.ServerKey(nil), 0, 100).Append(nil)
	le, be := binary.LittleEndian, binary.BigEndian
	for _, v := range []struct {
		name   string
		of     []byte
		change func(b []byte) []byte
	}{
		{"nothing", nil, func(b []byte) []byte { return nil }},
		{"too much", nil, func(b []byte) []byte { return make([]byte, MaxInfo+1) }},
		{"version 1.1", one, func(b []byte) []byte { b[0] = 1; return b }},
		{"version 3.0", one, func(b []byte) []byte { b[1] = 3; return b }},
		{"an algorithm that is none", one, func(b []byte) []byte { b[2] = 0x0b; return b }},
		{"the algorithm of version 2", one, func(b []byte) []byte { le.PutUint32(b[2:], 4); return b }},
		{"a range after the first segment", one, func(b []byte) []byte { le.PutUint32(b[6:], 32<<20); return b }},
		{"more bytes than the last segment has", one, func(b []byte) []byte { le.PutUint32(b[10:], 8<<20+1); return b }},
		{"more bytes than are left in the only segment", single, func(b []byte) []byte { le.PutUint32(b[10:], 127001); return b }},
		{"bytes beyond all", single, func(b []byte) []byte { le.PutUint32(b[10:], 1<<32-1); return b }},
		{"no segments", one, func(b []byte) []byte { le.PutUint32(b[14:], 0); return b }},
		{"many segments", one, func(b []byte) []byte { le.PutUint32(b[14:], 1<<32-1); return b }},
		{"a segment that is not there", one, func(b []byte) []byte { le.PutUint32(b[14:], 3); return b }},
		{"an odd offset", one, func(b []byte) []byte { b[18] = 1; return b }},
		{"an offset beyond all", single, func(b []byte) []byte { b[18+7] = 0x80; return b }},
		{"an offset at the end of all", single, func(b []byte) []byte { le.PutUint64(b[18:], 1<<63-SegmentSize); return b }},
		{"a gap", one, func(b []byte) []byte { le.PutUint64(b[18+80:], 64<<20); return b }},
		{"an empty segment", single, func(b []byte) []byte { le.PutUint32(b[18+8:], 0); return b }},
		{"a short segment before the last", one, func(b []byte) []byte { le.PutUint32(b[18+8:], 32<<20-1); return b }},
		{"a long segment", one, func(b []byte) []byte { le.PutUint32(b[18+8:], 32<<20+1); return b }},
		{"other blocks", one, func(b []byte) []byte { le.PutUint32(b[18+12:], 32<<10); return b }},
		{"another hash of data", one, func(b []byte) []byte { b[18+16] ^= 1; return b }},
		{"another hash of a block", one, func(b []byte) []byte { b[18+160+4] ^= 1; return b }},
		{"more blocks than the segment has", single, func(b []byte) []byte {
			le.PutUint32(b[18+80:], 3)
			return append(b, make([]byte, 32)...)
		}},
		{"blocks beyond all", single, func(b []byte) []byte { le.PutUint32(b[18+80:], 1<<32-1); return b }},
		{"an end in the middle", one, func(b []byte) []byte { return b[:len(b)-1] }},

		{"version 2.1", two, func(b []byte) []byte { b[0] = 1; return b }},
		{"the algorithm of a draft", two, func(b []byte) []byte { b[2] = 1; return b }},
		{"a start beyond all", two, func(b []byte) []byte { b[3] = 0x80; return b }},
		{"a start near the end of all", two, func(b []byte) []byte { be.PutUint64(b[3:], 1<<63-50); return b }},
		{"a range after the first segment of version 2", two, func(b []byte) []byte { be.PutUint32(b[19:], 60); return b }},
		{"a range longer than the segments", two, func(b []byte) []byte { be.PutUint64(b[23:], 101); return b }},
		{"a range longer than all", two, func(b []byte) []byte { be.PutUint64(b[23:], 1<<63-1<<33); return b }},
		{"no chunk", two, func(b []byte) []byte { return b[:31] }},
		{"another chunk", two, func(b []byte) []byte { b[31] = 1; return b }},
		{"an empty chunk", two, func(b []byte) []byte { be.PutUint32(b[32:], 0); return b[:36] }},
		{"an odd chunk", two, func(b []byte) []byte { be.PutUint32(b[32:], 69); return b[:36+69] }},
		{"a chunk beyond all", two, func(b []byte) []byte { be.PutUint32(b[32:], 68<<25); return b }},
		{"bytes after the chunk", two, func(b []byte) []byte { return append(b, 0) }},
		{"an empty segment of version 2", two, func(b []byte) []byte { be.PutUint32(b[36:], 0); return b }},
		{"a long segment of version 2", two, func(b []byte) []byte { be.PutUint32(b[36:], 128<<10+1); return b }},
	} {
		if f, err := Decode(v.change(slices.Clone(v.of))); err == nil {
			t.Errorf("%s: taken as %+v", v.name, f.Range)
		}
	}
	for _, b := range [][]byte{one, single, two} {
		for n := range 200 {
			if _, err := Decode(b[:min(n, len(b)-1)]); err == nil {
				t.Errorf("the first %d bytes were taken", n)
			}
		}
	}
}

func TestVersion2InSeveralChunks(t *testing.T) {
	h := &Hashes{Algorithm: TruncatedSHA512, Size: 100, Segments: []SegmentHashes{{Length: 60, HashOfData: make([]byte, 32)}, {Length: 40, HashOfData: make([]byte, 32)}}}
	f := infoOf(t, h, TruncatedSHA512.ServerKey(nil), 0, 100)
	b := f.Append(nil)
	binary.BigEndian.PutUint32(b[32:], 68)
	b = slices.Insert(b, 36+68, 0, 0, 0, 0, 68)
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(f, got); d != "" {
		t.Error(d)
	}
}

func TestVerify(t *testing.T) {
	body := content(200000)
	for _, a := range []Algorithm{SHA256, SHA384, SHA512, TruncatedSHA512} {
		f := infoOf(t, hashes(t, body, a), a.ServerKey(nil), 0, int64(len(body)))
		for i := range f.Segments {
			s := &f.Segments[i]
			part := body[s.Offset : s.Offset+int64(s.Length)]
			total := 0
			for i := range s.Blocks() {
				at, n := s.Block(i)
				total += n
				data := slices.Clone(part[at : at+n])
				if !s.Verify(i, data) {
					t.Errorf("%#x: block %d is refused", a, i)
				}
				data[n/2] ^= 1
				if s.Verify(i, data) || s.Verify(i, data[:n-1]) || s.Verify(i, nil) || s.Verify(i+1, part[at:at+n]) {
					t.Errorf("%#x: a wrong block %d is taken", a, i)
				}
			}
			if total != s.Length || s.Known() != s.Blocks() || s.Verify(-1, part) {
				t.Errorf("%#x: blocks of %d bytes in a segment of %d, %d known", a, total, s.Length, s.Known())
			}
		}
	}
}

func TestOneSegmentForAHostedCache(t *testing.T) {
	f := infoOf(t, cheap(40<<20), SHA256.ServerKey(nil), 0, 40<<20)
	for _, start := range []int{0, 4096} {
		b := f.Segments[1].AppendAlone(nil, start)
		if n := binary.LittleEndian.Uint32(b[10:]); n != 8<<20 {
			t.Errorf("dwReadBytesInLastSegment is %d, not the segment's length", n)
		}
		s, at, err := DecodeAlone(b)
		if err != nil || at != start {
			t.Fatalf("start %d, %v", at, err)
		}
		if d := cmp.Diff(f.Segments[1], s); d != "" {
			t.Error(d)
		}
		for n := range b {
			if _, _, err := DecodeAlone(b[:n]); err == nil {
				t.Fatalf("the first %d bytes were taken", n)
			}
		}
	}
	if _, _, err := DecodeAlone(f.Append(nil)); err == nil {
		t.Error("two segments were taken")
	}
	if _, _, err := DecodeAlone(f.Segments[1].AppendAlone(nil, 8<<20)); err == nil {
		t.Error("a start after the segment was taken")
	}
}

func TestGenerate(t *testing.T) {
	body := content(3<<20 + 12345)
	for _, a := range []Algorithm{SHA256, TruncatedSHA512} {
		var first *Hashes
		for name, r := range map[string]io.Reader{"whole": bytes.NewReader(body), "halves": iotest.HalfReader(bytes.NewReader(body)), "eof": iotest.DataErrReader(bytes.NewReader(body))} {
			h, err := Generate(context.Background(), r, a)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = h
			}
			if d := cmp.Diff(first, h); d != "" {
				t.Fatalf("%s: %s", name, d)
			}
		}
		// Sizes around those of blocks, of what is read at once, and of segments of version 2.
		for _, n := range []int{1, minCut, BlockSize - 1, BlockSize, BlockSize + 1, MaxSegment2 + 1, readSize - 1, readSize, readSize + 1, readSize + MaxSegment2, readSize + MaxSegment2 + 1, 2*readSize + 3*MaxSegment2} {
			f := infoOf(t, hashes(t, body[:n], a), a.ServerKey(nil), 0, int64(n))
			if err := f.check(); err != nil || f.Range.Length != int64(n) {
				t.Errorf("%d bytes: %v, %v", n, f.Range, err)
			}
			for i := range f.Segments {
				s := &f.Segments[i]
				for i := range s.Blocks() {
					at, m := s.Block(i)
					if !s.Verify(i, body[s.Offset:][at:at+m]) {
						t.Errorf("%d bytes: block %d of the segment at %d has another hash", n, i, s.Offset)
					}
				}
			}
		}
	}
	broken := errors.New("broken")
	if _, err := Generate(context.Background(), io.MultiReader(bytes.NewReader(body), iotest.ErrReader(broken)), SHA256); !errors.Is(err, broken) {
		t.Errorf("a broken file: %v", err)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Generate(gone, bytes.NewReader(body), SHA256); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := Generate(context.Background(), bytes.NewReader(nil), SHA256); err == nil {
		t.Error("an empty file was described")
	}
	if _, err := Generate(context.Background(), bytes.NewReader(body), 7); err == nil {
		t.Error("an algorithm that is none was taken")
	}
}

// TestCutsAreAsTheyWere fails when files are cut in another way than before, which would make all that
// peers have of no use.
func TestCutsAreAsTheyWere(t *testing.T) {
	if CutVersion != 1 {
		t.Fatal("another version needs values of its own here")
	}
	body := content(4 << 20)
	var lengths []int
	for rest := body; len(rest) > 0; rest = rest[lengths[len(lengths)-1]:] {
		lengths = append(lengths, cut(rest))
	}
	h := sha256.New()
	fmt.Fprint(h, lengths)
	const want = "5447abe1fd1b588b10dfd42d0b80e4069057d0b2f38bd85fd02d889c5d16eb6d"
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("cut into %v: %s, want %s", lengths, got, want)
	}
	for _, n := range lengths[:len(lengths)-1] {
		if n < minCut || n > MaxSegment2 {
			t.Errorf("a segment of %d bytes", n)
		}
	}
	if mean := len(body) / len(lengths); mean < 48<<10 || mean > 80<<10 {
		t.Errorf("segments have %d bytes on average", mean)
	}
	if n := cut(make([]byte, 1<<20)); n != MaxSegment2 && n != minCut {
		t.Errorf("zeros are cut after %d bytes", n)
	}
}

func TestEqualPartsOfFilesAreEqualSegments(t *testing.T) {
	body := content(4 << 20)
	moved := append([]byte("some bytes more at the beginning"), body...)
	ks := TruncatedSHA512.ServerKey([]byte("p"))
	known := map[string]bool{}
	a := infoOf(t, hashes(t, body, TruncatedSHA512), ks, 0, int64(len(body)))
	for i := range a.Segments {
		known[string(a.Segments[i].ID())] = true
	}
	b := infoOf(t, hashes(t, moved, TruncatedSHA512), ks, 0, int64(len(moved)))
	fresh := 0
	for i := range b.Segments {
		if !known[string(b.Segments[i].ID())] {
			fresh++
		}
	}
	if fresh > 4 {
		t.Errorf("%d of %d segments are others", fresh, len(b.Segments))
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	f := infoOf(t, cheap(100), Secret("0123456789abcdef0123456789abcdef"), 0, 100)
	kp := string(f.Segments[0].Secret)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, v := range []any{f, *f, f.Segments, f.Segments[0], f.Segments[0].Secret} {
			text := fmt.Sprintf(format, v)
			if strings.Contains(text, kp) || strings.Contains(text, hex.EncodeToString([]byte(kp))) || strings.Contains(text, "48 49 50 51") || !strings.Contains(text, "(secret)") && v != f {
				t.Errorf("%s of %T is %s", format, v, text)
			}
		}
	}
	if b, err := json.Marshal(f); err != nil || !bytes.Contains(b, []byte(`"(secret)"`)) {
		t.Errorf("%s, %v", b, err)
	}
}

func FuzzDecode(f *testing.F) {
	ks := SHA256.ServerKey([]byte("p"))
	f.Add(infoOf(f, cheap(128000), ks, 0, 128000).Append(nil))
	f.Add(infoOf(f, cheap(33<<20), ks, 5, 33<<20-5).Append(nil))
	for _, a := range []Algorithm{SHA384, TruncatedSHA512} {
		f.Add(infoOf(f, hashes(f, content(100000), a), a.ServerKey(nil), 10, 99999).Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := Decode(b)
		if err != nil {
			return
		}
		again := info.Append(nil)
		if len(again) != info.Size() {
			t.Fatalf("Size says %d, there are %d bytes", info.Size(), len(again))
		}
		got, err := Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		info.Trailing = 0
		if d := cmp.Diff(info, got); d != "" {
			t.Fatal(d)
		}
		for i := range info.Segments {
			s := &info.Segments[i]
			for i := range s.Known() {
				if at, n := s.Block(i); n < 1 || at+n > s.Length {
					t.Fatalf("block %d of %d bytes is at %d of %d", i, n, at, s.Length)
				}
			}
		}
	})
}

func FuzzDecodeAlone(f *testing.F) {
	info := infoOf(f, cheap(128000), SHA256.ServerKey(nil), 0, 128000)
	f.Add(info.Segments[0].AppendAlone(nil, 7))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, start, err := DecodeAlone(b)
		if err != nil {
			return
		}
		again, at, err := DecodeAlone(s.AppendAlone(nil, start))
		if err != nil || at != start {
			t.Fatal(at, start, err)
		}
		if d := cmp.Diff(s, again); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzImportSecret(f *testing.F) {
	f.Add(ExportSecret([]byte("a secret"), "p"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = ImportSecret(b, "p") })
}

// BenchmarkContentInformation is to be held against BenchmarkSHA256: 0.8 of its speed or better.
func BenchmarkContentInformation(b *testing.B) {
	body := content(64 << 20)
	for _, a := range []Algorithm{SHA256, TruncatedSHA512} {
		b.Run(fmt.Sprint("version", a.Version()), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			ks := a.ServerKey(nil)
			for b.Loop() {
				h, err := Generate(context.Background(), bytes.NewReader(body), a)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := h.Info(ks, bits.Range{Length: h.Size}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSHA256(b *testing.B) {
	body := content(64 << 20)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		sha256.Sum256(body)
	}
}
