package scenario

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// lossLimit is how much one kill -9 may cost at most: bytes that are fetched twice.
const lossLimit = 8 * mib

// losses measures what kills cost.
type losses struct {
	t     *testing.T
	srv   *faultserver.Server
	paths []string // of this round
	seen  int64    // fetched twice in this round
	all   int64
	most  int64
	kills int
}

// begin starts a round with files of its own.
func (l *losses) begin(paths ...string) {
	l.srv.ForgetRequests()
	l.paths, l.seen = paths, 0
}

// note is called when the server is idle: before the next kill of a service that fetched, and
// at the end. What was fetched twice since the last call is what the kill before it cost.
func (l *losses) note() {
	l.t.Helper()
	var now int64
	for _, p := range l.paths {
		now += l.srv.Refetched(p)
	}
	cost := now - l.seen
	l.seen, l.all, l.most = now, l.all+cost, max(l.most, cost)
	if cost > lossLimit {
		l.t.Errorf("a kill cost %d bytes fetched twice, at most %d are allowed", cost, lossLimit)
	}
}

func (l *losses) report() {
	l.t.Logf("%d kills, fetched twice: at most %.2f MiB, %.2f MiB on average", l.kills, float64(l.most)/mib, float64(l.all)/float64(max(l.kills, 1))/mib)
}

// killAtRandom kills the service at random moments, those of its start included, until it was
// killed often enough or the server has sent total bytes of this round. A service that was
// killed before its first request counts for nothing.
func killAtRandom(s *service, r *rand.Rand, l *losses, total int64, n int) {
	s.t.Helper()
	for l.kills < n {
		before := len(l.srv.Requests())
		time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond) // the moment is what is tested
		s.kill9()
		await(s.t, l.srv, "the server sees its clients go", l.srv.Idle)
		if len(l.srv.Requests()) > before {
			l.kills++
		}
		l.note()
		s.launch()
		if l.sent()-l.seen >= total {
			return
		}
	}
}

// sent returns how many bytes the server has sent.
func (l *losses) sent() (n int64) {
	for _, p := range l.paths {
		n += l.srv.Sent(p)
	}
	return n
}

func TestKillDuringLargeFile(t *testing.T) {
	const size, rate = 110*mib + 12345, 30 * mib
	r, n := dice(t), kills(t)
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{})
	l := &losses{t: t, srv: srv}
	defer l.report()
	for round := 0; l.kills < n; round++ {
		path := fmt.Sprintf("/large-%d", round)
		e := srv.File(path, faultserver.File{Seed: uint64(round + 1), Size: size})
		e.Set(func(p *faultserver.Program) { p.Rate = rate })
		l.begin(path)
		name := filepath.Base(path)
		job := s.fetch(e.URL(), name)
		killAtRandom(s, r, l, size, n)
		info := s.settled(job, bits.Transferred)
		l.note()
		s.nothingStray(job)
		if info.ErrorCount != 0 {
			t.Errorf("%d errors were counted", info.ErrorCount)
		}
		s.complete(job)
		s.isWhole(filepath.Join(s.dir, name), e)
		s.holds(name)
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKillDuringManySmallFiles(t *testing.T) {
	const files = 300
	r, n := dice(t), kills(t)
	srv := serve(t, faultserver.Options{SendBuffer: 16 * kib})
	s := start(t, options{})
	l := &losses{t: t, srv: srv}
	defer l.report()
	for round := 0; l.kills < n; round++ {
		var specs []bits.FileSpec
		var entries []*faultserver.Entry
		var paths, want []string
		var total int64
		for i := range files {
			path := fmt.Sprintf("/small-%d-%d", round, i)
			f := faultserver.File{Seed: uint64(round*files + i), Size: int64(r.IntN(200 * kib))}
			e := srv.File(path, f)
			e.Set(func(p *faultserver.Program) { p.Rate = 400 * kib })
			specs = append(specs, s.file(e.URL(), filepath.Base(path)))
			entries, paths, want = append(entries, e), append(paths, path), append(want, filepath.Base(path))
			total += f.Size
		}
		l.begin(paths...)
		job := s.create(fetched{files: specs})
		killAtRandom(s, r, l, total, n)
		s.settled(job, bits.Transferred)
		l.note()
		s.nothingStray(job)
		s.complete(job)
		for i, f := range specs {
			s.isWhole(f.Local, entries[i])
		}
		s.holds(want...)
		for _, f := range specs {
			if err := os.Remove(f.Local); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestGetGoesOnAfterKill(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: 15 * mib})
	e.Set(func(p *faultserver.Program) { p.Rate = 10 * mib })
	s := start(t, options{})
	get := s.begin("get", e.URL())
	for i := range int64(3) {
		sent(t, srv, "/file", (2+4*i)*mib)
		s.restart()
	}
	r := get.end().want(t, 0)
	path := filepath.Join(s.dir, "file")
	if r.out != path+"\n" {
		t.Errorf("get printed %q, want %q", r.out, path+"\n")
	}
	s.isWhole(path, e)
	s.holds("file")
}

func TestKillDuringComplete(t *testing.T) {
	const files = 2000
	r := dice(t)
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	var specs []bits.FileSpec
	var want []string
	for i := range files {
		e := srv.File(fmt.Sprintf("/f/%d", i), faultserver.File{Seed: uint64(i), Size: int64(i)})
		specs = append(specs, s.file(e.URL(), fmt.Sprint(i)))
		want = append(want, fmt.Sprint(i))
	}
	job := s.create(fetched{files: specs})
	s.settled(job, bits.Transferred)
	for range 4 {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = job.Complete(s.ctx()) // it has its answer, or loses the service
		}()
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond) // the moment is what is tested
		s.restart()
		<-ended
		placed := 0
		for _, name := range names(t, s.dir) {
			if name[0] != '.' {
				placed++
			}
		}
		t.Logf("%d files were in their places", placed)
	}
	if s.info(job).State != bits.Acknowledged {
		s.complete(job)
	}
	s.holds(want...)
	for i, f := range specs {
		if got, size := digest(t, f.Local); got != faultserver.SHA256(uint64(i), int64(i)) {
			t.Fatalf("%s has %d bytes that are not the file's", f.Local, size)
		}
	}
	for _, f := range s.info(job).Files {
		if !f.Completed {
			t.Errorf("%s does not count as completed", f.Local)
		}
	}
}

// A whole part file, found after a kill, still gets the time that the server gave.
func TestKillBetweenLastByteAndEnd(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	for _, test := range []struct {
		name    string
		changed bool
	}{
		{"the file is the same", false},
		{"the file was changed in place before its last byte", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			const size = 3 * mib // whole pages: nothing of it is left to ask for
			e := srv.File("/"+fmt.Sprint(test.changed), faultserver.File{Seed: 1, Size: size, LastModified: time.Unix(1_000_000_000, 0)})
			slow := faultserver.Program{Rate: 2 * mib}
			if test.changed {
				slow.Change = &faultserver.Change{To: faultserver.File{Seed: 2, Size: size}, After: 2 * mib, InPlace: true}
			}
			e.Script(slow, faultserver.Program{Silent: true}) // silent when it is asked whether the file is the same
			s := start(t, options{})
			job := s.fetch(e.URL(), "file")
			path := "/" + fmt.Sprint(test.changed)
			await(t, srv, "the last byte and one more question", func() bool {
				q := srv.RequestsFor(path)
				return len(q) == 2 && q[1].Waiting
			})
			s.restart()
			s.arrives(job, e)
			s.holds("file")
		})
	}
}
