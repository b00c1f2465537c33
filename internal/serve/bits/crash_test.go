package bits_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// The environment of this test's program where it runs as a server: its root, and the application's
// URL if there is one.
const (
	rootEnv   = "EBB_TEST_BITS_ROOT"
	notifyEnv = "EBB_TEST_BITS_NOTIFY"
)

func TestMain(m *testing.M) {
	if root := os.Getenv(rootEnv); root != "" {
		fmt.Fprintln(os.Stderr, serveProcess(root))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveProcess serves root, prints the address, and ends with the process that started it.
func serveProcess(root string) error {
	store, err := session.OpenDir(root, session.Options{})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(l, handler(root, store, func(p *session.Prefix) {
		p.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
		if u := os.Getenv(notifyEnv); u != "" {
			p.Notify, p.NotifyURL = session.NotifyByValue, u
		}
	}))
}

// process is a server in a process of its own, which can be killed.
type process struct {
	t      testing.TB
	root   string
	notify string

	mu    sync.Mutex // guards what follows
	addr  string
	cmd   *exec.Cmd
	stdin io.Closer
}

func startProcess(t testing.TB, notify string) *process {
	p := &process{t: t, root: t.TempDir(), notify: notify}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *process) start() {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), rootEnv+"="+p.root, notifyEnv+"="+p.notify)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.t.Fatalf("the server did not start: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr, p.cmd, p.stdin = strings.TrimSpace(addr), cmd, stdin
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // says that it was killed
	p.stdin.Close()
}

func (p *process) restart() {
	p.kill()
	p.start()
}

func (p *process) at() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

func (p *process) client(name string) *windows {
	c := &windows{t: p.t, addr: p.at(), path: "/up/" + name, host: "server"}
	p.t.Cleanup(c.hangUp)
	return c
}

// again has the client go on with the server that was started meanwhile.
func (p *process) again(c *windows) {
	c.hangUp()
	c.addr = p.at()
}

func TestKilledServerGoesOnWhereItWas(t *testing.T) {
	p := startProcess(t, "")
	want := content(3 << 20)
	c := p.client("f")
	c.open()
	for c.offset < int64(len(want)) {
		to := min(c.offset+512<<10, int64(len(want)))
		c.expect(c.fragment(want, c.offset, to, int64(len(want))), 200, fmt.Sprint("BITS-Received-Content-Range: ", to))
		c.offset = to
		p.restart()
		p.again(c)
		c.expect(c.ping(), 200)
	}
	// It was published before the last answer, and can be told so again.
	s := &server{t: t, root: p.root}
	s.file("f", want)
	c.expect(c.fragment(want, 3<<20-100, 3<<20, 3<<20), 200, fmt.Sprint("BITS-Received-Content-Range: ", 3<<20))
	c.expect(c.end("Close-Session"), 200)
	s.file("f", want)
	s.left(0)
}

func TestApplicationsAnswerSurvivesAKilledServer(t *testing.T) {
	want := content(1000)
	for _, status := range []int{200, 403} {
		a := application(t, func(w http.ResponseWriter, c call) {
			w.WriteHeader(status)
			_, _ = w.Write(want[:500])
		})
		p := startProcess(t, a.URL)
		c := p.client("f")
		c.open()
		first := c.expect(c.fragment(want, 0, 1000, 1000), status)
		p.restart()
		p.again(c)
		second := c.expect(c.fragment(want, 0, 1000, 1000), status)
		if got, want := second.header["BITS-Reply-URL"], first.header["BITS-Reply-URL"]; got != want || (got != "") != (status == 200) {
			t.Errorf("reply URL %q, then %q", want, got)
		}
		a.last(t, 1)
		if status == 200 {
			if got := c.get(strings.TrimPrefix(second.header["BITS-Reply-URL"], "http://server"), ""); got.body != string(want[:500]) {
				t.Errorf("reply: %v", got)
			}
		}
		c.expect(c.end("Close-Session"), 200)
		(&server{t: t, root: p.root}).left(0)
	}
}

// Two clients with a file each for the same names, each over two connections, do what may go wrong:
// they send fragments twice, overlapping and with gaps, hang up in the middle of them, forget what
// they know, give up and begin again, all while the server is killed and started. What is published
// is always one of the two files, whole, and stays; an acknowledged byte is never lost, and no
// session either. In every other round there is an application, which has the last word, does not
// always answer, and gets whole files too.
func TestWhateverHappensFilesAreWhole(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Logf("seed %d", seed)
			newWorld(t, seed, round%2 == 1).run()
		})
	}
}

const (
	worldTargets = 6
	worldSize    = 40_000
)

