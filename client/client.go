// Package client is the Go client of the Ebb service. It talks HTTP over the service's Unix
// socket and knows nothing of how the service works.
//
// A Manager is one service, a Job a handle to one of its jobs. A handle stays readable after
// Complete and Cancel for as long as the service keeps the job (a day unless configured).
// Errors are of type *bits.Error wherever the service answered; ErrNoService where none did.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// ErrNoService means that no service answers on the socket.
var ErrNoService = errors.New("no ebb service is running")

// errBroke means that the service went away before it answered.
var errBroke = errors.New("broke off")

// ErrNoHome means that there is no place for a service of the user's own.
var ErrNoHome = errors.New("the user has no home directory")

// SystemSocket is the socket of the machine's service.
const SystemSocket = "/run/ebb/ebb.sock"

// UserSocket returns the path of the socket of the calling user's own service, or "" if there
// is no place for one.
func UserSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "ebb", "ebb.sock")
	}
	state := UserState()
	if state == "" {
		return ""
	}
	return filepath.Join(state, "ebb.sock")
}

// UserState returns the directory in which the calling user's own service keeps its jobs, or
// "" if the user has no home directory. A directory that all users share would not do: another
// one could prepare it.
func UserState() string {
	return userState(func() (string, error) {
		u, err := user.Current()
		if err != nil {
			return "", err
		}
		return u.HomeDir, nil
	})
}

func userState(lookup func() (string, error)) string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "ebb")
	}
	home := os.Getenv("HOME")
	if !filepath.IsAbs(home) {
		var err error
		if home, err = lookup(); err != nil || !filepath.IsAbs(home) {
			return ""
		}
	}
	return filepath.Join(home, ".local", "state", "ebb")
}

// FindSocket returns $EBB_SOCKET if it is set, else the user's socket if a service answers
// there, else the system's if one answers there, else the user's, which may be "".
func FindSocket() string {
	if s := os.Getenv("EBB_SOCKET"); s != "" {
		return s
	}
	own := UserSocket()
	for _, s := range []string{own, SystemSocket} {
		if c, err := net.DialTimeout("unix", s, time.Second); err == nil {
			_ = c.Close()
			return s
		}
	}
	return own
}

// Manager is a connection to a service. It is safe for use by several goroutines.
type Manager struct {
	socket string
	http   *http.Transport // not a Client: there are no redirects and cookies to look for
	away   func(context.Context, error) error
	admin  bool
	dry    bool
}

// DryRun returns a Manager whose calls that change jobs are answered as if the service had carried them
// out, with the errors that it would have met, and are not carried out. An older service answers
// bits.NotFound.
func (m *Manager) DryRun() *Manager {
	out := *m
	out.dry = true
	return &out
}

// New returns a Manager for the service on the socket; it connects with the first call.
// An empty socket stands for FindSocket(). A service that belongs neither to the calling user
// nor to root is not talked to: the error is bits.AccessDenied (on Linux).
func New(socket string) *Manager {
	if socket == "" {
		socket = FindSocket()
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := connect(ctx, socket)
		if err != nil {
			return nil, err
		}
		if err := checkPeer(c, socket); err != nil {
			_ = c.Close()
			return nil, err
		}
		return c, nil
	}
	return &Manager{socket: socket, http: &http.Transport{
		DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute,
	}}
}

// crowded is how long a client waits for its connection while the socket's queue is full of others.
const crowded = 30 * time.Second

// connect connects to a socket, and waits while more connect than the service has come to.
func connect(ctx context.Context, socket string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, crowded)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if !errors.Is(err, syscall.EAGAIN) {
			return c, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Socket returns the path of the service's socket.
func (m *Manager) Socket() string { return m.socket }

// Administer asks for an administrator's rights with each call: polkit decides (org.ebb.manage-all), and may
// ask the user for a password meanwhile. Root has them anyway. Set it before the first call.
func (m *Manager) Administer() { m.admin = true }

// OnAway sets a function that is called, with the error of type ErrNoService, when no service
// answers on the socket. If it returns nil the call is made once more, else its error is what
// the call returns. A program that can start the service does so there. It may be called by
// several goroutines at once. Set it before the first call.
func (m *Manager) OnAway(f func(context.Context, error) error) { m.away = f }

// Close drops idle connections.
func (m *Manager) Close() { m.http.CloseIdleConnections() }

// do sends a request with an optional JSON body; a status of 400 or more becomes an error.
func (m *Manager) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	resp, err := m.send(ctx, method, path, body)
	if m.away != nil && errors.Is(err, ErrNoService) {
		if err = m.away(ctx, err); err == nil {
			resp, err = m.send(ctx, method, path, body)
		}
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		defer func() { _ = resp.Body.Close() }()
		return nil, problem(resp)
	}
	return resp, nil
}

func (m *Manager) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	if rest, ok := strings.CutPrefix(path, "/v1/jobs"); ok && m.dry && method != http.MethodGet {
		path = "/v1/dry-run/jobs" + rest
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://ebb"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return m.roundTrip(req)
}

