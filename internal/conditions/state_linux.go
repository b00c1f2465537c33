package conditions

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/ebbtransfer/ebb/bits"
)

// The services that are asked, and the objects of each.
const (
	networkManager     = "org.freedesktop.NetworkManager"
	networkManagerPath = "/org/freedesktop/NetworkManager"
	activeConnections  = networkManagerPath + "/ActiveConnection"
	devices            = networkManagerPath + "/Devices"
	modemManager       = "org.freedesktop.ModemManager1"
	modems             = "/org/freedesktop/ModemManager1/Modem"
	upower             = "org.freedesktop.UPower"
	upowerPath         = "/org/freedesktop/UPower"
)

// powerProfiles are the two names under which systems have the power profiles.
var powerProfiles = []struct {
	name string // of the service and of its interface
	path string
}{
	{"org.freedesktop.UPower.PowerProfiles", "/org/freedesktop/UPower/PowerProfiles"},
	{"net.hadess.PowerProfiles", "/net/hadess/PowerProfiles"},
}

// source is how people call a service.
var source = map[string]string{
	networkManager:        "NetworkManager",
	modemManager:          "ModemManager",
	upower:                "UPower",
	powerProfiles[0].name: "power-profiles-daemon",
	powerProfiles[1].name: "power-profiles-daemon",
	logind:                "systemd-logind",
}

// ownerChanged is the signal that a service came or went.
const ownerChanged = "org.freedesktop.DBus.NameOwnerChanged"

const (
	// burst is how long signals must have stopped before the services are asked: one change
	// brings several.
	burst = 100 * time.Millisecond
	// restart is how long a service that went away has to come back before what it said is
	// forgotten.
	restart = 5 * time.Second
	// answer is how long the answers of a service may take.
	answer = 5 * time.Second
	// askAgain is the pause before the services are asked again if one did not answer in time.
	askAgain = 30 * time.Second
	// maxReconnect is the longest pause before a bus that is not there is tried again.
	maxReconnect = 10 * time.Minute
)

// Watch calls changed with the state as it is and then at each change, from one goroutine,
// until ctx ends. It sleeps in between, and never starts a service to ask it. While there is no
// system bus it keeps to what the kernel says about the battery.
func Watch(ctx context.Context, changed func(State)) {
	hints := make(chan struct{}, 1)
	var work sync.WaitGroup
	defer work.Wait()
	if _, known := onBattery(powerSupplies); known {
		work.Go(func() { watchSupplies(ctx, hints) })
	}
	work.Go(func() { watchLingering(ctx, lingering, hints) })
	var last *State
	report := func(s State) {
		if last == nil || *last != s {
			last = &s
			changed(s)
		}
	}
	for pause := time.Second; ; pause = min(4*pause, maxReconnect) {
		b, err := dial(ctx)
		if err == nil {
			b.follow(ctx, hints, report)
			pause = time.Second
		}
		again := time.After(pause)
		for waiting := true; waiting; {
			if err != nil { // a bus that was just lost may be back at once
				report(State{}.withSupplies())
			}
			select {
			case <-ctx.Done():
				return
			case <-again:
				waiting = false
			case <-hints:
			}
		}
	}
}

// withSupplies adds what the kernel says about the battery where UPower says nothing.
func (s State) withSupplies() State {
	if s.PowerSource == "" {
		if on, known := onBattery(powerSupplies); known {
			s.OnBattery, s.PowerSource = on, "the kernel"
		}
	}
	return s
}

// bus is a connection to the system bus.
type bus struct {
	conn    *dbus.Conn
	signals chan *dbus.Signal
	left    map[string]time.Time // when services went away that are not back
}

