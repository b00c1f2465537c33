//go:build unix

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
)

const office = `# ours
[bandwidth]
timezone = "Europe/Berlin"
foreground = "80 Mbit/s"
[bandwidth.work]
low = "block"   # no updates
[bits]
Throttling.MaintenanceSchedule.LowBandwidthLimit = 1
`

// withPolicy returns the socket of a service with a configuration file.
func withPolicy(t *testing.T, text string) (f *fake, socket, name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "policy.toml")
	write(t, name, text)
	f = newFake()
	var err error
	if f.policy, err = policy.Open(name, func(policy.Policy) {}); err != nil {
		t.Fatal(err)
	}
	return f, startFake(t, f), name
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPolicyShow(t *testing.T) {
	f, socket, name := withPolicy(t, office)
	o := ebb(t, socket, "policy", "show").want(t, 0, "# "+name+", read ", name+":8: bits.Throttling.MaintenanceSchedule.LowBandwidthLimit: has no effect")
	for _, want := range []string{"\n[bandwidth.work]\ndays = \"Mon-Fri\"                 # default\n", "\nlow = \"block\"                    # line 6\n", "\nbackground = 1                   # default\n"} {
		if !strings.Contains(o.out, want) {
			t.Errorf("%q is not in\n%s", want, o.out)
		}
	}
	var p bits.Policy
	if err := json.Unmarshal([]byte(ebb(t, socket, "policy", "show", "--json").out), &p); err != nil || p.File != name || len(p.Settings) < 20 {
		t.Errorf("%+v %v", p, err)
	}

	// A file with errors is told with what is in effect instead.
	write(t, name, "jobs.foreground = 0\njobs.background = 0\n")
	if err := f.policy.Reload(); err == nil {
		t.Fatal("there is no error")
	}
	ebb(t, socket, "policy", "show").want(t, 0, "low = \"block\"", "is not in effect").want(t, 0, "", name+":2: jobs.background: 0 is out of range")
}

func TestPolicyShowDefaults(t *testing.T) {
	none := filepath.Join(t.TempDir(), "s")
	if o := ebb(t, none, "policy", "show", "--defaults").want(t, 0, "# [bandwidth.work]\n", ""); o.out != policy.Template() {
		t.Errorf("got %s", o.out)
	}
	ebb(t, none, "policy", "show", "--defaults", "--json").want(t, 0, `"key": "jobs.max_per_user",`, "")
	ebb(t, none, "policy", "show").want(t, exitNoService, "", "no ebb service is running")
}

func TestPolicyCheck(t *testing.T) {
	none, dir := filepath.Join(t.TempDir(), "s"), t.TempDir()
	good, bad := filepath.Join(dir, "good.toml"), filepath.Join(dir, "bad.toml")
	write(t, good, office)
	write(t, bad, "[jobs]\nbackgrount = 1\nforeground = 0\n")
	o := ebb(t, none, "policy", "check", good).want(t, 0, good+" is fine; it sets 3 values\n", "note: "+good+":8: bits.Throttling.MaintenanceSchedule.LowBandwidthLimit: has no effect: Throttling.EnableMaintenanceLimits is not 1\n")
	if strings.Count(o.err, "\n") != 1 {
		t.Errorf("stderr: %s", o.err)
	}
	o = ebb(t, none, "policy", "check", bad)
	if want := bad + ":2: jobs.backgrount: there is no such key; did you mean jobs.background?\n" + bad + ":3: jobs.foreground: 0 is out of range; want 1 to 1000\n"; o.code != 1 || o.err != want || o.out != "" {
		t.Errorf("%+v, want %q", o, want)
	}
	var c checkedPolicy
	o = ebb(t, none, "policy", "check", "--json", bad)
	if err := json.Unmarshal([]byte(o.out), &c); err != nil || o.code != 1 || c.OK || len(c.Errors) != 2 || c.Errors[1].Line != 3 {
		t.Errorf("%+v %v", o, err)
	}
	o = ebb(t, none, "policy", "check", "--json", good)
	if err := json.Unmarshal([]byte(o.out), &c); err != nil || o.code != 0 || !c.OK || len(c.Notices) != 1 || len(c.Settings) != 3 {
		t.Errorf("%+v %v", o, err)
	}
	ebb(t, none, "policy", "check", dir+"/none.toml").want(t, 1, "", "none.toml does not exist")

	// Without a name it is the user's file.
	t.Setenv("XDG_CONFIG_HOME", dir)
	if err := os.Mkdir(filepath.Join(dir, "ebb"), 0o700); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "ebb", "policy.toml")
	write(t, own, "")
	ebb(t, none, "policy", "check").want(t, 0, own+" is fine; it sets 0 values", "")
}

