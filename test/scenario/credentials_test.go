package scenario

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
	"github.com/ebbtransfer/ebb/test/servers"
)

// authenticating returns a server that runs. Where it is not installed the test is skipped, but
// not where all tests must run.
func authenticating(t *testing.T) func(*servers.Server, error) *servers.Server {
	return func(s *servers.Server, err error) *servers.Server {
		t.Helper()
		needs(t, err)
		t.Cleanup(s.Close)
		return s
	}
}

func needs(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, servers.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// kerberos starts a realm in which alice is known.
func kerberos(t *testing.T, password string) *servers.Realm {
	t.Helper()
	r, err := servers.Kerberos(map[string]string{"alice": password})
	needs(t, err)
	t.Cleanup(r.Close)
	return r
}

// identifies gives a job a credential, as one would at the command line: the secret is in no
// argument.
func (s *service) identifies(job *client.Job, secret string, args ...string) {
	s.t.Helper()
	c := s.prepareCall(append([]string{"credentials", "set", job.ID.String()}, args...)...)
	c.cmd.Stdin = strings.NewReader(secret + "\n")
	c.begin().end().want(s.t, 0)
}

func (s *service) resume(job *client.Job) {
	s.t.Helper()
	if err := job.Resume(s.ctx()); err != nil {
		s.t.Fatal(err)
	}
}

// refusedWith waits until a job is in ERROR with a status.
func (s *service) refusedWith(job *client.Job, status int) {
	s.t.Helper()
	info := s.settled(job, bits.Errored)
	if info.Error == nil || info.Error.HResult != bits.HTTPStatus(status).Hex() {
		s.t.Fatalf("the error is %+v, want the status %d", info.Error, status)
	}
}

// keepsSecret checks that secrets are nowhere where somebody could read them.
func (s *service) keepsSecret(job *client.Job, secrets ...string) {
	s.t.Helper()
	for _, secret := range secrets {
		secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte("alice:"+secret)))
	}
	look := func(where string, b []byte) {
		s.t.Helper()
		for _, secret := range secrets {
			if bytes.Contains(b, []byte(secret)) {
				s.t.Errorf("%s has the secret %q", where, secret)
			}
		}
	}
	for _, args := range [][]string{
		{"show", "--json", job.ID.String()}, {"show", "--properties", job.ID.String()}, {"list", "--json"}, {"list"}, {"explain", job.ID.String()},
		{"credentials", "list", job.ID.String()},
	} {
		r := s.cli(args...).want(s.t, 0)
		look("ebb "+strings.Join(args, " "), []byte(r.out+r.err))
	}
	events, info := 0, s.info(job)
	for e, err := range s.Watch(s.ctx(), client.Filter{After: 1}) {
		if err != nil {
			s.t.Fatal(err)
		}
		b, err := json.Marshal(e)
		if err != nil {
			s.t.Fatal(err)
		}
		look("an event", b)
		if events++; e.Job == job.ID && e.State == info.State {
			break
		}
	}
	log, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	look("the service's log", log)
	s.looksThrough(s.state, look)
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(lines) == 0 {
		s.t.Fatal(lines, err)
	}
	for _, name := range lines {
		b, err := os.ReadFile(name)
		if err == nil {
			look(name, b)
		}
	}
}

// looksThrough shows all files of a directory.
func (s *service) looksThrough(dir string, look func(string, []byte)) {
	s.t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced meanwhile
		}
		files++
		look(name, b)
		return err
	})
	if err != nil || files == 0 {
		s.t.Fatalf("%d files in %s: %v", files, dir, err)
	}
}

// logged checks that the service's log has some words.
func (s *service) logged(words ...string) {
	s.t.Helper()
	if !s.hasLogged(words...) {
		s.t.Errorf("no line of the log has %q", words)
	}
}

// hasLogged reports whether a line of the log has all of these.
func (s *service) hasLogged(words ...string) bool {
	s.t.Helper()
	b, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}

