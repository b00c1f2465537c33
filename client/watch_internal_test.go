package client

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ebbtransfer/ebb/bits"
)

func TestReadEvents(t *testing.T) {
	const stream = ": hello\n\nid: 7\nevent: state\ndata: {\"seq\":7,\"state\":\"QUEUED\"}\n\ndata:{\"seq\":8,\"state\":\"ERROR\"}\r\n\r\n"
	var got []uint64
	more, err := readEvents(strings.NewReader(stream), func(e bits.Event) bool { got = append(got, e.Seq); return true })
	if !more || err != nil || len(got) != 2 || got[0] != 7 || got[1] != 8 {
		t.Errorf("got %v, %v, %v", got, more, err)
	}
}

func TestReadEventsStops(t *testing.T) {
	const stream = "data: {\"seq\":1,\"state\":\"QUEUED\"}\n\ndata: {\"seq\":2,\"state\":\"QUEUED\"}\n\n"
	n := 0
	if more, err := readEvents(strings.NewReader(stream), func(bits.Event) bool { n++; return false }); more || err != nil || n != 1 {
		t.Errorf("after the loop broke: %v, %v, %d events", more, err, n)
	}
	broken := io.MultiReader(strings.NewReader("data: {\"se"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if more, err := readEvents(broken, func(bits.Event) bool { return true }); !more || err == nil {
		t.Errorf("a stream that broke off: %v, %v; want to go on with an error", more, err)
	}
	if more, err := readEvents(strings.NewReader("data: "+strings.Repeat("x", 2*maxEvent)), func(bits.Event) bool { return true }); !more || err == nil {
		t.Errorf("a line without an end: %v, %v; want an error", more, err)
	}
}

// FuzzReadEvents checks that no stream makes the reader fail otherwise than with an error, and
// that what it yields can be written and read again.
func FuzzReadEvents(f *testing.F) {
	f.Add([]byte("data: {\"seq\":7,\"kind\":\"progress\",\"state\":\"QUEUED\",\"progress\":{\"bytes_total\":null}}\n\n"))
	f.Add([]byte(":\n\ndata:\ndata: null\n"))
	f.Add([]byte("data: {\"job\":\"6af46e48-41d3-453f-b7af-a694bbc823f7\",\"file\":{\"bytes_total\":-1}}"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		n := 0
		more, _ := readEvents(bytes.NewReader(stream), func(e bits.Event) bool {
			n++
			b, err := json.Marshal(e)
			if err != nil && strings.Contains(err.Error(), "year outside of range") {
				return true
			}
			var again bits.Event
			if err == nil {
				err = json.Unmarshal(b, &again)
			}
			if err != nil {
				t.Errorf("%q: %v", stream, err)
			}
			return true
		})
		if !more || n > bytes.Count(stream, []byte("data:")) {
			t.Errorf("%q: %d events, more %v", stream, n, more)
		}
	})
}
