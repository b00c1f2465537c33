// Package daemon wires the rooms into a running service: it takes the lock, opens the store,
// listens, serves, reloads, and stops in the order that loses nothing. It decides nothing
// about jobs.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/api"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/notify"
	"github.com/ebbtransfer/ebb/internal/peers"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/queue"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer"
	"github.com/ebbtransfer/ebb/internal/transfer/auto"
	"github.com/ebbtransfer/ebb/internal/transfer/bup"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
	"github.com/ebbtransfer/ebb/internal/transfer/ietf"
	"github.com/ebbtransfer/ebb/internal/transfer/put"
	"github.com/ebbtransfer/ebb/internal/transfer/s3"
	"github.com/ebbtransfer/ebb/internal/transfer/tus"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// Config says how a service runs.
type Config struct {
	State    string        // directory of the job store
	Socket   string        // path of the API's socket; unused if systemd hands one over
	Policy   string        // configuration file; empty: the one that policy.Find finds
	Metrics  string        // address for Prometheus to read from; empty: none
	System   bool          // serve all users: everything is done with the rights of a job's owner
	IdleExit time.Duration // end after so long without work and without a client; 0: never
	Version  string
	Log      *slog.Logger
}

// ErrLocked means that another service uses the state directory.
var ErrLocked = errors.New("another ebb service uses the directory")

const (
	// backupDelay keeps the backup that is made at start-up out of the way of the start itself.
	backupDelay = 5 * time.Second
	// pruneEvery is how often old events are forgotten.
	pruneEvery = 6 * time.Hour
)

// Lock takes the lock of a state directory, so that one service at a time uses it. The error is
// ErrLocked if another one does.
func Lock(state string) (unlock func(), err error) {
	unlock, err = localfile.Lock(filepath.Join(state, "lock"))
	if errors.Is(err, localfile.ErrLocked) {
		err = ErrLocked
	}
	return unlock, err
}

type service struct {
	Config
	queue    *queue.Queue
	engine   *transfer.Engine
	policy   *policy.File
	governor *governor.Governor
	notifier *notify.Notifier
	peers    *peers.Node
	conns    *httpconn.Client
	started  time.Time
	notices  []string
	requests atomic.Int64 // under way
	lastUsed atomic.Int64 // Unix nanoseconds of the end of the last request
	quiet    *time.Timer  // set anew by each request
}

