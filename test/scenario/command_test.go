package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// known is what the service has told a client about one job.
type known struct {
	job         *client.Job
	state       bits.State
	files       int
	description string
	priority    bits.Priority
	checked     bool // against a service that was killed after the answers
}

// commander gives commands, one after the other, until the service goes away, and keeps what
// was answered. A command without an answer may have happened or not: its job is not looked at
// any more.
func commander(ctx context.Context, s *service, r *rand.Rand, url string, jobs []*known) (after []*known, answers int) {
	for n := 0; ; n++ {
		var k *known
		if len(jobs) > 0 && r.IntN(3) > 0 {
			k = jobs[r.IntN(len(jobs))]
		}
		if k == nil || k.state.Final() {
			name := fmt.Sprint("job ", r.Uint64())
			job, err := s.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: &name}})
			if err != nil {
				return jobs, answers
			}
			jobs = append(jobs, &known{job: job, state: bits.Suspended, priority: bits.Normal})
			answers++
			continue
		}
		next := *k
		var err error
		switch action := r.IntN(6); {
		case action == 0 || k.files == 0:
			next.files++
			err = k.job.AddFiles(ctx, bits.FileSpec{Remote: url, Local: filepath.Join(s.dir, fmt.Sprint(r.Uint64()))})
		case action == 1:
			next.description = fmt.Sprint(r.Uint64())
			err = k.job.Set(ctx, bits.Settings{Description: &next.description})
		case action == 2:
			next.priority = bits.Priority(r.IntN(bits.Priorities))
			err = k.job.Set(ctx, bits.Settings{Priority: &next.priority})
		case action == 3:
			next.state = bits.Queued // or any state in which it runs
			err = k.job.Resume(ctx)
		case action == 4:
			next.state = bits.Suspended
			err = k.job.Suspend(ctx)
		default:
			next.state = bits.Cancelled
			_, err = k.job.Cancel(ctx)
		}
		if err != nil {
			at := len(jobs)
			for i := range jobs {
				if jobs[i] == k {
					at = i
				}
			}
			return append(jobs[:at:at], jobs[at+1:]...), answers
		}
		*k = next
		answers++
	}
}

// TestAnsweredCommandsSurviveKill: what was answered is so after kill -9, whatever the moment.
func TestAnsweredCommandsSurviveKill(t *testing.T) {
	const clients = 4
	rounds := kills(t)
	r := dice(t)
	srv := serve(t, faultserver.Options{})
	e := srv.File("/file", faultserver.File{Size: mib})
	e.Set(func(p *faultserver.Program) { p.Silent = true }) // so that no job ends by itself
	s := start(t, options{})
	jobs := make([][]*known, clients)
	total := 0
	for range rounds {
		var work sync.WaitGroup
		var mu sync.Mutex
		for c := range clients {
			own := rand.New(rand.NewPCG(r.Uint64(), 1))
			work.Go(func() {
				after, n := commander(s.ctx(), s, own, e.URL(), jobs[c])
				jobs[c] = after
				mu.Lock()
				defer mu.Unlock()
				total += n
			})
		}
		time.Sleep(time.Duration(20+r.IntN(200)) * time.Millisecond) // the moment is what is tested
		s.kill9()
		work.Wait()
		s.up()
		listed := map[bits.ID]bits.Job{}
		for _, j := range jobsOf(s) {
			listed[j.ID] = j
		}
		for c := range clients {
			for _, k := range jobs[c] {
				if k.checked && k.state.Final() {
					continue
				}
				k.checked = true
				got, ok := listed[k.job.ID]
				if !ok {
					got = *s.info(k.job)
				}
				state := got.State
				if state.Action() {
					state = bits.Queued
				}
				if state != k.state || len(got.Files) != k.files || got.Properties.Description != k.description || got.Priority != k.priority {
					t.Fatalf("the job is %s, %s, with %d files and description %q; answered were %s, %s, %d and %q", got.State, got.Priority, len(got.Files), got.Properties.Description, k.state, k.priority, k.files, k.description)
				}
			}
		}
	}
	t.Logf("%d answers over %d kills", total, rounds)
	if total < 10*rounds {
		t.Errorf("only %d commands were answered", total)
	}
	s.holds()
}

