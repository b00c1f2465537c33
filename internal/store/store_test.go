package store

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
	"github.com/ebbtransfer/ebb/internal/vault"
)

func mustOpen(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustCommit(t *testing.T, s *Store, c *Change) {
	t.Helper()
	if err := s.Commit(c); err != nil {
		t.Fatal(err)
	}
}

// content is what Load returns.
type content struct {
	Jobs  []*Job
	Files []FileRow
}

func load(t *testing.T, s *Store) content {
	t.Helper()
	var c content
	err := s.Load(func(j *Job) error { c.Jobs = append(c.Jobs, j); return nil }, func(f FileRow) error { c.Files = append(c.Files, f); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func job(n int64) *Job {
	return &Job{Num: n, ID: bits.ID{byte(n), byte(n >> 8), 3: 7}, UID: 1000, State: bits.Suspended, Priority: bits.Low, Name: fmt.Sprintf("job %d 'é'", n), Created: n * 10, Modified: n * 20}
}

func change(n int64) *Change {
	delay := int64(5)
	j := job(n)
	j.Resumed = n%2 == 0
	j.Type = bits.Type(n % 3)
	j.Detail = &Detail{ClientCertificate: &bits.ClientCertificate{Subject: "CN=a", Fingerprint: "00"}, Options: &bits.Options{NotifyFlags: new(bits.NotifyDisable), HTTPMethod: new("POST"), TLSPins: &[]string{"sha256/x"},
		Proxy: &bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{"p"}}, MaximumDownloadSize: new(bits.SizeLimit(n)), SecurityFlags: new(bits.SecurityCRLCheck), UseStoredCredentials: new(bits.TargetProxy), RunWhen: new(bits.RunLoggedOn)}, Protocol: bits.ProtocolTus, ReplyFile: "/d/r", Farewell: n, Description: "what", MinimumRetryDelay: &delay, Headers: []string{"A: b"}, Error: &ErrorRow{Code: bits.DiskFull, Context: bits.ContextLocalFile, File: "/x"}, ErrorCount: 3}
	return &Change{
		Jobs: []*Job{j},
		Files: []FileRow{
			{n, 0, &File{Remote: "http://a/b", Local: "/d/b", Size: -1}},
			{n, 1, &File{Remote: "http://a/c", Local: "/d/c", Checksum: "sha256:ab", Size: 5, Done: 3, State: FileDone, Part: &Part{ETag: `"x"`, Inode: 1 << 60, Boot: "b", Note: "n", Upload: &Upload{Modified: n, Changed: 1 << 60, Inode: 5, Closed: true,
				State: upload.State{Protocol: upload.S3, ID: "i", Offset: 7, HostFallback: &delay, Parts: []upload.Part{{ETag: "e", Size: 5}}}}}}},
		},
		Events: []Event{{Event: bits.Event{Seq: uint64(n), Time: time.Unix(n, 0).UTC(), Kind: bits.EventAdded, Job: j.ID, State: j.State}, UID: 1000}},
	}
}

// crash returns a copy of the store's directory as it is at this moment, as a power failure
// right after the last commit would leave it. A copy takes time, so no flush may run meanwhile.
func crash(t *testing.T, s *Store) string {
	t.Helper()
	s.flushing.Lock()
	defer s.flushing.Unlock()
	dir := s.dir
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(to, vault.KeyName), 0o600); err != nil { // CopyFS lets all read it
		t.Fatal(err)
	}
	return to
}

func TestWhatWasCommittedIsThereAfterACrash(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	defer mustClose(t, s)
	var want content
	for n := int64(1); n <= 20; n++ {
		c := change(n)
		mustCommit(t, s, c)
		want.Jobs = append(want.Jobs, c.Jobs...)
		want.Files = append(want.Files, c.Files...)
		after := mustOpen(t, crash(t, s))
		if diff := cmp.Diff(want, load(t, after)); diff != "" {
			t.Fatalf("after commit %d (-want +got):\n%s", n, diff)
		}
		if last, err := after.LastEvent(); err != nil || last != uint64(n) {
			t.Fatalf("last event %d, %v; want %d", last, err, n)
		}
		mustClose(t, after)
	}
}

func TestLaterChangesWinAndDeletedJobsAreGone(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	mustCommit(t, s, change(1))
	mustCommit(t, s, change(2))
	j := job(1)
	j.State = bits.Transferred
	f := &File{Remote: "http://a/b", Local: "/d/b", Size: 9, Done: 9, State: FilePlaced}
	mustCommit(t, s, &Change{Jobs: []*Job{j}, Files: []FileRow{{1, 0, f}}, Delete: []int64{2}})
	for range 2 {
		got := load(t, s)
		if len(got.Jobs) != 1 || got.Jobs[0].State != bits.Transferred || got.Jobs[0].Detail != nil || len(got.Files) != 2 || *got.Files[0].File != *f {
			t.Fatalf("got %+v", got)
		}
		mustClose(t, s)
		s = mustOpen(t, dir)
	}
	mustClose(t, s)
}

// TestWhatTheJournalHoldsLiesOverTheTables has new, changed and deleted records between, before and
// after those that SQLite has.
func TestWhatTheJournalHoldsLiesOverTheTables(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	defer mustClose(t, s)
	for n := int64(2); n <= 8; n += 2 {
		mustCommit(t, s, &Change{Jobs: []*Job{job(n)}, Files: []FileRow{{n, 0, &File{Remote: "old"}}, {n, 2, &File{Remote: "old"}}}})
	}
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	newer := func(f FileRow) FileRow {
		f.File = &File{Remote: "new"}
		return f
	}
	mustCommit(t, s, &Change{Jobs: []*Job{job(9), job(1)}, Files: []FileRow{newer(FileRow{Job: 9}), newer(FileRow{Job: 1, Index: 3})}})
	mustCommit(t, s, &Change{Delete: []int64{4, 8}, Files: []FileRow{newer(FileRow{Job: 4})}})
	named := job(6)
	named.Name = "new"
	mustCommit(t, s, &Change{Jobs: []*Job{named}, Files: []FileRow{newer(FileRow{Job: 6, Index: 1}), newer(FileRow{Job: 6, Index: 2}), newer(FileRow{Job: 2, Index: 1})}})
	want := []string{"1 job 1 'é'", "2 job 2 'é'", "6 new", "9 job 9 'é'", "1.3 new", "2.0 old", "2.1 new", "2.2 old", "6.0 old", "6.1 new", "6.2 new", "9.0 new"}
	list := func(c content) (got []string) {
		for _, j := range c.Jobs {
			got = append(got, fmt.Sprint(j.Num, " ", j.Name))
		}
		for _, f := range c.Files {
			got = append(got, fmt.Sprintf("%d.%d %s", f.Job, f.Index, f.Remote))
		}
		return got
	}
	after := mustOpen(t, crash(t, s))
	if diff := cmp.Diff(want, list(load(t, after))); diff != "" {
		t.Errorf("from the journal (-want +got):\n%s", diff)
	}
	if err := after.flush(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, list(load(t, after))); diff != "" {
		t.Errorf("from SQLite (-want +got):\n%s", diff)
	}
	mustClose(t, after)
}

// TestJournalTurnsAround writes many times the journal's size, so that both segments are used
// again and again, and records larger than a segment between.
func TestJournalTurnsAround(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	big := strings.Repeat("x", segmentSize/5)
	for n := int64(1); n <= 30; n++ {
		j := job(n % 4)
		j.Detail = &Detail{Description: fmt.Sprint(n) + big}
		if n%10 == 0 {
			j.Detail.Description = fmt.Sprint(n) + strings.Repeat("y", segmentSize+1)
		}
		mustCommit(t, s, &Change{Jobs: []*Job{j}})
		if n%7 == 0 {
			after := mustOpen(t, crash(t, s))
			newest := ""
			for _, g := range load(t, after).Jobs {
				if g.Num == n%4 {
					newest = g.Detail.Description
				}
			}
			if newest != j.Detail.Description {
				t.Fatalf("after commit %d the newest record is not there", n)
			}
			mustClose(t, after)
		}
	}
	mustClose(t, s)
}

// TestATornRecordIsNoRecord cuts and flips the journal's last record at every byte.
func TestATornRecordIsNoRecord(t *testing.T) {
	dir := t.TempDir()
	j, _, err := openJournal(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	for _, p := range []string{"one", "the second record", "3"} {
		if _, err := j.append([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	whole := make([]byte, j.segments[0].used)
	if _, err := j.segments[0].f.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	second := align8(recordHeader + 3)
	third := second + align8(recordHeader+len("the second record"))
	for i := second; i < third; i++ {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x10
		_, records, err := parseSegment(bytes.NewReader(flipped))
		inPadding := i >= second+recordHeader+len("the second record")
		if want := 1; err != nil || len(records) != want && (!inPadding || len(records) != 3) {
			t.Errorf("byte %d flipped: %d records, %v; want %d", i, len(records), err, want)
		}
		_, records, err = parseSegment(bytes.NewReader(whole[:i]))
		if err != nil || len(records) != 1 {
			t.Errorf("cut at %d: %d records, %v; want 1", i, len(records), err)
		}
	}
}

func TestStaleRecordsOfAnEarlierFillingAreIgnored(t *testing.T) {
	dir := t.TempDir()
	j, _, err := openJournal(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := j.append([]byte("old")); err != nil {
			t.Fatal(err)
		}
	}
	j.close()
	j, found, err := openJournal(dir, 5)
	if err != nil || len(found) != 0 {
		t.Fatalf("%d records, %v", len(found), err)
	}
	if _, err := j.append([]byte("new")); err != nil {
		t.Fatal(err)
	}
	j.close()
	j, found, err = openJournal(dir, 5)
	if err != nil || len(found) != 1 || string(found[0].payload) != "new" || found[0].seq != 6 {
		t.Fatalf("found %+v, %v", found, err)
	}
	j.close()
}

func TestUnusableStoresAreToldApart(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
	}{
		{"not a database", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, databaseName), bytes.Repeat([]byte("garbage "), 4096))
		}},
		{"damaged pages", func(t *testing.T, dir string) {
			name := filepath.Join(dir, databaseName)
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for i := 4096; i < len(data); i++ {
				data[i] ^= 0x55
			}
			write(t, name, data)
		}},
		{"newer schema", func(t *testing.T, dir string) {
			db, err := sql.Open("sqlite", dsn(filepath.Join(dir, databaseName)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec("PRAGMA user_version = 999"); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}},
		{"journal of another store", func(t *testing.T, dir string) {
			j, _, err := openJournal(dir, 1_000_000)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := j.append([]byte("{}")); err != nil {
				t.Fatal(err)
			}
			j.close()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir)
			for n := int64(1); n <= 300; n++ {
				mustCommit(t, s, change(n))
			}
			mustClose(t, s)
			c.spoil(t, dir)
			before := names(t, dir)

			s, err := Open(dir, func(err error) { t.Error(err) })
			if err == nil {
				err = s.Load(func(*Job) error { return nil }, func(FileRow) error { return nil })
				s.Close()
			}
			if !errors.Is(err, ErrUnusable) {
				t.Fatalf("error %v, want ErrUnusable", err)
			}
			aside, err := SetAside(dir, time.Unix(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			if len(names(t, dir)) < len(before) {
				t.Errorf("files were lost: %v, then %v", before, names(t, dir))
			}
			if got := Aside(dir); !slices.Equal(got, []string{aside}) {
				t.Errorf("set aside are %v, want %s", got, aside)
			}
			s = mustOpen(t, dir)
			if got := load(t, s); len(got.Jobs) != 0 {
				t.Errorf("the fresh store has %d jobs", len(got.Jobs))
			}
			mustClose(t, s)
		})
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestRestoreBringsBackTheBackup(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	mustCommit(t, s, change(1))
	if err := s.Backup(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := load(t, s)
	mustCommit(t, s, change(2))
	mustClose(t, s)
	if _, _, err := Restore(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir)
	defer mustClose(t, s)
	if diff := cmp.Diff(want, load(t, s)); diff != "" {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
	mustCommit(t, s, change(3)) // the numbers of the journal go on from the backup's
	after := mustOpen(t, crash(t, s))
	defer mustClose(t, after)
	if got := load(t, after); len(got.Jobs) != 2 {
		t.Errorf("%d jobs after a crash, want 2", len(got.Jobs))
	}
}

func TestRestoreWithoutABackup(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir))
	before := names(t, dir)
	if _, _, err := Restore(dir, time.Now()); err == nil || !strings.Contains(err.Error(), "no backup") {
		t.Errorf("error %v", err)
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("the store changed: %v, then %v", before, after)
	}
}

func TestBackupIsMadeOnlyWhenSomethingChanged(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	defer mustClose(t, s)
	stat := func() os.FileInfo {
		if err := s.Backup(t.Context()); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(filepath.Join(dir, BackupName))
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	mustCommit(t, s, change(1))
	first := stat()
	if !os.SameFile(first, stat()) {
		t.Error("a second backup was made though nothing changed")
	}
	mustCommit(t, s, change(2))
	if os.SameFile(first, stat()) {
		t.Error("no backup was made though a job was added")
	}
}

func TestEventsAreReadFromAnyNumberAndForgotten(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	defer mustClose(t, s)
	for n := uint64(1); n <= 9; n += 3 {
		var c Change
		for i := n; i < n+3; i++ {
			c.Events = append(c.Events, Event{Event: bits.Event{Seq: i, Time: time.Unix(int64(i), 0)}})
		}
		mustCommit(t, s, &c)
	}
	for after := range uint64(10) {
		events, err := s.Events(after, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) != int(9-after) || len(events) > 0 && events[0].Seq != after+1 {
			t.Errorf("after %d: %d events", after, len(events))
		}
	}
	if err := s.PruneEvents(time.Unix(5, 0), 100); err != nil {
		t.Fatal(err)
	}
	if events, err := s.Events(0, 100); err != nil || len(events) != 6 {
		t.Errorf("%d events left, %v; want the six of the commits that hold newer ones", len(events), err)
	}
}

// TestAFloodForgetsOnlyItsOwn: whoever makes many events loses the oldest of them, nobody else does.
func TestAFloodForgetsOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	var seq uint64
	commit := func(uids ...uint32) {
		var c Change
		for _, uid := range uids {
			seq++
			c.Events = append(c.Events, Event{bits.Event{Seq: seq, Time: time.Unix(int64(seq), 0)}, uid})
		}
		mustCommit(t, s, &c)
	}
	commit(1, 2, 1) // users whose events come in one commit stay in order
	for range 30 {
		commit(3, 3)
		commit(3, 1, 3)
	}
	commit(2)
	has := func() (n map[uint32]int) {
		n = map[uint32]int{}
		var last uint64
		for {
			events, err := s.Events(last, 7)
			if err != nil {
				t.Fatal(err)
			}
			if len(events) == 0 {
				return n
			}
			for _, e := range events {
				if e.Seq <= last {
					t.Fatalf("the event %d comes after %d", e.Seq, last)
				}
				last = e.Seq
				n[e.UID]++
			}
		}
	}
	gone := func(of ...uint32) uint64 {
		return s.Forgotten(func(uid uint32) bool { return slices.Contains(of, uid) })
	}
	if err := s.PruneEvents(time.Unix(0, 0), 1000); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[uint32]int{1: 32, 2: 2, 3: 120}, has()); diff != "" || gone(1, 2, 3) != 0 {
		t.Fatalf("before: %s; forgotten up to %d", diff, gone(1, 2, 3))
	}
	if err := s.PruneEvents(time.Unix(0, 0), 100); err != nil {
		t.Fatal(err)
	}
	left := has()
	if left[1] != 32 || left[2] != 2 || left[3] < 60 || left[3] > 66 {
		t.Errorf("after the flood there are %v, want 32, 2 and at most 66", left)
	}
	if gone(1, 2) != 0 || gone(3) == 0 || gone(3) >= seq {
		t.Errorf("forgotten up to %d of the others and to %d of those of the flood", gone(1, 2), gone(3))
	}
	flood := gone(3)
	if err := s.PruneEvents(time.Unix(3, 0), 100); err != nil { // all before the third second
		t.Fatal(err)
	}
	if n := has(); n[1] != 31 || n[2] != 1 || gone(1) != 1 || gone(2) != 2 || gone(3) != flood {
		t.Errorf("by time: %v, forgotten %d, %d, %d", n, gone(1), gone(2), gone(3))
	}
	if err := s.PruneEvents(time.Unix(int64(seq)+1, 0), 100); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, dir)
	defer mustClose(t, s)
	if last, err := s.LastEvent(); err != nil || last != seq || gone(2) != seq {
		t.Errorf("with no event left the last one is %d, %v, and %d the last that was forgotten; want %d", last, err, gone(2), seq)
	}
}

func TestFairShare(t *testing.T) {
	for _, c := range []struct {
		has  []uint64
		all  uint64
		want uint64
	}{
		{nil, 10, math.MaxUint64},
		{[]uint64{10}, 10, math.MaxUint64},
		{[]uint64{11}, 10, 10},
		{[]uint64{3, 100}, 10, 7},
		{[]uint64{100, 3, 100}, 10, 3},
		{[]uint64{1, 100, 2, 100}, 10, 3},
		{[]uint64{5, 5, 5}, 2, 0},
	} {
		if got := fairShare(slices.Clone(c.has), c.all); got != c.want {
			t.Errorf("of %d, those who have %v may have %d, want %d", c.all, c.has, got, c.want)
		}
	}
}

func FuzzParseSegment(f *testing.F) {
	dir := f.TempDir()
	j, _, err := openJournal(dir, 0)
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []string{"{}", `{"jobs":[]}`} {
		if _, err := j.append([]byte(p)); err != nil {
			f.Fatal(err)
		}
	}
	seed := make([]byte, 128)
	if _, err := j.segments[0].f.ReadAt(seed, 0); err != nil {
		f.Fatal(err)
	}
	j.close()
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, records, err := parseSegment(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(records); i++ {
			if records[i].seq <= records[i-1].seq {
				t.Fatalf("record %d follows %d", records[i].seq, records[i-1].seq)
			}
		}
	})
}

// TestALargeChangeThatFailsTakesNoNumber lets SQLite refuse a change that is larger than the
// journal: later changes must be found after a restart.
func TestALargeChangeThatFailsTakesNoNumber(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	mustCommit(t, s, change(1))
	if _, err := s.db.sql.Exec("CREATE TRIGGER refuse BEFORE INSERT ON jobs WHEN new.num = 7 BEGIN SELECT raise(ABORT, 'disk full'); END"); err != nil {
		t.Fatal(err)
	}
	big := job(7)
	big.Detail = &Detail{Description: strings.Repeat("x", segmentSize+1)}
	if err := s.Commit(&Change{Jobs: []*Job{big}}); err == nil {
		t.Fatal("the change was taken")
	}
	mustCommit(t, s, change(2))
	after := mustOpen(t, crash(t, s))
	if got := load(t, after); len(got.Jobs) != 2 {
		t.Errorf("%d jobs, want 2", len(got.Jobs))
	}
	mustClose(t, after)
	mustClose(t, s)
}

func TestAStoreThatWasSetAsideComesBackWhole(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	mustCommit(t, s, change(1))
	old := crash(t, s) // with a journal that SQLite does not have yet
	mustClose(t, s)
	aside, err := SetAside(old, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	fresh := mustOpen(t, old)
	mustCommit(t, fresh, change(2))
	mustClose(t, fresh)
	if _, err := RestoreAside(old, filepath.Join(dir, filepath.Base(aside)), time.Unix(2, 0)); err == nil {
		t.Error("a store of another directory was taken")
	}
	if _, err := RestoreAside(old, aside, time.Unix(2, 0)); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, old)
	defer mustClose(t, s)
	if got := load(t, s); len(got.Jobs) != 1 || got.Jobs[0].Num != 1 {
		t.Errorf("got %+v", got.Jobs)
	}
}

// TestStoreOfAnOlderVersion opens a store that was made before uploads.
func TestStoreOfAnOlderVersion(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	mustCommit(t, s, change(3))
	mustCommit(t, s, &Change{Events: []Event{{bits.Event{Seq: 10}, 7}, {bits.Event{Seq: 11}, 7}}})
	want := load(t, s)
	mustClose(t, s)
	version := func(query string) (n int) {
		t.Helper()
		db, err := sql.Open("sqlite", dsn(filepath.Join(dir, databaseName)))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.QueryRow(query).Scan(&n); err != nil && !errors.Is(err, sql.ErrNoRows) {
			t.Fatal(err)
		}
		return n
	}
	version("ALTER TABLE files DROP COLUMN extra")
	version("DROP TABLE forgotten")
	version("ALTER TABLE events DROP COLUMN n")
	version("ALTER TABLE events DROP COLUMN uid")
	version("PRAGMA user_version = 1")
	s = mustOpen(t, dir)
	if diff := cmp.Diff(want, load(t, s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	mustClose(t, s)
	if n := version("PRAGMA user_version"); n != len(migrations) {
		t.Errorf("the schema is %d, want %d", n, len(migrations))
	}
	if n := version("SELECT n FROM events WHERE uid = 7"); n != 2 {
		t.Errorf("the row of old events has %d of the user, want 2", n)
	}
}
