package policy

import (
	"encoding"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// key is one key of the file.
type key struct {
	name  string
	field func(*Policy) any // where the value goes: a pointer
	lo    int64             // range of an int or, in seconds, of a Duration
	hi    int64
	doc   string
}

const (
	hour int64 = 3600
	year int64 = 365 * 24 * hour
)

// keys are the keys of the file in the order in which they are shown.
var keys = []key{
	{"jobs.foreground", func(p *Policy) any { return &p.Jobs.Foreground }, 1, 1000, "foreground jobs at once"},
	{"jobs.background", func(p *Policy) any { return &p.Jobs.Background }, 1, 100, "background jobs at once"},
	{"jobs.time_slice", func(p *Policy) any { return &p.Jobs.TimeSlice }, 1, 24 * hour, "turn of a background job while another of its level waits"},
	{"jobs.keep_finished", func(p *Policy) any { return &p.Jobs.KeepFinished }, 0, year, "how long completed and cancelled jobs can still be shown"},
	{"jobs.keep_events", func(p *Policy) any { return &p.Jobs.KeepEvents }, 60, year, "how long events can still be read"},
	{"jobs.max_per_machine", func(p *Policy) any { return &p.Jobs.MaxPerMachine }, 1, 1e7, "jobs of all users"},
	{"jobs.max_per_user", func(p *Policy) any { return &p.Jobs.MaxPerUser }, 1, 1e7, "jobs of one user"},
	{"jobs.max_files", func(p *Policy) any { return &p.Jobs.MaxFiles }, 1, 1e7, "files of a job"},
	{"jobs.inactivity", func(p *Policy) any { return &p.Jobs.Inactivity }, 0, 999 * 24 * hour, "a job without progress or change for so long is cancelled; 0s: never"},
	{"jobs.max_download_time", func(p *Policy) any { return &p.Jobs.MaxDownloadTime }, 0, 1 << 31, "a job that took so long fails; 0s: never"},

	{"transfer.stall_timeout", func(p *Policy) any { return &p.Transfer.StallTimeout }, 1, hour, "a connection without a byte for so long is dropped and resumed"},

	{"bandwidth.timezone", func(p *Policy) any { return &p.Bandwidth.Zone }, 0, 0, "whose clock the hours below mean"},
	{"bandwidth.foreground", func(p *Policy) any { return &p.Bandwidth.Foreground }, 0, 0, "limit of all foreground jobs together"},
	{"bandwidth.background", func(p *Policy) any { return &p.Bandwidth.Background }, 0, 0, "limit of all background jobs together where no rule below says something"},
	{"bandwidth.lan_exempt", func(p *Policy) any { return &p.Bandwidth.LANExempt }, 0, 0, "no limits for servers in this machine's subnets"},
	{"bandwidth.interval.hours", func(p *Policy) any { return &p.Bandwidth.Interval.Hours }, 0, 0, ""},
	{"bandwidth.interval.limit", func(p *Policy) any { return &p.Bandwidth.Interval.Limit }, 0, 0, ""},
	{"bandwidth.interval.otherwise", func(p *Policy) any { return &p.Bandwidth.Interval.Otherwise }, 0, 0, ""},
	{"bandwidth.work.days", func(p *Policy) any { return &p.Bandwidth.Work.Days }, 0, 0, ""},
	{"bandwidth.work.hours", func(p *Policy) any { return &p.Bandwidth.Work.Hours }, 0, 0, ""},
	{"bandwidth.work.high", func(p *Policy) any { return &p.Bandwidth.Work.High }, 0, 0, ""},
	{"bandwidth.work.normal", func(p *Policy) any { return &p.Bandwidth.Work.Normal }, 0, 0, ""},
	{"bandwidth.work.low", func(p *Policy) any { return &p.Bandwidth.Work.Low }, 0, 0, ""},
	{"bandwidth.nonwork.high", func(p *Policy) any { return &p.Bandwidth.NonWork.High }, 0, 0, ""},
	{"bandwidth.nonwork.normal", func(p *Policy) any { return &p.Bandwidth.NonWork.Normal }, 0, 0, ""},
	{"bandwidth.nonwork.low", func(p *Policy) any { return &p.Bandwidth.NonWork.Low }, 0, 0, ""},
	{"bandwidth.maintenance.days", func(p *Policy) any { return &p.Bandwidth.Maintenance.Days }, 0, 0, ""},
	{"bandwidth.maintenance.hours", func(p *Policy) any { return &p.Bandwidth.Maintenance.Hours }, 0, 0, ""},
	{"bandwidth.maintenance.high", func(p *Policy) any { return &p.Bandwidth.Maintenance.High }, 0, 0, ""},
	{"bandwidth.maintenance.normal", func(p *Policy) any { return &p.Bandwidth.Maintenance.Normal }, 0, 0, ""},
	{"bandwidth.maintenance.low", func(p *Policy) any { return &p.Bandwidth.Maintenance.Low }, 0, 0, ""},

	{"cost.network", func(p *Policy) any { return &p.Cost.Network }, 0, 0, "what the network costs"},
	{"cost.foreground", func(p *Policy) any { return &p.Cost.Transfer[bits.Foreground] }, 0, 0, ""},
	{"cost.high", func(p *Policy) any { return &p.Cost.Transfer[bits.High] }, 0, 0, ""},
	{"cost.normal", func(p *Policy) any { return &p.Cost.Transfer[bits.Normal] }, 0, 0, ""},
	{"cost.low", func(p *Policy) any { return &p.Cost.Transfer[bits.Low] }, 0, 0, ""},

	{"power.on_battery", func(p *Policy) any { return &p.Power.OnBattery }, 0, 0, "while the machine runs on battery"},
	{"power.power_saver", func(p *Policy) any { return &p.Power.PowerSaver }, 0, 0, "while it is in power-saver mode"},
}

func keyNamed(name string) *key {
	for i := range keys {
		if keys[i].name == name {
			return &keys[i]
		}
	}
	return nil
}

// set gives the key a value as it is in the file.
func (k *key) set(p *Policy, v value) error {
	switch f := k.field(p).(type) {
	case *bool:
		if v.kind != kindBool {
			return errors.New("want true or false")
		}
		*f = v.text == "true"
	case *int:
		n, err := strconv.ParseInt(v.text, 0, 64)
		if v.kind != kindInt || err != nil {
			return errors.New("want a whole number")
		}
		if n < k.lo || n > k.hi {
			return fmt.Errorf("%d is out of range; want %d to %d", n, k.lo, k.hi)
		}
		*f = int(n)
	case *Duration:
		var d Duration
		if v.kind != kindString {
			return errors.New(`want a text such as "90s", "10m", "24h" or "90d"`)
		}
		if err := d.UnmarshalText([]byte(v.text)); err != nil {
			return err
		}
		if lo, hi := Duration(k.lo*int64(time.Second)), Duration(k.hi*int64(time.Second)); d < lo || d > hi {
			return fmt.Errorf("%s is out of range; want %s to %s", d, lo, hi)
		}
		*f = d
	case *PowerRule:
		words := []PowerRule{Run, BackgroundWaits}
		if v.kind != kindString || !slices.Contains(words, PowerRule(v.text)) {
			return fmt.Errorf("want %q or %q", Run, BackgroundWaits)
		}
		*f = PowerRule(v.text)
	case *bits.Cost:
		c, err := bits.ParseCost(v.text)
		if err != nil {
			return err
		}
		if c&^bits.CostIgnoreCongestion == 0 {
			return fmt.Errorf("%q allows no network at all (want %s, say)", v.text, bits.TransferAlways)
		}
		*f = c
	case encoding.TextUnmarshaler:
		if v.kind != kindString && v.kind != kindInt {
			return errors.New("want a text in quotes")
		}
		return f.UnmarshalText([]byte(v.text))
	}
	return nil
}

// suggest returns the name that is meant by a wrong one, or "".
func suggest(name string, names []string) string {
	best, least := "", len(name)/3+1 // letters that may differ
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d <= least {
			best, least = n, d-1
		}
	}
	return best
}

// distance is the number of letters to change, add or leave out that makes one of the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
