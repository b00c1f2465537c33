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
	name   string
	field  func(*Policy) any // where the value goes: a pointer
	lo, hi int64             // range of an int or, in seconds, of a Duration
	doc    string
}

const (
	hour   int64 = 3600
	oneDay       = 24 * hour
	year         = 365 * oneDay
)

// keys are the keys of the file in the order in which they are shown.
var keys = []key{
	{"jobs.foreground", func(p *Policy) any { return &p.Jobs.Foreground }, 1, 1000, "foreground jobs at once"},
	{"jobs.background", func(p *Policy) any { return &p.Jobs.Background }, 1, 100, "background jobs at once"},
	{"jobs.time_slice", func(p *Policy) any { return &p.Jobs.TimeSlice }, 1, oneDay, "turn of a background job while another of its level waits"},
	{"jobs.max_per_machine", func(p *Policy) any { return &p.Jobs.MaxPerMachine }, 1, 1e7, "jobs of all users together"},
	{"jobs.max_per_user", func(p *Policy) any { return &p.Jobs.MaxPerUser }, 1, 1e7, "jobs of one user"},
	{"jobs.max_files", func(p *Policy) any { return &p.Jobs.MaxFiles }, 1, bits.MaxFilesPerJob, "files of one job"},
	{"jobs.max_ranges", func(p *Policy) any { return &p.Jobs.MaxRanges }, 1, bits.MaxRangesPerFile, "ranges of one file"},
	{"jobs.inactivity", func(p *Policy) any { return &p.Jobs.Inactivity }, 0, 999 * oneDay, "a job without progress or change for so long is cancelled; 0s: never"},
	{"jobs.max_download_time", func(p *Policy) any { return &p.Jobs.MaxDownloadTime }, 0, 1 << 31, "a job that was at work for so long fails; 0s: never"},
	{"jobs.logon", func(p *Policy) any { return &p.Jobs.Logon }, 0, 0, "jobs whose owner is not logged on: \"always\" run, \"logged-on\" wait unless they say otherwise; \"strict\": all wait and none are made"},
	{"jobs.keep_finished", func(p *Policy) any { return &p.Jobs.KeepFinished }, 0, year, "completed and cancelled jobs can be shown for so long"},
	{"jobs.keep_events", func(p *Policy) any { return &p.Jobs.KeepEvents }, 60, year, "events can be read for so long"},

	{"transfer.stall_timeout", func(p *Policy) any { return &p.Transfer.StallTimeout }, 1, hour, "a connection without a byte for so long is dropped and resumed"},

	{"bandwidth.timezone", func(p *Policy) any { return &p.Bandwidth.Zone }, 0, 0, "whose clock the hours below mean: the machine's, or one such as \"Europe/Berlin\""},
	{"bandwidth.foreground", func(p *Policy) any { return &p.Bandwidth.Foreground }, 0, 0, "all foreground jobs together"},
	{"bandwidth.background", func(p *Policy) any { return &p.Bandwidth.Background }, 0, 0, "all background jobs together, where no rule below says something"},
	{"bandwidth.lan_exempt", func(p *Policy) any { return &p.Bandwidth.LANExempt }, 0, 0, "no limits towards servers in the machine's own subnets"},
	{"bandwidth.interval.hours", func(p *Policy) any { return &p.Bandwidth.Interval.Hours }, 0, 0, "every day; where both are equal it is the whole day"},
	{"bandwidth.interval.limit", func(p *Policy) any { return &p.Bandwidth.Interval.Limit }, 0, 0, "background jobs in these hours"},
	{"bandwidth.interval.otherwise", func(p *Policy) any { return &p.Bandwidth.Interval.Otherwise }, 0, 0, "background jobs outside of them"},
	{"bandwidth.work.days", func(p *Policy) any { return &p.Bandwidth.Work.Days }, 0, 0, "on which the hours begin: \"Mon-Fri\", \"Sat, Sun\", \"daily\""},
	{"bandwidth.work.hours", func(p *Policy) any { return &p.Bandwidth.Work.Hours }, 0, 0, "\"22:00-06:00\" goes past midnight"},
	{"bandwidth.work.high", func(p *Policy) any { return &p.Bandwidth.Work.High }, 0, 0, "jobs of priority HIGH"},
	{"bandwidth.work.normal", func(p *Policy) any { return &p.Bandwidth.Work.Normal }, 0, 0, "jobs of priority NORMAL"},
	{"bandwidth.work.low", func(p *Policy) any { return &p.Bandwidth.Work.Low }, 0, 0, "jobs of priority LOW"},
	{"bandwidth.nonwork.high", func(p *Policy) any { return &p.Bandwidth.NonWork.High }, 0, 0, "at all times outside of work"},
	{"bandwidth.nonwork.normal", func(p *Policy) any { return &p.Bandwidth.NonWork.Normal }, 0, 0, ""},
	{"bandwidth.nonwork.low", func(p *Policy) any { return &p.Bandwidth.NonWork.Low }, 0, 0, ""},
	{"bandwidth.maintenance.days", func(p *Policy) any { return &p.Bandwidth.Maintenance.Days }, 0, 0, "maintenance goes before work and nonwork"},
	{"bandwidth.maintenance.hours", func(p *Policy) any { return &p.Bandwidth.Maintenance.Hours }, 0, 0, "needed if there is a limit below"},
	{"bandwidth.maintenance.high", func(p *Policy) any { return &p.Bandwidth.Maintenance.High }, 0, 0, ""},
	{"bandwidth.maintenance.normal", func(p *Policy) any { return &p.Bandwidth.Maintenance.Normal }, 0, 0, ""},
	{"bandwidth.maintenance.low", func(p *Policy) any { return &p.Bandwidth.Maintenance.Low }, 0, 0, ""},

	{"cost.network", func(p *Policy) any { return &p.Cost.Network }, 0, 0, "what the network costs: \"auto\" asks NetworkManager; else \"unmetered\", \"metered\", \"roaming\""},
	{"cost.foreground", func(p *Policy) any { return &p.Cost.Transfer[bits.Foreground] }, 0, 0, "networks that foreground jobs may use: " + strings.Join(policies(), ", ")},
	{"cost.high", func(p *Policy) any { return &p.Cost.Transfer[bits.High] }, 0, 0, ""},
	{"cost.normal", func(p *Policy) any { return &p.Cost.Transfer[bits.Normal] }, 0, 0, ""},
	{"cost.low", func(p *Policy) any { return &p.Cost.Transfer[bits.Low] }, 0, 0, ""},

	{"power.on_battery", func(p *Policy) any { return &p.Power.OnBattery }, 0, 0, "on battery: \"run\" or \"background-waits\""},
	{"power.power_saver", func(p *Policy) any { return &p.Power.PowerSaver }, 0, 0, "in power-saver mode"},

	{"credentials.own", func(p *Policy) any { return &p.Credentials.Own }, 0, 0, "servers and proxies that jobs may show their owners' Kerberos tickets to: \"any\", \"none\", or \"a.example.com, *.example.org\""},

	{"notify.commands", func(p *Policy) any { return &p.Notify.Commands }, 0, 0, "what jobs may run as their owners: \"any\", \"none\", or \"/usr/bin/x, /opt/hooks/*\""},
	{"notify.hooks", func(p *Policy) any { return &p.Notify.Hooks }, 0, 0, "servers that web hooks may go to: \"any\", \"none\", or \"a.example.com, *.example.org\""},
	{"notify.timeout", func(p *Policy) any { return &p.Notify.Timeout }, 1, oneDay, "a program that is told of a job has to be done by then"},

	{"peers.mode", func(p *Policy) any { return &p.Peers.Mode }, 0, 0, "where downloads get blocks from besides the server: \"off\", \"local\" (own cache), \"distributed\" (machines of the same network), \"hosted\""},
	{"peers.fetch", func(p *Policy) any { return &p.Peers.Fetch }, 0, 0, "downloads may get blocks from others"},
	{"peers.serve", func(p *Policy) any { return &p.Peers.Serve }, 0, 0, "others may get blocks from this machine"},
	{"peers.port", func(p *Policy) any { return &p.Peers.Port }, 1, 65535, "TCP port that blocks are served on"},
	{"peers.interfaces", func(p *Policy) any { return &p.Peers.Interfaces }, 0, 0, "networks with peers: \"auto\" (private addresses, nothing virtual), or \"eth0, wlan0\""},
	{"peers.hosted_caches", func(p *Policy) any { return &p.Peers.HostedCaches }, 0, 0, "for mode hosted: \"none\", or \"cache.example.com, 192.0.2.7:2178\"; the port is 80 unless given"},
	{"peers.cache_size", func(p *Policy) any { return &p.Peers.CacheSize }, 0, 0, "of the blocks that are kept: \"1%\" to \"80%\" of the disk, or \"64 MiB\" to \"1024 TiB\"; less when the disk is nearly full"},
	{"peers.max_age", func(p *Policy) any { return &p.Peers.MaxAge }, hour, year, "blocks are kept for so long"},
	{"peers.uploads", func(p *Policy) any { return &p.Peers.Uploads }, 1, 16384, "answers to peers at once"},
	{"peers.upload_rate", func(p *Policy) any { return &p.Peers.UploadRate }, 0, 0, "all answers to peers together; in any case no more than other traffic leaves"},
	{"peers.serve_on_battery", func(p *Policy) any { return &p.Peers.ServeOnBattery }, 0, 0, "others may also while this machine runs on battery"},
	{"peers.plain_http", func(p *Policy) any { return &p.Peers.PlainHTTP }, 0, 0, "also files from http:// servers: who can change an answer on its way chooses what the file has, as without peers"},
	{"peers.version1_only", func(p *Policy) any { return &p.Peers.Version1Only }, 0, 0, "speak as Windows 7 and Server 2008 R2 do"},
	{"peers.throttle_lan", func(p *Policy) any { return &p.Peers.ThrottleLAN }, 0, 0, "the limits of [bandwidth] hold for bytes from peers too"},
	{"peers.digest_mode", func(p *Policy) any { return &p.Peers.DigestMode }, 0, 0, "also files of which a checksum is known, from servers that know nothing of BranchCache: whoever knows it can get such a file from here"},
}

