//go:build unix

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/mattn/go-runewidth"

	"github.com/ebbtransfer/ebb/bits"
)

var update = flag.Bool("update", false, "write the golden frames anew")

// noon is the time of all frames.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// testPaths are a link with traffic and one with a ceiling.
func testPaths() []bits.Path {
	return []bits.Path{
		{Name: "eth0 203.0.113.7", State: bits.PaceYielding, Why: "someone else uses the link (packets wait 18 ms); listening until it is quiet",
			Background: 90_000, Foreground: 0, Others: ptr(int64(1_900_000)), Capacity: 2_400_000, Window: 2896, RTT: 48.2, BaseRTT: 30, Queue: 18.2, Connections: 4, Signals: []string{"rcv_rtt"}},
		{Name: "wlan0 mirror.example.net", State: bits.PaceCapped, Why: "the bandwidth policy allows no more",
			Background: 512_000, Capacity: 2_000_000, Limit: ptr(int64(512_000)), Window: 12345, RTT: 9.2, BaseRTT: 9, Connections: 1},
	}
}

func testJob(n byte, name string, p bits.Priority, s bits.State, done, total int64) bits.Job {
	return bits.Job{ID: bits.ID{n}, Name: name, Priority: p, State: s, Owner: "alice", Progress: bits.Progress{FilesTotal: 1, BytesTransferred: done, BytesTotal: bits.Size(total)}}
}

func testJobs() []bits.Job {
	jobs := []bits.Job{
		testJob(1, "photos", bits.High, bits.Suspended, 1<<20, 4<<20),
		testJob(2, "broken", bits.Normal, bits.Errored, 0, -1),
		testJob(3, "debian-13.1.0-amd64-DVD-1.iso", bits.Normal, bits.Transferring, 1<<30, 4<<30),
		testJob(4, "nightly \x1b[2J mirror", bits.Low, bits.Queued, 0, -1),
		testJob(5, "talk.mp4", bits.Foreground, bits.Connecting, 0, -1),
		testJob(6, "laptop backup", bits.Normal, bits.TransientError, 3<<20, 4<<20),
		testJob(7, "server backup", bits.Normal, bits.TransientError, 3<<20, 4<<20),
		testJob(8, "fetched", bits.Normal, bits.Transferred, 4<<20, 4<<20),
	}
	jobs[1].Error = &bits.ErrorInfo{Message: "the server answered 404 Not Found"}
	jobs[2].Pace = &bits.Pace{State: bits.PaceYielding, Why: "someone else uses the link", Rate: 90_000}
	jobs[5].Error = &bits.ErrorInfo{Message: "the network's cost does not allow the job to run"}
	jobs[6].Error = &bits.ErrorInfo{Message: "connection refused"}
	jobs[6].Times.RetryAt = ptr(noon.Add(3 * time.Minute))
	sortJobs(jobs)
	return jobs
}

// testTop is a screen with a past of two minutes: idle capacity, then a foreground job, then
// somebody else.
func testTop(width, height int, paths []bits.Path, jobs []bits.Job) *top {
	t := newTop(context.Background(), nil, topInterval, look{utf8: true})
	t.width, t.height = width, height
	for i := range 121 {
		t.now = noon.Add(time.Duration(i-120) * time.Second)
		past := append([]bits.Path{}, paths...)
		for k := range past {
			p := &past[k]
			switch {
			case k > 0:
			case i < 10:
				p.Capacity, p.Background, p.Others = 0, int64(i)*150_000, ptr(int64(0))
			case i < 50:
				p.Background, p.Others = 2_300_000, ptr(int64(20_000))
			case i < 80:
				p.Background, p.Foreground, p.Others = 1_200_000, 1_100_000, ptr(int64(20_000))
			}
		}
		t.takePaths(pathsIs{paths: past})
	}
	t.takeJobs(jobsIs{about: &bits.Service{Version: "v0.3.0", Started: noon.Add(-3 * time.Hour), Jobs: map[string]int{"TRANSFERRING": 1, "CONNECTING": 1, "QUEUED": 1, "TRANSIENT_ERROR": 2, "ERROR": 1, "TRANSFERRED": 1, "SUSPENDED": 1}}, jobs: jobs})
	return t
}

