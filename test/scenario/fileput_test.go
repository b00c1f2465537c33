package scenario

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// contentOf returns a file's made-up content.
func contentOf(t *testing.T, seed uint64, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	_, err := faultserver.Content(seed, int64(size)).ReadAt(b, 0)
	must(t, err)
	return b
}

// isFile checks a file's content.
func isFile(t *testing.T, path string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, %v, want %d", path, len(got), err, len(want))
	}
}

func TestPutToFiles(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	to := t.TempDir()
	content := contentOf(t, 4, 3*mib+7)
	source := filepath.Join(s.dir, "a b.iso")
	date := time.Now().Add(-time.Hour)
	must(t, errors.Join(os.WriteFile(source, content, 0o640), os.Chtimes(source, date, date)))
	empty := filepath.Join(s.dir, "empty")
	must(t, os.WriteFile(empty, nil, 0o644))

	r := s.cli("put", source, empty, "file://"+to).want(t, 0)
	isFile(t, filepath.Join(to, "a b.iso"), content)
	isFile(t, filepath.Join(to, "empty"), nil)
	if info, err := os.Stat(filepath.Join(to, "a b.iso")); err != nil || !info.ModTime().Equal(date) || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	if want := "file://" + to + "/a%20b.iso\nfile://" + to + "/empty\n"; r.out != want {
		t.Errorf("it prints %q, want %q", r.out, want)
	}
	// What has the name is replaced, and a name of its own is taken.
	must(t, os.WriteFile(filepath.Join(to, "other"), []byte("old"), 0o600))
	s.cli("put", source, "file://localhost"+to+"/other").want(t, 0)
	isFile(t, filepath.Join(to, "other"), content)

	var failed []bits.ID
	upload := func(url string, set bits.Settings) *bits.Job {
		set.Name, set.Priority = ptr(t.Name()), ptr(bits.Foreground)
		job, err := s.Create(s.ctx(), bits.NewJob{Type: bits.Upload, Settings: set, Files: []bits.FileSpec{{Remote: url, Local: source}}, Resume: true})
		must(t, err)
		info, err := job.Wait(s.ctx())
		must(t, err)
		if info.State == bits.Errored {
			failed = append(failed, job.ID)
		}
		return info
	}
	info := upload("file://"+to+"/rights", bits.Settings{Options: bits.Options{ACLFlags: ptr(bits.ACLDACL)}})
	if got := info.Files[0]; info.State != bits.Transferred || got.Protocol != bits.ProtocolFile || got.Remote != "file://"+to+"/rights" {
		t.Errorf("%s: %+v", info.State, got)
	}
	if info, err := os.Stat(filepath.Join(to, "rights")); err != nil || info.Mode() != 0o640 {
		t.Errorf("the target has the rights %v, %v", info, err)
	}
	must(t, os.Mkdir(filepath.Join(to, "dir"), 0o755))
	for url, code := range map[string]bits.Code{
		"file://" + to + "/none/at/all": bits.PathNotFound,
		"file://" + to + "/dir":         bits.AccessDenied,
		"smb://nosuchserver/share/a":    bits.PathNotFound,
	} {
		info := upload(url, bits.Settings{})
		if info.State != bits.Errored {
			t.Errorf("%s: %s", url, info.State)
		}
		isError(t, info, code, bits.ContextRemoteFile)
	}
	isError(t, upload("file://"+to+"/x", bits.Settings{Protocol: ptr(bits.ProtocolTus)}), bits.InvalidArg, bits.ContextRemoteFile)
	if r := s.cli("put", "--reply", "-", source, "file://"+to+"/x"); r.code != 2 {
		t.Errorf("a reply of a file: exit code %d, %s", r.code, r.err)
	}
	if r := s.cli("put", source, empty); r.code != 2 {
		t.Errorf("without a target: exit code %d, %s", r.code, r.err)
	}
	// What a cancelled upload has left goes, a little later.
	for _, j := range failed {
		_, err := s.Job(j).Cancel(s.ctx())
		must(t, err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		hidden, err := filepath.Glob(filepath.Join(to, ".*"))
		must(t, err)
		if len(hidden) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("there are %v", hidden)
		}
	}
}

// An upload to a file goes on after the service was killed.
func TestPutToFilesAfterKill(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	to := t.TempDir()
	content := contentOf(t, 5, 192*mib)
	source := filepath.Join(s.dir, "big")
	must(t, os.WriteFile(source, content, 0o644))
	job, err := s.Create(s.ctx(), bits.NewJob{Type: bits.Upload, Settings: bits.Settings{Name: ptr(t.Name()), Priority: ptr(bits.Foreground)},
		Files: []bits.FileSpec{{Remote: "file://" + to + "/big", Local: source}}, Resume: true})
	must(t, err)
	s.until(job, "some bytes", func(j *bits.Job) bool { return j.Progress.BytesTransferred > 0 })
	s.restart()
	s.settled(job, bits.Transferred)
	s.complete(job)
	isFile(t, filepath.Join(to, "big"), content)
	if left, err := os.ReadDir(to); err != nil || len(left) != 1 {
		t.Errorf("there are %v, %v", left, err)
	}
}
