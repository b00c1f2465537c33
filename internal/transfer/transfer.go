// Package transfer runs one job: its files in order, from where they stopped, each into its
// part file with durable checkpoints; or, of an upload, its file to the server and the reply back.
//
// It promises that a part file never holds bytes of two versions of a file, that no bytes of a
// file that changed under its upload are sent, that what it reports as done is durable, and that
// it ends soon after its context does. It reports news to
// a Sink and ends with an Outcome; it never touches a job's state and knows no other job.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/peers"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// Job is what a transfer must know of a job.
type Job struct {
	ID          bits.ID
	Owner       localfile.Owner // whose rights to files it has
	Type        bits.Type
	Connections int
	OnlyIfNewer bool // files are skipped that are here and as new as the server's
	Created     time.Time
	Identity    Identity // who asks, and how; zero if nothing is shared with other jobs
	Header      http.Header
	Access      httpconn.Settings
	Class       governor.Class
	Method      string          // of the job's own, empty for the usual one: nothing is gone on with, only whole answers count
	ACLFlags    bits.ACLFlags   // what copies of files get of the rights of their sources
	Files       []store.FileRow // those that are not done, in order; of an upload its one file

	// Of downloads only.
	Dynamic         bool  // the content is made as it is asked for: only whole answers count
	HighPerformance bool  // files are written straight into their places, and forgotten by a crash
	OnDemand        bool  // only what is wanted of the files is fetched
	NoPeers         bool  // nothing comes from peers or goes to them
	MaxSize         int64 // bytes that all files may have; 0: any number
	Before          int64 // bytes of the files that are done

	// Of uploads only.
	Protocol  upload.Protocol
	Reply     *store.File // of an upload-reply, nil before the reply's download began
	ReplyFile string      // path of the reply
}

// whole reports whether only whole answers count, which nothing can be joined to.
func (j *Job) whole() bool { return j.Dynamic || j.Method != "" }

// Path returns where the bytes of a file go until the job is completed.
func (j *Job) Path(local string, index int) string {
	if j.HighPerformance {
		return local
	}
	return PartName(local, j.ID, index)
}

// Sink takes the news of a transfer. Calls come from several goroutines and may block for as
// long as a commit takes; news of one file come in order.
type Sink interface {
	// Connected says that bytes flow.
	Connected()
	// File says that a file's record changed: it has begun, it passed a checkpoint, it is done.
	File(index int, f *store.File)
	// Save stores a file's record and returns once it is durable: so that bytes of another version,
	// which come next, are never taken for the old ones, and an upload that a server began is
	// never lost. A new note in the record becomes an event.
	Save(index int, f *store.File) error
}

// Outcome is how a transfer ended. Without Err all files are done.
type Outcome struct {
	Stopped    bool          // the context ended first
	Err        *bits.Error   // why it cannot go on; its code's class says what may help
	RetryAfter time.Duration // the least time to wait, if the server named one
	Passing    bool          // it may pass, whatever the code's class says
}

// Engine is what all transfers share.
type Engine struct {
	http      *httpget.Client
	uploaders map[upload.Protocol]upload.Uploader
	stall     atomic.Int64 // time.Duration
	health    health
	shares    shares
	node      *peers.Node // nil: nothing comes from peers
	gov       *governor.Governor
	proofs    proofs
	lonely    atomic.Int64 // Unix nanoseconds until which it is believed that no peer has anything
}

// NewEngine returns an Engine that uploads with the given protocols. A connection without a byte
// for the stall time is dropped.
func NewEngine(client *httpget.Client, stall time.Duration, uploaders map[upload.Protocol]upload.Uploader) *Engine {
	e := &Engine{http: client, uploaders: uploaders}
	e.SetStall(stall)
	return e
}

// SetStall changes the stall time, also of connections that are open.
func (e *Engine) SetStall(d time.Duration) { e.stall.Store(int64(d)) }

func (e *Engine) stallTime() time.Duration { return time.Duration(e.stall.Load()) }

