package localfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bits"
)

// everyMode runs f with each way of writing on a disk, and on tmpfs and ramfs; ramfs refuses O_DIRECT,
// so it takes the real way down.
func everyMode(t *testing.T, f func(t *testing.T, dir string)) {
	t.Helper()
	for name, mode := range map[string]writeMode{"direct": direct, "dontcache": dontCache, "buffered": buffered} {
		t.Run(name, func(t *testing.T) {
			startMode = mode
			defer func() { startMode = direct }()
			f(t, t.TempDir())
		})
	}
	t.Run("tmpfs", func(t *testing.T) { f(t, mount(t, "tmpfs", "size=256m")) })
	t.Run("ramfs", func(t *testing.T) { f(t, mount(t, "ramfs", "")) })
}

func mount(t *testing.T, fstype, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts file systems")
	}
	dir := t.TempDir()
	if err := unix.Mount(fstype, dir, fstype, 0, options); err != nil {
		t.Skipf("mount %s: %v", fstype, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func TestOpenRefusesWhatIsNotOurFile(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(path string) error{
		"symlink":   func(path string) error { return os.Symlink(victim, path) },
		"dangling":  func(path string) error { return os.Symlink(filepath.Join(dir, "new"), path) },
		"hard link": func(path string) error { return os.Link(victim, path) },
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"socket":    func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"other owner": func(path string) error {
			if os.Geteuid() != 0 {
				t.Log("only root gives files away: other owner is not tested")
				return os.Mkdir(path, 0o700)
			}
			return errors.Join(os.WriteFile(path, []byte("precious"), 0o666), os.Chown(path, 12345, 12345))
		},
	} {
		for _, keep := range []int64{0, page} {
			t.Run(fmt.Sprint(name, keep), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "part")
				if err := make(path); err != nil {
					t.Fatal(err)
				}
				_, err := Open(context.Background(), path, Options{Keep: keep, Size: -1})
				wantCode(t, err, bits.AccessDenied)
				wantContent(t, victim, []byte("precious"))
			})
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "new")); err == nil {
		t.Error("a dangling symbolic link was followed")
	}
}

// TestOwnerIsTheFileSystemUser: the service opens files on threads that took on a user's identity.
func TestOwnerIsTheFileSystemUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root takes on another user")
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		_, err := unix.SetfsuidRetUid(12345)
		for range 2 { // the second time it is a leftover
			var p *Part
			if p, err = Open(context.Background(), filepath.Join(dir, "part"), Options{Size: 3}); err == nil {
				err = p.Close()
			}
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), filepath.Join(dir, "part"), Options{Size: 3})
	wantCode(t, err, bits.AccessDenied)
}

func TestModeIsPrivateUntilFinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "part")
	for range 2 { // the second time a finished leftover
		p := open(t, path, Options{Size: -1})
		feed(t, p, content(10))
		if st, _ := os.Stat(path); st.Mode() != 0o600 {
			t.Errorf("mode of the part is %v", st.Mode())
		}
		finish(t, p)
		want := os.FileMode(0o666 &^ umask())
		if st, _ := os.Stat(path); st.Mode() != want {
			t.Errorf("mode of the finished file is %v, want %v", st.Mode(), want)
		}
	}
}

// resident returns how many bytes of the file are in the page cache.
func resident(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	in := make([]byte, (len(m)+page-1)/page)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&in[0]))); errno != 0 {
		t.Fatal(errno)
	}
	n := 0
	for _, b := range in {
		n += int(b&1) * page
	}
	return n
}

func TestPageCacheStaysFree(t *testing.T) {
	for name, mode := range map[string]writeMode{"direct": direct, "dontcache": dontCache, "buffered": buffered} {
		t.Run(name, func(t *testing.T) {
			startMode = mode
			defer func() { startMode = direct }()
			path, data := filepath.Join(t.TempDir(), "part"), content(64<<20+100)
			p := open(t, path, Options{Size: int64(len(data))})
			feed(t, p, data)
			if n := resident(t, path); n > 16<<20 {
				t.Errorf("before Finish %d MiB are in the page cache", n>>20)
			}
			finish(t, p)
			if n := resident(t, path); n > 1<<20 {
				t.Errorf("after Finish %d KiB are in the page cache", n>>10)
			}
			if p = open(t, path, Options{Keep: 64 << 20, Size: -1, Hash: new(discard)}); p.Offset() != 64<<20 {
				t.Fatalf("kept %d", p.Offset())
			}
			if n := resident(t, path); n > 1<<20 {
				t.Errorf("after reading back %d KiB are in the page cache", n>>10)
			}
		})
	}
}

// discard is a hash that only counts.
type discard struct{ n int64 }

func (d *discard) Write(b []byte) (int, error) { d.n += int64(len(b)); return len(b), nil }
func (d *discard) Sum(b []byte) []byte         { return b }
func (d *discard) Reset()                      { d.n = 0 }
func (d *discard) Size() int                   { return 0 }
func (d *discard) BlockSize() int              { return 1 }

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestSpaceIsReservedAndGivenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "part")
	p := open(t, path, Options{Size: 8 << 20})
	if n := allocated(t, path); n < 8<<20 {
		t.Errorf("%d bytes are reserved", n)
	}
	if n, _ := (Owner{}).Watermark(path); n != 0 {
		t.Errorf("the reservation shows as %d bytes of content", n)
	}
	if err := p.SetSize(32 << 20); err != nil {
		t.Fatal(err)
	}
	if n := allocated(t, path); n < 32<<20 {
		t.Errorf("%d bytes are reserved after SetSize", n)
	}
	feed(t, p, content(1<<20))
	finish(t, p)
	if n := allocated(t, path); n > 2<<20 {
		t.Errorf("a file of 1 MiB takes %d KiB", n>>10)
	}
}

