package scenario

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/fakebus"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// told is a job of one file with notifications.
func (s *service) told(url string, o bits.Options) *client.Job {
	s.t.Helper()
	f := fetched{files: []bits.FileSpec{s.file(url, "file")}}
	f.settings.Options = o
	f.settings.MinimumRetryDelay = ptr(int64(5))
	return s.create(f)
}

// appears waits for a file and returns its text.
func appears(t *testing.T, name string) string {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if text, err := os.ReadFile(name); err == nil && strings.HasSuffix(string(text), "\n") {
			return string(text)
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not appear", name)
		}
	}
}

func small(t *testing.T) (*faultserver.Server, string) {
	t.Helper()
	srv := serve(t, faultserver.Options{})
	return srv, srv.File("/file", faultserver.File{Seed: 1, Size: 100 * kib}).URL()
}

func TestNotifyCommand(t *testing.T) {
	t.Parallel()
	_, url := small(t)
	s := start(t, options{env: []string{"OF_THE_SERVICE=secret"}})
	out := filepath.Join(s.dir, "out")
	// The first time it fails, and says why; the second time it completes the job, as the command
	// of the one that uploads for DFIR-ORC does.
	script := `set -e; if [ "$EBB_ATTEMPT" = 1 ]; then echo "no room" >&2; exit 3; fi; env >"$1.new"; "$2" complete "$EBB_JOB_ID" >&2; mv "$1.new" "$1"`
	job := s.told(url, bits.Options{NotifyCommand: &[]string{"/bin/sh", "-c", script, "sh", out, ebb}})
	failed := s.until(job, "told in vain", func(j *bits.Job) bool { return j.Failure != nil })
	if f := failed.Failure; f.Attempts != 1 || !strings.Contains(f.Message, "exit code 3: no room") || f.RetryAt == nil {
		t.Errorf("the failure is %+v", f)
	}
	s.restart() // what is still to be told is not forgotten
	text := appears(t, out)
	s.untilState(job, bits.Acknowledged)
	for _, want := range []string{"EBB_EVENT=transferred", "EBB_JOB_ID=" + job.ID.String(), "EBB_JOB_STATE=TRANSFERRED", "EBB_JOB_NAME=" + t.Name(), "EBB_FILE=" + filepath.Join(s.dir, "file"),
		"EBB_JOB_BYTES_TOTAL=102400", "EBB_ATTEMPT=2", "EBB_SOCKET=" + s.socket} {
		if !slices.Contains(strings.Split(text, "\n"), want) {
			t.Errorf("the command's environment lacks %s:\n%s", want, text)
		}
	}
	if strings.Contains(text, "OF_THE_SERVICE") {
		t.Error("the command's environment has what is the service's")
	}
}

