package client_test

import (
	"context"
	"iter"
	"slices"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func TestFindTakesAnyName(t *testing.T) {
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
		if _, err := job.Cancel(ctx); err != nil {
			t.Error(err)
		}
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
	if second, err, ok := next(); !ok || err != nil || second.ID != ids[2] {
		t.Errorf("then comes %v, %v", second.ID, err)
	}
	if _, _, ok := next(); ok {
		t.Error("there is a job behind the last")
	}
}