// roundTrip sends a request.
func (m *Manager) roundTrip(req *http.Request) (*http.Response, error) {
	if m.socket == "" {
		return nil, fmt.Errorf("%w, and there is no place for one: %w", ErrNoService, ErrNoHome)
	}
	ctx := req.Context()
	if m.admin {
		req.Header.Set("X-Allow-Interaction", "true")
	}
	resp, err := m.http.RoundTrip(req)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" && ctx.Err() == nil {
		return nil, fmt.Errorf("%w on %s: %w", ErrNoService, m.socket, op.Err)
	}
	if err != nil && ctx.Err() == nil && !isAnswer(err) {
		return nil, fmt.Errorf("the service on %s %w: %w", m.socket, errBroke, err)
	}
	return resp, err
}

// call is do with the answer decoded into out.
func (m *Manager) call(ctx context.Context, method, path string, in, out any) error {
	resp, err := m.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the answer to %s %s: %w", method, path, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection can be used again
	return nil
}

// AmbiguousError is the cause of the error for a name or prefix that fits several jobs.
type AmbiguousError struct {
	Candidates []bits.Summary
}

func (e *AmbiguousError) Error() string { return fmt.Sprintf("%d jobs fit", len(e.Candidates)) }

func problem(resp *http.Response) error {
	var p bits.Problem
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil || p.HResult == "" {
		return fmt.Errorf("the service answered %s: %.200s", resp.Status, b)
	}
	code, _ := bits.ParseCode(p.HResult)
	e := &bits.Error{Code: code, Context: p.Context, File: p.File, Message: p.Detail}
	if len(p.Candidates) > 0 {
		e.Cause = &AmbiguousError{p.Candidates}
	}
	return e
}

// Service describes the running service.
func (m *Manager) Service(ctx context.Context) (*bits.Service, error) {
	var s bits.Service
	return &s, m.call(ctx, "GET", "/v1/service", nil, &s)
}

// Paths returns the network paths that the service's transfers use: what they can carry, who uses
// them, and why background jobs move as fast as they do. It is empty while nothing moves. Rates
// are in bytes per second and change several times a second.
func (m *Manager) Paths(ctx context.Context) ([]bits.Path, error) {
	var paths []bits.Path
	err := m.call(ctx, "GET", "/v1/paths", nil, &paths)
	return paths, err
}

// Create makes a job; it is SUSPENDED unless spec.Resume is set. The id is chosen here unless
// spec has one, so that a call whose answer was lost with the service is made again without
// making a second job.
func (m *Manager) Create(ctx context.Context, spec bits.NewJob) (*Job, error) {
	if spec.ID == nil {
		spec.ID = new(bits.NewID())
	}
	var j bits.Summary
	err := m.call(ctx, "POST", "/v1/jobs", spec, &j)
	if errors.Is(err, errBroke) {
		err = m.call(ctx, "POST", "/v1/jobs", spec, &j)
	}
	if err != nil {
		return nil, err
	}
	return &Job{m: m, ID: j.ID}, nil
}

// CreateAll makes jobs that have nothing to do with each other, as Create does but many with one
// call: a program that has thousands of them is not held up by a round trip and a write to the disk for each. The
// handle of a job that could not be made is nil; the error then joins those of all such jobs.
func (m *Manager) CreateAll(ctx context.Context, specs []bits.NewJob) ([]*Job, error) {
	jobs := make([]*Job, 0, len(specs))
	var errs []error
	for batch := range slices.Chunk(specs, bits.MaxBatch) {
		for i := range batch {
			if batch[i].ID == nil {
				batch[i].ID = new(bits.NewID())
			}
		}
		var created []bits.Created
		err := m.call(ctx, "POST", "/v1/batch", batch, &created)
		if errors.Is(err, errBroke) {
			err = m.call(ctx, "POST", "/v1/batch", batch, &created)
		}
		if err == nil && len(created) != len(batch) {
			err = fmt.Errorf("the service answered for %d of %d jobs", len(created), len(batch))
		}
		if err != nil {
			return jobs, errors.Join(append(errs, err)...)
		}
		for i, c := range created {
			switch {
			case c.Job != nil:
				jobs = append(jobs, m.Job(c.Job.ID))
				continue
			case c.Error != nil:
				errs = append(errs, fmt.Errorf("job %d: %w", len(jobs)+1, c.Error.Err()))
			default:
				errs = append(errs, fmt.Errorf("job %d: the service did not tell what became of %s", len(jobs)+1, batch[i].ID))
			}
			jobs = append(jobs, nil)
		}
	}
	return jobs, errors.Join(errs...)
}

// Job returns a handle to the job with the id, without asking the service.
func (m *Manager) Job(id bits.ID) *Job { return &Job{m: m, ID: id} }

