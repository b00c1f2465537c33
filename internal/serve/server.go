// Package serve is `ebb serve`: it publishes files, and takes uploads by BITS, tus, the IETF's
// resumable uploads and PUT into one session store. It listens, finds out who asks, finds the
// group that a URL belongs to, chooses the protocol, keeps to the limits, and logs.
//
// It knows of the protocols only how to tell them apart.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/ebbtransfer/ebb/internal/api"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/peerdist/hashstore"
	"github.com/ebbtransfer/ebb/internal/peerdist/hosted"
	"github.com/ebbtransfer/ebb/internal/serve/access"
	"github.com/ebbtransfer/ebb/internal/serve/config"
	"github.com/ebbtransfer/ebb/internal/serve/files"
	"github.com/ebbtransfer/ebb/internal/serve/session"
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
	Certificate string   `json:"certificate,omitempty"` // its PEM file
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
	urls    []string         // where it is, without a slash at the end
	hashes  *hashstore.Store // of files that are described; nil if none are
	origin  *files.Origin    // the same
	hosted  *hosted.Server   // nil: there is none
	active  sync.WaitGroup   // requests under way
	drains  chan struct{}    // one for each fragment that is refused and read all the same
	life    context.Context  // ends when those that are under way are cut
	cut     context.CancelFunc

	groups     atomic.Pointer[table] // in service
	configured table                 // those of the configuration
	uploadDirs []string              // directories that take uploads, as they are without links

	changing sync.Mutex       // guards runTime, and is held while groups changes
	runTime  map[string]Group // those that were made at run time
}

// Run serves until ctx ends or a signal asks to stop.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	o.Log = slog.New(discreet{o.Log.Handler()})
	s := &server{Options: o, digests: files.NewDigests(), metrics: newMetrics(), drains: make(chan struct{}, mostDrains)}
	s.life, s.cut = context.WithCancel(context.Background())
	defer s.cut()
	var err error
	if s.access, err = access.New(o.Users, o.Tokens, o.TLS.ClientCA != ""); err != nil {
		return err
	}
	// The sockets come first: where the server listens gives its state a place.
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
	started := Started{Socket: s.Socket}
	tlsConfig, err := s.tlsConfig(listeners, &started)
	if err != nil {
		return err
	}
	others, err := s.listenOthers(ctx)
	if err != nil {
		return err
	}
	defer closeAll(others)
	if err := s.openBranchCache(); err != nil {
		return err
	}
	if s.hashes != nil {
		defer s.hashes.Close()
	}
	if err := s.openHosted(listeners); err != nil {
		return err
	}
	if s.hosted != nil {
		defer s.hosted.Close()
	}
	if err := s.open(); err != nil {
		return err
	}

	server, admin, metrics := s.httpServer(s), s.httpServer(s.adminHandler()), s.httpServer(s.metrics.handler())
	server.TLSConfig = tlsConfig
	admin.ConnContext = api.WithCaller
	served := make(chan error, len(listeners)+len(others))
	for _, l := range listeners {
		started.URLs = append(started.URLs, l.url())
		go func() { served <- l.serve(server) }()
	}
	s.urls = started.URLs
	for i, l := range others {
		go func() { served <- l.serve([]*http.Server{admin, metrics}[i]) }()
	}
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	background.Go(func() { s.keepClean(ctx) })
	s.warn(listeners)
	s.warnBranchCache(listeners)
	s.warnLeftUploads()
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)
	s.Log.Info("server started", "version", o.Version, "urls", started.URLs, "socket", s.Socket, "state", s.State)
	if o.Started != nil {
		o.Started(started)
	}

	select {
	case <-ctx.Done():
	case err = <-served:
	}
	_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
	cancel()
	background.Wait() // before the stores are closed
	_ = admin.Close()
	_ = metrics.Close()
	s.stop(server)
	s.Log.Info("server stopped")
	return err
}

// stop lets requests end, or cuts them, and closes the groups.
func (s *server) stop(server *http.Server) {
	ctx, done := context.WithTimeout(context.Background(), stopPatience)
	defer done()
	if err := server.Shutdown(ctx); err != nil {
		s.Log.Info("requests that take too long are cut")
		_ = server.Close()
	}
	s.cut()
	ended := make(chan struct{})
	go func() {
		s.active.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		s.close()
	case <-time.After(cutPatience): // what is durable is so without that
		s.Log.Warn("requests that were cut do not end; they are left")
	}
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

// warnLeftUploads tells of what is left of uploads where none are taken any more. Nothing opens or
// removes it, and it is not ours to delete: the group may take uploads again.
func (s *server) warnLeftUploads() {
	for _, g := range *s.groups.Load() {
		if g.Dir == "" {
			continue
		}
		dir, err := resolve(g.Dir)
		if err != nil || slices.Contains(s.uploadDirs, dir) {
			continue
		}
		left := filepath.Join(dir, session.Hidden)
		entries, err := os.ReadDir(left)
		if err == nil && slices.ContainsFunc(entries, func(e os.DirEntry) bool { return session.ValidID(e.Name()) }) {
			s.Log.Warn("unfinished uploads are left where none are taken; let the group take uploads, or delete the directory unless another server uses it",
				"group", g.Path, "directory", left)
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
	unlock, err := localfile.Lock(filepath.Join(s.State, "lock"))
	if errors.Is(err, localfile.ErrLocked) {
		err = fmt.Errorf("another server uses the state directory %s; give --state", s.State)
	}
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
	if err := s.findUploads(); err != nil {
		return err
	}
	for _, c := range s.Groups {
		g, err := s.newGroup(c)
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
