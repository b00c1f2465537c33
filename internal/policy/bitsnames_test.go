package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebbtransfer/ebb/bits"
)

func TestBITSNames(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       string // what differs from the default
		notices    string
	}{
		{"limits", "JobInactivityTimeout = 30\nMaxDownloadTime = 3600\nMaxJobsPerMachine = 300\nMaxJobsPerUser = 60\nMaxFilesPerJob = 200\nMaxRangesPerFile = 500\n",
			"jobs.max_per_machine = 300\njobs.max_per_user = 60\njobs.max_files = 200\njobs.max_ranges = 500\njobs.inactivity = 30d\njobs.max_download_time = 1h\n", ""},
		{"case does not matter", "jobinactivitytimeout = 30\n[bits.throttling]\nignorebandwidthlimitsonlan = true\n", "jobs.inactivity = 30d\nbandwidth.lan_exempt = true\n", ""},
		{"interval with BITS's hours", "EnableBITSMaxBandwidth = 1\nMaxTransferRateOnSchedule = 1000\n",
			"bandwidth.interval.hours = 08:00-17:00\nbandwidth.interval.limit = 1 Mbit/s\nbandwidth.interval.otherwise = unlimited\n", ""},
		{"interval", "EnableBITSMaxBandwidth = 1\nMaxTransferRateOnSchedule = 0\nMaxBandwidthValidFrom = 22\nMaxBandwidthValidTo = 6\nUseSystemMaximum = 0\nMaxTransferRateOffSchedule = 20\n",
			"bandwidth.interval.hours = 22:00-06:00\nbandwidth.interval.limit = block\nbandwidth.interval.otherwise = 20 kbit/s\n", ""},
		{"interval that is off", "EnableBITSMaxBandwidth = 0\nMaxTransferRateOnSchedule = 10\n", "", "line 3: bits.MaxTransferRateOnSchedule: has no effect: EnableBITSMaxBandwidth is not 1\n"},
		{"interval without a limit", "EnableBITSMaxBandwidth = 1\n", "", "line 2: bits.EnableBITSMaxBandwidth: limits nothing: there is no MaxTransferRateOnSchedule\n"},
		{"only a limit outside", "EnableBITSMaxBandwidth = 1\nUseSystemMaximum = 0\nMaxTransferRateOffSchedule = 20\n",
			"bandwidth.interval.hours = 08:00-17:00\nbandwidth.interval.otherwise = 20 kbit/s\n",
			"line 4: bits.MaxTransferRateOffSchedule: is the only limit: there is no MaxTransferRateOnSchedule\n"},
		{"no limit at all", "EnableBITSMaxBandwidth = 1\nUseSystemMaximum = 1\nMaxTransferRateOffSchedule = 20\n", "", "line 2: bits.EnableBITSMaxBandwidth: limits nothing: there is no MaxTransferRateOnSchedule\n"},
		{"a limit outside that is not used", "EnableBITSMaxBandwidth = 1\nMaxTransferRateOnSchedule = 1\nMaxTransferRateOffSchedule = 20\n",
			"bandwidth.interval.hours = 08:00-17:00\nbandwidth.interval.limit = 1 kbit/s\nbandwidth.interval.otherwise = unlimited\n",
			"line 3: bandwidth.interval.limit: behaves as 2 kbit/s; write \"block\" to let nothing through\nline 4: bits.MaxTransferRateOffSchedule: has no effect: UseSystemMaximum is not 0\n"},
		{"schedules", `
[bits.Throttling]
EnableBandwidthLimits = 1
[bits.Throttling.WorkSchedule]
StartDay = 6
EndDay = 1
StartHour = 20
EndHour = 4
HighBandwidthLimit = 2
HighBandwidthType = 2
NormalBandwidthLimit = 500
LowBandwidthLimit = 0
[bits.Throttling.NonWorkSchedule]
StartHour = 3
HighBandwidthLimit = 5
HighBandwidthType = "unlimited"
LowBandwidthLimit = 3
LowBandwidthType = "mbps"
`, "bandwidth.work.days = Sat-Mon\nbandwidth.work.hours = 20:00-04:00\nbandwidth.work.high = 2 Mbit/s\nbandwidth.work.normal = 500 kbit/s\nbandwidth.work.low = block\n" +
			"bandwidth.nonwork.high = unlimited\nbandwidth.nonwork.low = 3 Mbit/s\n",
			"line 15: bits.Throttling.NonWorkSchedule.StartHour: has no effect: non-work is all that is outside of the work schedule\n"},
		{"schedules that are off", "[bits.Throttling.WorkSchedule]\nHighBandwidthLimit = 2\n", "", "line 3: bits.Throttling.WorkSchedule.HighBandwidthLimit: has no effect: Throttling.EnableBandwidthLimits is not 1\n"},
		{"a unit whose number is not documented", "Throttling = { EnableBandwidthLimits = true, WorkSchedule = { LowBandwidthLimit = 9, LowBandwidthType = 1 } }\n", "bandwidth.work.low = 9 kbit/s\n",
			"line 2: bits.Throttling.WorkSchedule.LowBandwidthType: is taken for \"Kbps\"; write the word to be sure\n"},
		{"maintenance", "[bits.Throttling]\nEnableMaintenanceLimits = 1\nMaintenanceSchedule = { StartHour = 1, EndHour = 1, LowBandwidthLimit = 9 }\n",
			"bandwidth.maintenance.hours = 01:00-01:00\nbandwidth.maintenance.low = 9 kbit/s\n", ""},
		{"cost", "TransferPolicy = { Foreground = 1, High = 5, Normal = 2, Low = 0x21 }\n", "cost.foreground = always\ncost.high = unrestricted\ncost.normal = not-roaming\ncost.low = flat-rate|overcap-throttled\n", ""},
		{"cost by other numbers", "TransferPolicy = { High = 3, Normal = 4 }\n", "cost.high = no-surcharge\ncost.normal = standard\n", ""},
		{"peer caching", "EnablePeercaching = 1\nDisableBranchCache = 0\nDisablePeerCachingClient = 0\nDisablePeerCachingServer = 1\nMaxCacheSize = 3\nMaxContentAge = 7\nMaxBandwidthServed = 1048576\n",
			"peers.mode = distributed\npeers.fetch = true\npeers.serve = false\npeers.cache_size = 3%\npeers.max_age = 7d\npeers.upload_rate = 128 KiB/s\n", ""},
		{"no BranchCache", "EnablePeercaching = 1\nDisableBranchCache = 1\nDisablePeerCachingClient = true\n", "peers.mode = off\npeers.fetch = false\n",
			"line 2: bits.EnablePeercaching: has no effect: DisableBranchCache is 1\n"},
		{"peer caching that nobody speaks of", "EnablePeercaching = 0\nDisableBranchCache = 0\n", "", ""},
		{"Ebb's keys take precedence", "MaxJobsPerUser = 60\nMaxFilesPerJob = 200\n[jobs]\nmax_per_user = 61\n", "jobs.max_per_user = 61\njobs.max_files = 200\n",
			"line 2: bits.MaxJobsPerUser: has no effect: jobs.max_per_user in line 5 takes precedence\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := parse(t, "[bits]\n"+c.text)
			var got strings.Builder
			for _, s := range p.Settings() {
				if s.Line > 0 {
					fmt.Fprintf(&got, "%s = %v\n", s.Key, s.Value)
				}
			}
			if diff := cmp.Diff(c.want, got.String()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.notices, list(p.Notices)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBITSProblems(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"MaxJobsPerUsr = 1\n", "line 2: bits.MaxJobsPerUsr: BITS has no such policy; did you mean bits.MaxJobsPerUser?\n"},
		{"JobInactivityTimeout = 1000\n", "line 2: bits.JobInactivityTimeout: want a number from 1 to 999, without quotes\n"},
		{"MaxCacheSize = 81\n", "line 2: bits.MaxCacheSize: want a number from 1 to 80, without quotes\n"},
		{"MaxContentAge = 121\n", "line 2: bits.MaxContentAge: want a number from 1 to 120, without quotes\n"},
		{"MaxBandwidthServed = 1000\n", "line 2: bits.MaxBandwidthServed: want a number from 1048576 to 4294967200, without quotes\n"},
		{"JobInactivityTimeout = '90'\n", "line 2: bits.JobInactivityTimeout: want a number from 1 to 999, without quotes\n"},
		{"JobInactivityTimeout = true\n", "line 2: bits.JobInactivityTimeout: want a number from 1 to 999, without quotes\n"},
		{"MaxBandwidthValidFrom = 24\n", "line 2: bits.MaxBandwidthValidFrom: want a number from 0 to 23, without quotes\n"},
		{"MaxTransferRateOnSchedule = 4294967201\n", "line 2: bits.MaxTransferRateOnSchedule: want a number from 0 to 4294967200, without quotes\n"},
		{"EnableBITSMaxBandwidth = 1\nMaxTransferRateOnSchedule = 1\nUseSystemMaximum = 0\n", "line 4: bits.UseSystemMaximum: is 0, but there is no MaxTransferRateOffSchedule\n"},
		{"MaxJobsPerUser = 1\nmaxjobsperuser = 2\n", "line 3: bits.maxjobsperuser: is set twice\n"},
		{"[bits.Throtling]\nx = 1\n", "line 2: bits.Throtling: there is no such table; did you mean bits.Throttling?\n"},
		{"[bits.Throttling.WorkSchedule]\nLowBandwidthType = 'Gbps'\n", "line 3: bits.Throttling.WorkSchedule.LowBandwidthType: want \"Kbps\", \"Mbps\" or \"unlimited\"\n"},
		{"[bits.Throttling.WorkSchedule]\nLowBandwidthType = 4\n", "line 3: bits.Throttling.WorkSchedule.LowBandwidthType: want \"Kbps\", \"Mbps\" or \"unlimited\"\n"},
		{"[bits.Throttling]\nEnableBandwidthLimits = 1\nWorkSchedule.LowBandwidthType = 2\n", "line 4: bits.Throttling.WorkSchedule.LowBandwidthType: there is no Throttling.WorkSchedule.LowBandwidthLimit\n"},
		{"[bits.Throttling]\nEnableBandwidthLimits = 1\nWorkSchedule.LowBandwidthLimit = 4294967295\nWorkSchedule.LowBandwidthType = 2\n", "line 4: bits.Throttling.WorkSchedule.LowBandwidthLimit: 4294967295 Mbit/s is more than a rate can be (4294967200 kbit/s)\n"},
		{"[bits.Throttling]\nEnableMaintenanceLimits = 1\nMaintenanceSchedule.LowBandwidthLimit = 1\n", "line 4: bandwidth.maintenance.low: needs bandwidth.maintenance.hours\n"},
		{"TransferPolicy.Low = 0\n", "line 2: bits.TransferPolicy.Low: want a number from 1 to 4294967295, without quotes\n"},
		{"TransferPolicy.Low = 0x80000000\n", "line 2: bits.TransferPolicy.Low: \"0x80000000\" allows no network at all (want always, not-roaming, no-surcharge, standard, unmetered, unrestricted)\n"},
	} {
		if diff := cmp.Diff(c.want, problemsOf(t, "[bits]\n"+c.text)); diff != "" {
			t.Errorf("%s:\n%s", c.text, diff)
		}
	}
}

// What comes from one of BITS's names says so.
func TestBITSNameIsTheSource(t *testing.T) {
	p := parse(t, "[bits]\nEnableBITSMaxBandwidth = 1\nMaxTransferRateOnSchedule = 8\nMaxBandwidthValidTo = 18\n")
	for key, want := range map[string]Source{
		"bandwidth.interval.hours":     {Line: 4, BITS: "bits.MaxBandwidthValidTo"},
		"bandwidth.interval.limit":     {Line: 3, BITS: "bits.MaxTransferRateOnSchedule"},
		"bandwidth.interval.otherwise": {Line: 3, BITS: "bits.MaxTransferRateOnSchedule"},
		"jobs.foreground":              {},
	} {
		if got := p.Source(key); got != want {
			t.Errorf("%s comes from %+v, want %+v", key, got, want)
		}
	}
	l := p.Limits(time.Date(2026, 11, 20, 12, 0, 0, 0, p.Bandwidth.Zone.Location))[bits.Low]
	if l.Now.BITS != "bits.MaxTransferRateOnSchedule" || l.Now.Line != 3 || l.Now.Hours != "08:00-18:00" || l.Now.Rate == nil || *l.Now.Rate != 1000 ||
		l.Next == nil || l.Next.Rate != nil || l.Next.Hours != "outside of 08:00-18:00" {
		t.Errorf("%+v, then %+v", l.Now, l.Next)
	}
}

// Every name that the specification lists is known.
func TestAllBITSNamesAreKnown(t *testing.T) {
	for name := range strings.FieldsSeq(`JobInactivityTimeout MaxDownloadTime MaxJobsPerMachine MaxJobsPerUser MaxFilesPerJob MaxRangesPerFile DisableBranchCache
		EnablePeercaching DisablePeerCachingClient DisablePeerCachingServer MaxCacheSize MaxContentAge MaxBandwidthServed
		EnableBITSMaxBandwidth MaxTransferRateOnSchedule MaxBandwidthValidFrom MaxBandwidthValidTo UseSystemMaximum MaxTransferRateOffSchedule
		Throttling.EnableBandwidthLimits Throttling.IgnoreBandwidthLimitsOnLan Throttling.EnableMaintenanceLimits
		Throttling.WorkSchedule.StartDay Throttling.NonWorkSchedule.EndDay Throttling.MaintenanceSchedule.StartHour Throttling.WorkSchedule.EndHour
		Throttling.NonWorkSchedule.HighBandwidthLimit Throttling.MaintenanceSchedule.NormalBandwidthLimit Throttling.WorkSchedule.LowBandwidthLimit
		Throttling.WorkSchedule.HighBandwidthType Throttling.NonWorkSchedule.NormalBandwidthType Throttling.MaintenanceSchedule.LowBandwidthType
		TransferPolicy.Foreground TransferPolicy.High TransferPolicy.Normal TransferPolicy.Low`) {
		value := "1048576"
		for _, n := range bitsNames {
			if n.name == name {
				value = fmt.Sprint(n.hi)
			}
		}
		if strings.HasPrefix(name, "TransferPolicy") {
			value = "1"
		}
		if p := problemsOf(t, "[bits]\n"+name+" = "+value+"\n"); p != "" {
			t.Error(p)
		}
	}
}
