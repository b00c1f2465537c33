package scenario

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

const secret = "Pa55 word,?"

// gate is a server, or a proxy, that lets in who shows to be alice. It has one file with the text
// "inside" at every URL.
type gate struct {
	*httptest.Server
	mu      sync.Mutex
	schemes []string // of what it is told, in order
}

// newGate asks for Basic, or for what is given; of that Digest lets in.
func newGate(t *testing.T, proxy bool, asks ...string) *gate {
	t.Helper()
	g := &gate{}
	status, header, told := http.StatusUnauthorized, "WWW-Authenticate", "Authorization"
	if proxy {
		status, header, told = http.StatusProxyAuthRequired, "Proxy-Authenticate", "Proxy-Authorization"
	}
	if asks == nil {
		asks = []string{`Basic realm="gate"`}
	}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, rest, _ := strings.Cut(r.Header.Get(told), " ")
		g.mu.Lock()
		defer g.mu.Unlock()
		if scheme != "" {
			g.schemes = append(g.schemes, scheme)
		}
		in := scheme == "Basic" && rest == base64.StdEncoding.EncodeToString([]byte("alice:"+secret))
		if in || scheme == "Digest" && digestIsRight(r.Method, rest) {
			http.ServeContent(w, r, "", time.Unix(1e9, 0), strings.NewReader("inside"))
			return
		}
		w.Header()[header] = asks
		w.WriteHeader(status)
	}))
	t.Cleanup(g.Close)
	return g
}

// digestGate is what a gate asks for that takes Digest only.
const digestGate = `Digest realm="gate", nonce="n0nce", qop="auth", algorithm=MD5`

var digestField = regexp.MustCompile(`(\w+)="?([^",]*)"?`)

// digestIsRight checks an answer to digestGate by RFC 7616, 3.4.
func digestIsRight(method, answer string) bool {
	f := map[string]string{}
	for _, m := range digestField.FindAllStringSubmatch(answer, -1) {
		f[m[1]] = m[2]
	}
	sum := func(parts ...string) string { return fmt.Sprintf("%x", md5.Sum([]byte(strings.Join(parts, ":")))) }
	return f["username"] == "alice" && f["nonce"] == "n0nce" &&
		f["response"] == sum(sum("alice", "gate", secret), "n0nce", f["nc"], f["cnonce"], "auth", sum(method, f["uri"]))
}

// holdsText checks a file's text.
func holdsText(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%s holds %q, %v; want %q", path, b, err, want)
	}
}

