package policy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebbtransfer/ebb/bits"
)

// problemsOf returns what is wrong with a text, a problem a line.
func problemsOf(t *testing.T, text string) string {
	t.Helper()
	_, err := Parse("", []byte(text))
	return joined(t, err)
}

func joined(t *testing.T, err error) string {
	t.Helper()
	var problems Problems
	if err != nil && !errors.As(err, &problems) {
		t.Fatalf("%v is not a list of problems", err)
	}
	return list(problems)
}

func list(problems []bits.PolicyProblem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

func TestProblemsNameLineKeyAndRemedy(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"comment", "# nothing\n", ""},
		{"unknown key", "[jobs]\n\nbackgrount = 2\n", "line 3: jobs.backgrount: there is no such key; did you mean jobs.background?\n"},
		{"far from any", "[jobs]\nthis_is_nothing_like_a_key = 2\n", "line 2: jobs.this_is_nothing_like_a_key: there is no such key\n"},
		{"table left out", "max_per_user = 2\n", "line 1: max_per_user: there is no such key; did you mean jobs.max_per_user?\n"},
		{"unknown table", "[jobs]\n[job]\nforeground = 1\n", "line 2: job: there is no such table; did you mean jobs?\n"},
		{"table twice over", "[[jobs]]\nforeground = 1\n", "line 1: jobs: is one table; write [jobs]\n"},
		{"value for a table", "jobs = 3\n", "line 1: jobs: there is no such key\n"},
		{"wrong type", "[jobs]\nbackground = \"two\"\n", "line 2: jobs.background: want a number from 1 to 100, without quotes\n"},
		{"wrong bool", "bandwidth.lan_exempt = 1\n", "line 1: bandwidth.lan_exempt: want true or false, without quotes\n"},
		{"a list", "bandwidth.work.days = ['Mon', 'Tue']\n", "line 1: bandwidth.work.days: want a text in quotes\n"},
		{"not a duration", "[jobs]\ntime_slice = \"soon\"\n", "line 2: jobs.time_slice: \"soon\" is not a duration (want 90s, 10m, 24h or 90d)\n"},
		{"a number for a duration", "[jobs]\ntime_slice = 90\n", "line 2: jobs.time_slice: want a text such as \"90s\", \"10m\", \"24h\" or \"90d\"\n"},
		{"too small", "[jobs]\nbackground = 0\n", "line 2: jobs.background: 0 is out of range; want 1 to 100\n"},
		{"too large", "# x\n[transfer]\nstall_timeout = \"2h\"\n", "line 3: transfer.stall_timeout: 2h is out of range; want 1s to 1h\n"},
		{"less than a second", "jobs.inactivity = '10ms'\n", "line 1: jobs.inactivity: 10ms is out of range; want 0s to 999d\n"},
		{"no unit", "bandwidth.background = 10\n", "line 1: bandwidth.background: \"10\" has no unit (want \"10 kbit/s\" or \"10 Mbit/s\", say)\n"},
		{"bits or bytes", "bandwidth.background = '10 Mb/s'\n", "line 1: bandwidth.background: \"Mb/s\" is not a unit of rates (bit/s, kbit/s, Mbit/s, Gbit/s; B/s, KB/s, MB/s, GB/s; KiB/s, MiB/s, GiB/s)\n"},
		{"hours", "bandwidth.work.hours = '8-17'\n", "line 1: bandwidth.work.hours: \"8-17\" are not hours (want \"08:00-17:00\"; \"22:00-06:00\" goes past midnight)\n"},
		{"days", "bandwidth.work.days = 'Mon-Friday, Tux'\n", "line 1: bandwidth.work.days: \"Mon-Friday, Tux\" are not days (want \"Mon-Fri\", \"Sat, Sun\" or \"daily\")\n"},
		{"zone", "bandwidth.timezone = 'Berlin'\n", "line 1: bandwidth.timezone: \"Berlin\" is not a time zone (want \"Local\", \"UTC\" or a name such as \"Europe/Berlin\")\n"},
		{"network", "cost.network = 'always'\n", "line 1: cost.network: \"always\" is not the cost of a network (want \"auto\", \"unmetered\", \"metered\", \"roaming\", or a cost state such as \"near-cap\" or \"usage-based|roaming\")\n"},
		{"cost that allows nothing", "cost.low = 'default'\n", "line 1: cost.low: \"default\" allows no network at all (want always, not-roaming, no-surcharge, standard, unmetered, unrestricted)\n"},
		{"power", "power.on_battery = 'stop'\n", "line 1: power.on_battery: \"stop\" is not a power rule (want \"run\" or \"background-waits\")\n"},
		{"maintenance at no time", "bandwidth.maintenance.low = 'block'\n", "line 1: bandwidth.maintenance.low: needs bandwidth.maintenance.hours\n"},
		{"hosted by nobody", "peers.mode = 'hosted'\n", "line 1: peers.mode: \"hosted\" needs peers.hosted_caches\n"},
		{"BITS's name", "[jobs]\nx = 1\n[bandwidth]\nMaxJobsPerUser = 60\n", "line 2: jobs.x: there is no such key\nline 4: bandwidth.MaxJobsPerUser: is a name of BITS; it goes into the table [bits]\n"},
		{"BITS's name at the top", "MaxJobsPerUser = 60\n", "line 1: MaxJobsPerUser: is a name of BITS; it goes into the table [bits]\n"},
		{"several", "[jobs]\nforeground = 0\nx = 1\n[transfer]\nstall_timeout = 1\n", "line 2: jobs.foreground: 0 is out of range; want 1 to 1000\nline 3: jobs.x: there is no such key\n" +
			"line 5: transfer.stall_timeout: want a text such as \"90s\", \"10m\", \"24h\" or \"90d\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, problemsOf(t, c.text)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTOMLErrorsHaveTheirLine(t *testing.T) {
	for _, c := range []struct {
		text string
		line int
	}{
		{"[jobs\n", 1}, {"[jobs]\nx = \n", 2}, {"[jobs]\n[jobs]\n", 2}, {"jobs.foreground = 1\n\njobs.foreground = 2\n", 3}, {"a = \xff\n", 1},
	} {
		_, err := Parse("f", []byte(c.text))
		var problems Problems
		if !errors.As(err, &problems) || len(problems) != 1 || problems[0].Line != c.line || problems[0].File != "f" {
			t.Errorf("%q: %+v", c.text, err)
		}
	}
}

func TestParseAllKeys(t *testing.T) {
	p := parse(t, `
cost = { network = "near-cap|roaming", foreground = "not-roaming", high = 0x80000021, normal = "below-cap", low = "0x80000067" }

[jobs]
foreground = 8
background = 2
time_slice = "10s"
keep_finished = "0s"
logon = "Strict"
keep_events = "1d12h"
max_per_machine = 300
max_per_user = 60
max_files = 200
inactivity = "999d"
max_download_time = "0s"

[transfer]
stall_timeout = "5s"

[bandwidth]
timezone = "Asia/Kathmandu"
foreground = "unlimited"
background = "1.5 Mbit/s"
lan_exempt = true
interval = { hours = "08:30-24:00", limit = "10 KB/s", otherwise = "10 KiB/s" }
work.days = "Sat-Mon"
work.hours = "22:00-06:30"
work.high = "block"
work.normal = 0
work.low = "7 bit/s"

[bandwidth.nonwork]
high = "2 Gbit/s"

[bandwidth.maintenance]
days = "wednesday, Fri"
hours = "00:00-24:00"
low = "Unlimited"

[power]
on_battery = "background-waits"
power_saver = "run"

[credentials]
own = "*.Example.com, none.example"

[notify]
commands = "/usr/bin/logger , /opt/hooks/*"
hooks = "Hooks.example.com"
timeout = "30s"

[peers]
mode = "Hosted"
fetch = false
serve = false
port = 80
interfaces = "eth0,  wlan0"
hosted_caches = "cache.example.com, [2001:db8::7]:2178,2001:db8::8"
cache_size = "1.5 GB"
max_age = "1h"
uploads = 1
upload_rate = "block"
serve_on_battery = true
plain_http = true
version1_only = true
throttle_lan = true
digest_mode = true
`)
	want := Policy{
		Jobs: Jobs{Logon: LogonStrict, Foreground: 8, Background: 2, TimeSlice: Duration(10 * time.Second), KeepEvents: Duration(36 * time.Hour),
			MaxPerMachine: 300, MaxPerUser: 60, MaxRanges: 10_000, MaxFiles: 200, Inactivity: Duration(999 * day)},
		Transfer: Transfer{StallTimeout: Duration(5 * time.Second)},
		Bandwidth: Bandwidth{
			Foreground: Rate(Unlimited), Background: 187_500, LANExempt: true,
			Interval:    Interval{Hours: Hours{8*60 + 30, 0}, Limit: 10_000, Otherwise: 10_240},
			Work:        Schedule{Days: 1<<time.Saturday | 1<<time.Sunday | 1<<time.Monday, Hours: Hours{22 * 60, 6*60 + 30}, Levels: Levels{0, 0, 1}},
			NonWork:     Levels{250_000_000, NoRate, NoRate},
			Maintenance: Schedule{Days: 1<<time.Wednesday | 1<<time.Friday, Levels: Levels{NoRate, NoRate, Rate(Unlimited)}},
		},
		Cost:        Cost{Network: "near-cap|roaming", Transfer: [4]bits.Cost{bits.TransferNotRoaming, bits.TransferUnrestricted, bits.CostBelowCap, bits.TransferStandard}},
		Power:       Power{OnBattery: BackgroundWaits, PowerSaver: Run},
		Credentials: Credentials{Own: "*.example.com, none.example"},
		Notify:      Notify{Commands: "/usr/bin/logger, /opt/hooks/*", Hooks: "hooks.example.com", Timeout: Duration(30 * time.Second)},
		Peers: Peers{Mode: PeersHosted, Port: 80, Interfaces: "eth0, wlan0", HostedCaches: "cache.example.com:80, [2001:db8::7]:2178, [2001:db8::8]:80",
			CacheSize: Size{Bytes: 1_500_000_000}, MaxAge: Duration(time.Hour), Uploads: 1, ServeOnBattery: true, PlainHTTP: true, Version1Only: true, ThrottleLAN: true, DigestMode: true},
	}
	if p.Bandwidth.Zone.String() != "Asia/Kathmandu" {
		t.Errorf("zone %v", p.Bandwidth.Zone)
	}
	if got := p.Source("bandwidth.work.low"); got != (Source{Line: 30}) {
		t.Errorf("bandwidth.work.low comes from %+v", got)
	}
	if got := p.Source("cost.high"); got != (Source{Line: 2}) {
		t.Errorf("cost.high comes from %+v", got)
	}
	got := *p
	got.Bandwidth.Zone, got.from, got.Notices = Zone{}, nil, nil
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Policy{}, Zone{})); diff != "" {
		t.Error(diff)
	}
}