// A command that is set when the job has ended runs then; one for a job that completes itself runs
// when the file is in its place; one for an error knows it.
func TestNotifyWhen(t *testing.T) {
	t.Parallel()
	srv, url := small(t)
	s := start(t, options{})
	out := func(name string) []string {
		return []string{"/bin/sh", "-c", `{ ls "$EBB_FILE" 2>/dev/null; echo "$EBB_EVENT $EBB_JOB_STATE $EBB_ERROR_CODE"; } >"$1.new"; mv "$1.new" "$1"`, "sh", filepath.Join(s.dir, name)}
	}
	late := s.fetch(url, "late")
	s.settled(late, bits.Transferred)
	set := bits.Settings{}
	set.NotifyCommand = ptr(out("late.out"))
	if err := late.Set(s.ctx(), set); err != nil {
		t.Fatal(err)
	}
	if got := appears(t, filepath.Join(s.dir, "late.out")); got != "transferred TRANSFERRED \n" {
		t.Errorf("the command that was set late wrote %q", got)
	}

	// Each channel is told of it once, though its end is several events, and one that fails waits.
	var posts atomic.Int64
	hooks := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { posts.Add(1) }))
	defer hooks.Close()
	f := fetched{files: []bits.FileSpec{s.file(url, "once")}}
	f.settings.AutoComplete, f.settings.NotifyURL = ptr(true), &hooks.URL
	for _, code := range []string{"0", "1"} {
		f.settings.NotifyCommand = &[]string{"/bin/sh", "-c", `echo run >>"$1"; exit "$2"`, "sh", filepath.Join(s.dir, "once"+code), code}
		s.create(f)
	}
	defer func() {
		for _, code := range []string{"0", "1"} {
			if got := appears(t, filepath.Join(s.dir, "once"+code)); got != "run\n" {
				t.Errorf("a command that ends with %s wrote %q", code, got)
			}
		}
		if n := posts.Load(); n != 2 {
			t.Errorf("the hooks of two jobs had %d posts", n)
		}
	}()

	f = fetched{files: []bits.FileSpec{s.file(url, "auto")}}
	f.settings.AutoComplete, f.settings.NotifyCommand = ptr(true), ptr(out("auto.out"))
	s.create(f)
	if got, want := appears(t, filepath.Join(s.dir, "auto.out")), filepath.Join(s.dir, "auto")+"\ntransferred ACKNOWLEDGED \n"; got != want {
		t.Errorf("the command of a job that completes itself wrote %q, want %q", got, want)
	}

	f = fetched{files: []bits.FileSpec{s.file(srv.URL()+"/missing", "missing")}}
	f.settings.NotifyCommand = ptr(out("error.out"))
	s.create(f)
	if got := appears(t, filepath.Join(s.dir, "error.out")); got != "error ERROR BG_E_HTTP_ERROR_404\n" {
		t.Errorf("the command of a job in ERROR wrote %q", got)
	}

	f.settings.NotifyCommand, f.settings.NotifyFlags = ptr(out("never.out")), ptr(bits.NotifyTransferred)
	s.settled(s.create(f), bits.Errored)
	f.settings.NotifyFlags = ptr(bits.NotifyTransferred | bits.NotifyError | bits.NotifyDisable)
	s.settled(s.create(f), bits.Errored)
	time.Sleep(time.Second)
	if _, err := os.Stat(filepath.Join(s.dir, "never.out")); err == nil {
		t.Error("a command ran that the flags do not allow")
	}
}

