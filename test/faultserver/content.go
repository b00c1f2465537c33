package faultserver

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/bits"
	"math/rand/v2"
	"sync"
)

// blockSize is the length of the pattern that every content is made from. A megabyte stays in
// the processor's cache, so making content costs less than sending it.
const blockSize = 1 << 20

// pattern is one block of random bytes, the same in every run and on every machine.
var pattern = sync.OnceValue(func() []byte {
	block := make([]byte, blockSize)
	_, _ = rand.NewChaCha8([32]byte([]byte("ebb fault server content pattern"))).Read(block) // cannot fail
	return block
})

// Content returns size bytes that depend on nothing but the seed and their offset. Each block of
// the pattern is XORed with a word made of the seed and the block's number, so a block that was
// moved, repeated or taken from another version changes the digest. Safe for concurrent use.
func Content(seed uint64, size int64) io.ReaderAt {
	return content{seed: seed, size: size}
}

type content struct {
	seed uint64
	size int64
}

// ReadAt implements io.ReaderAt.
func (c content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= c.size {
		return 0, io.EOF
	}
	var err error
	if left := c.size - off; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		within := int(at % blockSize)
		n := min(len(p)-done, blockSize-within)
		// Byte i of the word belongs to offsets that are i modulo 8.
		word := bits.RotateLeft64(mix(c.seed, uint64(at/blockSize)), -8*(within%8))
		xor(p[done:done+n], pattern()[within:within+n], word)
		done += n
	}
	return len(p), err
}

// xor writes src, XORed with the repeated bytes of word, to dst of the same length.
func xor(dst, src []byte, word uint64) {
	n := len(dst) &^ 7
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(dst[i:], binary.LittleEndian.Uint64(src[i:])^word)
	}
	for i := n; i < len(dst); i++ {
		dst[i] = src[i] ^ byte(word>>(8*(i-n)))
	}
}

// mix is the finalizer of splitmix64: neighbouring seeds and blocks give unrelated words.
func mix(seed, block uint64) uint64 {
	z := seed*0x9e3779b97f4a7c15 + block*0xd1b54a32d192ed03 + 0x632be59bd9b4e019
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// SHA256 returns the digest of Content(seed, size) in lower-case hexadecimal.
func SHA256(seed uint64, size int64) string {
	h := sha256.New()
	buf := make([]byte, 256<<10)
	src := Content(seed, size)
	for off := int64(0); off < size; {
		n, _ := src.ReadAt(buf, off) // io.EOF says only that this piece is the last
		h.Write(buf[:n])
		off += int64(n)
	}
	return hex.EncodeToString(h.Sum(nil))
}