// Live is the part of a transfer that changes all the time, for whoever shows progress.
type Live struct {
	mu      sync.Mutex
	active  map[int]*liveFile   // guarded by mu: the files that move now
	changed map[int]*store.File // guarded by mu: what the job's owner changed since the transfer began
	conn    *governor.Conn      // guarded by mu: the connection of the last request
	asking  httpconn.Waits      // the requests that wait for their servers
	moved   atomic.Int64        // bytes received in all
	since   time.Time           // guarded by mu: when the rate was last measured
	before  int64               // guarded by mu: moved at that time
	told    int                 // guarded by mu: records that the sink was given
	stored  int                 // guarded by mu: how many of them others can see
	left    []leftFile          // guarded by mu: that move no more, of which the last record is not stored
	rate    float64             // guarded by mu: bytes per second, smoothed
}

type liveFile struct {
	done atomic.Int64 // bytes in the part file or on their way to it
	size atomic.Int64 // -1 if unknown
	// answer is the header of the last answer; nil while none has come.
	answer atomic.Pointer[string]
	// peers and cached are how many of the bytes here came from peers, and from the cache of this machine.
	peers, cached atomic.Int64
	// fixed says that what is here would have to be thrown away if the transfer stopped.
	fixed atomic.Bool
	waits bits.ID     // guarded by Live.mu: the job that moves the same content; zero for none
	stop  func(error) // ends the present attempt; nil if it cannot be
	left  bool        // it moves no more; guarded by Live.mu
}

// leftFile is a file that moves no more.
type leftFile struct {
	index int
	file  *liveFile
	told  int // Live.told when it was left
}

// Fixed reports whether stopping the transfer now would throw away what is here of a file.
func (l *Live) Fixed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lf := range l.active {
		if !lf.left && lf.fixed.Load() && lf.done.Load() > 0 {
			return true
		}
	}
	return false
}

// Moving is a file that moves, in bytes.
type Moving struct {
	Done   int64 // in the part file or on their way to it
	Size   int64 // -1 if unknown
	Peers  int64 // of Done, what came from peers
	Cached int64 // and from the cache of this machine
}

// Files calls f with each file that moves now, or whose last record is not stored yet: there is no moment in
// which what has come is in neither.
func (l *Live) Files(f func(index int, m Moving)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, lf := range l.active {
		f(i, Moving{lf.done.Load(), lf.size.Load(), lf.peers.Load(), lf.cached.Load()})
	}
}

// Answer returns the header of the last answer that came for a file since it began to move; empty if
// none has, or if the file's record has it.
func (l *Live) Answer(index int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lf := l.active[index]; lf != nil {
		if text := lf.answer.Load(); text != nil {
			return *text
		}
	}
	return ""
}

// rateEvery is the least time over which a rate is measured.
const rateEvery = 250 * time.Millisecond

// Pace says how fast the transfer moves and why; nil before its first request.
func (l *Live) Pace() *bits.Pace {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if dt := now.Sub(l.since); dt >= rateEvery {
		moved := l.moved.Load()
		rate := float64(moved-l.before) / dt.Seconds()
		weight := min(1, dt.Seconds()) // a mean of about the last second
		l.rate += weight * (rate - l.rate)
		l.since, l.before = now, moved
	}
	if job, ok := l.waiting(); ok {
		return &bits.Pace{State: bits.PaceShared, Why: fmt.Sprintf("job %s fetches the same file; this one waits for it and takes its bytes", short(job))}
	}
	silence, silent := l.asking.Silence()
	silent = silent && now.Sub(silence.Since) >= silentAfter
	if l.conn == nil {
		if silent {
			return &bits.Pace{State: bits.PaceSilent, Why: silence.Tell(now)}
		}
		return nil
	}
	state, why := l.conn.Pace()
	if silent && state != bits.PaceYielding && state != bits.PaceCapped { // which let little come
		return &bits.Pace{State: bits.PaceSilent, Why: silence.Tell(now)}
	}
	return &bits.Pace{State: state, Why: why, Rate: int64(l.rate)}
}

// silentAfter is how long nothing comes before people are told so.
const silentAfter = 3 * time.Second

// Silence returns for what of its servers the transfer waits; ok is false if it moves.
func (l *Live) Silence() (s httpconn.Silence, ok bool) { return l.asking.Silence() }