// TestBitsadminCredentials runs the switches about who a job is to servers and proxies.
func TestBitsadminCredentials(t *testing.T) {
	t.Parallel()
	server, proxy := newGate(t, false), newGate(t, true)
	s := start(t, options{})

	t.Run("/setcredentials", func(t *testing.T) {
		s := s.in(t)
		s.raw("/create", "locked")
		s.raw("/addfile", "locked", server.URL+"/f", "locked.txt")
		s.raw("/resume", "locked")
		isError(t, s.settled(s.named("locked"), bits.Errored), bits.HTTPStatus(401), bits.ContextRemoteFile)
		if out := s.admin(0, "/setcredentials", "locked", "SERVER", "basic", "alice", secret); out != "Credentials set.\n" {
			t.Errorf("it prints %q", out)
		}
		s.raw("/resume", "locked")
		s.settled(s.named("locked"), bits.Transferred)
		for _, args := range [][]string{{"/info", "locked", "/verbose"}, {"/list", "/verbose"}} {
			if out := s.admin(0, args...); strings.Contains(out, secret) {
				t.Errorf("%q prints the password", args)
			}
		}
		s.raw("/complete", "locked")
		holdsText(t, filepath.Join(s.dir, "locked.txt"), "inside")

		if out := s.cliWith("geheim\n", "bitsadmin", "/rawreturn", "/setcredentials", "again", "SERVER", "basic", "alice", "-"); out.code == 0 {
			t.Errorf("a job that is not there gets a password: %q", out.out)
		}
		s.raw("/create", "again")
		s.raw("/addfile", "again", server.URL+"/f", "again.txt")
		s.cliWith(secret+"\n", "bitsadmin", "/setcredentials", "again", "SERVER", "basic", "alice", "-").want(t, 0)
		s.raw("/resume", "again")
		s.settled(s.named("again"), bits.Transferred)
		authorization := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("alice:"+secret)) + "\n"
		s.cliWith(authorization, "get", "--header-from", "-", server.URL+"/f", "headed.txt").want(t, 0)
		holdsText(t, filepath.Join(s.dir, "headed.txt"), "inside")
		s.cliWith(authorization, "create", "--header-from", "-", "headed").want(t, 0)
		if names := s.info(s.named("headed")).Properties.HeaderNames; len(names) != 1 || names[0] != "Authorization" {
			t.Errorf("the job has the headers %q", names)
		}

		s.raw("/create", "proxied")
		s.raw("/addfile", "proxied", "http://there.example/f", "proxied.txt")
		s.raw("/setproxysettings", "proxied", "OVERRIDE", proxy.URL)
		s.raw("/setcredentials", "proxied", "PROXY", "BASIC", "alice", secret)
		s.raw("/setcredentials", "proxied", "PROXY", "NEGOTIATE", "NULL", "NULL") // the owner's own identity
		s.raw("/resume", "proxied")
		s.settled(s.named("proxied"), bits.Transferred)
		s.raw("/complete", "proxied")
		holdsText(t, filepath.Join(s.dir, "proxied.txt"), "inside")

		s.raw("/create", "all of them")
		for _, line := range []string{"server basic", "SERVER DIGEST", "Server Ntlm", "SERVER NEGOTIATE", "proxy digest"} {
			s.raw(append(append([]string{"/setcredentials", "all of them"}, strings.Fields(line)...), "alice", secret)...)
		}
		names, err := s.named("all of them").Credentials(s.ctx())
		if must(t, err); fmt.Sprint(names) != "[SERVER/BASIC SERVER/DIGEST SERVER/NTLM SERVER/NEGOTIATE PROXY/DIGEST]" {
			t.Errorf("the job has %v", names)
		}
		s.raw("/cancel", "all of them")
		s.raw("/create", "wrong")
		for _, c := range []struct {
			args []string
			says string
		}{
			{[]string{"NOBODY", "BASIC", "a", "b"}, "0x80200027"},
			{[]string{"SERVER", "RSA", "a", "b"}, "0x80200028"},
			{[]string{"SERVER", "PASSPORT", "a", "b"}, "0x80004001"},
			{[]string{"SERVER", "BASIC", "NULL", "NULL"}, "0x80070057"},
		} {
			out := s.cli(append([]string{"bitsadmin", "/setcredentials", "wrong"}, c.args...)...).out
			if !strings.Contains(out, "Unable to set credentials - "+c.says) {
				t.Errorf("%q prints %q", c.args, out)
			}
		}
		s.raw("/cancel", "wrong")
	})
	t.Run("/removecredentials", func(t *testing.T) {
		s := s.in(t)
		s.raw("/create", "forgotten")
		s.raw("/addfile", "forgotten", server.URL+"/g", "forgotten.txt")
		s.raw("/setcredentials", "forgotten", "SERVER", "BASIC", "alice", secret)
		if out := s.admin(0, "/removecredentials", "forgotten", "SERVER", "DIGEST"); out != "The job has no such credentials.\n" {
			t.Errorf("of a scheme that has none it prints %q", out)
		}
		if out := s.admin(0, "/removecredentials", "forgotten", "server", "Basic"); out != "Credentials removed.\n" {
			t.Errorf("it prints %q", out)
		}
		s.raw("/resume", "forgotten")
		isError(t, s.settled(s.named("forgotten"), bits.Errored), bits.HTTPStatus(401), bits.ContextRemoteFile)
		s.raw("/cancel", "forgotten")
	})
}