func TestParseKeepsDefaultsOfAbsentKeys(t *testing.T) {
	want := Default()
	want.Jobs.Background = 3
	got := *parse(t, "jobs.background = 3\n")
	got.from, got.Bandwidth.Zone = nil, want.Bandwidth.Zone
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Policy{}), cmp.Comparer(func(a, b Zone) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestNotices(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"[jobs]\nmax_per_user = 10\n", ""},
		{"peers.hosted_caches = 'a'\n", ""},
		{"[jobs]\nmax_per_machine = 10\n", "line 2: jobs.max_per_user: 10000 has no effect: it is more than jobs.max_per_machine, 10\n"},
		{"bandwidth.background = '1 kbit/s'\n", "line 1: bandwidth.background: behaves as 2 kbit/s; write \"block\" to let nothing through\n"},
		{"bandwidth.background = '2 kbit/s'\n", ""},
		{"[bandwidth.work]\nhours = '08:00-18:00'\n", "line 2: bandwidth.work.hours: has no effect: there is no limit in [bandwidth.work]\n"},
		{"[bandwidth.work]\nhours = '08:00-18:00'\n[bandwidth.nonwork]\nlow = '1 Mbit/s'\n", ""},
		{"[bandwidth.interval]\nhours = '08:00-18:00'\n", "line 2: bandwidth.interval.hours: has no effect: there is no limit in [bandwidth.interval]\n"},
	} {
		if diff := cmp.Diff(c.want, list(parse(t, c.text).Notices)); diff != "" {
			t.Errorf("%s:\n%s", c.text, diff)
		}
	}
}

