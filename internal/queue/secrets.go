package queue

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/auth"
	"github.com/ebbtransfer/ebb/internal/vault"
)

// The kinds of secrets that the queue itself seals.
const (
	secretHeaders    = "headers"    // custom request headers, a JSON array of lines
	secretCredential = "credential" // by target and scheme, a JSON login
	secretHook       = "hook"       // the URL of the web hook, of which the job's record has only the server
	secretURL        = "url"        // the password of a URL; its target is the place that it is for
)

// login is a credential as it is sealed; without user and password it is the owner's own identity.
type login struct {
	User     string `json:"u,omitempty"`
	Password string `json:"p,omitempty"`
}

// boundTo is what a sealed secret is bound to besides its job.
func boundTo(s *store.Secret) string { return s.Kind + "\x00" + s.Target + "\x00" + s.Scheme }

// putSecret seals a secret of a job and puts it into the job's record, in the place of one of the
// same kind, target and scheme.
func (q *Queue) putSecret(id bits.ID, d *store.Detail, s store.Secret, plain []byte) {
	s.Sealed = q.store.Vault().Seal(plain, id, boundTo(&s))
	dropSecret(d, s)
	d.Secrets = append(slices.Clip(d.Secrets), s)
}

// dropSecret takes a secret of the same kind, target and scheme out of a job's record and reports
// whether there was one.
func dropSecret(d *store.Detail, s store.Secret) bool {
	n := len(d.Secrets)
	d.Secrets = slices.DeleteFunc(slices.Clone(d.Secrets), func(have store.Secret) bool { return boundTo(&have) == boundTo(&s) })
	return len(d.Secrets) < n
}

// openSecret returns what was sealed. Its error is of type *bits.Error.
func (q *Queue) openSecret(id bits.ID, s *store.Secret) ([]byte, error) {
	plain, err := q.store.Vault().Open(s.Sealed, id, boundTo(s))
	if err == nil {
		return plain, nil
	}
	what, why := "credentials", "damaged"
	switch s.Kind {
	case secretHeaders:
		what = "custom headers"
	case secretCertificate:
		what = "client certificate and its key"
	case secretHook:
		what = "URL and secret of the web hook"
	}
	if errors.Is(err, vault.ErrKey) {
		why = "sealed with another key than the service has now"
	}
	e := bits.Errorf(bits.InvalidCredentials, "the job's %s are %s; set them again", what, why)
	e.Context, e.Cause = bits.ContextGeneralQueueManager, err
	return nil, e
}

// setHeaders puts custom headers into a job's record: their names for all who may see the job,
// their values sealed.
func (q *Queue) setHeaders(id bits.ID, d *store.Detail, lines []string) {
	d.Headers, d.HeaderNames = nil, nil
	if len(lines) == 0 {
		dropSecret(d, store.Secret{Kind: secretHeaders})
		return
	}
	for _, l := range lines {
		name, _, _ := strings.Cut(l, ":")
		d.HeaderNames = append(d.HeaderNames, name)
	}
	plain, err := json.Marshal(lines)
	if err != nil {
		panic(err) // strings always can be
	}
	q.putSecret(id, d, store.Secret{Kind: secretHeaders}, plain)
}

// sealHook leaves of the URL of a web hook only the server in the job's record, and seals the whole.
func (q *Queue) sealHook(id bits.ID, d *store.Detail) {
	dropSecret(d, store.Secret{Kind: secretHook})
	if d.Options == nil || d.Options.NotifyURL == nil {
		return
	}
	whole := *d.Options.NotifyURL
	shown := bits.RedactPath(whole)
	if shown == whole {
		return
	}
	q.putSecret(id, d, store.Secret{Kind: secretHook}, []byte(whole))
	d.Options = d.Options.Merge(&bits.Options{NotifyURL: &shown})
}

// hook returns where a job's web hook goes, which may be nowhere.
func (q *Queue) hook(id bits.ID, shown string, sealed *store.Secret) (string, error) {
	if sealed == nil {
		return shown, nil
	}
	plain, err := q.openSecret(id, sealed)
	return string(plain), err
}

// showHook lets the job's owner see where the web hook goes.
func (q *Queue) showHook(c Caller, v *version, view *bits.Job) {
	if d := v.rec.Detail; d != nil && c.UID == v.rec.UID {
		if whole, err := q.hook(v.rec.ID, view.Properties.NotifyURL, secretOf(d, store.Secret{Kind: secretHook})); err == nil {
			view.Properties.NotifyURL = whole
		}
	}
}