// served is a directory for a server with a file of some size.
func served(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	b := make([]byte, size)
	if _, err := faultserver.Content(1, size).ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// identity is a way to identify oneself, with what is refused and what is accepted.
type identity struct {
	name   string
	asks   servers.Asks
	wrong  string
	args   []string // of ebb credentials set, after the target
	secret string
	env    []string // of the service
}

// identities are all that a server, or a proxy, may ask for. The secrets are not to be found by
// chance.
func identities(t *testing.T, schemes ...string) []identity {
	t.Helper()
	const secret, wrong = `Str0ng"und\geheim-f1c9`, "wr0ng-secret-77ab"
	var all []identity
	for _, scheme := range schemes {
		if scheme == "Bearer" {
			const token = "bearer.token-5a0e/0f=="
			all = append(all, identity{name: scheme, asks: servers.Asks{Scheme: scheme, Password: token}, wrong: wrong, secret: token, args: []string{"bearer"}})
			continue
		}
		if scheme != "Negotiate" {
			all = append(all, identity{name: scheme, asks: servers.Asks{Scheme: scheme, User: "alice", Password: secret},
				wrong: wrong, secret: secret, args: []string{strings.ToLower(scheme), "alice"}})
			continue
		}
		const password = "kerberos-secret-3b1d"
		realm := kerberos(t, password)
		cache := filepath.Join(t.TempDir(), "cc")
		if err := realm.Kinit("alice", password, cache); err != nil {
			t.Fatal(err)
		}
		asks := servers.Asks{Scheme: scheme, Realm: realm}
		all = append(all,
			identity{name: "Negotiate with a password", asks: asks, wrong: wrong, secret: password,
				args: []string{"negotiate", "alice@EBB.TEST"}, env: []string{"KRB5_CONFIG=" + realm.Config}},
			identity{name: "Negotiate with the owner's tickets", asks: asks, args: []string{"negotiate"},
				env: []string{"KRB5_CONFIG=" + realm.Config, "KRB5CCNAME=FILE:" + cache}})
	}
	return all
}

// TestCredentialsOfServers: servers of the world that want to know who comes are told, for
// downloads of several requests and for uploads; before that the job waits for its owner.
func TestCredentialsOfServers(t *testing.T) {
	t.Parallel()
	type starter struct {
		name  string
		start func(string, servers.Options) (*servers.Server, error)
		ways  []identity
	}
	for _, srv := range []starter{
		{"Apache", servers.Apache, identities(t, "Basic", "Digest", "Negotiate", "NTLM")},
		{"nginx", servers.Nginx, identities(t, "Basic", "Bearer")},
	} {
		for _, way := range srv.ways {
			t.Run(srv.name+" "+way.name, func(t *testing.T) {
				t.Parallel()
				const size = 3*mib + 5
				dir := served(t, size)
				web := authenticating(t)(srv.start(dir, servers.Options{Asks: &way.asks, Uploads: true, AccessLog: true}))
				url := strings.Replace(web.URL, "127.0.0.1", "localhost", 1)
				s := start(t, options{env: way.env})
				job := s.create(fetched{files: []bits.FileSpec{
					s.file(url+"/a", "a"), s.file(url+"/b", "b"),
					{Remote: url + "/a", Local: filepath.Join(s.dir, "parts"), Ranges: []bits.Range{{Offset: 0, Length: 100}, {Offset: 1000, Length: 50}, {Offset: 2 * mib, Length: 77}}},
				}})
				s.refusedWith(job, 401)
				if way.wrong != "" {
					s.identifies(job, way.wrong, append([]string{"server"}, way.args...)...)
					s.resume(job)
					s.refusedWith(job, 401)
					s.logged("credentials refused", "event=204", job.ID.String())
				}
				s.identifies(job, way.secret, append([]string{"server"}, way.args...)...)
				s.resume(job)
				s.settled(job, bits.Transferred)
				s.logged("credentials accepted", "event=203", job.ID.String())
				s.keeps(job, way)
				s.complete(job)
				for _, name := range []string{"a", "b"} {
					if got, n := digest(t, filepath.Join(s.dir, name)); got != faultserver.SHA256(1, size) {
						t.Errorf("%s has %d bytes that are not the file's", name, n)
					}
				}
				if st, err := os.Stat(filepath.Join(s.dir, "parts")); err != nil || st.Size() == 0 {
					t.Errorf("the ranges: %v, %v", st, err)
				}

				file, data := s.source("up.bin", 2*mib+3, 9)
				up := s.sends(bits.Upload, bits.Settings{Protocol: ptr(bits.ProtocolPut)}, url+"/up.bin", file)
				s.refusedWith(up, 401)
				s.identifies(up, way.secret, append([]string{"server"}, way.args...)...)
				s.resume(up)
				s.settled(up, bits.Transferred)
				s.complete(up)
				if got, err := os.ReadFile(filepath.Join(dir, "up.bin")); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes were uploaded (%v), want %d", len(got), err, len(data))
				}
				s.keeps(up, way)
			})
		}
	}
}

