package session

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sample() record {
	return record{
		Info: Info{ID: strings.Repeat("0a", idLen), Spec: Spec{Protocol: "tus", Target: "a/b", URL: "/x", Principal: "alice", Size: -1, Limit: 10,
			Overwrite: true, Metadata: map[string]string{"k": "v"}}, Created: time.Unix(1, 0).UTC(), Touched: time.Unix(2, 0).UTC()},
		Boot: "b", File: fileID{7, 8},
	}
}

func TestRecordIsReadUpToItsLastWholeLine(t *testing.T) {
	r := sample()
	size, offset, yes := int64(9), int64(4), true
	want := []record{r, r, r, r}
	b := appendLine(nil, &r)
	ends := []int{len(b)}
	for i, c := range []change{{Offset: &offset, Touched: time.Unix(3, 0).UTC()}, {Size: &size, State: json.RawMessage(`{"a":1}`)}, {Publishing: &yes, Published: &yes}} {
		b = appendLine(b, c)
		ends = append(ends, len(b))
		for j := i + 1; j < len(want); j++ {
			switch i {
			case 0:
				want[j].Offset, want[j].Touched = offset, c.Touched
			case 1:
				want[j].Size, want[j].State = size, c.State
			case 2:
				want[j].Publishing, want[j].Published = true, true
			}
		}
	}
	b = pad(b)
	if len(b)%recordBlock != 0 || len(b)-ends[3] < recordBlock/2 {
		t.Errorf("%d bytes were padded to %d", ends[3], len(b))
	}
	for cut := range len(b) {
		lines := 0
		for lines < len(ends) && ends[lines] <= cut {
			lines++
		}
		for name, rest := range map[string][]byte{"cut": nil, "zero": make([]byte, 20), "empty": []byte("\n\n\n"), "damaged": []byte("00000000 {}\n")} {
			got, n, err := parseRecord(append(bytes.Clone(b[:cut]), rest...))
			if name == "empty" && lines < len(ends) && cut == ends[lines]-1 {
				continue // the end of the line is there after all
			}
			if lines == 0 {
				if err == nil {
					t.Fatalf("%s at %d: a record without a whole line was read", name, cut)
				}
				continue
			}
			if err != nil || n != ends[lines-1] {
				t.Fatalf("%s at %d: %d bytes were read, %v, want %d", name, cut, n, err, ends[lines-1])
			}
			if d := cmp.Diff(want[lines-1], got); d != "" {
				t.Fatalf("%s at %d: %s", name, cut, d)
			}
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	r := sample()
	b := appendLine(nil, &r)
	f.Add(b)
	offset := int64(4)
	f.Add(pad(appendLine(b, change{Offset: &offset})))
	f.Add(appendLine(b, change{Offset: &offset})[:len(b)+5])
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := parseRecord(b)
		if err != nil {
			return
		}
		if n > len(b) || !ValidID(r.ID) || r.Offset < 0 || r.Size >= 0 && r.Offset > r.Size {
			t.Errorf("read %+v from the first %d of %d bytes", r, n, len(b))
		}
		again, _, err := parseRecord(appendLine(nil, &r))
		if err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
		// Equal as they are written: JSON has more than one way for what is the same.
		if a, b := appendLine(nil, &r), appendLine(nil, &again); !bytes.Equal(a, b) {
			t.Errorf("read %s, then %s", a, b)
		}
	})
}
