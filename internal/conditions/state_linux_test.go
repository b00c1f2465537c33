package conditions

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/fakebus"
)

const patience = 30 * time.Second

// newBus starts a bus that is the system's for this test.
func newBus(t *testing.T) *fakebus.Bus {
	t.Helper()
	b := fakebus.New(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", b.Address)
	return b
}

// watched is a Watch under test.
type watched struct {
	t      *testing.T
	states chan State
}

// watch starts a Watch that the test ends.
func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{t, make(chan State, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Watch(ctx, func(s State) { w.states <- s })
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("Watch does not end")
		}
	})
	return w
}

// until waits for a state that is as cond wants it.
func (w *watched) until(what string, cond func(State) bool) State {
	w.t.Helper()
	var s State
	timeout := time.After(patience)
	for {
		select {
		case s = <-w.states:
			if cond(s) {
				return s
			}
		case <-timeout:
			w.t.Fatalf("the state never said %s; it is %+v", what, s)
		}
	}
}

func (w *watched) cost(want bits.Cost, iface, source string) {
	w.t.Helper()
	w.until(want.String(), func(s State) bool { return s.Cost == want && s.Interface == iface && s.CostSource == source })
}

func ok(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestMeteredNetworksAreSeenAtOnce(t *testing.T) {
	b := newBus(t)
	nm, err := b.NetworkManager()
	ok(t, err)
	w := watch(t)
	w.cost(bits.CostUnrestricted, "eth0", "NetworkManager")
	for _, c := range []struct {
		global, device uint32
		want           bits.Cost
	}{
		{fakebus.Yes, fakebus.Yes, bits.CostCappedUsageUnknown},
		{fakebus.GuessNo, fakebus.GuessNo, bits.CostUnrestricted},
		{fakebus.GuessYes, fakebus.GuessYes, bits.CostCappedUsageUnknown},
		{fakebus.Unknown, fakebus.No, bits.CostUnrestricted},
		{fakebus.No, fakebus.Yes, bits.CostCappedUsageUnknown}, // the cautious one of the two counts
		{fakebus.No, fakebus.Unknown, bits.CostUnrestricted},
		{fakebus.Yes, fakebus.No, bits.CostCappedUsageUnknown},
	} {
		ok(t, nm.Metered(c.global, c.device))
		w.cost(c.want, "eth0", "NetworkManager")
	}
	ok(t, nm.Metered(fakebus.Unknown, fakebus.Unknown))
	w.cost(0, "eth0", "")
	ok(t, nm.Device("wlan0", "/sys/devices/wlan0"), nm.Metered(fakebus.Yes, fakebus.Unknown))
	w.cost(bits.CostCappedUsageUnknown, "wlan0", "NetworkManager")
	ok(t, nm.Primary(false))
	w.cost(bits.CostCappedUsageUnknown, "", "NetworkManager")
}

func TestRoamingIsThatOfTheModemInUse(t *testing.T) {
	b := newBus(t)
	nm, err := b.NetworkManager()
	ok(t, err)
	mm, err := b.ModemManager()
	ok(t, err, mm.Roaming(true))
	w := watch(t)
	w.cost(bits.CostUnrestricted, "eth0", "NetworkManager") // the modem is not in use
	ok(t, nm.Metered(fakebus.GuessYes, fakebus.GuessYes), nm.UseModem())
	w.cost(bits.CostCappedUsageUnknown|bits.CostRoaming, "wwan0", "ModemManager")
	ok(t, mm.Roaming(false))
	w.cost(bits.CostCappedUsageUnknown, "wwan0", "NetworkManager")
	ok(t, mm.Roaming(true))
	w.cost(bits.CostCappedUsageUnknown|bits.CostRoaming, "wwan0", "ModemManager")
}

func TestPowerIsSeenAtOnce(t *testing.T) {
	for name, profiles := range map[string]func(*fakebus.Bus) (fakebus.PowerProfiles, error){
		"present name": (*fakebus.Bus).PowerProfiles, "former name": (*fakebus.Bus).OldPowerProfiles,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBus(t)
			u, err := b.UPower()
			ok(t, err)
			p, err := profiles(b)
			ok(t, err)
			w := watch(t)
			is := func(battery, saver bool) {
				t.Helper()
				s := w.until("the power", func(s State) bool { return s.OnBattery == battery && s.PowerSaver == saver })
				if s.PowerSource != "UPower" || s.SaverSource != "power-profiles-daemon" {
					t.Errorf("the sources of %+v", s)
				}
			}
			is(false, false)
			ok(t, u.OnBattery(true))
			is(true, false)
			ok(t, p.Profile("power-saver"))
			is(true, true)
			ok(t, p.Profile("performance"), u.OnBattery(false))
			is(false, false)
		})
	}
}