func TestLoad(t *testing.T) {
	if _, err := Load("/nonexistent/ebb.toml"); err == nil || !strings.Contains(err.Error(), "/nonexistent/ebb.toml") {
		t.Errorf("error %v", err)
	}
	name := filepath.Join(t.TempDir(), "ebb.toml")
	if err := os.WriteFile(name, []byte("jobs.foreground = 7\njobs.x = 1\njobs.y = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(name); err == nil || err.Error() != name+":2: jobs.x: there is no such key (and 1 more)" {
		t.Errorf("error %v", err)
	}
}

func TestRates(t *testing.T) {
	for _, c := range []struct {
		text string
		want Rate
		show string
	}{
		{"unlimited", -1, "unlimited"}, {"block", 0, "block"}, {"0", 0, "block"}, {"0 Mbit/s", 0, "block"},
		{"1 bit/s", 1, "1 B/s"}, {"9 bit/s", 2, "2 B/s"}, {"8 bit/s", 1, "1 B/s"},
		{"1000 kbit/s", 125_000, "1 Mbit/s"}, {"1500kbps", 187_500, "1500 kbit/s"}, {"10 Mbps", 1_250_000, "10 Mbit/s"},
		{"1.5 MB/s", 1_500_000, "12 Mbit/s"}, {"64 KiB/s", 65_536, "64 KiB/s"}, {"1536 KiB/s", 1_572_864, "1536 KiB/s"}, {"1 GiB/s", 1 << 30, "1 GiB/s"},
		{"3 B/s", 3, "3 B/s"}, {"0.1 bit/s", 1, "1 B/s"}, {"4294967200 kbit/s", most, "4294967200 kbit/s"},
	} {
		var r, again Rate
		if err := r.UnmarshalText([]byte(c.text)); err != nil || r != c.want || r.String() != c.show {
			t.Errorf("%q: %d %q %v, want %d %q", c.text, r, r, err, c.want, c.show)
		}
		if err := again.UnmarshalText([]byte(r.String())); err != nil || again != r {
			t.Errorf("%q is read as %d, %v", r, again, err)
		}
	}
	for _, text := range []string{"", "-1", "fast", "1,5 Mbit/s", "4294967201 kbit/s", "1e3 kbit/s", "10 MBit/s", "99999999999999999999 GB/s", "1..2 B/s"} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %s", text, r)
		}
	}
}

