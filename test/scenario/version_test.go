package scenario

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

var (
	oldDate = time.Unix(1_600_000_000, 0)
	newDate = time.Unix(1_700_000_000, 0)
)

// A replacement is a file that changes while it is fetched, and what its server tells of that.
type replacement struct {
	name          string
	first, second faultserver.File
	before, after func(*faultserver.Program)
	alias         bool // it is reached through a redirect
	silent        bool // the server never tells versions apart: a change under an answer cannot be seen
}

// replacements are those of files of a size.
func replacements(size int64) []replacement {
	version := func(seed uint64, size int64, etag string, date time.Time) faultserver.File {
		return faultserver.File{Seed: seed, Size: size, ETag: etag, LastModified: date}
	}
	v1 := version(1, size, `"one"`, oldDate)
	v2 := version(2, size, `"two"`, newDate)
	same := func(*faultserver.Program) {}
	noETag := func(p *faultserver.Program) { p.ETag = faultserver.ETagNone }
	nothing := func(p *faultserver.Program) { p.ETag, p.NoLastModified = faultserver.ETagNone, true }
	deaf := func(p *faultserver.Program) { p.IgnoreIfRange = true }
	all := func(list ...func(*faultserver.Program)) func(*faultserver.Program) {
		return func(p *faultserver.Program) {
			for _, f := range list {
				f(p)
			}
		}
	}
	return []replacement{
		{"it has the same length", v1, v2, same, same, false, false},
		{"it is longer", v1, version(2, size+1*mib, `"two"`, newDate), same, same, false, false},
		{"it is shorter than what is here", v1, version(2, 1*mib, `"two"`, newDate), same, same, false, false},
		{"it is shorter and If-Range is ignored", v1, version(2, 1*mib, `"two"`, newDate), deaf, deaf, false, false},
		{"it is empty", v1, version(2, 0, `"two"`, newDate), same, same, false, false},
		{"only its ETag changes", v1, version(2, size, `"two"`, oldDate), same, same, false, false},
		{"only its date changes", v1, version(2, size, `"one"`, newDate), noETag, noETag, false, false},
		{"only its size changes", v1, version(2, size+1, `"one"`, oldDate), noETag, noETag, false, false},
		{"If-Range is ignored", v1, v2, deaf, deaf, false, false},
		{"If-Range on a date is ignored", v1, v2, all(deaf, noETag), all(deaf, noETag), false, false},
		{"it is behind a redirect", v1, v2, same, same, true, false},
		{"it is behind a redirect and If-Range is ignored", v1, v2, deaf, deaf, true, false},
		{"ranges are ignored", v1, v2, func(p *faultserver.Program) { p.Range = faultserver.RangeIgnored }, func(p *faultserver.Program) { p.Range = faultserver.RangeIgnored }, false, false},
		{"ranges carry no validators", v1, v2, func(p *faultserver.Program) { p.BareRange, p.IgnoreIfRange = true, true }, func(p *faultserver.Program) { p.BareRange, p.IgnoreIfRange = true, true }, false, true},
		{"its validators vanish", v1, v2, same, nothing, false, true},
		{"its validators vanish and If-Range is ignored", v1, v2, deaf, all(deaf, nothing), false, true},
		{"its validators come late", v1, v2, nothing, same, false, true},
		{"there never are validators", v1, v2, nothing, nothing, false, true},
		{"its ETag is weak and it has no date", v1, v2, func(p *faultserver.Program) { p.ETag, p.NoLastModified = faultserver.ETagWeak, true }, func(p *faultserver.Program) { p.ETag, p.NoLastModified = faultserver.ETagWeak, true }, false, true},
	}
}

