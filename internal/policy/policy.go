// Package policy holds what the administrator of a service decides: one TOML file, read once
// into a typed value and passed down. It knows the names, the defaults and the ranges, which
// rule about bandwidth holds at a moment, and how to change a file without losing its comments.
// Everything else that follows from a policy is decided elsewhere.
package policy

import (
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// Policy is the service's configuration. Take it from Default or Load: the zero value blocks
// everything.
type Policy struct {
	Jobs        Jobs
	Transfer    Transfer
	Bandwidth   Bandwidth
	Cost        Cost
	Power       Power
	Credentials Credentials
	Notify      Notify
	Peers       Peers

	// Notices are what is worth knowing about the file that this was read from: what has no
	// effect, what takes precedence.
	Notices []bits.PolicyProblem

	from map[string]Source // by key, for those that the file sets
}

// Source is where a key gets its value from.
type Source struct {
	Line int    // of the file; 0: the value is the default
	BITS string // BITS's name of the value, if that is what the file has
}

// Source returns where a key gets its value from.
func (p *Policy) Source(key string) Source { return p.from[key] }

// Jobs rules how many jobs there may be, how many run, and how long they are kept.
type Jobs struct {
	Foreground   int      // foreground jobs at once; 1 to 1000
	Background   int      // background jobs at once; 1 to 100
	TimeSlice    Duration // turn of a background job while another of its level waits; 1s to 24h
	KeepFinished Duration // how long completed and cancelled jobs can still be shown; 0s to 365d
	KeepEvents   Duration // how long events can still be read; 1m to 365d

	Logon Logon // which jobs wait for their owners to log on

	MaxPerMachine int // jobs that are not final, of all users together; 1 to 10,000,000
	MaxPerUser    int // the same of one user; 1 to 10,000,000
	MaxRanges     int // ranges of a file; 1 to bits.MaxRangesPerFile
	MaxFiles      int // files of a job; 1 to bits.MaxFilesPerJob

	Inactivity      Duration // a job without progress or change for so long is cancelled; 0s (never), or 1s to 999d
	MaxDownloadTime Duration // time in CONNECTING and TRANSFERRING after which a job fails, unless it has a limit of its own; 0s (never), or 1s to 2147483648s
}

// Transfer rules single connections.
type Transfer struct {
	StallTimeout Duration // a connection without a byte for so long is dropped; 1s to 1h
}

// Cost says what the network costs and which jobs may use it.
type Cost struct {
	Network  Network
	Transfer [bits.Priorities]bits.Cost // for jobs without a transfer policy of their own, by priority
}

// Power says what happens on battery.
type Power struct {
	OnBattery  PowerRule // while the machine runs on battery
	PowerSaver PowerRule // while it is in power-saver mode
}

// Credentials says what jobs may do with their owners' own identity.
type Credentials struct {
	Own Hosts // servers and proxies that it may be shown to, if the job wants it
}

// Notify says what notifications of jobs may do.
type Notify struct {
	Commands Programs // that jobs may run as their owners
	Hooks    Hosts    // that jobs may post to
	Timeout  Duration // for a program that is told of a job; 1s to 24h
}

// Default returns the policy of a service without a file.
func Default() Policy {
	return Policy{
		Jobs: Jobs{
			Foreground:      64,
			Background:      1,
			TimeSlice:       Duration(time.Minute), // docs/decisions/003-time-slice.md
			KeepFinished:    Duration(24 * time.Hour),
			KeepEvents:      Duration(7 * 24 * time.Hour),
			Logon:           LogonAlways,
			MaxPerMachine:   100_000,
			MaxPerUser:      10_000,
			MaxRanges:       10_000,
			MaxFiles:        100_000,
			Inactivity:      Duration(90 * day),
			MaxDownloadTime: Duration(90 * day),
		},
		Transfer: Transfer{StallTimeout: Duration(30 * time.Second)},
		Bandwidth: Bandwidth{
			Zone:        Zone{time.Local},
			Foreground:  Rate(Unlimited),
			Background:  Rate(Unlimited),
			Interval:    Interval{Hours: Hours{8 * 60, 17 * 60}, Limit: NoRate, Otherwise: NoRate},
			Work:        Schedule{Days: workDays, Hours: Hours{8 * 60, 17 * 60}, Levels: noRates},
			NonWork:     noRates,
			Maintenance: Schedule{Days: everyDay, Levels: noRates},
		},
		Cost: Cost{Network: Auto, Transfer: [bits.Priorities]bits.Cost{
			bits.Foreground: bits.TransferAlways,
			bits.High:       bits.TransferUnmetered,
			bits.Normal:     bits.TransferUnmetered,
			bits.Low:        bits.TransferUnmetered,
		}},
		Power:       Power{OnBattery: Run, PowerSaver: BackgroundWaits},
		Credentials: Credentials{Own: anything},
		Notify:      Notify{Commands: anything, Hooks: anything, Timeout: Duration(10 * time.Minute)},
		Peers: Peers{
			Mode: PeersOff, Fetch: true, Serve: true,
			Port:         2178, // registered for BITS's peers (peercache.md 20)
			Interfaces:   automatic,
			HostedCaches: nothing,
			CacheSize:    Size{Percent: 5},
			MaxAge:       Duration(28 * day),
			Uploads:      64,
			UploadRate:   Rate(Unlimited),
		},
	}
}
