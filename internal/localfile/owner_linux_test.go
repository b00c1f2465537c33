package localfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bits"
)

// Two users that the system's database does not know.
const (
	aliceUID = 61001
	bobUID   = 61002
)

// home makes a directory of a user that only it can enter, below one that all can.
func home(t *testing.T, uid int) string {
	t.Helper()
	dir := filepath.Join(shared(t), fmt.Sprint(uid))
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, uid, uid)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shared makes a directory that all may enter and root alone may write to.
func shared(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root acts as another user")
	}
	dir, err := os.MkdirTemp("/var/tmp", "ebb-owner-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// download makes a finished file as Ebb does.
func finishPart(o Owner, path string) error {
	part := filepath.Join(filepath.Dir(path), ".part")
	p, err := Open(context.Background(), part, Options{Owner: o, Size: 5})
	if err != nil {
		return err
	}
	err = p.Advance(copy(p.Space(), "hello"))
	if err == nil {
		err = p.Finish(time.Unix(1e9, 0))
	}
	if err = errors.Join(err, p.Close()); err != nil {
		return err
	}
	return errors.Join(o.Place(part, path, p.Inode()), o.SyncDir(filepath.Dir(path)))
}

func TestFilesBelongToTheOwner(t *testing.T) {
	dir := home(t, aliceUID)
	dest := filepath.Join(dir, "file")
	if err := finishPart(User(aliceUID), dest); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dest, &st); err != nil {
		t.Fatal(err)
	}
	if st.Uid != aliceUID || st.Mode != unix.S_IFREG|0o644 || st.Mtim.Sec != 1e9 {
		t.Errorf("uid %d, mode %o, date %d", st.Uid, st.Mode, st.Mtim.Sec)
	}
	f, err := User(aliceUID).Open(dest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); string(b) != "hello" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	if err := User(aliceUID).Remove(dest); err != nil {
		t.Error(err)
	}
}

