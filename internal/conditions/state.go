package conditions

import "github.com/ebbtransfer/ebb/bits"

// State is what the machine says about its network's cost, its power and its users. What nobody
// says is zero, which holds nothing back.
type State struct {
	Cost       bits.Cost // of the network in use, Roaming beside the plan's state; 0 while nobody knows
	Interface  string    // of that network; empty while unknown
	CostSource string    // who says so

	OnBattery   bool
	PowerSource string // who says so; empty while nobody does

	PowerSaver  bool
	SaverSource string

	Users Users // who is logged on
}
