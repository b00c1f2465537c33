package scenario

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/fakebus"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// The users of a service for all users. The system's user database knows none of them.
const (
	aliceUID = 61001
	bobUID   = 61002
	carolUID = 61003
)

// machine is a service for all users.
type machine struct {
	*service
	root string // a directory that all may enter, and root alone may write to
}

// startSystem runs a service for all users, which needs root.
func startSystem(t *testing.T, o options) *machine {
	t.Helper()
	isRoot(t)
	o.args = append(o.args, "--system")
	s := prepare(t, o)
	m := &machine{s, filepath.Dir(s.dir)}
	// Others have to reach the socket and the program.
	must(t, errors.Join(os.Chmod(m.root, 0o755), os.Chmod(filepath.Dir(ebb), 0o755)))
	s.up()
	return m
}

// person is somebody without any rights but those to a home of their own.
type person struct {
	*service
	uid  int
	http *http.Client
}

// person returns a user of the machine.
func (m *machine) person(uid int) *person {
	m.t.Helper()
	s := *m.service
	s.dir = filepath.Join(m.root, fmt.Sprint(uid))
	if err := os.Mkdir(s.dir, 0o700); err == nil {
		must(m.t, os.Chown(s.dir, uid, uid))
	}
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return dialAs(uid, s.socket) }}
	m.t.Cleanup(tr.CloseIdleConnections)
	return &person{&s, uid, &http.Client{Transport: tr, Timeout: patience}}
}

// as is what makes a process the user's.
func (u *person) as() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.uid)}}
}

// cli runs a verb as the user.
func (u *person) cli(args ...string) result {
	u.t.Helper()
	c := u.prepareCall(args...)
	c.cmd.SysProcAttr = u.as()
	c.cmd.Env = append(c.cmd.Env, "HOME="+u.dir, "XDG_RUNTIME_DIR=")
	return c.begin().end()
}

// asUser runs f on a thread that has a user's effective identity; the other threads of the test stay
// root. The thread is root again after that, and does not end: what it has started would end with it.
func asUser(uid int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	groups, err := unix.Getgroups()
	if err != nil {
		return err
	}
	own := make([]uint32, len(groups)+1)
	for i, g := range groups {
		own[i] = uint32(g)
	}
	call := func(number, a, b, c uintptr) {
		if _, _, errno := unix.RawSyscall(number, a, b, c); errno != 0 {
			panic(fmt.Sprintf("change the user of a thread: %v", errno))
		}
	}
	same := ^uintptr(0)
	call(unix.SYS_SETGROUPS, 0, 0, 0)
	call(unix.SYS_SETRESGID, same, uintptr(uid), same)
	call(unix.SYS_SETRESUID, same, uintptr(uid), same)
	defer func() {
		call(unix.SYS_SETRESUID, same, 0, same)
		call(unix.SYS_SETRESGID, same, 0, same)
		call(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&own[0])), 0)
	}()
	return f()
}

// dialAs connects to the socket as a user: the service sees no difference from a process of theirs.
func dialAs(uid int, socket string) (c net.Conn, err error) {
	err = asUser(uid, func() error {
		c, err = net.FileConn(connected(socket, &err))
		return err
	})
	return c, err
}

// connected returns a connected socket.
func connected(socket string, err *error) *os.File {
	fd, e := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if e == nil {
		e = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	}
	*err = e
	return os.NewFile(uintptr(fd), socket)
}

// ask makes a request and returns its status and body.
func (u *person) ask(method, path string, body any) (int, []byte) {
	u.t.Helper()
	doc, err := json.Marshal(body)
	must(u.t, err)
	status, answer, err := u.send(method, path, bytes.NewReader(doc))
	must(u.t, err)
	return status, answer
}

