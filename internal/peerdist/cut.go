package peerdist

import (
	"crypto/sha256"
	"encoding/binary"
)

// CutVersion tells how files are cut into segments of version 2. What was cut in another way has other
// public ids, so all that peers have is lost when it changes: it may only change for a strong reason,
// and hashes that are kept must be kept together with it (section 4).
const CutVersion = 1

const (
	minCut  = 32 << 10 // bytes of a segment but the last of a file
	cutBits = 15       // a cut follows on average 2^15 bytes after the shortest length
	window  = 64       // bytes that the rolling hash covers
)

// gear has a random number for each byte.
var gear = func() (g [256]uint64) {
	for i := range g {
		h := sha256.Sum256([]byte{'e', 'b', 'b', ' ', 'g', 'e', 'a', 'r', ' ', '1', byte(i)})
		g[i] = binary.BigEndian.Uint64(h[:])
	}
	return g
}()

// cut returns how many bytes of data are the next segment of version 2. The end of data is taken for
// the end of the file if it is shorter than MaxSegment2. Cuts depend on the bytes shortly before them
// alone, so that equal parts of different files become equal segments.
func cut(data []byte) int {
	if len(data) <= minCut {
		return len(data)
	}
	data = data[:min(len(data), MaxSegment2)]
	var h uint64
	for _, c := range data[minCut-window : minCut] {
		h = h<<1 + gear[c]
	}
	for i, c := range data[minCut:] {
		// The high bits depend on the whole window.
		if h>>(64-cutBits) == 0 {
			return minCut + i
		}
		h = h<<1 + gear[c]
	}
	return len(data)
}