// TestExitCodes: the command line against a real service.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	good := srv.File("/good", faultserver.File{Seed: 1, Size: 5000})
	bad := srv.File("/bad", faultserver.File{})
	bad.Set(func(p *faultserver.Program) { p.Status = 404 })
	s := start(t, options{})
	s.create(fetched{name: "empty", waits: true})
	first := s.create(fetched{name: "twin", waits: true}).ID.String()
	second := s.create(fetched{name: "twin", waits: true}).ID.String()
	for _, test := range []struct {
		name string
		args []string
		code int
		tell string // on the standard error
	}{
		{"a file that arrives", []string{"get", good.URL()}, 0, ""},
		{"a file that is not there", []string{"get", bad.URL()}, 1, "BG_E_HTTP_ERROR_404"},
		{"no verb of that name", []string{"fetch"}, 2, "fetch"},
		{"not a URL", []string{"get", "ftp://127.0.0.1/x"}, 2, "http"},
		{"a checksum that is none", []string{"get", "--checksum", "md5:00", good.URL()}, 2, "sha256"},
		{"no service", []string{"--socket", filepath.Join(s.dir, "none"), "list"}, 3, "no ebb service"},
		{"no such job", []string{"show", "nobody"}, 4, "nobody"},
		{"no job of that id", []string{"show", bits.NewID().String()}, 4, "no job"},
		{"a job without files", []string{"resume", "empty"}, 6, "no files"},
		{"two jobs of that name", []string{"show", "twin"}, 2, first},
		{"one of them by its id", []string{"cancel", second}, 0, ""},
		{"the other by its name", []string{"show", "twin"}, 0, ""},
		{"the other by the beginning of its id", []string{"show", first[:13]}, 0, ""},
		{"cancelled twice", []string{"cancel", second}, 6, "CANCELLED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := s.in(t).cli(test.args...).want(t, test.code)
			if !strings.Contains(r.err, test.tell) {
				t.Errorf("it said %q, want a sentence with %q", r.err, test.tell)
			}
			if test.code != 0 && r.out != "" {
				t.Errorf("it printed %q", r.out)
			}
		})
	}
}

// TestExitCodeNotAllowed: a socket of another user.
func TestExitCodeNotAllowed(t *testing.T) {
	t.Parallel()
	isRoot(t)
	s := start(t, options{})
	for _, dir := range []string{filepath.Dir(ebb), filepath.Dir(s.socket)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(ebb, "list")
	cmd.Env = append(os.Environ(), "EBB_SOCKET="+s.socket)
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d, want 5\n%s", code, out)
	}
}

// TestEndedJobStaysReadable: the handle of a completed job can be read, but it is in no list.
func TestEndedJobStaysReadable(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: 5000})
	s := start(t, options{})
	job := s.fetch(e.URL(), "file")
	s.arrives(job, e)
	cancelled := s.create(fetched{waits: true, name: "cancelled", files: []bits.FileSpec{s.file(e.URL(), "not fetched")}})
	if _, err := cancelled.Cancel(s.ctx()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var shown bits.Job
		s.cli("show", "--json", job.ID.String()).want(t, 0).decode(t, &shown)
		if f := shown.Files[0]; shown.State != bits.Acknowledged || !f.Completed || f.BytesTotal != 5000 || f.BytesTransferred != 5000 ||
			shown.Progress != (bits.Progress{BytesTotal: 5000, BytesTransferred: 5000, FilesTotal: 1, FilesTransferred: 1}) {
			t.Errorf("the completed job is %+v", shown)
		}
		s.cli("show", "--json", cancelled.ID.String()).want(t, 0).decode(t, &shown)
		if f := shown.Files[0]; shown.State != bits.Cancelled || f.Completed || f.BytesTransferred != 0 {
			t.Errorf("the cancelled job is %+v", shown)
		}
		// A size that no server told is null.
		var raw struct {
			Progress map[string]any
			Files    []map[string]any
		}
		s.cli("show", "--json", cancelled.ID.String()).want(t, 0).decode(t, &raw)
		for _, of := range append(raw.Files, raw.Progress) {
			if size, ok := of["bytes_total"]; !ok || size != nil {
				t.Errorf("an unknown size is shown in %v", of)
			}
		}
		var list []bits.Job
		s.cli("list", "--json").want(t, 0).decode(t, &list)
		if len(list) != 0 {
			t.Errorf("the list has %d jobs", len(list))
		}
		if _, err := job.Complete(s.ctx()); !errors.Is(err, &bits.Error{Code: bits.InvalidState}) {
			t.Errorf("completing it again gives %v", err)
		}
		s.restart()
	}
}