// Run runs a service until ctx ends, a signal asks it to stop, or it was idle for long enough.
func Run(ctx context.Context, c Config) (err error) {
	starting := true
	defer func() {
		if starting && err != nil {
			c.Log.Error("the service cannot start", audit.Event(audit.StartFailed), "err", err)
		}
	}()
	debug.SetGCPercent(-1) // what is loaded stays: looking for garbage in it would only hold up the start
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	s := &service{Config: c, started: time.Now(), quiet: time.NewTimer(quietAfter)}
	if c.System {
		if err := keepRights(); err != nil {
			return fmt.Errorf("a service for all users must be able to act as them: %w", err)
		}
		// With all that one user may have done at a time under way, a thread is left that waits for
		// the requests of others: who comes next is then a matter of the system, which is quick and
		// fair, and not of goroutines that take turns of 10 ms.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + api.BusyPerUser)
	}
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return err
	}
	if err := checkPrivate(c.State); err != nil {
		return err
	}
	unlock, err := Lock(c.State)
	if err != nil {
		return fmt.Errorf("%w %s", err, c.State)
	}
	defer unlock()
	if s.policy, err = policy.Open(c.Policy, s.setPolicy); err != nil {
		return fmt.Errorf("the configuration has errors, of which `ebb policy check` tells all: %w", err)
	}
	listener, err := s.listen(ctx)
	if err != nil {
		return err
	}
	if c.System {
		if listener, err = api.LimitPeers(listener, preferThread); err != nil {
			return fmt.Errorf("a service for all users listens on a Unix socket: %w", err)
		}
	}
	defer listener.Close()
	var scraped net.Listener
	if c.Metrics != "" {
		if scraped, err = s.listenMetrics(); err != nil {
			return err
		}
		defer scraped.Close()
	}
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	states := make(chan conditions.State)
	background.Go(func() {
		conditions.Watch(ctx, func(c conditions.State) {
			select {
			case states <- c:
			case <-ctx.Done():
			}
		})
	})
	if err := s.open(s.policy.Policy(), s.firstState(states)); err != nil {
		return err
	}
	starting = false
	s.notifier = notify.New(notify.Config{Queue: s.queue, System: s.System, Socket: listener.Addr().String(), Log: c.Log})
	paceCollector()
	// What loading left behind goes back to the system.
	background.Go(debug.FreeOSMemory)
	background.Go(func() { s.rest(ctx) })
	background.Go(func() { s.watchNetwork(ctx) })
	background.Go(func() { s.watchConditions(ctx, states) })
	background.Go(func() {
		s.watch(ctx, "clock changes", func() error { return conditions.WatchClock(ctx, s.queue.ClockSet) })
	})
	background.Go(func() { s.keepHouse(ctx) })
	background.Go(func() { s.watchdog(ctx) })
	background.Go(func() { s.notifier.Run(ctx) })
	background.Go(func() { s.reload(ctx) })
	background.Go(func() {
		s.watch(ctx, "changes of the configuration", func() error { return s.policy.Watch(ctx, s.reloaded) })
	})
	if c.IdleExit > 0 {
		background.Go(func() { s.exitWhenIdle(ctx, cancel) })
	}

	if scraped != nil {
		background.Go(func() {
			s.serveMetrics(scraped, api.Metrics(s.queue, s.governor, s.notifier, s.peers, s.describe))
		})
		c.Log.Info("metrics for Prometheus are served", "url", "http://"+scraped.Addr().String()+"/metrics")
	}
	handler := api.New(s.queue, s.governor, s.policy, s.notifier, s.peers, s.describe)
	if c.System {
		handler = api.EveryUser(api.FairShare(handler))
	} else {
		handler = api.OwnUserOnly(handler)
	}
	server := &http.Server{
		Handler:           s.count(handler),
		ConnContext:       api.WithCaller,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       3 * time.Minute, // more than that of the Go client
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelError),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)
	c.Log.Info("service started", "version", c.Version, "state", c.State, "socket", listener.Addr().String(), "took", time.Since(s.started).Round(time.Millisecond))

	select {
	case <-ctx.Done():
		err = nil
	case err = <-served:
	case <-s.queue.Broken():
		err = store.ErrBroken
	}
	cancel()
	_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
	// Stop accepting, stop transfers (which record how far they are), close the store; only
	// then drop the clients, so that those that were answered have their answers.
	_ = listener.Close()
	if scraped != nil {
		_ = scraped.Close()
	}
	err = errors.Join(err, s.queue.Close())
	s.peers.Close()
	if err := s.governor.Close(); err != nil {
		c.Log.Warn("what was learned of the network could not be kept", "err", err)
	}
	_ = server.Close()
	background.Wait()
	c.Log.Info("service stopped")
	return err
}

// listen returns systemd's socket if it handed one over, else makes one.
func (s *service) listen(ctx context.Context) (net.Listener, error) {
	given, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	for _, l := range given {
		if l != nil {
			return l, nil
		}
	}
	dirMode, umask := os.FileMode(0o700), 0o177 // the socket is its owner's alone
	if s.System {
		dirMode, umask = 0o755, 0o111
	}
	if err := os.MkdirAll(filepath.Dir(s.Socket), dirMode); err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", s.Socket, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("another service listens on %s", s.Socket)
	}
	if st, err := os.Lstat(s.Socket); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s exists and is not a socket", s.Socket)
		}
		if err := os.Remove(s.Socket); err != nil { // left by a service that was killed
			return nil, err
		}
	}
	restore := setUmask(umask)
	defer restore()
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", s.Socket)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.Socket, err)
	}
	return l, nil
}