func TestNotifyPolicy(t *testing.T) {
	t.Parallel()
	_, url := small(t)
	s := start(t, options{config: "[notify]\ncommands = \"/bin/true, /opt/hooks/*\"\nhooks = \"hooks.example.com\"\n"})
	job := s.fetch(url, "file")
	for _, o := range []bits.Options{{NotifyCommand: &[]string{"/bin/sh"}}, {NotifyCommand: &[]string{"/opt/hooks/../../bin/sh"}}, {NotifyURL: ptr("http://127.0.0.1/")}} {
		if err := job.Set(s.ctx(), bits.Settings{Options: o}); !errors.Is(err, &bits.Error{Code: bits.AccessDenied}) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []bits.Options{{NotifyCommand: &[]string{"/bin/true"}}, {NotifyURL: ptr("https://hooks.example.com/x")}} {
		if err := job.Set(s.ctx(), bits.Settings{Options: o}); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// listener is a program that has asked for callbacks.
type listener struct {
	news chan bits.Notification
	stop func()
}

// listen asks for callbacks; each is answered with what answer gives.
func (s *service) listen(answer func(bits.Notification) error, jobs ...bits.ID) *listener {
	ctx, cancel := context.WithCancel(s.ctx())
	l := &listener{news: make(chan bits.Notification, 1000), stop: cancel}
	go func() {
		_ = s.Callbacks(ctx, jobs, func(_ context.Context, n bits.Notification) error {
			l.news <- n
			return answer(n)
		})
	}()
	s.t.Cleanup(cancel)
	return l
}

// next returns the next callback of a kind.
func (l *listener) next(t *testing.T, kind bits.EventKind) bits.Notification {
	t.Helper()
	for {
		select {
		case n := <-l.news:
			if n.Event.Kind == kind {
				return n
			}
		case <-time.After(patience):
			t.Fatalf("there is no callback of %s", kind)
		}
	}
}

func well(bits.Notification) error   { return nil }
func unwell(bits.Notification) error { return errors.New("not now") }

// registered waits until a program is called back for a job.
func (s *service) registered(job *client.Job, want bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if is, err := job.HasCallback(s.ctx()); err == nil && is == want {
			return
		} else if time.Now().After(end) {
			s.t.Fatalf("a program is registered: %v, %v", is, err)
		}
	}
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	srv, url := small(t)
	s := start(t, options{})
	flags := bits.DefaultNotifyFlags | bits.NotifyFile
	f := fetched{settings: bits.Settings{Options: bits.Options{NotifyFlags: &flags}}}
	for i := range 10 {
		f.files = append(f.files, s.file(url, fmt.Sprint("file", i)))
	}
	job := s.create(f)
	s.settled(job, bits.Transferred)

	// Who comes late is told all: the files first, one after the other, then the job; and who is not
	// heard is told again.
	s.restart()
	var mu sync.Mutex
	refused := map[uint64]bool{}
	l := s.listen(func(n bits.Notification) error {
		mu.Lock()
		defer mu.Unlock()
		if n.Event.Kind == bits.EventFile && n.Event.Seq%5 == 0 && !refused[n.Event.Seq] {
			refused[n.Event.Seq] = true
			return errors.New("not now")
		}
		if n.Event.Kind == bits.EventTransferred {
			_, err := s.Job(n.Event.Job).Complete(context.Background())
			return err
		}
		return nil
	}, job.ID)
	seen := map[string]int{}
	for {
		n := <-l.news
		if n.Event.Kind == bits.EventTransferred {
			break
		}
		seen[n.Event.File.Local]++
	}
	if len(seen) != 10 {
		t.Errorf("the program was told of %d files: %v", len(seen), seen)
	}
	s.untilState(job, bits.Acknowledged)

	// Modifications come as often as asked for, and need no answer.
	entry := srv.File("/slow", faultserver.File{Seed: 2, Size: 4 * mib})
	entry.Set(func(p *faultserver.Program) { p.Rate = mib })
	flags = bits.DefaultNotifyFlags | bits.NotifyModification
	f = fetched{files: []bits.FileSpec{s.file(entry.URL(), "slow")}, settings: bits.Settings{Options: bits.Options{NotifyFlags: &flags, MinimumNotificationInterval: ptr(int64(1000))}}}
	all := s.listen(well)
	slow := s.create(f)
	n := all.next(t, bits.EventProgress)
	if n.Acknowledge || n.Event.Progress == nil || n.Event.Job != slow.ID {
		t.Errorf("the progress is %+v", n)
	}
	all.next(t, bits.EventTransferred)
	must(t, slow.SetDescription(s.ctx(), "other"))
	if n := all.next(t, bits.EventModified); n.Acknowledge || n.Event.Job != slow.ID {
		t.Errorf("the modification is %+v", n)
	}

	f.files = []bits.FileSpec{s.file("http://127.0.0.1:1/x", "nobody is there")}
	waiting := s.create(f)
	for n = all.next(t, bits.EventState); n.Event.Job != waiting.ID || n.Event.State != bits.TransientError; n = all.next(t, bits.EventState) {
	}
	if n.Acknowledge || n.Event.Error == nil || n.Event.Error.Code != bits.CannotConnect.Name() {
		t.Errorf("the change of the state is %+v", n)
	}

	// The interval is kept: of a long one there is one such event, however much happens.
	f.files = []bits.FileSpec{s.file(entry.URL(), "rare")}
	f.settings.MinimumNotificationInterval = ptr(int64(time.Hour / time.Millisecond))
	rare := s.create(f)
	for told := 0; ; {
		n := <-all.news
		if n.Event.Job != rare.ID {
			continue
		}
		if n.Event.Kind == bits.EventTransferred {
			break
		}
		if told++; told > 1 {
			t.Errorf("within the interval there is another event: %+v", n.Event)
		}
	}

	// The last one that asked for the job is told. When it goes away without an answer another is.
	failing := s.fetch(srv.URL()+"/missing", "x")
	if n := all.next(t, bits.EventError); !n.Acknowledge || n.Event.Job != failing.ID || n.Event.State != bits.Errored || n.Event.Error == nil || n.Event.Error.Code != bits.HTTPStatus(404).Name() {
		t.Errorf("the error is %+v", n)
	}
	s.settled(failing, bits.Errored)
	stuck := make(chan struct{})
	first := s.listen(func(bits.Notification) error { <-stuck; return errors.New("it goes") }, slow.ID)
	s.registered(slow, true)
	if err := slow.Set(s.ctx(), bits.Settings{Options: bits.Options{NotifyCommand: &[]string{}}}); err != nil { // tells anew
		t.Fatal(err)
	}
	first.next(t, bits.EventTransferred)
	first.stop()
	close(stuck)
	all.next(t, bits.EventTransferred)
}

// A program that is told of ranges and of modifications is told of both, however close they come: no event of
// one kind takes the place of one of the other.
func TestCallbacksOfRanges(t *testing.T) {
	t.Parallel()
	_, url := small(t)
	s := start(t, options{})
	flags := bits.DefaultNotifyFlags | bits.NotifyModification | bits.NotifyRanges
	f := fetched{waits: true, files: []bits.FileSpec{s.file(url, "demanded"), s.file(url+"?2", "demanded too")}}
	f.settings.NotifyFlags, f.settings.OnDemand = &flags, ptr(true)
	job := s.create(f)
	l := s.listen(well, job.ID)
	s.registered(job, true)
	want := []bits.Range{{Offset: 100, Length: 10}, {Offset: 5000, Length: 20}, {Offset: 90_000, Length: 30}}
	for i := range f.files {
		must(t, job.RequestFileRanges(s.ctx(), i, want...))
	}
	must(t, job.Resume(s.ctx()))
	told, modified := [2][]bits.Range{}, false
	for !modified || len(told[0]) < len(want) || len(told[1]) < len(want) {
		select {
		case n := <-l.news:
			if n.Acknowledge || n.Event.Job != job.ID {
				t.Errorf("%+v", n)
			}
			if n.Event.Kind != bits.EventRanges {
				modified = true
				continue
			}
			told[n.Event.File.Index] = append(told[n.Event.File.Index], n.Event.Ranges...)
		case <-time.After(patience):
			t.Fatalf("the program is told of the ranges %v, of modifications %v", told, modified)
		}
	}
	for _, have := range told {
		slices.SortFunc(have, func(a, b bits.Range) int { return int(a.Offset - b.Offset) })
		if !slices.Equal(have, want) {
			t.Errorf("the program is told of the ranges %v, want %v", have, want)
		}
	}
}

// The command runs if the program that asked for callbacks fails, or goes away.
func TestCallbackThenCommand(t *testing.T) {
	t.Parallel()
	_, url := small(t)
	s := start(t, options{})
	job := s.told(url, bits.Options{NotifyCommand: &[]string{"/bin/sh", "-c", `[ -e "$1" ] || { echo "$EBB_JOB_STATE" >"$1.new"; mv "$1.new" "$1"; }`, "sh", filepath.Join(s.dir, "out")}, NotifyFlags: ptr(bits.NotifyDisable)}) // it may run again while the test ends
	s.settled(job, bits.Transferred)
	good := s.listen(well, job.ID)
	s.registered(job, true)
	enable := func() {
		t.Helper()
		command := s.info(job).Properties.NotifyCommand
		if err := job.Set(s.ctx(), bits.Settings{Options: bits.Options{NotifyFlags: ptr(bits.DefaultNotifyFlags), NotifyCommand: &command}}); err != nil {
			t.Fatal(err)
		}
	}
	enable()
	good.next(t, bits.EventTransferred)
	good.stop()
	s.registered(job, false)
	if _, err := os.Stat(filepath.Join(s.dir, "out")); err == nil {
		t.Error("the command ran though the program was told")
	}
	bad := s.listen(unwell, job.ID)
	s.registered(job, true)
	enable()
	bad.next(t, bits.EventTransferred)
	if got := appears(t, filepath.Join(s.dir, "out")); got != "TRANSFERRED\n" {
		t.Errorf("the command wrote %q", got)
	}
}

// A job that completes itself ends before its program has heard of the first file: it is told of all of
// them, and then of the end, also one that asks for it later.
func TestFilesOfAJobThatCompletesItself(t *testing.T) {
	t.Parallel()
	_, url := small(t)
	s := start(t, options{})
	f := fetched{waits: true}
	f.settings.AutoComplete, f.settings.NotifyFlags = ptr(true), ptr(bits.DefaultNotifyFlags|bits.NotifyFile)
	for i := range 3 {
		f.files = append(f.files, s.file(url, fmt.Sprint("each", i)))
	}
	early, late := s.create(f), s.create(f)
	ended := make(chan struct{})
	l := s.listen(func(bits.Notification) error { <-ended; return nil }, early.ID)
	s.registered(early, true)
	for _, job := range []*client.Job{early, late} {
		s.resume(job)
		s.untilState(job, bits.Acknowledged)
	}
	close(ended)
	for _, l := range []*listener{l, s.listen(well, late.ID)} {
		files := map[int]bool{}
		for range 3 {
			files[l.next(t, bits.EventFile).Event.File.Index] = true
		}
		if len(files) != 3 {
			t.Errorf("it was told of %d files", len(files))
		}
		l.next(t, bits.EventTransferred)
	}
}

// A program that cannot deal with the news of a file, or does not answer, hears of the end
// nevertheless, or else the command runs.
func TestFileCallbackFails(t *testing.T) {
	t.Parallel()
	_, url := small(t)
	s := start(t, options{config: "[notify]\ntimeout = \"1s\"\n"})
	flags := bits.DefaultNotifyFlags | bits.NotifyFile
	f := fetched{files: []bits.FileSpec{s.file(url, "a"), s.file(url, "b")}, waits: true}
	f.settings.NotifyFlags = &flags
	refusing := s.create(f)
	l := s.listen(func(n bits.Notification) error {
		if n.Event.Kind == bits.EventFile {
			return errors.New("not a file")
		}
		return nil
	}, refusing.ID)

	f.files = []bits.FileSpec{s.file(url, "c")}
	f.settings.AutoComplete = ptr(true) // it ends meanwhile
	f.settings.NotifyCommand = &[]string{"/bin/sh", "-c", `echo "$EBB_JOB_STATE $EBB_ATTEMPT" >"$1.new"; mv "$1.new" "$1"`, "sh", filepath.Join(s.dir, "out")}
	silent := s.create(f)
	never := make(chan struct{})
	defer close(never)
	stuck := s.listen(func(bits.Notification) error { <-never; return nil }, silent.ID)
	for _, j := range []*client.Job{refusing, silent} {
		s.registered(j, true)
		if err := j.Resume(s.ctx()); err != nil {
			t.Fatal(err)
		}
	}

	l.next(t, bits.EventFile)
	l.next(t, bits.EventTransferred)
	// The third time is told of in its own commit: the files of one moment fail together.
	gaveUp := func(j *bits.Job) bool { return j.Failure != nil && j.Failure.Attempts >= 3 }
	if f := s.until(refusing, "given up", gaveUp).Failure; !strings.Contains(f.Message, "could not deal with a file") {
		t.Errorf("the failure is %+v", f)
	}
	stuck.next(t, bits.EventFile)
	if got := appears(t, filepath.Join(s.dir, "out")); got != "ACKNOWLEDGED 1\n" {
		t.Errorf("the command wrote %q", got)
	}
}

func TestWebHook(t *testing.T) {
	t.Parallel()
	_, url := small(t)
	type post struct {
		header http.Header
		body   []byte
	}
	posts := make(chan post, 10)
	status := make(chan int, 10)
	status <- 503
	status <- 200
	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		posts <- post{r.Header, body}
		w.WriteHeader(<-status)
	}))
	defer hooks.Close()
	s := start(t, options{})
	job := s.create(fetched{waits: true, files: []bits.FileSpec{s.file(url, "file")}})
	s.cliWith("notify_url="+hooks.URL+"/path-geheim?x=geheim\n", "set", job.ID.String(), "--from", "-").want(t, 0)
	s.resume(job)
	first := <-posts
	second := <-posts
	var m struct {
		Type string
		Data struct {
			ID      bits.ID
			State   bits.State
			Attempt int
		}
	}
	if err := json.Unmarshal(second.body, &m); err != nil {
		t.Fatal(err)
	}
	if m.Type != "job.transferred" || m.Data.ID != job.ID || m.Data.State != bits.Transferred || m.Data.Attempt != 2 {
		t.Errorf("the hook has %s", second.body)
	}
	if id := first.header.Get("Webhook-Id"); id == "" || id != second.header.Get("Webhook-Id") {
		t.Errorf("the ids are %q and %q", id, second.header.Get("Webhook-Id"))
	}
	s.until(job, "told in vain", func(j *bits.Job) bool { return j.Hook != nil || j.State == bits.Transferred })
	shown := "notify_url=" + hooks.URL + "/path-geheim?x=geheim\n"
	if out := s.cli("show", "--properties", job.ID.String()).want(t, 0).out; !strings.Contains(out, shown) {
		t.Errorf("the owner sees\n%s", out)
	}
	must(t, job.SetNotifyFlags(s.ctx(), bits.NotifyDisable))
	s.complete(job)
	s.keepsSecret(job, "geheim") // nobody sees it once the job has ended
	if u, err := job.NotifyURL(s.ctx()); err != nil || u != hooks.URL+"/..." {
		t.Errorf("the hook is shown as %q, %v", u, err)
	}
}

