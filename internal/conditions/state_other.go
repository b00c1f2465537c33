//go:build !linux

package conditions

import "context"

// Watch calls changed once, with nothing known, and waits for ctx: on this system ebb knows no
// source that tells what the network costs or whether the machine saves power, so that nothing
// is held back for them. Policy can say what the network costs.
func Watch(ctx context.Context, changed func(State)) {
	changed(State{})
	<-ctx.Done()
}

// BatteryPercent tells how full the battery is; not ok, because ebb does not know on this system.
func BatteryPercent() (percent int, ok bool) { return 0, false }
