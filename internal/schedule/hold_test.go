package schedule

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/policy"
)

// TestHeld is the table of what holds which jobs back.
func TestHeld(t *testing.T) {
	const (
		everywhere = ""
		def        = bits.TransferDefault
		metered    = bits.CostCappedUsageUnknown
	)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) time.Time {
		when, err := time.ParseInLocation("2006-01-02 15:04", text, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return when.UTC()
	}
	const work = `
		bandwidth.timezone = "Europe/Berlin"
		bandwidth.work = { days = "Mon-Fri", hours = "08:00-17:00", low = "block" }
		bandwidth.maintenance = { days = "Sun", hours = "22:00-02:00", normal = "0" }`
	for _, c := range []struct {
		name     string
		policy   string
		prio     bits.Priority
		transfer bits.Cost
		now      string // a moment in Berlin; a Tuesday noon in winter if empty
		state    conditions.State
		code     bits.Code // OK: nothing holds it back
		say      string
	}{
		{"nothing known", everywhere, bits.Low, def, "", conditions.State{}, bits.OK, ""},
		{"unmetered", everywhere, bits.Low, def, "", conditions.State{Cost: bits.CostUnrestricted}, bits.OK, ""},
		{"metered, background", everywhere, bits.Normal, def, "", conditions.State{Cost: metered, Interface: "wlan0", CostSource: "NetworkManager"}, bits.BlockedByCost,
			"the network wlan0 is metered; the job waits for one that its transfer policy allows (cost.normal: unmetered)"},
		{"metered, foreground", everywhere, bits.Foreground, def, "", conditions.State{Cost: metered}, bits.OK, ""},
		{"metered, and the job does not mind", everywhere, bits.Low, bits.TransferAlways, "", conditions.State{Cost: metered}, bits.OK, ""},
		{"metered, and the job does, in the foreground", everywhere, bits.Foreground, bits.TransferUnrestricted, "", conditions.State{Cost: metered}, bits.BlockedByCost,
			"the network is metered; the job waits for one that its transfer policy allows (its own: unrestricted)"},
		{"roaming", everywhere, bits.High, bits.TransferNotRoaming, "", conditions.State{Cost: metered | bits.CostRoaming, Interface: "wwan0"}, bits.BlockedByCost,
			"the network wwan0 is roaming; the job waits"},
		{"roaming and metered", everywhere, bits.High, def, "", conditions.State{Cost: metered | bits.CostRoaming}, bits.BlockedByCost, "is metered and roaming;"},
		{"standard takes a plan of unknown use", everywhere, bits.High, bits.TransferStandard, "", conditions.State{Cost: metered}, bits.OK, ""},
		{"policy calls it unmetered", `cost.network = "unmetered"`, bits.Low, def, "", conditions.State{Cost: metered | bits.CostRoaming}, bits.OK, ""},
		{"policy calls it metered", `cost.network = "metered"`, bits.Low, def, "", conditions.State{Cost: bits.CostUnrestricted, Interface: "eth0"}, bits.BlockedByCost,
			"according to cost.network the network is metered; the job waits"},
		{"policy of the foreground", `cost.foreground = "standard"`, bits.Foreground, def, "", conditions.State{Cost: bits.CostNearCap}, bits.BlockedByCost, "near its cap; the job waits for one that its transfer policy allows (cost.foreground: standard)"},

		{"power saver", everywhere, bits.High, def, "", conditions.State{PowerSaver: true}, bits.BlockedByBatterySaver, "power-saver mode; background jobs wait"},
		{"power saver, foreground", everywhere, bits.Foreground, def, "", conditions.State{PowerSaver: true}, bits.OK, ""},
		{"power saver does not matter", `power.power_saver = "run"`, bits.Low, def, "", conditions.State{PowerSaver: true}, bits.OK, ""},
		{"battery does not matter", everywhere, bits.Low, def, "", conditions.State{OnBattery: true}, bits.OK, ""},
		{"battery", `power.on_battery = "background-waits"`, bits.Low, def, "", conditions.State{OnBattery: true}, bits.BlockedByBattery, "runs on battery; background jobs wait for mains power"},
		{"battery, foreground", `power.on_battery = "background-waits"`, bits.Foreground, def, "", conditions.State{OnBattery: true}, bits.OK, ""},
		{"battery and saver", `power.on_battery = "background-waits"`, bits.Low, def, "", conditions.State{OnBattery: true, PowerSaver: true}, bits.BlockedByBatterySaver, "power-saver"},
		{"cost before power", everywhere, bits.Low, def, "", conditions.State{Cost: metered, PowerSaver: true}, bits.BlockedByCost, "metered"},

		{"work", work, bits.Low, def, "", conditions.State{}, bits.BlockedByPolicy, "the bandwidth policy (bandwidth.work.low) lets LOW jobs move nothing until Tue 17:00"},
		{"work, another level", work, bits.Normal, def, "", conditions.State{}, bits.OK, ""},
		{"work, the job does not mind cost", work, bits.Low, bits.TransferAlways, "", conditions.State{}, bits.BlockedByPolicy, "until Tue 17:00"},
		{"before work", work, bits.Low, def, "2026-01-13 07:59", conditions.State{}, bits.OK, ""},
		{"work begins", work, bits.Low, def, "2026-01-13 08:00", conditions.State{}, bits.BlockedByPolicy, "until Tue 17:00"},
		{"work ends", work, bits.Low, def, "2026-01-13 17:00", conditions.State{}, bits.OK, ""},
		{"weekend", work, bits.Low, def, "2026-01-17 12:00", conditions.State{}, bits.OK, ""},
		{"work in summer time", work, bits.Low, def, "2026-07-14 08:00", conditions.State{}, bits.BlockedByPolicy, "until Tue 17:00"},
		{"maintenance before midnight", work, bits.Normal, def, "2026-01-18 23:00", conditions.State{}, bits.BlockedByPolicy, "(bandwidth.maintenance.normal) lets NORMAL jobs move nothing until Mon 02:00"},
		{"maintenance past midnight", work, bits.Normal, def, "2026-01-19 01:59", conditions.State{}, bits.BlockedByPolicy, "until Mon 02:00"},
		{"maintenance over", work, bits.Normal, def, "2026-01-19 02:00", conditions.State{}, bits.OK, ""},
		{"another night", work, bits.Normal, def, "2026-01-20 01:00", conditions.State{}, bits.OK, ""},
		{"bandwidth before cost", work, bits.Low, def, "", conditions.State{Cost: metered}, bits.BlockedByPolicy, "bandwidth"},
		{"blocked for good", `bandwidth.background = "block"`, bits.High, def, "", conditions.State{}, bits.BlockedByPolicy, "(bandwidth.background) lets HIGH jobs move nothing"},
		{"blocked in the foreground", `bandwidth.foreground = "block"`, bits.Foreground, def, "", conditions.State{}, bits.BlockedByPolicy, "(bandwidth.foreground) lets FOREGROUND jobs move nothing"},
		{"slow is not blocked", `bandwidth.background = "1 bit/s"`, bits.High, def, "", conditions.State{}, bits.OK, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := load(t, c.policy)
			now := at("2026-01-13 12:00")
			if c.now != "" {
				now = at(c.now)
			}
			h := Held(c.prio, c.transfer, c.state, &p, now)
			switch {
			case h == nil && c.code != bits.OK:
				t.Errorf("nothing holds it back, want %s", c.code)
			case h == nil:
			case h.Code != c.code || !strings.Contains(h.Sentence, c.say) || strings.HasSuffix(h.Sentence, "."):
				t.Errorf("%s: %s\nwant %s: %s", h.Code, h.Sentence, c.code, c.say)
			}
		})
	}
}

func load(t *testing.T, text string) policy.Policy {
	t.Helper()
	name := t.TempDir() + "/ebb.toml"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
