package policy

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

func parse(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := Parse("", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", joined(t, err), text)
	}
	return &p
}

// moment reads a time of a zone; with an offset where the clock shows it twice.
func moment(t *testing.T, zone, s string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := time.Parse("2006-01-02 15:04 -07:00", s); err == nil {
		return m.In(loc)
	}
	m, err := time.ParseInLocation("2006-01-02 15:04", s, loc)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const office = `
[bandwidth]
timezone = "Europe/Berlin"
background = "80 kbit/s"
foreground = "8 Mbit/s"
[bandwidth.work]
high = "2 Mbit/s"
low = "block"
[bandwidth.nonwork]
low = "1 kbit/s"
[bandwidth.maintenance]
days = "Sat"
hours = "22:30-06:00"
high = "unlimited"
`

func TestLimit(t *testing.T) {
	const interval = "[bandwidth]\ntimezone = 'Europe/Berlin'\n[bandwidth.interval]\nhours = '09:00-18:00'\nlimit = '8 kbit/s'\n"
	for _, c := range []struct {
		name, text string
		prio       bits.Priority
		now        string // in Berlin; 2026-11-20 is a Friday
		want       Limit
		until      string
	}{
		{"no rule", "", bits.Low, "2026-11-20 12:00", Limit{Rate: Unlimited}, ""},
		{"foreground", office, bits.Foreground, "2026-11-20 12:00", Limit{Rate: 1_000_000, Rule: "foreground", Key: "bandwidth.foreground"}, ""},
		{"work", office, bits.High, "2026-11-20 08:00", Limit{Rate: 250_000, Rule: "work", Key: "bandwidth.work.high"}, "2026-11-20 17:00"},
		{"blocked", office, bits.Low, "2026-11-20 16:59", Limit{Rate: 0, Rule: "work", Key: "bandwidth.work.low"}, "2026-11-20 17:00"},
		{"a level that no schedule names", office, bits.Normal, "2026-11-20 12:00", Limit{Rate: 10_000, Rule: "background", Key: "bandwidth.background"}, ""},
		{"less than 2 kbit/s, over the weekend", office, bits.Low, "2026-11-20 17:00", Limit{Rate: 250, Rule: "nonwork", Key: "bandwidth.nonwork.low"}, "2026-11-23 08:00"},
		{"maintenance lifts the limit", office, bits.High, "2026-11-21 22:30", Limit{Rate: Unlimited, Rule: "maintenance", Key: "bandwidth.maintenance.high"}, "2026-11-22 06:00"},
		{"past midnight it is still Saturday's", office, bits.High, "2026-11-22 05:59", Limit{Rate: Unlimited, Rule: "maintenance", Key: "bandwidth.maintenance.high"}, "2026-11-22 06:00"},
		{"before midnight of Sunday it is not", office, bits.High, "2026-11-22 22:30", Limit{Rate: 10_000, Rule: "background", Key: "bandwidth.background"}, "2026-11-23 08:00"},
		{"inside the interval", interval, bits.Low, "2026-11-21 09:00", Limit{Rate: 1000, Rule: "interval", Key: "bandwidth.interval.limit"}, "2026-11-21 18:00"},
		{"outside the interval", interval, bits.Low, "2026-11-21 18:00", Limit{Rate: Unlimited}, "2026-11-22 09:00"},
		{"otherwise", interval + "otherwise = '80 kbit/s'\n", bits.Low, "2026-11-21 18:00", Limit{Rate: 10_000, Rule: "interval", Key: "bandwidth.interval.otherwise"}, "2026-11-22 09:00"},
		{"schedules go before the interval", interval + "[bandwidth.work]\nlow = '4 kbit/s'\n", bits.Low, "2026-11-20 10:00", Limit{Rate: 500, Rule: "work", Key: "bandwidth.work.low"}, "2026-11-20 17:00"},
		{"the interval where they say nothing", interval + "[bandwidth.work]\nlow = '4 kbit/s'\n", bits.High, "2026-11-20 10:00", Limit{Rate: 1000, Rule: "interval", Key: "bandwidth.interval.limit"}, "2026-11-20 18:00"},
		{"from the week's last day into its first", "[bandwidth]\ntimezone = 'Europe/Berlin'\nwork = { days = 'Sat', hours = '20:00-04:00', low = 'block' }\n",
			bits.Low, "2026-11-22 03:59", Limit{Rate: 0, Rule: "work", Key: "bandwidth.work.low"}, "2026-11-22 04:00"},
		{"the whole day", "[bandwidth]\ntimezone = 'Europe/Berlin'\nwork = { days = 'Fri', hours = '08:00-08:00', low = 'block' }\n",
			bits.Low, "2026-11-21 07:59", Limit{Rate: 0, Rule: "work", Key: "bandwidth.work.low"}, "2026-11-21 08:00"},
		{"every day and all day", "bandwidth.work = { days = 'daily', hours = '00:00-24:00', low = 'block' }\n",
			bits.Low, "2026-11-21 00:00", Limit{Rate: 0, Rule: "work", Key: "bandwidth.work.low"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := moment(t, "Europe/Berlin", c.now)
			var until time.Time
			if c.until != "" {
				until = moment(t, "Europe/Berlin", c.until)
			}
			got := parse(t, c.text).Limit(c.prio, now)
			if !got.Until.Equal(until) {
				t.Errorf("until %v, want %v", got.Until, until)
			}
			if got.Until = c.want.Until; got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// A rule holds while the clock shows a time within it: on the day on which the clock is put
// forward over a rule it does not come, and what the clock shows twice comes twice.
func TestClockPutForwardAndBack(t *testing.T) {
	type step struct{ from, until string } // when the rule holds
	for _, c := range []struct {
		name, zone, hours string
		start, end        string
		want              []step
	}{
		{"a rule in the gap", "Europe/Berlin", "02:00-03:00", "2026-03-28 12:00", "2026-03-30 12:00", []step{{"2026-03-30 02:00", "2026-03-30 03:00"}}},
		{"half in the gap", "Europe/Berlin", "01:30-02:30", "2026-03-29 00:00", "2026-03-30 00:00", []step{{"2026-03-29 01:30 +01:00", "2026-03-29 03:00 +02:00"}}},
		{"begins in the gap", "Europe/Berlin", "02:30-04:00", "2026-03-29 00:00", "2026-03-30 00:00", []step{{"2026-03-29 03:00 +02:00", "2026-03-29 04:00 +02:00"}}},
		{"twice", "Europe/Berlin", "02:00-02:30", "2026-10-25 00:00", "2026-10-26 00:00", []step{{"2026-10-25 02:00 +02:00", "2026-10-25 02:30 +02:00"}, {"2026-10-25 02:00 +01:00", "2026-10-25 02:30 +01:00"}}},
		{"across the repeated hour", "Europe/Berlin", "01:30-04:00", "2026-10-25 00:00", "2026-10-26 00:00", []step{{"2026-10-25 01:30 +02:00", "2026-10-25 04:00 +01:00"}}},
		{"ends when it is repeated", "Europe/Berlin", "22:00-02:00", "2026-10-24 12:00", "2026-10-25 12:00", []step{{"2026-10-24 22:00 +02:00", "2026-10-25 02:00 +02:00"}}},
		{"ends within what is repeated", "Europe/Berlin", "22:00-02:15", "2026-10-24 12:00", "2026-10-25 12:00", []step{{"2026-10-24 22:00 +02:00", "2026-10-25 02:15 +02:00"}, {"2026-10-25 02:00 +01:00", "2026-10-25 02:15 +01:00"}}},
		{"01:30 that comes twice", "America/New_York", "01:30-01:31", "2026-11-01 00:00", "2026-11-02 00:00", []step{{"2026-11-01 01:30 -04:00", "2026-11-01 01:31 -04:00"}, {"2026-11-01 01:30 -05:00", "2026-11-01 01:31 -05:00"}}},
		{"the gap of New York", "America/New_York", "02:00-03:00", "2026-03-08 00:00", "2026-03-09 12:00", []step{{"2026-03-09 02:00", "2026-03-09 03:00"}}},
		{"half an hour forward", "Australia/Lord_Howe", "02:00-02:45", "2026-10-04 00:00", "2026-10-05 00:00", []step{{"2026-10-04 02:30 +11:00", "2026-10-04 02:45 +11:00"}}},
		{"half an hour back", "Australia/Lord_Howe", "01:40-01:50", "2026-04-05 00:00", "2026-04-06 00:00", []step{{"2026-04-05 01:40 +11:00", "2026-04-05 01:50 +11:00"}, {"2026-04-05 01:40 +10:30", "2026-04-05 01:50 +10:30"}}},
		{"an offset of 5:45", "Asia/Kathmandu", "08:00-17:00", "2026-03-29 00:00", "2026-03-30 00:00", []step{{"2026-03-29 08:00 +05:45", "2026-03-29 17:00 +05:45"}}},
		{"at midnight", "Asia/Beirut", "23:00-01:00", "2026-03-28 12:00", "2026-03-29 12:00", []step{{"2026-03-28 23:00 +02:00", "2026-03-29 01:00 +03:00"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := parse(t, "[bandwidth]\ntimezone = '"+c.zone+"'\nwork = { days = 'daily', hours = '"+c.hours+"', low = 'block' }\n")
			end := moment(t, c.zone, c.end)
			var got []step
			const form = "2006-01-02 15:04 -07:00"
			for now := moment(t, c.zone, c.start); !now.IsZero() && now.Before(end); {
				l := p.Limit(bits.Low, now)
				if l.Rate == 0 {
					got = append(got, step{now.Format(form), l.Until.Format(form)})
				}
				now = l.Until
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
			for i, w := range c.want {
				if f, u := moment(t, c.zone, w.from), moment(t, c.zone, w.until); f.Format(form) != got[i].from || u.Format(form) != got[i].until {
					t.Errorf("got %v, want %v", got[i], w)
				}
			}
		})
	}
}

// The days of a schedule count when the clock is put back over midnight: what began on Saturday
// is Saturday's when the clock shows Saturday again.
func TestDayThatComesTwice(t *testing.T) {
	// On 2026-04-05 the clock of Santiago goes back from 00:00 to 23:00 of Saturday.
	p := parse(t, "[bandwidth]\ntimezone = 'America/Santiago'\nwork = { days = 'Sat', hours = '00:00-24:00', low = 'block' }\n")
	l := p.Limit(bits.Low, moment(t, "America/Santiago", "2026-04-04 12:00"))
	if want := moment(t, "America/Santiago", "2026-04-05 00:00 -04:00"); l.Rate != 0 || !l.Until.Equal(want) {
		t.Errorf("%+v, want until %v", l, want)
	}
}

// What the clock shows counts, not how it came to show it: after a step the limit is right at
// once, in both directions.
func TestSteppedClock(t *testing.T) {
	p := parse(t, office)
	at := func(s string) int64 { return p.Limit(bits.Low, moment(t, "Europe/Berlin", s)).Rate }
	for _, s := range []struct {
		now  string
		want int64
	}{{"2026-11-20 12:00", 0}, {"2026-11-20 20:00", 250}, {"2026-11-20 11:00", 0}, {"2001-01-06 11:00", 250}, {"2040-11-20 11:00", 0}} {
		if got := at(s.now); got != s.want {
			t.Errorf("at %s: %d, want %d", s.now, got, s.want)
		}
	}
}

// A time with a monotonic part, as time.Now has, counts by what the clock shows.
func TestUntilIsATimeOfTheClock(t *testing.T) {
	p := parse(t, office)
	if u := p.Limit(bits.Low, time.Now()).Until; u != u.Round(0) {
		t.Errorf("%v has a monotonic part", u)
	}
}

// The limit changes exactly when it is said to: compared with looking at every minute of some
// weeks around the days on which clocks are changed.
func TestNextChangeAgainstEveryMinute(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	zones := []struct{ name, start string }{
		{"Europe/Berlin", "2026-03-20 00:00"}, {"Europe/Berlin", "2026-10-16 00:00"}, {"America/New_York", "2026-02-28 00:00"}, {"America/New_York", "2026-10-22 00:00"},
		{"Australia/Lord_Howe", "2026-09-24 00:00"}, {"Australia/Lord_Howe", "2026-03-26 00:00"}, {"Asia/Kathmandu", "2026-06-01 00:00"},
		{"America/Santiago", "2026-03-26 00:00"}, {"Africa/Casablanca", "2026-02-06 00:00"}, {"Pacific/Apia", "2011-12-20 00:00"}, // a day is left out
	}
	rates := []string{"unlimited", "block", "1 Mbit/s", "2 Mbit/s"}
	pick := func() string { return "'" + rates[rnd.IntN(len(rates))] + "'" }
	hours := func() string {
		steps := []int{1, 15, 60}[rnd.IntN(3)]
		h := func() int { return rnd.IntN(24*60/steps) * steps }
		return "'" + Hours{h(), h()}.String() + "'"
	}
	days := func() string { return "'" + Days(1+rnd.IntN(127)).String() + "'" }
	const minutes = 21 * 24 * 60
	for i := range 60 {
		zone := zones[i%len(zones)]
		text := "[bandwidth]\ntimezone = '" + zone.name + "'\nforeground = " + pick() + "\nbackground = " + pick() + "\n"
		for _, table := range []string{"work", "maintenance"} {
			if rnd.IntN(3) > 0 {
				text += "[bandwidth." + table + "]\ndays = " + days() + "\nhours = " + hours() + "\nlow = " + pick() + "\n"
				if rnd.IntN(2) > 0 {
					text += "high = " + pick() + "\n"
				}
			}
		}
		if rnd.IntN(2) > 0 {
			text += "[bandwidth.nonwork]\nnormal = " + pick() + "\n"
		}
		if rnd.IntN(2) > 0 {
			text += "[bandwidth.interval]\nhours = " + hours() + "\nlimit = " + pick() + "\n"
		}
		p := parse(t, text)
		type decision [bits.Priorities]Limit
		at := func(now time.Time) (d decision) {
			for prio := range d {
				d[prio] = p.Bandwidth.at(bits.Priority(prio), now)
			}
			return d
		}
		now := moment(t, zone.name, zone.start)
		last, next := at(now), p.NextChange(now)
		for range minutes {
			before := now
			now = now.Add(time.Minute)
			d := at(now)
			switch changed := d != last; {
			case changed && !next.Equal(now):
				t.Fatalf("%s\nchanges at %v, but after %v the next change is %v", text, now, before, next)
			case !changed && next.Equal(now):
				t.Fatalf("%s\ndoes not change at %v", text, now)
			case changed:
				last, next = d, p.NextChange(now)
			case rnd.IntN(500) == 0: // from the middle, too
				if again := p.NextChange(now.Add(time.Duration(rnd.Int64N(int64(time.Minute))))); !again.Equal(next) {
					t.Fatalf("%s\nafter %v the next change is %v, was %v", text, now, again, next)
				}
			}
		}
	}
}

func BenchmarkLimit(b *testing.B) {
	p, err := Parse("", []byte(office))
	if err != nil {
		b.Fatal(err)
	}
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for b.Loop() {
		p.Limit(bits.Low, now)
	}
}
