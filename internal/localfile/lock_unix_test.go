//go:build unix

package localfile

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("a lock that somebody has: %v, want %v", err, ErrLocked)
	}
	time.AfterFunc(lockPatience/10, unlock) // as what a killed process had just started does
	unlock, err = Lock(path)
	if err != nil {
		t.Fatalf("a lock that is given back in a moment: %v", err)
	}
	unlock()
}
