package policy

import (
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

func parse(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := Parse("", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

func moment(t *testing.T, zone, s string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02 15:04:05 -0700"} {
		if m, err := time.ParseInLocation(form, s, loc); err == nil {
			return m.In(loc)
		}
	}
	t.Fatalf("%q is not a time", s)
	return time.Time{}
}

func TestLimit(t *testing.T) {
	const work = "[bandwidth]\ntimezone = 'Europe/Berlin'\nbackground = '80 kbit/s'\nforeground = '8 Mbit/s'\n" +
		"[bandwidth.work]\nhigh = '2 Mbit/s'\nlow = 'block'\n[bandwidth.nonwork]\nlow = '1 kbit/s'\n" +
		"[bandwidth.maintenance]\ndays = 'Sat'\nhours = '22:30-06:00'\nhigh = 'unlimited'\n"
	for _, c := range []struct {
		text string
		prio bits.Priority
		now  string // in Berlin
		want Limit
		next string
	}{
		{work, bits.Foreground, "2026-11-20 12:00", Limit{Rate: 1_000_000, Rule: "foreground", Key: "bandwidth.foreground"}, ""},
		{work, bits.High, "2026-11-20 12:00", Limit{Rate: 250_000, Rule: "work", Key: "bandwidth.work.high"}, "2026-11-20 17:00"},
		{work, bits.Normal, "2026-11-20 12:00", Limit{Rate: 10_000, Rule: "background", Key: "bandwidth.background"}, ""},
		{work, bits.Low, "2026-11-20 12:00", Limit{Rate: 0, Rule: "work", Key: "bandwidth.work.low"}, "2026-11-20 17:00"},
		{work, bits.Low, "2026-11-20 17:00", Limit{Rate: 250, Rule: "nonwork", Key: "bandwidth.nonwork.low"}, "2026-11-23 08:00"},
		{work, bits.High, "2026-11-21 22:30", Limit{Rate: Unlimited, Rule: "maintenance", Key: "bandwidth.maintenance.high"}, "2026-11-22 06:00"},
		{"", bits.Low, "2026-11-20 12:00", Limit{Rate: Unlimited}, ""},
	} {
		now := moment(t, "Europe/Berlin", c.now)
		if c.next != "" {
			c.want.Until = moment(t, "Europe/Berlin", c.next)
		}
		got := parse(t, c.text).Limit(c.prio, now)
		if !got.Until.Equal(c.want.Until) {
			t.Errorf("%v at %s: until %v, want %v", c.prio, c.now, got.Until, c.want.Until)
		}
		got.Until, c.want.Until = time.Time{}, time.Time{}
		if got != c.want {
			t.Errorf("%v at %s: %+v, want %+v", c.prio, c.now, got, c.want)
		}
	}
}
