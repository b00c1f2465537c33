package policy

import (
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// Bandwidth holds the limits. Of the rules for background jobs the first that says something
// decides: maintenance while it lasts, work or else non-work, the interval, Background.
type Bandwidth struct {
	Zone       Zone // whose clock the rules mean
	Foreground Rate // foreground jobs together
	Background Rate // background jobs together, where no other rule says something
	LANExempt  bool // servers in a subnet of this machine are not held back (IgnoreBandwidthLimitsOnLan)

	Interval    Interval // MaxInternetBandwidth
	Work        Schedule
	NonWork     Levels // outside Work
	Maintenance Schedule
}

// Interval is BITS's simple limit: one rate within some hours of each day, one outside.
type Interval struct {
	Hours     Hours
	Limit     Rate
	Otherwise Rate
}

// Schedule is a part of the week with limits.
type Schedule struct {
	Days  Days // on which Hours begins
	Hours Hours
	Levels
}

// Levels are the limits of the background priorities.
type Levels struct{ High, Normal, Low Rate }

var noRates = Levels{NoRate, NoRate, NoRate}

func (l Levels) of(p bits.Priority) Rate {
	return [...]Rate{bits.High: l.High, bits.Normal: l.Normal, bits.Low: l.Low}[p]
}

// Limit is what the policy allows the jobs of one priority at one moment.
type Limit struct {
	Rate  int64     // bytes per second; Unlimited, or 0: nothing may move (BG_E_BLOCKED_BY_POLICY)
	Rule  string    // what decides: "foreground", "maintenance", "work", "nonwork", "interval", "background"; "" if nothing does
	Key   string    // the rule's key in the file, such as "bandwidth.work.high"
	Until time.Time // when the limit changes; zero: never
}

// Limit returns the limit of a priority's jobs. It depends on what the clock of the policy's
// time zone shows at the moment now, and on nothing before.
func (p *Policy) Limit(prio bits.Priority, now time.Time) Limit {
	l := p.Bandwidth.at(prio, now.In(p.Bandwidth.Zone.Location))
	if prio == bits.Foreground {
		return l
	}
	l.Until = p.Bandwidth.next(now, func(t time.Time) bool {
		m := p.Bandwidth.at(prio, t)
		return m.Rate != l.Rate || m.Key != l.Key
	})
	return l
}

// NextChange returns the first moment after now at which the Limit of some priority changes;
// zero if none does.
func (p *Policy) NextChange(now time.Time) time.Time {
	var first time.Time
	for prio := range bits.Priority(bits.Priorities) {
		if u := p.Limit(prio, now).Until; !u.IsZero() && (first.IsZero() || u.Before(first)) {
			first = u
		}
	}
	return first
}

// at returns the limit when the clock shows t.
func (b *Bandwidth) at(prio bits.Priority, t time.Time) Limit {
	decide := func(r Rate, rule, key string) Limit {
		return Limit{Rate: r.effective(), Rule: rule, Key: "bandwidth." + key}
	}
	none := Limit{Rate: Unlimited}
	if prio == bits.Foreground {
		if b.Foreground == Rate(Unlimited) {
			return none
		}
		return decide(b.Foreground, "foreground", "foreground")
	}
	level := [...]string{bits.High: ".high", bits.Normal: ".normal", bits.Low: ".low"}[prio]
	if r := b.Maintenance.of(prio); r != NoRate && b.Maintenance.holds(t) {
		return decide(r, "maintenance", "maintenance"+level)
	}
	if b.Work.holds(t) {
		if r := b.Work.of(prio); r != NoRate {
			return decide(r, "work", "work"+level)
		}
	} else if r := b.NonWork.of(prio); r != NoRate {
		return decide(r, "nonwork", "nonwork"+level)
	}
	if b.Interval.Limit != NoRate && b.Interval.Hours.holds(t) {
		return decide(b.Interval.Limit, "interval", "interval.limit")
	}
	if b.Interval.Otherwise != NoRate && !b.Interval.Hours.holds(t) {
		return decide(b.Interval.Otherwise, "interval", "interval.otherwise")
	}
	if b.Background == Rate(Unlimited) {
		return none
	}
	return decide(b.Background, "background", "background")
}

// minute is the minute of the day that the clock shows.
func minute(t time.Time) int { return t.Hour()*60 + t.Minute() }

func (h Hours) holds(t time.Time) bool {
	m := minute(t)
	if h.From < h.To {
		return h.From <= m && m < h.To
	}
	return m >= h.From || m < h.To
}

// holds reports whether the schedule holds when the clock shows t. What began yesterday and
// goes past midnight counts as yesterday.
func (s *Schedule) holds(t time.Time) bool {
	if !s.Hours.holds(t) {
		return false
	}
	began := t.Weekday()
	if s.Hours.From >= s.Hours.To && minute(t) < s.Hours.From {
		began = (began + 6) % 7
	}
	return s.Days.has(began)
}

// horizon is how far ahead a change is looked for: rules repeat every week, and the hour that
// a clock put forward leaves out may take away one turn.
const horizon = 15 * day

// next returns the first moment after now at which differs is true, or zero. It looks at the
// moments at which a rule can begin or end: when the clock shows one of the hours, and when
// it is put forward or back.
func (b *Bandwidth) next(now time.Time, differs func(time.Time) bool) time.Time {
	var edges []int
	if limits(b.Interval.Limit, b.Interval.Otherwise) {
		edges = append(edges, b.Interval.Hours.From, b.Interval.Hours.To)
	}
	if b.Work.limits() || b.NonWork.limits() {
		edges = append(edges, b.Work.Hours.From, b.Work.Hours.To)
	}
	if b.Maintenance.limits() {
		edges = append(edges, b.Maintenance.Hours.From, b.Maintenance.Hours.To)
	}
	if len(edges) == 0 {
		return time.Time{}
	}
	t := now.Round(0).In(b.Zone.Location)
	for end := t.Add(horizon); t.Before(end); {
		if t = b.edge(t, edges); differs(t) {
			return t
		}
	}
	return time.Time{}
}

// edge returns the first moment after t at which the clock shows one of the edges or is put
// forward or back.
func (b *Bandwidth) edge(t time.Time, edges []int) time.Time {
	// Until the clock is put forward or back, it runs on evenly.
	_, changed := t.ZoneBounds()
	since := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
	wait := day
	for _, e := range edges {
		d := time.Duration(e)*time.Minute - since
		if d <= 0 {
			d += day
		}
		wait = min(wait, d)
	}
	if next := t.Add(wait); changed.IsZero() || next.Before(changed) {
		return next
	}
	return changed
}
