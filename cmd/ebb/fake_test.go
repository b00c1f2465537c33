//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
)

// fake is a service without transfers: the tests say what happens to a job. It keeps its jobs
// in a file when it has one, so that it can be killed and started again.
type fake struct {
	file  string
	about bits.Service
	// policy is its configuration, if the test needs one.
	policy *policy.File
	// began is called, in a goroutine of its own, when a job is resumed.
	began func(f *fake, id bits.ID)
	// watched gets a value when somebody starts to read events, looked when somebody looks at
	// the state of a job.
	watched, looked chan struct{}

	mu      sync.Mutex // guards what follows
	jobs    []*bits.Job
	paths   []bits.Path
	events  []bits.Event
	changed chan struct{} // closed with the next event
}

func newFake() *fake {
	return &fake{watched: make(chan struct{}, 1), looked: make(chan struct{}, 1), changed: make(chan struct{}), about: bits.Service{Version: "v0.0.0-fake", PID: os.Getpid(), State: "/fake"}}
}

// startFake serves f on a socket for the length of a test and returns the socket's path.
func startFake(t *testing.T, f *fake) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ebb") // t.TempDir() can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: f.handler()}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return socket
}

func (f *fake) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/service", func(w http.ResponseWriter, _ *http.Request) { reply(w, f.about) })
	mux.HandleFunc("GET /v1/paths", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		reply(w, append([]bits.Path{}, f.paths...))
	})
	mux.HandleFunc("GET /v1/policy", func(w http.ResponseWriter, _ *http.Request) {
		if f.policy == nil { // the defaults
			reply(w, bits.Policy{Settings: []bits.PolicySetting{{Key: "cost.normal", Value: "no-surcharge"}, {Key: maxTimeKey, Value: "90d"}}})
			return
		}
		reply(w, f.policy.Describe())
	})
	mux.HandleFunc("POST /v1/policy/reload", func(w http.ResponseWriter, _ *http.Request) {
		_ = f.policy.Reload()
		reply(w, f.policy.Describe())
	})
	mux.HandleFunc("GET /v1/policy/limits", func(w http.ResponseWriter, r *http.Request) {
		at, err := time.Parse(time.RFC3339Nano, r.URL.Query().Get("at"))
		if err != nil {
			refuse(w, bits.Errorf(bits.InvalidArg, "%v", err))
			return
		}
		p := f.policy.Policy()
		limits := p.Limits(at)
		if r.URL.Query().Get("transfer_policy") != "always" { // the network is metered
			e := bits.Error{Code: bits.BlockedByCost, Message: "the network is metered"}
			limits[bits.Low].Hold = e.Info()
		}
		reply(w, limits)
	})
	mux.HandleFunc("GET /v1/events", f.serveEvents)
	mux.HandleFunc("POST /v1/jobs", f.serveCreate)
	mux.HandleFunc("GET /v1/jobs", f.serveList)
	mux.HandleFunc("GET /v1/jobs/{ref}", f.withJob(func(w http.ResponseWriter, r *http.Request, j *bits.Job) *bits.Error {
		shown := *j
		if r.URL.Query().Get("files") == "false" {
			shown.Files = nil
			happened(f.looked)
		}
		reply(w, shown)
		return nil
	}))
	mux.HandleFunc("PATCH /v1/jobs/{ref}", f.withJob(func(w http.ResponseWriter, r *http.Request, j *bits.Job) *bits.Error {
		var s bits.Settings
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			return bits.Errorf(bits.InvalidArg, "%v", err)
		}
		if v := bits.Decide(j.State, bits.MethodSetProperty, bits.Facts{}); v.Code.Failed() {
			return &bits.Error{Code: v.Code}
		}
		apply(j, s)
		f.emit(j, bits.EventModified)
		reply(w, bits.Summary{ID: j.ID, Name: j.Name, State: j.State})
		return nil
	}))
	mux.HandleFunc("POST /v1/jobs/{ref}/files", f.withJob(func(w http.ResponseWriter, r *http.Request, j *bits.Job) *bits.Error {
		var specs []bits.FileSpec
		if err := json.NewDecoder(r.Body).Decode(&specs); err != nil {
			return bits.Errorf(bits.InvalidArg, "%v", err)
		}
		addFiles(j, specs)
		f.emit(j, bits.EventModified)
		reply(w, bits.Summary{ID: j.ID, Name: j.Name, State: j.State})
		return nil
	}))
	f.handleFiles(mux)
	for verb, method := range map[string]bits.Method{"suspend": bits.MethodSuspend, "resume": bits.MethodResume, "cancel": bits.MethodCancel, "complete": bits.MethodComplete} {
		mux.HandleFunc("POST /v1/jobs/{ref}/"+verb, f.withJob(func(w http.ResponseWriter, _ *http.Request, j *bits.Job) *bits.Error {
			return f.act(w, j, method)
		}))
	}
	return mux
}

