package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// smokeTries is how often the short run may be made: a machine that stalls looks like a link that
// somebody uses, and ebb gives way to it.
const smokeTries = 3

// smoke makes short runs until one is right, with bounds so wide that only a wrong direction
// misses them every time.
func smoke(ctx context.Context, o options) error {
	found, err := findLinks("short")
	if err != nil {
		return err
	}
	s := spec{link: found[0], load: bulk, from: neighbour, rival: ebbRival, server: cubic, proto: "http", connections: 1,
		phases: [3]time.Duration{8 * time.Second, 8 * time.Second, 8 * time.Second}}
	o.links, o.phases = found, s.phases
	l, err := newLab(ctx, o, false, o.fileSize())
	if err != nil {
		return err
	}
	defer l.close()
	for range smokeTries {
		if err = l.yieldsAndRecovers(ctx, s); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

func (l *lab) yieldsAndRecovers(ctx context.Context, s spec) error {
	t, err := l.run(ctx, s)
	if err != nil {
		return err
	}
	bg, fg := t.data().payload[background], t.data().payload[foreground]
	loadStart, loadEnd := t.up.first[foreground], t.data().last[foreground]
	var missed error
	for _, c := range []struct {
		what     string
		bytes    []int64
		from, to time.Duration
		least    float64 // share of the link
	}{
		{"of an idle link the background takes", bg, t.started + 3*time.Second, loadStart, 0.4},
		{"beside the background a neighbour gets", fg, loadStart + 3*time.Second, loadEnd, 0.6},
		{"when the neighbour has finished the background takes", bg, t.stopped - 3*time.Second, t.stopped, 0.4},
	} {
		share := rate(c.bytes, c.from, c.to) / float64(s.link.rate)
		fmt.Printf("%s %.0f%% (at least %.0f%%)\n", c.what, 100*share, 100*c.least)
		if share < c.least {
			missed = errors.Join(missed, fmt.Errorf("%s %.0f%%, want at least %.0f%%", c.what, 100*share, 100*c.least))
		}
	}
	return missed
}