// send makes a request with any body.
func (u *person) send(method, path string, body io.Reader) (int, []byte, error) {
	req, err := http.NewRequest(method, "http://ebb"+path, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := u.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// make creates a job and returns its id.
func (u *person) make(spec bits.NewJob) bits.ID {
	u.t.Helper()
	if spec.Name == nil {
		spec.Name = ptr(u.t.Name())
	}
	if spec.Priority == nil {
		spec.Priority = ptr(bits.Foreground)
	}
	status, answer := u.ask("POST", "/v1/jobs", spec)
	var made bits.Summary
	if err := json.Unmarshal(answer, &made); status != http.StatusCreated || err != nil {
		u.t.Fatalf("create: %d %s", status, answer)
	}
	return made.ID
}

// owned checks whose a file is, and its mode.
func owned(t *testing.T, path string, uid int) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	if int(st.Uid) != uid || st.Mode != unix.S_IFREG|0o644 {
		t.Errorf("%s belongs to %d and has mode %o, want %d and 100644", path, st.Uid, st.Mode, uid)
	}
}

// Each user fetches into a home that nobody else can enter, and gets files of their own.
func TestSystemFilesBelongToTheirUsers(t *testing.T) {
	t.Parallel()
	m := startSystem(t, options{})
	srv := serve(t, faultserver.Options{})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: 3 * mib})
	alice, bob := m.person(aliceUID), m.person(bobUID)
	for _, u := range []*person{alice, bob} {
		u.cli("get", "--quiet", srv.URL()+"/file", filepath.Join(u.dir, "got")).want(t, 0)
		u.isWhole(filepath.Join(u.dir, "got"), e)
		owned(t, filepath.Join(u.dir, "got"), u.uid)
		u.holds("got")
	}
	// Not into another's home, nor into a directory of root's; the file there stays. It shows when the file
	// is added (client.md 3.3).
	nowhere := filepath.Join(bob.dir, "no", "directory", "x")
	for _, dest := range []string{filepath.Join(bob.dir, "got"), filepath.Join(m.root, "files", "x"), "/etc/ebb-attack", "/proc/self/cwd/x", nowhere} {
		alice.mayNotWrite(srv.URL()+"/file", dest)
	}
	root := m.person(0) // who may, but not for alice
	id := alice.make(bits.NewJob{})
	if r := alice.cli("add", id.String(), srv.URL()+"/file", "/etc/ebb-attack"); r.code != 5 || !strings.Contains(r.err, "no file may be made in /etc") || !strings.Contains(r.err, "E_ACCESSDENIED") {
		t.Errorf("ebb add: %d %s", r.code, r.err)
	}
	alice.cli("get", "--quiet", srv.URL()+"/file", "/etc/ebb-attack").want(t, 5)
	if status, answer := root.ask("POST", "/v1/jobs/"+id.String()+"/files", []bits.FileSpec{{Remote: srv.URL() + "/file", Local: "/etc/ebb-attack"}}); status != http.StatusForbidden {
		t.Errorf("root adds a file to a job of alice: %d %s", status, answer)
	}
	// A directory that is not there, or is closed later, shows when the job runs.
	closed := filepath.Join(alice.dir, "closed")
	later := filepath.Join(closed, "x")
	if status, answer := alice.ask("POST", "/v1/jobs/"+id.String()+"/files", []bits.FileSpec{{Remote: srv.URL() + "/file", Local: later}}); status != http.StatusOK {
		t.Errorf("into a directory that is to be made: %d %s", status, answer)
	}
	must(t, os.Mkdir(closed, 0o755))
	if status, answer := alice.ask("POST", "/v1/jobs/"+id.String()+"/resume", nil); status != http.StatusOK {
		t.Errorf("resume: %d %s", status, answer)
	}
	isError(t, m.settled(m.Job(id), bits.Errored), bits.AccessDenied, bits.ContextLocalFile)
	must(t, os.Remove(closed))
	owned(t, filepath.Join(bob.dir, "got"), bobUID)
	bob.holds("got")
	// What is sent is read with the user's rights, too.
	secret := filepath.Join(bob.dir, "secret")
	must(t, os.WriteFile(secret, []byte("the secret of bob"), 0o644)) // its directory protects it
	for _, url := range []string{"file://" + secret, "file:///etc/shadow"} {
		if r := alice.cli("get", "--quiet", url, filepath.Join(alice.dir, "stolen")); r.code == 0 {
			t.Errorf("%s was read", url)
		}
	}
	if r := alice.cli("put", "--quiet", secret, srv.URL()+"/up"); r.code == 0 {
		t.Error("a file of another user was sent")
	}
	alice.holds("got")
	// Nor is a file written where the user may not: uploads may go to files, too.
	from := filepath.Join(alice.dir, "got")
	for _, target := range []string{filepath.Join(bob.dir, "got"), filepath.Join(m.root, "files", "x"), "/etc/ebb-attack", "/proc/self/cwd/x"} {
		id := alice.make(bits.NewJob{Type: bits.Upload, Files: []bits.FileSpec{{Remote: "file://" + target, Local: from}}, Resume: true})
		isError(t, m.settled(m.Job(id), bits.Errored), bits.AccessDenied, bits.ContextRemoteFile)
	}
	bob.holds("got", "secret")
	owned(t, filepath.Join(bob.dir, "got"), bobUID)
	must(t, os.Chmod(bob.dir, 0o733)) // a box that others put files into
	alice.cli("put", "--quiet", from, "file://"+filepath.Join(bob.dir, "from-alice")).want(t, 0)
	owned(t, filepath.Join(bob.dir, "from-alice"), aliceUID)
	alice.cli("put", "--quiet", from, "file://"+filepath.Join(bob.dir, "secret")).want(t, 0) // bob lets others replace it
	bob.holds("got", "secret", "from-alice")
}