// TestFrames holds frames against the files in testdata/top; -update writes them.
func TestFrames(t *testing.T) {
	many := func() (jobs []bits.Job) {
		for i := range byte(60) {
			jobs = append(jobs, testJob(i+1, fmt.Sprint("job ", i), bits.Normal, bits.Queued, 0, -1))
		}
		return jobs
	}
	for name, build := range map[string]func() *top{
		"80x24":      func() *top { return testTop(80, 24, testPaths()[:1], testJobs()) },
		"120x40":     func() *top { return testTop(120, 40, testPaths(), testJobs()) },
		"40x10":      func() *top { return testTop(40, 10, testPaths()[:1], testJobs()[:2]) },
		"60x16":      func() *top { return testTop(60, 16, testPaths(), testJobs()) },
		"empty":      func() *top { return testTop(80, 8, nil, nil) },
		"ascii":      func() *top { s := testTop(80, 20, testPaths()[:1], testJobs()[:2]); s.look = look{}; return s },
		"colour":     func() *top { s := testTop(60, 16, testPaths()[:1], testJobs()[:2]); s.colour = true; return s },
		"help":       func() *top { s := testTop(80, 20, nil, nil); s.pressed("?"); return s },
		"ask-cancel": func() *top { s := testTop(40, 8, nil, testJobs()); s.pressed("c"); return s },
		"ask-priority": func() *top {
			s := testTop(60, 8, nil, testJobs())
			s.pressed("p")
			return s
		},
		"away": func() *top {
			s := testTop(80, 12, nil, testJobs()[:2])
			s.takePaths(pathsIs{err: fmt.Errorf("no ebb service is running on /s")})
			s.now = noon.Add(12 * time.Second)
			s.about.Notices = []string{"a damaged store was set aside"}
			return s
		},
		"old-service": func() *top {
			s := testTop(80, 8, nil, nil)
			s.takePaths(pathsIs{err: errNoCall})
			return s
		},
		"many-jobs": func() *top {
			s := testTop(80, 20, testPaths()[:1], many())
			s.more = 99_940
			s.pressed("pgdown")
			s.pressed("pgdown")
			s.pressed("pgdown")
			return s
		},
		"many-jobs-end": func() *top {
			s := testTop(80, 10, nil, many())
			s.pressed("end")
			return s
		},
		"many-paths": func() *top {
			var paths []bits.Path
			for i := range 9 {
				p := testPaths()[1]
				p.Name = fmt.Sprint("eth", i)
				paths = append(paths, p)
			}
			return testTop(80, 14, paths, testJobs())
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := build()
			golden(t, name, strings.ReplaceAll(s.frame(), "\x1b", "␛"))
			fits(t, s)
		})
	}
	t.Run("page", func(t *testing.T) {
		s := testTop(endless, endless, testPaths(), testJobs())
		s.look = look{}
		golden(t, "page", s.page())
	})
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "top", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

// fits checks that a frame is no larger than the screen.
func fits(t *testing.T, s *top) {
	t.Helper()
	lines := strings.Split(escapes.ReplaceAllString(s.frame(), ""), "\n")
	if len(lines) > max(1, s.height) {
		t.Errorf("%dx%d: %d lines", s.width, s.height, len(lines))
	}
	for _, l := range lines {
		if n := runewidth.StringWidth(l); n > s.width || strings.ContainsFunc(l, garbles) {
			t.Errorf("%dx%d: a line of %d columns: %q", s.width, s.height, n, l)
		}
	}
}