// took notes the connection that a request goes over.
func (l *Live) took(c *governor.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = c
}

func (l *Live) begin(index int, f *store.File, stop func(error)) *liveFile {
	lf := &liveFile{stop: stop}
	lf.done.Store(f.Done)
	lf.size.Store(f.Size)
	if f.Part != nil {
		lf.peers.Store(f.Part.Peers)
		lf.cached.Store(f.Part.Cached)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active[index] = lf
	return lf
}

func (l *Live) end(index int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active[index].left = true
	l.left = append(l.left, leftFile{index, l.active[index], l.told})
	l.forget()
}

// Told says that the sink was given another record, which is to be stored later.
func (l *Live) Told() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told++
}

// Stored says that the next of these records is where others look for it.
func (l *Live) Stored() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored++
	l.forget()
}

// forget drops the files that were left and whose records are stored; l.mu is held.
func (l *Live) forget() {
	for len(l.left) > 0 && l.left[0].told <= l.stored {
		if f := l.left[0]; l.active[f.index] == f.file { // it may move again
			delete(l.active, f.index)
		}
		l.left = l.left[1:]
	}
}

// NewLive returns a Live for one transfer.
func NewLive() *Live { return &Live{active: map[int]*liveFile{}, since: time.Now()} }

// run is one transfer.
type run struct {
	*Engine
	job  Job
	sink Sink
	live *Live
	feed *feed
	once sync.Once // for sink.Connected
	// connections has an element for each file that may ask its server something or wait for the answer.
	connections chan struct{}

	budget budget
}

// budget holds the bytes of a job's files against the most that they may have.
type budget struct {
	most int64 // 0: any number

	mu  sync.Mutex
	sum int64         // guarded by mu: of all files that are done or move
	of  map[int]int64 // guarded by mu: what those that move have in it
}

// set says that a file has, or will have, n bytes.
func (b *budget) set(index int, n int64) error {
	if b.most <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = map[int]int64{}
	}
	b.sum += n - b.of[index]
	b.of[index] = n
	if b.sum <= b.most {
		return nil
	}
	return &bits.Error{Code: bits.MaxDownloadSizeReached, Context: bits.ContextRemoteFile,
		Message: fmt.Sprintf("the files of the job have %d bytes or more, and may have %d (maximum_download_size)", b.sum, b.most)}
}

func (e *Engine) newRun(job Job, sink Sink, live *Live) *run {
	return &run{Engine: e, job: job, sink: sink, live: live, feed: newFeed(len(job.Files)),
		connections: make(chan struct{}, max(job.Connections, 1)), budget: budget{most: job.MaxSize, sum: job.Before}}
}

// filesPerConnection is how many files are under way for each connection: while one comes, others
// are made durable.
const filesPerConnection = 8