// mayNotWrite tries all ways to let a job fetch into a place that the user may not write to.
func (u *person) mayNotWrite(url, dest string) {
	u.t.Helper()
	file := bits.FileSpec{Remote: url, Local: dest}
	ranged := file
	ranged.Ranges = []bits.Range{{Offset: 1, Length: 2}}
	id := u.make(bits.NewJob{})
	answered := u.make(bits.NewJob{Type: bits.UploadReply})
	first := bits.FileSpec{Remote: url, Local: filepath.Join(u.dir, "first")}
	for what, call := range map[string]apiCall{
		"Create":            {"POST", "/v1/jobs", bits.NewJob{Settings: bits.Settings{Name: ptr("x")}, Files: []bits.FileSpec{file}}},
		"AddFile":           {"POST", "/v1/jobs/" + id.String() + "/files", []bits.FileSpec{file}},
		"AddFileSet":        {"POST", "/v1/jobs/" + id.String() + "/files", []bits.FileSpec{first, file}},
		"AddFileWithRanges": {"POST", "/v1/jobs/" + id.String() + "/files", []bits.FileSpec{ranged}},
		"SetReplyFileName":  {"PATCH", "/v1/jobs/" + answered.String(), bits.Settings{ReplyFile: &dest}},
		"a dry run":         {"POST", "/v1/dry-run/jobs/" + id.String() + "/files", []bits.FileSpec{file}},
	} {
		status, answer := u.ask(call.method, call.path, call.body)
		var p bits.Problem
		if err := json.Unmarshal(answer, &p); err != nil || status != http.StatusForbidden || p.Code != "E_ACCESSDENIED" || p.Context != bits.ContextLocalFile || p.File != dest {
			u.t.Errorf("%s with %s: %d %s", what, dest, status, answer)
		}
	}
	ok := bits.NewJob{Settings: bits.Settings{Name: ptr("beside it")}, Files: []bits.FileSpec{first}}
	bad := bits.NewJob{Settings: bits.Settings{Name: ptr("x")}, Files: []bits.FileSpec{file}}
	status, answer := u.ask("POST", "/v1/batch", []bits.NewJob{bad, ok})
	var made []bits.Created
	if err := json.Unmarshal(answer, &made); err != nil || len(made) != 2 || made[0].Error == nil || made[0].Error.Code != "E_ACCESSDENIED" || made[1].Job == nil {
		u.t.Errorf("a batch with %s: %d %s", dest, status, answer)
	}
	if status, answer := u.ask("GET", "/v1/jobs/"+id.String(), nil); status != http.StatusOK || bytes.Contains(answer, []byte(url)) {
		u.t.Errorf("what was refused left %s", answer)
	}
}

// apiCall is a call of the API; its path has "{job}" in it.
type apiCall struct {
	method, path string
	body         any
}