// dial connects to the system bus and asks for the signals that tell of changes.
func dial(ctx context.Context) (*bus, error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	b := &bus{conn, make(chan *dbus.Signal, 16), map[string]time.Time{}}
	conn.Signal(b.signals)
	// Only what decides: NetworkManager and ModemManager send many more signals, about the
	// strength of the reception for one.
	properties := func(sender, iface string, at dbus.MatchOption) []dbus.MatchOption {
		return []dbus.MatchOption{dbus.WithMatchSender(sender), dbus.WithMatchInterface("org.freedesktop.DBus.Properties"),
			dbus.WithMatchMember("PropertiesChanged"), dbus.WithMatchArg(0, iface), at}
	}
	rules := [][]dbus.MatchOption{
		properties(networkManager, networkManager, dbus.WithMatchObjectPath(networkManagerPath)),
		properties(networkManager, networkManager+".Connection.Active", dbus.WithMatchPathNamespace(activeConnections)),
		properties(networkManager, networkManager+".Device", dbus.WithMatchPathNamespace(devices)),
		properties(modemManager, modemManager+".Modem.Modem3gpp", dbus.WithMatchPathNamespace(modems)),
		properties(modemManager, modemManager+".Modem.ModemCdma", dbus.WithMatchPathNamespace(modems)),
		properties(upower, upower, dbus.WithMatchObjectPath(upowerPath)),
	}
	for _, p := range powerProfiles {
		rules = append(rules, properties(p.name, p.name, dbus.WithMatchObjectPath(dbus.ObjectPath(p.path))))
	}
	for _, signal := range loginSignals {
		rules = append(rules, []dbus.MatchOption{dbus.WithMatchSender(logind), dbus.WithMatchObjectPath(logindPath), dbus.WithMatchInterface(logind + ".Manager"), dbus.WithMatchMember(signal)})
	}
	for name := range source {
		rules = append(rules, []dbus.MatchOption{dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchInterface("org.freedesktop.DBus"),
			dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)})
	}
	for _, r := range rules {
		if err := conn.AddMatchSignalContext(ctx, r...); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return b, nil
}

// follow reports the state until the connection or ctx ends.
func (b *bus) follow(ctx context.Context, hints <-chan struct{}, report func(State)) {
	defer b.conn.Close()
	look := time.NewTimer(0)
	defer look.Stop()
	due := time.Now()
	var last State
	for {
		delay := burst
		select {
		case <-ctx.Done():
			return
		case <-hints:
		case s, ok := <-b.signals:
			if !ok {
				return
			}
			if strings.HasPrefix(s.Name, "org.freedesktop.DBus.Name") && s.Name != ownerChanged {
				continue // about this connection itself, which nobody asked for
			}
			if b.leaves(s) {
				delay = restart
			}
		case <-look.C:
			s, again := b.state(ctx, last)
			if ctx.Err() != nil || !b.conn.Connected() {
				return
			}
			last, due = s, time.Time{}
			report(s.withSupplies())
			if again == 0 {
				continue
			}
			delay = again
		}
		if at := time.Now().Add(delay); due.IsZero() || at.Before(due) {
			due = at
			look.Reset(delay)
		}
	}
}

// leaves reports whether a signal says that a service went away, and remembers since when.
func (b *bus) leaves(s *dbus.Signal) bool {
	if s.Name != ownerChanged || len(s.Body) != 3 {
		return false
	}
	name, _ := s.Body[0].(string)
	owner, ok := s.Body[2].(string)
	if !ok || owner != "" {
		delete(b.left, name)
		return false
	}
	b.left[name] = time.Now()
	return true
}

// mayReturn reports whether a service went away so lately that it may only be started anew.
func (b *bus) mayReturn(name string) bool {
	at, ok := b.left[name]
	return ok && time.Since(at) < restart
}

// state asks all services. One that does not answer in time, or is being started anew, keeps nobody from
// asking the others; what it said last holds, and again is after how long to ask again, else 0.
func (b *bus) state(ctx context.Context, last State) (s State, again time.Duration) {
	for _, about := range []struct {
		service string
		ask     func(context.Context, *State)
		keep    func()
	}{
		{networkManager, b.network, func() { s.Cost, s.CostSource, s.Interface = last.Cost, last.CostSource, last.Interface }},
		{upower, b.battery, func() { s.OnBattery, s.PowerSource = last.OnBattery, last.PowerSource }},
		{powerProfiles[0].name, b.profile, func() { s.PowerSaver, s.SaverSource = last.PowerSaver, last.SaverSource }},
		{logind, b.users, func() { s.Users = last.Users }},
	} {
		if b.mayReturn(about.service) {
			about.keep()
			again = restart
			continue
		}
		patient, cancel := context.WithTimeout(ctx, answer)
		about.ask(patient, &s)
		if patient.Err() != nil {
			if about.keep(); again == 0 {
				again = askAgain
			}
		}
		cancel()
	}
	return s, again
}