func (s *service) keeps(job *client.Job, way identity) {
	s.t.Helper()
	var secrets []string
	for _, secret := range []string{way.secret, way.wrong} {
		if secret != "" {
			secrets = append(secrets, secret)
		}
	}
	if len(secrets) > 0 {
		s.keepsSecret(job, secrets...)
	}
}

// asks starts a proxy that asks: Squid, or Apache for NTLM, which Squid only has with a domain.
func asks(a servers.Asks) (*servers.Server, error) {
	if a.Scheme == "NTLM" {
		return servers.Apache(os.TempDir(), servers.Options{Asks: &a, AccessLog: true, Forward: true})
	}
	return servers.Squid(servers.Options{Asks: &a, AccessLog: true})
}

// TestCredentialsOfProxies: a proxy that wants to know who comes is told, for what it fetches
// itself and for what goes through it.
func TestCredentialsOfProxies(t *testing.T) {
	t.Parallel()
	for _, way := range identities(t, "Basic", "Digest", "Negotiate", "NTLM") {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			const size = 2*mib + 5
			proxy := authenticating(t)(asks(way.asks))
			dir := served(t, size)
			s := start(t, options{env: append(trusting(t), way.env...)})
			usage := bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{strings.Replace(proxy.URL, "127.0.0.1", "localhost", 1)}}
			for _, tls := range []bool{false, true} {
				web := authenticating(t)(servers.Nginx(dir, servers.Options{TLS: tls, Uploads: true}))
				job := s.create(fetched{settings: bits.Settings{Options: bits.Options{Proxy: &usage}},
					files: []bits.FileSpec{s.file(web.URL+"/a", "a"), s.file(web.URL+"/b", "b")}})
				s.refusedWith(job, 407)
				if way.wrong != "" {
					s.identifies(job, way.wrong, append([]string{"proxy"}, way.args...)...)
					s.resume(job)
					s.refusedWith(job, 407)
				}
				s.identifies(job, way.secret, append([]string{"proxy"}, way.args...)...)
				s.resume(job)
				s.settled(job, bits.Transferred)
				s.keeps(job, way)
				s.complete(job)
				for _, name := range []string{"a", "b"} {
					path := filepath.Join(s.dir, name)
					if got, n := digest(t, path); got != faultserver.SHA256(1, size) {
						t.Errorf("%s has %d bytes that are not the file's", name, n)
					}
					_ = os.Remove(path)
				}

				name := fmt.Sprintf("up-%v.bin", tls)
				file, data := s.source(name, mib+3, 9)
				up := s.sends(bits.Upload, bits.Settings{Protocol: ptr(bits.ProtocolPut), Options: bits.Options{Proxy: &usage}}, web.URL+"/"+name, file)
				s.refusedWith(up, 407)
				s.identifies(up, way.secret, append([]string{"proxy"}, way.args...)...)
				s.resume(up)
				s.settled(up, bits.Transferred)
				s.complete(up)
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes were uploaded (%v), want %d", len(got), err, len(data))
				}
			}
			requests, err := proxy.Requests()
			if err != nil || len(requests) < 8 {
				t.Errorf("the proxy had %d requests: %v", len(requests), err)
			}
		})
	}
}

