package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// bitsTable is the table for BITS's names.
const bitsTable = "bits"

// bitsName is a policy value of BITS (client.md 8.3 to 8.6), below
// HKLM\Software\Policies\Microsoft\Windows\BITS; subkeys are joined by dots.
type bitsName struct {
	name   string
	lo, hi int64
	key    string             // Ebb's key, where the value alone says what that gets
	form   func(int64) string // the key's value for it
	unused string             // why it has no effect, if it has none
}

const (
	dword       = 1<<32 - 1
	maxKbit     = 4_294_967_200
	outsideWork = "non-work is all that is outside of the work schedule"
)

func inDays(n int64) string    { return strconv.FormatInt(n, 10) + "d" }
func inSeconds(n int64) string { return strconv.FormatInt(n, 10) + "s" }
func inKbit(n int64) string    { return strconv.FormatInt(n, 10) + " kbit/s" }
func inBit(n int64) string     { return strconv.FormatInt(n, 10) + " bit/s" }
func inPercent(n int64) string { return strconv.FormatInt(n, 10) + "%" }
func asNot(n int64) string     { return strconv.FormatBool(n == 0) }
func asNumber(n int64) string  { return strconv.FormatInt(n, 10) }
func asBool(n int64) string    { return strconv.FormatBool(n == 1) }

// asCost turns a value of TransferPolicy into a transfer policy: a choice from 1 to 5, or else
// a mask of cost states.
func asCost(n int64) string {
	choices := [...]bits.Cost{1: bits.TransferAlways, bits.TransferNotRoaming, bits.TransferNoSurcharge, bits.TransferStandard, bits.TransferUnrestricted}
	if n < int64(len(choices)) {
		return choices[n].Hex()
	}
	return bits.Cost(n).Hex()
}

var bitsNames = func() []bitsName {
	names := []bitsName{
		{name: "JobInactivityTimeout", lo: 1, hi: 999, key: "jobs.inactivity", form: inDays},
		{name: "MaxDownloadTime", lo: 1, hi: 1 << 31, key: "jobs.max_download_time", form: inSeconds},
		{name: "MaxJobsPerMachine", lo: 1, hi: 1e7, key: "jobs.max_per_machine", form: asNumber},
		{name: "MaxJobsPerUser", lo: 1, hi: 1e7, key: "jobs.max_per_user", form: asNumber},
		{name: "MaxFilesPerJob", lo: 1, hi: bits.MaxFilesPerJob, key: "jobs.max_files", form: asNumber},
		{name: "MaxRangesPerFile", lo: 1, hi: bits.MaxRangesPerFile, key: "jobs.max_ranges", form: asNumber},
		{name: "DisableBranchCache", hi: 1},
		{name: "EnablePeercaching", hi: 1},
		{name: "DisablePeerCachingClient", hi: 1, key: "peers.fetch", form: asNot},
		{name: "DisablePeerCachingServer", hi: 1, key: "peers.serve", form: asNot},
		{name: "MaxCacheSize", lo: 1, hi: mostPercent, key: "peers.cache_size", form: inPercent},
		{name: "MaxContentAge", lo: 1, hi: 120, key: "peers.max_age", form: inDays},
		{name: "MaxBandwidthServed", lo: 1_048_576, hi: maxKbit, key: "peers.upload_rate", form: inBit},
		{name: "EnableBITSMaxBandwidth", hi: 1},
		{name: "MaxTransferRateOnSchedule", hi: maxKbit},
		{name: "MaxBandwidthValidFrom", hi: 23},
		{name: "MaxBandwidthValidTo", hi: 23},
		{name: "UseSystemMaximum", hi: 1},
		{name: "MaxTransferRateOffSchedule", hi: maxKbit},
		{name: "Throttling.EnableBandwidthLimits", hi: 1},
		{name: "Throttling.IgnoreBandwidthLimitsOnLan", hi: 1, key: "bandwidth.lan_exempt", form: asBool},
		{name: "Throttling.EnableMaintenanceLimits", hi: 1},
	}
	for _, schedule := range []string{"WorkSchedule", "NonWorkSchedule", "MaintenanceSchedule"} {
		sub, why := "Throttling."+schedule+".", ""
		if schedule == "NonWorkSchedule" {
			why = outsideWork
		}
		names = append(names,
			bitsName{name: sub + "StartDay", hi: 6, unused: why}, bitsName{name: sub + "EndDay", hi: 6, unused: why},
			bitsName{name: sub + "StartHour", hi: 23, unused: why}, bitsName{name: sub + "EndHour", hi: 23, unused: why})
		for _, level := range []string{"High", "Normal", "Low"} {
			names = append(names, bitsName{name: sub + level + "BandwidthLimit", hi: dword}, bitsName{name: sub + level + "BandwidthType", lo: 1, hi: 3})
		}
	}
	for _, level := range []string{"Foreground", "High", "Normal", "Low"} {
		names = append(names, bitsName{name: "TransferPolicy." + level, lo: 1, hi: dword, key: "cost." + strings.ToLower(level), form: asCost})
	}
	return names
}()

