package conditions

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestUsersAreSeenAtOnce(t *testing.T) {
	b := newBus(t)
	l, err := b.Logind()
	ok(t, err, l.Is(1001, "user", "online", false))
	w := watch(t)
	is := func(what string, uids ...uint32) {
		t.Helper()
		w.until(what, func(s State) bool { return s.Users == LoggedOnUsers(uids...) })
	}
	is("one has a session", 1001)
	for _, c := range []struct {
		class, state string
		lingers, on  bool
	}{
		{"user", "active", false, true},
		{"background", "online", false, false}, // of cron
		{"", "", true, true},
		{"greeter", "online", false, false},
		{"user", "opening", false, true},
		{"user", "closing", false, false}, // something was left running in it
		{"user", "closing", true, true},
		{"", "", false, false},
		{"user-early", "online", false, true},
	} {
		ok(t, l.Is(1000, c.class, c.state, c.lingers))
		if c.on {
			is("both are there", 1000, 1001)
		} else {
			is("one is there", 1001)
		}
	}
	ok(t, l.Gone(1000), l.Gone(1001))
	is("nobody is there")
}

// A service that starts again is not taken for one that is gone; without one nobody is known to be away.
func TestWithoutLogindNobodyIsAway(t *testing.T) {
	b := newBus(t)
	w := watch(t)
	if s := w.until("nothing", func(State) bool { return true }); s.Users.Known() || !s.Users.LoggedOn(1000) {
		t.Errorf("without logind %+v", s.Users)
	}
	l, err := b.Logind()
	ok(t, err)
	w.until("nobody is there", func(s State) bool { return s.Users == LoggedOnUsers() })
	ok(t, l.Go(), l.Come(), l.Is(1000, "user", "online", false))
	if s := w.until("another state", func(State) bool { return true }); s.Users != LoggedOnUsers(1000) {
		t.Errorf("when logind was back it was %+v", s.Users)
	}
	ok(t, l.Go())
	w.until("nothing", func(s State) bool { return !s.Users.Known() })
}

// Nor is it if there is another reason to look meanwhile.
func TestWhileLogindStartsAnewUsersStayWhatTheyWere(t *testing.T) {
	b := newBus(t)
	u, err := b.UPower()
	ok(t, err)
	l, err := b.Logind()
	ok(t, err, l.Is(1000, "user", "online", false))
	w := watch(t)
	w.until("one is there", func(s State) bool { return s.Users == LoggedOnUsers(1000) && s.PowerSource == "UPower" })
	ok(t, l.Go(), u.OnBattery(true))
	if s := w.until("the power", func(s State) bool { return s.OnBattery }); s.Users != LoggedOnUsers(1000) {
		t.Errorf("while logind was away it was %+v", s.Users)
	}
	w.until("nothing", func(s State) bool { return !s.Users.Known() }) // it is away for good
}

func TestSystemUsersAreAlwaysThere(t *testing.T) {
	u := LoggedOnUsers(1001, 1000, 1000)
	for uid, want := range map[uint32]bool{0: true, 33: true, 999: true, 1000: true, 1001: true, 100: true, 1002: false, 10001: false, 61183: false, 61184: true, 65519: true, 65534: true, 1 << 31: false} {
		if u.LoggedOn(uid) != want {
			t.Errorf("user %d: %t", uid, !want)
		}
	}
	if LoggedOnUsers(1000, 1001) != u || LoggedOnUsers() == (Users{}) {
		t.Error("sets are not values")
	}
}

// That a user lingers is a file, in a directory that is made for the first one.
func TestLingeringIsSeen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "linger")
	changed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { watchLingering(ctx, dir, changed) })
	defer work.Wait()
	defer cancel()
	// It is not known when it begins to watch.
	sees := func(what string, change func() error) {
		t.Helper()
		end := time.After(time.Minute)
		for {
			ok(t, change())
			select {
			case <-changed:
				return
			case <-end:
				t.Fatal(what, "is not seen")
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	sees("the first one", func() error {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		return os.Mkdir(dir, 0o755)
	})
	for _, name := range []string{"alice", "bob"} {
		sees(name, func() error {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				return err
			}
			return os.Remove(filepath.Join(dir, name))
		})
	}
}
