// Package store keeps the jobs, their files and the events on disk.
//
// Promise: what Commit returned is there after kill -9 and after a power loss. A commit is one
// durable append to a preallocated journal; SQLite, which holds everything for good
// and answers all questions, gets the same changes a moment later in bulk (see journal.go for
// why). The store knows nothing of what the rows mean: the queue decides, the store keeps.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
	"github.com/ebbtransfer/ebb/internal/vault"
)

// Job is the record of a job. Records are never changed once committed: a change is a new one.
type Job struct {
	Num      int64         `json:"n"` // order of creation
	ID       bits.ID       `json:"id"`
	UID      uint32        `json:"u"`
	Type     bits.Type     `json:"t"`
	State    bits.State    `json:"s"`
	Priority bits.Priority `json:"p"`
	Resumed  bool          `json:"r,omitempty"` // Resume was called at least once
	Name     string        `json:"nm"`
	Created  int64         `json:"c"` // Unix nanoseconds, as all times here
	Modified int64         `json:"m"`
	Detail   *Detail       `json:"d,omitempty"` // what most jobs do not have; nil means all zero
}

// Detail is the part of a job's record that is empty for most jobs.
type Detail struct {
	Description         string                  `json:"description,omitempty"`
	MinimumRetryDelay   *int64                  `json:"min_retry,omitempty"`   // seconds
	NoProgressTimeout   *int64                  `json:"no_progress,omitempty"` // seconds
	Connections         int                     `json:"connections,omitempty"`
	AutoComplete        bool                    `json:"auto_complete,omitempty"`
	TransferPolicy      bits.Cost               `json:"transfer_policy,omitempty"`
	MaximumDownloadTime *int64                  `json:"max_download,omitempty"`       // seconds
	Protocol            bits.Protocol           `json:"protocol,omitempty"`           // of an upload; empty is bits
	ReplyFile           string                  `json:"reply_file,omitempty"`         // of an upload-reply; empty for a name of the service's choice
	Headers             []string                `json:"headers,omitempty"`            // in clear, only of jobs that an older version made
	HeaderNames         []string                `json:"header_names,omitempty"`       // of the custom headers, which are among the secrets
	Options             *bits.Options           `json:"options,omitempty"`            // never changed in place; nil: all at their defaults
	ClientCertificate   *bits.ClientCertificate `json:"client_certificate,omitempty"` // what may be shown of it
	Secrets             []Secret                `json:"secrets,omitempty"`            // never changed in place
	Error               *ErrorRow               `json:"error,omitempty"`
	ErrorCount          int                     `json:"error_count,omitempty"`
	Attempts            int                     `json:"attempts,omitempty"`    // transient errors since the last progress
	StuckSince          int64                   `json:"stuck,omitempty"`       // first transient error since the last progress
	Changed             int64                   `json:"changed,omitempty"`     // last change by the owner since then
	Active              int64                   `json:"active,omitempty"`      // nanoseconds in CONNECTING and TRANSFERRING since the last Resume
	RetryAt             int64                   `json:"retry_at,omitempty"`    // when a timer ends TRANSIENT_ERROR
	Transferred         int64                   `json:"transferred,omitempty"` // when the job became TRANSFERRED
	Finished            int64                   `json:"finished,omitempty"`    // when it became final
	Exhausted           bool                    `json:"exhausted,omitempty"`   // SUSPENDED because all that was asked for is here
	Afresh              bool                    `json:"afresh,omitempty"`      // what is here of unfinished files does not count when it moves next
	Cleanup             bool                    `json:"cleanup,omitempty"`     // final, but part files may be left to delete
	Farewell            int64                   `json:"farewell,omitempty"`    // cancelled, and when the server is told next to forget the upload
	Note                string                  `json:"note,omitempty"`        // what a person should know
	Notice              *Notice                 `json:"notice,omitempty"`      // what the owner is to be told; never changed in place
}

// Notice is what the owner of a job is to be told of its end, and was.
type Notice struct {
	Due    int64  `json:"due,omitempty"`    // when the job became TRANSFERRED or ERROR; 0 if it did not
	Told   uint8  `json:"told,omitempty"`   // the channels that were told, as bits
	Files  uint64 `json:"files,omitempty"`  // number of the last file event that was told; 0 if none is to be
	Failed int    `json:"failed,omitempty"` // how often a program could not be told
	Retry  int64  `json:"retry,omitempty"`  // when that is tried again
	Error  string `json:"error,omitempty"`  // why it could not

	FilesFailed int    `json:"files_failed,omitempty"` // how often in a row a program could not be told of a file
	FilesError  string `json:"files_error,omitempty"`  // why it could not

	HookFailed int    `json:"hook_failed,omitempty"` // how often in a row the web hook was not taken
	HookRetry  int64  `json:"hook_retry,omitempty"`  // when that is tried again
	HookError  string `json:"hook_error,omitempty"`  // why it was not
}