// TestFramesFit draws screens of all sizes.
func TestFramesFit(t *testing.T) {
	for _, s := range []*top{testTop(1, 1, testPaths(), testJobs()), testTop(1, 1, testPaths()[:1], nil), testTop(1, 1, nil, testJobs())} {
		s.allUsers, s.colour = true, true
		for _, m := range []mode{looking, helping, askCancel, askPriority} {
			s.mode, s.asked = m, bits.Summary{Name: strings.Repeat("中", 40)}
			for _, s.width = range []int{0, 1, 2, 5, 8, 11, 12, 20, 39, 55, 56, 67, 68, 79, 80, 99, 100, 150} {
				for _, s.height = range []int{0, 1, 2, 3, 4, 5, 7, 10, 15, 18, 19, 29} {
					fits(t, s)
				}
			}
		}
	}
}

func TestHistory(t *testing.T) {
	var h history
	put := func(second int64, rates ...int64) {
		for _, r := range rates {
			h.add(time.Unix(second, 0), &bits.Path{Background: r})
		}
	}
	put(1000, 1, 1)   // too long ago
	put(9990, 10, 20) // a mean of 15
	put(9991, 30)
	put(9995, 5)
	rates := func(cols []traffic) (r []float64) {
		for i := range cols {
			v := cols[i].series[ownBackground]
			if cols[i].samples == 0 {
				v = -1
			}
			r = append(r, v)
		}
		return r
	}
	for _, c := range []struct {
		now  int64
		n    int
		want []float64 // the last columns
	}{
		{9995, 120, []float64{-1, 15, 30, -1, -1, -1, 5}},
		{9996, 120, []float64{-1, 15, 30, -1, -1, -1, 5, -1}},
		{9996, 60, []float64{-1, 20, -1, 5, -1}}, // two seconds each: 9990 and 9991, 9992, 9994, 9996
		{9997, 60, []float64{-1, 20, -1, 5, -1}}, // and nothing moves before the next two are over
		{9998, 60, []float64{-1, 20, -1, 5, -1, -1}},
		{9996, 1, []float64{16.25}}, // 9960 to 10079
	} {
		got := rates(h.columns(time.Unix(c.now, 0), c.n))
		if diff := cmp.Diff(c.want, got[len(got)-len(c.want):]); len(got) != c.n || diff != "" {
			t.Errorf("%d columns at %d: %s", c.n, c.now, diff)
		}
	}
}

func TestChartTop(t *testing.T) {
	for _, c := range []struct {
		most float64
		want string
	}{{0, "1.0 KiB/s"}, {1, "1.0 KiB/s"}, {1024, "1.0 KiB/s"}, {1025, "1.2 KiB/s"}, {3 << 20, "3.0 MiB/s"}, {3<<20 + 1, "3.5 MiB/s"}, {99 << 20, "100.0 MiB/s"}, {999 << 10, "1000.0 KiB/s"}, {12 << 30, "12.5 GiB/s"}} {
		for _, col := range []traffic{{capacity: c.most}, {series: [seriesCount]float64{c.most / 2, 0, c.most / 2}}} {
			if got := rate(int64(chartTop([]traffic{{}, col}))); got != c.want {
				t.Errorf("%v: got %s, want %s", c.most, got, c.want)
			}
		}
	}
}

// TestCells draws columns of two rows with a top of 16: a unit is an eighth of a row.
func TestCells(t *testing.T) {
	colour, grey, plain := look{colour: true, utf8: true}, look{utf8: true}, look{}
	for _, c := range []struct {
		look                look
		bg, fg, other, link float64
		upper, lower        string // style and glyph
	}{
		{colour, 0, 0, 0, 0, " ", " "},
		{colour, 0, 0, 0, 16, "2─", " "},
		{colour, 4, 0, 0, 4, " ", "36▄"}, // traffic hides the line
		{colour, 8, 0, 0, 12, "2─", "36█"},
		{colour, 0.01, 0, 0, 0, " ", "36▁"}, // a little is not nothing
		{colour, 0, 0.1, 0.3, 0, " ", "33▁"},
		{colour, 3, 5, 0, 0, " ", "36;45▃"},
		{colour, 3, 0, 9, 0, "33▄", "36;43▃"},
		{colour, 6, 4, 2, 0, "35▄", "36;45▆"},
		{colour, 16, 9, 9, 0, "36█", "36█"}, // more than the top
		{grey, 3, 0, 9, 16, "░", "░"},
		{grey, 6, 3, 0, 16, "─", "█"},
		{plain, 8, 6, 0, 0, "=", "#"},
		{plain, 0, 0, 0.1, 16, "-", ":"},
	} {
		col := traffic{series: [seriesCount]float64{c.bg, c.fg, c.other}, capacity: c.link}
		for row, want := range []string{c.lower, c.upper} {
			style, glyph := c.look.cell(&col, row, 2, 16)
			if !c.look.colour {
				style = ""
			}
			if style+glyph != want {
				t.Errorf("%+v, row %d: got %q, want %q", c, row, style+glyph, want)
			}
		}
	}
}

