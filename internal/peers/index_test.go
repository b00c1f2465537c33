package peers

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
)

// indexed makes content information of a file that there is not, with so many segments, for a digest.
func indexed(t *testing.T, segments int, sum []byte) *peerdist.Info {
	t.Helper()
	h := &peerdist.Hashes{Algorithm: peerdist.SHA256}
	for range segments {
		blocks := make([]byte, peerdist.SegmentSize/peerdist.BlockSize*sha256.Size)
		_, _ = rand.Read(blocks)
		of := sha256.Sum256(blocks)
		h.Segments = append(h.Segments, peerdist.SegmentHashes{Length: peerdist.SegmentSize, HashOfData: of[:], Blocks: blocks})
		h.Size += peerdist.SegmentSize
	}
	info, err := h.Info(peerdist.SHA256.ServerKey(peerdist.DigestSecret(sum)), bits.Range{Length: h.Size})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestIndexes are kept, served in blocks, and forgotten when they rot, become too old or too many.
func TestIndexes(t *testing.T) {
	n := opened(t, func(s *Settings) { s.Mode, s.DigestMode = Local, true })
	sum := []byte("a digest of 32 bytes, or so long")
	info := indexed(t, 9, sum) // three blocks
	size := info.Range.Length
	if f, _ := n.Index(t.Context(), sum, size); f != nil {
		t.Fatal("there is an index before one was made")
	}
	if err := n.PublishIndex(info, sum); err != nil {
		t.Fatal(err)
	}
	f, from := n.Index(t.Context(), sum, size)
	if f == nil || from.IsValid() || !bytes.Equal(f.Append(nil), info.Append(nil)) {
		t.Fatalf("the index is %+v, from %v", f, from)
	}
	if f, _ := n.Index(t.Context(), sum, size-1); f != nil {
		t.Error("it is of a file of another size")
	}

	// A peer gets all of it, and nothing of it is readable on its way.
	index := peerdist.Index(peerdist.DigestSecret(sum))
	s := httptest.NewServer(pccrr.NewServer(shelf{n.Cache(), n}, 64, func(netip.Addr) bool { return true }))
	defer s.Close()
	at := netip.MustParseAddrPort(s.Listener.Addr().String())
	c := pccrr.NewClient(n.log)
	defer c.Close()
	if b, err := c.Whole(t.Context(), at, index, maxIndex); err != nil || !bytes.Equal(b, info.Append(nil)) {
		t.Errorf("%d bytes came, %v", len(b), err)
	}
	if _, err := c.Whole(t.Context(), at, peerdist.Index(peerdist.DigestSecret([]byte("another"))), maxIndex); !errors.Is(err, pccrr.ErrNone) {
		t.Errorf("another index: %v", err)
	}
	if _, err := c.Whole(t.Context(), at, index, 2*peerdist.BlockSize); err == nil {
		t.Error("more comes than may")
	}
	if _, lied := c.Banned(at); !lied {
		t.Error("who sends too much is not banned")
	}

	// Off nobody gets it.
	set := n.Settings()
	off := set
	off.DigestMode = false
	if err := n.Apply(off); err != nil {
		t.Fatal(err)
	}
	if _, err := (shelf{n.Cache(), n}).Held(index.ID()); err == nil {
		t.Error("it is there while the mode is off")
	}
	if f, _ := n.Index(t.Context(), sum, size); f != nil {
		t.Error("it is used while the mode is off")
	}
	if err := n.Apply(set); err != nil {
		t.Fatal(err)
	}

	name := n.indexFile(index.ID())
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(name); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("its file: %v %v", i.Mode(), err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (shelf{n.Cache(), n}).Held(index.ID()); err == nil {
		t.Error("one that has rotted is given to others")
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(name, long, long); err != nil {
		t.Fatal(err)
	}
	if _, err := (shelf{n.Cache(), n}).Held(index.ID()); err == nil {
		t.Error("one that is too old is given to others")
	}
	if err := n.PublishIndex(info, []byte("another")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); !os.IsNotExist(err) {
		t.Error("one that is too old stays")
	}
	for i := range maxIndexes/len(b) + 10 {
		if err := n.PublishIndex(info, []byte{byte(i), byte(i >> 8)}); err != nil {
			t.Fatal(err)
		}
	}
	var used int64
	all, err := filepath.Glob(filepath.Join(n.indexDir(), "*"))
	for _, name := range all {
		if i, err := os.Stat(name); err == nil {
			used += i.Size()
		}
	}
	if err != nil || used > maxIndexes || used < maxIndexes/2 {
		t.Errorf("%d indexes have %d bytes, %v", len(all), used, err)
	}
	if err := n.Clear(); err != nil {
		t.Fatal(err)
	}
	if all, _ := filepath.Glob(filepath.Join(n.indexDir(), "*")); len(all) > 0 {
		t.Errorf("%d are there after all was cleared", len(all))
	}
}

// TestIndexesOfOthers that are none of the file are refused, and who gave them is banned.
func TestIndexesOfOthers(t *testing.T) {
	sum := []byte("a digest")
	good := indexed(t, 1, sum)
	for name, body := range map[string][]byte{
		"nothing to be read":  []byte("no content information"),
		"of another secret":   indexed(t, 1, []byte("another")).Append(nil),
		"of another size":     indexed(t, 2, sum).Append(nil),
		"with more behind it": append(good.Append(nil), "more"...),
	} {
		t.Run(name, func(t *testing.T) {
			index := peerdist.Index(peerdist.DigestSecret(sum))
			s := httptest.NewServer(pccrr.NewServer(one{index, body}, 64, func(netip.Addr) bool { return true }))
			defer s.Close()
			at := netip.MustParseAddrPort(s.Listener.Addr().String())
			n := opened(t, func(s *Settings) {
				s.Mode, s.DigestMode, s.HostedCaches, s.Uploads = Hosted, true, []string{at.String()}, 0
			})
			for end := time.Now().Add(patience); ; { // a busy machine may be slower than a peer may be
				f, _ := n.Index(context.Background(), sum, good.Range.Length)
				if f != nil {
					t.Fatal("it is taken")
				}
				if _, lied := n.client.Banned(at); lied {
					break
				}
				if time.Now().After(end) {
					t.Fatal("who gave it is not banned")
				}
				n.known.clear()
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// one is a store of one segment.
type one struct {
	segment *peerdist.Segment
	body    []byte
}

func (o one) Held(id []byte) (cache.Bitmap, error) {
	if !bytes.Equal(id, o.segment.ID()) {
		return cache.Bitmap{}, cache.ErrNotHeld
	}
	return cache.Bitmap{1}, nil
}

func (o one) Read(_ []byte, i int, _ []byte) (cache.Block, error) {
	if i > 0 {
		return cache.Block{}, cache.ErrNotHeld
	}
	return cache.Block{Data: bytes.Clone(o.body), Secret: o.segment.Secret}, nil
}