func TestTexts(t *testing.T) {
	for _, c := range []struct {
		v interface {
			UnmarshalText([]byte) error
			String() string
		}
		text, show string
	}{
		{new(Duration), "90s", "1m30s"}, {new(Duration), "60m", "1h"}, {new(Duration), "48h", "2d"}, {new(Duration), "1d1h", "25h"}, {new(Duration), "0s", "0s"}, {new(Duration), "90m", "1h30m"},
		{new(Days), "mon-fri", "Mon-Fri"}, {new(Days), "Sat-Mon", "Sat-Mon"}, {new(Days), "Sun", "Sun"}, {new(Days), "Mon-Sun", "daily"}, {new(Days), "Tue-Mon", "daily"},
		{new(Days), "Fri, Mon, Tue", "Mon-Tue, Fri"}, {new(Days), "Sunday, Monday, Wed-Thu", "Wed-Thu, Sun-Mon"}, {new(Days), "daily", "daily"},
		{new(Hours), "8:00-17:30", "08:00-17:30"}, {new(Hours), "00:00-00:00", "00:00-24:00"}, {new(Hours), "08:00-08:00", "08:00-08:00"}, {new(Hours), "22:00 - 24:00", "22:00-24:00"}, {new(Hours), "00:00-24:00", "00:00-24:00"},
		{new(Network), "Auto", "auto"}, {new(Network), "METERED", "metered"}, {new(Network), "usage-based|roaming", "usage-based|roaming"},
		{new(PowerRule), " Run", "run"},
		{new(PeerMode), "Distributed", "distributed"}, {new(Interfaces), "auto", "auto"}, {new(Interfaces), " eth0 ,wlan0", "eth0, wlan0"},
		{new(Caches), "none", "none"}, {new(Caches), "a", "a:80"}, {new(Caches), "[::1],192.0.2.1:2178", "[::1]:80, 192.0.2.1:2178"},
		{new(Size), "5%", "5%"}, {new(Size), "1024 MiB", "1 GiB"}, {new(Size), "2000 MB", "2 GB"}, {new(Size), "64.3MiB", "67.423436 MB"}, {new(Size), "1 TiB", "1 TiB"},
	} {
		if err := c.v.UnmarshalText([]byte(c.text)); err != nil || c.v.String() != c.show {
			t.Errorf("%q: %s, %v", c.text, c.v, err)
		}
		if err := c.v.UnmarshalText([]byte(c.show)); err != nil || c.v.String() != c.show {
			t.Errorf("%q again: %s, %v", c.show, c.v, err)
		}
	}
	for _, c := range []struct {
		v interface{ UnmarshalText([]byte) error }
		s string
	}{
		{new(Duration), "-1s"}, {new(Duration), "99999999999999999999d"}, {new(Duration), "200000d"}, {new(Duration), "1d-1h"}, {new(Duration), "d"},
		{new(Days), ""}, {new(Days), "Mon-"}, {new(Days), "Mo"}, {new(Days), "Mon..Fri"},
		{new(Hours), "24:00-08:00"}, {new(Hours), "08:60-09:00"}, {new(Hours), "08:00-25:00"}, {new(Hours), "08:00-24:01"}, {new(Hours), "08:00"},
		{new(Network), ""}, {new(Network), "near-cap|below-cap"}, {new(Network), "0x21"}, {new(Network), "ignore-congestion"},
		{new(Zone), ""}, {new(Zone), "../../etc/passwd"}, {new(Zone), "Mars/Phobos"},
		{new(PeerMode), "on"}, {new(PeerMode), ""}, {new(Interfaces), ""}, {new(Interfaces), "none,"}, {new(Interfaces), "a b"}, {new(Interfaces), "../x"},
		{new(Caches), "any,"}, {new(Caches), ""}, {new(Caches), "a:0"}, {new(Caches), "a:65536"}, {new(Caches), "http://a"}, {new(Caches), ":80"}, {new(Caches), "a:b:c"}, {new(Caches), "u@a"},
		{new(Size), "0%"}, {new(Size), "81%"}, {new(Size), "1.5%"}, {new(Size), "63 MiB"}, {new(Size), "1025 TiB"}, {new(Size), "5"}, {new(Size), "5 KiB"}, {new(Size), "-5 GiB"}, {new(Size), "99999999999999999999%"},
	} {
		if err := c.v.UnmarshalText([]byte(c.s)); err == nil {
			t.Errorf("%q is read as %v", c.s, c.v)
		}
	}
}

