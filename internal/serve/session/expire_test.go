package session_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// info is a session that was touched some time before now.
func info(id string, now time.Time, ago time.Duration, published bool) session.Info {
	return session.Info{ID: id, Published: published, Created: now.Add(-ago), Touched: now.Add(-ago)}
}

func TestExpired(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	reply := info("with a reply", now, 13*day, true)
	reply.Reply = true
	old := info("with an old reply", now, 14*day, true)
	old.Reply = true
	list := []session.Info{
		old, info("old", now, 14*day, false), reply, info("under way", now, 13*day, false),
		info("finished a week ago", now, 7*day, true), info("finished this week", now, 7*day-time.Second, true),
	}
	for timeout, want := range map[time.Duration][]string{
		14 * day:                 {"finished a week ago", "old", "with an old reply"},
		time.Duration(1<<63 - 1): {"finished a week ago"},
		time.Minute:              {"finished a week ago", "finished this week", "old", "under way", "with a reply", "with an old reply"},
	} {
		var got []string
		for id := range session.Expired(list, now, timeout) {
			got = append(got, id)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("after %v: %q, want %q", timeout, got, want)
		}
	}
}

// Where there are many the oldest go sooner, but not before their clients had the time to ask again.
func TestExpiredOfMany(t *testing.T) {
	now := time.Now()
	list := []session.Info{info("under way", now, 3*time.Hour, false)}
	for i := range 3 {
		list = append(list, info(fmt.Sprint("old ", i), now, 2*time.Hour, true))
	}
	for i := range 9_998 {
		list = append(list, info(fmt.Sprint("new ", i), now, time.Minute, true))
	}
	if got := session.Expired(list, now, 14*24*time.Hour); len(got) != 1 || !got["old 0"] {
		t.Errorf("of one too many: %v", got)
	}
	for i := range 100 {
		list = append(list, info(fmt.Sprint("newer ", i), now, time.Second, true))
	}
	got := session.Expired(list, now, 14*24*time.Hour)
	for id := range got {
		if !strings.HasPrefix(id, "old ") {
			t.Errorf("%s expired", id)
		}
	}
	if len(got) != 3 {
		t.Errorf("of 101 too many %d expired, want the 3 that are older than an hour", len(got))
	}
}
