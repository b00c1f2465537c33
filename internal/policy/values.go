package policy

import (
	"fmt"
	"math"
	"math/big"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a file means the same on a machine without a time zone database

	"github.com/ebbtransfer/ebb/bits"
)

// Rate is an amount of bytes per second, Unlimited, or NoRate; 0 blocks.
type Rate int64

const (
	// Unlimited is a rate without a ceiling.
	Unlimited int64 = -1
	// NoRate is the rate of a rule that says nothing, so that the next one decides.
	NoRate Rate = -2
)

const (
	// least is what rates between it and 0 behave as: 2 kbit/s (client.md 8.4).
	least Rate = 250
	// most is the highest rate, that of BITS: 4,294,967,200 kbit/s.
	most Rate = 4_294_967_200 * 125
)

// rateUnits are the units of rates in bits per second. Those of bits come first, as they are
// preferred where both fit.
var rateUnits = []struct {
	name string
	bits int64
}{
	{"Gbit/s", 1e9}, {"Mbit/s", 1e6}, {"kbit/s", 1e3},
	{"GiB/s", 8 << 30}, {"MiB/s", 8 << 20}, {"KiB/s", 8 << 10},
	{"GB/s", 8e9}, {"MB/s", 8e6}, {"KB/s", 8e3}, {"kB/s", 8e3},
	{"Gibit/s", 1 << 30}, {"Mibit/s", 1 << 20}, {"Kibit/s", 1 << 10},
	{"Gbps", 1e9}, {"Mbps", 1e6}, {"kbps", 1e3}, {"Kbps", 1e3},
	{"bit/s", 1}, {"B/s", 8},
}

var rateForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)[ \t]*([A-Za-z/]*)$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rate) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	switch strings.ToLower(text) {
	case "unlimited":
		*r = Rate(Unlimited)
		return nil
	case "block", "0":
		*r = 0
		return nil
	}
	m := rateForm.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("%q is not a rate (want \"10 Mbit/s\", \"2.5 MB/s\", \"unlimited\" or \"block\")", text)
	}
	if m[2] == "" {
		return fmt.Errorf("%q has no unit (want \"%s kbit/s\" or \"%s Mbit/s\", say)", text, m[1], m[1])
	}
	for _, u := range rateUnits {
		if u.name != m[2] {
			continue
		}
		n, ok := new(big.Rat).SetString(m[1])
		if !ok {
			return fmt.Errorf("%q is not a number", m[1])
		}
		n.Mul(n, big.NewRat(u.bits, 8))
		if n.Cmp(new(big.Rat).SetInt64(int64(most))) > 0 {
			return fmt.Errorf("%s is more than a rate can be (%s)", text, most)
		}
		// Rounded up: the smallest rate must not become 0, which blocks.
		whole, rest := new(big.Int).DivMod(n.Num(), n.Denom(), new(big.Int))
		*r = Rate(whole.Int64())
		if rest.Sign() > 0 {
			*r++
		}
		return nil
	}
	return fmt.Errorf("%q is not a unit of rates (bit/s, kbit/s, Mbit/s, Gbit/s; B/s, KB/s, MB/s, GB/s; KiB/s, MiB/s, GiB/s)", m[2])
}

// String returns the rate in the largest unit in which it is a whole number.
func (r Rate) String() string {
	switch r {
	case NoRate:
		return ""
	case Rate(Unlimited):
		return "unlimited"
	case 0:
		return "block"
	}
	for _, u := range rateUnits[:6] {
		if bits := int64(r) * 8; bits%u.bits == 0 {
			return fmt.Sprintf("%d %s", bits/u.bits, u.name)
		}
	}
	return fmt.Sprintf("%d B/s", int64(r))
}

// MarshalText implements encoding.TextMarshaler.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// effective returns the rate as it holds: a tiny one behaves as 2 kbit/s, 0 blocks.
func (r Rate) effective() int64 {
	if r > 0 && r < least {
		r = least
	}
	return int64(r)
}

const day = 24 * time.Hour

// Duration is a time.Duration written as "90s", "10m", "24h" or "90d".
type Duration time.Duration