// happened leaves one value in the channel.
func happened(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, e *bits.Error, candidates ...bits.Summary) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusBadRequest)
	i := e.Info()
	_ = json.NewEncoder(w).Encode(bits.Problem{Title: "Bad Request", Status: 400, Detail: i.Message, Code: i.Code, HResult: i.HResult,
		Context: i.Context, File: i.File, Hint: i.Hint, Candidates: candidates})
}

// withJob finds the job of the request and holds the lock during the call.
func (f *fake) withJob(do func(http.ResponseWriter, *http.Request, *bits.Job) *bits.Error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		ref := r.PathValue("ref")
		var fit, prefixed []*bits.Job
		for _, j := range f.jobs {
			if j.ID.String() == ref {
				fit = []*bits.Job{j}
				break
			}
			if j.Name == ref {
				fit = append(fit, j)
			} else if strings.HasPrefix(j.ID.String(), ref) {
				prefixed = append(prefixed, j)
			}
		}
		if len(fit) == 0 {
			fit = prefixed // as the service does it: a name goes before the beginning of an id
		}
		switch len(fit) {
		case 0:
			refuse(w, bits.Errorf(bits.NotFound, "there is no job %q", ref))
		case 1:
			if e := do(w, r, fit[0]); e != nil {
				refuse(w, e)
			}
		default:
			var s []bits.Summary
			for _, j := range fit {
				s = append(s, bits.Summary{ID: j.ID, Name: j.Name, State: j.State})
			}
			refuse(w, bits.Errorf(bits.InvalidArg, "%d jobs fit %q", len(fit), ref), s...)
		}
	}
}

func (f *fake) serveCreate(w http.ResponseWriter, r *http.Request) {
	var n bits.NewJob
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		refuse(w, bits.Errorf(bits.InvalidArg, "%v", err))
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now().UTC()
	j := &bits.Job{ID: bits.NewID(), Type: n.Type, Priority: bits.Normal, State: bits.Suspended, Owner: "tester",
		Times: bits.Times{Created: now, Modified: now}, Properties: bits.Properties{MinimumRetryDelay: 600, NoProgressTimeout: 1209600, Connections: 16}}
	apply(j, n.Settings)
	addFiles(j, n.Files)
	f.jobs = append(f.jobs, j)
	f.emit(j, bits.EventAdded)
	if n.Resume {
		j.State = bits.Queued
		f.emit(j, bits.EventState)
		if f.began != nil {
			go f.began(f, j.ID)
		}
	}
	reply(w, j)
}

func (f *fake) serveList(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	jobs := []*bits.Job{}
	for _, j := range f.jobs {
		if states := r.URL.Query()["state"]; !j.State.Final() && (len(states) == 0 || strings.Contains(strings.Join(states, " "), j.State.String())) {
			jobs = append(jobs, j)
		}
	}
	reply(w, jobs)
}

