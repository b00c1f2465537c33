package localfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

func writePiece(t *testing.T, s *Sparse, off int64, b []byte) {
	t.Helper()
	if err := s.GoTo(off); err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		n := copy(s.Space(), b)
		if err := s.Advance(n); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
}

// TestPiecesInAnyOrderMakeTheFile writes a file in shuffled pieces, with a pause in between.
func TestPiecesInAnyOrderMakeTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "part")
	rng := rand.New(rand.NewPCG(3, 4))
	want := make([]byte, 3<<20+17)
	for i := range want {
		want[i] = byte(rng.Uint32())
	}
	var pieces []bits.Range
	for at := int64(0); at < int64(len(want)); {
		n := min(1+rng.Int64N(300_000), int64(len(want))-at)
		pieces = append(pieces, bits.Range{Offset: at, Length: n})
		at += n
	}
	rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	s, err := OpenSparse(Owner{}, path, false, int64(len(want)))
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range pieces {
		writePiece(t, s, p.Offset, want[p.Offset:p.End()])
		if i != len(pieces)/2 {
			continue
		}
		if err := errors.Join(s.Sync(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if s, err = OpenSparse(Owner{}, path, true, int64(len(want))); err != nil {
			t.Fatal(err)
		}
	}
	h := sha256.New()
	if err := s.Hash(context.Background(), h, int64(len(want))); err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(want); !bytes.Equal(h.Sum(nil), sum[:]) {
		t.Error("the hash is another one")
	}
	when := time.Unix(1_700_000_000, 0)
	if err := errors.Join(s.Finish(int64(len(want)), when), s.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file is another one, %v", err)
	}
	if st, err := os.Stat(path); err != nil || !st.ModTime().Equal(when) {
		t.Errorf("%v, %v", st, err)
	}
}

func TestSparseFinishCutsWhatWasLonger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "part")
	s, err := OpenSparse(Owner{}, path, false, -1)
	if err != nil {
		t.Fatal(err)
	}
	writePiece(t, s, 100, []byte("beyond"))
	writePiece(t, s, 0, []byte("abc"))
	if err := errors.Join(s.Finish(3, time.Time{}), s.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSparseRestartsEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "part")
	s, err := OpenSparse(Owner{}, path, false, 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	writePiece(t, s, 1000, []byte("old"))
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	writePiece(t, s, 0, []byte("new"))
	if err := errors.Join(s.Sync(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
	if s, err = OpenSparse(Owner{}, path, false, -1); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got, err := os.ReadFile(path); err != nil || len(got) != 0 {
		t.Errorf("without keep the file begins with %q, %v", got, err)
	}
}

func TestSparseRefusesALink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "part")
	if err := os.WriteFile(filepath.Join(dir, "victim"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "victim"), path); err != nil {
		t.Skip(err)
	}
	for _, keep := range []bool{false, true} {
		_, err := OpenSparse(Owner{}, path, keep, -1)
		if e := Err(err, path); e == nil || e.Code != bits.AccessDenied {
			t.Errorf("keep %v: %v", keep, err)
		}
	}
}