var daysForm = regexp.MustCompile(`^([0-9]+)d`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	bad := fmt.Errorf("%q is not a duration (want 90s, 10m, 24h or 90d)", b)
	text, days := string(b), int64(0)
	if m := daysForm.FindStringSubmatch(text); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil || n > math.MaxInt64/int64(2*day) {
			return bad
		}
		if days, text = n, text[len(m[0]):]; text == "" {
			*d = Duration(time.Duration(days) * day)
			return nil
		}
	}
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 || v > math.MaxInt64/2 {
		return bad
	}
	*d = Duration(time.Duration(days)*day + v)
	return nil
}

// String returns the duration in days where they are whole, else as Go does.
func (d Duration) String() string {
	v := time.Duration(d)
	if v >= day && v%day == 0 {
		return fmt.Sprintf("%dd", v/day)
	}
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Days is a set of days of the week; bit 0 is Sunday.
type Days uint8

const (
	everyDay Days = 1<<7 - 1
	workDays Days = 1<<time.Monday | 1<<time.Tuesday | 1<<time.Wednesday | 1<<time.Thursday | 1<<time.Friday
)

func (d Days) has(w time.Weekday) bool { return d&(1<<w) != 0 }

var dayNames = [...]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

func weekday(s string) (time.Weekday, bool) {
	for w := range time.Weekday(7) {
		if strings.EqualFold(s, dayNames[w]) || strings.EqualFold(s, w.String()) {
			return w, true
		}
	}
	return 0, false
}

// between returns the days from one to another, across the week's end if need be.
func between(from, to time.Weekday) Days {
	var d Days
	for w := from; ; w = (w + 1) % 7 {
		d |= 1 << w
		if w == to {
			return d
		}
	}
}

// UnmarshalText implements encoding.TextUnmarshaler: "Mon-Fri", "Sat-Mon", "Mon, Wed, Fri-Sun"
// or "daily".
func (d *Days) UnmarshalText(b []byte) error {
	var out Days
	for part := range strings.SplitSeq(string(b), ",") {
		part = strings.TrimSpace(part)
		if strings.EqualFold(part, "daily") {
			out |= everyDay
			continue
		}
		first, last, isRange := strings.Cut(part, "-")
		from, ok := weekday(strings.TrimSpace(first))
		to := from
		if ok && isRange {
			to, ok = weekday(strings.TrimSpace(last))
		}
		if !ok {
			return fmt.Errorf("%q are not days (want \"Mon-Fri\", \"Sat, Sun\" or \"daily\")", b)
		}
		out |= between(from, to)
	}
	*d = out
	return nil
}

// String returns the days as they are written, beginning on Monday where that is the start.
func (d Days) String() string {
	if d == everyDay {
		return "daily"
	}
	var parts []string
	for i := range time.Weekday(7) {
		from := (i + time.Monday) % 7
		if !d.has(from) || d.has((from+6)%7) {
			continue // not the first of a run
		}
		to := from
		for d.has((to + 1) % 7) {
			to = (to + 1) % 7
		}
		if part := dayNames[from]; to != from {
			parts = append(parts, part+"-"+dayNames[to])
		} else {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}

// MarshalText implements encoding.TextMarshaler.
func (d Days) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Hours is a part of the day in minutes since midnight, From inclusive, To exclusive. It goes
// past midnight where To is not later than From; where they are equal it is the whole day.
type Hours struct{ From, To int }

var hoursForm = regexp.MustCompile(`^([0-9]{1,2}):([0-9]{2}) *- *([0-9]{1,2}):([0-9]{2})$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hours) UnmarshalText(b []byte) error {
	bad := fmt.Errorf("%q are not hours (want \"08:00-17:00\"; \"22:00-06:00\" goes past midnight)", b)
	m := hoursForm.FindStringSubmatch(strings.TrimSpace(string(b)))
	if m == nil {
		return bad
	}
	var n [4]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1]) // two digits
	}
	from, to := n[0]*60+n[1], n[2]*60+n[3]
	if n[1] > 59 || n[3] > 59 || from >= 24*60 || to > 24*60 {
		return bad
	}
	*h = Hours{from, to % (24 * 60)}
	return nil
}

func (h Hours) String() string {
	if h.To == 0 {
		h.To = 24 * 60
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", h.From/60, h.From%60, h.To/60, h.To%60)
}

// MarshalText implements encoding.TextMarshaler.
func (h Hours) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// Zone is the time zone whose clock the schedules mean.
type Zone struct{ *time.Location }

// UnmarshalText implements encoding.TextUnmarshaler: "Local", "UTC" or a name such as
// "Europe/Berlin".
func (z *Zone) UnmarshalText(b []byte) error {
	if string(b) == "Local" {
		*z = Zone{localZone()}
		return nil
	}
	loc, err := time.LoadLocation(string(b))
	if err != nil || len(b) == 0 {
		return fmt.Errorf("%q is not a time zone (want \"Local\", \"UTC\" or a name such as \"Europe/Berlin\")", b)
	}
	*z = Zone{loc}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (z Zone) MarshalText() ([]byte, error) { return []byte(z.String()), nil }

// Network says what the network costs.
type Network string

// Auto leaves it to NetworkManager to say what the network costs.
const Auto Network = "auto"

// networks are names for what people know of their networks; the names of cost states do too.
var networks = map[Network]bits.Cost{
	"unmetered": bits.CostUnrestricted,
	"metered":   bits.CostCappedUsageUnknown,
}

// costStates are all states that a network can be in.
const costStates = bits.TransferAlways &^ bits.CostIgnoreCongestion

// UnmarshalText implements encoding.TextUnmarshaler: "auto", "unmetered", "metered", or cost
// states such as "roaming" or "near-cap|roaming".
func (n *Network) UnmarshalText(b []byte) error {
	name := Network(strings.ToLower(strings.TrimSpace(string(b))))
	if _, ok := networks[name]; ok || name == Auto {
		*n = name
		return nil
	}
	c, err := bits.ParseCost(string(name))
	if plan := c & costStates &^ bits.CostRoaming; err != nil || c == 0 || c&^costStates != 0 || plan&(plan-1) != 0 {
		return fmt.Errorf("%q is not the cost of a network (want \"auto\", \"unmetered\", \"metered\", \"roaming\", or a cost state such as \"near-cap\" or \"usage-based|roaming\")", b)
	}
	*n = name
	return nil
}

func (n Network) String() string { return string(n) }

// State returns the cost state that the network is said to be in; false if NetworkManager is
// to be asked.
func (n Network) State() (bits.Cost, bool) {
	if n == Auto {
		return 0, false
	}
	if c, ok := networks[n]; ok {
		return c, true
	}
	c, err := bits.ParseCost(string(n))
	return c, err == nil
}

// PowerRule says which jobs may run.
type PowerRule string

// The power rules.
const (
	Run             PowerRule = "run"              // all jobs run
	BackgroundWaits PowerRule = "background-waits" // foreground jobs run, the others wait
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *PowerRule) UnmarshalText(b []byte) error {
	rule := PowerRule(strings.ToLower(strings.TrimSpace(string(b))))
	if rule != Run && rule != BackgroundWaits {
		return fmt.Errorf("%q is not a power rule (want %q or %q)", b, Run, BackgroundWaits)
	}
	*r = rule
	return nil
}

func (r PowerRule) String() string { return string(r) }

// Logon says which jobs of ordinary users wait for their owners to log on.
type Logon string

// The logon rules.
const (
	LogonAlways Logon = "always"    // those that say so themselves (run_when)
	LogonNeeded Logon = "logged-on" // those that do not say that they run always
	LogonStrict Logon = "strict"    // all, and who is not logged on makes no job and adds no file, as in BITS
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Logon) UnmarshalText(b []byte) error {
	rule := Logon(strings.ToLower(strings.TrimSpace(string(b))))
	if rule != LogonAlways && rule != LogonNeeded && rule != LogonStrict {
		return fmt.Errorf("%q is not a logon rule (want %q, %q or %q)", b, LogonAlways, LogonNeeded, LogonStrict)
	}
	*l = rule
	return nil
}

func (l Logon) String() string { return string(l) }

// LocalZoneFile is the file that names the machine's time zone.
const LocalZoneFile = "/etc/localtime"

// localZone is the machine's time zone as it is now; time.Local is as it was when the process
// started.
func localZone() *time.Location {
	if _, set := os.LookupEnv("TZ"); set {
		return time.Local
	}
	data, err := os.ReadFile(LocalZoneFile)
	if err != nil {
		return time.Local
	}
	loc, err := time.LoadLocationFromTZData("Local", data)
	if err != nil {
		return time.Local
	}
	return loc
}
