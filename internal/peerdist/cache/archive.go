package cache

import (
	"archive/tar"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// An archive is a tar file. It begins with an entry that names the format; then come the segments, each as
// its content information, ID/info, and its blocks, ID/0 to ID/511, those that are here. Content information
// has the segment's secret: who has the archive has the contents and can get them from peers.
const (
	formatName = "ebb-peer-cache"
	formatText = "1\n"
	infoName   = "info"
)

// Copied is what was written into an archive, or read from one.
type Copied struct {
	Segments int
	Blocks   int
	Bytes    int64 // of blocks
	Damaged  int   // entries of an archive that are not what they say, and were left out
}

// Export writes segments into an archive: those of the given ids, or all.
func (c *Cache) Export(ctx context.Context, to io.Writer, ids [][]byte) (Copied, error) {
	var done Copied
	w := tar.NewWriter(to)
	if err := writeEntry(w, formatName, time.Now(), []byte(formatText)); err != nil {
		return done, err
	}
	var space []byte
	one := func(id []byte) error {
		var err error
		space, err = c.export(ctx, w, id, space, &done)
		return err
	}
	for _, id := range ids {
		if err := one(id); err != nil {
			return done, err
		}
	}
	if ids == nil {
		err := c.each(func(id []byte, suffix string) error {
			if suffix != meta {
				return nil
			}
			return one(id)
		})
		if err != nil {
			return done, err
		}
	}
	return done, w.Close()
}

// export writes one segment. One that is not here any more is left out, and so are blocks that have rotted.
func (c *Cache) export(ctx context.Context, w *tar.Writer, id, space []byte, done *Copied) ([]byte, error) {
	r, err := c.load(id)
	if err != nil || r.held == (Bitmap{}) {
		return space, nil
	}
	name := hex.EncodeToString(id) + "/"
	if err := writeEntry(w, name+infoName, r.created, alone(&r.segment)); err != nil {
		return space, err
	}
	done.Segments++
	for i := range r.segment.Blocks() {
		if err := ctx.Err(); err != nil {
			return space, err
		}
		if !r.held.Has(i) {
			continue
		}
		b, err := c.Read(id, i, space)
		if err != nil {
			continue
		}
		space = b.Data
		if err := writeEntry(w, name+strconv.Itoa(i), r.created, b.Data); err != nil {
			return space, err
		}
		done.Blocks++
		done.Bytes += int64(len(b.Data))
	}
	return space, nil
}

func writeEntry(w *tar.Writer, name string, t time.Time, data []byte) error {
	h := tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: t.Truncate(time.Second)}
	if err := w.WriteHeader(&h); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// ErrFormat says that something is no archive of a cache.
var ErrFormat = errors.New("this is not an export of a cache of peers")

// Import puts the segments of an archive here. Whoever made it, nothing comes in that does not have its
// hash, and nothing but blocks under their segments' ids is written. It returns ErrFormat, ErrFull when the
// archive has more than the cache may have, and errors of the disk; what came before stays.
func (c *Cache) Import(ctx context.Context, from io.Reader) (Copied, error) {
	var done Copied
	r := tar.NewReader(from)
	h, err := r.Next()
	if err != nil || h.Name != formatName || h.Size != int64(len(formatText)) {
		return done, ErrFormat
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != formatText {
		return done, fmt.Errorf("%w of a version that is known", ErrFormat)
	}
	in := importing{cache: c, done: &done}
	limit := c.Limit()
	for {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return done, nil
		}
		if err != nil {
			return done, fmt.Errorf("read the archive: %w", err)
		}
		if err := in.entry(h, r); err != nil {
			return done, err
		}
		if done.Bytes > limit {
			return done, ErrFull
		}
	}
}

// importing is the reading of an archive.
type importing struct {
	cache   *Cache
	done    *Copied
	id      string            // of the segment whose blocks come, in hexadecimal
	segment *peerdist.Segment // nil if its description was no good
	space   []byte
}

// entry takes in one entry.
func (in *importing) entry(h *tar.Header, r io.Reader) error {
	id, part, ok := strings.Cut(h.Name, "/")
	most := int64(peerdist.MaxSegment2) // a block of any version
	if part == infoName {
		most = maxMeta
	}
	if !ok || h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > most {
		return fmt.Errorf("%w: it has an entry %.100q of %d bytes", ErrFormat, h.Name, h.Size)
	}
	if int64(cap(in.space)) < h.Size {
		in.space = make([]byte, most)
	}
	data := in.space[:h.Size]
	if _, err := io.ReadFull(r, data); err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	if part == infoName {
		in.describe(id, data)
		return nil
	}
	i, err := strconv.Atoi(part)
	if err != nil || id != in.id {
		return fmt.Errorf("%w: it has an entry %.100q", ErrFormat, h.Name)
	}
	if in.segment == nil {
		in.done.Damaged++
		return nil
	}
	switch err := in.cache.Put(in.segment, i, data); {
	case errors.Is(err, errWrong) || errors.Is(err, ErrUnproven):
		in.done.Damaged++
	case err != nil:
		return err
	default:
		in.done.Blocks++
		in.done.Bytes += h.Size
	}
	return nil
}

// describe begins a segment.
func (in *importing) describe(id string, data []byte) {
	in.id, in.segment = id, nil
	info, err := peerdist.Decode(append([]byte(nil), data...)) // it keeps parts of it
	if err != nil || len(info.Segments) != 1 || hex.EncodeToString(info.Segments[0].ID()) != id {
		in.done.Damaged++
		return
	}
	in.segment = &info.Segments[0]
	in.done.Segments++
}

// ErrAmbiguous says that several segments begin so.
var ErrAmbiguous = errors.New("several segments of the cache have an id that begins so")

// leastPrefix is how many digits of an id are needed at least.
const leastPrefix = 4

// Find returns the id of the segment whose id, in hexadecimal, begins with prefix: ErrNotHeld if there is
// none, ErrAmbiguous if there are several.
func (c *Cache) Find(prefix string) ([]byte, error) {
	prefix = strings.ToLower(prefix)
	if len(prefix) < leastPrefix || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil, ErrNotHeld
	}
	files, err := os.ReadDir(filepath.Join(c.root, "seg", prefix[:2]))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var found []byte
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), meta)
		if !ok || !strings.HasPrefix(name, prefix) {
			continue
		}
		id, err := hex.DecodeString(name)
		if err != nil {
			continue
		}
		if r, err := c.load(id); err != nil || r.held == (Bitmap{}) {
			continue
		}
		if found != nil {
			return nil, ErrAmbiguous
		}
		found = id
	}
	if found == nil {
		return nil, ErrNotHeld
	}
	return found, nil
}

// Count returns how many segments are here, roughly: some may be too old.
func (c *Cache) Count() (int, error) {
	n := 0
	err := c.each(func(_ []byte, suffix string) error {
		if suffix == meta {
			n++
		}
		return nil
	})
	return n, err
}

// alone is content information of a segment by itself.
func alone(s *peerdist.Segment) []byte {
	info := peerdist.Info{Range: bits.Range{Offset: s.Offset, Length: int64(s.Length)}, Segments: []peerdist.Segment{*s}}
	return info.Append(nil)
}