// callsOfAJob returns each call of docs/openapi.json that names a job in its path, with a body that
// makes sense where it takes one.
func callsOfAJob(t *testing.T) (calls []apiCall) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "openapi.json"))
	must(t, err)
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string          `json:"operationId"`
			RequestBody json.RawMessage `json:"requestBody"`
		} `json:"paths"`
	}
	must(t, json.Unmarshal(text, &doc))
	bodies := map[string]any{
		"setProperties": bits.Settings{Description: ptr("mine")}, "setCertificate": bits.ClientCertificateFile{PEM: "-----BEGIN CERTIFICATE-----"},
		"setCredential": map[string]string{"target": "SERVER", "scheme": "BASIC", "user": "alice", "password": "pw"},
		"addFiles":      []bits.FileSpec{{Remote: "http://h/", Local: "/f"}}, "changeFile": bits.FileChange{Skipped: ptr(true)},
		"setPosition": map[string]int{"offset": 1}, "requestRanges": []bits.Range{{Length: 1}}, "setValidated": map[string]bool{"validated": true},
		"replaceRemotePrefix": bits.PrefixChange{Old: "http", New: "http"},
	}
	for path, ops := range doc.Paths {
		if !strings.Contains(path, "{job}") {
			continue
		}
		path = strings.NewReplacer("{index}", "0", "{target}", "SERVER", "{scheme}", "BASIC").Replace(path)
		if strings.Count(path, "{") != 1 {
			t.Fatalf("this test has no value for a part of %s", path)
		}
		for method, op := range ops {
			body, ok := bodies[op.OperationID]
			if ok != (op.RequestBody != nil) {
				t.Fatalf("%s has a body: %t, and this test has one: %t", op.OperationID, op.RequestBody != nil, ok)
			}
			calls = append(calls, apiCall{strings.ToUpper(method), path, body})
		}
	}
	if len(calls) < len(bodies) {
		t.Fatalf("there are only %d calls", len(calls))
	}
	return calls
}

// A user sees nothing of another's jobs, whichever way they ask.
func TestSystemUsersDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	m := startSystem(t, options{})
	srv := serve(t, faultserver.Options{})
	srv.File("/bobs-url", faultserver.File{Seed: 1, Size: 64 * kib})
	alice, bob := m.person(aliceUID), m.person(bobUID)
	const name, password = "the-name-of-bobs-job", "hunter2-of-bob"
	bobs := bob.make(bits.NewJob{Settings: bits.Settings{Name: ptr(name)},
		Files: []bits.FileSpec{bob.file(srv.URL()+"/bobs-url", "bobs-file")}})
	path := "/v1/jobs/" + bobs.String()
	credential := map[string]any{"target": "SERVER", "scheme": "BASIC", "user": "bob", "password": password}
	if status, answer := bob.ask("PUT", path+"/credentials", credential); status != http.StatusOK {
		t.Fatalf("credentials: %d %s", status, answer)
	}

	// All calls that name a job answer as for one that does not exist.
	for _, c := range callsOfAJob(t) {
		for _, ref := range []string{bobs.String(), bobs.String()[:8], name} {
			status, answer := alice.ask(c.method, strings.Replace(c.path, "{job}", ref, 1), c.body)
			if status != http.StatusNotFound || bytes.Contains(answer, []byte("bobs-file")) {
				t.Errorf("%s %s of %s: %d %s", c.method, c.path, ref, status, answer)
			}
		}
	}
	for _, path := range []string{"/v1/jobs", "/v1/jobs?files=true&state=SUSPENDED", "/v1/jobs?after=" + bobs.String(), "/v1/paths", "/v1/service", "/v1/policy"} {
		status, answer := alice.ask("GET", path, nil)
		for _, leak := range []string{bobs.String(), name, "bobs-", password, "SUSPENDED", m.state} {
			if status == http.StatusOK && bytes.Contains(answer, []byte(leak)) {
				t.Errorf("%s tells %q: %s", path, leak, answer)
			}
		}
	}
	for _, path := range []string{"/v1/jobs?all_users=true", "/v1/events?all_users=true&after=1", "/v1/metrics"} {
		if status, answer := alice.ask("GET", path, nil); status != http.StatusForbidden || bytes.Contains(answer, []byte(bobs.String())) {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
	alice.cli("list", "--all-users").want(t, 5)
	if status, _ := alice.ask("POST", "/v1/policy/reload", nil); status != http.StatusForbidden {
		t.Errorf("the policy was read again: %d", status)
	}

	// The stream of events has the own ones, from the first on, and no other.
	own := alice.make(bits.NewJob{})
	seen := alice.events("/v1/events?progress=true&after=1", own)
	if len(seen) == 0 || slices.ContainsFunc(seen, func(e bits.Event) bool { return e.Job != own }) {
		t.Errorf("alice sees the events %+v", seen)
	}
	if status, _ := alice.ask("GET", "/v1/callbacks?job="+bobs.String(), nil); status != http.StatusNotFound {
		t.Errorf("callbacks of another's job: %d", status)
	}

	// Bob sees it all, and root does, but for the password.
	if status, answer := bob.ask("GET", path, nil); status != http.StatusOK || !bytes.Contains(answer, []byte("bobs-file")) {
		t.Errorf("bob gets %d %s", status, answer)
	}
	if info := m.info(m.Job(bobs)); info.Owner != fmt.Sprint(bobUID) {
		t.Errorf("the job's owner is %s", info.Owner)
	}
	for _, file := range names(t, m.state) {
		if b, err := os.ReadFile(filepath.Join(m.state, file)); err != nil || bytes.Contains(b, []byte(password)) {
			t.Errorf("%s has the password, or cannot be read: %v", file, err)
		}
	}
	// The log tells who did it.
	log, err := os.ReadFile(m.log)
	if who := fmt.Sprintf("by=%d pid=%d process=", bobUID, os.Getpid()); err != nil || !bytes.Contains(log, []byte(who)) {
		t.Errorf("the log does not have %q (%v)", who, err)
	}
	// Nobody else reads the service's own files.
	must(t, asUser(aliceUID, func() error {
		if _, err := os.ReadDir(m.state); !errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("the state directory is read: %w", err)
		}
		return nil
	}))
	var root, alices bits.Service
	must(t, json.Unmarshal(second(alice.ask("GET", "/v1/service", nil)), &alices))
	about, err := m.Service(m.ctx())
	must(t, err)
	root = *about
	if root.State != m.state || root.Jobs["SUSPENDED"] != 2 || alices.State != "" || alices.Jobs["SUSPENDED"] != 1 {
		t.Errorf("root is told %+v, alice %+v", root, alices)
	}
}