// connect waits until the file may ask its server; disconnect lets another one do so.
func (r *run) connect(ctx context.Context) error {
	select {
	case r.connections <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *run) disconnect() { <-r.connections }

// Run moves the job's files until all are done, one cannot go on, or ctx ends. On return
// everything it will ever say has been said to the sink.
func (e *Engine) Run(ctx context.Context, job Job, sink Sink, live *Live) Outcome {
	r := e.newRun(job, sink, live)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	access, err := e.http.Open(job.Access)
	if err != nil {
		return outcome(err)
	}
	defer access.Close()
	ctx = access.With(ctx)
	if job.Type != bits.Download {
		return outcome(r.upload(ctx)).about(PartName(job.ReplyFile, job.ID, ReplyIndex), job.ReplyFile)
	}

	var (
		workers sync.WaitGroup
		mu      sync.Mutex
		failed  = -1 // guarded by mu: the first file, in order, that cannot go on
		why     error
	)
	for range min(filesPerConnection*cap(r.connections), len(job.Files)) {
		workers.Go(func() {
			for {
				i, alone, ok := r.feed.take()
				if !ok {
					return
				}
				err := r.fetch(ctx, i, alone)
				if err == nil {
					r.feed.finish()
					continue
				}
				if errors.Is(err, errNotAlone) {
					r.feed.giveBack(i)
					continue
				}
				mu.Lock()
				// Files that were stopped because another one failed are not the reason.
				if why == nil || !errors.Is(err, context.Canceled) && (i < failed || errors.Is(why, context.Canceled)) {
					failed, why = i, err
				}
				mu.Unlock()
				r.feed.stop()
				cancel()
				return
			}
		})
	}
	workers.Wait()
	if failed < 0 {
		return outcome(why)
	}
	f := &job.Files[failed]
	return outcome(why).about(job.Path(f.Local, f.Index), f.Local)
}

// about has an error name the file that its owner knows rather than the part file that it is to be made of.
func (o Outcome) about(part, local string) Outcome {
	if o.Err != nil && o.Err.File == part {
		e := *o.Err
		e.File, o.Err = local, &e
	}
	return o
}

func outcome(err error) Outcome {
	var retry *httpconn.RetryError
	var rights *localfile.RightsError
	var known *bits.Error
	switch {
	case err == nil:
		return Outcome{}
	case errors.As(err, &retry):
		return Outcome{Err: retry.Err, RetryAfter: retry.After}
	case errors.As(err, &known):
		return Outcome{Err: known, Passing: errors.As(err, &rights)}
	case errors.Is(err, context.Canceled):
		return Outcome{Stopped: true}
	}
	return Outcome{Err: &bits.Error{Code: bits.Unexpected, Context: bits.ContextUnknown, Cause: err, Message: err.Error()}}
}

// feed hands out the files of a job in order. Small files move side by side; a large one waits
// until it is the only large one, and while it moves no further file begins, so that a person
// sees one file after the other. How large a file is shows only when its answer begins: so the
// first file, and each one after a large one, begins alone, and others join once it turns out
// to be small. Otherwise every worker would ask for a large file and throw the answer away.
type feed struct {
	mu      sync.Mutex // guards all below
	changed sync.Cond
	n       int
	next    int
	back    []int // large files that were given back, to be taken again first
	active  int   // taken and neither finished nor given back
	alone   bool  // a file moves that is large, or may be
	expect  bool  // the next file may be large
	stopped bool
}

// errNotAlone sends a large file back because another one moves.
var errNotAlone = errors.New("another large file moves")

func newFeed(n int) *feed {
	f := &feed{n: n, expect: true}
	f.changed.L = &f.mu
	return f
}

// take returns the next file, waiting while a large one moves, and whether it is to move alone.
// It reports false when nothing is left to begin.
func (f *feed) take() (i int, alone, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.stopped:
			return 0, false, false
		case f.alone || len(f.back) == 0 && f.next == f.n:
			if !f.alone && f.active == 0 {
				return 0, false, false
			}
			f.changed.Wait() // a file may be given back
		case len(f.back) > 0:
			first := 0
			for i := range f.back {
				if f.back[i] < f.back[first] {
					first = i
				}
			}
			i := f.back[first]
			f.back = append(f.back[:first], f.back[first+1:]...)
			f.active++
			f.alone = true
			return i, true, true
		default:
			f.next++
			f.active++
			f.alone = f.expect
			return f.next - 1, f.alone, true
		}
	}
}

// claim makes the caller's file the one large file that moves, if there is none.
func (f *feed) claim() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.alone {
		return false
	}
	f.alone = true
	return true
}

// sized makes sure that a file moves alone if it is large, or of unknown size (-1), and lets others
// begin beside a small one. alone says whether the file has the claim.
func (f *feed) sized(alone *bool, size int64) error {
	large := size < 0 || size >= largeFile
	switch {
	case *alone && !large:
		f.unclaim(false)
	case !*alone && large:
		if !f.claim() {
			return errNotAlone
		}
	}
	*alone = large
	return nil
}

// unclaim undoes a claim, taken by claim or given by take; large says what the file was.
func (f *feed) unclaim(large bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alone, f.expect = false, large
	f.changed.Broadcast()
}

func (f *feed) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active--
	if f.active == 0 {
		f.changed.Broadcast()
	}
}

func (f *feed) giveBack(i int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active--
	f.back = append(f.back, i)
	f.changed.Broadcast()
}

func (f *feed) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	f.changed.Broadcast()
}