// Zero reports whether the detail says nothing.
func (d *Detail) Zero() bool {
	return d.Description == "" && d.MinimumRetryDelay == nil && d.NoProgressTimeout == nil && d.Connections == 0 && !d.AutoComplete &&
		d.TransferPolicy == 0 && d.MaximumDownloadTime == nil && len(d.Headers) == 0 && len(d.HeaderNames) == 0 && d.Options == nil && d.ClientCertificate == nil && len(d.Secrets) == 0 && d.Error == nil && d.ErrorCount == 0 && d.Attempts == 0 &&
		d.Protocol == "" && d.ReplyFile == "" && d.Farewell == 0 && d.StuckSince == 0 && d.Changed == 0 && d.Active == 0 && d.RetryAt == 0 && d.Transferred == 0 && d.Finished == 0 && !d.Exhausted && !d.Afresh && !d.Cleanup && d.Note == "" && d.Notice == nil
}

// Secret is what only the transfers of a job may know, sealed by the store's vault.
type Secret struct {
	Kind   string `json:"k"`           // what it is; the vault binds it to that
	Target string `json:"t,omitempty"` // of a credential: server, proxy or hook
	Scheme string `json:"s,omitempty"` // of a credential
	Sealed []byte `json:"x"`
}

// ErrorRow is an error in its stored form.
type ErrorRow struct {
	Code    bits.Code    `json:"code"`
	Context bits.Context `json:"context"`
	File    string       `json:"file,omitempty"`
	Message string       `json:"message,omitempty"`
}

// FileState says how far a file is.
type FileState uint8

// The states of a file. Of a job that is ACKNOWLEDGED, FileDone says as much as FilePlaced.
const (
	FilePending FileState = 0 // not begun, or in the middle
	FileDone    FileState = 1 // all bytes are in the part file, durable and checked; of an upload, with the server
	FilePlaced  FileState = 2 // the part file was renamed into place
	FileSkipped FileState = 3 // left out: by the job's owner, or because what is there is not older
	FileRemoved FileState = 4 // taken out of the job; only its index is still used
)

// File is the record of one file of a job. The reply of an upload-reply job is its second file.
type File struct {
	Remote   string     `json:"r"`
	Local    string     `json:"l"`
	Checksum string     `json:"c,omitempty"`
	Size     int64      `json:"s"` // -1 while unknown
	Done     int64      `json:"d,omitempty"`
	State    FileState  `json:"st,omitempty"`
	Part     *Part      `json:"p,omitempty"` // nil before the first byte
	Extra    *FileExtra `json:"x,omitempty"` // what most files do not have
}

// FileExtra is the part of a file's record that is empty for most files. It is never changed in
// place.
type FileExtra struct {
	Mirrors     []string `json:"mirrors,omitempty"`  // other URLs of the same content, the best first
	NamedBy     string   `json:"named_by,omitempty"` // server whose document named Remote and Mirrors; empty if the job's owner did
	OnlyIfNewer bool     `json:"if_newer,omitempty"` // fetched only if it is newer than what is in its place
	// Ranges are the parts that are fetched, in the order in which they stand in the file here; all of
	// the file if there are none.
	Ranges   []bits.Range `json:"ranges,omitempty"`
	Wanted   []bits.Range `json:"wanted,omitempty"`   // parts of the file here that are fetched before all others
	Position int64        `json:"position,omitempty"` // then what lies at and after it
	Edition  int          `json:"edition,omitempty"`  // how often the job's owner has changed the file
	Moved    *Moved       `json:"moved,omitempty"`    // how Remote came to be what it is, if a server said so
	// Distrusted says that the job's owner found what came from peers wrong: the server's bytes count now.
	Distrusted bool `json:"distrusted,omitempty"`
}

// Moved says that a server redirected a file for good, as its job allows. It counts only as long as
// To is the file's URL.
type Moved struct {
	From string `json:"f"` // URL that the job's owner gave: what is the owner's is for its server alone
	To   string `json:"t"`
}