// bitsTableNames returns BITS's names with the table's before them.
func bitsTableNames() []string {
	out := make([]string, len(bitsNames))
	for i, b := range bitsNames {
		out[i] = bitsTable + "." + b.name
	}
	return out
}

// bitsUnits are the values of ...BandwidthType. Of the numbers only 2 is known for certain.
var bitsUnits = []struct {
	word string
	unit string
}{1: {"Kbps", "kbit/s"}, 2: {"Mbps", "Mbit/s"}, 3: {"unlimited", ""}}

// bitsValue is a value under one of BITS's names.
type bitsValue struct {
	n    int64
	line int
}

// bitsReader turns values under BITS's names into settings of Ebb's.
type bitsReader struct {
	*reader
	values map[string]bitsValue
	used   map[string]bool
}

// readBITS takes over the settings of the table [bits].
func (r *reader) readBITS(settings []setting) {
	b := bitsReader{r, map[string]bitsValue{}, map[string]bool{}}
	for _, s := range settings {
		b.value(s)
	}
	for _, n := range bitsNames {
		if v, ok := b.values[n.name]; ok && n.key != "" {
			b.give(n.key, n.form(v.n), n.name)
		}
	}
	b.peers()
	b.interval()
	b.schedules()
}

// value checks a value and takes it up.
func (b *bitsReader) value(s setting) {
	name := strings.Join(s.path[1:], ".")
	var known *bitsName
	for i := range bitsNames {
		if strings.EqualFold(bitsNames[i].name, name) { // the registry does not care for case
			known = &bitsNames[i]
		}
	}
	if known == nil {
		b.problem(s.line, s.name(), "BITS has no such policy%s", meant(Suggest(s.name(), bitsTableNames())))
		return
	}
	n, err := strconv.ParseInt(s.text, 0, 64)
	ok := s.kind == kindInt && err == nil
	if s.kind == kindBool && known.lo == 0 && known.hi == 1 {
		if n, ok = 0, true; s.text == "true" {
			n = 1
		}
	}
	if strings.HasSuffix(known.name, "BandwidthType") {
		for code := 1; code < len(bitsUnits) && s.kind == kindString; code++ {
			if strings.EqualFold(s.text, bitsUnits[code].word) {
				n, ok = int64(code), true
			}
		}
		if !ok || n < known.lo || n > known.hi {
			b.problem(s.line, s.name(), `want "Kbps", "Mbps" or "unlimited"`)
			return
		}
		if s.kind == kindInt && n != 2 {
			b.notice(s.line, s.name(), "is taken for %q; write the word to be sure", bitsUnits[n].word)
		}
	}
	if !ok || n < known.lo || n > known.hi {
		b.problem(s.line, s.name(), "want a number from %d to %d, without quotes", known.lo, known.hi)
		return
	}
	if _, twice := b.values[known.name]; twice {
		b.problem(s.line, s.name(), "is set twice")
		return
	}
	b.values[known.name] = bitsValue{n, s.line}
	if known.unused != "" {
		b.notice(s.line, s.name(), "has no effect: %s", known.unused)
	}
}

// number returns a value, or what BITS takes where there is none.
func (b *bitsReader) number(name string, otherwise int64) int64 {
	if v, ok := b.values[name]; ok {
		return v.n
	}
	return otherwise
}

// give sets one of Ebb's keys for a value of BITS's.
func (b *bitsReader) give(key, text, name string) {
	v, ok := b.values[name]
	if !ok {
		return
	}
	k := keyNamed(key)
	val := value{kind: kindString, text: text}
	switch k.field(&b.policy).(type) {
	case *int:
		val.kind = kindInt
	case *bool:
		val.kind = kindBool
	}
	if err := k.set(&b.policy, val); err != nil {
		b.problem(v.line, bitsTable+"."+name, "%s", err)
		return
	}
	b.policy.from[key] = Source{Line: v.line, BITS: bitsTable + "." + name}
}

// off tells that values have no effect as what switches them on is missing.
func (b *bitsReader) off(enable string, names ...string) bool {
	if b.number(enable, 0) == 1 {
		return false
	}
	for _, name := range names {
		if v, ok := b.values[name]; ok {
			b.notice(v.line, bitsTable+"."+name, "has no effect: %s is not 1", enable)
			return true // once is enough
		}
	}
	return true
}

// peers reads the switches of BITS's two kinds of peer caching. The one that EnablePeercaching is about
// ended with BITS 4.0; what took its place is BranchCache, which DisableBranchCache keeps BITS from.
func (b *bitsReader) peers() {
	const enable, disable = "EnablePeercaching", "DisableBranchCache"
	if b.number(enable, 0) == 1 {
		b.give("peers.mode", string(PeersDistributed), enable)
	}
	if b.number(disable, 0) == 0 {
		return
	}
	b.give("peers.mode", string(PeersOff), disable)
	if v, ok := b.values[enable]; ok && v.n == 1 {
		b.notice(v.line, bitsTable+"."+enable, "has no effect: %s is 1", disable)
	}
}