// policies returns the names of the transfer policies that can be given to a priority.
func policies() []string {
	return slices.DeleteFunc(bits.TransferPolicies(), func(s string) bool { return s == bits.TransferDefault.String() })
}

func keyNamed(name string) *key {
	for i := range keys {
		if keys[i].name == name {
			return &keys[i]
		}
	}
	return nil
}

// KeyNames returns the names of all keys of Ebb's own.
func KeyNames() []string {
	names := make([]string, len(keys))
	for i := range keys {
		names[i] = keys[i].name
	}
	return names
}

// isText reports whether the key's value is in quotes in the file.
func (k *key) isText() bool {
	switch k.field(new(Policy)).(type) {
	case *bool, *int:
		return false
	}
	return true
}

// get returns the key's value as in the file: a text, a number or a boolean; nil where it has
// none.
func (k *key) get(p *Policy) any {
	switch f := k.field(p).(type) {
	case *bool:
		return *f
	case *int:
		return *f
	case *Rate:
		if *f == NoRate {
			return nil
		}
		return f.String()
	case fmt.Stringer:
		return f.String()
	}
	return nil
}

// set gives the key a value as it is in the file.
func (k *key) set(p *Policy, v value) error {
	switch f := k.field(p).(type) {
	case *bool:
		if v.kind != kindBool {
			return errors.New("want true or false, without quotes")
		}
		*f = v.text == "true"
	case *int:
		n, err := strconv.ParseInt(v.text, 0, 64)
		if v.kind != kindInt || err != nil {
			return fmt.Errorf("want a number from %d to %d, without quotes", k.lo, k.hi)
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
		lo, hi := Duration(k.lo*int64(time.Second)), Duration(k.hi*int64(time.Second))
		if d < lo || d > hi || d > 0 && d < Duration(time.Second) {
			return fmt.Errorf("%s is out of range; want %s to %s", d, lo, hi)
		}
		*f = d
	case *bits.Cost:
		c, err := bits.ParseCost(v.text)
		if err != nil {
			return err
		}
		if c&^bits.CostIgnoreCongestion == 0 {
			return fmt.Errorf("%q allows no network at all (want %s)", v.text, strings.Join(policies(), ", "))
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