// Part is what a half-finished file needs to go on safely.
type Part struct {
	ETag         string       `json:"etag,omitempty"`
	LastModified string       `json:"modified,omitempty"`   // as the server sent it
	Boot         string       `json:"boot,omitempty"`       // boot id under which the part file was written
	Inode        uint64       `json:"inode,omitempty"`      // of the finished part file
	Note         string       `json:"note,omitempty"`       // what a person should know
	Peak         int64        `json:"peak,omitempty"`       // the furthest that Done ever was; bytes up to there are no progress
	Upload       *Upload      `json:"upload,omitempty"`     // of an upload that has begun
	Duplicates   []string     `json:"duplicates,omitempty"` // other URLs that the server named (RFC 6249)
	Filled       []bits.Range `json:"filled,omitempty"`     // durable bytes of a file that is not written from front to back
	Total        int64        `json:"total,omitempty"`      // with Filled: size of the file on the server
	Headers      string       `json:"headers,omitempty"`    // of the server's last answer
	Validated    bool         `json:"validated,omitempty"`  // the job's owner said that the content is right
	Digest       string       `json:"digest,omitempty"`     // of the whole file as the server told, ALGORITHM:HEX
	Peers        int64        `json:"peers,omitempty"`      // bytes here that came from peers
	Cached       int64        `json:"cached,omitempty"`     // and from the cache of this machine
	Source       string       `json:"source,omitempty"`     // URL that the bytes are from, if it is not File.Remote
}

// Upload is what a half-finished upload needs to go on safely.
type Upload struct {
	// The local file when the upload began; its size is File.Size.
	Modified int64  `json:"m"`           // Unix nanoseconds
	Changed  int64  `json:"c,omitempty"` // of the inode, Unix nanoseconds; 0 where there is none
	Inode    uint64 `json:"i,omitempty"` // 0 where there is none

	State  upload.State `json:"s"`
	Closed bool         `json:"x,omitempty"` // the server was told that all is done
}

// FileRow is a file's record with its place.
type FileRow struct {
	Job   int64 `json:"j"`
	Index int   `json:"i"`
	*File
}

// Event is news about a job, with the owner that the job had then: who may read it is a matter of
// users, of whom several may have the same name in the course of time.
type Event struct {
	bits.Event
	UID uint32 `json:"uid"`
}

// Change is what one commit writes. All of it or nothing.
type Change struct {
	Jobs   []*Job    `json:"jobs,omitempty"`
	Files  []FileRow `json:"files,omitempty"`
	Events []Event   `json:"events,omitempty"`
	Delete []int64   `json:"delete,omitempty"` // jobs to forget, by number
}

// MaxFiles is the number of files a job's records have room for.
const MaxFiles = bits.MaxFilesPerJob

// flushDelay is how long a change may stay in the journal alone. A longer delay saves writes
// when the same records change again; a shorter one makes a restart replay less.
const flushDelay = 2 * time.Second

// flushFrom is how many changed jobs do not wait for that, about 1 MiB of new ones: a restart has to read
// them first, and they are in memory as long. The files of few jobs, which soon change again, wait until the
// journal is crowded.
const flushFrom = 1500

// flushRetry is the pause after a flush that failed, if no change comes first.
const flushRetry = 30 * time.Second

// Store is an open store. Commit is for one caller at a time; everything else is safe anywhere.
type Store struct {
	dir   string
	db    *database
	log   *journal
	vault *vault.Vault

	mu        sync.Mutex
	pending   *batch            // guarded by mu: committed, not yet in SQLite
	forgotten map[uint32]uint64 // guarded by mu: of each user the newest event that is gone

	flushing sync.Mutex    // held while pending goes to SQLite
	warn     func(error)   // told when SQLite takes no changes
	wake     chan struct{} // there is something to flush
	hurry    chan struct{} // much waits to be flushed
	quit     chan struct{}
	done     chan struct{}
}

// ErrUnusable means that a store is damaged or was made by a newer version.
var ErrUnusable = errors.New("the job store cannot be used")

// ErrBroken means that the disk failed while the journal was made durable: what is on it is
// unknown, and only opening the store again tells. It takes no more changes.
var ErrBroken = errors.New("the job store's disk failed")

