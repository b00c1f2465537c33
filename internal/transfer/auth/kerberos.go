package auth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/spnego"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/ebbtransfer/ebb/bits"
)

const (
	// ticketTime is how long a service's ticket is used before another one is asked for: its own
	// life is longer, but the owner's tickets may have changed.
	ticketTime = 5 * time.Minute
	kdcTime    = 30 * time.Second // in which the KDC has to answer
	maxCache   = 1 << 20          // bytes of a credential cache
)

// Tickets are the Kerberos tickets of a job's owner.
type Tickets struct {
	// UID is the owner's.
	UID uint32
	// Read reads a file with the owner's rights.
	Read func(name string, most int64) ([]byte, error)

	// Allow reports whether the owner's own identity may be shown to a server or a proxy; nil is yes.
	Allow func(u *url.URL) bool

	mu   sync.Mutex
	have map[string]*ticket // guarded by mu, by user and service
}

func (t *Tickets) may(u *url.URL) bool { return t == nil || t.Allow == nil || t.Allow(u) }

// ticket is one for a service.
type ticket struct {
	client  *client.Client // without what it needs to ask for more
	ticket  messages.Ticket
	key     types.EncryptionKey
	expires time.Time
}

// token returns the first message of Negotiate with a fresh proof for the service HTTP on a host.
func (t *Tickets) token(ctx context.Context, c *Credential, host string) ([]byte, error) {
	if t == nil {
		return nil, errors.New("the owner's tickets are not known")
	}
	name := c.User + "\x00" + strings.ToLower(host)
	t.mu.Lock()
	have := t.have[name]
	t.mu.Unlock()
	if have == nil || time.Now().After(have.expires) {
		var err error
		if have, err = t.fetch(ctx, c, host); err != nil {
			return nil, err
		}
		t.mu.Lock()
		if t.have == nil {
			t.have = map[string]*ticket{}
		}
		t.have[name] = have
		t.mu.Unlock()
	}
	init, err := spnego.NewNegTokenInitKRB5(have.client, have.ticket, have.key)
	if err != nil {
		return nil, err
	}
	token := spnego.SPNEGOToken{Init: true, NegTokenInit: init}
	return token.Marshal()
}