func TestServicesComeGoAndRestart(t *testing.T) {
	b := newBus(t)
	w := watch(t)
	w.cost(0, "", "")
	nm, err := b.NetworkManager() // comes
	ok(t, err, nm.Metered(fakebus.Yes, fakebus.Yes))
	w.cost(bits.CostCappedUsageUnknown, "eth0", "NetworkManager")

	// A short absence, as in an upgrade, changes nothing.
	ok(t, nm.Go(), nm.Come())
	asked := nm.Asked()
	for deadline := time.Now().Add(patience); nm.Asked() == asked; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a service that came back is not asked")
		}
	}
	ok(t, nm.Metered(fakebus.No, fakebus.No))
	if s := <-w.states; s.Cost != bits.CostUnrestricted {
		t.Errorf("after a restart of the service the state was %+v", s)
	}
	ok(t, nm.Go()) // goes for good
	w.cost(0, "", "")
}

func TestABusThatRestarts(t *testing.T) {
	b := newBus(t)
	nm, err := b.NetworkManager()
	ok(t, err)
	w := watch(t)
	w.cost(bits.CostUnrestricted, "eth0", "NetworkManager")
	b.Stop()
	ok(t, b.Restart())
	nm.Leave()
	nm, err = b.NetworkManager()
	ok(t, err, nm.Metered(fakebus.Yes, fakebus.Yes))
	w.cost(bits.CostCappedUsageUnknown, "eth0", "NetworkManager")
	b.Stop()
	w.cost(0, "", "")
}

func TestWithoutABusNothingIsKnown(t *testing.T) {
	for name, address := range map[string]string{
		"nothing there": "unix:path=" + filepath.Join(t.TempDir(), "none"), "not an address": "nonsense", "nobody listens": "tcp:host=127.0.0.1,port=1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
			w := watch(t)
			w.cost(0, "", "")
		})
	}
}

// A service that hangs is not one that says nothing.
func TestWhatAHangingServiceSaidHolds(t *testing.T) {
	b := newBus(t)
	nm, err := b.NetworkManager()
	ok(t, err, nm.Metered(fakebus.Yes, fakebus.Yes))
	up, err := b.UPower()
	ok(t, err)
	w := watch(t)
	w.cost(bits.CostCappedUsageUnknown, "eth0", "NetworkManager")
	answers := nm.Hang()
	defer answers()
	ok(t, nm.Metered(fakebus.No, fakebus.No), up.OnBattery(true))
	s := w.until("on battery", func(s State) bool { return s.OnBattery })
	if s.Cost != bits.CostCappedUsageUnknown || s.CostSource != "NetworkManager" {
		t.Errorf("while NetworkManager hangs the state is %+v", s)
	}
}

func TestABusThatComesLate(t *testing.T) {
	b := newBus(t)
	b.Stop()
	w := watch(t)
	w.cost(0, "", "")
	ok(t, b.Restart())
	nm, err := b.NetworkManager()
	ok(t, err, nm.Metered(fakebus.Yes, fakebus.Yes))
	w.cost(bits.CostCappedUsageUnknown, "eth0", "NetworkManager")
}

