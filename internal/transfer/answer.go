package transfer

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/ebbtransfer/ebb/internal/store"
)

// answer is the last answer about a file, for its owner (BITS's HTTP_RESPONSE_HEADERS): also of one
// that is an error, which may say what to do.
type answer struct {
	live   *liveFile
	before string // what the record had when the file began to move
}

func (a *answer) begin(f *store.File, live *liveFile) {
	a.live = live
	if f.Part != nil {
		a.before = f.Part.Headers
	}
}

// came notes an answer.
func (a *answer) came(resp *http.Response) { a.live.answer.Store(new(headerText(resp))) }

// text returns what a record of the file says of it.
func (a *answer) text() string {
	if text := a.live.answer.Load(); text != nil {
		return *text
	}
	return a.before
}

// keep puts the answer into the record of a file that moves no more, and reports whether it was not
// in it.
func (a *answer) keep(f *store.File) bool {
	text := a.text()
	if f.State != store.FilePending || text == "" || f.Part != nil && f.Part.Headers == text {
		return false
	}
	var part store.Part
	if f.Part != nil {
		part = *f.Part
	}
	part.Headers = text
	f.Part = &part
	return true
}

const (
	maxHeaderText = 4 << 10 // bounds what is kept of an answer's header: a done file of a job keeps it in memory
	leftOut       = "Ebb-Left-Out"
)

// headerText is the status line and the header of an answer as the job's owner may see them. Cookies are
// left out: they would be kept as they are on the disk. What does not fit is counted in the last line.
func headerText(resp *http.Response) string {
	names := make([]string, 0, 32)
	for name := range resp.Header {
		if name != "Set-Cookie" && name != "Set-Cookie2" && name != leftOut {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	line := func(b []byte, parts ...string) []byte {
		for _, p := range parts {
			b = append(b, p...)
		}
		return append(b, "\r\n"...)
	}
	b := line(make([]byte, 0, 1024), resp.Proto, " ", resp.Status[:min(len(resp.Status), 256)])
	out := 0
	for _, name := range names {
		for _, v := range resp.Header[name] {
			if len(b)+len(name)+len(v)+4 > maxHeaderText {
				out++
				continue
			}
			b = line(b, name, ": ", v)
		}
	}
	if out > 0 {
		b = line(b, leftOut, ": ", strconv.Itoa(out))
	}
	return string(b) // of the length that it has: done files keep theirs
}