// fetch gets a ticket for the service from the KDC. It does not wait for one that does not answer
// after ctx ended.
func (t *Tickets) fetch(ctx context.Context, c *Credential, host string) (*ticket, error) {
	type result struct {
		t   *ticket
		err error
	}
	ctx, cancel := context.WithTimeoutCause(ctx, kdcTime, errors.New("the KDC does not answer"))
	defer cancel()
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if recover() != nil { // the library is not meant for caches and answers that make no sense
				r = result{err: errors.New("the credential cache, or the KDC's answer, makes no sense")}
			}
			done <- r
		}()
		r.t, r.err = t.ask(c, host)
	}()
	select {
	case r := <-done:
		return r.t, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (t *Tickets) ask(c *Credential, host string) (*ticket, error) {
	conf, err := loadConfig()
	if err != nil {
		return nil, err
	}
	var cl *client.Client
	if c.own() {
		cl, err = t.fromCache(conf)
	} else {
		cl, err = withPassword(c, conf)
	}
	if err != nil {
		return nil, err
	}
	defer cl.Destroy() // it would renew its tickets for ever
	who := *cl.Credentials
	tkt, key, err := cl.GetServiceTicket("HTTP/" + strings.ToLower(host))
	if err != nil {
		return nil, fmt.Errorf("no ticket for HTTP/%s: %w", strings.ToLower(host), firstLine(err))
	}
	return &ticket{client: &client.Client{Credentials: &who}, ticket: tkt, key: key, expires: time.Now().Add(ticketTime)}, nil
}

// firstLine cuts the library's errors, which go on and on.
func firstLine(err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	if r := []rune(text); len(r) > 200 {
		text = string(r[:200]) + "…"
	}
	return errors.New(text)
}

// withPassword identifies by a user and a password, if the machine knows the user's realm.
func withPassword(c *Credential, conf *config.Config) (*client.Client, error) {
	user, realm, ok := strings.Cut(c.User, "@")
	if domain, name, windows := strings.Cut(c.User, `\`); windows {
		user, realm, ok = name, domain, true
	}
	if !ok {
		realm = conf.LibDefaults.DefaultRealm
	}
	realm = strings.ToUpper(realm)
	for _, r := range conf.Realms {
		if r.Realm == realm {
			cl := client.NewWithPassword(user, realm, c.Password, conf, client.DisablePAFXFAST(true))
			if err := cl.Login(); err != nil {
				cl.Destroy()
				return nil, firstLine(err)
			}
			return cl, nil
		}
	}
	return nil, errors.New("the machine knows no such realm")
}

// fromCache identifies by the owner's tickets.
func (t *Tickets) fromCache(conf *config.Config) (*client.Client, error) {
	name, err := t.cacheName()
	if err != nil {
		return nil, err
	}
	data, err := t.Read(name, maxCache)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("there are no tickets in %s; get some with kinit", name)
		}
		return nil, err
	}
	var cache credentials.CCache
	if err := cache.Unmarshal(data); err != nil {
		return nil, fmt.Errorf("the tickets in %s cannot be used: %w", name, firstLine(err))
	}
	cl, err := client.NewFromCCache(&cache, conf, client.DisablePAFXFAST(true))
	if err != nil {
		return nil, fmt.Errorf("the tickets in %s cannot be used: %w", name, firstLine(err))
	}
	for _, e := range cache.GetEntries() {
		if e.Server.PrincipalName.NameString[0] == "krbtgt" && time.Now().After(e.EndTime) {
			return nil, fmt.Errorf("the tickets in %s have expired; get new ones with kinit", name)
		}
	}
	return cl, nil
}

// loadConfig reads the machine's krb5.conf.
func loadConfig() (*config.Config, error) {
	conf, err := config.Load(configName())
	var unsupported config.UnsupportedDirective
	if err != nil && !errors.As(err, &unsupported) { // such as v4_name_convert, which is of no use here
		return nil, fmt.Errorf("the machine is not set up for Kerberos: %w", firstLine(err))
	}
	return conf, nil
}

func configName() string {
	if name, _, _ := strings.Cut(os.Getenv("KRB5_CONFIG"), ":"); name != "" {
		return name
	}
	return "/etc/krb5.conf"
}

// cacheName returns the file with the owner's tickets: that of the environment if the owner runs
// the service himself, else that of krb5.conf, else the usual one.
func (t *Tickets) cacheName() (string, error) {
	name := ""
	if t.UID == uint32(os.Getuid()) { //nolint:gosec // uids have 32 bits
		name = os.Getenv("KRB5CCNAME")
	}
	if name == "" {
		name = defaultCache()
	}
	if name == "" {
		name = "FILE:/tmp/krb5cc_%{uid}"
	}
	uid := strconv.FormatUint(uint64(t.UID), 10)
	name = strings.NewReplacer("%{uid}", uid, "%{euid}", uid, "%{USERID}", uid, "%{TEMP}", os.TempDir()).Replace(name)
	kind, rest, ok := strings.Cut(name, ":")
	switch {
	case filepath.IsAbs(name):
		return name, nil
	case ok && kind == "FILE" && filepath.IsAbs(rest):
		return rest, nil
	case ok && kind == "DIR" && strings.HasPrefix(rest, ":/"):
		return rest[1:], nil
	case ok && kind == "DIR" && filepath.IsAbs(rest):
		primary, err := t.Read(filepath.Join(rest, "primary"), 4096)
		if err != nil {
			return filepath.Join(rest, "tkt"), nil
		}
		file := strings.TrimSpace(string(primary))
		if file == "" || strings.ContainsAny(file, "/\x00") {
			return "", fmt.Errorf("%s/primary names no file", rest)
		}
		return filepath.Join(rest, file), nil
	}
	return "", fmt.Errorf("tickets of the kind %s cannot be read; keep them in a file (KRB5CCNAME=FILE:...)", kind)
}

// defaultCache is what krb5.conf says, which the library does not read.
func defaultCache() string {
	data, err := os.ReadFile(configName())
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(name) == "default_ccache_name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Implicit returns the credential that stands for the owner's own identity where a job was given
// none but may use it (use_stored_credentials).
func Implicit(t bits.AuthTarget) Credential {
	return Credential{Target: t, Scheme: bits.AuthNegotiate, Stored: true}
}
