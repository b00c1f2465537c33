package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"syscall"
)

// The journal stands in front of SQLite because a durable SQLite commit costs three to four
// 4 KiB pages and an fsync of a growing file (about 0.45 ms here), an append to a file whose
// blocks are already there and written costs one page and a sync that need not touch the inode
// (about 0.2 ms). docs/decisions/002-journal.md has the figures.
//
// Two segments take turns. A segment is filled from its start; when it is full the other one
// is used, provided SQLite has all that the other holds. Records carry the generation of
// their segment's filling, so that what an earlier filling left behind is not taken for new.
//
// A record: length of the payload (4), CRC-32C of the rest (4), generation (8), sequence
// number (8), payload; little-endian; records start at multiples of 8.

const (
	segmentSize  = 8 << 20
	recordHeader = 24
)

var (
	errJournalFull    = errors.New("the journal is full")
	errRecordTooLarge = errors.New("the change is larger than the journal")
	castagnoli        = crc32.MakeTable(crc32.Castagnoli)
)

func journalName(i int) string { return fmt.Sprintf("journal-%d", i) }

type journal struct {
	mu       sync.Mutex // guards all below
	segments [2]segment
	current  int
	gen      uint64
	seq      uint64
	buf      []byte
	broken   error // a sync failed: what is on the disk is unknown from here on
}

type segment struct {
	f    *os.File
	used int64  // bytes
	last uint64 // sequence number of the last record; 0 if free
}

type record struct {
	seq     uint64
	payload []byte
}

// openJournal opens the segments, making them if need be, and returns the records after
// applied, in order. The journal starts empty: the caller puts the records into SQLite first.
func openJournal(dir string, applied uint64) (*journal, []record, error) {
	j := &journal{seq: applied}
	var found []record
	for i := range j.segments {
		f, err := openSegment(filepath.Join(dir, journalName(i)))
		if err != nil {
			j.close()
			return nil, nil, err
		}
		j.segments[i].f = f
		gen, records, err := readSegment(f)
		if err != nil {
			j.close()
			return nil, nil, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		j.gen = max(j.gen, gen)
		for _, r := range records {
			if r.seq > applied {
				found = append(found, r)
				j.seq = max(j.seq, r.seq)
			}
		}
	}
	sort.Slice(found, func(a, b int) bool { return found[a].seq < found[b].seq })
	for i, r := range found { // a gap means that an older record was lost: nothing after it is safe to apply
		if r.seq != applied+uint64(i)+1 {
			j.close()
			return nil, nil, fmt.Errorf("%w: the journal lacks record %d", ErrUnusable, applied+uint64(i)+1)
		}
	}
	j.gen++
	if len(found) > 0 {
		// Nothing may be written over the records until SQLite has them: both segments count
		// as full until the caller's flush releases them.
		for i := range j.segments {
			j.segments[i].last = j.seq
			j.segments[i].used = segmentSize
		}
	}
	return j, found, nil
}

// openSegment opens a segment file and gives it its full size in written zeros, which keeps
// later appends from changing the file's metadata.
func openSegment(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|durable, 0o600)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size() < segmentSize {
		_, err = f.WriteAt(make([]byte, segmentSize-st.Size()), st.Size())
		if err == nil {
			err = f.Sync() // the size
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readSegment returns the valid records at the start of a segment, up to the first that is
// torn, stale or absent.
func readSegment(f io.ReaderAt) (gen uint64, records []record, err error) {
	return parseSegment(bufio.NewReader(io.NewSectionReader(f, 0, segmentSize)))
}

func parseSegment(r io.Reader) (gen uint64, records []record, err error) {
	var head [recordHeader]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return gen, records, ignoreEOF(err)
		}
		n := binary.LittleEndian.Uint32(head[:])
		sum := binary.LittleEndian.Uint32(head[4:])
		g := binary.LittleEndian.Uint64(head[8:])
		seq := binary.LittleEndian.Uint64(head[16:])
		if n == 0 || n > segmentSize-recordHeader {
			return gen, records, nil
		}
		if len(records) > 0 && (g != gen || seq <= records[len(records)-1].seq) {
			return gen, records, nil
		}
		data := make([]byte, align8(recordHeader+int(n))-recordHeader)
		if _, err := io.ReadFull(r, data); err != nil {
			return gen, records, ignoreEOF(err)
		}
		data = data[:n]
		if crc32.Update(crc32.Checksum(head[8:], castagnoli), castagnoli, data) != sum {
			return gen, records, nil
		}
		gen = g
		records = append(records, record{seq, data})
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func align8(n int) int { return (n + 7) &^ 7 }

// append writes one record and makes it durable.
func (j *journal) append(payload []byte) (seq uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return 0, j.broken
	}
	size := int64(align8(recordHeader + len(payload)))
	if size > segmentSize {
		return 0, errRecordTooLarge
	}
	s := &j.segments[j.current]
	if s.used+size > segmentSize {
		next := &j.segments[1-j.current]
		if next.last != 0 {
			return 0, errJournalFull
		}
		j.current, s = 1-j.current, next
		s.used = 0
		j.gen++
	}
	seq = j.seq + 1
	if int64(cap(j.buf)) < size {
		j.buf = make([]byte, size)
	}
	b := j.buf[:size]
	clear(b[recordHeader+copy(b[recordHeader:], payload):])
	binary.LittleEndian.PutUint32(b, uint32(len(payload)))
	binary.LittleEndian.PutUint64(b[8:], j.gen)
	binary.LittleEndian.PutUint64(b[16:], seq)
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:recordHeader+len(payload)], castagnoli))
	if cap(j.buf) > 1<<20 {
		j.buf = nil // a rare giant must not stay
	}
	if _, err := s.f.WriteAt(b, s.used); err != nil {
		err = fmt.Errorf("write %s: %w", s.f.Name(), err)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return 0, err // there may be room later: the next record goes to the same place
		}
		j.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		return 0, j.broken
	}
	j.seq = seq
	s.used += size
	s.last = j.seq
	return j.seq, nil
}

// crowded reports whether it is time to put the records into SQLite, so that appends need not
// wait for that.
func (j *journal) crowded() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.segments[j.current].used > segmentSize/2 || j.segments[1-j.current].last != 0
}

// next returns the number that the next record will have.
func (j *journal) next() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq + 1
}

// skip says that a change with the next number is in SQLite without having been a record.
func (j *journal) skip(seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq = seq
}

// release frees the segments whose records are all at or below seq.
func (j *journal) release(seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.segments {
		s := &j.segments[i]
		if s.last != 0 && s.last <= seq {
			s.last = 0
			if i != j.current {
				s.used = 0
			} else if s.used > segmentSize/2 {
				s.used = segmentSize // the next append turns to the other segment
			}
		}
	}
}

func (j *journal) close() error {
	var errs []error
	for i := range j.segments {
		if j.segments[i].f != nil {
			errs = append(errs, j.segments[i].f.Close())
		}
	}
	return errors.Join(errs...)
}
