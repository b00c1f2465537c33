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
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/ebbtransfer/ebb/internal/api"
	"github.com/ebbtransfer/ebb/internal/serve/access"
	"github.com/ebbtransfer/ebb/internal/serve/certs"
	"github.com/ebbtransfer/ebb/internal/serve/config"
	"github.com/ebbtransfer/ebb/internal/serve/files"
)

// Options say how a server runs.
type Options struct {
	config.Config
	// State is the directory for what is kept from one start to the next, and Socket the admin
	// API's. Those that are empty are made from where the server listens: below StateHome, and in
	// Runtime.
	State, StateHome string
	Socket, Runtime  string
	Version          string
	Log              *slog.Logger
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
	// cutPatience is how long those that were cut may take to notice: one may be waiting for an
	// application's answer, or for a bucket's.
	cutPatience = 5 * time.Second
)

// server is a server that runs.
type server struct {
	Options
	access  *access.List
	digests *files.Digests
	metrics *metrics
	active  sync.WaitGroup // requests under way

	groups     atomic.Pointer[table] // in service
	configured table                 // those of the configuration

	changing sync.Mutex       // guards runTime, and is held while groups changes
	runTime  map[string]Group // those that were made at run time
}

// Run serves until ctx ends or a signal asks to stop.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	s := &server{Options: o, digests: files.NewDigests(), metrics: newMetrics()}
	var err error
	if s.access, err = access.New(o.Users, o.Tokens, o.TLS.ClientCA != ""); err != nil {
		return err
	}
	listeners, err := s.listen(ctx)
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	unlock, err := s.places(listeners[0])
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.open(); err != nil {
		return err
	}
	tlsConfig, fingerprint, err := s.tlsConfig(listeners)
	if err != nil {
		return err
	}
	admin, err := listenAdmin(ctx, s.Socket)
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close() }()
	others := []net.Listener{admin}
	if o.Metrics != "" {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", o.Metrics)
		if err != nil {
			return fmt.Errorf("listen for Prometheus on %s: %w", o.Metrics, err)
		}
		others = append(others, l)
	}

	server := s.httpServer(s)
	server.TLSConfig = tlsConfig
	served := make(chan error, len(listeners)+len(others))
	started := Started{Socket: s.Socket, Fingerprint: fingerprint}
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
	adminServer := s.httpServer(s.adminHandler())
	adminServer.ConnContext = api.WithCaller
	metricsMux := http.NewServeMux()
	metricsMux.Handle("GET /metrics", s.metrics.handler())
	metricsServer := s.httpServer(metricsMux)
	for i, l := range others {
		go func() { served <- []*http.Server{adminServer, metricsServer}[i].Serve(l) }()
	}
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	background.Go(func() { s.keepClean(ctx) })
	s.warn(listeners)
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)
	s.Log.Info("server started", "version", o.Version, "urls", started.URLs, "socket", s.Socket, "state", s.State)
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
	_ = adminServer.Close()
	_ = metricsServer.Close()
	ended := make(chan struct{})
	go func() {
		s.active.Wait()
		close(ended)
	}()
	select {
	case <-ended: // the stores can be closed
		s.close()
	case <-time.After(cutPatience): // what is durable is so without that
		s.Log.Warn("requests that were cut do not end; they are left")
	}
	s.Log.Info("server stopped")
	return err
}

// warn tells of what an operator may not want.
func (s *server) warn(listeners []listener) {
	if s.access.Empty() {
		return
	}
	for _, l := range listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok && !l.tls && !a.IP.IsLoopback() {
			s.Log.Warn("passwords and tokens can be read on the way to this address, as it is not HTTPS", "url", l.url())
		}
	}
}

// httpServer returns a server with the limits that all of them have.
func (s *server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerPatience,
		MaxHeaderBytes:    maxHeader,
		IdleTimeout:       idlePatience,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // what clients do wrong
	}
}

// places settles where the server keeps what it keeps. One that listens on a port that nobody
// chose is not meant to be found again: what it keeps goes with it.
func (s *server) places(first listener) (done func(), err error) {
	name := nameOf(first.Addr())
	if s.Socket == "" {
		s.Socket = filepath.Join(s.Runtime, socketName+name+".sock")
	}
	remove := func() {}
	switch {
	case s.State != "":
	case len(s.Listen) > 0 && strings.HasSuffix(s.Listen[0].Addr, ":0"):
		if s.State, err = os.MkdirTemp("", "ebb-serve-"); err != nil {
			return nil, err
		}
		remove = func() { _ = os.RemoveAll(s.State) }
	default:
		s.State = filepath.Join(s.StateHome, name)
	}
	if err := os.MkdirAll(s.State, 0o700); err != nil {
		return nil, err
	}
	unlock, err := lockState(s.State)
	if err != nil {
		remove()
		return nil, err
	}
	return func() {
		remove()
		unlock()
	}, nil
}

// open opens the groups.
func (s *server) open() (err error) {
	s.groups.Store(new(table))
	s.metrics.registry.MustRegister(s)
	defer func() {
		if err != nil {
			s.configured.closeBut(nil)
		}
	}()
	for _, c := range s.Groups {
		g, err := newGroup(c, s.digests, s.Log)
		if err != nil {
			return err
		}
		s.configured = append(s.configured, g)
	}
	if s.runTime, err = loadGroups(s.State); err != nil {
		return err
	}
	t, err := s.newTable(s.runTime)
	s.groups.Store(&t)
	return err
}

// close closes the groups.
func (s *server) close() {
	for _, g := range *s.groups.Load() {
		if err := g.close(); err != nil {
			s.Log.Warn("a group could not be closed", "group", g.Path, "err", err)
		}
	}
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
