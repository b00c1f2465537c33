package localfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bits"
)

// list3 is an access control list that gives a further user the right to read: rw-, r-- for the user
// 61009, group ---, mask r--, others --- (acl(5)).
var list3 = []byte{2, 0, 0, 0,
	1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,
	2, 0, 4, 0, 0x51, 0xee, 0, 0,
	4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
	16, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
	32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}

// copyOf finishes a part file with the rights of a source, and puts it in its place.
func copyOf(t *testing.T, o Owner, source, dest string, what bits.ACLFlags) error {
	t.Helper()
	f, err := os.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := RightsOf(f, what)
	if err != nil {
		t.Fatal(err)
	}
	part := dest + ".part"
	if err := o.Reclaim(part); err != nil {
		t.Fatal(err)
	}
	p, err := Open(context.Background(), part, Options{Owner: o, Size: 5})
	if err != nil {
		return err
	}
	p.SetRights(r)
	err = p.Advance(copy(p.Space(), "hello"))
	if err == nil {
		err = p.Finish(time.Unix(1e9, 0))
	}
	if err = errors.Join(err, p.Close()); err != nil {
		return err
	}
	return o.Place(part, dest, p.Inode())
}

func aclOf(t *testing.T, path string) []byte {
	t.Helper()
	b := make([]byte, 256)
	n, err := unix.Lgetxattr(path, posixACL, b)
	if err == unix.ENODATA {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// memberUID is a user in a group that is not its primary one.
const memberUID = 61003

func TestRightsOfASource(t *testing.T) {
	usersMu.Lock()
	users[memberUID] = &acting{uid: memberUID, idle: make(chan func()), gid: noGroup, groups: []uint32{12}, looked: time.Now().Add(time.Hour)}
	usersMu.Unlock()
	alices, dir := home(t, aliceUID), shared(t)
	source := filepath.Join(dir, "source")
	alice := User(aliceUID)
	for _, c := range []struct {
		name     string
		uid, gid int
		mode     uint32
		acl      []byte
		as       Owner
		what     bits.ACLFlags
		refused  bool
		want     unix.Stat_t // uid, gid, mode
	}{
		{"nothing asked for", 0, 0, 0o751, list3, alice, 0, false, unix.Stat_t{Uid: aliceUID, Gid: noGroup, Mode: 0o644}},
		{"what is audited has no counterpart", 0, 0, 0o751, nil, alice, bits.ACLSACL, false, unix.Stat_t{Uid: aliceUID, Gid: noGroup, Mode: 0o644}},
		{"mode", 0, 0, 0o751, nil, alice, bits.ACLDACL, false, unix.Stat_t{Uid: aliceUID, Gid: noGroup, Mode: 0o751}},
		{"no right is lent", 0, 0, 0o6755 | unix.S_ISVTX, nil, alice, bits.ACLDACL, false, unix.Stat_t{Uid: aliceUID, Gid: noGroup, Mode: 0o755}},
		{"list", 0, 0, 0o640, list3, alice, bits.ACLDACL, false, unix.Stat_t{Uid: aliceUID, Gid: noGroup, Mode: 0o640}},
		{"own file", aliceUID, noGroup, 0o600, nil, alice, bits.ACLAll, false, unix.Stat_t{Uid: aliceUID, Gid: noGroup, Mode: 0o600}},
		{"another's file", bobUID, noGroup, 0o644, nil, alice, bits.ACLOwner, true, unix.Stat_t{}},
		{"root's file", 0, 0, 0o4755, nil, alice, bits.ACLAll, true, unix.Stat_t{}},
		{"root's group", 0, 0, 0o2755, nil, alice, bits.ACLGroup, true, unix.Stat_t{}},
		{"a group of the owner's", 0, 12, 0o2755, nil, User(memberUID), bits.ACLGroup | bits.ACLDACL, false, unix.Stat_t{Uid: memberUID, Gid: 12, Mode: 0o755}},
		{"root gives files away", bobUID, bobUID, 0o440, list3, Owner{}, bits.ACLAll, false, unix.Stat_t{Uid: bobUID, Gid: bobUID, Mode: 0o640}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_ = os.Remove(source)
			err := errors.Join(os.WriteFile(source, nil, 0o600), os.Chown(source, c.uid, c.gid), unix.Chmod(source, c.mode))
			if err == nil && c.acl != nil {
				err = unix.Setxattr(source, posixACL, c.acl, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(alices, "copy")
			if c.as == User(memberUID) {
				to = filepath.Join(home(t, memberUID), "copy")
			}
			_ = os.Remove(to)
			err = copyOf(t, c.as, source, to, c.what)
			var rights *RightsError
			if c.refused {
				var e *bits.Error
				if !errors.As(err, &e) || e.Code != bits.AccessDenied || !errors.As(err, &rights) {
					t.Fatalf("it ends with %v", err)
				}
				var st unix.Stat_t // nothing that was given is too much
				if err := unix.Lstat(to+".part", &st); err != nil || st.Mode != unix.S_IFREG|0o600 || st.Uid != aliceUID {
					t.Errorf("the part file belongs to %d and has mode %o, %v", st.Uid, st.Mode, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var st unix.Stat_t
			if err := unix.Lstat(to, &st); err != nil || st.Uid != c.want.Uid || st.Gid != c.want.Gid || st.Mode != unix.S_IFREG|c.want.Mode || st.Mtim.Sec != 1e9 {
				t.Errorf("the copy belongs to %d:%d, has mode %o and date %d, %v", st.Uid, st.Gid, st.Mode, st.Mtim.Sec, err)
			}
			want := c.acl
			if c.what&bits.ACLDACL == 0 {
				want = nil
			}
			if got := aclOf(t, to); string(got) != string(want) {
				t.Errorf("the copy has the list %v, want %v", got, want)
			}
		})
	}
}

// A file that went to another user, or that its owner may not write to, is not in the way of the next
// attempt; one that is not finished stays.
func TestReclaim(t *testing.T) {
	dir := home(t, aliceUID)
	path := filepath.Join(dir, "part")
	for mode, stays := range map[os.FileMode]bool{0o600: true, 0o644: true, 0o444: false} {
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, aliceUID, -1), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		if err := User(aliceUID).Reclaim(path); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); stays != (err == nil) {
			t.Errorf("mode %o: %v", mode, err)
		}
		_ = os.Remove(path)
	}
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, bobUID, -1), User(aliceUID).Reclaim(path)); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the file of another user stays")
	}
	if err := errors.Join(os.Symlink("/etc/passwd", path), User(aliceUID).Reclaim(path), User(aliceUID).Reclaim(path+"x")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error("a link was removed")
	}
}