// TestStoredCredentials: the owner's tickets answer a proxy where the job wants it and the policy
// allows it, and nobody else.
func TestStoredCredentials(t *testing.T) {
	t.Parallel()
	const password = "kerberos-secret-91aa"
	realm := kerberos(t, password)
	cache := filepath.Join(t.TempDir(), "cc")
	if err := realm.Kinit("alice", password, cache); err != nil {
		t.Fatal(err)
	}
	asks := servers.Asks{Scheme: "Negotiate", Realm: realm}
	proxy := authenticating(t)(servers.Squid(servers.Options{Asks: &asks}))
	web := authenticating(t)(servers.Nginx(served(t, 1000), servers.Options{}))
	asking := strings.Replace(authenticating(t)(servers.Apache(served(t, 1000), servers.Options{Asks: &asks})).URL, "127.0.0.1", "localhost", 1)
	usage := bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{strings.Replace(proxy.URL, "127.0.0.1", "localhost", 1)}}
	for _, test := range []struct {
		policy, url string
		stored      bits.AuthTarget
		status      int // 0 for none: the file comes
	}{
		{"", web.URL, bits.TargetProxy, 0},
		{"", web.URL, bits.TargetNone, 407},
		{"", asking, bits.TargetProxy, 401}, // the proxy takes them, and the server gets none
		{"none", web.URL, bits.TargetProxy, 407},
		{"other.example", web.URL, bits.TargetProxy, 407},
		{"localhost", web.URL, bits.TargetProxy, 0},
	} {
		o := options{env: []string{"KRB5_CONFIG=" + realm.Config, "KRB5CCNAME=FILE:" + cache}}
		if test.policy != "" {
			o.config = fmt.Sprintf("[credentials]\nown = %q\n", test.policy)
		}
		s := start(t, o)
		set := bits.Settings{Options: bits.Options{Proxy: &usage}}
		if test.stored != bits.TargetNone {
			set.UseStoredCredentials = &test.stored
		}
		job := s.create(fetched{settings: set, files: []bits.FileSpec{s.file(test.url+"/a", "a")}})
		if test.status != 0 {
			s.refusedWith(job, test.status)
			continue
		}
		s.settled(job, bits.Transferred)
	}
}