// What another user may not do, a job of theirs may not do either, although the process is root.
func TestOwnerHasNoOtherRights(t *testing.T) {
	alices, bob := home(t, aliceUID), User(bobUID)
	secret := filepath.Join(alices, "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := bob.Open(secret)
	for name, err := range map[string]error{
		"open":         err,
		"make":         finishPart(bob, filepath.Join(alices, "mine")),
		"make in root": finishPart(bob, filepath.Join(filepath.Dir(alices), "mine")),
		"remove":       bob.Remove(secret),
		"place":        bob.Place(secret, filepath.Join(alices, "x"), 1),
		"directory":    bob.CheckDir(alices),
		"shadow":       func() error { _, err := bob.Open("/etc/shadow"); return err }(),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(secret); err != nil {
		t.Error(err)
	}
	if err := User(aliceUID).CheckDir(alices); err != nil {
		t.Errorf("the owner's own directory: %v", err)
	}
}

// Each directory has an answer of its own, and is looked for only where the owner's files would be made.
func TestDirectoriesOfTheOwner(t *testing.T) {
	alices, bob := home(t, aliceUID), User(bobUID)
	bobs := home(t, bobUID)
	box := filepath.Join(filepath.Dir(alices), "box")
	link, hers := filepath.Join(bobs, "link"), filepath.Join(box, "link")
	if err := errors.Join(os.Mkdir(box, 0o777), os.Chmod(box, 0o777), os.Symlink(box, link), os.Symlink(bobs, hers), os.Lchown(hers, aliceUID, aliceUID)); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		dir  string
		want bits.Code
	}{
		{bobs, bits.OK},
		{alices, bits.AccessDenied},
		{filepath.Join(alices, "unknown"), bits.AccessDenied}, // not that it is not there
		{filepath.Join(bobs, "unknown"), bits.PathNotFound},
		{box, bits.OK},
		{link, bits.OK},
		{hers, bits.AccessDenied}, // a link of another user's
		{"/proc/self/fd", bits.AccessDenied},
		{filepath.Dir(alices), bits.AccessDenied},
		{bobs + "/..", bits.AccessDenied},
	}
	dirs := make([]string, len(cases))
	for i := range cases {
		dirs[i] = cases[i].dir
	}
	for i, err := range bob.CheckDirs(dirs) {
		got := bits.OK
		if e := Err(err, dirs[i]); e != nil {
			got = e.Code
		}
		if got != cases[i].want {
			t.Errorf("%s: %v, want %s", dirs[i], err, cases[i].want)
		}
	}
}

// A user's file rights end with the call: other threads keep theirs.
func TestOwnersSideBySide(t *testing.T) {
	var wg sync.WaitGroup
	dirs := map[uint32]string{aliceUID: home(t, aliceUID), bobUID: home(t, bobUID)}
	for i := range 200 {
		uid := uint32(aliceUID)
		if i%2 == 0 {
			uid = bobUID
		}
		wg.Go(func() {
			path := filepath.Join(dirs[uid], fmt.Sprint(i))
			err := User(uid).Do(func() error { return os.WriteFile(path, nil, 0o600) })
			if err != nil {
				t.Error(err)
				return
			}
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil || st.Uid != uid {
				t.Errorf("file of %d belongs to %d, %v", uid, st.Uid, err)
			}
			if now, _ := unix.SetfsuidRetUid(-1); now != os.Geteuid() {
				t.Errorf("this thread acts as %d", now)
			}
		})
	}
	wg.Wait()
}

func TestOwnerGroups(t *testing.T) {
	dir := shared(t)
	group := filepath.Join(dir, "group")
	// "mail" has a group of that name and nothing else that would let it in.
	if err := errors.Join(os.WriteFile(group, nil, 0o040), os.Chown(group, 0, 8)); err != nil {
		t.Fatal(err)
	}
	f, err := User(8).Open(group)
	if err != nil {
		t.Fatalf("a member of the group: %v", err)
	}
	_ = f.Close()
	if _, err := User(bobUID).Open(group); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("no member of the group: %v", err)
	}
	// The groups of the process do not stay.
	if err := os.Chown(group, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := User(bobUID).Open(group); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("root's group: %v", err)
	}
}