// TestChangedFileIsNeverMixed interrupts the transfer of files that change in each of several
// ways. All of them are fetched at once.
func TestChangedFileIsNeverMixed(t *testing.T) {
	t.Parallel()
	// During the first request: at which byte the file changes, and how it goes on.
	type moment struct {
		name   string
		size   int64 // of the file; it changes at five sixths
		first  func(p *faultserver.Program, second faultserver.File, at int64)
		inside func(s *service, jobs []*client.Job, replace func()) // nil: the program changes the file
		silent bool                                                 // also where the server tells nothing
	}
	suspended := func(s *service, jobs []*client.Job, replace func()) {
		for _, j := range jobs {
			if err := j.Suspend(s.ctx()); err != nil {
				s.t.Fatal(err)
			}
		}
		replace()
		for _, j := range jobs {
			if err := j.Resume(s.ctx()); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	stands := func(p *faultserver.Program, _ faultserver.File, at int64) {
		p.Cut = faultserver.Cut{How: faultserver.Stall, After: at}
	}
	killed := func(s *service, _ []*client.Job, replace func()) {
		s.kill9()
		replace()
		s.up()
	}
	for _, m := range []moment{
		{"while the job is suspended", 3 * mib, stands, suspended, true},
		{"while the service is dead", 6 * mib, stands, killed, true},
		{"between two ranges", 3 * mib, func(p *faultserver.Program, v2 faultserver.File, at int64) {
			p.Cut = faultserver.Cut{How: faultserver.Reset, After: at}
			p.Change = &faultserver.Change{To: v2, After: at}
		}, nil, true},
		{"in place under an answer", 3 * mib, func(p *faultserver.Program, v2 faultserver.File, at int64) {
			p.Rate = 2 * mib // so that the file takes long enough to be confirmed at its end
			p.Change = &faultserver.Change{To: v2, After: at, InPlace: true}
		}, nil, false},
		{"in place before a broken connection", 3 * mib, func(p *faultserver.Program, v2 faultserver.File, at int64) {
			p.Cut = faultserver.Cut{How: faultserver.Reset, After: at + mib/4}
			p.Change = &faultserver.Change{To: v2, After: at, InPlace: true}
		}, nil, true},
	} {
		t.Run(m.name, func(t *testing.T) {
			srv := serve(t, faultserver.Options{})
			s := start(t, options{})
			var (
				cases   []replacement
				entries []*faultserver.Entry
				jobs    []*client.Job
			)
			for _, c := range replacements(m.size) {
				if c.silent && !m.silent {
					continue
				}
				path := fmt.Sprintf("/%d", len(cases))
				e := srv.File(path, c.first)
				program := faultserver.Program{}
				c.before(&program)
				m.first(&program, c.second, m.size*5/6)
				e.Script(program)
				e.Set(c.after)
				url := e.URL()
				if c.alias {
					alias := srv.File(path+"-alias", faultserver.File{})
					alias.Set(func(p *faultserver.Program) { p.Redirect = path })
					url = alias.URL()
				}
				cases, entries = append(cases, c), append(entries, e)
				jobs = append(jobs, s.create(fetched{name: c.name, files: []bits.FileSpec{s.file(url, fmt.Sprint(len(jobs)))}}))
			}
			if m.inside != nil {
				for i := range cases {
					path := fmt.Sprintf("/%d", i)
					await(t, srv, path+" stands still", func() bool { return slices.ContainsFunc(srv.RequestsFor(path), waiting) })
				}
				m.inside(s, jobs, func() {
					for i, c := range cases {
						entries[i].Replace(c.second)
					}
				})
			}
			for i, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					s := s.in(t)
					info := s.settled(jobs[i], bits.Transferred)
					if note := info.Files[0].Note; !strings.Contains(note, "started again") {
						t.Errorf("the file's note is %q, want that it was started again", note)
					}
					s.complete(jobs[i])
					if got, size := digest(t, info.Files[0].Local); got != sum(entries[i].Current()) {
						what := "a mix"
						if got == sum(c.first) {
							what = "the old version"
						}
						t.Errorf("the result is %s of %d bytes", what, size)
					}
				})
			}
		})
	}
}

func waiting(q faultserver.Request) bool { return q.Waiting }

// A file that is the same after an interruption goes on where it was.
func TestUnchangedFileGoesOn(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	s := start(t, options{})
	for _, test := range []struct {
		name   string
		fault  func(*faultserver.Program)
		goesOn bool
	}{
		{"with an ETag", func(*faultserver.Program) {}, true},
		{"with a date", func(p *faultserver.Program) { p.ETag = faultserver.ETagNone }, true},
		{"with a weak ETag and a date", func(p *faultserver.Program) { p.ETag = faultserver.ETagWeak }, true},
		{"without validators it begins again", func(p *faultserver.Program) { p.ETag, p.NoLastModified = faultserver.ETagNone, true }, false},
		{"without ranges it begins again", func(p *faultserver.Program) { p.Range = faultserver.RangeIgnored }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			path := "/" + strings.ReplaceAll(test.name, " ", "-")
			e := srv.File(path, faultserver.File{Seed: 9, Size: 3 * mib})
			slow := faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: 2 * mib}}
			test.fault(&slow)
			e.Script(slow)
			e.Set(test.fault)
			job := s.fetch(e.URL(), path[1:])
			s.moved(job, 2*mib)
			if err := job.Suspend(s.ctx()); err != nil {
				t.Fatal(err)
			}
			if err := job.Resume(s.ctx()); err != nil {
				t.Fatal(err)
			}
			info := s.settled(job, bits.Transferred)
			s.complete(job)
			if got, _ := digest(t, info.Files[0].Local); got != sum(e.Current()) {
				t.Error("the file is damaged")
			}
			if again := srv.Refetched(path); (again < mib) != test.goesOn {
				t.Errorf("%d bytes were fetched twice", again)
			}
			if told := info.Files[0].Note != ""; told == test.goesOn {
				t.Errorf("the file's note is %q", info.Files[0].Note)
			}
		})
	}
}

// An ETag that is another with each answer, as machines behind one name give it, does not
// keep a file from being fetched.
func TestServerWithMeaninglessETags(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: 3 * mib})
	e.Set(func(p *faultserver.Program) { p.ETag, p.Rate = faultserver.ETagToken, 2*mib })
	s.arrives(s.fetch(e.URL(), "file"), e)
	if again := srv.Refetched("/file"); again > kib {
		t.Errorf("%d bytes were fetched twice", again)
	}
}
