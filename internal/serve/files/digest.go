package files

import (
	"container/list"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Digests computes the digests of whole files for Repr-Digest (RFC 9530) and remembers them.
type Digests struct {
	slots chan struct{} // one for each file that may be read at once

	mu    sync.Mutex // guards what follows
	known map[digestKey]*list.Element
	order *list.List // of digests, the last used first
}

type digestKey struct {
	stamp
	algorithm string
}

type digest struct {
	key digestKey
	sum string // as in the header
}

// mostDigests is how many digests are remembered: less than a MiB of memory.
const mostDigests = 4096

// NewDigests makes an empty memory. A few files are read at once: whoever asks for digests must not
// take the disk from those who ask for bytes.
func NewDigests() *Digests {
	return &Digests{slots: make(chan struct{}, 2), known: map[digestKey]*list.Element{}, order: list.New()}
}

// algorithms are those of RFC 9530 that are not deprecated.
var algorithms = map[string]func() hash.Hash{"sha-256": sha256.New, "sha-512": sha512.New}

// preferred returns the algorithm that Want-Repr-Digest asks for, or "" if it knows none of ours.
// Its preferences go from 0, not at all, to 10.
func preferred(want []string) string {
	best, most := "", 0
	for member := range strings.SplitSeq(strings.Join(want, ","), ",") {
		name, weight, _ := strings.Cut(strings.Trim(member, " \t"), "=")
		weight, _, _ = strings.Cut(weight, ";")
		n, err := strconv.Atoi(weight)
		if algorithms[name] != nil && err == nil && n <= 10 && n > most {
			best, most = name, n
		}
	}
	return best
}

// header returns the value of Repr-Digest for an open file, "" if none that we know is wanted or
// the file changes.
func (d *Digests) header(ctx context.Context, want []string, f *os.File, s stamp) (string, error) {
	algorithm := preferred(want)
	if algorithm == "" {
		return "", nil
	}
	key := digestKey{s, algorithm}
	if sum, ok := d.find(key); ok {
		return sum, nil
	}
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if sum, ok := d.find(key); ok { // somebody else wanted the same
		return sum, nil
	}
	h := algorithms[algorithm]()
	buf := make([]byte, 256<<10)
	for off := int64(0); off < s.size; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.ReadAt(buf, off) // not Read: the answer begins where the file does
		h.Write(buf[:n])
		off += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	if info, err := f.Stat(); err != nil || stampOf(info) != s {
		return "", err
	}
	sum := algorithm + "=:" + base64.StdEncoding.EncodeToString(h.Sum(nil)) + ":"
	d.keep(key, sum)
	return sum, nil
}

func (d *Digests) find(key digestKey) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.known[key]
	if !ok {
		return "", false
	}
	d.order.MoveToFront(e)
	return e.Value.(digest).sum, true
}

func (d *Digests) keep(key digestKey, sum string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[key]; ok { // two were faster than the memory
		return
	}
	d.known[key] = d.order.PushFront(digest{key, sum})
	if d.order.Len() > mostDigests {
		last := d.order.Back()
		d.order.Remove(last)
		delete(d.known, last.Value.(digest).key)
	}
}