// answers carries out a command of the model, and what follows from it, but no ticks.
func (t *top) answers(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch m := cmd().(type) {
	case tea.BatchMsg:
		for _, c := range m {
			t.answers(c)
		}
	case tick:
	default:
		_, next := t.Update(m)
		t.answers(next)
	}
}

// ticks lets so much time pass that everything is asked for anew and drawn.
func (t *top) ticks() {
	for _, d := range []time.Duration{jobsEvery, topInterval} {
		_, cmd := t.Update(tick(t.now.Add(d)))
		t.answers(cmd)
	}
}

func (t *top) presses(keys ...string) {
	for _, k := range keys {
		code := map[string]rune{"up": tea.KeyUp, "down": tea.KeyDown, "end": tea.KeyEnd, "home": tea.KeyHome}[k]
		key := tea.KeyPressMsg{Code: code}
		if code == 0 {
			key = tea.KeyPressMsg{Code: rune(k[0]), Text: k}
		}
		_, cmd := t.Update(key)
		t.answers(cmd)
	}
}

func (t *top) shows(tt *testing.T, want ...string) {
	tt.Helper()
	for _, w := range want {
		if !strings.Contains(t.screen, w) {
			tt.Errorf("the screen lacks %q:\n%s", w, t.screen)
		}
	}
}

// newFakeTop is a screen that shows a fake with jobs.
func newFakeTop(t *testing.T, f *fake, socket string) *top {
	t.Helper()
	a := &app{socket: socket}
	srv := a.connect()
	srv.mine = false
	t.Cleanup(srv.Close)
	s := newTop(t.Context(), srv, time.Millisecond, look{utf8: true})
	if err := s.begin(); err != nil {
		t.Fatal(err)
	}
	s.Update(tea.WindowSizeMsg{Width: 80, Height: 24})
	return s
}

func TestTopFollowsTheService(t *testing.T) {
	f := newFake()
	socket := startFake(t, f)
	s := newFakeTop(t, f, socket)
	s.shows(t, "no jobs; `ebb get --background URL` adds one", "no network path is in use")
	ebb(t, socket, "create", "one").want(t, 0, "", "")
	ebb(t, socket, "add", "one", "https://h/a", filepath.Join(t.TempDir(), "a")).want(t, 0, "", "")
	f.mu.Lock()
	f.paths = testPaths()[:1]
	f.mu.Unlock()
	s.ticks()
	s.shows(t, "> one ", "SUSPENDED", "eth0 203.0.113.7  yielding", "link carries 2.3 MiB/s")
	f.change(f.job(t).ID, bits.EventProgress, func(j *bits.Job) {
		j.State, j.Pace = bits.Transferring, &bits.Pace{State: bits.PaceIdle, Why: "uses the link's idle capacity", Rate: 3 << 20}
		j.Progress = bits.Progress{FilesTotal: 1, BytesTotal: 300 << 20}
	})
	s.ticks()
	s.shows(t, "TRANSFERRING", "3.0 MiB/s   1 min 40 s", "uses the link's idle capacity")
}