func TestPolicySet(t *testing.T) {
	f, socket, name := withPolicy(t, office)
	ebb(t, socket, "policy", "set", "bandwidth.work.low=10 KB/s", "jobs.background=3", "bandwidth.foreground=").want(t, 0, "changed "+name+"; it is in effect\n", "bits.Throttling.MaintenanceSchedule")
	want := strings.Replace(office, "low = \"block\" ", "low = \"10 KB/s\" ", 1)
	want = strings.Replace(want, "foreground = \"80 Mbit/s\"\n", "", 1) + "\n[jobs]\nbackground = 3\n"
	if got := read(t, name); got != want {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
	if st, err := os.Stat(name); err != nil || st.Mode() != 0o640 {
		t.Error(st.Mode(), err)
	}
	if p := f.policy.Policy(); p.Jobs.Background != 3 || p.Bandwidth.Work.Low != 10_000 || p.Bandwidth.Foreground != policy.Rate(policy.Unlimited) {
		t.Errorf("in effect is %+v", p)
	}
	ebb(t, socket, "policy", "set", "jobs.background=3").want(t, 0, "there is nothing to change in "+name+"; it is in effect\n", "")
	ebb(t, socket, "policy", "set", "--json", "jobs.background=4").want(t, 0, `"in_effect": true`, "")

	// With an error nothing changes.
	before := read(t, name)
	for _, c := range []struct {
		code int
		arg  string
		err  string
	}{
		{2, "jobs.background", "is not of the form KEY=VALUE"},
		{2, "jobs.backgrount=2", "there is no such key; did you mean jobs.background?"},
		{2, "jobs.background=0", "jobs.background: 0 is out of range; want 1 to 100"},
		{2, "bandwidth.background=10 Mb/s", "is not a unit of rates"},
		{1, "bandwidth.maintenance.low=block", "needs bandwidth.maintenance.hours"},
	} {
		ebb(t, socket, "policy", "set", "jobs.foreground=5", c.arg).want(t, c.code, "", c.err)
		if got := read(t, name); got != before {
			t.Fatalf("after %s the file is\n%s", c.arg, got)
		}
	}
	ebb(t, socket, "policy", "set").want(t, 2, "", "requires at least 1 arg")
}

func TestPolicySetWithoutService(t *testing.T) {
	none, name := filepath.Join(t.TempDir(), "s"), filepath.Join(t.TempDir(), "new", "policy.toml")
	ebb(t, none, "policy", "set", "--file", name, "bandwidth.background=1 MB/s").want(t, 0, "changed "+name+"; no service runs that reads it\n", "")
	if got := read(t, name); got != "[bandwidth]\nbackground = \"1 MB/s\"\n" {
		t.Errorf("got %q", got)
	}
}

func TestPolicyEdit(t *testing.T) {
	f, socket, name := withPolicy(t, office)
	// The editor is a script that gets the copy as its argument, after arguments of its own.
	script := filepath.Join(t.TempDir(), "my editor")
	edit := func(body string) {
		t.Helper()
		write(t, script, "#!/bin/sh\nset -e\n[ \"$1\" = --wait ]\n"+body+"\n")
		if err := os.Chmod(script, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("VISUAL", "'"+script+"' --wait")
		t.Setenv("TMPDIR", t.TempDir())
	}
	drafts := func() []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "ebb-policy-*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}

	edit(`sed -i 's/80 Mbit/90 Mbit/' "$2"`)
	ebb(t, socket, "policy", "edit").want(t, 0, "changed "+name+"; it is in effect", "")
	if p := f.policy.Policy(); p.Bandwidth.Foreground.String() != "90 Mbit/s" || read(t, name) != strings.Replace(office, "80 M", "90 M", 1) || len(drafts()) > 0 {
		t.Errorf("the file is\n%s\nin effect is %v, drafts %v", read(t, name), p.Bandwidth.Foreground, drafts())
	}

	edit(`:`)
	ebb(t, socket, "policy", "edit").want(t, 0, "", "nothing was changed")
	if len(drafts()) > 0 {
		t.Errorf("drafts %v are left", drafts())
	}

	// With an error, or an editor that fails, the file stays and so does the draft.
	before := read(t, name)
	edit(`echo x = 1 > "$2"`)
	ebb(t, socket, "policy", "edit").want(t, 1, "", ":1: x: there is no such key").want(t, 1, "", "the draft is kept as")
	if read(t, name) != before || len(drafts()) != 1 || read(t, drafts()[0]) != "x = 1\n" {
		t.Errorf("the file is\n%s\ndrafts %v", read(t, name), drafts())
	}
	edit(`exit 3`)
	ebb(t, socket, "policy", "edit").want(t, 1, "", "exit status 3")

	// What somebody else changed meanwhile is not lost.
	edit(`echo '# theirs' > "` + name + `"; echo '# mine' > "$2"`)
	ebb(t, socket, "policy", "edit").want(t, 1, "", "was changed by somebody else meanwhile")
	if read(t, name) != "# theirs\n" || len(drafts()) != 1 {
		t.Errorf("the file is\n%s\ndrafts %v", read(t, name), drafts())
	}
}

// A file that is not there begins with all keys in comments.
func TestPolicyEditNewFile(t *testing.T) {
	none, name := filepath.Join(t.TempDir(), "s"), filepath.Join(t.TempDir(), "policy.toml")
	t.Setenv("VISUAL", "sed -i 's/^# lan_exempt = false.*/bandwidth.lan_exempt = true/'")
	t.Setenv("TMPDIR", t.TempDir())
	ebb(t, none, "policy", "edit", "--file", name).want(t, 0, "changed "+name, "")
	if p, err := policy.Load(name); err != nil || !p.Bandwidth.LANExempt || !strings.Contains(read(t, name), "# [jobs]") {
		t.Errorf("%v, the file is\n%s", err, read(t, name))
	}
}

func TestPolicyExplain(t *testing.T) {
	f, socket, name := withPolicy(t, office+"MaxTransferRateOnSchedule = 1000\nEnableBITSMaxBandwidth = 1\n")
	o := ebb(t, socket, "policy", "explain", "--at", "2026-03-27 12:00")
	want := `Fri 2026-03-27 12:00:00 Europe/Berlin

FOREGROUND  80 Mbit/s (9.5 MiB/s)
            bandwidth.foreground, from FILE:4

HIGH        1 Mbit/s (122.1 KiB/s) until 17:00
            bandwidth.interval.limit, 08:00-17:00, from FILE:9 bits.MaxTransferRateOnSchedule
            then unlimited until Sat 08:00
              bandwidth.interval.otherwise, outside of 08:00-17:00, from FILE:9 bits.MaxTransferRateOnSchedule

NORMAL      1 Mbit/s (122.1 KiB/s) until 17:00
            bandwidth.interval.limit, 08:00-17:00, from FILE:9 bits.MaxTransferRateOnSchedule
            then unlimited until Sat 08:00
              bandwidth.interval.otherwise, outside of 08:00-17:00, from FILE:9 bits.MaxTransferRateOnSchedule

LOW         blocked until 17:00
            bandwidth.work.low, Mon-Fri 08:00-17:00, from FILE:6
            waits: the network is metered (BG_E_BLOCKED_BY_COST_TRANSFER_POLICY)
            then unlimited until Sat 08:00
              bandwidth.interval.otherwise, outside of 08:00-17:00, from FILE:9 bits.MaxTransferRateOnSchedule
`
	if want = strings.ReplaceAll(want, "FILE", name); o.code != 0 || o.out != want {
		t.Errorf("got\n%s\nwant\n%s%s", o.out, want, o.err)
	}

	ebb(t, socket, "policy", "explain", "--at", "2026-03-28T17:00:00Z", "--priority", "low").want(t, 0, "Sat 2026-03-28 18:00:00 Europe/Berlin\n\nLOW         unlimited until Sun 08:00 CEST\n", "")
	var e explanation
	if err := json.Unmarshal([]byte(ebb(t, socket, "policy", "explain", "--json", "--priority", "LOW", "--at", "2026-03-27 12:00").out), &e); err != nil ||
		e.TimeZone != "Europe/Berlin" || e.File != name || len(e.Limits) != 1 || e.Limits[0].Priority != bits.Low || *e.Limits[0].Now.Rate != 0 || e.Limits[0].Next.Rate != nil {
		t.Errorf("%+v %v", e, err)
	}
	f.jobs = []*bits.Job{{ID: bits.NewID(), Name: "nightly", Priority: bits.Low}}
	ebb(t, socket, "policy", "explain", "nightly", "--at", "2026-03-27 12:00").want(t, 0, "12:00:00 Europe/Berlin\n\nLOW         blocked until 17:00\n", "")
	f.jobs[0].Properties.TransferPolicy = bits.TransferAlways
	if o := ebb(t, socket, "policy", "explain", "nightly"); o.code != 0 || strings.Contains(o.out, "waits") {
		t.Errorf("a job that runs on any network: %+v", o)
	}
	ebb(t, socket, "policy", "explain", "nightly", "--priority", "low").want(t, 2, "", "a job has its own priority")
	ebb(t, socket, "policy", "explain", "--priority", "lowest").want(t, 2, "", "priority")
	ebb(t, socket, "policy", "explain", "--at", "noon").want(t, 2, "", `"noon" is not a time`)
	ebb(t, socket, "policy", "explain").want(t, 0, "FOREGROUND  80 Mbit/s (9.5 MiB/s)\n", "")
}

func TestParseMoment(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 27, 12, 30, 0, 0, berlin) // a Friday
	for _, c := range []struct{ text, want string }{
		{"03:00", "2026-03-27 03:00 +0100"}, {"Fri 03:00", "2026-03-27 03:00 +0100"}, {"sunday 03:00", "2026-03-29 03:00 +0200"}, {"Thu 00:00", "2026-04-02 00:00 +0200"},
		{"2026-10-25 03:30", "2026-10-25 03:30 +0100"}, {"2026-10-25T02:30:00+01:00", "2026-10-25 02:30 +0100"}, {"2026-01-01", "2026-01-01 00:00 +0100"}, {"2026-03-27T13:00:01", "2026-03-27 13:00 +0100"},
	} {
		if got, err := parseMoment(c.text, now); err != nil || got.Format("2006-01-02 15:04 -0700") != c.want {
			t.Errorf("%q: %v %v, want %s", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"", "25:00", "Xyz 03:00", "Sun", "2026-13-01", "Sun 3 o'clock"} {
		if got, err := parseMoment(text, now); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func TestPolicyVerbs(t *testing.T) {
	none := filepath.Join(t.TempDir(), "s")
	ebb(t, none, "policy").want(t, 0, "Available Commands:", "")
	ebb(t, none, "policy", "shwo").want(t, 2, "", `there is no verb "shwo"`)
	ebb(t, none, "__complete", "policy", "set", "bandwidth.work.").want(t, 0, "bandwidth.work.high=\n", "")
}
