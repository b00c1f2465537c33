package api

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestConnectionsOfAUser: a user has so many connections, makes so many a second, and keeps nobody else from theirs.
func TestConnectionsOfAUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const alice, bob = 1000, 1001
		l := &limited{users: map[uint32]*conns{}}
		enter := func(uid uint32, n int) (got int) {
			for range n {
				if l.enter(uid) {
					got++
				}
			}
			return got
		}
		if n := enter(alice, 2*maxConns); n != maxConns {
			t.Errorf("%d connections at once, want %d", n, maxConns)
		}
		if n := enter(0, 4*maxConns); n != 4*maxConns {
			t.Errorf("root has %d connections", n)
		}
		if n := enter(bob, 1); n != 1 {
			t.Error("another user has none")
		}
		time.Sleep(time.Hour)
		if n := enter(alice, 1); n != 0 {
			t.Error("one too many after an hour")
		}
		for range maxConns {
			l.leave(alice)
		}
		for range maxConns { // one after the other
			if !l.enter(alice) {
				t.Fatal("a connection that may be made is refused")
			}
			l.leave(alice)
		}
		if l.enter(alice) {
			t.Error("who only connects and leaves is never refused")
		}
		time.Sleep(100 * time.Millisecond)
		if n := enter(alice, maxConns); n != connRate/10 {
			t.Errorf("%d connections after a tenth of a second, want %d", n, connRate/10)
		}
		for uid := range uint32(3 * manyUsers) {
			l.enter(5000 + uid)
			l.leave(5000 + uid)
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(l.users); n > manyUsers+1 || l.users[alice] == nil || l.users[bob] == nil {
			t.Errorf("%d users are remembered", n)
		}
	})
}
