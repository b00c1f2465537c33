// Package serve is `ebb serve`: it publishes files, and takes uploads by BITS, tus, the IETF's
// resumable uploads and PUT into one session store. It listens, finds out who asks, finds the
// group that a URL belongs to, chooses the protocol, keeps to the limits, and logs.
//
// It knows of the protocols only how to tell them apart.
package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/ebbtransfer/ebb/internal/serve/access"
	"github.com/ebbtransfer/ebb/internal/serve/certs"
	"github.com/ebbtransfer/ebb/internal/serve/config"
	"github.com/ebbtransfer/ebb/internal/serve/files"
)

// Options say how a server runs.
type Options struct {
	config.Config
	State   string // directory for what is kept from one start to the next; made when it is needed
	Socket  string // path of the admin API's socket; empty: AdminSocket of the first address
	Version string
	Log     *slog.Logger
	// Started is called once the server answers.
	Started func(Started)
}

// Started is what is worth knowing of a server that answers.
type Started struct {
	URLs        []string `json:"urls"` // without a slash at the end
	Socket      string   `json:"socket"`
	Fingerprint string   `json:"fingerprint,omitempty"` // SHA-256 of a self-signed certificate
}

const (
	// headerPatience is how long a client may take for a request's header, and maxHeader how
	// large that may be: a list of ranges can be long.
	headerPatience = 30 * time.Second
	maxHeader      = 64 << 10
	// idlePatience is how long a connection waits for its next request: a background upload
	// that gives way has long pauses between its fragments.
	idlePatience = 5 * time.Minute
	// stopPatience is how long requests under way may take to end at a stop. Then they are cut;
	// uploads keep what they have.
	stopPatience = 3 * time.Second
)

// server is a server that runs.
type server struct {
	Options
	access  *access.List
	digests *files.Digests
	groups  atomic.Pointer[table]
	active  sync.WaitGroup // requests under way
}

// Run serves until ctx ends or a signal asks to stop.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	s := &server{Options: o, digests: files.NewDigests()}
	var err error
	if s.access, err = access.New(o.Users, o.Tokens, o.TLS.ClientCA != ""); err != nil {
		return err
	}
	var groups []*group
	defer func() {
		for _, g := range groups {
			if err := g.close(); err != nil {
				s.Log.Warn("a group could not be closed", "group", g.Path, "err", err)
			}
		}
	}()
	for _, c := range o.Groups {
		g, err := newGroup(c, s.digests, s.Log)
		if err != nil {
			return err
		}
		groups = append(groups, g)
	}
	t := newTable(groups...)
	s.groups.Store(&t)

	listeners, err := s.listen(ctx)
	if err != nil {
		return err
	}
	started := Started{}
	tlsConfig, fingerprint, err := s.tlsConfig(listeners)
	if err != nil {
		closeAll(listeners)
		return err
	}
	started.Fingerprint = fingerprint
	server := &http.Server{
		Handler:           s,
		TLSConfig:         tlsConfig,
		ReadHeaderTimeout: headerPatience,
		MaxHeaderBytes:    maxHeader,
		IdleTimeout:       idlePatience,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // what clients do wrong
	}
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		started.URLs = append(started.URLs, l.url())
		go func() {
			if l.tls {
				served <- server.ServeTLS(l, "", "")
			} else {
				served <- server.Serve(l)
			}
		}()
	}
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)
	s.Log.Info("server started", "version", o.Version, "urls", started.URLs)
	if o.Started != nil {
		o.Started(started)
	}

	select {
	case <-ctx.Done():
	case err = <-served:
	}
	cancel()
	_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
	last, done := context.WithTimeout(context.Background(), stopPatience)
	defer done()
	if serr := server.Shutdown(last); serr != nil {
		s.Log.Info("requests that take too long are cut")
		_ = server.Close()
	}
	s.active.Wait() // with their connections gone they end soon; then the stores can be closed
	s.Log.Info("server stopped")
	return err
}

// tlsConfig returns how TLS is spoken, nil if it is not; and the fingerprint of a certificate
// that is self-signed.
func (s *server) tlsConfig(listeners []listener) (*tls.Config, string, error) {
	var hosts []string
	wanted := false
	for _, l := range listeners {
		if l.tls {
			wanted = true
			hosts = append(hosts, l.host())
		}
	}
	if !wanted {
		return nil, "", nil
	}
	o := s.TLS
	if !o.On() {
		return nil, "", errors.New("HTTPS needs a certificate: give --tls-cert and --tls-key, or --self-signed")
	}
	fingerprint := ""
	if o.SelfSigned {
		name, err := os.Hostname()
		if err == nil {
			hosts = append(hosts, name)
		}
		if o.Cert, o.Key, err = certs.SelfSigned(s.State, append(hosts, "localhost", "127.0.0.1", "::1")); err != nil {
			return nil, "", err
		}
	}
	pair, err := certs.Open(o.Cert, o.Key, s.Log)
	if err != nil {
		return nil, "", err
	}
	if o.SelfSigned {
		c, err := pair.Certificate(nil)
		if err != nil {
			return nil, "", err
		}
		fingerprint = certs.Fingerprint(c.Certificate[0])
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.Certificate, NextProtos: []string{"h2", "http/1.1"}}
	if o.ClientCA != "" {
		pem, err := os.ReadFile(o.ClientCA)
		if err != nil {
			return nil, "", err
		}
		t.ClientCAs = x509.NewCertPool()
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, "", fmt.Errorf("there is no certificate in %s", o.ClientCA)
		}
		t.ClientAuth = tls.VerifyClientCertIfGiven
		if o.ClientRequired {
			t.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return t, fingerprint, nil
}

// listener is a socket that clients connect to.
type listener struct {
	net.Listener
	tls bool
}

func closeAll(list []listener) {
	for _, l := range list {
		_ = l.Close()
	}
}

// host is the name by which clients on other machines reach the listener.
func (l listener) host() string {
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return "localhost"
	}
	if !a.IP.IsUnspecified() {
		return a.IP.String()
	}
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "localhost"
}

func (l listener) url() string {
	scheme := "http"
	if l.tls {
		scheme = "https"
	}
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return scheme + "+unix://" + l.Addr().String()
	}
	return scheme + "://" + net.JoinHostPort(l.host(), fmt.Sprint(a.Port))
}