// open opens the store and the queue; a store that cannot be used is set aside.
func (s *service) open(p policy.Policy, c conditions.State) error {
	s.governor = governor.New(filepath.Join(s.State, "paths.json"), s.Log)
	s.conns = httpconn.New("Ebb/"+s.Version, s.governor)
	s.peers = peers.Open(filepath.Join(s.State, "peers"), s.Log)
	s.peers.SetConditions(c)
	s.startPeers(p.Peers)
	s.engine = transfer.NewEngine(httpget.New(s.conns), time.Duration(p.Transfer.StallTimeout), uploaders(s.conns))
	s.engine.UsePeers(s.peers, s.governor)
	try := func() error {
		st, err := store.Open(s.State, s.storeTrouble)
		if err != nil {
			return err
		}
		s.queue, err = queue.Open(st, s.engine, s.governor, p, c, s.owner, s.Log)
		if err != nil {
			st.Close()
		}
		return err
	}
	err := try()
	if errors.Is(err, store.ErrUnusable) {
		aside, serr := store.SetAside(s.State, time.Now())
		if serr != nil {
			return errors.Join(err, serr)
		}
		s.Log.Error("the job store cannot be used and was set aside; the queue is empty", audit.Event(audit.StoreUnusable), "err", err, "aside", aside)
		err = try()
	}
	for _, aside := range store.Aside(s.State) {
		s.notices = append(s.notices, fmt.Sprintf("the job store could not be used and was set aside as %s; `ebb daemon restore` brings back the last backup, or with --from that store if a newer version made it; move the file away to end this notice", aside))
	}
	return err
}

// owner tells with whose rights the files of a user's jobs are used.
func (s *service) owner(uid uint32) localfile.Owner {
	if s.System {
		return localfile.User(uid)
	}
	return localfile.Owner{}
}

// uploaders are the protocols that uploads can have.
func uploaders(c *httpconn.Client) map[upload.Protocol]upload.Uploader {
	b := bup.New(c)
	known := map[upload.Protocol]upload.Uploader{
		upload.BITS: b,
		upload.IETF: ietf.New(c),
		upload.Put:  put.New(c),
		upload.S3:   s3.New(c),
		upload.Tus:  tus.New(c),
	}
	known[upload.Auto] = auto.New(c, b, known)
	return known
}

// storeTrouble says that SQLite takes no changes, most likely because the disk is full.
func (s *service) storeTrouble(err error) {
	s.Log.Error("the job store cannot be written; changes are kept in its journal as long as there is room", "err", err)
}

// watchNetwork tells the queue when the network changes, and drops connections that it left
// behind.
func (s *service) watchNetwork(ctx context.Context) {
	online, again := conditions.Online(), false
	changed := func() {
		s.conns.NetworkChanged()
		s.conns.DropConns(func(a netip.Addr) bool { return !conditions.AddrAlive(a) })
		was := online
		online = conditions.Online()
		s.queue.NetworkChanged(online && !was)
		s.peers.NetworkChanged()
	}
	s.watch(ctx, "network changes", func() error {
		if again {
			changed() // what happened meanwhile was not seen
		}
		again = true
		return conditions.WatchNetwork(ctx, changed)
	})
}

// watch runs a watch until ctx ends, again and again if it cannot watch.
func (s *service) watch(ctx context.Context, what string, run func() error) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := run()
		if ctx.Err() != nil {
			return
		}
		s.Log.Warn(what+" are not seen; trying again", "err", err, "in", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// statePatience is how long a start waits for what the system's services say about the network
// and the power, so that no job begins that they would hold back. A person waits for the user's own
// service; for that of all users, which starts with the machine, a busy bus is worth waiting for: who is not
// known to be away may transfer.
const (
	statePatience       = 2 * time.Second
	systemStatePatience = 20 * time.Second
)

// firstState returns what the machine says, or nothing if that takes too long.
func (s *service) firstState(states <-chan conditions.State) conditions.State {
	patience := statePatience
	if s.System {
		patience = systemStatePatience
	}
	select {
	case c := <-states:
		return c
	case <-time.After(patience):
		return conditions.State{}
	}
}

// watchConditions tells the queue what the network costs and how the machine is powered.
func (s *service) watchConditions(ctx context.Context, states <-chan conditions.State) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-states:
			s.Log.Debug("conditions", "cost", c.Cost, "source", c.CostSource, "interface", c.Interface, "on_battery", c.OnBattery, "power_saver", c.PowerSaver)
			s.queue.SetConditions(c)
			s.peers.SetConditions(c)
		}
	}
}

