package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"time"

	"modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/ebbtransfer/ebb/bits"
)

const databaseName = "ebb.db"

// schemaVersion is kept in PRAGMA user_version. migrations[i] leads from version i to i+1.
var migrations = []string{`
CREATE TABLE jobs(
	num      INTEGER PRIMARY KEY, -- order of creation
	id       BLOB    NOT NULL,    -- UUID, 16 bytes
	uid      INTEGER NOT NULL,
	type     INTEGER NOT NULL,    -- BG_JOB_TYPE
	state    INTEGER NOT NULL,    -- BG_JOB_STATE
	priority INTEGER NOT NULL,    -- BG_JOB_PRIORITY
	resumed  INTEGER NOT NULL,
	created  INTEGER NOT NULL,    -- Unix nanoseconds
	modified INTEGER NOT NULL,
	name     TEXT    NOT NULL,
	detail   TEXT                 -- JSON; NULL for most jobs
);
CREATE TABLE files(
	key      INTEGER PRIMARY KEY, -- job's num * 2^20 + index in the job
	remote   TEXT    NOT NULL,
	local    TEXT    NOT NULL,
	size     INTEGER NOT NULL,    -- -1 while unknown
	done     INTEGER NOT NULL,    -- durable bytes
	state    INTEGER NOT NULL,    -- 0 pending, 1 transferred, 2 in its place
	checksum TEXT,
	part     TEXT                 -- JSON: validators and the like; NULL before the first byte
);
CREATE TABLE events(
	seq  INTEGER PRIMARY KEY,     -- number of the last event in doc
	time INTEGER NOT NULL,
	doc  TEXT    NOT NULL         -- JSON array: the events of one commit
);
CREATE TABLE journal(applied INTEGER NOT NULL); -- newest journal record that is in here
INSERT INTO journal VALUES(0);
`,
	// Nothing but the number: a version that knows no uploads would take them for downloads, and
	// fetch over the files that are to be uploaded.
	"",
	// JSON: what most files do not have; NULL for most. A version that does not know it, or the
	// states that came with it, would fetch files that were skipped.
	"ALTER TABLE files ADD COLUMN extra TEXT;",
	// The events of a row are of one user, so that users can be told apart when some are forgotten;
	// those of older rows may be of several, and are taken for the first one's.
	`
ALTER TABLE events ADD COLUMN uid INTEGER NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN n INTEGER NOT NULL DEFAULT 1; -- events in doc
UPDATE events SET uid = coalesce(json_extract(doc, '$[0].uid'), 0), n = json_array_length(doc) WHERE json_valid(doc);
CREATE TABLE forgotten(
	uid INTEGER PRIMARY KEY,
	seq INTEGER NOT NULL          -- number of the newest event of the user that was forgotten
);
`,
}

type database struct {
	name string
	sql  *sql.DB
	// Prepared once: preparing again for each transaction halves the rate.
	putJob, putFile, putEvents, dropJob, dropFiles, setApplied *sql.Stmt
}

func dsn(name string) string {
	return "file:" + escapePath(name) + "?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=busy_timeout(5000)&_pragma=wal_autocheckpoint(4000)&_pragma=cache_size(-1024)"
}

// escapePath makes a path fit for a file: URI.
func escapePath(p string) string {
	var b []byte
	for i := range len(p) {
		switch c := p[i]; c {
		case '%', '?', '#':
			b = fmt.Appendf(b, "%%%02X", c)
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

func openDatabase(name string) (*database, error) {
	if f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600); err != nil { // SQLite would make it 0644
		return nil, err
	} else if err := f.Close(); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn(name))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(1)
	d := &database{name: name, sql: db}
	if err := d.prepare(); err != nil {
		d.close()
		return nil, classify(err)
	}
	return d, nil
}

// classify marks errors that say the file is damaged.
func classify(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH:
			return fmt.Errorf("%w: %w", ErrUnusable, err)
		}
	}
	return err
}

func (d *database) prepare() error {
	var version int
	if err := d.sql.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("%w: it was made by a newer version of ebb (schema %d, this one knows %d)", ErrUnusable, version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		tx, err := d.sql.Begin()
		if err != nil {
			return err
		}
		if _, err = tx.Exec(migrations[version] + fmt.Sprintf("PRAGMA user_version = %d", version+1)); err == nil {
			err = tx.Commit()
		}
		if err != nil {
			_ = tx.Rollback()
			return fmt.Errorf("migrate the job store to schema %d: %w", version+1, err)
		}
	}
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&d.putJob, "INSERT OR REPLACE INTO jobs VALUES(?,?,?,?,?,?,?,?,?,?,?)"},
		{&d.putFile, "INSERT OR REPLACE INTO files VALUES(?,?,?,?,?,?,?,?,?)"},
		{&d.putEvents, "INSERT OR REPLACE INTO events VALUES(?,?,?,?,?)"},
		{&d.dropJob, "DELETE FROM jobs WHERE num = ?"},
		{&d.dropFiles, "DELETE FROM files WHERE key >= ? AND key < ?"},
		{&d.setApplied, "UPDATE journal SET applied = ?"},
	} {
		var err error
		if *p.stmt, err = d.sql.Prepare(p.text); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) close() error { return d.sql.Close() }