// Find returns the job that ref means: an id, a unique prefix of one, or a name. An ambiguous
// ref is an error whose cause is an *AmbiguousError. A job that is named ".", ".." or "/"
// has to be asked for by its id.
func (m *Manager) Find(ctx context.Context, ref string) (*Job, error) {
	var s bits.Summary
	switch ref {
	case "", ".", "..", "/": // these mean something else in a path, escaped or not
		return nil, bits.Errorf(bits.NotFound, "there is no job %q", ref)
	}
	if err := m.call(ctx, "GET", "/v1/jobs/"+url.PathEscape(ref)+"?files=false", nil, &s); err != nil {
		return nil, err
	}
	return &Job{m: m, ID: s.ID}, nil
}

// ListOptions narrows a listing.
type ListOptions struct {
	AllUsers bool         // jobs of all users; for administrators
	Files    bool         // with the files of each job
	State    []bits.State // only jobs in one of these states
	Limit    int          // at most so many; 0 means all
	After    bits.ID      // only jobs created after this one
}

func (o ListOptions) query() string {
	q := url.Values{}
	if o.AllUsers {
		q.Set("all_users", "true")
	}
	if o.Files {
		q.Set("files", "true")
	}
	for _, s := range o.State {
		q.Add("state", s.String())
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.After != (bits.ID{}) {
		q.Set("after", o.After.String())
	}
	return q.Encode()
}

// List yields the jobs that are in no final state, oldest first, as the service sends them.
func (m *Manager) List(ctx context.Context, o ListOptions) iter.Seq2[bits.Job, error] {
	return func(yield func(bits.Job, error) bool) {
		body, err := m.ListJSON(ctx, o)
		if err != nil {
			yield(bits.Job{}, err)
			return
		}
		defer func() { _ = body.Close() }()
		dec := json.NewDecoder(body)
		if _, err := dec.Token(); err != nil { // [
			yield(bits.Job{}, err)
			return
		}
		for dec.More() {
			var j bits.Job
			err := dec.Decode(&j)
			if !yield(j, err) || err != nil {
				return
			}
		}
	}
}

// ListJSON is List as the JSON array that the service sends. The caller closes it.
func (m *Manager) ListJSON(ctx context.Context, o ListOptions) (io.ReadCloser, error) {
	resp, err := m.do(ctx, "GET", "/v1/jobs?"+o.query(), nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Job is a handle to a job.
type Job struct {
	m  *Manager
	ID bits.ID
}

func (j *Job) path(rest string) string { return "/v1/jobs/" + j.ID.String() + rest }

// Info returns a snapshot of the job with its files. It works in every state.
func (j *Job) Info(ctx context.Context) (*bits.Job, error) {
	var info bits.Job
	return &info, j.m.call(ctx, "GET", j.path(""), nil, &info)
}

// Status returns a snapshot of the job without its files.
func (j *Job) Status(ctx context.Context) (*bits.Job, error) {
	var info bits.Job
	return &info, j.m.call(ctx, "GET", j.path("?files=false"), nil, &info)
}

// AddFiles adds files to the job: all of them or, with an error, none.
func (j *Job) AddFiles(ctx context.Context, files ...bits.FileSpec) error {
	var s bits.Summary
	return j.m.call(ctx, "POST", j.path("/files"), files, &s)
}

// Set changes properties of the job: all of them or, with an error, none.
func (j *Job) Set(ctx context.Context, s bits.Settings) error {
	var sum bits.Summary
	return j.m.call(ctx, "PATCH", j.path(""), s, &sum)
}

func (j *Job) act(ctx context.Context, verb string) (*bits.Outcome, error) {
	var o bits.Outcome
	return &o, j.m.call(ctx, "POST", j.path("/"+verb), struct{}{}, &o)
}

// Resume starts the job or retries it now.
func (j *Job) Resume(ctx context.Context) error { _, err := j.act(ctx, "resume"); return err }

// Suspend stops the job and keeps its progress.
func (j *Job) Suspend(ctx context.Context) error { _, err := j.act(ctx, "suspend"); return err }

// ReplyData returns what the server answered to the file of an UPLOAD_REPLY job: once the job is
// TRANSFERRED, and after Complete for as long as the reply file is there. It is empty if the
// server had nothing to say. A reply of more than bits.MaxReplyData bytes is an error with the code
// bits.TooLarge; its file is named by Info.
func (j *Job) ReplyData(ctx context.Context) ([]byte, error) {
	resp, err := j.m.do(ctx, "GET", j.path("/reply"), nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the reply of job %s: %w", j.ID, err)
	}
	return data, nil
}

// Cancel ends the job and deletes what it fetched. The server of an upload that has begun is told
// by the service, also if that takes a while.
func (j *Job) Cancel(ctx context.Context) (*bits.Outcome, error) { return j.act(ctx, "cancel") }

// TakeOwnership makes the caller, an administrator, the owner of the job. The outcome tells what the
// job lost by that.
func (j *Job) TakeOwnership(ctx context.Context) (*bits.Outcome, error) { return j.act(ctx, "own") }

// Complete puts the files in their places and ends the job. Of a download that is not TRANSFERRED
// only the finished files are kept, and the outcome's code says so (BG_S_PARTIAL_COMPLETE); an upload
// must be TRANSFERRED.
func (j *Job) Complete(ctx context.Context) (*bits.Outcome, error) { return j.act(ctx, "complete") }
