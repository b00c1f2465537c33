package conditions

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// settle is how long the network must be quiet before a change is reported: an interface that
// comes up brings a burst of addresses and routes.
const settle = 500 * time.Millisecond

// NetworkEvents says whether WatchNetwork reports changes on this system.
const NetworkEvents = true

// WatchNetwork calls changed a moment after links, addresses or routes changed, until ctx ends.
// It sleeps in between.
func WatchNetwork(ctx context.Context, changed func()) error {
	links := make(chan netlink.LinkUpdate, 16)
	addrs := make(chan netlink.AddrUpdate, 16)
	routes := make(chan netlink.RouteUpdate, 16)
	for _, subscribe := range []func() error{
		func() error { return netlink.LinkSubscribe(links, ctx.Done()) },
		func() error { return netlink.AddrSubscribe(addrs, ctx.Done()) },
		func() error { return netlink.RouteSubscribe(routes, ctx.Done()) },
	} {
		if err := subscribe(); err != nil {
			return fmt.Errorf("watch the network: %w", err)
		}
	}
	var quiet <-chan time.Time
	for {
		var ok bool
		select {
		case <-ctx.Done():
			return nil
		case <-quiet:
			quiet = nil
			changed()
			continue
		case _, ok = <-links:
		case _, ok = <-addrs:
		case _, ok = <-routes:
		}
		if !ok { // the subscription ended, with ctx or because the kernel dropped it
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch the network: the kernel ended the subscription")
		}
		quiet = time.After(settle)
	}
}