// Open opens or makes the store in dir, which must be locked by the caller, and reads what the
// journal holds and SQLite does not; that goes there later, so that a start need not wait for it. An error that is ErrUnusable leaves everything as it
// was. warn is called, from the store's own goroutine, each time that SQLite takes no changes:
// nothing is lost by that, but the journal fills up.
func Open(dir string, warn func(error)) (*Store, error) {
	v, err := vault.Open(dir)
	if err != nil {
		return nil, err
	}
	db, err := openDatabase(filepath.Join(dir, databaseName))
	if err != nil {
		return nil, err
	}
	applied, err := db.applied()
	if err != nil {
		db.close()
		return nil, err
	}
	log, records, err := openJournal(dir, applied)
	if err != nil {
		db.close()
		return nil, err
	}
	s := &Store{dir: dir, db: db, log: log, vault: v, warn: warn, pending: newBatch(),
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	for _, r := range records {
		var c Change
		if err := json.Unmarshal(r.payload, &c); err != nil {
			_ = s.closeFiles()
			return nil, fmt.Errorf("%w: journal record %d: %w", ErrUnusable, r.seq, err)
		}
		s.pending.add(&c)
		s.pending.seq = r.seq
	}
	if err := s.readForgotten(); err != nil {
		_ = s.closeFiles()
		return nil, err
	}
	if len(records) > 0 {
		nudge(s.wake)
	}
	go s.flushLoop()
	return s, nil
}

const asideSuffix = ".unusable-"

// storeFiles are the files of a store, the database last.
var storeFiles = []string{databaseName + "-wal", databaseName + "-shm", journalName(0), journalName(1), databaseName}

// SetAside renames an unusable store's files in dir, so that nothing is lost and a fresh store
// can be made, and returns the new name of the database.
func SetAside(dir string, now time.Time) (string, error) {
	suffix := asideSuffix + now.UTC().Format("20060102T150405.000")
	for _, name := range storeFiles {
		old := filepath.Join(dir, name)
		if err := os.Rename(old, old+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return filepath.Join(dir, databaseName+suffix), nil
}

// Aside returns the databases in dir that were set aside because they could not be used.
func Aside(dir string) []string {
	names, _ := filepath.Glob(filepath.Join(dir, databaseName+asideSuffix+"*")) // fails for bad patterns only
	return names
}

// Commit makes the change durable. After an error the caller must take it for not made. If the
// error is ErrBroken, no later change can be made either.
func (s *Store) Commit(c *Change) error {
	payload, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode a change: %w", err)
	}
	seq, err := s.log.append(payload)
	if errors.Is(err, errJournalFull) {
		// The journal is full of changes that SQLite does not have yet, or the change is
		// larger than the journal: write through, then go on with an empty journal.
		if err = s.flush(); err != nil {
			return err
		}
		seq, err = s.log.append(payload)
	}
	if errors.Is(err, errRecordTooLarge) {
		if err = s.flush(); err != nil {
			return err
		}
		b := newBatch()
		b.add(c)
		b.seq = s.log.next()
		s.flushing.Lock()
		defer s.flushing.Unlock()
		if err := s.db.apply(b); err != nil {
			return fmt.Errorf("write to the job store: %w", err) // the number is still free
		}
		s.log.skip(b.seq)
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.pending.add(c)
	s.pending.seq = seq
	much := len(s.pending.jobs)+len(s.pending.gone) > flushFrom
	s.mu.Unlock()
	nudge(s.wake)
	if much || s.log.crowded() {
		nudge(s.hurry)
	}
	return nil
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// flush writes everything committed so far to SQLite, durably, and frees the journal.
func (s *Store) flush() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	b := s.pending
	s.pending = newBatch()
	s.mu.Unlock()
	if b.seq == 0 {
		return nil
	}
	err := s.db.apply(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil { // keep it for the next time, below what came since
		b.merge(s.pending)
		s.pending = b
		return fmt.Errorf("write to the job store: %w", err)
	}
	s.log.release(b.seq)
	return nil
}

func (s *Store) flushLoop() {
	defer close(s.done)
	timer := time.NewTimer(0)
	if !timer.Stop() {
		<-timer.C
	}
	for {
		select {
		case <-s.wake:
		case <-s.quit:
			return
		}
		timer.Reset(flushDelay)
		select {
		case <-timer.C:
		case <-s.hurry:
		case <-s.quit:
			return
		}
		if err := s.flush(); err != nil { // the journal still has it
			s.warn(err)
			time.AfterFunc(flushRetry, func() { nudge(s.wake) })
		}
	}
}

// Vault seals and opens the secrets of the store's jobs.
func (s *Store) Vault() *vault.Vault { return s.vault }

// Close writes what is left and closes the files.
func (s *Store) Close() error {
	close(s.quit)
	<-s.done
	err := s.flush()
	return errors.Join(err, s.closeFiles())
}

func (s *Store) closeFiles() error { return errors.Join(s.log.close(), s.db.close()) }

// Load calls job for every job in order of creation, after file for every file of all jobs in
// order. They may be called at the same time as each other, each from one goroutine, and must not
// call the store.
func (s *Store) Load(job func(*Job) error, file func(FileRow) error) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.pending
	jobs := overlay[*Job]{newer: b.jobs, emit: func(n int64, j *Job) error {
		if b.gone[n] {
			return nil
		}
		return job(j)
	}}
	files := overlay[*File]{newer: b.files, emit: func(key int64, f *File) error {
		if b.gone[key/MaxFiles] {
			return nil
		}
		return file(FileRow{key / MaxFiles, int(key % MaxFiles), f})
	}}
	jobs.keys, files.keys = slices.Sorted(maps.Keys(b.jobs)), slices.Sorted(maps.Keys(b.files))
	if err := s.db.load(jobs.row, files.row); err != nil {
		return err
	}
	return errors.Join(jobs.before(math.MaxInt64), files.before(math.MaxInt64))
}

// overlay lays newer records over those of a table that is read in the order of its keys.
type overlay[R any] struct {
	keys  []int64 // of newer, in order, from the first that was not emitted
	newer map[int64]R
	emit  func(key int64, r R) error
}

// row emits a record of the table, or what is newer, after the new ones that come before it.
func (o *overlay[R]) row(key int64, r R) error {
	if err := o.before(key); err != nil {
		return err
	}
	if len(o.keys) > 0 && o.keys[0] == key {
		r, o.keys = o.newer[key], o.keys[1:]
	}
	return o.emit(key, r)
}

// before emits the new records before the key.
func (o *overlay[R]) before(key int64) error {
	for len(o.keys) > 0 && o.keys[0] < key {
		n := o.keys[0]
		o.keys = o.keys[1:]
		if err := o.emit(n, o.newer[n]); err != nil {
			return err
		}
	}
	return nil
}

// Events returns up to limit events with numbers greater than after, in order.
func (s *Store) Events(after uint64, limit int) ([]Event, error) {
	if err := s.flush(); err != nil {
		return nil, err
	}
	return s.db.events(after, limit)
}

// LastEvent returns the number of the newest event.
func (s *Store) LastEvent() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.pending.events); n > 0 {
		last := s.pending.events[n-1]
		return last[len(last)-1].Seq, nil
	}
	return s.db.lastEvent()
}

// PruneEvents forgets events older than the time and, if there are more than keep, the oldest of the
// users who have the most: nobody's are forgotten because of another's.
func (s *Store) PruneEvents(before time.Time, keep uint64) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	err := s.db.pruneEvents(before, keep)
	if err == nil {
		err = s.readForgotten()
	}
	return err
}

