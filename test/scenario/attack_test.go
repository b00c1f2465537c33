package scenario

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// unhurt asks for a job of a user again and again until stop is called, which tells how long the
// answers took. The user must get each answer, and half of them within 100 ms. The slowest are logged
// and not judged: the attackers, the user and the service share the machine's processors here, with
// other tests.
func (u *person) unhurt() (stop func()) {
	u.t.Helper()
	path := "/v1/jobs/" + u.make(bits.NewJob{}).String()
	end, ended := make(chan struct{}), make(chan struct{})
	var times []time.Duration
	go func() {
		defer close(ended)
		for {
			began := time.Now()
			status, _, err := u.send("GET", path, nil)
			took := time.Since(began)
			if err != nil || status != http.StatusOK {
				u.t.Errorf("another user gets %d, %v", status, err)
				return
			}
			times = append(times, took)
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() {
		close(end)
		<-ended
		if len(times) == 0 {
			u.t.Error("another user got no answer")
			return
		}
		slices.Sort(times)
		median := times[len(times)/2]
		u.t.Logf("another user: %d answers, half of them within %v, 99 of 100 within %v, all within %v", len(times), median, times[len(times)*99/100], times[len(times)-1])
		if median > 100*time.Millisecond {
			u.t.Errorf("half of the answers to another user took more than %v", median)
		}
	}
}

// Alice swaps a directory on the way for links, 10,000 times, while jobs complete there, her own and
// bob's: what the links lead to stays as it was.
func TestSystemSymlinkSwaps(t *testing.T) {
	t.Parallel()
	m := startSystem(t, options{})
	srv := serve(t, faultserver.Options{})
	srv.File("/file", faultserver.File{Seed: 1, Size: 10 * kib})
	alice, bob, carol := m.person(aliceUID), m.person(bobUID), m.person(carolUID)
	shared := filepath.Join(m.root, "shared")
	must(t, os.Mkdir(shared, 0o777), os.Chmod(shared, 0o777)) // without the sticky bit: alice may do all in it
	// The targets: files of root's and of bob's that jobs would replace.
	roots := filepath.Join(m.root, "roots")
	must(t, os.Mkdir(roots, 0o755))
	precious := filepath.Join(bob.dir, "precious")
	must(t, os.Mkdir(precious, 0o755), os.Chown(precious, bobUID, bobUID), os.Chmod(bob.dir, 0o755))
	const want = "precious"
	for _, dir := range []string{roots, precious} {
		for i := range 4 {
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("out", i)), []byte(want), 0o644))
		}
	}
	// A file of her own, which bob may write to: who writes bob's bytes into it leaves them to her.
	mine := filepath.Join(shared, "mine")
	must(t, asUser(aliceUID, func() error { return errors.Join(os.WriteFile(mine, []byte("mine"), 0o666), os.Chmod(mine, 0o666)) }))
	way, other := filepath.Join(shared, "way"), filepath.Join(shared, "other")
	must(t, asUser(aliceUID, func() error {
		return errors.Join(os.Mkdir(way, 0o777), os.Chmod(way, 0o777), os.Symlink(precious, other), os.Symlink(roots, other+"2"))
	}))

	const (
		swaps = 10_000
		whole = 20 // jobs of each of them, that complete in spite of it
	)
	var done, symbolic, hard atomic.Int64
	end := make(chan struct{})
	swapped := make(chan error, 1)
	go func() {
		swapped <- asUser(aliceUID, func() error {
			for n := 0; ; n++ {
				select {
				case <-end:
					return nil
				default:
				}
				with := other
				if n/2%2 == 1 { // there and back with one, then with the other
					with += "2"
				}
				if err := unix.Renameat2(unix.AT_FDCWD, way, unix.AT_FDCWD, with, unix.RENAME_EXCHANGE); err != nil {
					return err
				}
				// The names in the directory, too, while it is there: part files and destinations become
				// links, and second names of a file that the kernel lets her link, which is her own.
				if n%64 == 1 {
					entries, _ := os.ReadDir(way)
					for i, e := range entries {
						name := filepath.Join(way, e.Name())
						_ = os.Remove(name) // the service may have been faster, here and with the new names
						if (n/64+i)%2 == 0 {
							if os.Symlink(filepath.Join(precious, "out0"), name) == nil {
								symbolic.Add(1)
							}
						} else if os.Link(mine, name) == nil {
							hard.Add(1)
						}
					}
				}
				done.Add(1)
				if n%128 == 127 { // now and then the directory stays for a moment, so that jobs complete in between
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}()
	stop := carol.unhurt()
	arrived, refused := map[*person]int{}, 0
	planted := func() bool { return symbolic.Load() > 0 && hard.Load() > 0 }
	for began := time.Now(); done.Load() < swaps || arrived[alice] < whole || arrived[bob] < whole || !planted(); {
		if time.Since(began) > 2*patience {
			t.Errorf("in %v there were not enough swaps, links or completed jobs", time.Since(began))
			break
		}
		jobs := map[bits.ID]*person{}
		for i := range 4 {
			for _, u := range []*person{alice, bob} {
				// The directory may be a link to where the user may not write at this moment.
				status, answer := u.ask("POST", "/v1/jobs", bits.NewJob{Resume: true, Settings: bits.Settings{Name: ptr("swapped"), Priority: ptr(bits.Foreground), AutoComplete: ptr(true)},
					Files: []bits.FileSpec{{Remote: srv.URL() + "/file", Local: filepath.Join(way, fmt.Sprint("out", i))}}})
				var made bits.Summary
				if err := json.Unmarshal(answer, &made); err != nil || status != http.StatusCreated && (status != http.StatusForbidden || !bytes.Contains(answer, []byte("E_ACCESSDENIED"))) {
					t.Fatalf("create: %d %s", status, answer)
				}
				if status == http.StatusForbidden {
					refused++
					continue
				}
				jobs[made.ID] = u
			}
		}
		for id, u := range jobs {
			info, err := m.Job(id).Wait(m.ctx())
			must(t, err)
			if info.State == bits.Acknowledged {
				arrived[u]++
			} else {
				_, _ = m.Job(id).Cancel(m.ctx())
			}
		}
	}
	close(end)
	must(t, <-swapped)
	stop()
	t.Logf("%d swaps, %d symbolic and %d hard links; %d jobs of alice and %d of bob completed, %d were refused", done.Load(), symbolic.Load(), hard.Load(), arrived[alice], arrived[bob], refused)
	holdsText(t, mine, "mine")
	for _, dir := range []string{roots, precious} {
		if got := names(t, dir); len(got) != 4 {
			t.Errorf("%s holds %q", dir, got)
		}
		for i := range 4 {
			if b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("out", i))); err != nil || string(b) != want {
				t.Errorf("%s/out%d was changed (%v)", dir, i, err)
			}
		}
	}
}

// Alice floods the service; carol does not notice, and alice herself is served when she stops.
func TestSystemFlood(t *testing.T) {
	t.Parallel()
	m := startSystem(t, options{})
	alice, carol := m.person(aliceUID), m.person(carolUID)
	stop := carol.unhurt()

	// Streams of events that nobody reads, while there are events.
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for range 32 {
		c, err := dialAs(aliceUID, m.socket)
		must(t, err)
		open = append(open, c)
		_, err = c.Write([]byte("GET /v1/events?after=1&progress=true HTTP/1.1\r\nHost: ebb\r\n\r\n"))
		must(t, err)
	}
	for range 300 {
		alice.make(bits.NewJob{Settings: bits.Settings{Description: ptr(strings.Repeat("x", 1000))}})
	}
	// More events than a socket holds: who reads gets all of them, though nobody reads the others.
	id := alice.make(bits.NewJob{})
	for i := range 1000 {
		if status, answer := alice.ask("PATCH", "/v1/jobs/"+id.String(), map[string]string{"name": fmt.Sprint(i, strings.Repeat("n", 200))}); status != http.StatusOK {
			t.Fatalf("change: %d %s", status, answer)
		}
	}
	last := alice.make(bits.NewJob{})
	size := 0
	for _, e := range alice.events("/v1/events?after=1&progress=true", last) {
		doc, err := json.Marshal(e)
		must(t, err)
		size += len(doc)
	}
	for i, c := range open {
		raw, err := c.(*net.UnixConn).SyscallConn()
		must(t, err)
		var unread int
		must(t, raw.Control(func(fd uintptr) { unread, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }), err)
		if unread == 0 || unread > size/2 {
			t.Errorf("stream %d, which nobody reads, holds %d bytes of %d: it was never full", i, unread, size)
		}
	}

	// Requests that are malformed, deep or large.
	deep := strings.Repeat(`{"a":`, 1<<20)
	many := `{"name":"n","files":[` + strings.Repeat(`{"remote":"http://h/","local":"/l"},`, 1<<20) + `{}]}`
	for _, body := range []string{"", "{", "null", "[]", "\x00\xff", deep, many, `{"name":"` + strings.Repeat("n", 1<<20) + `"}`, `{"name":` + strings.Repeat("[", 1<<20), strings.Repeat(" ", 64<<20)} {
		if status, _, err := alice.send("POST", "/v1/jobs", strings.NewReader(body)); err == nil && status < 400 {
			t.Errorf("a request that begins with %.20q was answered with %d", body, status)
		}
	}
	for _, text := range []string{"\x00\x01\x02\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\n\r\n",
		"POST /v1/jobs HTTP/1.1\r\nHost: ebb\r\nContent-Length: -1\r\n\r\n", "POST /v1/jobs HTTP/1.1\r\nHost: ebb\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"} {
		c, err := dialAs(aliceUID, m.socket)
		must(t, err)
		_, _ = c.Write([]byte(text)) // the service may have closed it
		_ = c.Close()
	}
	for _, ref := range []string{"%00", "..%2f..%2fetc", strings.Repeat("a", 2000), "%ff%fe", "-1"} {
		if status, answer, err := alice.send("GET", "/v1/jobs/"+ref, bytes.NewReader(nil)); err != nil || status < 400 || status >= 500 {
			t.Errorf("%.20s: %d %.100s %v", ref, status, answer, err)
		}
	}

	// 10,000 connections that are open together, or as many as this process may have.
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	const reserve = 2000 // for the tests that run beside this one
	crowd := make([]*os.File, min(10_000, max(int(min(limit.Cur, 1<<20))-reserve, reserve)))
	alice.http.CloseIdleConnections()
	must(t, asUser(aliceUID, func() (err error) {
		for i := range crowd {
			if crowd[i] = connected(m.socket, &err); err != nil {
				return err
			}
		}
		return nil
	}))
	// Connections are taken in their order: when this one is answered, those before it have been judged.
	c, err := dialAs(carolUID, m.socket)
	must(t, err, c.SetDeadline(time.Now().Add(patience)))
	_, err = c.Write([]byte("GET /v1/service HTTP/1.1\r\nHost: ebb\r\nConnection: close\r\n\r\n"))
	must(t, err)
	answer, err := io.ReadAll(c)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
		t.Errorf("beside %d connections another user gets %q, %v", len(crowd), answer, err)
	}
	_ = c.Close()
	kept := 0
	for _, f := range crowd {
		poll := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 0); err != nil {
			t.Fatal(err)
		} else if n == 0 {
			kept++
			continue
		}
		said, err := io.ReadAll(f)
		if err != nil || !bytes.HasPrefix(said, []byte("HTTP/1.1 503 ")) {
			t.Fatalf("a connection too many gets %q, %v", said, err)
		}
	}
	t.Logf("of %d connections the service keeps %d", len(crowd), kept)
	if most := 256 - len(open); kept == 0 || kept > most { // a user's share, and the streams are part of it
		t.Errorf("of %d connections the service keeps %d, want up to %d", len(crowd), kept, most)
	}
	for _, f := range crowd {
		_ = f.Close()
	}
	for _, c := range open {
		_ = c.Close()
	}
	alice.http.CloseIdleConnections()
	if status, answer := alice.ask("GET", "/v1/jobs?limit=1", nil); status != http.StatusOK && status != http.StatusServiceUnavailable {
		t.Errorf("alice gets %d %s", status, answer)
	}
	stop()
	if _, err := m.Service(m.ctx()); err != nil {
		t.Errorf("the service does not answer: %v", err)
	}
}