// world is what the actors share.
type world struct {
	*process
	seed   uint64
	files  [2][worldTargets][]byte // of each client
	moving sync.RWMutex            // held for writing while the server is restarted

	mu        sync.Mutex     // guards what follows
	finals    map[int]int    // who was told that all of a target is there
	sessions  [2]*remembered // what each client goes on with
	published [worldTargets]bool
}

// remembered is what a client knows of a session, over both its connections.
type remembered struct {
	id     string
	target int
	acked  int64
	ended  bool // Close or Cancel was sent
}

func newWorld(t *testing.T, seed uint64, notify bool) *world {
	w := &world{seed: seed, finals: map[int]int{}}
	r := rand.NewChaCha8([32]byte{1, byte(seed)})
	for i := range w.files {
		for j := range w.files[i] {
			w.files[i][j] = make([]byte, worldSize+i*7+j)
			_, _ = r.Read(w.files[i][j])
		}
	}
	var u string
	if notify {
		u = application(t, w.application).URL
	}
	w.process = startProcess(t, u)
	return w
}

// application checks an upload that it is handed.
func (w *world) application(rw http.ResponseWriter, c call) {
	var target int
	if _, err := fmt.Sscanf(c.header.Get("BITS-Original-Request-URL"), "http://server/up/t%d", &target); err != nil {
		w.t.Errorf("%v: %v", c.header, err)
		return
	}
	if !bytes.Equal(c.body, w.files[0][target]) && !bytes.Equal(c.body, w.files[1][target]) {
		w.t.Errorf("the application got %d bytes for target %d", len(c.body), target)
	}
	if rand.IntN(3) == 0 {
		rw.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	rw.Header().Set("BITS-Copy-File-To-Destination", "")
	_, _ = rw.Write(c.body[:target])
}

func (w *world) run() {
	var actors sync.WaitGroup
	over := make(chan struct{})
	for i := range 4 {
		actors.Go(func() { w.act(i/2, rand.New(rand.NewPCG(w.seed, uint64(i)))) })
	}
	go func() { actors.Wait(); close(over) }()
	rnd := rand.New(rand.NewPCG(w.seed, 99))
	for kills := 0; ; kills++ {
		select {
		case <-over:
			w.t.Logf("%d kills, finals %v", kills, w.finals)
			w.look()
			for target := range worldTargets {
				if _, ok := w.finals[target]; !ok {
					w.t.Errorf("nobody was told that target %d is there", target)
				}
			}
			return
		case <-time.After(time.Duration(rnd.IntN(150)) * time.Millisecond):
			w.look()
			w.moving.Lock()
			w.restart()
			w.moving.Unlock()
			w.look()
		}
	}
}

// look checks what is published.
func (w *world) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for target := range worldTargets {
		got, err := os.ReadFile(filepath.Join(w.root, fmt.Sprint("t", target)))
		_, final := w.finals[target]
		if err != nil {
			if !os.IsNotExist(err) || final || w.published[target] {
				w.t.Errorf("target %d: %v, after the final answer: %v", target, err, final)
			}
			continue
		}
		w.published[target] = true
		is := -1
		for i := range w.files {
			if bytes.Equal(got, w.files[i][target]) {
				is = i
			}
		}
		if is < 0 || final && is != w.finals[target] {
			w.t.Errorf("target %d has %d bytes and is the file of client %d; final answers: %v", target, len(got), is, w.finals)
		}
	}
}

// act is one connection of a client. It ends when all targets are there, or after a failure.
func (w *world) act(client int, rnd *rand.Rand) {
	c := &windows{t: w.t, host: "server"}
	defer c.hangUp()
	for step := 0; !w.t.Failed(); step++ {
		if step == 20_000 {
			w.t.Errorf("client %d does not come to an end: %+v", client, w.sessions[client])
			return
		}
		w.moving.RLock()
		addr := w.at()
		w.moving.RUnlock()
		if addr != c.addr {
			c.hangUp()
			c.addr = addr
		}
		s, done := w.current(client, rnd)
		if done {
			return
		}
		c.path = fmt.Sprint("/up/t", s.target)
		if s.id == "" {
			w.begin(c, client, s)
			continue
		}
		c.session = s.id
		switch n := rnd.IntN(100); {
		case n < 3:
			w.abandon(c, client, s, rnd)
		case n < 8:
			_, _ = c.exchange(c.ping()) // the server may be gone
		default:
			w.send(c, client, s, rnd)
		}
	}
}

// current returns a copy of what the client goes on with.
func (w *world) current(client int, rnd *rand.Rand) (s remembered, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sessions[client] == nil {
		for _, target := range rnd.Perm(worldTargets) {
			if _, ok := w.finals[target]; !ok {
				w.sessions[client] = &remembered{target: target}
				break
			}
		}
		if w.sessions[client] == nil {
			return remembered{}, true
		}
	}
	return *w.sessions[client], false
}