// headers returns a job's custom headers.
func (q *Queue) headers(id bits.ID, d *store.Detail) ([]string, error) {
	i := slices.IndexFunc(d.Secrets, func(s store.Secret) bool { return s.Kind == secretHeaders })
	if i < 0 {
		return nil, nil
	}
	plain, err := q.openSecret(id, &d.Secrets[i])
	if err != nil {
		return nil, err
	}
	var lines []string
	return lines, json.Unmarshal(plain, &lines)
}

// takePassword takes the password out of a URL and puts it into a job's record.
func (q *Queue) takePassword(id bits.ID, d *store.Detail, raw string) string {
	if !strings.Contains(raw, "@") {
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.User == nil || u.Scheme != "http" && u.Scheme != "https" {
		return raw
	}
	password, has := u.User.Password()
	if !has {
		return raw
	}
	u.User = url.User(u.User.Username())
	q.putSecret(id, d, store.Secret{Kind: secretURL, Target: auth.PlaceOf(u)}, []byte(password))
	return u.String()
}

// takePasswords takes the passwords out of the URLs of files that are not yet in a job.
func (q *Queue) takePasswords(id bits.ID, d *store.Detail, files []*store.File) {
	for _, f := range files {
		q.takePasswordsOf(id, d, f)
	}
}

// takePasswordsOf takes the passwords out of the URLs of one file, whose record is not stored yet.
func (q *Queue) takePasswordsOf(id bits.ID, d *store.Detail, f *store.File) {
	f.Remote = q.takePassword(id, d, f.Remote)
	if f.Extra == nil || len(f.Extra.Mirrors) == 0 {
		return
	}
	mirrors := slices.Clone(f.Extra.Mirrors)
	for i, m := range mirrors {
		mirrors[i] = q.takePassword(id, d, m)
	}
	extra := *f.Extra
	extra.Mirrors = mirrors
	f.Extra = &extra
}

// takeNewPasswords does so with the changed files of a job that is there. A transfer that is under
// way begins again, since it does not know the passwords.
func (t *tx) takeNewPasswords(j *job, files ...*store.File) {
	before := t.get(j).detail().Secrets
	d := store.Detail{Secrets: before}
	for _, f := range files {
		t.q.takePasswordsOf(j.id, &d, f)
	}
	if len(d.Secrets) == len(before) && (len(before) == 0 || &d.Secrets[0] == &before[0]) {
		return // none of them had one
	}
	t.edit(j, func(_ *store.Job, to *store.Detail) { to.Secrets = d.Secrets })
	if j.run != nil {
		t.then = append(t.then, j.run.stop)
	}
}

// secrets are what a job's transfer needs to know.
type secrets struct {
	header http.Header
	agent  *auth.Agent      // nil if there is nothing to say
	cert   *tls.Certificate // nil for none
	logins []auth.Credential
}

// open returns the secrets of a job that begins to run. Its error is of type *bits.Error.
func (q *Queue) open(v *version) (secrets, error) {
	var out secrets
	d := v.detail()
	lines, err := q.headers(v.rec.ID, &d)
	if err != nil {
		return out, err
	}
	out.header = header(lines)
	if out.cert, err = q.certificate(v.rec.ID, &d); err != nil {
		return out, err
	}
	credentials, err := q.credentials(v.rec.ID, &d)
	if err != nil {
		return out, err
	}
	out.logins = credentials
	uid := v.rec.UID
	out.agent = auth.New(credentials, &auth.Tickets{
		UID:  uid,
		Read: func(name string, most int64) ([]byte, error) { return q.readAs(uid, name, most) },
		Allow: func(u *url.URL) bool {
			q.mu.RLock()
			defer q.mu.RUnlock()
			return q.policy.Credentials.Own.Allow(u.String())
		},
	})
	if out.agent != nil {
		out.agent.Told = func(n auth.News) { q.identified(v, n) }
	}
	return out, nil
}

// readAs reads a file with the rights of a user. Others may write to the directory of such a file,
// as to /tmp: one that is neither the user's nor root's is theirs.
func (q *Queue) readAs(uid uint32, name string, most int64) ([]byte, error) {
	f, err := q.as(uid).Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if of, ok := localfile.UserOf(info); ok && of != uid && of != 0 {
		return nil, errors.New(name + " belongs to another user")
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// identified logs what became of a credential.
func (q *Queue) identified(v *version, n auth.News) {
	attrs := []any{"job", v.rec.ID, "name", v.rec.Name, "target", n.Target, "scheme", n.Scheme, "origin", n.Origin}
	if n.Accepted {
		q.log.Info("credentials accepted", append(attrs, audit.Event(audit.CredentialsTaken))...)
		return
	}
	q.log.Warn("credentials refused", append(attrs, audit.Event(audit.CredentialsDenied))...)
}

func (q *Queue) credentials(id bits.ID, d *store.Detail) ([]auth.Credential, error) {
	var out []auth.Credential
	for i := range d.Secrets {
		s := &d.Secrets[i]
		switch s.Kind {
		case secretCredential:
			l, err := q.login(id, s)
			if err != nil {
				return nil, err
			}
			name, err := credentialName(s)
			if err != nil {
				return nil, err
			}
			if name.Target == bits.TargetHook {
				continue // the notifier's
			}
			out = append(out, auth.Credential{Target: name.Target, Scheme: name.Scheme, User: l.User, Password: l.Password})
		case secretURL:
			plain, err := q.openSecret(id, s)
			if err != nil {
				return nil, err
			}
			place, err := url.Parse(s.Target)
			if err != nil || place.User == nil {
				continue
			}
			c := auth.Credential{Target: bits.TargetServer, User: place.User.Username(), Password: string(plain), Place: s.Target}
			c.Scheme = bits.AuthDigest
			out = append(out, c)
			c.Scheme, c.Unasked = bits.AuthBasic, true
			out = append(out, c)
		}
	}
	if d.Options != nil && d.Options.UseStoredCredentials != nil && *d.Options.UseStoredCredentials == bits.TargetProxy &&
		!slices.ContainsFunc(out, func(c auth.Credential) bool { return c.Target == bits.TargetProxy && c.Scheme == bits.AuthNegotiate }) {
		out = append(out, auth.Implicit(bits.TargetProxy))
	}
	return out, nil
}

// login opens a credential. Its error is of type *bits.Error.
func (q *Queue) login(id bits.ID, s *store.Secret) (l login, err error) {
	plain, err := q.openSecret(id, s)
	if err == nil && json.Unmarshal(plain, &l) != nil {
		err = bits.Errorf(bits.InvalidCredentials, "the job's credentials are damaged; set them again")
	}
	return l, err
}

// hookName names the credential with which a job's web hooks are signed.
var hookName = bits.CredentialName{Target: bits.TargetHook, Scheme: bits.AuthHMAC}

// secretOf returns a job's secret of the same kind, target and scheme; nil if it has none.
func secretOf(d *store.Detail, want store.Secret) *store.Secret {
	for i := range d.Secrets {
		if boundTo(&d.Secrets[i]) == boundTo(&want) {
			return &d.Secrets[i]
		}
	}
	return nil
}

// HookURL returns where a notice is posted.
func (q *Queue) HookURL(n *Notice) (string, error) {
	return q.hook(n.Job.ID, n.Job.Properties.NotifyURL, n.hook)
}

// HookKey returns the key with which a notice is signed; nil if it is not.
func (q *Queue) HookKey(n *Notice) ([]byte, error) {
	if n.secret == nil {
		return nil, nil
	}
	l, err := q.login(n.Job.ID, n.secret)
	if err != nil {
		return nil, err
	}
	return bits.HookKey(l.Password)
}

// keptSecrets are the secrets that a job which has ended still needs: of one that completed itself
// the web hook may be still to be told.
func keptSecrets(d *store.Detail) []store.Secret {
	n := d.Notice
	if n == nil || n.Due == 0 || Channel(n.Told)&ToHook != 0 || d.Options == nil || d.Options.NotifyURL == nil {
		return nil
	}
	var kept []store.Secret
	for _, want := range []store.Secret{credentialRecord(hookName), {Kind: secretHook}} {
		if s := secretOf(d, want); s != nil {
			kept = append(kept, *s)
		}
	}
	return kept
}

func credentialName(s *store.Secret) (n bits.CredentialName, err error) {
	if n.Target, err = bits.ParseAuthTarget(s.Target); err == nil {
		n.Scheme, err = bits.ParseAuthScheme(s.Scheme)
	}
	return n, err
}

// credentialNames lists what credentials a job has.
func credentialNames(d *store.Detail) []bits.CredentialName {
	var names []bits.CredentialName
	for i := range d.Secrets {
		if d.Secrets[i].Kind == secretCredential {
			if n, err := credentialName(&d.Secrets[i]); err == nil {
				names = append(names, n)
			}
		}
	}
	slices.SortFunc(names, func(a, b bits.CredentialName) int {
		return int(a.Target)*16 + int(a.Scheme) - int(b.Target)*16 - int(b.Scheme)
	})
	return names
}

// editSecrets changes what only a job's owner may (client.md 1.4). f returns the code of success; facts are
// what the log tells besides.
func (q *Queue) editSecrets(c Caller, id bits.ID, what string, facts []any, f func(v *version, d *store.Detail) (bits.Code, error)) (bits.Code, error) {
	var code bits.Code
	_, err := q.change(c, id, func(t *tx, j *job, v *version) error {
		if c.UID != v.rec.UID {
			return denied("only the job's owner sets its %s", what)
		}
		if err := refused(v, bits.Decide(v.rec.State, bits.MethodSetProperty, v.facts()), "changed"); err != nil {
			return err
		}
		var err error
		d := v.detail()
		if code, err = f(v, &d); err != nil || code != bits.OK {
			return err
		}
		t.edit(j, func(_ *store.Job, to *store.Detail) {
			*to = d
			to.Changed = changed(to, t.now)
		})
		t.event(j, bits.EventModified, nil)
		t.audit(c, 0, j, "job's "+what+" changed", facts...)
		return nil
	})
	return code, err
}

// SetCredential gives a job a credential, in the place of one for the same target and scheme. A
// transfer that is under way goes on with what it has.
func (q *Queue) SetCredential(c Caller, id bits.ID, cred bits.Credential) error {
	if e := cred.Check(); e != nil {
		return e
	}
	var l login
	if cred.User != nil {
		l.User = *cred.User
	}
	if cred.Password != nil {
		l.Password = *cred.Password
	}
	plain, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = q.editSecrets(c, id, "credentials", []any{"target", cred.Target, "scheme", cred.Scheme, "done", "set"}, func(v *version, d *store.Detail) (bits.Code, error) {
		q.putSecret(v.rec.ID, d, credentialRecord(cred.CredentialName), plain)
		return bits.OK, nil
	})
	return err
}

func credentialRecord(n bits.CredentialName) store.Secret {
	return store.Secret{Kind: secretCredential, Target: n.Target.String(), Scheme: n.Scheme.String()}
}

// RemoveCredential takes a credential from a job. The code is S_FALSE if there was none.
func (q *Queue) RemoveCredential(c Caller, id bits.ID, n bits.CredentialName) (bits.Code, error) {
	return q.editSecrets(c, id, "credentials", []any{"target", n.Target, "scheme", n.Scheme, "done", "removed"}, func(_ *version, d *store.Detail) (bits.Code, error) {
		if !dropSecret(d, credentialRecord(n)) {
			return bits.False, nil
		}
		return bits.OK, nil
	})
}

// Credentials lists for which targets and schemes a job has credentials.
func (q *Queue) Credentials(c Caller, id bits.ID) ([]bits.CredentialName, error) {
	v, err := q.look(c, id)
	if err != nil {
		return nil, err
	}
	d := v.detail()
	return credentialNames(&d), nil
}

// look returns a job as it is now.
func (q *Queue) look(c Caller, id bits.ID) (*version, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	j := q.byID[id]
	if j == nil || !c.may(j.now.rec.UID) {
		return nil, noSuchJob(id.String())
	}
	return j.now, nil
}

// Headers returns a job's custom headers: to its owner only, and not once they are write-only.
func (q *Queue) Headers(c Caller, id bits.ID) ([]string, error) {
	v, err := q.look(c, id)
	if err != nil {
		return nil, err
	}
	d := v.detail()
	switch {
	case c.UID != v.rec.UID:
		return nil, denied("only the job's owner reads its custom headers")
	case d.Options != nil && d.Options.HeadersWriteOnly != nil && *d.Options.HeadersWriteOnly:
		return nil, denied("the job's custom headers are write-only")
	}
	return q.headers(id, &d)
}

// openly reports whether an older version of the service stored headers, or the web hook, of a job in
// clear.
func openly(d *store.Detail) (headers, hook bool) {
	if d == nil {
		return false, false
	}
	o := d.Options
	return len(d.Headers) > 0, o != nil && o.NotifyURL != nil && bits.RedactPath(*o.NotifyURL) != *o.NotifyURL
}

// sealOld seals the headers and the web hook of a job that an older version of the service stored in clear.
func (q *Queue) sealOld(r *store.Job) *store.Job {
	sealed, d := *r, *r.Detail
	headers, hook := openly(&d)
	if headers {
		q.setHeaders(r.ID, &d, d.Headers)
	}
	if hook {
		q.sealHook(r.ID, &d)
	}
	sealed.Detail = &d
	return &sealed
}
