package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// sharers makes jobs that fetch the same file, without starting them.
func (s *service) sharers(n int, url string, f fetched) []*client.Job {
	s.t.Helper()
	var jobs []*client.Job
	for i := range n {
		f.name = fmt.Sprintf("%s %d", s.t.Name(), i)
		f.files = []bits.FileSpec{s.file(url, fmt.Sprintf("%d-%s", i, filepath.Base(url)))}
		f.waits = true
		jobs = append(jobs, s.create(f))
	}
	return jobs
}

// sharing waits until a job waits for another one that fetches the same file.
func (s *service) sharing(job *client.Job) {
	s.t.Helper()
	s.until(job, "waiting for another job", func(j *bits.Job) bool { return j.Pace != nil && j.Pace.State == bits.PaceShared })
}

func TestJobsShareWhatTheyFetch(t *testing.T) {
	t.Parallel()
	const size = 6*mib + 123
	s := start(t, options{})
	srv := serve(t, faultserver.Options{})
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	file := faultserver.File{Seed: 5, Size: size, LastModified: old}
	silent := faultserver.Program{Silent: true}
	stalls := faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: size / 2}}

	t.Run("one body for many jobs", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/many", file)
		e.Script(silent)
		jobs := s.sharers(4, e.URL(), fetched{})
		back := s.sharers(1, e.URL(), fetched{name: "back", priority: bits.Low, settings: bits.Settings{AutoComplete: ptr(true)}})[0]
		s.resume(jobs[0])
		await(t, srv, "the first request", func() bool { return len(srv.RequestsFor("/many")) == 1 })
		for _, j := range append(jobs[1:], back) {
			s.resume(j)
			s.sharing(j)
		}
		said := s.cli("explain", jobs[3].ID.String()).want(t, 0).out
		if !strings.Contains(said, "fetches the same file") || !strings.Contains(said, jobs[0].ID.String()[:8]) {
			t.Errorf("explain says %q", said)
		}
		if said := s.cli("show", jobs[3].ID.String()).want(t, 0).out; !strings.Contains(said, "fetches the same file") {
			t.Errorf("show says %q", said)
		}
		e.Release()
		for _, j := range jobs {
			s.arrives(j, e) // and is put into its place, maybe while others copy it
		}
		s.settled(back, bits.Acknowledged)
		if n := srv.Sent("/many"); n > size+4 {
			t.Errorf("the server sent %d bytes for five jobs, the file has %d", n, int64(size))
		}
	})

	t.Run("jobs that take turns, also of what is in its place", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/turns", file)
		jobs := s.sharers(3, e.URL(), fetched{priority: bits.Normal, settings: bits.Settings{AutoComplete: ptr(true)}})
		for _, j := range jobs {
			s.resume(j)
		}
		for i, j := range jobs {
			s.settled(j, bits.Acknowledged)
			s.isWhole(filepath.Join(s.dir, fmt.Sprintf("%d-turns", i)), e)
		}
		if n := srv.Sent("/turns"); n > size+2 {
			t.Errorf("the server sent %d bytes for three jobs, the file has %d", n, int64(size))
		}
	})

	t.Run("one that stops in the middle leaves what it has", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/half", file)
		e.Script(stalls)
		jobs := s.sharers(2, e.URL(), fetched{})
		s.resume(jobs[0])
		s.moved(jobs[0], size/2)
		s.resume(jobs[1])
		s.sharing(jobs[1])
		if err := jobs[0].Suspend(s.ctx()); err != nil {
			t.Fatal(err)
		}
		s.arrives(jobs[1], e)
		s.resume(jobs[0]) // takes the other half, which is in its place
		s.arrives(jobs[0], e)
		if n := srv.Sent("/half"); n > size+mib {
			t.Errorf("the server sent %d bytes for two jobs, the file has %d", n, int64(size))
		}
	})

	t.Run("one that is cancelled leaves the other to itself", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/gone", file)
		e.Script(stalls)
		jobs := s.sharers(2, e.URL(), fetched{})
		s.resume(jobs[0])
		s.moved(jobs[0], size/2)
		s.resume(jobs[1])
		s.sharing(jobs[1])
		if _, err := jobs[0].Cancel(s.ctx()); err != nil {
			t.Fatal(err)
		}
		s.arrives(jobs[1], e)
	})

	t.Run("nobody in the foreground waits for the background", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/prio", file)
		e.Script(silent)
		back, front := s.sharers(1, e.URL(), fetched{priority: bits.High})[0], s.sharers(1, e.URL(), fetched{})[0]
		s.resume(back)
		await(t, srv, "the first request", func() bool { return len(srv.RequestsFor("/prio")) == 1 })
		s.resume(front)
		s.arrives(front, e)
		e.Release()
		s.settled(back, bits.Transferred)
	})

	t.Run("jobs that ask in other ways share nothing", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/ways", file)
		e.Script(silent)
		jobs := s.sharers(1, e.URL(), fetched{})
		other := s.sharers(1, e.URL(), fetched{settings: bits.Settings{Headers: &[]string{"X-Key: mine"}}})[0]
		s.resume(jobs[0])
		await(t, srv, "the first request", func() bool { return len(srv.RequestsFor("/ways")) == 1 })
		s.resume(other)
		s.arrives(other, e)
		e.Release()
		s.settled(jobs[0], bits.Transferred)
		if n := srv.Sent("/ways"); n < 2*size {
			t.Errorf("the server sent %d bytes, each of two jobs had to ask for all %d", n, int64(size))
		}
	})

	t.Run("a file that changed is not taken", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/changed", file)
		jobs := s.sharers(2, e.URL(), fetched{})
		s.resume(jobs[0])
		s.settled(jobs[0], bits.Transferred)
		e.Replace(faultserver.File{Seed: 6, Size: size, LastModified: old.Add(time.Minute)})
		s.resume(jobs[1])
		s.arrives(jobs[1], e)
	})

	t.Run("what somebody wrote into is not taken", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/written", file)
		jobs := s.sharers(2, e.URL(), fetched{})
		s.resume(jobs[0])
		s.arrives(jobs[0], e)
		name := filepath.Join(s.dir, "0-written")
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt([]byte("mine"), 4096)
			err = errors.Join(err, f.Close(), os.Chtimes(name, old, old))
		}
		if err != nil {
			t.Fatal(err)
		}
		s.resume(jobs[1])
		s.arrives(jobs[1], e)
	})

	t.Run("what has the wrong digest is fetched again", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/digest", faultserver.File{Seed: 7, Size: size, LastModified: old})
		jobs := s.sharers(1, e.URL(), fetched{})
		spec := s.file(e.URL(), "checked")
		spec.Checksum = "sha256:" + sum(faultserver.File{Seed: 8, Size: size})
		checked := s.create(fetched{files: []bits.FileSpec{spec}, waits: true})
		s.resume(jobs[0])
		s.settled(jobs[0], bits.Transferred)
		s.resume(checked)
		s.settled(checked, bits.Errored)
		if n := srv.Sent("/digest"); n < 2*size {
			t.Errorf("the server sent %d bytes; before the job failed it had to be asked for all %d", n, int64(size))
		}
	})

	t.Run("servers that send no parts are asked at once", func(t *testing.T) {
		s := s.in(t)
		e := srv.File("/whole", file)
		e.Set(func(p *faultserver.Program) { p.Range = faultserver.RangeIgnored })
		e.Script(faultserver.Program{Range: faultserver.RangeIgnored, Cut: faultserver.Cut{How: faultserver.Stall, After: size / 2}})
		jobs := s.sharers(2, e.URL(), fetched{})
		s.resume(jobs[0])
		s.moved(jobs[0], size/2)
		s.resume(jobs[1])
		s.arrives(jobs[1], e)
	})
}

// TestSharingJobsSurviveACrash kills the service while one job waits for what another one fetches.
func TestSharingJobsSurviveACrash(t *testing.T) {
	t.Parallel()
	const size = 6 * mib
	s := start(t, options{})
	srv := serve(t, faultserver.Options{})
	e := srv.File("/file", faultserver.File{Seed: 5, Size: size, LastModified: time.Now().Add(-time.Hour).Truncate(time.Second)})
	e.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: size / 2}})
	jobs := s.sharers(3, e.URL(), fetched{})
	s.resume(jobs[0])
	s.moved(jobs[0], size/2)
	for _, j := range jobs[1:] {
		s.resume(j)
		s.sharing(j)
	}
	s.restart()
	for _, j := range jobs {
		s.arrives(j, e)
	}
}