// forget has the client choose a target anew, unless it did so already.
func (w *world) forget(client int, s remembered) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cur := w.sessions[client]; cur != nil && cur.id == s.id && cur.target == s.target {
		w.sessions[client] = nil
	}
}

// begin creates a session.
func (w *world) begin(c *windows, client int, s remembered) {
	a, err := c.exchange(c.create())
	switch {
	case err != nil:
	case a.status == 403: // the other one's file is there, whether it knows it yet or not
		w.mu.Lock()
		if _, ok := w.finals[s.target]; !ok {
			if _, err := os.Stat(filepath.Join(w.root, fmt.Sprint("t", s.target))); err != nil {
				w.t.Errorf("create: %v, but %v", a, err)
			}
			w.whose(s.target)
		}
		w.mu.Unlock()
		w.forget(client, s)
	case a.status == 200:
		w.mu.Lock()
		defer w.mu.Unlock()
		if cur := w.sessions[client]; cur != nil && cur.id == "" && cur.target == s.target {
			cur.id = a.header["BITS-Session-Id"]
		}
	default:
		w.t.Errorf("create: %v", a)
	}
}

// whose notes whose file a target is by now, which does not change any more. The caller has mu.
func (w *world) whose(target int) {
	got, err := os.ReadFile(filepath.Join(w.root, fmt.Sprint("t", target)))
	for i := range w.files {
		if err == nil && bytes.Equal(got, w.files[i][target]) {
			w.finals[target] = i
			return
		}
	}
	w.t.Errorf("target %d was said to exist, but is nobody's file: %d bytes, %v", target, len(got), err)
}

// abandon ends the session, or just forgets it.
func (w *world) abandon(c *windows, client int, s remembered, rnd *rand.Rand) {
	kind := []string{"Cancel-Session", "Close-Session", ""}[rnd.IntN(3)]
	if kind != "" {
		w.mu.Lock()
		if cur := w.sessions[client]; cur != nil && cur.id == s.id {
			cur.ended = true
		}
		w.mu.Unlock()
		a, err := c.exchange(c.end(kind))
		if err == nil && a.status != 200 && (a.status != 500 || a.header["BITS-Error-Code"] != "0x8020001F") {
			w.t.Errorf("%s: %v", kind, a)
		}
	}
	w.forget(client, s)
}

// send sends a fragment: mostly a proper one, but also ones that begin too early or too late, that are
// cut, or whose answer is not waited for.
func (w *world) send(c *windows, client int, s remembered, rnd *rand.Rand) {
	file := w.files[client][s.target]
	total := int64(len(file))
	from := s.acked
	switch rnd.IntN(6) {
	case 0:
		from -= rnd.Int64N(from + 1)
	case 1:
		from += rnd.Int64N(total - from + 1)
	}
	from = min(from, total-1)
	to := from + 1 + rnd.Int64N(min(total-from, 15_000))
	raw := c.fragment(file, from, to, total)
	switch rnd.IntN(8) {
	case 0: // the connection breaks while it is sent
		if c.conn == nil && c.dial() != nil {
			return
		}
		_, _ = c.conn.Write(raw[:rnd.IntN(len(raw))])
		c.hangUp()
		return
	case 1: // or before the answer
		if c.conn == nil && c.dial() != nil {
			return
		}
		_, _ = c.conn.Write(raw)
		c.hangUp()
		return
	}
	a, err := c.exchange(raw)
	if err != nil {
		return
	}
	w.answered(client, s, a, total)
}

func (w *world) answered(client int, s remembered, a answer, total int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	cur := w.sessions[client]
	if cur == nil || cur.id != s.id {
		cur = &remembered{ended: true} // the other connection gave it up
	}
	switch a.status {
	case 200, 416:
		var next int64
		if _, err := fmt.Sscan(a.header["BITS-Received-Content-Range"], &next); err != nil {
			w.t.Errorf("%v: %v", a, err)
			return
		}
		if next < s.acked || next > total {
			w.t.Errorf("session %s had %d of %d bytes, and now has %d", s.id, s.acked, total, next)
		}
		cur.acked = max(cur.acked, next)
		if a.status == 200 && next == total {
			if was, ok := w.finals[s.target]; ok && was != client {
				w.t.Errorf("target %d: both clients were told that their file is there", s.target)
			}
			w.finals[s.target] = client
			if !cur.ended {
				w.sessions[client] = nil
			}
		}
	case 403:
		if _, ok := w.finals[s.target]; !ok {
			w.whose(s.target)
		}
		if !cur.ended {
			w.sessions[client] = nil
		}
	case 500:
		if a.header["BITS-Error-Code"] != "0x8020001F" || !cur.ended {
			w.t.Errorf("fragment of session %s: %v", s.id, a)
		}
	case 503: // the other connection has the session, or the application does not want it yet
	default:
		w.t.Errorf("fragment: %v", a)
	}
}
