package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// smallDisk puts a file system of a few bytes in the place of the service's directory.
func smallDisk(s *service, size int64) {
	s.t.Helper()
	isRoot(s.t)
	run(s.t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d,mode=755", size), "ebb-test", s.dir)
	s.t.Cleanup(func() {
		s.kill9()
		run(s.t, "umount", s.dir)
	})
}

func remount(s *service, how string) {
	s.t.Helper()
	run(s.t, "mount", "-o", "remount,"+how, s.dir)
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	for _, test := range []struct {
		name  string
		size  int64
		fault faultserver.Program
	}{
		{"the space is not there at the start", 12 * mib, faultserver.Program{}},
		{"the space runs out under a file of unknown size", 12 * mib, faultserver.Program{Range: faultserver.RangeIgnored, Framing: faultserver.FramingChunked}},
		{"the space runs out under a small file", 900 * kib, faultserver.Program{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, options{})
			room := int64(8 * mib)
			if test.size < room {
				room = test.size / 2 &^ 4095
			}
			smallDisk(s, room)
			e := srv.File("/"+strings.ReplaceAll(test.name, " ", "-"), faultserver.File{Seed: 1, Size: test.size})
			e.Set(func(p *faultserver.Program) { *p = test.fault })
			job := s.fetch(e.URL(), "file")
			info := s.untilState(job, bits.TransientError)
			isError(t, info, bits.DiskFull, bits.ContextLocalFile)
			if info.Times.RetryAt == nil {
				t.Error("no timer tries again")
			}
			s.nothingStray(job)
			remount(s, "size=64m")
			s.cli("resume", job.ID.String()).want(t, 0)
			s.arrives(job, e)
			s.holds("file")
		})
	}
}

// stalled is a job whose file stands still in the middle, and then is suspended.
func stalled(s *service, srv *faultserver.Server) (*client.Job, *faultserver.Entry) {
	s.t.Helper()
	e := srv.File("/"+s.t.Name(), faultserver.File{Seed: 1, Size: 2 * mib})
	e.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: 3 * mib / 2}})
	job := s.fetch(e.URL(), "file")
	s.moved(job, 3*mib/2)
	if err := job.Suspend(s.ctx()); err != nil {
		s.t.Fatal(err)
	}
	await(s.t, srv, "the transfer stops", srv.Idle)
	return job, e
}

func resume(s *service, job *client.Job) {
	s.t.Helper()
	if err := job.Resume(s.ctx()); err != nil {
		s.t.Fatal(err)
	}
}

func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	smallDisk(s, 32*mib)
	job, e := stalled(s, srv)
	// What is open for writing keeps the disk writable: the transfer may still be closing it.
	s.stop()
	s.up()
	remount(s, "ro")
	resume(s, job)
	isError(t, s.untilState(job, bits.Errored), bits.WriteProtect, bits.ContextLocalFile)
	if err := job.AddFiles(s.ctx(), s.file(srv.URL()+"/another", "another")); !errors.Is(err, &bits.Error{Code: bits.WriteProtect}) {
		t.Errorf("a file added on a read-only disk: %v", err)
	}
	remount(s, "rw")
	resume(s, job)
	s.settled(job, bits.Transferred)
	if again := srv.Refetched("/" + t.Name()); again > 64*kib {
		t.Errorf("%d bytes were fetched twice", again)
	}
	s.restart()
	remount(s, "ro")
	if _, err := job.Complete(s.ctx()); !errors.Is(err, &bits.Error{Code: bits.WriteProtect}) {
		t.Errorf("complete on a read-only disk gives %v", err)
	}
	remount(s, "rw")
	s.arrives(job, e)
	s.holds("file")
}

func TestDirectoryVanishes(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	remove := func() {
		if err := os.RemoveAll(s.dir); err != nil {
			t.Fatal(err)
		}
	}
	back := func(job *client.Job, e *faultserver.Entry) {
		t.Helper()
		if err := os.Mkdir(s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		resume(s, job)
		s.arrives(job, e)
		s.holds("file")
		if err := os.Remove(filepath.Join(s.dir, "file")); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("while the job is suspended", func(t *testing.T) {
		s := s.in(t)
		job, e := stalled(s, srv)
		remove()
		resume(s, job)
		info := s.untilState(job, bits.Errored)
		isError(t, info, bits.PathNotFound, bits.ContextLocalFile)
		if info.Error.File != info.Files[0].Local {
			t.Errorf("the error is about %q", info.Error.File)
		}
		back(job, e)
	})
	t.Run("under a running transfer", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/running", faultserver.File{Seed: 1, Size: 2 * mib})
		e.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: 3 * mib / 2}})
		job := s.fetch(e.URL(), "file")
		s.moved(job, 3*mib/2)
		remove()
		e.Release()
		isError(t, s.untilState(job, bits.Errored), bits.PathNotFound, bits.ContextLocalFile)
		back(job, e)
	})
}

