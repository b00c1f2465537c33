// Package policy holds what the administrator of a service decides: one TOML file, read once
// into a typed value and passed down. It knows the names, the defaults and the ranges; what
// follows from them is decided elsewhere.
package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Policy is the service's configuration.
type Policy struct {
	Jobs     Jobs     `toml:"jobs"`
	Transfer Transfer `toml:"transfer"`
}

// Jobs rules how many jobs run and how long ended ones are remembered.
type Jobs struct {
	Foreground   int      `toml:"foreground"`    // foreground jobs at once; 1 to 1000
	Background   int      `toml:"background"`    // background jobs at once; 1 to 100
	TimeSlice    Duration `toml:"time_slice"`    // turn of a background job while another of its level waits; 1s to 24h
	KeepFinished Duration `toml:"keep_finished"` // how long completed and cancelled jobs can still be shown; 0s to 8760h
	KeepEvents   Duration `toml:"keep_events"`   // how long events can still be read; 1m to 8760h
}

// Transfer rules single connections.
type Transfer struct {
	StallTimeout Duration `toml:"stall_timeout"` // a connection without a byte for so long is dropped; 1s to 1h
}

// Duration is a time.Duration written as "90s", "10m" or "24h".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration (want 90s, 10m or 24h)", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Default returns the policy of a service without a file.
func Default() Policy {
	return Policy{
		Jobs: Jobs{
			Foreground:   64,
			Background:   1,
			TimeSlice:    Duration(time.Minute), // docs/decisions/003-time-slice.md
			KeepFinished: Duration(24 * time.Hour),
			KeepEvents:   Duration(7 * 24 * time.Hour),
		},
		Transfer: Transfer{StallTimeout: Duration(30 * time.Second)},
	}
}

// Load reads a file; an empty name stands for the defaults. Errors name the file and the line.
func Load(name string) (Policy, error) {
	p := Default()
	if name == "" {
		return p, nil
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("the configuration file %s does not exist", name)
	}
	if err != nil {
		return p, err
	}
	if err := p.parse(string(text)); err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

func (p *Policy) parse(text string) error {
	meta, err := toml.Decode(text, p)
	if err != nil {
		var perr toml.ParseError
		if errors.As(err, &perr) {
			return fmt.Errorf("line %d: %s", perr.Position.Line, perr.Message)
		}
		return err
	}
	if extra := meta.Undecoded(); len(extra) > 0 {
		return fmt.Errorf("line %d: unknown key %s", lineOf(text, extra[0]), extra[0])
	}
	for _, c := range []struct {
		key            string
		value, lo, hi  int64
		isDurationUnit bool
	}{
		{"jobs.foreground", int64(p.Jobs.Foreground), 1, 1000, false},
		{"jobs.background", int64(p.Jobs.Background), 1, 100, false},
		{"jobs.time_slice", int64(p.Jobs.TimeSlice), int64(time.Second), int64(24 * time.Hour), true},
		{"jobs.keep_finished", int64(p.Jobs.KeepFinished), 0, int64(8760 * time.Hour), true},
		{"jobs.keep_events", int64(p.Jobs.KeepEvents), int64(time.Minute), int64(8760 * time.Hour), true},
		{"transfer.stall_timeout", int64(p.Transfer.StallTimeout), int64(time.Second), int64(time.Hour), true},
	} {
		if c.value >= c.lo && c.value <= c.hi {
			continue
		}
		show := func(v int64) string {
			if c.isDurationUnit {
				return time.Duration(v).String()
			}
			return fmt.Sprint(v)
		}
		return fmt.Errorf("line %d: %s is %s; want %s to %s", lineOf(text, strings.Split(c.key, ".")), c.key, show(c.value), show(c.lo), show(c.hi))
	}
	return nil
}

// lineOf finds the line on which a key of a table is set, or 0.
func lineOf(text string, key []string) int {
	table := ""
	want := strings.Join(key[:len(key)-1], ".")
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			table = strings.Trim(line, "[] \t")
			if table == strings.Join(key, ".") {
				return i + 1
			}
			continue
		}
		name, _, ok := strings.Cut(line, "=")
		name = strings.Trim(strings.TrimSpace(name), `"`)
		if ok && (table == want && name == key[len(key)-1] || table == "" && name == strings.Join(key, ".")) {
			return i + 1
		}
	}
	return 0
}