func second[A, B any](_ A, b B) B { return b }

// events reads a stream until there was one of a job.
func (u *person) events(path string, until bits.ID) (list []bits.Event) {
	u.t.Helper()
	req, err := http.NewRequestWithContext(u.ctx(), "GET", "http://ebb"+path, nil)
	must(u.t, err)
	resp, err := u.http.Do(req)
	must(u.t, err)
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e bits.Event
		must(u.t, json.Unmarshal([]byte(data), &e))
		if list = append(list, e); e.Job == until {
			return list
		}
	}
	u.t.Fatalf("the stream %s ended", path)
	return nil
}

// Root takes a job over: it goes on with root's rights, and without what was its owner's alone.
func TestSystemOwn(t *testing.T) {
	t.Parallel()
	m := startSystem(t, options{})
	srv := serve(t, faultserver.Options{SendBuffer: 16 * kib})
	e := srv.File("/file", faultserver.File{Seed: 1, Size: 4 * mib})
	e.Set(func(p *faultserver.Program) { p.Rate = 2 * mib })
	alice := m.person(aliceUID)
	id := alice.make(bits.NewJob{Files: []bits.FileSpec{alice.file(srv.URL()+"/file", "file")}, Resume: true,
		Settings: bits.Settings{Headers: &[]string{"X-Secret: of-alice"}, Options: bits.Options{NotifyCommand: &[]string{"/bin/true"}, NotifyURL: ptr("http://127.0.0.1:1/hook")}}})
	if status, answer := alice.ask("PUT", "/v1/jobs/"+id.String()+"/credentials", map[string]any{"target": "SERVER", "scheme": "BASIC", "user": "alice", "password": "pw"}); status != http.StatusOK {
		t.Fatalf("credentials: %d %s", status, answer)
	}
	job := m.Job(id)
	m.moved(job, mib)
	if r := alice.cli("own", id.String()); r.code != 5 {
		t.Errorf("a user without rights takes a job over: %d %s", r.code, r.err)
	}
	// An administrator may suspend the job, but not give it secrets.
	must(t, job.Suspend(m.ctx()))
	if info := m.info(job); info.Properties.NotifyURL != "http://127.0.0.1:1/..." {
		t.Errorf("root sees alice's web hook: %s", info.Properties.NotifyURL)
	}
	if out := m.cli("list", "--all-users", "--json").want(t, 0).out; strings.Contains(out, "127.0.0.1:1/hook") || !strings.Contains(out, `"http://127.0.0.1:1/..."`) {
		t.Errorf("root lists alice's web hook:\n%s", out)
	}
	if out := alice.cli("show", "--properties", id.String()).want(t, 0).out; !strings.Contains(out, "notify_url=http://127.0.0.1:1/hook\n") {
		t.Errorf("alice does not see her web hook:\n%s", out)
	}
	headers := []string{"X-Secret: of-root"}
	if err := job.Set(m.ctx(), bits.Settings{Headers: &headers}); !isCode(err, bits.AccessDenied) {
		t.Errorf("root gave alice's job headers: %v", err)
	}
	// Root's rights to files are those of its user, and no more: the service has given up the others.
	if _, err := job.TakeOwnership(m.ctx()); !isCode(err, bits.NewOwnerNoFileAccess) {
		t.Errorf("root, who may not write to alice's home, takes the job over: %v", err)
	}
	must(t, os.Chmod(alice.dir, 0o777))
	r := m.cli("own", id.String()).want(t, 0)
	for _, what := range []string{"credentials", "headers", "notify_command", "notify_url"} {
		if !strings.Contains(r.err, what) {
			t.Errorf("own does not tell that the job lost its %s: %s", what, r.err)
		}
	}
	if status, _ := alice.ask("GET", "/v1/jobs/"+id.String(), nil); status != http.StatusNotFound {
		t.Errorf("alice still sees the job: %d", status)
	}
	if log, err := os.ReadFile(m.log); err != nil || !regexp.MustCompile(`"job was taken over" job=`+id.String()+` .*owner=root event=16388 by=root pid=\d+ process=\S*ebb from=`).Match(log) {
		t.Errorf("the log does not tell who took the job over: %v\n%s", err, log)
	}
	info := m.info(job)
	if info.Owner != "root" || info.Progress.BytesTransferred < mib/2 {
		t.Errorf("the job is now %+v", info)
	}
	if p := info.Properties; len(p.HeaderNames) > 0 || len(p.Credentials) > 0 || len(p.NotifyCommand) > 0 || p.NotifyURL != "" {
		t.Errorf("of alice's the job has %+v", p)
	}
	must(t, job.Resume(m.ctx()))
	m.settled(job, bits.Transferred)
	m.complete(job)
	m.isWhole(filepath.Join(alice.dir, "file"), e)
	owned(t, filepath.Join(alice.dir, "file"), 0)
}