// TestBitsadminFiles runs the switches about single files.
func TestBitsadminFiles(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	e := srv.File("/a", faultserver.File{Seed: 1, Size: 5000})
	s := start(t, options{})
	answer, err := http.Get(e.URL())
	must(t, err)
	content, err := io.ReadAll(answer.Body)
	must(t, err, answer.Body.Close())

	t.Run("/addfilewithranges", func(t *testing.T) {
		s := s.in(t)
		s.raw("/create", "parts")
		local := filepath.Join(s.dir, "parts")
		if out := s.admin(0, "/addfilewithranges", "parts", e.URL(), local, "10:20,100:5,4990:eof"); out != "Added "+e.URL()+" -> "+local+" to job.\n" {
			t.Errorf("it prints %q", out)
		}
		s.raw("/resume", "parts")
		s.settled(s.named("parts"), bits.Transferred)
		s.raw("/complete", "parts")
		want := append(append(append([]byte{}, content[10:30]...), content[100:105]...), content[4990:]...)
		if b, err := os.ReadFile(local); err != nil || !bytes.Equal(b, want) {
			t.Errorf("the file holds %d bytes, %v; want the parts, back to back", len(b), err)
		}
		s.raw("/create", "wrong")
		for ranges, code := range map[string]string{"1-2": "0x80070057", "0:10,5:10": "0x8020002c", "0:0": "0x8020002b"} {
			if out := s.cli("bitsadmin", "/addfilewithranges", "wrong", e.URL(), local, ranges).out; !strings.Contains(out, "Unable to add file to job - "+code) {
				t.Errorf("%s: it prints %q", ranges, out)
			}
		}
		s.raw("/cancel", "wrong")
	})
	t.Run("/gettemporaryname", func(t *testing.T) {
		s := s.in(t)
		s.raw("/create", "checked")
		s.raw("/addfile", "checked", e.URL(), "checked")
		s.raw("/resume", "checked")
		s.settled(s.named("checked"), bits.Transferred)
		part := s.raw("/gettemporaryname", "checked", "0")
		if b, err := os.ReadFile(part); err != nil || !bytes.Equal(b, content) {
			t.Errorf("%s holds %d bytes, %v", part, len(b), err)
		}
	})
	t.Run("/setvalidationstate", func(t *testing.T) {
		s := s.in(t)
		if out := s.admin(0, "/setvalidationstate", "checked", "0", "false"); out != "Validation state set to FALSE.\n" {
			t.Errorf("it prints %q", out)
		}
		isError(t, s.info(s.named("checked")), bits.ValidationFailed, bits.ContextRemoteFile)
		s.raw("/resume", "checked")
		s.settled(s.named("checked"), bits.Transferred)
		if n := len(srv.RequestsFor("/a")); n < 2 {
			t.Error("the file was not fetched again")
		}
	})
	t.Run("/getvalidationstate", func(t *testing.T) {
		s := s.in(t)
		if got := s.raw("/getvalidationstate", "checked", "0"); got != "FALSE" {
			t.Errorf("before anybody looked it is %q", got)
		}
		s.raw("/setvalidationstate", "checked", "0", "TRUE")
		if got := s.raw("/getvalidationstate", "checked", "0"); got != "TRUE" {
			t.Errorf("it is %q", got)
		}
		s.admin(2, "/setvalidationstate", "checked", "0", "perhaps")
		s.admin(2, "/getvalidationstate", "checked", "1")
		s.raw("/complete", "checked")
	})
}

