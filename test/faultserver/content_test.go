package faultserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"testing"
)

func TestContentIsTheSameAtWhateverOffsetItIsRead(t *testing.T) {
	const size = 2*blockSize + 12345
	src := Content(7, size)
	whole, err := io.ReadAll(io.NewSectionReader(src, 0, size))
	if err != nil || len(whole) != size {
		t.Fatalf("read %d bytes, %v; want %d", len(whole), err, size)
	}
	for _, off := range []int64{0, 1, 7, 8, 13, blockSize - 3, blockSize, 2*blockSize - 1, size - 1} {
		for _, n := range []int{1, 5, 8, 17, 4096, blockSize + 9} {
			buf := make([]byte, n)
			got, err := src.ReadAt(buf, off)
			want := whole[off:min(off+int64(n), size)]
			if !bytes.Equal(buf[:got], want) {
				t.Errorf("%d bytes at %d differ from the whole", n, off)
			}
			if short := got < n; short != (err == io.EOF) {
				t.Errorf("%d of %d bytes at %d: error %v", got, n, off, err)
			}
		}
	}
	sum := sha256.Sum256(whole)
	if got, want := SHA256(7, size), hex.EncodeToString(sum[:]); got != want {
		t.Errorf("SHA256 = %s, want %s", got, want)
	}
}

func TestContentDiffersBySeedAndBlock(t *testing.T) {
	seen := map[string]bool{}
	for _, seed := range []uint64{0, 1, 2, 1 << 40} {
		for block := range int64(4) {
			buf := make([]byte, 64)
			if _, err := Content(seed, 4*blockSize).ReadAt(buf, block*blockSize); err != nil {
				t.Fatal(err)
			}
			if seen[string(buf)] {
				t.Errorf("seed %d block %d begins like another", seed, block)
			}
			seen[string(buf)] = true
		}
	}
}

func TestContentOutsideTheFile(t *testing.T) {
	for _, off := range []int64{-1, 10, 11} {
		if n, err := Content(1, 10).ReadAt(make([]byte, 1), off); n != 0 || err != io.EOF {
			t.Errorf("ReadAt(%d) = %d, %v; want 0, EOF", off, n, err)
		}
	}
	if got, want := SHA256(1, 0), hex.EncodeToString(sha256.New().Sum(nil)); got != want {
		t.Errorf("SHA256 of nothing = %s, want %s", got, want)
	}
}

func BenchmarkContent(b *testing.B) {
	src := Content(1, 1<<40)
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	for i := range b.N {
		if _, err := src.ReadAt(buf, int64(i)*int64(len(buf))); err != nil {
			b.Fatal(err)
		}
	}
}