func (d *database) applied() (seq uint64, err error) {
	return seq, classify(d.sql.QueryRow("SELECT applied FROM journal").Scan(&seq))
}

// apply writes a batch in one durable transaction.
func (d *database) apply(b *batch) error {
	tx, err := d.sql.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // does nothing after Commit
	putJob, putFile, putEvents := tx.Stmt(d.putJob), tx.Stmt(d.putFile), tx.Stmt(d.putEvents)
	for _, j := range b.jobs {
		var detail any
		if j.Detail != nil {
			doc, err := json.Marshal(j.Detail)
			if err != nil {
				return err
			}
			detail = string(doc)
		}
		if _, err := putJob.Exec(j.Num, j.ID[:], j.UID, int64(j.Type), int64(j.State), int64(j.Priority), j.Resumed, j.Created, j.Modified, j.Name, detail); err != nil {
			return err
		}
	}
	for _, key := range b.order {
		f := b.files[key]
		var checksum, part any
		if f.Checksum != "" {
			checksum = f.Checksum
		}
		if f.Part != nil {
			doc, err := json.Marshal(f.Part)
			if err != nil {
				return err
			}
			part = string(doc)
		}
		var extra any
		if f.Extra != nil {
			doc, err := json.Marshal(f.Extra)
			if err != nil {
				return err
			}
			extra = string(doc)
		}
		if _, err := putFile.Exec(key, f.Remote, f.Local, f.Size, f.Done, int64(f.State), checksum, part, extra); err != nil {
			return err
		}
	}
	for _, events := range b.events {
		for len(events) > 0 { // those of one user that follow one another are a row
			n := 1
			for n < len(events) && events[n].UID == events[0].UID {
				n++
			}
			doc, err := json.Marshal(events[:n])
			if err != nil {
				return err
			}
			last := events[n-1]
			if _, err := putEvents.Exec(int64(last.Seq), last.Time.UnixNano(), string(doc), last.UID, n); err != nil {
				return err
			}
			events = events[n:]
		}
	}
	for n := range b.gone {
		if _, err := tx.Stmt(d.dropJob).Exec(n); err != nil {
			return err
		}
		if _, err := tx.Stmt(d.dropFiles).Exec(fileKey(n, 0), fileKey(n+1, 0)); err != nil {
			return err
		}
	}
	if _, err := tx.Stmt(d.setApplied).Exec(int64(b.seq)); err != nil {
		return err
	}
	return tx.Commit()
}

// load reads both tables at the same time, below database/sql, whose conversions would take
// more time than SQLite itself.
func (d *database) load(job func(num int64, j *Job) error, file func(key int64, f *File) error) error {
	jobs := make(chan error, 1)
	go func() {
		jobs <- d.scan("SELECT num, id, uid, type, state, priority, resumed, created, modified, name, detail FROM jobs ORDER BY num", func(v []driver.Value) error {
			j := &Job{}
			var name, detail string
			var id []byte
			var typ, state, prio, uid, resumed int64
			if !take(v, &j.Num, &id, &uid, &typ, &state, &prio, &resumed, &j.Created, &j.Modified, &name, &detail) || len(id) != 16 || state >= bits.States || prio >= bits.Priorities {
				return fmt.Errorf("%w: a job's row is malformed", ErrUnusable)
			}
			j.ID, j.UID, j.Name, j.Resumed = bits.ID(id), uint32(uid), name, resumed != 0
			j.Type, j.State, j.Priority = bits.Type(typ), bits.State(state), bits.Priority(prio)
			if detail != "" {
				j.Detail = &Detail{}
				if err := json.Unmarshal([]byte(detail), j.Detail); err != nil {
					return fmt.Errorf("%w: job %s: %w", ErrUnusable, j.ID, err)
				}
			}
			return job(j.Num, j)
		})
	}()
	err := d.scan("SELECT key, remote, local, size, done, state, checksum, part, extra FROM files ORDER BY key", func(v []driver.Value) error {
		f := &File{}
		var key, state int64
		var part, extra string
		if !take(v, &key, &f.Remote, &f.Local, &f.Size, &f.Done, &state, &f.Checksum, &part, &extra) || state > int64(FileRemoved) {
			return fmt.Errorf("%w: a file's row is malformed", ErrUnusable)
		}
		f.State = FileState(state)
		if part != "" {
			f.Part = &Part{}
			if err := json.Unmarshal([]byte(part), f.Part); err != nil {
				return fmt.Errorf("%w: file %d: %w", ErrUnusable, key, err)
			}
		}
		if extra != "" {
			f.Extra = &FileExtra{}
			if err := json.Unmarshal([]byte(extra), f.Extra); err != nil {
				return fmt.Errorf("%w: file %d: %w", ErrUnusable, key, err)
			}
		}
		return file(key, f)
	})
	return errors.Join(err, <-jobs)
}

