package peers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
)

const (
	// maxIndex and maxIndexes bound content information of files that are known by their digests, in bytes: of one,
	// which is enough for 4 GiB, and of all.
	maxIndex   = 4 << 20
	maxIndexes = 64 << 20
	// indexTime is for the question who has such content information, and for its transfer.
	indexTime = 10 * time.Second
	// askedForIndex is how many machines are asked for it.
	askedForIndex = 3
)

// Index looks for content information of a file of which a digest and the size are known (section 20.5): here, then
// with peers. Nothing proves it until all of the file is here; who gave it is to be told to Lied if it is wrong then.
// The address is not valid if it was here. There is nil if there is none.
func (n *Node) Index(ctx context.Context, sum []byte, size int64) (*peerdist.Info, netip.AddrPort) {
	n.mu.RLock()
	client, s := n.client, n.settings
	n.mu.RUnlock()
	if client == nil || !s.DigestMode {
		return nil, netip.AddrPort{}
	}
	secret := peerdist.DigestSecret(sum)
	index := peerdist.Index(secret)
	read := func(b []byte) (*peerdist.Info, error) {
		f, err := peerdist.Decode(b)
		if err == nil {
			err = f.OfDigest(secret, size)
		}
		return f, err
	}
	if _, b, err := n.readIndex(index.ID()); err == nil {
		if f, err := read(b); err == nil {
			return f, netip.AddrPort{}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, indexTime)
	defer cancel()
	who := n.Find(ctx, []*peerdist.Segment{index})[0]
	for _, peer := range who[:min(len(who), askedForIndex)] {
		b, err := client.Whole(ctx, peer, index, maxIndex)
		if err != nil {
			continue
		}
		f, err := read(b)
		if err == nil {
			return f, peer
		}
		client.Lied(peer, fmt.Errorf("an index that is none of the file: %w", err))
	}
	return nil, netip.AddrPort{}
}

// Lied says that what a peer gave has turned out to be wrong.
func (n *Node) Lied(peer netip.AddrPort, why error) {
	n.mu.RLock()
	client := n.client
	n.mu.RUnlock()
	if client != nil && peer.IsValid() {
		client.Lied(peer, why)
	}
}

// Publish gives a file that has a digest to others who know that: its blocks, and content information of them. Files of
// more than 4 GiB are left out. It reads all of the file.
func (n *Node) Publish(ctx context.Context, f *os.File, size int64, sum []byte) error {
	c := n.Cache()
	if c == nil || size < 1 || size/peerdist.BlockSize*sha256.Size > maxIndex {
		return nil
	}
	h, err := peerdist.Generate(ctx, io.NewSectionReader(f, 0, size), peerdist.SHA256)
	if err != nil {
		return err
	}
	info, err := h.Info(peerdist.SHA256.ServerKey(peerdist.DigestSecret(sum)), bits.Range{Length: size})
	if err != nil {
		return err
	}
	for i := range info.Segments {
		if err := errors.Join(ctx.Err(), c.PutFile(&info.Segments[i], f)); err != nil {
			return err
		}
	}
	return n.PublishIndex(info, sum)
}

// PublishIndex gives content information of a file to others who know its digest. Its blocks are in the cache.
func (n *Node) PublishIndex(info *peerdist.Info, sum []byte) error {
	index := peerdist.Index(peerdist.DigestSecret(sum))
	body := info.Append(nil)
	if n.Cache() == nil || len(body) > maxIndex {
		return nil
	}
	if err := os.MkdirAll(n.indexDir(), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(n.indexDir(), "new*")
	if err != nil {
		return err
	}
	b := append(slices.Clone([]byte(index.Secret)), body...)
	check := sha256.Sum256(b)
	_, err = tmp.Write(append(check[:], b...))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), n.indexFile(index.ID()))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return n.cleanIndexes()
}

func (n *Node) indexDir() string { return filepath.Join(n.dir, "idx") }
func (n *Node) indexFile(id []byte) string {
	return filepath.Join(n.indexDir(), hex.EncodeToString(id))
}

// errNoIndex says that there is no index with an id, or one that is of no use.
var errNoIndex = errors.New("there is no such index")

// readIndex returns the key and the content of an index.
func (n *Node) readIndex(id []byte) (peerdist.Secret, []byte, error) {
	if len(id) != sha256.Size {
		return nil, nil, errNoIndex
	}
	i, err := os.Lstat(n.indexFile(id))
	if err != nil || !i.Mode().IsRegular() || i.Size() <= 2*sha256.Size || i.Size() > maxIndex+2*sha256.Size || time.Since(i.ModTime()) > n.Settings().Limits.MaxAge {
		return nil, nil, errNoIndex
	}
	b, err := os.ReadFile(n.indexFile(id))
	if err != nil || len(b) <= 2*sha256.Size || sha256.Sum256(b[sha256.Size:]) != [sha256.Size]byte(b) {
		return nil, nil, errNoIndex // it was written at this moment, or has rotted
	}
	return peerdist.Secret(b[sha256.Size : 2*sha256.Size]), b[2*sha256.Size:], nil
}

// cleanIndexes removes those that are too old, and the oldest if there are too many.
func (n *Node) cleanIndexes() error {
	entries, err := os.ReadDir(n.indexDir())
	if err != nil {
		return err
	}
	var all []fs.FileInfo
	for _, e := range entries {
		if i, err := e.Info(); err == nil {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	used, old := int64(0), n.Settings().Limits.MaxAge
	for _, i := range all {
		if used += i.Size(); used > maxIndexes || time.Since(i.ModTime()) > old {
			err = errors.Join(err, os.Remove(filepath.Join(n.indexDir(), i.Name())))
		}
	}
	return err
}

// shelf is what is served to peers: the cache and, in the digest mode, indexes.
type shelf struct {
	*cache.Cache
	n *Node
}

var _ pccrr.Store = shelf{}

// Held implements pccrr.Store.
func (s shelf) Held(id []byte) (cache.Bitmap, error) {
	held, err := s.Cache.Held(id)
	if err == nil || !s.n.Settings().DigestMode {
		return held, err
	}
	_, b, ierr := s.n.readIndex(id)
	if ierr != nil {
		return held, err
	}
	for i := range indexBlocks(b) {
		held[i/8] |= 1 << (i % 8)
	}
	return held, nil
}

// Read implements pccrr.Store.
func (s shelf) Read(id []byte, i int, space []byte) (cache.Block, error) {
	block, err := s.Cache.Read(id, i, space)
	if err == nil || !s.n.Settings().DigestMode {
		return block, err
	}
	key, b, ierr := s.n.readIndex(id)
	if ierr != nil || i < 0 || i >= indexBlocks(b) {
		return block, err
	}
	block = cache.Block{Data: append(space[:0], b[i*peerdist.BlockSize:min((i+1)*peerdist.BlockSize, len(b))]...), Secret: key}
	if i+1 < indexBlocks(b) {
		block.Next = i + 1
	}
	return block, nil
}

func indexBlocks(b []byte) int { return (len(b) + peerdist.BlockSize - 1) / peerdist.BlockSize }