func TestNetworkState(t *testing.T) {
	for _, c := range []struct {
		n     Network
		state bits.Cost
		fixed bool
	}{
		{Auto, 0, false}, {"unmetered", bits.CostUnrestricted, true}, {"metered", bits.CostCappedUsageUnknown, true},
		{"roaming", bits.CostRoaming, true}, {"usage-based|roaming", bits.CostUsageBased | bits.CostRoaming, true},
	} {
		if state, fixed := c.n.State(); state != c.state || fixed != c.fixed {
			t.Errorf("%s: %v %v", c.n, state, fixed)
		}
	}
	// The defaults: a metered network stops background jobs and no others.
	d := Default().Cost.Transfer
	for prio, want := range map[bits.Priority]bool{bits.Foreground: true, bits.High: false, bits.Normal: false, bits.Low: false} {
		if d[prio].Allows(bits.CostCappedUsageUnknown) != want || !d[prio].Allows(bits.CostUnrestricted) || !d[prio].Allows(bits.CostBelowCap) {
			t.Errorf("%v: %v", prio, d[prio])
		}
	}
}

// The text of every setting is read as the same setting again.
func TestWrittenSettingsAreReadAgain(t *testing.T) {
	p := parse(t, Template())
	text := Write(p.Settings())
	again := parse(t, text)
	for i := range keys {
		k := &keys[i]
		if k.get(p) != k.get(again) {
			t.Errorf("%s is %v, was %v", k.name, k.get(again), k.get(p))
		}
	}
	if !strings.Contains(text, "[jobs]\nforeground = 64                  # default\n") {
		t.Errorf("got\n%s", text)
	}
}