func (f *fake) serveEvents(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	next := len(f.events)
	w.Header().Set("Ebb-Last-Event", fmt.Sprint(next))
	if s := r.URL.Query().Get("after"); s != "" {
		_, _ = fmt.Sscan(s, &next)
	}
	f.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	happened(f.watched)
	for {
		f.mu.Lock()
		fresh, changed := f.events[min(next, len(f.events)):], f.changed
		next = max(next, len(f.events))
		f.mu.Unlock()
		var b bytes.Buffer
		for _, e := range fresh {
			if want := r.URL.Query()["job"]; len(want) == 0 || strings.Contains(strings.Join(want, " "), e.Job.String()) {
				data, _ := json.Marshal(e)
				fmt.Fprintf(&b, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Kind, data)
			}
		}
		if _, err := w.Write(b.Bytes()); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (f *fake) act(w http.ResponseWriter, j *bits.Job, m bits.Method) *bits.Error {
	v := bits.Decide(j.State, m, bits.Facts{Files: len(j.Files), Unfinished: j.Progress.FilesTotal - j.Progress.FilesTransferred})
	if v.Code.Failed() {
		return bits.Errorf(v.Code, "the job is %s", j.State)
	}
	was := j.State
	j.State = v.Next
	if m == bits.MethodComplete {
		for i := range j.Files {
			j.Files[i].Completed = j.Files[i].BytesTransferred == int64(j.Files[i].BytesTotal)
		}
	}
	if j.State.Final() {
		f.emit(j, bits.EventRemoved)
	} else if was != j.State {
		f.emit(j, bits.EventState)
	}
	if m == bits.MethodResume && f.began != nil {
		go f.began(f, j.ID)
	}
	reply(w, bits.Outcome{Code: v.Code.Name(), HResult: v.Code.Hex(), Message: v.Code.Message(), Job: bits.Summary{ID: j.ID, Name: j.Name, State: j.State}})
	return nil
}

// emit makes an event of the job's present state. The lock is held.
func (f *fake) emit(j *bits.Job, kind bits.EventKind) {
	p := j.Progress
	e := bits.Event{Seq: uint64(len(f.events) + 1), Time: time.Now().UTC(), Kind: kind, Job: j.ID, Name: j.Name, State: j.State,
		Progress: &p, Error: j.Error, RetryAt: j.Times.RetryAt}
	if kind == bits.EventProgress {
		e.Pace = j.Pace
	}
	if kind == bits.EventProgress || kind == bits.EventNote {
		file := j.Files[0]
		e.File = &file
	}
	f.events = append(f.events, e)
	close(f.changed)
	f.changed = make(chan struct{})
	f.save()
}

// change changes a job and tells of it.
func (f *fake) change(id bits.ID, kind bits.EventKind, how func(*bits.Job)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range f.jobs {
		if j.ID == id && !j.State.Final() {
			how(j)
			f.emit(j, kind)
		}
	}
}

// job returns a copy of the only job.
func (f *fake) job(t *testing.T) bits.Job {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.jobs) != 1 {
		t.Fatalf("there are %d jobs, want 1", len(f.jobs))
	}
	return *f.jobs[0]
}

func apply(j *bits.Job, s bits.Settings) {
	if s.Name != nil {
		j.Name = *s.Name
	}
	if s.Priority != nil {
		j.Priority = *s.Priority
	}
	if s.Description != nil {
		j.Properties.Description = *s.Description
	}
	if s.MinimumRetryDelay != nil {
		j.Properties.MinimumRetryDelay = *s.MinimumRetryDelay
	}
	if s.NoProgressTimeout != nil {
		j.Properties.NoProgressTimeout = *s.NoProgressTimeout
	}
	if s.Connections != nil {
		j.Properties.Connections = *s.Connections
	}
	if s.AutoComplete != nil {
		j.Properties.AutoComplete = *s.AutoComplete
	}
	if s.Headers != nil {
		j.Properties.HeaderNames = nil
		for _, h := range *s.Headers {
			name, _, _ := strings.Cut(h, ":")
			j.Properties.HeaderNames = append(j.Properties.HeaderNames, name)
		}
	}
}

func addFiles(j *bits.Job, specs []bits.FileSpec) {
	for _, s := range specs {
		j.Files = append(j.Files, bits.File{Index: len(j.Files), Remote: s.Remote, Local: s.Local, Checksum: s.Checksum, Ranges: s.Ranges, BytesTotal: bits.Unknown})
	}
	j.Progress.FilesTotal = len(j.Files)
	j.Progress.BytesTotal = bits.Unknown
}

// fakeSize is the size of each file that the fake moves.
const fakeSize = 1 << 20

// transfer moves all files of a job at once.
func transfer(f *fake, id bits.ID) {
	f.change(id, bits.EventState, func(j *bits.Job) { j.State = bits.Transferring })
	f.change(id, bits.EventTransferred, moved)
}

func moved(j *bits.Job) {
	n := len(j.Files)
	for i := range j.Files {
		j.Files[i].BytesTotal, j.Files[i].BytesTransferred = fakeSize, fakeSize
	}
	now := time.Now().UTC()
	j.State, j.Error, j.Times.Transferred, j.Times.RetryAt = bits.Transferred, nil, &now, nil
	j.Progress = bits.Progress{BytesTotal: bits.Size(n * fakeSize), BytesTransferred: int64(n * fakeSize), FilesTotal: n, FilesTransferred: n}
}

// fail ends a job in the error.
func fail(e *bits.Error) func(*fake, bits.ID) {
	return func(f *fake, id bits.ID) {
		f.change(id, bits.EventError, func(j *bits.Job) { j.State, j.Error = bits.Errored, e.Info() })
	}
}

// save keeps the jobs for the next life. The lock is held.
func (f *fake) save() {
	if f.file == "" {
		return
	}
	b, err := json.Marshal(f.jobs)
	if err == nil {
		err = os.WriteFile(f.file+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(f.file+".new", f.file)
	}
	if err != nil {
		panic(err)
	}
}

// fakeDaemon is what `ebb daemon` is when this test program plays ebb: a fake with a lock and
// a memory, that moves a job's files when the file "go" appears beside its state.
func fakeDaemon(args []string) error {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		flags[strings.TrimPrefix(args[i], "--")] = args[i+1]
	}
	state := flags["state"]
	unlock, err := lockFile(filepath.Join(state, "lock"))
	if err != nil {
		return &exitError{code: exitState, err: errors.New("another service holds the lock")}
	}
	defer unlock()
	if b, err := os.ReadFile(filepath.Join(state, "broken")); err == nil {
		fmt.Fprintf(os.Stderr, "first line\n%s\n", b)
		return told(exitFailed)
	}
	f := newFake()
	f.file = filepath.Join(state, "jobs.json")
	if b, err := os.ReadFile(f.file); err == nil {
		if err := json.Unmarshal(b, &f.jobs); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(filepath.Join(state, "starts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(log, os.Getpid())
	_ = log.Close()
	f.began = func(f *fake, id bits.ID) {
		<-f.watched // the answer to the call that began it has arrived
		f.change(id, bits.EventState, func(j *bits.Job) { j.State = bits.Transferring })
		for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
			if _, err := os.Stat(filepath.Join(state, "go")); err == nil {
				f.change(id, bits.EventTransferred, moved)
				return
			}
		}
	}
	for _, j := range f.jobs {
		if j.State.Action() {
			go f.began(f, j.ID)
		}
	}
	_ = os.Remove(flags["socket"])
	l, err := net.Listen("unix", flags["socket"])
	if err != nil {
		return err
	}
	// Whatever goes wrong in a test, this does not stay for long.
	time.AfterFunc(time.Minute, func() { os.Exit(1) })
	return http.Serve(l, f.handler())
}

func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
