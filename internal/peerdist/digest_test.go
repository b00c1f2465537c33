package peerdist

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

// TestDigestKeys holds the formulas of section 20.5 against what another program made of them.
func TestDigestKeys(t *testing.T) {
	sum, _ := hex.DecodeString("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	p := DigestSecret(sum)
	x := Index(p)
	for what, v := range map[string][2]string{
		"secret":      {hex.EncodeToString(p), "fe100ed911c529f63c368abce05c5ecfd6b012f0c1528b71b1056828691f2a4e"},
		"index's key": {hex.EncodeToString(x.Secret), "70e96f76d99da9db30b15fe34ef5762abf11d2a6bcb2fd927feb00e53762a172"},
		"index's id":  {hex.EncodeToString(x.ID()), "8b9f8290560231f3294c3e630783bdf1d7d5521e2a83657c96ae61c46b2fc5e4"},
	} {
		if v[0] != v[1] {
			t.Errorf("the %s is %s, want %s", what, v[0], v[1])
		}
	}
}

func TestOfDigest(t *testing.T) {
	p := DigestSecret([]byte("a digest"))
	const size = SegmentSize + 3*BlockSize + 5
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	made := func(a Algorithm, p Secret) *Info {
		h, err := Generate(t.Context(), bytes.NewReader(body), a)
		if err != nil {
			t.Fatal(err)
		}
		f, err := h.Info(a.ServerKey(p), bits.Range{Length: size})
		if err != nil {
			t.Fatal(err)
		}
		if f, err = Decode(f.Append(nil)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	good := made(SHA256, p)
	if err := good.OfDigest(p, size); err != nil {
		t.Error(err)
	}
	fewer := made(SHA256, p)
	fewer.Segments[1].Hashes = fewer.Segments[1].Hashes[:64]
	part := made(SHA256, p)
	part.Range.Length--
	longer := made(SHA256, p)
	longer.Segments[1].Length++
	for name, f := range map[string]*Info{"another secret": made(SHA256, DigestSecret([]byte("another"))), "version 2": made(TruncatedSHA512, p),
		"another algorithm": made(SHA512, p), "too few hashes": fewer, "a part": part, "a longer file": longer} {
		if f.OfDigest(p, size) == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if good.OfDigest(p, size-1) == nil || good.OfDigest(p, size+1) == nil {
		t.Error("another size is taken")
	}
}
