// Command peerclient fetches the segments that a file of content information describes from one peer, and
// keeps nothing:
//
//	peerclient FILE ADDRESS NUMBER SEGMENTS
//
// A number of clients fetch all of them at the same time, each so many segments at once. It prints the bytes that came,
// and how many ns that took.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrr"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peerclient:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 5 {
		return fmt.Errorf("usage: peerclient FILE ADDRESS NUMBER SEGMENTS")
	}
	b, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	info, err := peerdist.Decode(b)
	if err != nil {
		return err
	}
	peer, err := netip.ParseAddrPort(os.Args[2])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(os.Args[3])
	if err != nil {
		return err
	}
	atOnce, err := strconv.Atoi(os.Args[4])
	if err != nil {
		return err
	}
	var came atomic.Int64
	var wait sync.WaitGroup
	began := time.Now()
	for range n {
		wait.Go(func() { fetch(info, peer, atOnce, &came) })
	}
	wait.Wait()
	fmt.Println(came.Load(), time.Since(began).Nanoseconds())
	return nil
}

// fetch is one client.
func fetch(info *peerdist.Info, peer netip.AddrPort, atOnce int, came *atomic.Int64) {
	c := pccrr.NewClient(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	defer c.Close()
	var next atomic.Int64
	var wait sync.WaitGroup
	for range atOnce {
		wait.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(info.Segments); i = next.Add(1) - 1 {
				segment(c, &info.Segments[i], peer, came)
			}
		})
	}
	wait.Wait()
}

func segment(c *pccrr.Client, s *peerdist.Segment, peer netip.AddrPort, came *atomic.Int64) {
	blocks := make([]int, s.Blocks())
	for j := range blocks {
		blocks[j] = j
	}
	_, _ = c.Fetch(context.Background(), s, blocks, []netip.AddrPort{peer}, func(_ int, data []byte) error { // it only fails with its context
		came.Add(int64(len(data)))
		return nil
	})
}
