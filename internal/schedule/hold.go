package schedule

import (
	"fmt"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/policy"
)

// A Hold is why jobs wait although they could run. It goes when what it is about goes; no
// number of attempts helps.
type Hold struct {
	Code     bits.Code
	Sentence string // for people, without a full stop
}

// Held returns what holds back jobs of a priority and a transfer policy (TransferDefault for
// that of the priority), nil if nothing does. It depends on nothing else, so that one answer
// does for all jobs that have both in common. Of several holds it tells the one that is first
// in client.md 3.4: bandwidth, cost, power saver, battery.
func Held(prio bits.Priority, transfer bits.Cost, c conditions.State, p *policy.Policy, now time.Time) *Hold {
	if l := p.Limit(prio, now); l.Rate == 0 {
		s := fmt.Sprintf("the bandwidth policy (%s) lets %s jobs move nothing", l.Key, prio)
		if !l.Until.IsZero() {
			s += " until " + clock(l.Until.In(p.Bandwidth.Zone.Location), now)
		}
		return &Hold{bits.BlockedByPolicy, s}
	}
	whose := "its own"
	if transfer == bits.TransferDefault {
		transfer, whose = p.Cost.Transfer[prio], "cost."+strings.ToLower(prio.String())
	}
	cost, source := Cost(c, p)
	if refused := transfer.Refuses(cost); refused != 0 {
		return &Hold{bits.BlockedByCost, fmt.Sprintf("%s is %s; the job waits for one that its transfer policy allows (%s: %s)", network(c, source), words(refused), whose, transfer)}
	}
	if prio == bits.Foreground {
		return nil
	}
	if c.PowerSaver && p.Power.PowerSaver == policy.BackgroundWaits {
		return &Hold{bits.BlockedByBatterySaver, "the machine is in power-saver mode; background jobs wait for its end (power.power_saver)"}
	}
	if c.OnBattery && p.Power.OnBattery == policy.BackgroundWaits {
		return &Hold{bits.BlockedByBattery, "the machine runs on battery; background jobs wait for mains power (power.on_battery)"}
	}
	return nil
}

// costKey is the key of the policy that says what the network costs.
const costKey = "cost.network"

// Cost returns the cost states of the network in use, flat rate if nobody knows, and who says
// so: policy where it does, else what the machine knows.
func Cost(c conditions.State, p *policy.Policy) (state bits.Cost, source string) {
	if state, ok := p.Cost.Network.State(); ok {
		return state, costKey
	}
	if c.Cost == 0 {
		return bits.CostUnrestricted, ""
	}
	return c.Cost, c.CostSource
}

// network names the network in use.
func network(c conditions.State, source string) string {
	switch {
	case source == costKey:
		return "according to " + costKey + " the network"
	case c.Interface == "":
		return "the network"
	}
	return "the network " + c.Interface
}

// costWords are the cost states for people, after "the network is".
var costWords = []struct {
	state bits.Cost
	words string
}{
	{bits.CostUnrestricted, "not metered"},
	{bits.CostCappedUsageUnknown, "metered"},
	{bits.CostBelowCap, "metered, and below its cap"},
	{bits.CostNearCap, "near its cap"},
	{bits.CostOvercapCharged, "over its cap, at a charge"},
	{bits.CostOvercapThrottled, "over its cap, and slowed"},
	{bits.CostUsageBased, "paid by the byte"},
	{bits.CostRoaming, "roaming"},
}

// words writes cost states for people.
func words(states bits.Cost) string {
	var all []string
	for _, w := range costWords {
		if states&w.state != 0 {
			all = append(all, w.words)
		}
	}
	return strings.Join(all, " and ")
}

// clock writes a moment to come so that it can be read for days: with its day, or beyond a week
// with its date.
func clock(t, now time.Time) string {
	if t.Sub(now) < 6*24*time.Hour {
		return t.Format("Mon 15:04")
	}
	return t.Format("Mon 2006-01-02 15:04")
}
