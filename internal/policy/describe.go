package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// Settings returns what holds, in the order of the documentation, without schedules that are
// not used.
func (p *Policy) Settings() []bits.PolicySetting {
	var out []bits.PolicySetting
	for i := range keys {
		k := &keys[i]
		v, from := k.get(p), p.from[k.name]
		if v == nil || from == (Source{}) && !p.uses(k.name) {
			continue
		}
		out = append(out, bits.PolicySetting{Key: k.name, Value: v, Line: from.Line, BITS: from.BITS})
	}
	return out
}

// uses reports whether a key has a meaning: the days and hours of a schedule have none while
// there is no limit for them.
func (p *Policy) uses(key string) bool {
	b := &p.Bandwidth
	switch table, name := cutLast(key); {
	case name != "hours" && name != "days":
		return true
	case table == "bandwidth.interval":
		return limits(b.Interval.Limit, b.Interval.Otherwise)
	case table == "bandwidth.maintenance":
		return b.Maintenance.limits()
	default:
		return b.Work.limits() || b.NonWork.limits()
	}
}

// cutLast separates a key's table from its own name.
func cutLast(key string) (table, name string) {
	i := strings.LastIndexByte(key, '.')
	return key[:i], key[i+1:]
}

// Limits returns the limit of each priority at a moment, and what follows.
func (p *Policy) Limits(now time.Time) []bits.PolicyLimit {
	out := make([]bits.PolicyLimit, bits.Priorities)
	for i := range out {
		prio := bits.Priority(i)
		l := p.Limit(prio, now)
		out[i] = bits.PolicyLimit{Priority: prio, Now: p.rule(l)}
		if !l.Until.IsZero() {
			out[i].Next = new(p.rule(p.Limit(prio, l.Until)))
		}
	}
	return out
}

func (p *Policy) rule(l Limit) bits.PolicyRule {
	from := p.from[l.Key]
	r := bits.PolicyRule{Rule: l.Rule, Key: l.Key, Line: from.Line, BITS: from.BITS}
	if l.Rate != Unlimited {
		r.Rate = &l.Rate
	}
	if !l.Until.IsZero() {
		r.Until = &l.Until
	}
	switch b := &p.Bandwidth; l.Rule {
	case "interval":
		r.Hours = b.Interval.Hours.String()
		if l.Key == "bandwidth.interval.otherwise" {
			r.Hours = "outside of " + r.Hours
		}
	case "work":
		r.Hours = b.Work.String()
	case "nonwork":
		r.Hours = "outside of " + b.Work.String()
	case "maintenance":
		r.Hours = b.Maintenance.String()
	}
	return r
}

// String returns the part of the week: "Mon-Fri 08:00-17:00".
func (s *Schedule) String() string { return s.Days.String() + " " + s.Hours.String() }

// literal writes a value as it is in a file.
func literal(v any) string {
	if s, ok := v.(string); ok {
		return quote(s)
	}
	return fmt.Sprint(v)
}

// quote writes a text as a basic string of TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Write writes settings as a file, with where each comes from in a comment.
func Write(settings []bits.PolicySetting) string {
	var b strings.Builder
	for i, s := range settings {
		table, name := cutLast(s.Key)
		if i == 0 {
			fmt.Fprintf(&b, "[%s]\n", table)
		} else if before, _ := cutLast(settings[i-1].Key); before != table {
			fmt.Fprintf(&b, "\n[%s]\n", table)
		}
		origin := "default"
		if s.Line > 0 {
			origin = "line " + strconv.Itoa(s.Line)
		}
		if s.BITS != "" {
			origin += ", " + s.BITS
		}
		fmt.Fprintf(&b, "%-32s # %s\n", name+" = "+literal(s.Value), origin)
	}
	return b.String()
}

// Template returns a file that changes nothing: all keys with their defaults and what they
// mean, in comments.
func Template() string {
	p := Default()
	var b strings.Builder
	b.WriteString("# Ebb's configuration: all keys with their defaults. To change one, remove the \"# \" before it\n" +
		"# and before the [table] above it. The limits of a schedule are examples: they have no default.\n" +
		"# Of maintenance, work or nonwork, interval, and background the first that has a limit decides.\n")
	last := ""
	for i := range keys {
		k := &keys[i]
		table, name := cutLast(k.name)
		if table != last {
			fmt.Fprintf(&b, "\n# [%s]\n", table)
			last = table
		}
		v := k.get(&p)
		if v == nil {
			v = Rate(Unlimited).String() // an example: the default is to say nothing
		}
		line := fmt.Sprintf("# %s = %s", name, literal(v))
		if doc := k.explain(); doc != "" {
			line = fmt.Sprintf("%-32s # %s", line, doc)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// explain says what the key means and which values it takes.
func (k *key) explain() string {
	switch k.field(new(Policy)).(type) {
	case *int:
		return fmt.Sprintf("%s; %d to %d", k.doc, k.lo, k.hi)
	case *Duration:
		return fmt.Sprintf("%s; %s to %s", k.doc, Duration(k.lo*int64(time.Second)), Duration(k.hi*int64(time.Second)))
	}
	return k.doc
}

func limits(rates ...Rate) bool {
	return slices.ContainsFunc(rates, func(r Rate) bool { return r != NoRate })
}

// limits reports whether there is a limit for some priority.
func (l Levels) limits() bool { return limits(l.High, l.Normal, l.Low) }