// isCode reports whether an error has a code.
func isCode(err error, code bits.Code) bool {
	var e *bits.Error
	return errors.As(err, &e) && e.Code == code
}

// A user has no more jobs and files than policy says; root and the others are not touched by that.
func TestSystemQuotas(t *testing.T) {
	t.Parallel()
	m := startSystem(t, options{config: "[jobs]\nmax_per_user = 3\nmax_files = 2\n"})
	alice, bob := m.person(aliceUID), m.person(bobUID)
	for range 3 {
		alice.make(bits.NewJob{})
	}
	refused := func(u *person, code bits.Code, spec bits.NewJob) {
		t.Helper()
		spec.Name = ptr("one more")
		status, answer := u.ask("POST", "/v1/jobs", spec)
		var p bits.Problem
		if err := json.Unmarshal(answer, &p); err != nil || status != http.StatusUnprocessableEntity || p.Code != code.Name() {
			t.Errorf("%d %s, want %s", status, answer, code)
		}
	}
	refused(alice, bits.TooManyJobsPerUser, bits.NewJob{})
	refused(bob, bits.TooManyFilesInJob, bits.NewJob{Files: []bits.FileSpec{
		bob.file("http://127.0.0.1/1", "1"), bob.file("http://127.0.0.1/2", "2"), bob.file("http://127.0.0.1/3", "3")}})
	bob.make(bits.NewJob{})
	for range 4 {
		m.create(fetched{waits: true})
	}
}