func TestHugeSizeIsRefusedAndTheFileKept(t *testing.T) {
	everyMode(t, func(t *testing.T, dir string) {
		path, data := filepath.Join(dir, "part"), content(2<<20)
		p := open(t, path, Options{Size: -1})
		feed(t, p, data)
		for _, size := range []int64{10 << 50, 1<<63 - 1} {
			err := p.SetSize(size)
			if err == nil && filepath.Base(t.Name()) == "ramfs" {
				continue // which has no size at all
			}
			if code := Err(err, path).Code; code != bits.DiskFull && code != bits.FileTooLarge {
				t.Fatalf("SetSize(%d): %v", size, err)
			}
			if _, err = Open(context.Background(), path, Options{Keep: 1 << 20, Size: size}); err == nil {
				t.Fatalf("Open with %d bytes succeeded", size)
			}
		}
		if n := allocated(t, path); n > 3<<20 {
			t.Errorf("%d bytes are still reserved", n)
		}
	})
}

func TestFullDisk(t *testing.T) {
	dir := mount(t, "tmpfs", "size=3m")
	path := filepath.Join(dir, "part")
	_, err := Open(context.Background(), path, Options{Size: 4 << 20})
	wantCode(t, err, bits.DiskFull)
	if n, err := (Owner{}).Watermark(path); n != 0 || err != nil {
		t.Errorf("after a refused size: %d bytes, %v", n, err)
	}

	data := content(8 << 20)
	p := open(t, path, Options{Size: -1})
	for rest := data; len(rest) > 0 && err != nil; {
		n := copy(p.Space(), rest)
		if aerr := p.Advance(n); aerr != nil {
			err = aerr
			break
		}
		rest = rest[n:]
	}
	if e := Err(err, path); e.Code != bits.DiskFull {
		t.Fatalf("writing 8 MiB: %v", err)
	}
	if _, cerr := p.Checkpoint(); cerr == nil {
		t.Error("Checkpoint succeeded after a failed write")
	}
	if ferr := p.Finish(time.Time{}); ferr == nil {
		t.Error("Finish succeeded after a failed write")
	}
	_ = p.Close() // tells the same error
	n, err := (Owner{}).Watermark(path)
	if err != nil || n == 0 {
		t.Fatalf("Watermark is %d, %v", n, err)
	}
	wantContent(t, path, data[:n]) // what is there is content
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	p = open(t, path, Options{Keep: n, Size: int64(len(data))})
	feed(t, p, data[p.Offset():])
	finish(t, p)
	wantContent(t, path, data)
}

func TestReadOnlyAndMissingDirectory(t *testing.T) {
	_, err := Open(context.Background(), filepath.Join(t.TempDir(), "none", "part"), Options{Size: -1})
	if e := Err(err, "/none/part"); e.Code != bits.PathNotFound {
		t.Errorf("missing directory: %v", err)
	}
	dir := mount(t, "tmpfs", "size=1m")
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), filepath.Join(dir, "part"), Options{Size: -1})
	if e := Err(err, "/ro/part"); e.Code != bits.WriteProtect {
		t.Errorf("read-only file system: %v", err)
	}
	// A cancel there has nothing to delete.
	if err := (Owner{}).Remove(filepath.Join(dir, "part")); err != nil {
		t.Errorf("no part file on a read-only file system: %v", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	finish(t, open(t, filepath.Join(dir, "part"), Options{Size: -1}))
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := (Owner{}).Remove(filepath.Join(dir, "part")); !errors.Is(err, unix.EROFS) {
		t.Errorf("a part file on a read-only file system: %v", err)
	}
}

func TestBootID(t *testing.T) {
	if id := BootID(); len(id) != 36 {
		t.Errorf("BootID is %q", id)
	}
}

// TestContinueKeepsEveryByte appends pieces of any length, each by a new Part that continues where
// the last one synced.
func TestContinueKeepsEveryByte(t *testing.T) {
	everyMode(t, func(t *testing.T, dir string) {
		for _, small := range []bool{true, false} {
			path := filepath.Join(dir, fmt.Sprint("part", small))
			var want []byte
			for i, n := range []int{0, 1, 4095, 1, 4096, 70_000, 3, 8192, 300_001, 17} {
				f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
				if err != nil {
					t.Fatal(err)
				}
				p, err := Continue(f, int64(len(want)), small)
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					for rest := n; rest > 0; {
						b := p.Space()
						k := min(rest, len(b))
						for j := range k {
							b[j] = byte(len(want)*7 + i)
							want = append(want, b[j])
						}
						if err := p.Advance(k); err != nil {
							t.Fatal(err)
						}
						rest -= k
					}
					if err := p.Sync(); err != nil {
						t.Fatal(err)
					}
					got, err := os.ReadFile(path)
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("after %d: the file has %d bytes that differ from the %d written, %v", i, len(got), len(want), err)
					}
				}
				// What comes after the last Sync is dropped by the next Continue.
				if err := p.Advance(copy(p.Space(), "lost")); err != nil {
					t.Fatal(err)
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Continue(f, int64(len(want)+5000), small); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("a file that is too short: %v", err)
			}
		}
	})
}