// TestCmdletCredentials gives credentials by -Credential and the like; passwords come from the input.
func TestCmdletCredentials(t *testing.T) {
	t.Parallel()
	server, proxy := newGate(t, false), newGate(t, true)
	s := start(t, options{})
	in := func(name string) string { return filepath.Join(s.dir, name) }

	t.Run("Start-BitsTransfer", func(t *testing.T) {
		s := s.in(t)
		got := s.with(secret+"\n", "Start-BitsTransfer", server.URL+"/f", in("one"), "-Credential", "alice", "-Authentication", "Basic").want(t, 0)
		if strings.Contains(got.out+got.err, secret) {
			t.Error("the password is printed")
		}
		holdsText(t, in("one"), "inside")
		// Headers come before it.
		s.with(`["X-Token: `+secret+`","X-Other: a, b"]`+"\n"+secret+"\n", "Start-BitsTransfer", server.URL+"/f", in("headed"), "-Asynchronous", "-Suspended", "-DisplayName", "headed", "-CustomHeaders", "-", "-Credential", "alice", "-Authentication", "Basic").want(t, 0)
		headed := s.named("headed")
		if lines, err := headed.Headers(s.ctx()); err != nil || !slices.Equal(lines, []string{"X-Token: " + secret, "X-Other: a, b"}) {
			t.Errorf("the headers are %q, %v", lines, err)
		}
		s.with(`["X-Set: b"]`+"\n", "Set-BitsTransfer", "-BitsJob", headed.ID.String(), "-CustomHeaders", "-").want(t, 0)
		if lines, err := headed.Headers(s.ctx()); err != nil || !slices.Equal(lines, []string{"X-Set: b"}) {
			t.Errorf("the headers are %q, %v", lines, err)
		}
		s.with("X-Set: b\n", "Set-BitsTransfer", "-BitsJob", headed.ID.String(), "-CustomHeaders", "-").want(t, 2)
		s.raw("/cancel", headed.ID.String())
		// The server's password is the first line, the proxy's the second.
		s.with("x\n"+secret+"\n", "Start-BitsTransfer", "http://there.example/f", in("two"), "-ProxyUsage", "Override", "-ProxyList", proxy.URL,
			"-Credential", "bob", "-Authentication", "Digest", "-ProxyCredential", "alice", "-ProxyAuthentication", "Basic").want(t, 0)
		holdsText(t, in("two"), "inside")
		if out := s.with("", "Start-BitsTransfer", server.URL+"/f", in("no"), "-Credential", "alice", "-WhatIf").want(t, 0).out; !strings.HasPrefix(out, "What if:") {
			t.Errorf("-WhatIf prints %q", out)
		}
	})
	t.Run("Set-BitsTransfer", func(t *testing.T) {
		s := s.in(t)
		job := s.psOne("Start-BitsTransfer", server.URL+"/f", in("three"), "-Asynchronous")
		id := job.JobID.String()
		s.settled(s.Job(job.JobID), bits.Errored)
		s.with(secret+"\n", "Set-BitsTransfer", id, "-cred", "alice", "-au", "basic").want(t, 0)
		s.cli("Resume-BitsTransfer", id).want(t, 0)
		holdsText(t, in("three"), "inside")

		job = s.psOne("Start-BitsTransfer", "http://there.example/f", in("four"), "-Suspended", "-ProxyUsage", "Override", "-ProxyList", proxy.URL)
		id = job.JobID.String()
		s.with(secret+"\n", "Set-BitsTransfer", id, "-pc", "alice", "-pa", "Basic").want(t, 0)
		// A scheme alone is the owner's own identity.
		s.cli("Set-BitsTransfer", id, "-Authentication", "Ntlm", "-ProxyAuthentication", "Negotiate").want(t, 0)
		names, err := s.Job(job.JobID).Credentials(s.ctx())
		must(t, err)
		if got := fmt.Sprint(names); got != "[SERVER/NTLM PROXY/BASIC PROXY/NEGOTIATE]" {
			t.Errorf("the job has %s", got)
		}
		s.cli("Resume-BitsTransfer", id).want(t, 0)
		holdsText(t, in("four"), "inside")
	})
	// Without a scheme it is Negotiate.
	id := s.psOne("Start-BitsTransfer", server.URL+"/f", in("five"), "-Suspended").JobID
	s.with("x\ny\n", "Set-BitsTransfer", id.String(), "-Credential", "alice", "-ProxyCredential", "bob").want(t, 0)
	s.with("x\ny\n", "Set-BitsTransfer", id.String(), "-Credential", "alice", "-Authentication", "Digest", "-ProxyCredential", "bob", "-ProxyAuthentication", "Ntlm").want(t, 0)
	names, err := s.Job(id).Credentials(s.ctx())
	if must(t, err); fmt.Sprint(names) != "[SERVER/DIGEST SERVER/NEGOTIATE PROXY/NTLM PROXY/NEGOTIATE]" {
		t.Errorf("the job has %v", names)
	}
	for _, c := range []struct{ input, args, says string }{
		{"", "-Credential alice", "no line with the password"},
		{"", "-Authentication Basic", "needs -Credential"},
		{"", "-Authentication Passport", "E_NOTIMPL"},
		{"", "-ProxyAuthentication Passport", "E_NOTIMPL"},
		{"x\n", "-Credential alice -Authentication Passport", "E_NOTIMPL"},
		{"x\n", "-Credential a:b -Authentication Basic", "colon"},
		{"x\n", "-Credential a -Authentication Basic -ProxyCredential b", "no line with the password"}, // one of two
	} {
		for _, args := range [][]string{{"Start-BitsTransfer", server.URL + "/f", in("x")}, {"Set-BitsTransfer", id.String()}} {
			if got := s.with(c.input, append(args, strings.Fields(c.args)...)...); got.code != 2 || !strings.Contains(got.err, c.says) {
				t.Errorf("%s %q: exit code %d, %s", args[0], c.args, got.code, got.err)
			}
		}
	}
	s.cli("Remove-BitsTransfer", id.String()).want(t, 0)
	s.with("x\n", "Start-BitsTransfer", "-Credential", "alice").want(t, 2) // the list is the input
	if jobs := s.ps("Get-BitsTransfer"); len(jobs) != 0 {
		t.Errorf("%d jobs are left", len(jobs))
	}
}