func TestLinksOfOthersAreNotFollowed(t *testing.T) {
	alices, dir := home(t, aliceUID), shared(t)
	target := filepath.Join(alices, "target")
	if err := errors.Join(os.WriteFile(target, []byte("x"), 0o600), os.Chown(target, aliceUID, aliceUID), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	link := func(name, to string, uid int) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Symlink(to, path), os.Lchown(path, uid, uid)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	alice := User(aliceUID)
	for name, test := range map[string]struct {
		via string
		ok  bool
	}{
		"own":         {link("own", alices, aliceUID), true},
		"root's":      {link("root", alices, 0), true},
		"relative":    {link("relative", "../"+filepath.Base(filepath.Dir(alices))+"/./"+filepath.Base(alices)+"//", 0), true},
		"another's":   {link("bob", alices, bobUID), false},
		"own to bob":  {link("chain", filepath.Join(dir, "bob"), aliceUID), false},
		"/proc":       {link("proc", "/proc/self/root"+alices, aliceUID), true}, // what the text says, as the user
		"round":       {link("round", filepath.Join(dir, "round"), aliceUID), false},
		"not a place": {link("file", target, aliceUID), false},
	} {
		f, err := alice.Open(filepath.Join(test.via, "target"))
		if err == nil {
			_ = f.Close()
		}
		if (err == nil) != test.ok {
			t.Errorf("%s: open: %v", name, err)
		}
		err = finishPart(alice, filepath.Join(test.via, "new"))
		if (err == nil) != test.ok {
			t.Errorf("%s: make: %v", name, err)
		}
	}
	if f, err := alice.Open(link("last", target, aliceUID)); err != nil {
		t.Errorf("own link at the end: %v", err)
	} else {
		_ = f.Close()
	}
	_, err := alice.Open(link("lastbob", target, bobUID))
	wantCode(t, err, bits.AccessDenied)
	// A link at the place of a part file, or of the file itself, is not written through.
	part := link(".part", target, aliceUID)
	wantCode(t, finishPart(alice, filepath.Join(dir, "dest")), bits.AccessDenied)
	if err := os.Remove(part); err != nil {
		t.Fatal(err)
	}
	dest := link("dest", target, aliceUID)
	if err := finishPart(alice, dest); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(target); string(b) != "x" || err != nil {
		t.Errorf("the target was written: %q, %v", b, err)
	}
}

// The service's own /proc holds the open files of all users.
func TestProcIsRefused(t *testing.T) {
	alices := home(t, aliceUID)
	open := filepath.Join(alices, "open") // readable for all, in a directory that is not
	if err := os.WriteFile(open, []byte("s"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(open)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bob := User(bobUID)
	for _, path := range []string{
		fmt.Sprintf("/proc/self/fd/%d", f.Fd()), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), "/dev/fd/" + fmt.Sprint(f.Fd()),
		"/proc/self/environ", "/proc/self/maps", "/proc/self/status", "/proc/thread-self/maps", "/proc/version", "/proc/self/root" + open,
	} {
		if g, err := bob.Open(path); err == nil {
			b, _ := io.ReadAll(g)
			_ = g.Close()
			t.Errorf("%s can be read: %.40q", path, b)
		}
	}
	for _, path := range []string{"/proc/self/fd/new", "/proc/self/comm", "/proc/self/task/x"} {
		if err := finishPart(bob, path); err == nil {
			t.Errorf("%s was made", path)
		}
	}
}

func TestSpecialFilesAreRefused(t *testing.T) {
	alices := home(t, aliceUID)
	alice := User(aliceUID)
	fifo, null, dir := filepath.Join(alices, "fifo"), filepath.Join(alices, "null"), filepath.Join(alices, "dir")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Chown(fifo, aliceUID, aliceUID), os.Mkdir(dir, 0o700), os.Chown(dir, aliceUID, aliceUID)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), os.Chmod(null, 0o666)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, null, dir} {
		_, err := alice.Open(path)
		wantCode(t, err, bits.InvalidArg)
		_, err = Open(context.Background(), path, Options{Owner: alice, Size: -1})
		wantCode(t, err, bits.AccessDenied)
	}
	// A leftover with a set-id bit loses it.
	part := filepath.Join(alices, "left")
	if err := errors.Join(os.WriteFile(part, nil, 0o600), os.Chown(part, aliceUID, aliceUID), unix.Chmod(part, 0o6600)); err != nil {
		t.Fatal(err)
	}
	p, err := Open(context.Background(), part, Options{Owner: alice, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Close()
	var st unix.Stat_t
	if err := unix.Stat(part, &st); err != nil || st.Mode&0o7777 != 0o600 {
		t.Errorf("mode %o, %v", st.Mode, err)
	}
	// One of another user is refused.
	if err := os.Chown(part, bobUID, bobUID); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(part, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), part, Options{Owner: alice, Size: -1})
	wantCode(t, err, bits.AccessDenied)
}

// BenchmarkDo is one call as another user, with a thread that is there.
func BenchmarkDo(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("only root acts as another user")
	}
	for b.Loop() {
		if err := User(aliceUID).Do(func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCheckDirs is a call with 1 directory and one with 1,000.
func BenchmarkCheckDirs(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("only root acts as another user")
	}
	top := b.TempDir()
	for _, n := range []int{1, 1000} {
		dirs := make([]string, n)
		for i := range dirs {
			dirs[i] = filepath.Join(top, fmt.Sprint(i))
			if err := os.MkdirAll(dirs[i], 0o755); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				User(aliceUID).CheckDirs(dirs)
			}
		})
	}
}
