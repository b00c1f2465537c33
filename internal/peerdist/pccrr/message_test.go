package pccrr

import (
	"bytes"
	"crypto/aes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ebbtransfer/ebb/internal/peerdist"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type goldenBlock struct {
	IV      hexBytes
	DataLen int      `json:"ct_len"`
	DataSum hexBytes `json:"ct_sha256"`
	Len     int      `json:"msg_len"`
	Sum     hexBytes `json:"msg_sha256"`
	First   hexBytes `json:"first64"`
}

type golden struct {
	V1 struct {
		Kp, HoHoDk, CI hexBytes
	} `json:"v1_sha256"`
	Block128     goldenBlock `json:"msg_blk_alg1_block1"`
	Block192     goldenBlock `json:"msg_blk_alg2_block1"`
	Block256     goldenBlock `json:"msg_blk_alg3_block1"`
	GetBlockList hexBytes    `json:"msg_getblklist_0_2"`
	GetBlocks    hexBytes    `json:"msg_getblks_1"`
	BlockList    hexBytes    `json:"msg_blklist_0_2_resp"`
}

// vectors are those of the package peerdist.
func vectors(t testing.TB) *golden {
	t.Helper()
	b, err := os.ReadFile("../testdata/branchcache-golden.json")
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

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sum(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

func TestGoldenMessages(t *testing.T) {
	g := vectors(t)
	id := []byte(g.V1.HoHoDk)
	guid := [16]byte{1, 2, 15: 16}
	for _, v := range []struct {
		m    Message
		want []byte
	}{
		{GetBlockList{id, []Range{{0, 1}, {2, 1}}}, nil},
		{GetBlockList{id, []Range{{0, 2}}}, g.GetBlockList},
		{GetBlocks{id, []Range{{1, 1}}}, g.GetBlocks},
		{BlockList{id, []Range{{0, 2}}, 0}, g.BlockList},
		{NegotiateRequest{Version1, Version2}, unhex(t, "000000010000000000000018000000010000000100000002")},
		{NegotiateResponse{Version1, Version2}, unhex(t, "00000018"+"000000010000000100000018000000010000000100000002")},
		{GetSegmentList{RequestID: guid, Segments: [][]byte{id}}, unhex(t, "00000002000000060000004c00000001"+hex.EncodeToString(guid[:])+"0000000100000020"+hex.EncodeToString(id)+"00000000")},
		{SegmentList{RequestID: guid, Ranges: []Range{{0, 1}}}, unhex(t, "00000030"+"00000002000000070000003000000001"+hex.EncodeToString(guid[:])+"00000001"+"0000000000000001"+"00000000")},
		{Block{Segment: id, Index: 7}, unhex(t, "00000048"+"00000001000000050000004800000001"+"00000020"+hex.EncodeToString(id)+"00000007"+"00000000"+"00000000"+"00000000"+"00000000")},
	} {
		var got []byte
		var back Message
		var err error
		if v.m.Type() == TypeNegotiateResponse || v.m.Type() == TypeBlockList || v.m.Type() == TypeBlock || v.m.Type() == TypeSegmentList {
			got = AppendResponse(nil, AES128, v.m)
			back, _, err = DecodeResponse(got)
		} else {
			got = AppendRequest(nil, AES128, v.m)
			back, _, err = DecodeRequest(got)
		}
		if v.want != nil && !bytes.Equal(got, v.want) {
			t.Errorf("%T is %x, want %x", v.m, got, v.want)
		}
		if d := cmp.Diff(v.m, back, cmpopts.EquateEmpty()); d != "" || err != nil {
			t.Errorf("%T came back as another: %v\n%s", v.m, err, d)
		}
	}
}

func TestGoldenBlocks(t *testing.T) {
	g := vectors(t)
	info, err := peerdist.Decode(g.V1.CI)
	if err != nil {
		t.Fatal(err)
	}
	s := &info.Segments[0]
	plain := content(128000)[peerdist.BlockSize:]
	for c, v := range map[Cipher]goldenBlock{AES128: g.Block128, AES192: g.Block192, AES256: g.Block256} {
		block, err := c.block(s.Secret)
		if err != nil {
			t.Fatal(err)
		}
		data := seal(block, v.IV, plain, nil)
		if len(data) != v.DataLen || !bytes.Equal(sum(data), v.DataSum) {
			t.Errorf("cipher %d: %d bytes of data with the digest %x", c, len(data), sum(data))
		}
		b := AppendResponse(nil, c, Block{Segment: g.V1.HoHoDk, Index: 1, Data: data, IV: v.IV})
		if len(b) != v.Len || !bytes.Equal(sum(b), v.Sum) || !bytes.HasPrefix(b, v.First) {
			t.Errorf("cipher %d: %d bytes with the digest %x that begin with %x", c, len(b), sum(b), b[:64])
		}
		m, got, err := DecodeResponse(b)
		if err != nil || got != c {
			t.Fatal(got, err)
		}
		back, err := Open(got, s.Secret, m.(Block))
		if err != nil || !bytes.Equal(back, plain) || !s.Verify(1, back) {
			t.Errorf("cipher %d: it came back as other bytes: %v", c, err)
		}
	}
}

func TestSealAndOpen(t *testing.T) {
	kp := peerdist.Secret(content(32))
	body := content(peerdist.MaxSegment2)
	var space []byte
	for _, n := range []int{1, 15, 16, 17, peerdist.BlockSize, peerdist.MaxSegment2} {
		for _, c := range []Cipher{AES128, AES192, AES256} {
			data, iv, err := Seal(c, kp, body[:n], space)
			if err != nil || len(data) != n/16*16+16 || len(iv) != 16 {
				t.Fatal(len(data), len(iv), err)
			}
			space = data
			b := Block{Data: slices.Clone(data), IV: iv}
			if plain, err := Open(c, kp, b); err != nil || !bytes.Equal(plain, body[:n]) {
				t.Errorf("%d bytes, cipher %d: %v", n, c, err)
			}
		}
	}
	data, iv, _ := Seal(AES128, kp, body[:100], nil)
	again, other, _ := Seal(AES128, kp, body[:100], nil)
	if bytes.Equal(iv, other) || bytes.Equal(data, again) {
		t.Error("the same block was encrypted twice in the same way")
	}
	for name, v := range map[string]struct {
		c  Cipher
		kp peerdist.Secret
		b  Block
	}{
		"no cipher":      {0, kp, Block{Data: data, IV: iv}},
		"no such cipher": {4, kp, Block{Data: data, IV: iv}},
		"a short secret": {AES256, kp[:31], Block{Data: data, IV: iv}},
		"no data":        {AES128, kp, Block{IV: iv}},
		"no vector":      {AES128, kp, Block{Data: data}},
		"half a vector":  {AES128, kp, Block{Data: data, IV: iv[:8]}},
		"odd data":       {AES128, kp, Block{Data: data[:len(data)-1], IV: iv}},
	} {
		if b, err := Open(v.c, v.kp, v.b); err == nil {
			t.Errorf("%s: opened as %x", name, b)
		}
	}
	// What fills the last block up is checked, all of it.
	block, _ := aes.NewCipher(kp[:16])
	good := seal(block, iv, body[:12], nil)
	for i := range 3 {
		b := slices.Clone(body[:12])
		b = append(b, 4, 4, 4, 4)
		b[12+i] = 5
		bad := seal(block, iv, b, nil)[:16]
		if _, err := Open(AES128, kp, Block{Data: bad, IV: iv}); !errors.Is(err, errSealed) {
			t.Errorf("a wrong byte %d of what fills up is taken: %v", i, err)
		}
	}
	if _, err := Open(AES128, kp, Block{Data: good, IV: iv}); err != nil {
		t.Error(err)
	}
}

func TestIdsOfAnyLengthAreFilledUp(t *testing.T) {
	for n := 1; n <= peerdist.MaxID; n++ {
		id := content(n)
		want := GetBlockList{id, []Range{{3, 4}}}
		b := AppendRequest(nil, AES128, want)
		if len(b)%4 != 0 {
			t.Fatalf("with an id of %d bytes the message has %d", n, len(b))
		}
		m, _, err := DecodeRequest(b)
		if d := cmp.Diff(Message(want), m); err != nil || d != "" {
			t.Errorf("%d bytes: %v %s", n, err, d)
		}
		// The data is filled up, and the vector, which is last, may be and need not be.
		block := Block{Segment: id, Index: 1, Next: 2, Data: content(n), IV: content(5)}
		b = AppendResponse(nil, AES256, block)
		for range 4 {
			m, c, err := DecodeResponse(b)
			if d := cmp.Diff(Message(block), m); err != nil || d != "" || c != AES256 {
				t.Errorf("%d bytes: %v %s", n, err, d)
			}
			b = append(b, 0)
		}
		if _, _, err := DecodeResponse(b); err == nil {
			t.Error("four bytes more are taken")
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	id := content(32)
	list := AppendRequest(nil, AES128, GetBlockList{id, []Range{{0, 2}}})
	segments := AppendRequest(nil, AES128, GetSegmentList{Segments: [][]byte{id, id}, Blob: content(9)})
	put := func(b []byte, at int, n uint32) []byte { be.PutUint32(b[at:], n); return b }
	for _, v := range []struct {
		name   string
		of     []byte
		change func(b []byte) []byte
	}{
		{"a size below the header's", list, func(b []byte) []byte { return put(b, 8, 15) }},
		{"a size above the bytes", list, func(b []byte) []byte { return put(b, 8, uint32(len(b)+1)) }},
		{"a huge size", append(list, make([]byte, MaxRequest)...), func(b []byte) []byte { return put(b, 8, MaxRequest+1) }},
		{"version 0", list, func(b []byte) []byte { return put(b, 0, 0) }},
		{"version 3", list, func(b []byte) []byte { return put(b, 0, 3) }},
		{"a type that is none", list, func(b []byte) []byte { return put(b, 4, 8) }},
		{"a type of a response", list, func(b []byte) []byte { return put(b, 4, uint32(TypeBlockList)) }},
		{"an empty id", list, func(b []byte) []byte { return put(b, 16, 0) }},
		{"a long id", AppendRequest(nil, AES128, GetBlockList{content(65), []Range{{0, 2}}}), func(b []byte) []byte { return b }},
		{"an id beyond the end", list, func(b []byte) []byte { return put(b, 16, 1<<32-1) }},
		{"no ranges", list, func(b []byte) []byte { return put(b, 52, 0) }},
		{"ranges beyond the end", list, func(b []byte) []byte { return put(b, 52, 2) }},
		{"more ranges than allowed", AppendRequest(nil, AES128, GetBlockList{id, slices.Repeat([]Range{{0, 1}}, 257)}), func(b []byte) []byte { return b }},
		{"an index of 512", list, func(b []byte) []byte { return put(b, 56, 512) }},
		{"an empty range", list, func(b []byte) []byte { return put(b, 60, 0) }},
		{"fields after the last", list, func(b []byte) []byte { return put(append(b, 0, 0, 0, 0), 8, uint32(len(b)+4)) }},
		{"ids beyond the end", segments, func(b []byte) []byte { return put(b, 32, 1<<32-1) }},
		{"a blob beyond the end", segments, func(b []byte) []byte { return put(b, len(b)-13, 10) }},
	} {
		if m, _, err := DecodeRequest(v.change(slices.Clone(v.of))); err == nil {
			t.Errorf("%s: taken as %+v", v.name, m)
		}
	}
	for _, n := range []uint32{0, 3} {
		if _, _, err := DecodeRequest(put(slices.Clone(list), 0, n)); !errors.Is(err, ErrVersion) {
			t.Errorf("version %d: %v", n, err)
		}
	}
	// The minor part does not matter.
	if _, _, err := DecodeRequest(put(slices.Clone(list), 0, 0x00070001)); err != nil {
		t.Error(err)
	}
	for _, b := range [][]byte{list, segments} {
		for n := range b {
			if _, _, err := DecodeRequest(b[:n]); err == nil {
				t.Errorf("the first %d of %d bytes are taken", n, len(b))
			}
		}
	}
	block := AppendResponse(nil, AES128, Block{Segment: id, Data: content(32), IV: content(16)})
	for n := range block {
		if _, _, err := DecodeResponse(block[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are taken", n, len(block))
		}
	}
	if _, _, err := DecodeResponse(put(slices.Clone(block), 0, uint32(len(block)-5))); err == nil {
		t.Error("two sizes are taken")
	}
	if _, _, err := DecodeResponse(AppendResponse(nil, AES128, NegotiateRequest{})); err == nil {
		t.Error("a request is taken for a response")
	}
}

func TestFieldsThatNobodyUsesAreSkipped(t *testing.T) {
	id := content(32)
	b := AppendRequest(nil, AES128, GetBlocks{id, []Range{{5, 1}}})
	b = append(b[:len(b)-4], 0, 0, 0, 3, 1, 2, 3, 0)
	be.PutUint32(b[8:], uint32(len(b)))
	if m, _, err := DecodeRequest(b); err != nil || m.(GetBlocks).Ranges[0].Index != 5 {
		t.Errorf("%+v, %v", m, err)
	}
	want := Block{Segment: id, Data: content(16), IV: content(16)}
	b = AppendResponse(nil, AES128, want)
	at := len(b) - 24
	b = slices.Concat(b[:at], []byte{0, 0, 0, 1, 9, 0, 0, 0}, b[at+4:])
	be.PutUint32(b, uint32(len(b)-4))
	be.PutUint32(b[12:], uint32(len(b)-4))
	m, _, err := DecodeResponse(b)
	if d := cmp.Diff(Message(want), m); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
}

func FuzzDecode(f *testing.F) {
	g := vectors(f)
	id := []byte(g.V1.HoHoDk)
	for _, b := range [][]byte{g.GetBlockList, g.GetBlocks, g.BlockList,
		AppendRequest(nil, AES128, GetSegmentList{Segments: [][]byte{id, id[:5]}, Blob: content(9)}),
		AppendResponse(nil, AES128, SegmentList{Ranges: []Range{{0, 2}}, Blob: content(3)}),
		AppendResponse(nil, AES192, Block{Segment: id, Index: 1, Data: content(48), IV: content(16)}),
		AppendResponse(nil, AES192, NegotiateResponse{Version1, Version2})} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, c, err := DecodeRequest(b); err == nil {
			again, d, err := DecodeRequest(AppendRequest(nil, c, m))
			if diff := cmp.Diff(m, again); err != nil || diff != "" || c != d {
				t.Fatal(err, diff)
			}
		}
		if m, c, err := DecodeResponse(b); err == nil {
			again, d, err := DecodeResponse(AppendResponse(nil, c, m))
			if diff := cmp.Diff(m, again); err != nil || diff != "" || c != d {
				t.Fatal(err, diff)
			}
			if b, ok := m.(Block); ok {
				_, _ = Open(c, peerdist.Secret(content(32)), b)
			}
		}
	})
}