// TestTopOutlivesTheService stops the service and starts another one.
func TestTopOutlivesTheService(t *testing.T) {
	f := newFake()
	socket := filepath.Join(t.TempDir(), "s")
	serve := func() (stop func()) {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: f.handler()}
		go func() { _ = srv.Serve(l) }()
		return func() { _ = srv.Close() }
	}
	stop := serve()
	s := newFakeTop(t, f, socket)
	ebb(t, socket, "create", "one").want(t, 0, "", "")
	s.ticks()
	stop()
	s.ticks()
	s.ticks()
	s.shows(t, "the service does not answer for 1 s; waiting for it: ", "> one ")
	s.presses("s")
	s.shows(t, "no ebb service is running on")
	defer serve()()
	ebb(t, socket, "create", "two").want(t, 0, "", "")
	s.ticks()
	s.shows(t, "> one ", "  two ")
	if strings.Contains(s.screen, "does not answer") {
		t.Errorf("it does not know that the service is back:\n%s", s.screen)
	}
}

func TestTopKeys(t *testing.T) {
	t.Chdir(t.TempDir())
	f := newFake()
	socket := startFake(t, f)
	for _, name := range []string{"one", "two"} {
		ebb(t, socket, "create", name).want(t, 0, "", "")
	}
	s := newFakeTop(t, f, socket)
	state := func(n int) bits.State {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.jobs[n].State
	}
	s.presses("down", "r")
	s.shows(t, "> two ", "BG_E_EMPTY")
	ebb(t, socket, "add", "two", "https://h/a", "a").want(t, 0, "", "")
	s.presses("r")
	s.ticks()
	s.shows(t, "> two ", "QUEUED", "resumed two") // and it went up with the job
	if _, below, _ := strings.Cut(s.screen, "> two "); !strings.Contains(below, "  one ") {
		t.Errorf("the job that waits is not above the one that rests:\n%s", s.screen)
	}
	s.presses("s")
	s.shows(t, "suspended two")
	s.presses("p", "x", "p", "h")
	s.shows(t, "two has the priority HIGH")
	s.presses("p")
	s.shows(t, "f foreground")
	s.presses("l")
	if p := f.jobs[1].Priority; p != bits.Low {
		t.Errorf("the priority is %s", p)
	}
	s.presses("c")
	s.shows(t, "cancel two? [y/N]")
	s.presses("q") // an answer like any other
	s.presses("c", "n")
	if got := state(1); got != bits.Suspended {
		t.Fatalf("without a yes the job is %s", got)
	}
	s.presses("c", "y")
	s.shows(t, "cancelled two")
	s.ticks()
	s.shows(t, "> one ")
	if state(1) != bits.Cancelled || state(0) != bits.Suspended {
		t.Errorf("the jobs are %s and %s", state(0), state(1))
	}
	s.presses("?")
	s.shows(t, "suspend the job: stop it and keep its progress")
	s.presses("q", "a")
	s.shows(t, "the jobs of all users")
	for _, key := range []string{"q", "ctrl+c"} {
		if cmd := s.pressed(key); cmd == nil || cmd() != tea.Quit() {
			t.Errorf("%s does not quit", key)
		}
	}
}

// TestTopSelects moves over jobs that come and go.
func TestTopSelects(t *testing.T) {
	s := testTop(80, 24, nil, testJobs())
	selected := func(want string) {
		t.Helper()
		if got := s.jobs[s.index()]; got.ID != s.selected || got.Name != want {
			t.Errorf("%s is selected, want %s", got.Name, want)
		}
	}
	take := func(jobs []bits.Job) {
		s.takeJobs(jobsIs{about: s.about, jobs: jobs})
	}
	selected("talk.mp4")
	s.presses("up")
	selected("talk.mp4")
	s.presses("down", "down", "down")
	selected("laptop backup")
	take(testJobs()[1:]) // a job before it ended
	selected("laptop backup")
	take(append(testJobs()[1:3:3], testJobs()[4:]...)) // it ended itself
	selected("server backup")
	s.presses("end", "down")
	selected("photos")
	take(testJobs()[:2])
	selected("debian-13.1.0-amd64-DVD-1.iso")
	take(nil)
	s.presses("down", "s", "c")
	s.shows(t, "there is no job to select")
	take(testJobs())
	selected("talk.mp4")
	s.presses("home")
	selected("talk.mp4")
}

