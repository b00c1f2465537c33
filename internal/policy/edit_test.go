package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEdit(t *testing.T) {
	for _, c := range []struct {
		name, text string
		changes    string // separated by ';'
		want       string
	}{
		{"an empty file", "", "jobs.background=2", "[jobs]\nbackground = 2\n"},
		{"a text in quotes", "", "bandwidth.background=10 Mbit/s", "[bandwidth]\nbackground = \"10 Mbit/s\"\n"},
		{"leading zeros", "", "jobs.background=010;bits.TransferPolicy.Low=0x00000021;bits.MaxJobsPerUser=0060", "[jobs]\nbackground = 10\n\n[bits.TransferPolicy]\nLow = 0x21\n\n[bits]\nMaxJobsPerUser = 60\n"},
		{"a boolean", "", "bandwidth.lan_exempt=true", "[bandwidth]\nlan_exempt = true\n"},
		{"in place, with its comment", "# mine\n[jobs] # a\n  background  =  2   # two\nforeground = 3\n", "jobs.background=5", "# mine\n[jobs] # a\n  background  =  5   # two\nforeground = 3\n"},
		{"beside its neighbours", "[jobs]\n  background = 2 # two\n\n[transfer]\nstall_timeout = \"5s\"\n", "jobs.foreground=8", "[jobs]\n  background = 2 # two\n  foreground = 8\n\n[transfer]\nstall_timeout = \"5s\"\n"},
		{"below an empty header", "[jobs] # jobs\n\n[transfer]\n", "jobs.foreground=8", "[jobs] # jobs\nforeground = 8\n\n[transfer]\n"},
		{"the last line has no end", "[jobs]\nforeground = 8", "jobs.background=2", "[jobs]\nforeground = 8\nbackground = 2"},
		{"a new table", "[jobs]\nforeground = 8\n\n\n", "bandwidth.work.low=block", "[jobs]\nforeground = 8\n\n[bandwidth.work]\nlow = \"block\"\n"},
		{"a table below one that is there", "[bandwidth]\nforeground = \"unlimited\"\n[jobs]\n", "bandwidth.work.low=block", "[bandwidth]\nforeground = \"unlimited\"\n[jobs]\n\n[bandwidth.work]\nlow = \"block\"\n"},
		{"a table above one that is there", "[bandwidth.work]\nlow = 0\n", "bandwidth.background=block", "[bandwidth.work]\nlow = 0\n\n[bandwidth]\nbackground = \"block\"\n"},
		{"dotted keys", "jobs.foreground = 8\n[transfer]\n", "jobs.background=2", "jobs.foreground = 8\njobs.background = 2\n[transfer]\n"},
		{"dotted keys in a table", "[bandwidth]\nwork.low = 0 # x\n", "bandwidth.work.high=block", "[bandwidth]\nwork.low = 0 # x\nwork.high = \"block\"\n"},
		{"an inline table", "bandwidth = { background = \"1 Mbit/s\" } # x\n", "bandwidth.work.high=block", "bandwidth = { background = \"1 Mbit/s\", work.high = \"block\" } # x\n"},
		{"in an inline table", "bandwidth = { work = { low = 0, high = 0 } }\n", "bandwidth.work.low=8 kbit/s", "bandwidth = { work = { low = \"8 kbit/s\", high = 0 } }\n"},
		{"beside an inline table", "[bandwidth]\nwork = { low = 0 }\n", "bandwidth.work.high=block;bandwidth.background=block", "[bandwidth]\nbackground = \"block\"\nwork = { low = 0, high = \"block\" }\n"},
		{"an empty inline table", "bandwidth = {} # x\n", "bandwidth.work.low=block", "bandwidth = { work.low = \"block\" } # x\n"},
		{"an empty inline table in another", "bandwidth = { lan_exempt = true, work = { } }\n", "bandwidth.work.low=block", "bandwidth = { lan_exempt = true, work = { low = \"block\"  } }\n"},
		{"line ends of Windows", "[jobs]\r\nforeground = 8\r\n", "jobs.background=2;transfer.stall_timeout=5s", "[jobs]\r\nforeground = 8\r\nbackground = 2\r\n\r\n[transfer]\r\nstall_timeout = \"5s\"\r\n"},
		{"quoted keys", "[\"jobs\"]\n'foreground' = 8\n", "jobs.foreground=9;jobs.background=2", "[\"jobs\"]\n'foreground' = 9\nbackground = 2\n"},
		{"a text of several lines", "bandwidth.background = '''\n1 Mbit/s''' # x\n", "bandwidth.background=block", "bandwidth.background = \"block\" # x\n"},
		{"remove", "[jobs]\n# two\nbackground = 2 # 2\nforeground = 3\n", "jobs.background=", "[jobs]\n# two\nforeground = 3\n"},
		{"remove what is not there", "[jobs]\nforeground = 3\n", "jobs.background=", "[jobs]\nforeground = 3\n"},
		{"remove the last line", "[jobs]\nbackground = 2", "jobs.background=", "[jobs]\n"},
		{"remove the first of an inline table", "jobs = { background = 2, foreground = 3 }\n", "jobs.background=", "jobs = { foreground = 3 }\n"},
		{"remove the last of an inline table", "jobs = { background = 2, foreground = 3 }\n", "jobs.foreground=", "jobs = { background = 2 }\n"},
		{"remove the only one of an inline table", "jobs = { background = 2 }\n", "jobs.background=", "jobs = {  }\n"},
		{"remove beside a table", "bandwidth = { background = 0, work = { low = 0 } }\n", "bandwidth.background=", "bandwidth = { work = { low = 0 } }\n"},
		{"remove what does not exist", "[jobs]\nforegruond = 3\n", "jobs.foregruond=", "[jobs]\n"},
		{"mend", "[jobs]\nforeground = 3000\n", "jobs.foreground=3", "[jobs]\nforeground = 3\n"},
		{"mend a list", "[jobs]\nforeground = [\n 3,\n] # x\n", "jobs.foreground=3", "[jobs]\nforeground = 3 # x\n"},
		{"BITS's names", "[bits]\nMaxJobsPerUser = 60\n", "bits.maxjobsperuser=61;bits.MaxFilesPerJob=200;bits.Throttling.WorkSchedule.LowBandwidthType=Mbps",
			"[bits]\nMaxJobsPerUser = 61\nMaxFilesPerJob = 200\n\n[bits.Throttling.WorkSchedule]\nLowBandwidthType = \"Mbps\"\n"},
		{"several that hold only together", "", "bandwidth.maintenance.low=block;bandwidth.maintenance.hours=01:00-02:00", "[bandwidth.maintenance]\nlow = \"block\"\nhours = \"01:00-02:00\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Edit("f", []byte(c.text), changes(c.changes))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func changes(s string) []Change {
	var out []Change
	for part := range strings.SplitSeq(s, ";") {
		key, value, _ := strings.Cut(part, "=")
		out = append(out, Change{key, value})
	}
	return out
}

func TestEditRefuses(t *testing.T) {
	for _, c := range []struct{ text, change, want string }{
		{"", "jobs.backgrount=2", "jobs.backgrount: there is no such key; did you mean jobs.background?"},
		{"", "jobs.backgrount=", "jobs.backgrount: there is no such key; did you mean jobs.background?"},
		{"", "background=2", "background: there is no such key; did you mean jobs.background?"},
		{"", "jobs.background=two", "jobs.background: want a number from 1 to 100, without quotes"},
		{"", "jobs.background=2 # x", "jobs.background: want a number from 1 to 100, without quotes"},
		{"", "jobs.background=0", "jobs.background: 0 is out of range; want 1 to 100"},
		{"", "bandwidth.background=10", "bandwidth.background: \"10\" has no unit (want \"10 kbit/s\" or \"10 Mbit/s\", say)"},
		{"", "bandwidth.background=x\"\nfoo = \"", "bandwidth.background: \"x\\\"\\nfoo = \\\"\" is not a rate"},
		{"", "bits.MaxJobsPerUser=no", "f:2: bits.MaxJobsPerUser: want a number from 1 to 10000000, without quotes"},
		{"", "bits.MaxJobsPerUser=5\nx = 1", "f:2: bits.MaxJobsPerUser: want a number"},
		{"", "bandwidth.maintenance.low=block", "f:2: bandwidth.maintenance.low: needs bandwidth.maintenance.hours"},
		{"[jobs\n", "jobs.background=2", "f:1: "},
		{"[jobs]\nx = 1\n", "jobs.background=2", "f:2: jobs.x: there is no such key"},
	} {
		got, err := Edit("f", []byte(c.text), changes(c.change))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q in %q: %q, %v", c.change, c.text, got, err)
		}
	}
}

// A change changes what it names and nothing else.
func FuzzEdit(f *testing.F) {
	for _, text := range []string{
		"", "[jobs]\nbackground = 2\n", "bandwidth = { work = { days = 'Sat-Mon' } }", "bandwidth.work.low = 0 # x\n[bandwidth.nonwork]\nlow=0",
		"[bandwidth]\nwork.low = 0\nnonwork = { low = 0 }\r\n", "[bandwidth]\n[bandwidth.work]", "# x", "bandwidth = {}", "[bits]\nMaxJobsPerUser = 1",
	} {
		for i := range keys {
			f.Add([]byte(text), byte(i), "1 Mbit/s")
			f.Add([]byte(text), byte(i), "3")
			f.Add([]byte(text), byte(i), "")
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, n byte, value string) {
		k := &keys[int(n)%len(keys)]
		before, err := Parse("", text)
		if err != nil {
			return
		}
		edited, err := Edit("", text, []Change{{k.name, value}})
		var problems Problems
		if errors.As(err, &problems) && !strings.Contains(problems[0].Message, "needs") {
			t.Fatalf("%v: %s = %q in %q", err, k.name, value, text)
		}
		if err != nil {
			return
		}
		after, err := Parse("", edited)
		if err != nil {
			t.Fatalf("%v in %q", err, edited)
		}
		if set := after.Source(k.name).Line > 0 && after.Source(k.name).BITS == ""; set != (value != "") {
			t.Fatalf("%s is set: %v, by %q", k.name, set, value)
		}
		for i := range keys {
			if o := &keys[i]; o != k && o.get(&before) != o.get(&after) {
				t.Fatalf("%s was %v and is %v:\n%s\n->\n%s", o.name, o.get(&before), o.get(&after), text, edited)
			}
		}
	})
}