// What is no file of the user's is neither read nor written, and nothing waits for it.
func TestSystemSpecialFiles(t *testing.T) {
	t.Parallel()
	m := startSystem(t, options{})
	srv := serve(t, faultserver.Options{})
	srv.File("/file", faultserver.File{Seed: 1, Size: kib})
	alice := m.person(aliceUID)
	at := func(name string) string { return filepath.Join(alice.dir, name) }
	must(t, asUser(aliceUID, func() error {
		return errors.Join(unix.Mkfifo(at("fifo"), 0o666), os.Symlink("/etc/shadow", at("link")), os.Symlink("/proc/self", at("proc")))
	}))
	pid := fmt.Sprint(m.cmd.Process.Pid)
	check := func(remote, local string) {
		t.Helper()
		spec := bits.NewJob{Settings: bits.Settings{Name: ptr("special"), Priority: ptr(bits.Foreground)}, Files: []bits.FileSpec{{Remote: remote, Local: local}}, Resume: true}
		status, answer := alice.ask("POST", "/v1/jobs", spec)
		if status != http.StatusCreated {
			return // refused at once
		}
		id, err := bits.ParseID(strings.Split(string(answer), `"`)[3])
		must(t, err)
		info, err := m.Job(id).Wait(m.ctx())
		if err != nil || info.State != bits.Errored {
			t.Errorf("%s to %s: %v %+v", remote, local, err, info)
		}
	}
	for _, source := range []string{"/proc/self/environ", "/proc/self/mem", "/proc/" + pid + "/environ", "/proc/self/root/etc/shadow", "/dev/zero", "/dev/mem", at("fifo"), at("link"),
		at("proc/environ"), alice.dir, alice.dir + "/../state/lock", m.socket} {
		check("file://"+source, at("stolen"))
	}
	for _, dest := range []string{"/proc/self/fd/x", "/proc/self/root" + m.root + "/x", "/proc/self/cwd/x", "/proc/" + pid + "/root/x", at("proc/x"), at("proc/cwd/x"), "/dev/x", "/sys/x", m.state + "/x"} {
		check(srv.URL()+"/file", dest)
	}
	alice.holds("fifo", "link", "proc")
	// A set-id file in the place of the destination gives the new one nothing.
	must(t, asUser(aliceUID, func() error {
		return errors.Join(os.WriteFile(at("setid"), nil, 0o600), os.Chmod(at("setid"), 0o777|os.ModeSetuid))
	}))
	id := alice.make(bits.NewJob{Files: []bits.FileSpec{alice.file(srv.URL()+"/file", "setid")}, Resume: true, Settings: bits.Settings{AutoComplete: ptr(true)}})
	m.settled(m.Job(id), bits.Acknowledged)
	owned(t, at("setid"), aliceUID)
}
