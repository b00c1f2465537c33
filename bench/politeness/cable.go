package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
)

// On a cable without an emulator the counters of this machine's interface tell the rate.
const (
	cableWarmUp  = 3 * time.Second
	cableMeasure = 5 * time.Second
	cableFile    = 24 << 30 // bytes that nobody fetches in that time
)

// measureCable measures who transfers over a fast path that nobody else uses, in comparison with
// ebb in the foreground.
func measureCable(ctx context.Context, o options) error {
	l, err := newLab(ctx, o, true, cableFile)
	if err != nil {
		return err
	}
	defer l.close()
	names := append([]string{ebbForeground}, o.rivals...)
	rates := map[string][]float64{}
	for range o.runs {
		for _, name := range names {
			s := spec{link: linkSpec{name: "veth"}, rival: name, server: o.server, proto: o.proto, connections: o.connections}
			bps, err := l.runCable(ctx, s)
			if err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
			fmt.Fprintf(os.Stderr, "veth, %s: %.0f Mbit/s\n", name, bps/mbit)
			rates[name] = append(rates[name], bps)
		}
	}
	var rows [][]string
	for _, name := range names {
		bps := percentile(rates[name], 0.5)
		rows = append(rows, []string{name, fmt.Sprintf("%.0f", bps/mbit), fmt.Sprintf("%.0f%%", 100*bps/percentile(rates[ebbForeground], 0.5))})
	}
	fmt.Print("\nA fast path that nobody else uses (veth), with headers:\n\n")
	printTable([]string{"", "Mbit/s", "of ebb in the foreground"}, rows)
	return nil
}

// runCable returns the rate of a rival in bit/s, headers included.
func (l *lab) runCable(ctx context.Context, s spec) (float64, error) {
	dir, err := os.MkdirTemp(l.dir, "run-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	start, err := l.prepare(ctx, s, dir)
	if err != nil {
		return 0, err
	}
	r, err := start()
	if err != nil {
		return 0, err
	}
	defer r.stop()
	if err := process.Sleep(ctx, cableWarmUp); err != nil {
		return 0, err
	}
	began := time.Now()
	before, err := machineReceived(ctx)
	if err != nil {
		return 0, err
	}
	if err := process.Sleep(ctx, cableMeasure); err != nil {
		return 0, err
	}
	after, err := machineReceived(ctx)
	took := time.Since(began)
	if err == nil && !r.Running() {
		err = fmt.Errorf("%s has ended early", s.rival)
	}
	return float64(after-before) * 8 / took.Seconds(), err
}

// machineReceived returns what the interface of this machine has received, in bytes.
func machineReceived(ctx context.Context) (int64, error) {
	out, err := command(ctx, machine, "cat", receivedFile).Output()
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", receivedFile, err)
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}