// TestAdministratorsByTheOriginals: an administrator takes jobs of another user over, and lists and
// cancels those of all, with bitsadmin and the cmdlets; who is none may not.
func TestAdministratorsByTheOriginals(t *testing.T) {
	t.Parallel()
	isRoot(t)
	const uid = 61009
	s := prepare(t, options{args: []string{"--system"}})
	home := filepath.Dir(s.dir)
	// Others have to reach the socket and the program.
	must(t, os.Chmod(home, 0o755), os.Chmod(filepath.Dir(ebb), 0o755), os.Chown(s.dir, uid, uid))
	s.up()
	other := func(args ...string) result {
		c := s.prepareCall(args...)
		c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		return c.begin().end()
	}
	for i, c := range []struct {
		name string
		take []string
		says string
	}{
		{"/takeownership", []string{"bitsadmin", "/takeownership", "job 0"}, "Job ownership taken.\nThe job lost its credentials.\n"},
		{"-SetOwnerToCurrentUser", []string{"Set-BitsTransfer", "job 1", "-SetOwnerToCurrentUser", "-Description", "mine"}, "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.in(t)
			name := fmt.Sprint("job ", i)
			other("bitsadmin", "/create", name).want(t, 0)
			other("bitsadmin", "/setcredentials", name, "SERVER", "BASIC", "alice", secret).want(t, 0)
			if got := other(c.take...); got.code != 5 {
				t.Errorf("its owner, who is no administrator: %+v", got)
			}
			if got := s.cli(c.take...).want(t, 0); !strings.HasSuffix(got.out, c.says) {
				t.Errorf("it prints %q", got.out)
			}
			info := s.info(s.named(name))
			if info.Owner != "root" || len(info.Properties.Credentials) != 0 {
				t.Errorf("the job is of %s, with %v", info.Owner, info.Properties.Credentials)
			}
			other("bitsadmin", "/getstate", name).want(t, 4)
		})
	}

	// Root has two jobs now.
	other("bitsadmin", "/create", "of the other").want(t, 0)
	// sees checks whose jobs a command line of either user prints.
	sees := func(t *testing.T, out string, roots, others bool) {
		t.Helper()
		if strings.Contains(out, "job 0") != roots || strings.Contains(out, "of the other") != others {
			t.Errorf("of the own jobs %v, of the others' %v is to be seen:\n%s", roots, others, out)
		}
	}
	for _, c := range []struct {
		name string
		own  []string
		all  string
	}{
		{"/list /allusers", []string{"bitsadmin", "/list"}, "/allusers"},
		{"-AllUsers", []string{"Get-BitsTransfer"}, "-AllUsers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.in(t)
			sees(t, s.cli(c.own...).want(t, 0).out, true, false)
			sees(t, other(c.own...).want(t, 0).out, false, true)
			all := append(slices.Clone(c.own), c.all)
			sees(t, s.cli(all...).want(t, 0).out, true, true)
			refused := other(all...).want(t, 5)
			sees(t, refused.out+refused.err, false, false)
		})
	}
	t.Run("/monitor /allusers", func(t *testing.T) {
		s := s.in(t)
		sees(t, s.monitor(1), true, false)
		sees(t, s.monitor(1, "/allusers"), true, true)
		refused := other("bitsadmin", "/monitor", "/allusers").want(t, 5)
		sees(t, refused.out+refused.err, false, false)
	})
	t.Run("/reset /allusers", func(t *testing.T) {
		s := s.in(t)
		other("bitsadmin", "/reset", "/allusers").want(t, 5)
		sees(t, s.cli("bitsadmin", "/list", "/allusers").want(t, 0).out, true, true)
		if out := s.admin(0, "/reset"); !strings.HasSuffix(out, "2 out of 2 jobs canceled.\n") { // its own only
			t.Errorf("it prints %q", out)
		}
		other("bitsadmin", "/create", "of another").want(t, 0)
		s.raw("/create", "job 0")
		if out := s.admin(0, "/reset", "/allusers"); !strings.HasSuffix(out, "3 out of 3 jobs canceled.\n") {
			t.Errorf("it prints %q", out)
		}
		sees(t, s.cli("bitsadmin", "/list", "/allusers").want(t, 0).out, false, false)
	})
}