// The template is a file whose every line can be put to use.
func TestTemplate(t *testing.T) {
	text := Template()
	if p := parse(t, text); len(p.from) > 0 {
		t.Errorf("the template sets %v", p.from)
	}
	var used strings.Builder
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "# "); ok && (strings.Contains(line, " = ") || strings.HasPrefix(rest, "[")) {
			line = rest
		}
		used.WriteString(line)
	}
	p := parse(t, used.String())
	if len(p.from) != len(keys) || len(p.Notices) > 0 {
		t.Errorf("%d of %d keys are set, notices %v:\n%s", len(p.from), len(keys), p.Notices, used.String())
	}
	d := Default()
	for i := range keys {
		k := &keys[i]
		if want := k.get(&d); want != nil && k.get(p) != want {
			t.Errorf("%s is %v, its default %v", k.name, k.get(p), want)
		}
		if len(k.doc) > 0 && strings.HasSuffix(k.doc, ".") {
			t.Errorf("%s: %q", k.name, k.doc)
		}
	}
}

// The documentation has all keys and all of BITS's names.
func TestDocumentation(t *testing.T) {
	b, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	if !strings.Contains(doc, "```toml\n"+Template()+"```\n") {
		t.Error("docs/policy.md does not have what `ebb policy show --defaults` prints")
	}
	for _, n := range bitsNames {
		if _, name := cutLast("." + n.name); !strings.Contains(doc, name) {
			t.Errorf("docs/policy.md does not tell of %s", n.name)
		}
	}
	if _, example, ok := strings.Cut(doc, "```toml\n[bits]\n"); ok {
		example, _, _ = strings.Cut(example, "```")
		if p := parse(t, "[bits]\n"+example); p.Bandwidth.Work.Low != 250_000 || len(p.Notices) > 0 {
			t.Errorf("the example says %v, notices %v", p.Bandwidth.Work, p.Notices)
		}
	} else {
		t.Error("docs/policy.md has no example of BITS's names")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[jobs]\nbackground = 2\n"))
	f.Add([]byte("jobs = 3"))
	f.Add([]byte("bandwidth = { work = { days = 'Sat-Mon', hours = '22:00-06:30', high = '1.5 MB/s' } }"))
	f.Add([]byte("[bits.throttling.WorkSchedule]\nStartDay = 6\nLowBandwidthType = 'Mbps'\n[bits]\nUseSystemMaximum=0"))
	f.Add([]byte(Template()))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("", text)
		if err != nil {
			return
		}
		// What is without an error can be shown, and what is shown says the same.
		shown := Write(p.Settings())
		again, err := Parse("", []byte(shown))
		if err != nil {
			t.Fatalf("%v in\n%s", err, shown)
		}
		for i := range keys {
			if k := &keys[i]; k.get(&p) != k.get(&again) {
				t.Fatalf("%s is %v, was %v", k.name, k.get(&again), k.get(&p))
			}
		}
		now := time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC)
		if next := p.NextChange(now); !next.IsZero() && !next.After(now) {
			t.Fatalf("the next change after %v is %v", now, next)
		}
	})
}