// take copies a row's values; NULL leaves the zero value. It reports whether all types fit.
func take(v []driver.Value, dst ...any) bool {
	for i, d := range dst {
		if v[i] == nil {
			continue
		}
		var ok bool
		switch d := d.(type) {
		case *int64:
			*d, ok = v[i].(int64)
		case *string:
			*d, ok = v[i].(string)
		case *[]byte:
			*d, ok = v[i].([]byte)
		}
		if !ok {
			return false
		}
	}
	return true
}

// scan runs a query on a connection of its own and hands over each row; the values are valid
// only during the call.
func (d *database) scan(query string, row func([]driver.Value) error) error {
	ctx := context.Background()
	conn, err := d.sql.Conn(ctx)
	if err != nil {
		return classify(err)
	}
	defer conn.Close()
	return conn.Raw(func(dc any) error {
		rows, err := dc.(driver.QueryerContext).QueryContext(ctx, query, nil)
		if err != nil {
			return classify(err)
		}
		defer rows.Close()
		values := make([]driver.Value, len(rows.Columns()))
		for {
			if err := rows.Next(values); err == io.EOF {
				return nil
			} else if err != nil {
				return classify(err)
			}
			if err := row(values); err != nil {
				return err
			}
		}
	})
}

func (d *database) events(after uint64, limit int) ([]Event, error) {
	rows, err := d.sql.Query("SELECT doc FROM events WHERE seq > ? ORDER BY seq LIMIT ?", int64(after), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Event
	for rows.Next() && len(out) < limit {
		var doc []byte
		var events []Event
		if err := rows.Scan(&doc); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(doc, &events); err != nil {
			return nil, fmt.Errorf("an event in the job store: %w", err)
		}
		for _, e := range events {
			if e.Seq > after {
				out = append(out, e)
			}
		}
	}
	return out, rows.Err()
}

func (d *database) lastEvent() (seq uint64, err error) {
	return seq, classify(d.sql.QueryRow("SELECT max(coalesce((SELECT max(seq) FROM events), 0), coalesce((SELECT max(seq) FROM forgotten), 0))").Scan(&seq))
}

// forgotten returns the number of the newest event of each user that was forgotten.
func (d *database) forgotten() (map[uint32]uint64, error) {
	out := map[uint32]uint64{}
	err := each(d.sql, "SELECT uid, seq FROM forgotten", func(uid uint32, seq uint64) { out[uid] = seq })
	return out, classify(err)
}

// querier is a database or a transaction.
type querier interface {
	Query(query string, args ...any) (*sql.Rows, error)
}

// each calls row for each row of a query, of a user and a number.
func each(q querier, query string, row func(uid uint32, n uint64), args ...any) error {
	rows, err := q.Query(query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var uid uint32
		var n uint64
		if err := rows.Scan(&uid, &n); err != nil {
			return err
		}
		row(uid, n)
	}
	return rows.Err()
}

// pruneEvents forgets the events before a time, and then the oldest of those who have the most until
// no more than keep are left.
func (d *database) pruneEvents(before time.Time, keep uint64) error {
	tx, err := d.sql.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // does nothing after Commit
	forget := func(which string, args ...any) error {
		if _, err := tx.Exec("INSERT INTO forgotten SELECT uid, max(seq) FROM events WHERE "+which+" GROUP BY uid ON CONFLICT(uid) DO UPDATE SET seq = max(seq, excluded.seq)", args...); err != nil {
			return err
		}
		_, err := tx.Exec("DELETE FROM events WHERE "+which, args...)
		return err
	}
	if err := forget("time < ?", before.UnixNano()); err != nil {
		return err
	}
	has := map[uint32]uint64{}
	if err := each(tx, "SELECT uid, sum(n) FROM events GROUP BY uid", func(uid uint32, n uint64) { has[uid] = n }); err != nil {
		return err
	}
	most := fairShare(slices.Collect(maps.Values(has)), keep)
	for uid, n := range has {
		if n <= most {
			continue
		}
		if err := forget(`uid = ?1 AND seq <=
			(SELECT coalesce(max(seq), 0) FROM (SELECT seq, sum(n) OVER (ORDER BY seq DESC) AS sum FROM events WHERE uid = ?1) WHERE sum > ?2)`, uid, most); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// fairShare returns how much each may have at most, so that all have no more than all together, and
// nobody has less because of those who have more.
func fairShare(has []uint64, all uint64) uint64 {
	slices.Sort(has)
	for i, n := range has {
		if share := all / uint64(len(has)-i); n > share {
			return share
		}
		all -= n
	}
	return math.MaxUint64
}
