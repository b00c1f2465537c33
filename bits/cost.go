package bits

import (
	"fmt"
	"strconv"
	"strings"
)

// Cost is a set of cost states of networks (BITS_COST_STATE). The state of a network is one of
// the plan's states, with Roaming beside it while roaming; a transfer policy is the set of states
// in which a job may run.
type Cost uint32

// The states of a network's plan, Roaming, and a modifier of policies.
const (
	CostUnrestricted       Cost = 0x00000001 // flat rate
	CostCappedUsageUnknown Cost = 0x00000002 // metered; how much of the plan is used is not known
	CostBelowCap           Cost = 0x00000004 // less than 80 % of the plan is used
	CostNearCap            Cost = 0x00000008 // 80 to 100 % of the plan is used
	CostOvercapCharged     Cost = 0x00000010 // beyond the plan, at a charge
	CostOvercapThrottled   Cost = 0x00000020 // beyond the plan, slow but without a charge
	CostUsageBased         Cost = 0x00000040 // every byte costs
	CostRoaming            Cost = 0x00000080 // in a foreign network
	CostIgnoreCongestion   Cost = 0x80000000 // policies only: also when the network reports congestion
)

// The transfer policies. TransferDefault stands for that of the job's priority.
const (
	TransferDefault      Cost = 0
	TransferAlways       Cost = 0x800000FF // on any network
	TransferNotRoaming   Cost = 0x8000007F // unless roaming
	TransferNoSurcharge  Cost = 0x8000006F // nor beyond the plan at a charge
	TransferStandard     Cost = 0x80000067 // nor near the plan's end
	TransferUnrestricted Cost = 0x80000021 // where bytes are free: flat rate, or slowed beyond the plan
	// TransferUnmetered is Ebb's own: TransferUnrestricted, and plans known to be far from their
	// end. The priorities below FOREGROUND have it unless policy says otherwise.
	TransferUnmetered Cost = 0x80000025
)

// costNames are the names of single states and of policies. Policies have no name of a state:
// what BITS calls unrestricted in both is "flat-rate" as a state.
var costNames = []struct {
	cost Cost
	name string
}{
	{CostUnrestricted, "flat-rate"},
	{CostCappedUsageUnknown, "capped-usage-unknown"},
	{CostBelowCap, "below-cap"},
	{CostNearCap, "near-cap"},
	{CostOvercapCharged, "overcap-charged"},
	{CostOvercapThrottled, "overcap-throttled"},
	{CostUsageBased, "usage-based"},
	{CostRoaming, "roaming"},
	{CostIgnoreCongestion, "ignore-congestion"},

	{TransferDefault, "default"},
	{TransferAlways, "always"},
	{TransferNotRoaming, "not-roaming"},
	{TransferNoSurcharge, "no-surcharge"},
	{TransferStandard, "standard"},
	{TransferUnmetered, "unmetered"},
	{TransferUnrestricted, "unrestricted"},
}

const costStates = 9 // of costNames are single states

// costDefined are all bits with a meaning.
const costDefined = TransferAlways | CostIgnoreCongestion

// Refuses returns the states, of those that a network is in, that a transfer policy does not
// allow. A network of whose plan nothing is known counts as unrestricted.
func (c Cost) Refuses(state Cost) Cost {
	state &^= CostIgnoreCongestion
	if state&^CostRoaming == 0 {
		state |= CostUnrestricted
	}
	return state &^ c
}

// Allows reports whether a transfer policy lets a job run on a network in a state.
func (c Cost) Allows(state Cost) bool { return c.Refuses(state) == 0 }

// ParseCost reads a policy's name, the names of states joined by '|', or a number such as
// 0x80000021.
func ParseCost(s string) (Cost, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	if n, err := strconv.ParseUint(text, 0, 32); err == nil {
		c := Cost(n)
		if c&^costDefined != 0 {
			return 0, fmt.Errorf("the transfer policy %s has bits without a meaning: 0x%08X", s, uint32(c&^costDefined))
		}
		return c, nil
	}
	for _, n := range costNames[costStates:] {
		if n.name == text {
			return n.cost, nil
		}
	}
	var c Cost
	for part := range strings.SplitSeq(text, "|") {
		found := false
		for _, n := range costNames[:costStates] {
			if n.name == strings.TrimSpace(part) {
				c |= n.cost
				found = true
			}
		}
		if !found {
			return 0, fmt.Errorf("unknown transfer policy %q (want %s, or a mask of cost states such as %s)", s, strings.Join(TransferPolicies(), ", "), TransferAlways.Hex())
		}
	}
	return c, nil
}

// TransferPolicies returns the names of the policies.
func TransferPolicies() []string {
	var names []string
	for _, n := range costNames[costStates:] {
		names = append(names, n.name)
	}
	return names
}

// Hex returns the value as BITS tools print it: 0x80000021.
func (c Cost) Hex() string { return fmt.Sprintf("0x%08X", uint32(c)) }

// String returns what ParseCost reads, by name wherever there is one.
func (c Cost) String() string {
	if c&^costDefined != 0 {
		return c.Hex()
	}
	for _, n := range costNames {
		if n.cost == c {
			return n.name
		}
	}
	var parts []string
	for _, n := range costNames[:costStates] {
		if c&n.cost != 0 {
			parts = append(parts, n.name)
		}
	}
	return strings.Join(parts, "|")
}

// MarshalText implements encoding.TextMarshaler.
func (c Cost) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; case does not matter.
func (c *Cost) UnmarshalText(b []byte) error {
	v, err := ParseCost(string(b))
	if err == nil {
		*c = v
	}
	return err
}