func (s *Store) readForgotten() error {
	forgotten, err := s.db.forgotten()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgotten = forgotten
	return nil
}

// Forgotten returns the number of the newest event that was forgotten of the users for whom of is
// true; 0 if none was.
func (s *Store) Forgotten(of func(uid uint32) bool) (newest uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uid, seq := range s.forgotten {
		if seq > newest && of(uid) {
			newest = seq
		}
	}
	return newest
}

// batch is a set of changes with only the last version of each record.
type batch struct {
	seq    uint64 // of the newest change; 0 if empty
	jobs   map[int64]*Job
	files  map[int64]*File // by key
	order  []int64         // keys of files as they came, so that inserts run in order
	events [][]Event
	gone   map[int64]bool
}

func newBatch() *batch {
	return &batch{jobs: map[int64]*Job{}, files: map[int64]*File{}, gone: map[int64]bool{}}
}

func fileKey(job int64, index int) int64 { return job*MaxFiles + int64(index) }

func (b *batch) add(c *Change) {
	for _, j := range c.Jobs {
		b.jobs[j.Num] = j
	}
	for _, f := range c.Files {
		key := fileKey(f.Job, f.Index)
		if _, ok := b.files[key]; !ok {
			b.order = append(b.order, key)
		}
		b.files[key] = f.File
	}
	if len(c.Events) > 0 {
		b.events = append(b.events, c.Events)
	}
	for _, n := range c.Delete {
		delete(b.jobs, n)
		b.gone[n] = true
	}
}

// merge adds a later batch.
func (b *batch) merge(later *batch) {
	for n, j := range later.jobs {
		b.jobs[n] = j
	}
	for _, key := range later.order {
		if _, ok := b.files[key]; !ok {
			b.order = append(b.order, key)
		}
		b.files[key] = later.files[key]
	}
	b.events = append(b.events, later.events...)
	for n := range later.gone {
		delete(b.jobs, n)
		b.gone[n] = true
	}
	if later.seq > 0 {
		b.seq = later.seq
	}
}
