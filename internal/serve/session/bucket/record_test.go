package bucket

import (
	"bytes"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

func FuzzParseRecord(f *testing.F) {
	const id = "0123456789abcdef0123456789abcdef"
	r := record{Info: session.Info{ID: id, Spec: session.Spec{Target: "a/b", Size: -1, Limit: -1}, Offset: 7, Created: time.Unix(1, 0)},
		Upload: "u", Parts: []part{{Size: 4, ETag: "e"}}, Pieces: []part{{Size: 3, Key: "k"}}}
	f.Add(r.encode())
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b, id)
		if err != nil {
			return
		}
		if r.ID != id || r.Offset < 0 || !r.Published && sum(r.Parts)+sum(r.Pieces) != r.Offset {
			t.Errorf("read %+v", r)
		}
		again, err := parseRecord(r.encode(), id)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if !bytes.Equal(r.encode(), again.encode()) {
			t.Errorf("read %s, then %s", r.encode(), again.encode())
		}
	})
}
