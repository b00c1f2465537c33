//go:build !linux

package conditions

import "context"

// NetworkEvents says whether WatchNetwork reports changes on this system.
const NetworkEvents = false

// WatchNetwork waits for ctx: this system has no source of network changes that ebb knows, so
// that jobs without a network are retried by their timers.
func WatchNetwork(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}
