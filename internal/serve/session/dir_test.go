package session_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

func open(t *testing.T, root string, o session.Options) *session.Dir {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	d, err := session.OpenDir(root, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// spec is an upload of size bytes by alice.
func spec(target string, size int64) session.Spec {
	return session.Spec{Protocol: "tus", Target: target, URL: "/up/x", Principal: "alice", Size: size, Limit: -1}
}

var alice = session.Who{Principal: "alice", URL: "/up/x"}

func create(t *testing.T, d session.Store, s session.Spec) string {
	t.Helper()
	i, err := d.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return i.ID
}

// with calls f with the session id.
func with(t *testing.T, d session.Store, id string, f func(ctx context.Context, s session.Session)) {
	t.Helper()
	ctx, s, err := d.Acquire(t.Context(), id, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	f(ctx, s)
}

func source(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = r.Read(b)
	return b
}

func appendAll(t *testing.T, d session.Store, id string, b []byte) {
	t.Helper()
	with(t, d, id, func(ctx context.Context, s session.Session) {
		n, err := s.Append(ctx, bytes.NewReader(b))
		if err != nil || n != int64(len(b)) {
			t.Fatalf("Append = %d, %v, want %d", n, err, len(b))
		}
	})
}

func publish(t *testing.T, d session.Store, id string) {
	t.Helper()
	with(t, d, id, func(ctx context.Context, s session.Session) {
		if err := s.Publish(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func wantFile(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s has %d bytes that are not the %d of the source", path, len(got), len(want))
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// hidden lists what the store keeps for sessions.
func hidden(t *testing.T, root string) []string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(root, session.Hidden))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		if e.Name() != "lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestUploadInPiecesOfAnyLength(t *testing.T) {
	root := t.TempDir()
	d := open(t, root, session.Options{})
	for _, size := range []int{0, 1, 4095, 4096, 4097, 65536, 100_000, 3<<20 + 17} {
		want := source(size)
		id := create(t, d, spec("file", int64(size)))
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(size))
			appendAll(t, d, id, rest[:n])
			rest = rest[n:]
		}
		if _, err := os.Stat(filepath.Join(root, "file")); err == nil {
			t.Fatal("the target is there before it is published")
		}
		publish(t, d, id)
		publish(t, d, id)
		wantFile(t, filepath.Join(root, "file"), want)
		with(t, d, id, func(ctx context.Context, s session.Session) {
			r, err := s.Open(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("a published session reads %d bytes, %v", len(got), err)
			}
			if err := s.Remove(ctx); err != nil {
				t.Fatal(err)
			}
		})
		wantFile(t, filepath.Join(root, "file"), want)
		if err := os.Remove(filepath.Join(root, "file")); err != nil {
			t.Fatal(err)
		}
	}
	if left := hidden(t, root); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestWholeUploadLeavesNothingBehind(t *testing.T) {
	root := t.TempDir()
	d := open(t, root, session.Options{})
	for _, cut := range []bool{false, true} {
		s := spec("whole", -1)
		s.Whole = true
		want := source(50_000)
		with(t, d, create(t, d, s), func(ctx context.Context, s session.Session) {
			n := len(want)
			if cut {
				n /= 2
			}
			if _, err := s.Append(ctx, bytes.NewReader(want[:n])); err != nil {
				t.Fatal(err)
			}
			if cut {
				return
			}
			wantErr(t, s.Publish(ctx), session.ErrIncomplete)
			if err := s.SetSize(ctx, int64(n)); err != nil {
				t.Fatal(err)
			}
			if err := s.Publish(ctx); err != nil {
				t.Fatal(err)
			}
		})
		if left := hidden(t, root); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
		if !cut {
			wantFile(t, filepath.Join(root, "whole"), want)
			if err := os.Remove(filepath.Join(root, "whole")); err != nil {
				t.Fatal(err)
			}
		} else if _, err := os.Stat(filepath.Join(root, "whole")); err == nil {
			t.Error("half of an upload was published")
		}
		if list, _ := d.List(t.Context()); len(list) > 0 {
			t.Errorf("sessions are left: %v", list)
		}
	}
}

func TestSizesAndLimits(t *testing.T) {
	d := open(t, t.TempDir(), session.Options{})
	ctx := t.Context()
	s := spec("f", 11)
	s.Limit = 10
	_, err := d.Create(ctx, s)
	wantErr(t, err, session.ErrTooLarge)

	s.Size = -1
	id := create(t, d, s)
	with(t, d, id, func(ctx context.Context, s session.Session) {
		n, err := s.Append(ctx, strings.NewReader("0123456789ab"))
		if wantErr(t, err, session.ErrTooLarge); n != 10 {
			t.Errorf("%d bytes were kept, want the 10 that fit", n)
		}
		wantErr(t, s.SetSize(ctx, 11), session.ErrTooLarge)
		wantErr(t, s.SetSize(ctx, 9), session.ErrTooLarge)
		if err := s.SetSize(ctx, 10); err != nil {
			t.Error(err)
		}
		if err := s.SetSize(ctx, 10); err != nil {
			t.Error(err)
		}
		wantErr(t, s.SetSize(ctx, 9), session.ErrSizeChanged)
		if n, err := s.Append(ctx, strings.NewReader("")); n != 0 || err != nil {
			t.Errorf("nothing more: %d, %v", n, err)
		}
		_, err = s.Append(ctx, strings.NewReader("x"))
		wantErr(t, err, session.ErrTooLarge)
	})

	huge := spec("huge", 1<<60)
	_, err = d.Create(ctx, huge)
	wantErr(t, err, session.ErrNoSpace)
}

// brokenReader gives its bytes and then fails.
type brokenReader struct {
	io.Reader
	err error
}

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = b.err
	}
	return n, err
}

func TestBytesBeforeAFailureAreKept(t *testing.T) {
	root := t.TempDir()
	d := open(t, root, session.Options{})
	want := source(200_001)
	id := create(t, d, spec("f", int64(len(want))))
	cut := errors.New("the client went away")
	with(t, d, id, func(ctx context.Context, s session.Session) {
		n, err := s.Append(ctx, brokenReader{bytes.NewReader(want[:123_457]), cut})
		if wantErr(t, err, cut); n != 123_457 {
			t.Errorf("%d bytes were kept", n)
		}
		wantErr(t, s.Publish(ctx), session.ErrIncomplete)
	})
	appendAll(t, d, id, want[123_457:])
	publish(t, d, id)
	wantFile(t, filepath.Join(root, "f"), want)
}

// TestVerifiedOrNothing adds wrong bytes, of which none may count: neither if the process is killed before
// it knows, nor if the size becomes known later.
func TestVerifiedOrNothing(t *testing.T) {
	root, after := t.TempDir(), t.TempDir()
	d := open(t, root, session.Options{})
	want := source(300_001)
	at := int64(len(want) - 100_000)
	id := create(t, d, spec("f", -1))
	appendAll(t, d, id, want[:at])
	wrong, cut := errors.New("the sum is another one"), errors.New("the client went away")
	garbage := bytes.Repeat([]byte("x"), 3<<20)
	with(t, d, id, func(ctx context.Context, s session.Session) {
		verify := func() error {
			return cmp.Or(os.CopyFS(after, os.DirFS(root)), wrong)
		}
		wantErr(t, s.AppendVerified(ctx, bytes.NewReader(garbage), verify), wrong)
		wantErr(t, s.AppendVerified(ctx, brokenReader{bytes.NewReader(garbage), cut}, func() error { return nil }), cut)
		if got := s.Info().Offset; got != at {
			t.Errorf("%d bytes count, want %d", got, at)
		}
	})
	if st, err := os.Stat(filepath.Join(root, session.Hidden, id)); err != nil || st.Size() != at {
		t.Errorf("wrong bytes take room: %v, %v; want %d", st, err, at)
	}
	if st, err := os.Stat(filepath.Join(after, session.Hidden, id)); err != nil || st.Size() <= at {
		t.Fatalf("nothing of what was to be verified was in the file: %v, %v", st, err)
	}
	killed := open(t, after, session.Options{})
	with(t, killed, id, func(ctx context.Context, s session.Session) {
		if got := s.Info().Offset; got != at {
			t.Errorf("%d bytes count after a crash, want %d", got, at)
		}
	})
	for i, d := range []session.Store{d, killed} {
		with(t, d, id, func(ctx context.Context, s session.Session) {
			if i == 0 { // else what was cut off is all there was
				if err := s.AppendVerified(ctx, bytes.NewReader(want[at:]), func() error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmp.Or(s.SetSize(ctx, s.Info().Offset), s.Publish(ctx)); err != nil {
				t.Fatal(err)
			}
		})
	}
	wantFile(t, filepath.Join(root, "f"), want)
	wantFile(t, filepath.Join(after, "f"), want[:at])
}

// TestPublishAgain finds a file that was renamed before, when what came after that had failed.
func TestPublishAgain(t *testing.T) {
	for _, want := range [][]byte{nil, source(10_000)} {
		root := t.TempDir()
		d := open(t, root, session.Options{})
		target := filepath.Join(root, "f")
		id := create(t, d, spec("f", int64(len(want))))
		if err := os.WriteFile(target, []byte("somebody else's"), 0o666); err != nil {
			t.Fatal(err)
		}
		with(t, d, id, func(ctx context.Context, s session.Session) {
			if err := s.AppendVerified(ctx, bytes.NewReader(want), func() error { return nil }); err != nil {
				t.Fatal(err)
			}
			wantErr(t, s.Publish(ctx), session.ErrExists)
		})
		if err := os.Rename(filepath.Join(root, session.Hidden, id), target); err != nil {
			t.Fatal(err)
		}
		publish(t, d, id)
		wantFile(t, target, want)
	}
}

func TestOneTargetForTwo(t *testing.T) {
	root := t.TempDir()
	d := open(t, root, session.Options{})
	a, b := create(t, d, spec("f", 1)), create(t, d, spec("f", 1))
	appendAll(t, d, a, []byte("a"))
	appendAll(t, d, b, []byte("b"))
	publish(t, d, a)
	with(t, d, b, func(ctx context.Context, s session.Session) {
		wantErr(t, s.Publish(ctx), session.ErrExists)
	})
	_, err := d.Create(t.Context(), spec("f", 1))
	wantErr(t, err, session.ErrExists)
	wantFile(t, filepath.Join(root, "f"), []byte("a"))

	over := spec("f", 1)
	over.Overwrite = true
	c := create(t, d, over)
	appendAll(t, d, c, []byte("c"))
	publish(t, d, c)
	wantFile(t, filepath.Join(root, "f"), []byte("c"))
}

func TestOnlyItsOwnerHasASession(t *testing.T) {
	d := open(t, t.TempDir(), session.Options{})
	id := create(t, d, spec("f", 1))
	for _, who := range []session.Who{
		{Principal: "bob", URL: "/up/x"}, {Principal: "", URL: "/up/x"}, {Principal: "alice", URL: "/up/y"}, {Principal: "bob"},
	} {
		_, _, err := d.Acquire(t.Context(), id, who)
		wantErr(t, err, session.ErrNotFound)
	}
	for _, other := range []string{"", "x", strings.ToUpper(id), id + "0", "../" + id, strings.Repeat("0", 32)} {
		if other == id {
			continue
		}
		_, _, err := d.Acquire(t.Context(), other, alice)
		wantErr(t, err, session.ErrNotFound)
	}
	if _, s, err := d.Acquire(t.Context(), id, session.Who{Principal: "alice"}); err != nil {
		t.Error(err)
	} else {
		s.Release()
	}
}

func TestNewerRequestTakesOver(t *testing.T) {
	d := open(t, t.TempDir(), session.Options{})
	id := create(t, d, spec("f", 6))
	ctx, s, err := d.Acquire(t.Context(), id, alice)
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	defer stop()
	done := make(chan error)
	go func() {
		_, err := s.Append(ctx, r)
		s.Release()
		done <- err
	}()
	if _, err := w.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	with(t, d, id, func(ctx context.Context, s session.Session) {
		if got := s.Info().Offset; got != 3 {
			t.Errorf("the newer request finds %d bytes, want 3", got)
		}
	})
	wantErr(t, <-done, session.ErrTaken)
}

func TestBusyWhenTheHolderDoesNotLeave(t *testing.T) {
	d := open(t, t.TempDir(), session.Options{})
	id := create(t, d, spec("f", 6))
	synctest.Test(t, func(t *testing.T) {
		_, s, err := d.Acquire(t.Context(), id, alice)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Release()
		_, _, err = d.Acquire(t.Context(), id, alice)
		wantErr(t, err, session.ErrBusy)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err = d.Acquire(ctx, id, alice)
		wantErr(t, err, context.DeadlineExceeded)
	})
}

func TestConcat(t *testing.T) {
	root := t.TempDir()
	d := open(t, root, session.Options{})
	want := source(300_000)
	a, b := create(t, d, spec("", 100_000)), create(t, d, spec("", 200_000))
	final := spec("f", -1)
	_, err := d.Concat(t.Context(), final, []string{a, b})
	wantErr(t, err, session.ErrIncomplete)
	appendAll(t, d, a, want[:100_000])
	appendAll(t, d, b, want[100_000:])

	eve := final
	eve.Principal = "eve"
	_, err = d.Concat(t.Context(), eve, []string{a, b})
	wantErr(t, err, session.ErrNotFound)

	i, err := d.Concat(t.Context(), final, []string{a, b, a})
	if err != nil {
		t.Fatal(err)
	}
	if i.Size != 400_000 || i.Offset != 400_000 {
		t.Errorf("got %d of %d bytes", i.Offset, i.Size)
	}
	publish(t, d, i.ID)
	wantFile(t, filepath.Join(root, "f"), append(want, want[:100_000]...))
}

func TestSessionsSurviveARestart(t *testing.T) {
	root := t.TempDir()
	d := open(t, root, session.Options{})
	want := source(10_000)
	s := spec("f", -1)
	s.Metadata = map[string]string{"filename": "f"}
	id := create(t, d, s)
	for i := range 100 { // more changes than a record has room for
		appendAll(t, d, id, want[i*100:(i+1)*100])
		with(t, d, id, func(ctx context.Context, s session.Session) {
			if err := s.SetState(ctx, []byte(`{"n":`+strings.Repeat("1", i+1)+`}`)); err != nil {
				t.Fatal(err)
			}
		})
		if i%10 == 0 {
			before, _ := d.List(t.Context())
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d = open(t, root, session.Options{})
			after, _ := d.List(t.Context())
			if len(after) != 1 || string(after[0].State) != string(before[0].State) || after[0].Offset != int64(i+1)*100 ||
				after[0].Metadata["filename"] != "f" || !after[0].Created.Equal(before[0].Created) {
				t.Fatalf("before the restart %+v, after it %+v", before, after)
			}
		}
	}
	with(t, d, id, func(ctx context.Context, s session.Session) {
		if err := s.SetSize(ctx, 10_000); err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(ctx); err != nil {
			t.Fatal(err)
		}
	})
	d.Close()
	d = open(t, root, session.Options{})
	if list, _ := d.List(t.Context()); len(list) != 1 || !list[0].Published || list[0].Offset != 10_000 {
		t.Errorf("after the restart: %+v", list)
	}
	wantFile(t, filepath.Join(root, "f"), want)
}

func TestARootIsOpenedOnce(t *testing.T) {
	root := t.TempDir()
	open(t, root, session.Options{})
	if d, err := session.OpenDir(root, session.Options{}); err == nil {
		d.Close()
		t.Error("a second store opened the same root")
	}
}

func TestClean(t *testing.T) {
	d := open(t, t.TempDir(), session.Options{})
	var ids []string
	for range 5 {
		ids = append(ids, create(t, d, spec("f", 0)))
	}
	bob := spec("g", 1)
	bob.Principal = "bob"
	other := create(t, d, bob)
	publish(t, d, ids[0])
	n, err := d.Clean(t.Context(), time.Now(), time.Hour, 2)
	if err != nil || n != 2 {
		t.Fatalf("Clean = %d, %v; want the 2 newest of alice's 4 unpublished removed", n, err)
	}
	var left []string
	list, _ := d.List(t.Context())
	for _, i := range list {
		left = append(left, i.ID)
	}
	if want := []string{ids[0], ids[1], ids[2], other}; strings.Join(left, " ") != strings.Join(want, " ") {
		t.Errorf("left %v, want %v", left, want)
	}

	_, s, err := d.Acquire(t.Context(), ids[1], alice)
	if err != nil {
		t.Fatal(err)
	}
	n, err = d.Clean(t.Context(), time.Now().Add(time.Hour), time.Hour, 0)
	if err != nil || n != 3 {
		t.Errorf("Clean = %d, %v; want all 3 that nobody works on", n, err)
	}
	s.Release()
}

// What is published is kept for a day, so that its client hears of it, and not for the whole timeout.
func TestCleanOfFinishedSessions(t *testing.T) {
	root := t.TempDir()
	const timeout = 14 * 24 * time.Hour
	d := open(t, root, session.Options{})
	finished := create(t, d, spec("finished", 0))
	publish(t, d, finished)
	replied := spec("replied", 0)
	replied.Reply = true
	reply := create(t, d, replied)
	publish(t, d, reply)
	begun := create(t, d, spec("begun", 1))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, root, session.Options{})
	now := time.Now()
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{timeout/2 - time.Hour, 0}, {timeout / 2, 1}, {timeout - time.Hour, 0}, {timeout, 2}} {
		if n, err := d.Clean(t.Context(), now.Add(c.after), timeout, 0); n != c.want || err != nil {
			t.Errorf("Clean after %v = %d, %v; want %d", c.after, n, err, c.want)
		}
		if c.after > timeout/2 {
			continue
		}
		for _, id := range []string{reply, begun} {
			with(t, d, id, func(context.Context, session.Session) {})
		}
	}
	if left := hidden(t, root); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestSessionsOfAPrincipalAreLimited(t *testing.T) {
	d := open(t, t.TempDir(), session.Options{Sessions: 2})
	a := create(t, d, spec("a", 0))
	create(t, d, spec("b", 0))
	_, err := d.Create(t.Context(), spec("c", 0))
	wantErr(t, err, session.ErrTooMany)
	publish(t, d, a)
	create(t, d, spec("c", 0))
	w := spec("d", 0)
	w.Whole = true
	_, err = d.Create(t.Context(), w)
	wantErr(t, err, session.ErrTooMany)
}

func TestSessionsOfAllAreLimited(t *testing.T) {
	root := t.TempDir()
	o := session.Options{AllSessions: 2}
	d := open(t, root, o)
	one, other := spec("a", 0), spec("b", 0)
	one.Principal, other.Principal = "ann", "bob"
	a := create(t, d, one)
	create(t, d, other)
	_, err := d.Create(t.Context(), spec("c", 0))
	wantErr(t, err, session.ErrTooMany)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, root, o)
	_, err = d.Create(t.Context(), spec("c", 0))
	wantErr(t, err, session.ErrTooMany)
	_, s, err := d.Acquire(t.Context(), a, session.Who{Principal: "ann", URL: one.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Release()
	create(t, d, spec("c", 0))
}

// Strangers who begin uploads and leave them keep nobody else from uploading.
func TestAnonymousUploadsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		d := open(t, root, session.Options{AllSessions: 5})
		anyone := session.Who{URL: "/up/x"}
		anonymous := func(target string) session.Spec {
			s := spec(target, 10)
			s.Principal = ""
			return s
		}
		acquire := func(id string) session.Session {
			t.Helper()
			_, s, err := d.Acquire(t.Context(), id, anyone)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		add := func(id string) {
			t.Helper()
			s := acquire(id)
			defer s.Release()
			if _, err := s.Append(t.Context(), strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
		}
		want := func(ids ...string) {
			t.Helper()
			var got, files []string
			list, err := d.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range list {
				got = append(got, i.ID)
			}
			for _, id := range ids {
				files = append(files, id, id+".record")
			}
			slices.Sort(files)
			if !slices.Equal(got, ids) || !slices.Equal(hidden(t, root), files) {
				t.Fatalf("left %v, with the files %v; want %v", got, hidden(t, root), ids)
			}
		}
		begin := func(target string) string {
			t.Helper()
			time.Sleep(time.Second)
			return create(t, d, anonymous(target))
		}
		named := create(t, d, spec("named", 10))
		time.Sleep(time.Second)
		reply := anonymous("")
		reply.Principal = "alice\x00:replies"
		replies := create(t, d, reply)
		begun, busy, empty := begin("begun"), begin("busy"), begin("empty")
		add(begun)
		want(named, replies, begun, busy, empty)
		// The oldest that is empty goes, unless a request has it.
		s := acquire(busy)
		next := begin("next")
		want(named, replies, begun, busy, next)
		_, _, err := d.Acquire(t.Context(), empty, anyone)
		wantErr(t, err, session.ErrNotFound)
		s.Release()
		last := begin("last")
		want(named, replies, begun, next, last)
		// Those that have bytes stay, as long as their clients may still be there.
		add(next)
		time.Sleep(time.Second)
		add(last)
		_, err = d.Create(t.Context(), anonymous("more"))
		wantErr(t, err, session.ErrTooMany)
		time.Sleep(time.Hour - 2*time.Second)
		add(begun)
		_, err = d.Create(t.Context(), spec("named too", 10))
		wantErr(t, err, session.ErrTooMany)
		time.Sleep(time.Second)
		whole := spec("whole", -1)
		whole.Whole = true
		with(t, d, create(t, d, whole), func(context.Context, session.Session) {})
		want(named, replies, begun, last)
		// A reply to an anonymous upload makes room as well.
		reply.Principal = "\x00:replies"
		create(t, d, reply)
		fresh := begin("fresh")
		want(named, replies, begun, last, fresh)
	})
}

func TestPartIsUsedUp(t *testing.T) {
	root := t.TempDir()
	d := open(t, root, session.Options{Sessions: 2})
	part := create(t, d, spec("", 5))
	with(t, d, part, func(ctx context.Context, s session.Session) { wantErr(t, s.Publish(ctx), session.ErrIncomplete) })
	appendAll(t, d, part, []byte("hello"))
	whole, err := d.Concat(t.Context(), spec("file", -1), []string{part})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(t.Context(), spec("other", 5)); !errors.Is(err, session.ErrTooMany) {
		t.Fatalf("a third upload: %v", err)
	}
	publish(t, d, whole.ID)
	for range 2 { // it may be repeated
		publish(t, d, part)
	}
	check := func() {
		t.Helper()
		if _, err := os.Lstat(filepath.Join(root, session.Hidden, part)); !os.IsNotExist(err) {
			t.Errorf("the bytes of the part are still there: %v", err)
		}
		with(t, d, part, func(ctx context.Context, s session.Session) {
			if i := s.Info(); i.Offset != 5 || !i.Published {
				t.Errorf("got %+v", i)
			}
		})
		_, err := d.Concat(t.Context(), spec("again", -1), []string{part})
		wantErr(t, err, session.ErrNotFound)
	}
	check()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, root, session.Options{Sessions: 2})
	check()
	for range 2 { // neither counts any more
		create(t, d, spec("", 5))
	}
}