// TestOddAnswers lets the services say what they never should.
func TestOddAnswers(t *testing.T) {
	const (
		manager = "org.freedesktop.NetworkManager"
		path    = "/org/freedesktop/NetworkManager"
		device  = path + "/Devices/2"
		active  = path + "/ActiveConnection/1"
	)
	b := newBus(t)
	nm, err := b.NetworkManager()
	ok(t, err, nm.Metered(fakebus.Yes, fakebus.Yes))
	u, err := b.UPower()
	ok(t, err)
	w := watch(t)
	w.cost(bits.CostCappedUsageUnknown, "eth0", "NetworkManager")
	for i, odd := range []struct {
		path                   dbus.ObjectPath
		iface, property        string
		value                  any
		cost                   bits.Cost
		interfaceName, because string
	}{
		{path, manager, "PrimaryConnection", "not a path", bits.CostCappedUsageUnknown, "", "a text for a path"},
		{path, manager, "PrimaryConnection", dbus.ObjectPath("/etc"), bits.CostCappedUsageUnknown, "", "another's path"},
		{path, manager, "PrimaryConnection", dbus.ObjectPath(active + "7"), bits.CostCappedUsageUnknown, "", "a connection that is not there"},
		{path, manager, "PrimaryConnection", dbus.ObjectPath(active), bits.CostCappedUsageUnknown, "eth0", "as it was"},
		{active, manager + ".Connection.Active", "Devices", []dbus.ObjectPath{}, bits.CostCappedUsageUnknown, "", "no device"},
		{active, manager + ".Connection.Active", "Devices", "many", bits.CostCappedUsageUnknown, "", "a text for devices"},
		{active, manager + ".Connection.Active", "Devices", []dbus.ObjectPath{device, device}, bits.CostCappedUsageUnknown, "eth0", "two devices"},
		{device, manager + ".Device", "IpInterface", "a name that is much too long", bits.CostCappedUsageUnknown, "eth0", "no name of an interface"},
		{device, manager + ".Device", "Interface", "\x1b[31m", bits.CostCappedUsageUnknown, "", "what garbles a terminal"},
		{device, manager + ".Device", "Udi", []byte{1}, bits.CostCappedUsageUnknown, "", "bytes for a text"},
		{device, manager + ".Device", "Interface", "eth1", bits.CostCappedUsageUnknown, "eth1", "a good name"},
		{path, manager, "Metered", "yes", 0, "", "a text for a number"},
		{path, manager, "Metered", uint32(99), bits.CostCappedUsageUnknown, "eth1", "a number without a meaning; the device counts"},
		{device, manager + ".Device", "Metered", int64(-1), 0, "eth1", "nobody says something that is known"},
	} {
		ok(t, nm.Set(odd.path, odd.iface, odd.property, odd.value))
		flip := i%2 == 0 // what is said after this was asked after the odd answer was there
		ok(t, u.OnBattery(flip))
		if s := w.until("battery", func(s State) bool { return s.OnBattery == flip }); s.Cost != odd.cost || s.Interface != odd.interfaceName {
			t.Errorf("%s: got %+v, want %s on %q", odd.because, s, odd.cost, odd.interfaceName)
		}
	}
	ok(t, u.OnBattery(true))
	w.until("battery", func(s State) bool { return s.OnBattery })
	ok(t, u.Set("/org/freedesktop/UPower", "org.freedesktop.UPower", "OnBattery", "yes"))
	w.until("no battery", func(s State) bool { return !s.OnBattery })
}

func TestSupplies(t *testing.T) {
	type files map[string]string
	battery := func(status, capacity string) files {
		return files{"type": "Battery", "status": status, "capacity": capacity}
	}
	mains := func(online string) files { return files{"type": "Mains", "online": online} }
	mouse := files{"type": "Battery", "scope": "Device", "status": "Discharging", "capacity": "3"}
	for _, c := range []struct {
		name      string
		supplies  []files
		on, known bool
		percent   int // -1: not known
	}{
		{"a server", nil, false, false, -1},
		{"a desktop", []files{mains("1"), mouse}, false, true, -1},
		{"on mains", []files{battery("Charging", "80"), mains("1")}, false, true, 80},
		{"on battery", []files{battery("Discharging", "79"), mains("0")}, true, true, 79},
		{"full, without an adapter listed", []files{battery("Full", "100")}, false, true, 100},
		{"two batteries, one used", []files{battery("Discharging", "20"), battery("Unknown", "100"), mains("0")}, true, true, 60},
		{"fed by USB, slowly", []files{battery("Discharging", "50"), {"type": "USB", "online": "1"}}, false, true, 50},
		{"nonsense", []files{{"type": "\x00", "online": "1"}, {}, battery("?", "101%"), {"type": "UPS", "online": "1"}}, false, true, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for i, s := range c.supplies {
				dir := filepath.Join(root, string(rune('a'+i)))
				ok(t, os.Mkdir(dir, 0o755))
				for name, text := range s {
					ok(t, os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600))
				}
			}
			if on, known := onBattery(root); on != c.on || known != c.known {
				t.Errorf("on battery: %v, known: %v", on, known)
			}
			percent, known := batteryPercent(root)
			if !known {
				percent = -1
			}
			if percent != c.percent {
				t.Errorf("%d %%, want %d", percent, c.percent)
			}
		})
	}
}