// battery asks UPower.
func (b *bus) battery(ctx context.Context, s *State) {
	if on, ok := get[bool](ctx, b, upower, upowerPath, upower, "OnBattery"); ok {
		s.OnBattery, s.PowerSource = on, source[upower]
	}
}

// profile asks whoever has the power profiles.
func (b *bus) profile(ctx context.Context, s *State) {
	for _, p := range powerProfiles {
		if profile, ok := get[string](ctx, b, p.name, dbus.ObjectPath(p.path), p.name, "ActiveProfile"); ok {
			s.PowerSaver, s.SaverSource = profile == "power-saver", source[p.name]
			return
		}
	}
}

// network asks NetworkManager, and ModemManager where the network is one of its modems.
func (b *bus) network(ctx context.Context, s *State) {
	global, ok := get[uint32](ctx, b, networkManager, networkManagerPath, networkManager, "Metered")
	if !ok {
		return
	}
	primary, _ := get[dbus.ObjectPath](ctx, b, networkManager, networkManagerPath, networkManager, "PrimaryConnection")
	told := []uint32{global}
	if below(primary, activeConnections) {
		used, _ := get[[]dbus.ObjectPath](ctx, b, networkManager, primary, networkManager+".Connection.Active", "Devices")
		if len(used) > 0 && below(used[0], devices) {
			const device = networkManager + ".Device"
			if m, ok := get[uint32](ctx, b, networkManager, used[0], device, "Metered"); ok {
				told = append(told, m)
			}
			s.Interface = b.interfaceOf(ctx, used[0])
			if modem, ok := get[string](ctx, b, networkManager, used[0], device, "Udi"); ok && below(dbus.ObjectPath(modem), modems) {
				if b.roams(ctx, dbus.ObjectPath(modem)) {
					s.Cost = bits.CostRoaming
					s.CostSource = source[modemManager]
				}
			}
		}
	}
	plan := planOf(told...)
	if plan == 0 {
		return
	}
	s.Cost |= plan
	if s.CostSource == "" {
		s.CostSource = source[networkManager]
	}
}

// planOf returns the state of a plan from what NetworkManager says of it (NMMetered): that it
// is metered if any says so, flat rate if any says so, else 0.
func planOf(told ...uint32) (plan bits.Cost) {
	for _, m := range told {
		switch m {
		case 1, 3: // yes, and a guess that says yes
			return bits.CostCappedUsageUnknown
		case 2, 4: // no, and a guess that says no
			plan = bits.CostUnrestricted
		}
	}
	return plan
}

// interfaceOf returns the name of the interface that a device's packets take.
func (b *bus) interfaceOf(ctx context.Context, device dbus.ObjectPath) string {
	for _, property := range []string{"IpInterface", "Interface"} {
		name, _ := get[string](ctx, b, networkManager, device, networkManager+".Device", property)
		if name != "" && len(name) < 16 && strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) < 0 {
			return name
		}
	}
	return ""
}

// roams reports whether a modem is registered in a foreign network.
func (b *bus) roams(ctx context.Context, modem dbus.ObjectPath) bool {
	for _, p := range []struct {
		iface, property string
		roaming         uint32
	}{
		{".Modem.Modem3gpp", "RegistrationState", 5},
		{".Modem.Modem3gpp", "RegistrationState", 7},  // for short messages only
		{".Modem.Modem3gpp", "RegistrationState", 10}, // without a preference for calls
		{".Modem.ModemCdma", "Cdma1xRegistrationState", 3},
		{".Modem.ModemCdma", "EvdoRegistrationState", 3},
	} {
		if state, ok := get[uint32](ctx, b, modemManager, modem, modemManager+p.iface, p.property); ok && state == p.roaming {
			return true
		}
	}
	return false
}

// below reports whether path is an object below another one.
func below(path dbus.ObjectPath, above string) bool {
	return path.IsValid() && strings.HasPrefix(string(path), above+"/")
}

// get reads a property. It is not ok if the service does not run, has no such property, or has
// one of another type.
func get[T any](ctx context.Context, b *bus, service string, path dbus.ObjectPath, iface, property string) (value T, ok bool) {
	var v dbus.Variant
	call := b.conn.Object(service, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, iface, property)
	if call.Store(&v) != nil {
		return value, false
	}
	value, ok = v.Value().(T)
	return value, ok
}
