package localfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// content returns n bytes that differ at every offset, so that a misplaced block shows.
func content(n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = src.Read(b) // never fails
	return b
}

// feed appends data to p in random pieces.
func feed(t *testing.T, p *Part, data []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(len(data))))
	for len(data) > 0 {
		s := p.Space()
		if len(s) == 0 {
			t.Fatal("Space is empty")
		}
		n := min(1+r.IntN(300_000), len(s), len(data))
		if r.IntN(4) == 0 {
			n = min(len(s), len(data))
		}
		copy(s, data[:n])
		if err := p.Advance(n); err != nil {
			t.Fatalf("Advance(%d) at %d: %v", n, p.Offset(), err)
		}
		data = data[n:]
	}
}

func open(t *testing.T, path string, o Options) *Part {
	t.Helper()
	p, err := Open(context.Background(), path, o)
	if err != nil {
		t.Fatalf("Open(%s): %v", path, err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func finish(t *testing.T, p *Part) {
	t.Helper()
	if err := p.Finish(time.Unix(1e9, 5)); err != nil {
		t.Fatalf("Finish: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func wantContent(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: got %d bytes, want %d, first difference at %d", path, len(got), len(want), difference(got, want))
	}
}

func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func wantCode(t *testing.T, err error, code bits.Code) {
	t.Helper()
	var be *bits.Error
	if !errors.As(err, &be) || be.Code != code {
		t.Fatalf("got error %v, want code %v", err, code)
	}
	if be.File == "" || be.Context != bits.ContextLocalFile {
		t.Errorf("error %+v names no file or not the local file context", be)
	}
}

var sizes = []int{0, 1, 4095, 4096, 4097, 16 << 10, 1<<20 + 1, maxBlock - 1, maxBlock, maxBlock + 1, 3*maxBlock + 4097, 5 * maxBlock}

func TestContentIsExact(t *testing.T) {
	everyMode(t, func(t *testing.T, dir string) {
		for _, n := range sizes {
			for _, known := range []bool{true, false} {
				data, size := content(n), int64(-1)
				if known {
					size = int64(n)
				}
				path, h := filepath.Join(dir, fmt.Sprint(n, known)), sha256.New()
				p := open(t, path, Options{Size: size, Hash: h})
				feed(t, p, data)
				if p.Offset() != int64(n) {
					t.Errorf("Offset is %d, want %d", p.Offset(), n)
				}
				finish(t, p)
				wantContent(t, path, data)
				if sum := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), sum[:]) {
					t.Errorf("%d bytes: the hash differs", n)
				}
				if st, _ := os.Stat(path); !st.ModTime().Equal(time.Unix(1e9, 5)) {
					t.Errorf("mtime is %v", st.ModTime())
				}
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestResumeFromAnyOffset(t *testing.T) {
	everyMode(t, func(t *testing.T, dir string) {
		data := content(2*maxBlock + 12345)
		sum := sha256.Sum256(data)
		for _, stop := range []int{1, 4095, 4096, 4097, maxBlock - 1, maxBlock, maxBlock + 5000, len(data)} {
			path := filepath.Join(dir, fmt.Sprint(stop))
			p := open(t, path, Options{Size: int64(len(data))})
			feed(t, p, data[:stop])
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			mark, err := (Owner{}).Watermark(path)
			if err != nil || mark != int64(stop)&^(page-1) {
				t.Fatalf("stopped at %d: Watermark is %d, %v", stop, mark, err)
			}
			for _, keep := range []int64{mark, mark / 2, mark + 1<<20} {
				have, _ := (Owner{}).Watermark(path)
				h := sha256.New()
				p = open(t, path, Options{Keep: keep, Size: int64(len(data)), Hash: h})
				if want := min(keep, have) &^ (page - 1); p.Offset() != want {
					t.Fatalf("kept %d of %d, want %d", p.Offset(), keep, want)
				}
				feed(t, p, data[p.Offset():])
				finish(t, p)
				wantContent(t, path, data)
				if !bytes.Equal(h.Sum(nil), sum[:]) {
					t.Fatalf("stopped at %d, kept %d: the hash differs", stop, keep)
				}
			}
		}
	})
}

func TestCheckpointIsHonest(t *testing.T) {
	everyMode(t, func(t *testing.T, dir string) {
		data, path := content(3*maxBlock), filepath.Join(dir, "part")
		p := open(t, path, Options{Size: -1})
		last := int64(0)
		for _, to := range []int{0, 1, 5000, 5001, 8192, 300_000, maxBlock + 1, 2*maxBlock + 777, 3 * maxBlock} {
			feed(t, p, data[p.Offset():to])
			n, err := p.Checkpoint()
			if err != nil {
				t.Fatal(err)
			}
			if n < last || n > int64(to) || n < int64(to)-page {
				t.Fatalf("Checkpoint at %d is %d, before %d", to, n, last)
			}
			wantContent(t, path, data[:n])
			last = n
		}
		finish(t, p)
		wantContent(t, path, data)
	})
}

func TestOpenContinuesAMissingFileFromNothing(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "part"), Options{Keep: 1 << 20, Size: -1})
	if p.Offset() != 0 {
		t.Errorf("Offset is %d", p.Offset())
	}
}

func TestRestartThrowsAllAway(t *testing.T) {
	path, h, data := filepath.Join(t.TempDir(), "part"), sha256.New(), content(maxBlock+99)
	p := open(t, path, Options{Size: 4 * maxBlock, Hash: h})
	feed(t, p, content(3*maxBlock+5))
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	if n, _ := (Owner{}).Watermark(path); n != 0 || p.Offset() != 0 {
		t.Fatalf("after Restart: Watermark %d, Offset %d", n, p.Offset())
	}
	feed(t, p, data)
	finish(t, p)
	wantContent(t, path, data)
	if sum := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), sum[:]) {
		t.Error("the hash differs")
	}
}

func TestLeftoverIsTruncated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(path, content(9999), 0o644); err != nil {
		t.Fatal(err)
	}
	p := open(t, path, Options{Size: 100})
	if n, _ := (Owner{}).Watermark(path); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
	feed(t, p, content(100))
	finish(t, p)
	wantContent(t, path, content(100))
}

func TestPlaceMayBeRepeated(t *testing.T) {
	dir := t.TempDir()
	part, dest := filepath.Join(dir, "part"), filepath.Join(dir, "dest")
	if err := os.WriteFile(dest, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := open(t, part, Options{Size: 5})
	feed(t, p, content(5))
	finish(t, p)
	for range 2 {
		if err := (Owner{}).Place(part, dest, p.Inode()); err != nil {
			t.Fatal(err)
		}
		wantContent(t, dest, content(5))
	}
	if err := (Owner{}).SyncDir(dir); err != nil {
		t.Fatal(err)
	}
	wantCode(t, (Owner{}).Place(part, dest, p.Inode()+1), bits.FileNotFound)
}

func TestPlaceRefusesAnotherFileAndADirectory(t *testing.T) {
	dir := t.TempDir()
	part := filepath.Join(dir, "part")
	p := open(t, part, Options{Size: 5})
	feed(t, p, content(5))
	finish(t, p)
	wantCode(t, (Owner{}).Place(part, filepath.Join(dir, "dest"), p.Inode()+1), bits.LocalFileChanged)
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := (Owner{}).Place(part, filepath.Join(dir, "d"), p.Inode())
	wantCode(t, err, bits.AccessDenied)
	if err := (Owner{}).Place(part, filepath.Join(dir, "d", "dest"), p.Inode()); err == nil {
		t.Error("it was placed in another directory")
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "part")
	_ = open(t, path, Options{Size: -1})
	for range 2 {
		if err := (Owner{}).Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	_ = open(t, path, Options{Size: -1})
	for _, none := range []string{filepath.Join(dir, "none", "part"), filepath.Join(path, "part")} {
		if err := (Owner{}).Remove(none); err != nil {
			t.Errorf("%s: %v", none, err)
		}
	}
	if err := (Owner{}).Remove(dir); err == nil {
		t.Error("Remove took a directory away")
	}
}

func TestErrnoBecomesCode(t *testing.T) {
	for _, c := range []struct {
		errno syscall.Errno
		code  bits.Code
	}{
		{syscall.ENOSPC, bits.DiskFull}, {syscall.EDQUOT, bits.DiskQuotaExceeded}, {syscall.EROFS, bits.WriteProtect},
		{syscall.ENOENT, bits.PathNotFound}, {syscall.ENOTDIR, bits.PathNotFound}, {syscall.EACCES, bits.AccessDenied},
		{syscall.EPERM, bits.AccessDenied}, {syscall.EFBIG, bits.FileTooLarge}, {syscall.EIO, bits.DiskIO},
		{syscall.EMFILE, bits.TooManyOpenFiles}, {syscall.ENFILE, bits.TooManyOpenFiles}, {syscall.EXDEV, bits.Unexpected},
	} {
		err := fmt.Errorf("write: %w", &fs.PathError{Op: "open", Path: "x", Err: c.errno})
		e := Err(err, "/some/where/part")
		if e.Code != c.code || e.Context != bits.ContextLocalFile || e.File != "/some/where/part" {
			t.Errorf("%v: got %+v, want code %v", c.errno, e, c.code)
		}
		if !errors.Is(e, c.errno) || !bytes.Contains([]byte(e.Message), []byte("/some/where")) {
			t.Errorf("%v: message %q names no place, or the cause is lost", c.errno, e.Message)
		}
	}
	inner := bits.Errorf(bits.Pending, "inside")
	if e := Err(fmt.Errorf("around: %w", inner), "x"); e != inner {
		t.Errorf("a bits.Error inside became %v", e)
	}
	if Err(nil, "x") != nil {
		t.Error("nil became an error")
	}
}

func TestMemoryIsBoundedAndGivenBack(t *testing.T) {
	dir, before := t.TempDir(), blocks.mapped
	parts := make([]*Part, 300)
	data := content(40 << 10)
	for i := range parts {
		parts[i] = open(t, filepath.Join(dir, fmt.Sprint(i)), Options{Size: -1})
		if i%2 == 0 {
			if err := parts[i].SetSize(8 << 20); err != nil {
				t.Fatal(err)
			}
		}
		feed(t, parts[i], data)
	}
	if blocks.mapped-before > 32<<20 {
		t.Errorf("%d files hold %d bytes", len(parts), blocks.mapped-before)
	}
	for i, p := range parts {
		feed(t, p, data)
		if i%50 == 0 {
			finish(t, p)
			wantContent(t, filepath.Join(dir, fmt.Sprint(i)), append(data, data...))
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if blocks.used != 0 || blocks.mapped > keepIdle {
		t.Errorf("after all were closed %d bytes are out, %d mapped", blocks.used, blocks.mapped)
	}
}

func TestSmallFileTakesASmallBlock(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "part"), Options{Size: 16 << 10})
	if n := len(p.Space()); n != 16<<10 {
		t.Errorf("a file of 16 KiB has a block of %d", n)
	}
}
