package fileput

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

var date = time.Unix(1e9, 0)

// source is a file in memory that breaks off.
type source struct {
	*bytes.Reader
	until int64 // -1: not at all
}

var errBroken = errors.New("the disk broke")

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	if s.until >= 0 {
		if off >= s.until {
			return 0, errBroken
		}
		p = p[:min(int64(len(p)), s.until-off)]
	}
	n, err := s.Reader.ReadAt(p, off)
	if err == io.EOF && n > 0 {
		err = nil
	}
	return n, err
}

func (s *source) Size() int64         { return s.Reader.Size() }
func (s *source) Name() string        { return "source" }
func (s *source) Modified() time.Time { return date }

func newClient() *Client {
	return &Client{Part: func(target string) string { return filepath.Join(filepath.Dir(target), ".part") },
		Rights: func() (*localfile.Rights, error) { return nil, nil }}
}

// attempt uploads until it is done, or until a crash at the n-th time that something is made durable, of
// which nothing stays then. It returns what is durable.
func attempt(t *testing.T, dest string, from upload.State, s *source, crash int) (upload.State, error) {
	t.Helper()
	kept := from
	task := &upload.Task{URL: "file://" + dest, Source: s, State: from, Stall: func() time.Duration { return time.Minute },
		Sent: func(int64) {}, Connected: func() {}, On: func(*governor.Conn) {},
		Save: func(st upload.State) error {
			if crash--; crash == 0 {
				return errBroken
			}
			kept = st
			return nil
		}}
	err := newClient().Upload(context.Background(), task)
	return kept, err
}

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// isWhole checks the target, and that nothing else is there.
func isWhole(t *testing.T, dest string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(dest)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the target has %d bytes, %v, want %d", len(got), err, len(want))
	}
	if info, err := os.Stat(dest); err != nil || !info.ModTime().Equal(date) || info.Mode().Perm()&0o600 != 0o600 {
		t.Errorf("the target is %v, %v", info, err)
	}
	if left, err := os.ReadDir(filepath.Dir(dest)); err != nil || len(left) != 1 {
		t.Errorf("there are %v, %v", left, err)
	}
}

// Whatever is the last that a crash lets become durable, the next attempt ends with the whole target.
func TestCrashes(t *testing.T) {
	for _, size := range []int{0, 1, 4096, 5 << 20, 9<<20 + 5} {
		want := content(size)
		for crash := 1; ; crash++ {
			dest := filepath.Join(t.TempDir(), "target")
			s := &source{bytes.NewReader(want), int64(size) * 2 / 3}
			if size < 4096 {
				s.until = -1
			}
			st, err := attempt(t, dest, upload.State{}, s, crash)
			whole := err == nil
			if _, serr := os.Stat(dest); serr == nil && !whole && size > 4096 && s.until >= 0 {
				t.Errorf("%d bytes, crash %d: a part has the target's name", size, crash)
			}
			s.until = -1
			for again := crash; !st.Done && again >= 0; again-- { // each time a little further
				if st, err = attempt(t, dest, st, s, again); err == nil {
					break
				}
			}
			if err != nil || !st.Done {
				t.Fatalf("%d bytes, crash %d: %+v, %v", size, crash, st, err)
			}
			isWhole(t, dest, want)
			if whole || crash > 10 {
				break
			}
		}
	}
}

func TestGoesOn(t *testing.T) {
	want := content(9 << 20)
	dir := t.TempDir()
	dest := filepath.Join(dir, "target")
	s := &source{bytes.NewReader(want), 6 << 20}
	st, err := attempt(t, dest, upload.State{}, s, 0)
	if !errors.Is(err, errBroken) || st.Offset != 6<<20 {
		t.Fatalf("%+v, %v", st, err)
	}
	first := st
	s.until = 0 // what is there is not read again
	if st, err = attempt(t, dest, st, s, 0); !errors.Is(err, errBroken) || st.Offset != 6<<20 {
		t.Fatalf("%+v, %v", st, err)
	}
	// A part file that was cut, replaced or removed is not gone on with where it ended.
	part := filepath.Join(dir, ".part")
	for name, harm := range map[string]func() error{
		"cut": func() error { return os.Truncate(part, 4096) },
		"replaced": func() error {
			return errors.Join(os.Rename(part, part+"x"), os.WriteFile(part, make([]byte, 6<<20), 0o600), os.Remove(part+"x"))
		},
		"removed": func() error { return os.Remove(part) },
	} {
		s.until = 6 << 20
		if st, err = attempt(t, dest, first, s, 0); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		s.until = -1
		if _, err = attempt(t, dest, st, s, 0); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		isWhole(t, dest, want)
		first = upload.State{}
	}
	// Cancel takes away what is there of one that is not done.
	s.until = 5
	if st, err = attempt(t, dest, upload.State{}, s, 0); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if err := newClient().Cancel(context.Background(), &upload.Task{URL: "file://" + dest, State: st}); err != nil {
		t.Fatal(err)
	}
	isWhole(t, dest, want)
}

// What was not begun leaves nothing, for nobody would be told to take it away.
func TestNothingStaysOfWhatCannotBegin(t *testing.T) {
	dir := t.TempDir()
	save := func(err error) func(upload.State) error { return func(upload.State) error { return err } }
	for name, task := range map[string]*upload.Task{
		"no room":      {Source: &endless{}, Save: save(nil)},
		"not recorded": {Source: &source{bytes.NewReader([]byte("x")), -1}, Save: save(errBroken)},
	} {
		task.URL, task.Sent, task.Connected = "file://"+filepath.Join(dir, "target"), func(int64) {}, func() {}
		if err := newClient().Upload(context.Background(), task); err == nil {
			t.Errorf("%s: it is there", name)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: there are %v, %v", name, left, err)
		}
	}
	// What anybody put there stays: a Cancel would not know of it either.
	if err := os.Mkdir(filepath.Join(dir, ".part"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := attempt(t, filepath.Join(dir, "target"), upload.State{}, &source{bytes.NewReader([]byte("x")), -1}, 0); err == nil {
		t.Error("a directory was taken for a part file")
	}
	if _, err := os.Stat(filepath.Join(dir, ".part")); err != nil {
		t.Error(err)
	}
}

// endless is a file that no disk has room for.
type endless struct{ source }

func (*endless) Size() int64 { return 1 << 60 }

func TestErrorsAreOfTheTarget(t *testing.T) {
	for url, code := range map[string]bits.Code{
		"file://" + t.TempDir() + "/none/at/all": bits.PathNotFound,
		"smb://nosuchserver/share/a":             bits.PathNotFound,
		"file://" + t.TempDir():                  bits.AccessDenied, // a directory
	} {
		task := &upload.Task{URL: url, Source: &source{bytes.NewReader([]byte("x")), -1}, Save: func(upload.State) error { return nil }, Sent: func(int64) {}, Connected: func() {}}
		err := newClient().Upload(context.Background(), task)
		var e *bits.Error
		if !errors.As(err, &e) || e.Code != code || e.Context != bits.ContextRemoteFile {
			t.Errorf("%s: %v", url, err)
		}
	}
}