// Whoever may write to the directory must not lead the service to other files.
func TestPlantedPartFileIsRefused(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	for _, test := range []struct {
		name  string
		plant func(victim, part string) error
	}{
		{"a symbolic link", os.Symlink},
		{"a hard link", os.Link},
		{"a directory", func(_, part string) error { return os.Mkdir(part, 0o755) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, options{})
			victim := filepath.Join(t.TempDir(), "victim")
			if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			job, e := stalled(s, srv)
			part := s.info(job).Files[0].Temporary
			if err := errors.Join(os.Remove(part), test.plant(victim, part)); err != nil {
				t.Fatal(err)
			}
			resume(s, job)
			isError(t, s.untilState(job, bits.Errored), bits.AccessDenied, bits.ContextLocalFile)
			if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
				t.Errorf("the other file is now %q, %v", b, err)
			}
			if err := os.Remove(part); err != nil {
				t.Fatal(err)
			}
			resume(s, job)
			s.arrives(job, e)
			s.holds("file")
		})
	}
}

func TestDestinationIsADirectory(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: 5000})
	if err := os.Mkdir(filepath.Join(s.dir, "file"), 0o755); err != nil {
		t.Fatal(err)
	}
	job := s.fetch(e.URL(), "file")
	s.settled(job, bits.Transferred)
	_, err := job.Complete(s.ctx())
	if !errors.Is(err, &bits.Error{Code: bits.AccessDenied}) || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("complete gives %v", err)
	}
	if err := os.Remove(filepath.Join(s.dir, "file")); err != nil {
		t.Fatal(err)
	}
	s.arrives(job, e)
	s.holds("file")
}

func TestChecksums(t *testing.T) {
	t.Parallel()
	const size = mib + 5
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	content := func(seed uint64) []byte {
		b := make([]byte, size)
		if _, err := faultserver.Content(seed, size).ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, algorithm := range []string{"sha256", "sha512", "blake3"} {
		right, wrong := checksum(algorithm, content(1)), checksum(algorithm, content(2))
		fetch := func(s *service, e *faultserver.Entry, sum string) *client.Job {
			f := s.file(e.URL(), algorithm)
			f.Checksum = sum
			return s.create(fetched{files: []bits.FileSpec{f}})
		}
		serveIt := func(name string) *faultserver.Entry {
			return srv.File("/"+algorithm+name, faultserver.File{Seed: 1, Size: size})
		}
		t.Run(algorithm+" that is right", func(t *testing.T) {
			s, e := s.in(t), serveIt("right")
			s.arrives(fetch(s, e, strings.ToUpper(right)), e)
		})
		t.Run(algorithm+" that is right, over an interruption", func(t *testing.T) {
			s, e := s.in(t), serveIt("interrupted")
			e.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: size - 100}})
			job := fetch(s, e, right)
			s.moved(job, size-100)
			if err := job.Suspend(s.ctx()); err != nil {
				t.Fatal(err)
			}
			s.stop()
			s.up()
			resume(s, job)
			s.arrives(job, e)
			if again := srv.Refetched("/" + algorithm + "interrupted"); again > 4*kib {
				t.Errorf("%d bytes were fetched twice", again)
			}
		})
		t.Run(algorithm+" that is wrong", func(t *testing.T) {
			s, e := s.in(t), serveIt("wrong")
			job := fetch(s, e, wrong)
			info := s.settled(job, bits.Errored)
			isError(t, info, bits.ValidationFailed, bits.ContextRemoteFile)
			for _, sum := range []string{right, wrong} {
				if !strings.Contains(info.Error.Message, sum) {
					t.Errorf("the message %q does not name %s", info.Error.Message, sum)
				}
			}
			e.Replace(faultserver.File{Seed: 2, Size: size})
			resume(s, job)
			s.arrives(job, e)
		})
	}
	t.Run("over kill -9", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/killed", faultserver.File{Seed: 1, Size: 6 * mib})
		e.Set(func(p *faultserver.Program) { p.Rate = 6 * mib })
		f := s.file(e.URL(), "killed")
		f.Checksum = "sha256:" + e.SHA256()
		job := s.create(fetched{files: []bits.FileSpec{f}})
		s.moved(job, 5*mib)
		s.restart()
		s.arrives(job, e)
	})
}