// TestTopAsksInTurn: at most one question of a kind at a time, and seldom one that takes long.
func TestTopAsksInTurn(t *testing.T) {
	s := testTop(80, 24, nil, testJobs())
	asks := func(after time.Duration) (paths, jobs bool) {
		had := [2]bool{s.asksPaths, s.asksJobs}
		s.Update(tick(s.now.Add(after)))
		return s.asksPaths && !had[0], s.asksJobs && !had[1]
	}
	for i, c := range []struct {
		after       time.Duration
		paths, jobs bool
		answer      func()
	}{
		{topInterval, true, false, func() {}}, // the jobs were looked at just now
		{jobsEvery, false, true, func() {}},
		{time.Minute, false, false, func() { s.takePaths(pathsIs{}) }},
		{topInterval, true, false, func() { s.takeJobs(jobsIs{about: s.about, took: time.Second}) }},
		{4 * time.Second, false, false, func() { s.Update(acted{did: "suspended"}) }},
		{topInterval, false, true, func() {}}, // what was done is to be seen
	} {
		paths, jobs := asks(c.after)
		if paths != c.paths || jobs != c.jobs {
			t.Errorf("step %d: asks for paths %v, jobs %v", i, paths, jobs)
		}
		c.answer()
	}
	s.presses("a")
	s.takeJobs(jobsIs{about: s.about, allUsers: false})
	if _, jobs := asks(topInterval); !jobs || len(s.jobs) != 0 {
		t.Errorf("the answer to the question before is taken: %d jobs", len(s.jobs))
	}
	s.takeJobs(jobsIs{allUsers: true, err: &bits.Error{Code: bits.AccessDenied, Message: "administrators only"}})
	s.screen = s.frame()
	s.shows(t, "administrators only")
	if s.allUsers {
		t.Error("it goes on asking for what it is denied")
	}
}

// TestTopDrawsSeldom: the screen changes with the answer to a tick, not with each message.
func TestTopDrawsSeldom(t *testing.T) {
	s := testTop(80, 24, nil, nil)
	s.screen = "before"
	for _, m := range []tea.Msg{tick(noon), jobsIs{about: s.about, jobs: testJobs()}, tea.FocusMsg{}} {
		s.Update(m)
		if s.View().Content != "before" {
			t.Errorf("drawn after %T", m)
		}
	}
	s.Update(pathsIs{})
	if !strings.Contains(s.View().Content, "talk.mp4") || !s.View().AltScreen {
		t.Errorf("not drawn:\n%s", s.View().Content)
	}
}

func TestTopOnce(t *testing.T) {
	f := newFake()
	socket := startFake(t, f)
	ebb(t, socket, "top").want(t, 0, "no jobs", "")
	ebb(t, socket, "create", strings.Repeat("long", 50)).want(t, 0, "", "")
	f.paths = testPaths()
	o := ebb(t, socket, "top", "--once").want(t, 0, strings.Repeat("long", 50), "")
	for _, want := range []string{"v0.0.0-fake", "\nwlan0 mirror.example.net  capped  the bandwidth policy allows no more\n", "background 87.9 KiB/s  others 1.8 MiB/s\n"} {
		if !strings.Contains(o.out, want) {
			t.Errorf("%q is missing in\n%s", want, o.out)
		}
	}
	o = ebb(t, socket, "top", "--json").want(t, 0, "", "")
	var s topJSON
	if err := json.Unmarshal([]byte(o.out), &s); err != nil || s.Service.Version != "v0.0.0-fake" || len(s.Paths) != 2 || s.Paths[1].State != bits.PaceCapped || len(s.Jobs) != 1 {
		t.Errorf("%v in %s", err, o.out)
	}
	ebb(t, socket, "top", "--interval", "1ms").want(t, 2, "", "want at least 250ms")
}
