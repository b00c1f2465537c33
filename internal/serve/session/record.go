package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"
)

// record is what is kept of a session on disk: lines of a checksum and a JSON object each, of which
// the first has everything and each later one what has changed. A line counts only with all before
// it, so that one which a power loss cut short ends the record. The rest of the file up to its size is
// empty lines, since to overwrite them takes one write of one block and no work of the file system.
type record struct {
	Info
	// Boot is the boot id while everything in the data file belongs to the upload, so that after
	// kill -9 in the same boot the file's size tells the offset.
	Boot string `json:"boot"`
	// File is the data file, to know it again after it was renamed.
	File fileID `json:"file"`
	// Publishing says that the data file was going to be renamed: if it is gone, it was.
	Publishing bool `json:"publishing"`
}

// fileID identifies a file on its disk whatever its name; zero where a file cannot be known again.
type fileID struct {
	Inode uint64 `json:"inode"`
	// Born is when it was created, in ns: inodes are used again. 0 where file systems do not say.
	Born int64 `json:"born"`
}

// change is a line after the first. What is nil or missing stays as it was.
type change struct {
	Size       *int64          `json:"size,omitempty"`
	Offset     *int64          `json:"offset,omitempty"`
	Touched    time.Time       `json:"touched,omitzero"`
	State      json.RawMessage `json:"state,omitempty"`
	Boot       *string         `json:"boot,omitempty"`
	Publishing *bool           `json:"publishing,omitempty"`
	Published  *bool           `json:"published,omitempty"`
}

const (
	// recordBlock is what the size of a record file is a multiple of.
	recordBlock = 4096
	// maxRecord is the largest that is read. Front ends limit metadata and state far below it.
	maxRecord = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errLost means that what is left of a session is not enough to go on with it.
var errLost = errors.New("the upload session is damaged")

// appendLine adds v as a line to b.
func appendLine(b []byte, v any) []byte {
	j, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("record of an upload session: %v", err)) // only for what cannot be JSON
	}
	b = fmt.Appendf(b, "%08x ", crc32.Checksum(j, castagnoli))
	b = append(b, j...)
	return append(b, '\n')
}

// pad fills b with empty lines to a whole number of blocks, with room for some changes.
func pad(b []byte) []byte {
	n := (len(b) + recordBlock/2 + recordBlock - 1) / recordBlock * recordBlock
	return append(b, bytes.Repeat([]byte{'\n'}, n-len(b))...)
}

// parseRecord reads a record and returns the length of the lines that count.
func parseRecord(b []byte) (r record, n int, err error) {
	for n < len(b) {
		line, _, whole := bytes.Cut(b[n:], []byte{'\n'})
		if !whole || len(line) < 9 || line[8] != ' ' {
			break
		}
		sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
		if err != nil || uint32(sum) != crc32.Checksum(line[9:], castagnoli) {
			break
		}
		next := r
		if json.Unmarshal(line[9:], &next) != nil || !next.sane() {
			break
		}
		r = next
		n += len(line) + 1
	}
	if n == 0 {
		return record{}, 0, fmt.Errorf("%w: its record is none", errLost)
	}
	return r, n, nil
}

// sane says whether a record can be one of ours; a checksum keeps out damage, not malice.
func (r *record) sane() bool {
	return ValidID(r.ID) && r.Size >= -1 && r.Limit >= -1 && r.Offset >= 0 &&
		(r.Size < 0 || r.Offset <= r.Size) && (r.Target == "" || CheckTarget(r.Target) == nil)
}
