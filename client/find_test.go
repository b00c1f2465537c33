package client_test

import (
	"context"
	"errors"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// TestFind: GetJob, by an id, the beginning of one, or any name. Client.md 1.2.
func TestFind(t *testing.T) {
	ctx := context.Background()
	m := client.New(socket)
	defer m.Close()
	for _, name := range []string{"a/b", "../x", "a//b/", "50% ?#&;", "a\\b", "%2F", "ä 中"} {
		job, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: &name}})
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		found, err := m.Find(ctx, name)
		if err != nil || found.ID != job.ID {
			t.Errorf("%q: got %v, %v", name, found, err)
		}
		id := job.ID.String()
		for _, ref := range []string{id, "{" + strings.ToUpper(id) + "}", id[:20]} {
			if found, err := m.Find(ctx, ref); err != nil || found.ID != job.ID {
				t.Errorf("%q: got %v, %v", ref, found, err)
			}
		}
		if got, err := m.Job(job.ID).Name(ctx); err != nil || got != name {
			t.Errorf("the job %s has the name %q, want %q: %v", id, got, name, err)
		}
		if _, err := job.Cancel(ctx); err != nil {
			t.Error(err)
		}
		if s, err := job.State(ctx); err != nil || s != bits.Cancelled {
			t.Errorf("who has a job finds it %s once it was cancelled: %v", s, err)
		}
	}
	nobody := bits.NewID()
	if found, err := m.Find(ctx, nobody.String()); !errors.Is(err, &bits.Error{Code: bits.NotFound}) {
		t.Errorf("a job that nobody made: %v, %v", found, err)
	}
	if _, err := m.Job(nobody).State(ctx); !errors.Is(err, &bits.Error{Code: bits.NotFound}) {
		t.Errorf("a job that nobody made: %v", err)
	}
}

// TestEnumerators: what BITS's enumerators do with jobs.
func TestEnumerators(t *testing.T) {
	ctx := context.Background()
	m := client.New(socket)
	defer m.Close()
	count := func() int {
		t.Helper()
		s, err := m.Service(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return s.Jobs[bits.Suspended.String()]
	}
	before := count()
	var ids []bits.ID
	for _, name := range []string{"one", "two", "three"} {
		job, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: &name}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = job.Cancel(ctx) }()
		ids = append(ids, job.ID)
	}
	if got := count(); got != before+3 { // GetCount
		t.Errorf("there are %d jobs, want %d", got, before+3)
	}
	rest := func(o client.ListOptions) (list []bits.ID) {
		t.Helper()
		for j, err := range m.List(ctx, o) {
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, j.ID)
		}
		return list
	}
	all := rest(client.ListOptions{})
	if n := len(all) - 3; n < 0 || !slices.Equal(all[n:], ids) {
		t.Errorf("the list %v does not end with %v", all, ids)
	}
	if again := rest(client.ListOptions{}); !slices.Equal(again, all) { // Reset
		t.Errorf("a second list is %v, the first was %v", again, all)
	}
	skip := client.ListOptions{After: ids[0]}
	if got := rest(skip); !slices.Equal(got, ids[1:]) { // Skip
		t.Errorf("after the first job come %v", got)
	}
	// Next, and a Clone that goes on from the same place while the first goes its own way.
	next, stop := iter.Pull2(m.List(ctx, skip))
	defer stop()
	first, err, ok := next()
	if !ok || err != nil || first.ID != ids[1] {
		t.Fatalf("the next job is %v, %v", first.ID, err)
	}
	if clone := rest(client.ListOptions{After: first.ID}); !slices.Equal(clone, ids[2:]) {
		t.Errorf("the clone goes on with %v", clone)
	}
	// What comes later is in a new list, not in the one that was begun.
	late, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: new("late")}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = late.Cancel(ctx) }()
	if second, err, ok := next(); !ok || err != nil || second.ID != ids[2] {
		t.Errorf("then comes %v, %v", second.ID, err)
	}
	if _, _, ok := next(); ok {
		t.Error("there is a job behind the last")
	}
	if got := rest(client.ListOptions{After: ids[2]}); !slices.Equal(got, []bits.ID{late.ID}) {
		t.Errorf("a list that begins later has %v", got)
	}

	// The files of a job are a slice, in the order in which they were added.
	want := []bits.FileSpec{{Remote: origin + "b", Local: filepath.Join(dir, "1")}, {Remote: origin + "a", Local: filepath.Join(dir, "2")}, {Remote: origin + "a", Local: filepath.Join(dir, "0")}}
	for _, f := range want {
		if err := late.AddFiles(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	files, err := late.Files(ctx)
	if err != nil || len(files) != len(want) {
		t.Fatalf("the files are %+v, %v", files, err)
	}
	for i, f := range files {
		if f.Index != i || f.Remote != want[i].Remote || f.Local != want[i].Local || f.Ranges != nil {
			t.Errorf("file %d is %+v, want %+v", i, f, want[i])
		}
	}
}
