package localfile

import (
	"math/bits"
	"sync"
)

// page is what offsets, lengths and addresses of direct writes are aligned to: the largest logical
// block in use and the smallest page.
const page = 4096

// pool hands out page-aligned blocks and keeps the sum of them small, whatever the number of files.
type pool struct {
	block int // the largest block

	mu     sync.Mutex       // guards the rest
	used   int              // bytes in blocks that are out
	idle   int              // bytes in free
	free   map[int][][]byte // small blocks by size
	mapped int              // bytes in blocks that are out or free, for tests
}

var blocks = &pool{block: maxBlock, free: map[int][][]byte{}}

// steps bound the memory: as long as fewer than used bytes are out, a file gets a block of up to size,
// and beyond the last step one page.
// Four files with blocks of maxBlock fill the first step; a thousand files stay below 32 MiB.
var steps = []struct{ used, size int }{
	{16 << 20, 1 << 30},
	{24 << 20, 256 << 10},
	{28 << 20, 32 << 10},
}

const (
	// keepBlock is the largest block that is kept for the next file: mapping and faulting memory anew
	// costs as much as the write of a small file, and nothing next to that of a large one.
	keepBlock = 64 << 10
	// keepIdle is how much of them is kept in all; the rest is unmapped at once, so that nothing has
	// to wake up later to do so.
	keepIdle = 1 << 20
)

// grant returns the length of block that a file which asks for want bytes gets now.
func (p *pool) grant(want int) int {
	want = min(max((want+page-1)&^(page-1), page), p.block)
	for _, s := range steps {
		if n := min(want, s.size); p.used+class(n) <= s.used {
			return n
		}
	}
	return page
}

// class rounds up to a power of two.
func class(n int) int { return 1 << bits.Len(uint(n-1)) }

// get returns a block of want bytes, rounded up to pages, or a smaller one if many are out.
// It never waits.
func (p *pool) get(want int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.take(p.grant(want))
}

// grows reports whether get would now return a longer block than have.
func (p *pool) grows(have []byte, want int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.grant(want) > len(have)
}

func (p *pool) take(n int) []byte {
	c := class(n)
	p.used += c
	if l := p.free[c]; len(l) > 0 {
		b := l[len(l)-1]
		p.free[c] = l[:len(l)-1]
		p.idle -= c
		return b[:n]
	}
	p.mapped += c
	return mapBlock(c)[:n]
}

// put takes back a block; nil is fine.
func (p *pool) put(b []byte) {
	if b == nil {
		return
	}
	b = b[:cap(b)]
	p.mu.Lock()
	p.used -= len(b)
	keep := len(b) <= keepBlock && p.idle+len(b) <= keepIdle
	if keep {
		p.idle += len(b)
		p.free[len(b)] = append(p.free[len(b)], b)
	} else {
		p.mapped -= len(b)
	}
	p.mu.Unlock()
	if !keep {
		unmapBlock(b)
	}
}