// TestSignedWebHook checks the signatures of web hooks as the specification Standard Webhooks tells a
// receiver to: with either form of secrets, from the one end of the service to its next, and of a job
// that has ended meanwhile.
func TestSignedWebHook(t *testing.T) {
	t.Parallel()
	_, url := small(t)
	status := make(chan int, 10)
	verdicts := make(chan string, 10)
	keys := map[string]string{ // by path
		"/text": "a secret of 24 characters, or more",
		"/base": "0123456789abcdef0123456789abcdef",
	}
	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		id, at := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
		mac := hmac.New(sha256.New, []byte(keys[r.URL.Path]))
		mac.Write([]byte(id + "." + at + "." + string(body)))
		given, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("webhook-signature"), "v1,"))
		seconds, _ := strconv.ParseInt(at, 10, 64)
		switch {
		case err != nil:
			verdicts <- err.Error()
		case !hmac.Equal(given, mac.Sum(nil)):
			verdicts <- fmt.Sprintf("the signature %q is not that of the body with the key of %s", r.Header.Get("webhook-signature"), r.URL.Path)
		case time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute:
			verdicts <- "the time is " + at
		default:
			verdicts <- "signed " + r.URL.Path
		}
		w.WriteHeader(<-status)
	}))
	defer hooks.Close()
	told := func(want string) {
		t.Helper()
		select {
		case got := <-verdicts:
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
		case <-time.After(patience):
			t.Fatal("the hook was not called")
		}
	}
	s := start(t, options{})
	secret := filepath.Join(s.dir, "secret")
	coded := "whsec_" + base64.StdEncoding.EncodeToString([]byte(keys["/base"]))
	if err := os.WriteFile(secret, []byte(coded+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	make := func(path string) *client.Job {
		f := fetched{files: []bits.FileSpec{s.file(url, path)}, waits: true}
		f.settings.NotifyURL, f.settings.AutoComplete = ptr(hooks.URL+path), ptr(true)
		return s.create(f)
	}
	job := make("/base")
	s.cli("credentials", "set", job.ID.String(), "hook", "hmac", "--from", secret).want(t, 0)
	if got := s.cli("credentials", "list", job.ID.String()).want(t, 0).out; got != "hook hmac\n" {
		t.Errorf("the job has %q", got)
	}
	must(t, job.Resume(s.ctx()))
	told("signed /base")
	s.untilState(job, bits.Acknowledged)
	s.keepsSecret(job, coded, keys["/base"])
	s.kill9() // before the receiver answers
	status <- 503
	s.up()
	status <- 200
	told("signed /base")

	job = make("/text")
	must(t, job.SetCredential(s.ctx(), bits.Credential{CredentialName: bits.CredentialName{Target: bits.TargetHook, Scheme: bits.AuthHMAC}, Password: ptr(keys["/text"])}), job.Resume(s.ctx()))
	told("signed /text")
	status <- 200
	s.keepsSecret(job, keys["/text"])
}

// desktop shows messages.
type desktop struct{ shown chan []any }

// Notify is org.freedesktop.Notifications.Notify.
func (s *desktop) Notify(app string, _ uint32, icon, summary, body string, _ []string, hints map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	s.shown <- []any{app, icon, summary, body, hints["urgency"].Value()}
	return 1, nil
}

func TestDesktop(t *testing.T) {
	t.Parallel()
	srv, url := small(t)
	bus := fakebus.New(t)
	conn, err := dbus.Connect(bus.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	desk := &desktop{make(chan []any, 10)}
	if err := conn.Export(desk, "/org/freedesktop/Notifications", "org.freedesktop.Notifications"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName("org.freedesktop.Notifications", 0); err != nil {
		t.Fatal(err)
	}
	s := start(t, options{env: []string{"DBUS_SESSION_BUS_ADDRESS=" + bus.Address}})
	f := fetched{name: "a <b>bold</b> name", files: []bits.FileSpec{s.file(url, "file")}}
	f.settings.NotifyDesktop = ptr(true)
	s.create(f)
	want := fmt.Sprint([]any{"Ebb", "folder-download", "Download finished", "a &lt;b&gt;bold&lt;/b&gt; name", byte(1)})
	if got := fmt.Sprint(<-desk.shown); got != want {
		t.Errorf("the desktop shows %s, want %s", got, want)
	}
	f.files = []bits.FileSpec{s.file(srv.URL()+"/missing", "missing")}
	s.create(f)
	if got := fmt.Sprint(<-desk.shown); !strings.Contains(got, "dialog-error Download failed a &lt;b&gt;bold&lt;/b&gt; name: ") {
		t.Errorf("the desktop shows %s", got)
	}
}
