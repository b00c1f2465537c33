package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// posixList gives bob, too, the right to read: rw- for the owner, r-- for him, nothing for the group,
// r-- as the mask, nothing for others (acl(5)). Its mode is 0640.
var posixList = []byte{2, 0, 0, 0,
	1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,
	2, 0, 4, 0, bobUID & 0xff, bobUID >> 8, 0, 0,
	4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
	16, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
	32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}

const posixACL = "system.posix_acl_access"

// rightsOf says in one line whose a file is and who may do what with it.
func rightsOf(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	list := make([]byte, 256)
	n, err := unix.Lgetxattr(path, posixACL, list)
	if err != nil && err != unix.ENODATA {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d %o %x", st.Uid, st.Gid, st.Mode&0o7777, list[:max(n, 0)])
}

// A copy gets what acl_flags name of the rights of its source, as far as the job's owner may give it; else
// the job waits, and says what would help.
func TestSystemRightsOfSources(t *testing.T) {
	t.Parallel()
	m := startSystem(t, options{})
	alice := m.person(aliceUID)
	public := filepath.Join(m.root, "public")
	must(t, os.Mkdir(public, 0o755))
	source := func(name string, uid int, mode uint32, list []byte) string {
		path := filepath.Join(public, name)
		must(t, errors.Join(os.WriteFile(path, []byte(strings.Repeat(name, 1000)), 0o600), os.Chown(path, uid, uid), unix.Chmod(path, mode)))
		if list != nil {
			must(t, unix.Setxattr(path, posixACL, list, 0))
		}
		return path
	}
	copied := func(from, to string, flags bits.ACLFlags) *client.Job {
		return m.Job(alice.make(bits.NewJob{Files: []bits.FileSpec{alice.file("file://"+from, to)}, Resume: true,
			Settings: bits.Settings{AutoComplete: ptr(true), Options: bits.Options{ACLFlags: &flags}}}))
	}
	own := source("own", aliceUID, 0o600, posixList)
	roots := source("roots", 0, 0o6745, nil)
	unreadable := source("unreadable", 0, 0o600, nil)
	const group = 65534 // of users that the database does not know
	for _, c := range []struct {
		from, to string
		flags    bits.ACLFlags
		want     string
	}{
		{own, "plain", 0, fmt.Sprintf("%d:%d 644 ", aliceUID, group)},
		{own, "list", bits.ACLOwner | bits.ACLDACL | bits.ACLSACL, fmt.Sprintf("%d:%d 640 %x", aliceUID, group, posixList)},
		{roots, "mode", bits.ACLDACL, fmt.Sprintf("%d:%d 745 ", aliceUID, group)}, // nothing that lends rights
	} {
		m.settled(copied(c.from, c.to, c.flags), bits.Acknowledged)
		if got := rightsOf(t, filepath.Join(alice.dir, c.to)); got != c.want {
			t.Errorf("%s: the copy is %s, want %s", c.to, got, c.want)
		}
	}
	for flag, what := range map[bits.ACLFlags]string{bits.ACLOwner: "only root gives", bits.ACLGroup: "only who is in a group"} {
		job := copied(roots, what, flag)
		info := m.untilState(job, bits.TransientError)
		isError(t, info, bits.AccessDenied, bits.ContextLocalFile)
		if !strings.Contains(info.Error.Message, what) {
			t.Errorf("the error is %q", info.Error.Message)
		}
		if r := m.cli("explain", job.ID.String()).want(t, 0); !strings.Contains(r.out, "acl_flags") {
			t.Errorf("explain says %q", r.out)
		}
		m.cli("set", job.ID.String(), "acl_flags=dacl").want(t, 0)
		must(t, job.Resume(m.ctx()))
		m.settled(job, bits.Acknowledged)
	}
	// What alice may not read is not copied, whatever is asked for.
	isError(t, m.settled(copied(unreadable, "secret", bits.ACLAll), bits.Errored), bits.AccessDenied, bits.ContextRemoteFile)
	alice.holds("plain", "list", "mode", "only root gives", "only who is in a group")
}

// Root gives copies to whom their sources belong, also after a crash in which the part file is another's.
func TestRootGivesCopiesAway(t *testing.T) {
	t.Parallel()
	isRoot(t)
	s := start(t, options{})
	from := filepath.Join(t.TempDir(), "file")
	must(t, errors.Join(os.WriteFile(from, []byte("bob's"), 0o600), os.Chown(from, bobUID, bobUID), os.Chmod(from, 0o440)))
	job := s.create(fetched{files: []bits.FileSpec{s.file("file://"+from, "copy")}, settings: bits.Settings{Options: bits.Options{ACLFlags: ptr(bits.ACLAll)}}})
	info := s.settled(job, bits.Transferred)
	want := fmt.Sprintf("%d:%d 440 ", bobUID, bobUID)
	if got := rightsOf(t, info.Files[0].Temporary); got != want {
		t.Errorf("the finished part file is %s, want %s", got, want)
	}
	// Its content is refused, and fetched again: the part file is in nobody's way.
	s.cli("file", "validate", job.ID.String(), "0", "wrong").want(t, 0)
	must(t, job.Resume(s.ctx()))
	s.settled(job, bits.Transferred)
	s.complete(job)
	if got := rightsOf(t, filepath.Join(s.dir, "copy")); got != want {
		t.Errorf("the copy is %s, want %s", got, want)
	}
	s.holds("copy")
}