// Users take turns inside a priority level, however many jobs each has (client.md 1.4).
func TestSystemUsersTakeTurns(t *testing.T) {
	t.Parallel()
	m := startSystem(t, options{config: "[jobs]\ntime_slice = \"1s\"\n"})
	srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
	alice, bob := m.person(aliceUID), m.person(bobUID)
	entry := srv.File("/file", faultserver.File{Seed: 1, Size: 3 * mib})
	entry.Set(func(p *faultserver.Program) { p.Rate = mib })
	whose := map[bits.ID]string{}
	begin := func(u *person, who, name string) bits.ID {
		id := u.make(bits.NewJob{Settings: bits.Settings{Priority: ptr(bits.Normal)}, Resume: true,
			Files: []bits.FileSpec{u.file(entry.URL()+"?"+name, name)}}) // URLs of their own: nothing is shared
		whose[id] = who
		return id
	}
	for i := range 3 {
		begin(alice, "alice", fmt.Sprint("a", i))
	}
	bobs := begin(bob, "bob", "b")
	var turns []string
	for e, err := range m.Watch(m.ctx(), client.Filter{After: 1, AllUsers: true}) {
		must(t, err)
		if e.Job == bobs && e.Kind == bits.EventTransferred {
			break
		}
		if e.Kind == bits.EventState && e.State == bits.Connecting {
			turns = append(turns, whose[e.Job])
		}
	}
	// From bob's first turn on each second one is his, though alice has three jobs.
	first := slices.Index(turns, "bob")
	if first < 0 || len(turns[first:]) < 3 {
		t.Fatalf("the turns were %q", turns)
	}
	for i, who := range turns[first:] {
		if want := []string{"bob", "alice"}[i%2]; who != want {
			t.Errorf("turn %d after bob's first is %s's: %q", i, who, turns)
			break
		}
	}
}

// Polkit says who may deal with the jobs of others, and only where a program asks for that.
func TestSystemPolkit(t *testing.T) {
	t.Parallel()
	isRoot(t)
	bus := fakebus.New(t)
	var asked atomic.Int64
	must(t, bus.Polkit(func(uid uint32, action string, _ bool) bool {
		asked.Add(1)
		return uid == aliceUID && action == "org.ebb.manage-all"
	}))
	m := startSystem(t, options{env: []string{"DBUS_SYSTEM_BUS_ADDRESS=" + bus.Address}})
	alice, bob, carol := m.person(aliceUID), m.person(bobUID), m.person(carolUID)
	carols := carol.make(bits.NewJob{Settings: bits.Settings{Name: ptr("the-job-of-carol")}}).String()
	alice.cli("show", carols).want(t, 4) // without asking for it alice is nobody special
	if n := asked.Load(); n != 0 {
		t.Errorf("polkit was asked %d times", n)
	}
	if r := alice.cli("list", "--all-users").want(t, 0); !strings.Contains(r.out, "the-job-of-carol") {
		t.Errorf("alice, who may see all, sees %s", r.out)
	}
	bob.cli("list", "--all-users").want(t, 5)
	if asked.Load() == 0 {
		t.Error("polkit was not asked")
	}
	bob.cli("own", carols).want(t, 5)
	alice.cli("own", carols).want(t, 0)
	if status, _ := carol.ask("GET", "/v1/jobs/"+carols, nil); status != http.StatusNotFound {
		t.Errorf("carol still sees the job: %d", status)
	}
	// Whoever may is not root for that: root's jobs are only looked at, and nothing is run as their owner.
	roots := m.create(fetched{waits: true}).ID.String()
	alice.cli("--admin", "show", roots).want(t, 0)
	for _, call := range [][]string{{"set", roots, "notify_command=/bin/true"}, {"add", roots, "http://127.0.0.1/x", filepath.Join(alice.dir, "x")}, {"own", roots}, {"cancel", roots}} {
		alice.cli(append([]string{"--admin"}, call...)...).want(t, 5)
	}
	bobs := bob.make(bits.NewJob{}).String()
	alice.cli("--admin", "set", bobs, "notify_command=/bin/true").want(t, 5)
	alice.cli("--admin", "set", bobs, "priority=LOW").want(t, 0)
	m.cli("set", bobs, "notify_command=/bin/true").want(t, 0)
	// Without polkit nobody may.
	bus.Stop()
	alice.cli("list", "--all-users").want(t, 5)
	must(t, bus.Restart())
}
