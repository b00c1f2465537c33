package bits

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestTransferPolicies holds which state each policy allows, written out: client.md 2.11.
func TestTransferPolicies(t *testing.T) {
	states := []Cost{0, CostUnrestricted, CostCappedUsageUnknown, CostBelowCap, CostNearCap, CostOvercapCharged, CostOvercapThrottled, CostUsageBased}
	for _, c := range []struct {
		policy  Cost
		allowed string // y or n for each of states
		roaming string // the same while roaming
	}{
		{TransferAlways, "yyyyyyyy", "yyyyyyyy"},
		{TransferNotRoaming, "yyyyyyyy", "nnnnnnnn"},
		{TransferNoSurcharge, "yyyyynyy", "nnnnnnnn"},
		{TransferStandard, "yyyynnyy", "nnnnnnnn"},
		{TransferUnmetered, "yynynnyn", "nnnnnnnn"},
		{TransferUnrestricted, "yynnnnyn", "nnnnnnnn"},
		{CostCappedUsageUnknown | CostRoaming, "nnynnnnn", "nnynnnnn"},
	} {
		for i, s := range states {
			if got := c.policy.Allows(s); got != (c.allowed[i] == 'y') {
				t.Errorf("%s allows %s: %v", c.policy, s, got)
			}
			if got := c.policy.Allows(s | CostRoaming); got != (c.roaming[i] == 'y') {
				t.Errorf("%s allows %s: %v", c.policy, s|CostRoaming, got)
			}
		}
	}
}

func TestRefusesNamesWhatIsInTheWay(t *testing.T) {
	for _, c := range []struct{ policy, state, want Cost }{
		{TransferNotRoaming, CostCappedUsageUnknown | CostRoaming, CostRoaming},
		{TransferUnmetered, CostCappedUsageUnknown | CostRoaming, CostCappedUsageUnknown | CostRoaming},
		{CostCappedUsageUnknown, 0, CostUnrestricted},
		{CostCappedUsageUnknown | CostRoaming, CostRoaming, CostUnrestricted},
		{TransferAlways, CostNearCap | CostRoaming, 0},
	} {
		if got := c.policy.Refuses(c.state); got != c.want {
			t.Errorf("%s refuses %s of %s, want %s", c.policy, got, c.state, c.want)
		}
	}
}

func TestCostTexts(t *testing.T) {
	for _, c := range []struct {
		text string
		want Cost
		back string
	}{
		{"always", 0x800000FF, "always"},
		{"Not-Roaming", 0x8000007F, "not-roaming"},
		{"no-surcharge", 0x8000006F, "no-surcharge"},
		{"standard", 0x80000067, "standard"},
		{"unrestricted", 0x80000021, "unrestricted"},
		{"unmetered", 0x80000025, "unmetered"},
		{"default", 0, "default"},
		{"0x80000021", 0x80000021, "unrestricted"},
		{"2147483681", 0x80000021, "unrestricted"}, // as TOML has it
		{"flat-rate", 1, "flat-rate"},
		{"capped-usage-unknown | roaming", 0x82, "capped-usage-unknown|roaming"},
		{"0x80000041", 0x80000041, "flat-rate|usage-based|ignore-congestion"},
	} {
		got, err := ParseCost(c.text)
		if err != nil || got != c.want || got.String() != c.back {
			t.Errorf("ParseCost(%q) is %#x (%s), %v; want %#x (%s)", c.text, uint32(got), got, err, uint32(c.want), c.back)
		}
	}
	for _, text := range []string{"", "cheap", "always|roaming", "0x40000000", "0x100", "0x1800000FF", "-1", "roaming|"} {
		if c, err := ParseCost(text); err == nil {
			t.Errorf("ParseCost(%q) is %s", text, c)
		}
	}
	if _, err := ParseCost("cheap"); !strings.Contains(err.Error(), "not-roaming") {
		t.Errorf("%v does not name the choices", err)
	}
	b, err := json.Marshal(map[string]Cost{"p": TransferStandard})
	if err != nil || string(b) != `{"p":"standard"}` {
		t.Errorf("in JSON it is %s, %v", b, err)
	}
}

func FuzzParseCost(f *testing.F) {
	for _, s := range append(TransferPolicies(), "0x80000021", "flat-rate|roaming", "|") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCost(s)
		if err != nil {
			return
		}
		if back, err := ParseCost(c.String()); err != nil || back != c {
			t.Errorf("%q is %s, which is %s, %v", s, c, back, err)
		}
	})
}