// interval reads the simple limit.
func (b *bitsReader) interval() {
	const on, from, to, limit, system, otherwise = "EnableBITSMaxBandwidth", "MaxBandwidthValidFrom", "MaxBandwidthValidTo",
		"MaxTransferRateOnSchedule", "UseSystemMaximum", "MaxTransferRateOffSchedule"
	if b.off(on, limit, from, to, otherwise, system) {
		return
	}
	if _, ok := b.values[limit]; !ok {
		off, ok := b.values[otherwise]
		if !ok || b.number(system, 1) == 1 {
			b.notice(b.values[on].line, bitsTable+"."+on, "limits nothing: there is no %s", limit)
			return
		}
		b.notice(off.line, bitsTable+"."+otherwise, "is the only limit: there is no %s", limit)
	}
	hours := fmt.Sprintf("%02d:00-%02d:00", b.number(from, 8), b.number(to, 17))
	for _, name := range []string{on, from, to} { // the last that is there is where it comes from
		b.give("bandwidth.interval.hours", hours, name)
	}
	b.give("bandwidth.interval.limit", inKbit(b.number(limit, 0)), limit)
	switch v, ok := b.values[otherwise]; {
	case b.number(system, 1) == 1:
		b.give("bandwidth.interval.otherwise", "unlimited", limit)
		b.give("bandwidth.interval.otherwise", "unlimited", system)
		if ok {
			b.notice(v.line, bitsTable+"."+otherwise, "has no effect: %s is not 0", system)
		}
	case ok:
		b.give("bandwidth.interval.otherwise", inKbit(v.n), otherwise)
	default:
		b.problem(b.values[system].line, bitsTable+"."+system, "is 0, but there is no %s", otherwise)
	}
}

// schedules reads work, non-work and maintenance.
func (b *bitsReader) schedules() {
	for _, s := range []struct{ enable, sub, table string }{
		{"Throttling.EnableBandwidthLimits", "Throttling.WorkSchedule.", "bandwidth.work."},
		{"Throttling.EnableBandwidthLimits", "Throttling.NonWorkSchedule.", "bandwidth.nonwork."},
		{"Throttling.EnableMaintenanceLimits", "Throttling.MaintenanceSchedule.", "bandwidth.maintenance."},
	} {
		names := []string{s.sub + "StartDay", s.sub + "EndDay", s.sub + "StartHour", s.sub + "EndHour"}
		limits := []string{s.sub + "HighBandwidthLimit", s.sub + "NormalBandwidthLimit", s.sub + "LowBandwidthLimit"}
		types := []string{s.sub + "HighBandwidthType", s.sub + "NormalBandwidthType", s.sub + "LowBandwidthType"}
		if b.off(s.enable, append(append(limits, types...), names...)...) {
			continue
		}
		for i, level := range []string{"high", "normal", "low"} {
			b.level(s.table+level, limits[i], types[i])
		}
		if s.table == "bandwidth.nonwork." {
			continue
		}
		b.days(s.table+"days", names[0], names[1])
		b.hours(s.table+"hours", names[2], names[3])
	}
}

// level reads the limit of one priority in a schedule.
func (b *bitsReader) level(key, limit, unit string) {
	code := b.number(unit, 1)
	v, ok := b.values[limit]
	switch {
	case bitsUnits[code].unit == "":
		b.give(key, "unlimited", unit)
	case !ok && b.number(unit, 0) != 0:
		b.problem(b.values[unit].line, bitsTable+"."+unit, "there is no %s", limit)
	case ok:
		b.give(key, fmt.Sprintf("%d %s", v.n, bitsUnits[code].unit), limit)
	}
}

// days reads the days of a schedule; those that are not given are as in Ebb's default.
func (b *bitsReader) days(key, start, end string) {
	first, last := int64(time.Monday), int64(time.Friday)
	if strings.Contains(key, "maintenance") {
		first, last = int64(time.Sunday), int64(time.Saturday)
	}
	from, to := b.number(start, first), b.number(end, last)
	text := between(time.Weekday(from), time.Weekday(to)).String()
	b.give(key, text, end)
	b.give(key, text, start)
}

// hours reads the hours of a schedule.
func (b *bitsReader) hours(key, start, end string) {
	_, first := b.values[start]
	_, last := b.values[end]
	if !first && !last {
		return
	}
	if strings.Contains(key, "maintenance") && first != last {
		b.problem(max(b.values[start].line, b.values[end].line), bitsTable+"."+start, "and EndHour are needed both")
		return
	}
	text := fmt.Sprintf("%02d:00-%02d:00", b.number(start, 8), b.number(end, 17))
	b.give(key, text, end)
	b.give(key, text, start)
}