// TestTicketsOfUsers: the service of all users shows each owner's own tickets and nobody else's, also not
// where a link or the name of a file would lead to them.
func TestTicketsOfUsers(t *testing.T) {
	t.Parallel()
	isRoot(t)
	realm := kerberos(t, "kerberos-secret-5c2e")
	asking := strings.Replace(authenticating(t)(servers.Apache(served(t, 1000), servers.Options{Asks: &servers.Asks{Scheme: "Negotiate", Realm: realm}})).URL, "127.0.0.1", "localhost", 1)
	// As /tmp is: all write to it, and each file is its owner's.
	caches, err := os.MkdirTemp("", "ebb-tickets")
	must(t, err, os.Chmod(caches, 0o777|os.ModeSticky))
	t.Cleanup(func() { _ = os.RemoveAll(caches) })
	text, err := os.ReadFile(realm.Config)
	must(t, err)
	config := filepath.Join(t.TempDir(), "krb5.conf")
	must(t, os.WriteFile(config, []byte(strings.Replace(string(text), "[libdefaults]", "[libdefaults]\n\tdefault_ccache_name = FILE:"+caches+"/krb5cc_%{uid}", 1)), 0o600))
	m := startSystem(t, options{env: []string{"KRB5_CONFIG=" + config, "KRB5CCNAME="}})
	alice, bob := m.person(aliceUID), m.person(bobUID)
	of := func(uid int) string { return filepath.Join(caches, fmt.Sprint("krb5cc_", uid)) }
	fetch := func(u *person) *client.Job {
		t.Helper()
		id := u.make(bits.NewJob{Files: []bits.FileSpec{{Remote: asking + "/a", Local: filepath.Join(u.dir, "a")}}})
		u.cli("credentials", "set", id.String(), "server", "negotiate").want(t, 0)
		u.cli("resume", id.String()).want(t, 0)
		return m.Job(id)
	}
	must(t, realm.Kinit("alice", "kerberos-secret-5c2e", of(aliceUID)), os.Chown(of(aliceUID), aliceUID, aliceUID))
	m.settled(fetch(alice), bits.Transferred)
	for _, way := range []func() error{
		func() error { return nil }, // he has none
		func() error {
			return errors.Join(os.Symlink(of(aliceUID), of(bobUID)), os.Lchown(of(bobUID), bobUID, bobUID))
		},
		func() error { // a file of alice's that all may read, by a name that is bob's
			b, err := os.ReadFile(of(aliceUID))
			return errors.Join(err, os.Remove(of(bobUID)), os.WriteFile(of(bobUID), b, 0o600), os.Chown(of(bobUID), aliceUID, aliceUID), os.Chmod(of(bobUID), 0o644))
		},
	} {
		must(t, way())
		m.refusedWith(fetch(bob), 401)
	}
}

// TestRemoveCredentials: what was taken away is not used, and there is nothing to take away twice.
func TestRemoveCredentials(t *testing.T) {
	t.Parallel()
	web := authenticating(t)(servers.Nginx(served(t, 1000), servers.Options{Asks: &servers.Asks{Scheme: "Basic", User: "alice", Password: "s3cret-0c1d"}}))
	s := start(t, options{})
	job := s.create(fetched{files: []bits.FileSpec{s.file(web.URL+"/a", "a")}, waits: true})
	s.identifies(job, "s3cret-0c1d", "server", "basic", "alice")
	s.identifies(job, "s3cret-0c1d", "proxy", "digest", "alice")
	if r := s.cli("credentials", "list", job.ID.String()).want(t, 0); r.out != "server basic\nproxy digest\n" {
		t.Errorf("the list is %q", r.out)
	}
	for _, want := range []bool{true, false} {
		had, err := job.RemoveCredential(s.ctx(), bits.TargetServer, bits.AuthBasic)
		if err != nil || had != want {
			t.Errorf("it had one: %v, %v, want %v", had, err, want)
		}
	}
	s.resume(job)
	s.refusedWith(job, 401)
	s.identifies(job, "s3cret-0c1d", "server", "basic", "alice")
	s.resume(job)
	s.settled(job, bits.Transferred)
}

