package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// TestNamesFromElsewhere: a listing waits for no user database. A user that only another machine knows has a
// number for a name until it has answered, and the service ends though it never does.
func TestNamesFromElsewhere(t *testing.T) {
	const far, silent = 4_000_000_001, 4_000_000_002
	dir := t.TempDir()
	gate := filepath.Join(dir, "open")
	script := fmt.Sprintf(`#!/bin/sh
case "$1 $2" in
"passwd %d") while ! [ -e %s ]; do sleep 0.01; done; echo "far:x:%d:100::/:/bin/sh" ;;
"passwd %d") sleep 1000 ;;
"initgroups --") echo "$3 100" ;;
esac
`, far, gate, far, silent)
	if err := os.WriteFile(filepath.Join(dir, "getent"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	q := open(t, t.TempDir())
	for uid, name := range map[uint32]string{far: "his", silent: "hers"} {
		create(t, q, Caller{UID: uid, Self: 500}, name)
	}
	owners := func() map[string]string {
		got := map[string]string{}
		if err := q.List(root, ListOptions{AllUsers: true}, func(j bits.Job) bool { got[j.Name] = j.Owner; return true }); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := owners(); got["his"] != "4000000001" || got["hers"] != "4000000002" {
		t.Errorf("before the answer the owners are %v", got)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); owners()["his"] != "far"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the owners are %v", owners())
		}
	}
	if got := owners(); got["hers"] != "4000000002" {
		t.Errorf("the owners are %v", got)
	}
	shut(t, q)
}