// keepHouse makes the backup, and forgets old events and old segments of peers now and then.
func (s *service) keepHouse(ctx context.Context) {
	timer := time.NewTimer(backupDelay)
	defer timer.Stop()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.queue.Crowded():
		}
		if first {
			if err := s.queue.Backup(ctx); err != nil {
				s.Log.Warn("the job store could not be backed up", "err", err)
			}
		}
		if err := s.queue.Prune(time.Now()); err != nil {
			s.Log.Warn("old events could not be removed", "err", err)
		}
		if c := s.peers.Cache(); c != nil && !first { // it was cleaned when it was opened
			if err := c.Clean(); err != nil {
				s.Log.Warn("the cache of peers could not be cleaned", "err", err)
			}
		}
		timer.Reset(pruneEvery)
	}
}

// watchdog tells systemd that the queue answers, twice in each period of the unit's WatchdogSec. Without
// one it does nothing.
func (s *service) watchdog(ctx context.Context) {
	period, err := sd.SdWatchdogEnabled(false)
	if err != nil || period == 0 {
		return
	}
	tick := time.NewTicker(period / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_ = s.queue.Conditions() // once the queue's lock can be had
		_, _ = sd.SdNotify(false, sd.SdNotifyWatchdog)
	}
}

// setPolicy puts a new policy in force.
func (s *service) setPolicy(p policy.Policy) {
	s.engine.SetStall(time.Duration(p.Transfer.StallTimeout))
	s.queue.SetPolicy(p)
	s.applyPeers(p.Peers)
}

// reload reads the configuration again on SIGHUP. A file with an error changes nothing.
func (s *service) reload(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		s.reloaded(s.policy.Reload())
	}
}

// reloaded tells that the configuration was read again, or why it was not.
func (s *service) reloaded(err error) {
	if err == nil {
		s.Log.Info("configuration reloaded", "file", s.policy.Describe().File)
		return
	}
	for _, p := range s.policy.Problems() {
		s.Log.Error("the configuration was not reloaded", audit.Event(audit.PolicyProblem), "err", p.String())
	}
}

// exitWhenIdle ends the service once there was neither work nor a client for long enough.
func (s *service) exitWhenIdle(ctx context.Context, end func()) {
	s.lastUsed.Store(time.Now().UnixNano())
	timer := time.NewTimer(s.IdleExit)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		unused := time.Since(time.Unix(0, s.lastUsed.Load()))
		if unused >= s.IdleExit && s.requests.Load() == 0 && !s.queue.IsBusy() && !s.notifier.IsBusy() {
			s.Log.Info("nothing to do; the service ends")
			end()
			return
		}
		timer.Reset(max(s.IdleExit-unused, s.IdleExit/10, time.Second))
	}
}

// count notes that the service is in use.
func (s *service) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		defer func() {
			s.lastUsed.Store(time.Now().UnixNano())
			s.requests.Add(-1)
			s.quiet.Reset(quietAfter)
		}()
		next.ServeHTTP(w, r)
	})
}

// describe tells a caller about the service. One of many users is told of the own jobs only, and not
// what is in the directories that are none of theirs.
func (s *service) describe(c queue.Caller) bits.Service {
	out := bits.Service{Version: s.Version, PID: os.Getpid(), Started: s.started.UTC(), Jobs: s.queue.Counts(c), Conditions: s.conditions()}
	if !c.Admin() {
		return out
	}
	out.State = s.State
	notices := slices.Clone(s.notices)
	if p := s.policy.Problems(); len(p) > 0 {
		notices = append(notices, fmt.Sprintf("the configuration has errors, and what was read before them is in effect: %v; `ebb policy check %s` tells all", p, s.policy.Describe().File))
	}
	out.Notices = notices
	return out
}

// conditions describes what the machine allows now.
func (s *service) conditions() bits.Conditions {
	c := s.queue.Conditions()
	c.Online = conditions.Online()
	if n, ok := conditions.BatteryPercent(); ok {
		c.Battery = &n
	}
	return c
}