// TestCredentialsOfBITSUploads: the protocol bits, whose requests net/http cannot write, gets past who
// asks, too: a server before ebb serve, a proxy on the way to it in either manner, and ebb serve itself.
func TestCredentialsOfBITSUploads(t *testing.T) {
	t.Parallel()
	const uploads = "[[group]]\npath = \"/\"\ndir = \"%DIR%\"\n[group.uploads]\n"
	local := func(url string) string { return strings.Replace(url, "127.0.0.1", "localhost", 1) }
	// arrives sends a file, which is refused until the job knows what to say.
	arrives := func(t *testing.T, s *service, r *serving, url string, usage *bits.ProxySettings, way identity, target string, status int) {
		t.Helper()
		const name = "up.bin"
		file, data := s.source(name, 3*mib+3, 9)
		job := s.sends(bits.Upload, bits.Settings{Protocol: ptr(bits.ProtocolBITS), Options: bits.Options{Proxy: usage}}, url+"/"+name, file)
		s.refusedWith(job, status)
		if way.wrong != "" {
			s.identifies(job, way.wrong, append([]string{target}, way.args...)...)
			s.resume(job)
			s.refusedWith(job, status)
		}
		s.identifies(job, way.secret, append([]string{target}, way.args...)...)
		s.resume(job)
		s.settled(job, bits.Transferred)
		s.keeps(job, way)
		s.complete(job)
		r.isFile(name, string(data))
		_ = os.Remove(filepath.Join(r.dir, name))
	}
	for _, way := range identities(t, "Basic", "Digest", "Negotiate", "NTLM") {
		t.Run("Apache "+way.name, func(t *testing.T) {
			t.Parallel()
			r := startServing(t, uploads)
			front := authenticating(t)(servers.Apache(t.TempDir(), servers.Options{Asks: &way.asks, Proxy: r.url}))
			s := start(t, options{env: way.env})
			arrives(t, s, r, local(front.URL), nil, way, "server", 401)
		})
		t.Run("a proxy by "+way.name, func(t *testing.T) {
			t.Parallel()
			r := startServing(t, uploads)
			secured := authenticating(t)(servers.Nginx(t.TempDir(), servers.Options{TLS: true, Proxy: r.url, ProxyStreams: true}))
			proxy := authenticating(t)(asks(way.asks))
			s := start(t, options{env: append(trusting(t), way.env...)})
			usage := bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{local(proxy.URL)}}
			arrives(t, s, r, r.url, &usage, way, "proxy", 407)
			arrives(t, s, r, secured.URL, &usage, way, "proxy", 407)
		})
	}
	t.Run("ebb serve", func(t *testing.T) {
		t.Parallel()
		way := identity{secret: "s3cret-of-serve-0c1d", wrong: "wr0ng-secret-77ab", args: []string{"basic", "alice"}}
		c := newServing(t, "").prepareServe("password")
		c.cmd.Stdin = strings.NewReader(way.secret + "\n")
		hash := c.begin().end().want(t, 0).out
		r := startServing(t, fmt.Sprintf("[users.alice]\n%s\n%s", hash, strings.Replace(uploads, "[group.uploads]", "read = [\"alice\"]\nwrite = [\"alice\"]\n[group.uploads]", 1)))
		arrives(t, start(t, options{}), r, r.url, nil, way, "server", 401)
	})
}

// TestCredentialsOfBoth: a server by TLS that asks, behind a proxy that asks.
func TestCredentialsOfBoth(t *testing.T) {
	t.Parallel()
	const size = 2*mib + 5
	proxies := identities(t, "Digest", "Basic")
	for i, way := range identities(t, "Basic", "Digest") {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			via := proxies[i]
			proxy := authenticating(t)(servers.Squid(servers.Options{Asks: &via.asks}))
			web := authenticating(t)(servers.Apache(served(t, size), servers.Options{TLS: true, Asks: &way.asks}))
			s := start(t, options{env: trusting(t)})
			usage := bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{proxy.URL}}
			job := s.create(fetched{settings: bits.Settings{Options: bits.Options{Proxy: &usage}}, files: []bits.FileSpec{s.file(web.URL+"/a", "a"), s.file(web.URL+"/b", "b")}})
			s.refusedWith(job, 407)
			s.identifies(job, via.secret, append([]string{"proxy"}, via.args...)...)
			s.resume(job)
			s.refusedWith(job, 401)
			s.identifies(job, way.secret, append([]string{"server"}, way.args...)...)
			s.resume(job)
			s.settled(job, bits.Transferred)
			s.keeps(job, way)
			s.complete(job)
			for _, name := range []string{"a", "b"} {
				if got, n := digest(t, filepath.Join(s.dir, name)); got != faultserver.SHA256(1, size) {
					t.Errorf("%s has %d bytes that are not the file's", name, n)
				}
			}
		})
	}
}
