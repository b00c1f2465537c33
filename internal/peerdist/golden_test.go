package peerdist

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

// The vectors come from a generator of its own, which agrees with what IIS sends.

type golden struct {
	Secret  string          `json:"secret_key_ascii"`
	Content string          `json:"content_128000_sha256"`
	SHA256  goldenV1        `json:"v1_sha256"`
	SHA384  goldenV1        `json:"v1_sha384"`
	SHA512  goldenV1        `json:"v1_sha512"`
	V2      goldenV2        `json:"v2_61440_60000_6560"`
	Export  hexBytes        `json:"exportkey_passphrase_Pass1"`
	TwoSegs goldenTwo       `json:"v1_2seg"`
	Range   goldenTwosRange `json:"v1_2seg_range_100000_to_33654432"`
}

type goldenV1 struct {
	Ks, HoD, Kp, HoHoDk hexBytes
	Len                 int      `json:"ci_len"`
	Sum                 hexBytes `json:"ci_sha256"`
	CI                  hexBytes
}

type goldenV2 struct {
	Ks, CI hexBytes
	IDs    []hexBytes
}

type goldenTwo struct {
	Len    int64    `json:"len"`
	SHA256 hexBytes `json:"sha256"`
	CILen  int      `json:"ci_len"`
	CISum  hexBytes `json:"ci_sha256"`
	IDs    []hexBytes
}

type goldenTwosRange struct {
	Header hexBytes `json:"hdr"`
	Len    int      `json:"ci_len"`
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

func vectors(t testing.TB) *golden {
	t.Helper()
	b, err := os.ReadFile("testdata/branchcache-golden.json")
	if err != nil {
		t.Fatal(err)
	}
	g := new(golden)
	if err := json.Unmarshal(b, g); err != nil {
		t.Fatal(err)
	}
	return g
}

// content is the vectors' content of n bytes.
func content(n int) []byte {
	b := make([]byte, 0, n+sha256.Size)
	for i := uint32(0); len(b) < n; i++ {
		h := sha256.Sum256(binary.LittleEndian.AppendUint32(nil, i))
		b = append(b, h[:]...)
	}
	return b[:n]
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s is %x, want %x", what, got, want)
	}
}

func sum(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

func hashes(t testing.TB, b []byte, a Algorithm) *Hashes {
	t.Helper()
	h, err := Generate(context.Background(), bytes.NewReader(b), a)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func infoOf(t testing.TB, h *Hashes, ks Secret, first, end int64) *Info {
	t.Helper()
	f, err := h.Info(ks, bits.Range{Offset: first, Length: end - first})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestGoldenVersion1(t *testing.T) {
	g := vectors(t)
	body := content(128000)
	if got := hex.EncodeToString(sum(body)); got != g.Content {
		t.Fatalf("the content has the digest %s, want %s", got, g.Content)
	}
	for _, v := range []struct {
		a Algorithm
		goldenV1
	}{{SHA256, g.SHA256}, {SHA384, g.SHA384}, {SHA512, g.SHA512}} {
		ks := v.a.ServerKey([]byte(g.Secret))
		same(t, "Ks", ks, v.Ks)
		f := infoOf(t, hashes(t, body, v.a), ks, 0, 128000)
		s := f.Segments[0]
		same(t, "HoD", s.HashOfData, v.HoD)
		same(t, "Kp", s.Secret, v.Kp)
		same(t, "HoHoDk", s.ID(), v.HoHoDk)
		ci := f.Append(nil)
		if len(ci) != v.Len || f.Size() != v.Len {
			t.Errorf("content information has %d bytes and says %d, want %d", len(ci), f.Size(), v.Len)
		}
		same(t, "its digest", sum(ci), v.Sum)
		if v.CI != nil {
			same(t, "content information", ci, v.CI)
		}
	}
}

func TestGoldenVersion2(t *testing.T) {
	g := vectors(t)
	body := content(128000)
	// The vector's cuts are its own.
	h := &Hashes{Algorithm: TruncatedSHA512, Size: 128000}
	for _, n := range []int{61440, 60000, 6560} {
		h.Segments = append(h.Segments, SegmentHashes{Length: n, HashOfData: h.Algorithm.sum(nil, body[:n])})
		body = body[n:]
	}
	ks := h.Algorithm.ServerKey([]byte(g.Secret))
	same(t, "Ks", ks, g.V2.Ks)
	f := infoOf(t, h, ks, 0, 128000)
	same(t, "content information", f.Append(nil), g.V2.CI)
	for i := range f.Segments {
		same(t, "the id of a segment", f.Segments[i].ID(), g.V2.IDs[i])
	}
}

func TestGoldenRange(t *testing.T) {
	g := vectors(t)
	body := content(int(g.TwoSegs.Len))
	same(t, "the content's digest", sum(body), g.TwoSegs.SHA256)
	h := hashes(t, body, SHA256)
	ks := SHA256.ServerKey([]byte(g.Secret))
	f := infoOf(t, h, ks, 0, g.TwoSegs.Len)
	ci := f.Append(nil)
	if len(ci) != g.TwoSegs.CILen {
		t.Errorf("content information has %d bytes, want %d", len(ci), g.TwoSegs.CILen)
	}
	same(t, "its digest", sum(ci), g.TwoSegs.CISum)
	for i := range f.Segments {
		same(t, "the id of a segment", f.Segments[i].ID(), g.TwoSegs.IDs[i])
	}
	ci = infoOf(t, h, ks, 100000, 33654432).Append(nil)
	if len(ci) != g.Range.Len {
		t.Errorf("content information of the range has %d bytes, want %d", len(ci), g.Range.Len)
	}
	same(t, "the header of the range", ci[:len(g.Range.Header)], g.Range.Header)
}

func TestGoldenSecretFile(t *testing.T) {
	g := vectors(t)
	same(t, "the file", ExportSecret([]byte(g.Secret), "Pass1"), g.Export)
	p, err := ImportSecret(g.Export, "Pass1")
	if err != nil || string(p) != g.Secret {
		t.Errorf("imported %q, %v", p, err)
	}
	for name, file := range map[string][]byte{"another passphrase": nil, "nothing": {}, "a part": g.Export[:32], "odd": g.Export[:47],
		"too long": make([]byte, maxSecretFile+16), "the secret of nobody": ExportSecret(nil, "Pass1")} {
		pass := "Pass1"
		if file == nil {
			file, pass = g.Export, "pass1"
		}
		if p, err := ImportSecret(file, pass); err == nil {
			t.Errorf("%s: imported %q", name, p)
		}
	}
}
