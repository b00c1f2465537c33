package conditions

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// powerSupplies is where the kernel lists batteries and mains adapters.
const powerSupplies = "/sys/class/power_supply"

// supply is a battery or a mains adapter.
type supply struct {
	battery     bool // else an adapter
	online      bool // an adapter that has power
	discharging bool
	percent     int // of a battery; -1 while unknown
}

// readSupplies returns the machine's own supplies: not the batteries of its mouse and the like.
func readSupplies(root string) []supply {
	dirs, _ := filepath.Glob(filepath.Join(root, "*")) // fails for bad patterns only
	var all []supply
	for _, dir := range dirs {
		read := func(name string) string {
			b, _ := os.ReadFile(filepath.Join(dir, name))
			return strings.TrimSpace(string(b))
		}
		if read("scope") == "Device" {
			continue
		}
		s := supply{online: read("online") == "1", discharging: read("status") == "Discharging", percent: -1}
		switch read("type") {
		case "Battery":
			s.battery = true
			if n, err := strconv.Atoi(read("capacity")); err == nil && n >= 0 && n <= 100 {
				s.percent = n
			}
		case "Mains", "USB", "Wireless":
		default: // such as UPS, which is asked by who knows it
			continue
		}
		all = append(all, s)
	}
	return all
}

// onBattery reports whether the machine runs on battery: one is used and no adapter has power.
// It is not known of machines without a battery.
func onBattery(root string) (on, known bool) {
	for _, s := range readSupplies(root) {
		if !s.battery && s.online {
			return false, true
		}
		known = known || s.battery
		on = on || s.battery && s.discharging
	}
	return on, known
}

// BatteryPercent tells how full the machine's batteries are on average, 0 to 100.
func BatteryPercent() (percent int, ok bool) { return batteryPercent(powerSupplies) }

func batteryPercent(root string) (percent int, ok bool) {
	n := 0
	for _, s := range readSupplies(root) {
		if s.battery && s.percent >= 0 {
			percent += s.percent
			n++
		}
	}
	if n == 0 {
		return 0, false
	}
	return percent / n, true
}

// watchSupplies tells, until ctx ends, that a power supply may have changed. If the kernel does
// not let it listen it tells nothing.
func watchSupplies(ctx context.Context, changed chan<- struct{}) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return
	}
	events := os.NewFile(uintptr(fd), "kernel events")
	defer events.Close()
	defer context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Now()) })()
	if unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}) != nil { // group 1: the kernel's own events
		return
	}
	buf := make([]byte, 8<<10)
	for {
		n, err := events.Read(buf)
		if ctx.Err() != nil || err != nil && !errors.Is(err, unix.ENOBUFS) { // no buffers: events were lost
			return
		}
		if err == nil && !bytes.Contains(buf[:n], []byte("\x00SUBSYSTEM=power_supply\x00")) {
			continue
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}
