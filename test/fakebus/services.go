package fakebus

import (
	"fmt"
	"slices"
	"sync"

	"github.com/godbus/dbus/v5"
)

// What NetworkManager says about a network (NMMetered).
const (
	Unknown  uint32 = 0
	Yes      uint32 = 1
	No       uint32 = 2
	GuessYes uint32 = 3
	GuessNo  uint32 = 4
)

// The paths of NetworkManager's objects, and the modem that is one of its devices.
const (
	managerPath    dbus.ObjectPath = "/org/freedesktop/NetworkManager"
	connectionPath dbus.ObjectPath = managerPath + "/ActiveConnection/1"
	devicePath     dbus.ObjectPath = managerPath + "/Devices/2"
	modemPath      dbus.ObjectPath = "/org/freedesktop/ModemManager1/Modem/0"
)

// NetworkManager is the fake of NetworkManager: one device has the primary connection.
type NetworkManager struct{ *Service }

// NetworkManager puts NetworkManager on the bus, with an unmetered Ethernet called eth0.
func (b *Bus) NetworkManager() (NetworkManager, error) {
	s, err := b.Own("org.freedesktop.NetworkManager")
	if err != nil {
		return NetworkManager{}, err
	}
	nm := NetworkManager{s}
	return nm, first(
		nm.Device("eth0", "/sys/devices/eth0"),
		s.Set(connectionPath, "org.freedesktop.NetworkManager.Connection.Active", "Devices", []dbus.ObjectPath{devicePath}),
		nm.Metered(No, No),
		nm.Primary(true),
	)
}

// Metered sets what is said about the network as a whole and about the primary device.
func (nm NetworkManager) Metered(global, device uint32) error {
	return first(
		nm.Set(devicePath, "org.freedesktop.NetworkManager.Device", "Metered", device),
		nm.Set(managerPath, "org.freedesktop.NetworkManager", "Metered", global),
	)
}

// Device sets the interface and the hardware identifier of the primary device.
func (nm NetworkManager) Device(iface, udi string) error {
	const device = "org.freedesktop.NetworkManager.Device"
	return first(
		nm.Set(devicePath, device, "Udi", udi),
		nm.Set(devicePath, device, "Interface", iface),
		nm.Set(devicePath, device, "IpInterface", iface),
	)
}

// DHCP sets an option that the DHCP server of the primary connection gave.
func (nm NetworkManager) DHCP(name, value string) error {
	const config = managerPath + "/DHCP4Config/1"
	return first(
		nm.Set(config, "org.freedesktop.NetworkManager.DHCP4Config", "Options", map[string]dbus.Variant{name: dbus.MakeVariant(value)}),
		nm.Set(connectionPath, "org.freedesktop.NetworkManager.Connection.Active", "Dhcp4Config", config),
	)
}

// Primary sets whether there is a primary connection.
func (nm NetworkManager) Primary(up bool) error {
	path := connectionPath
	if !up {
		path = "/"
	}
	return nm.Set(managerPath, "org.freedesktop.NetworkManager", "PrimaryConnection", path)
}

// UseModem makes the primary device the modem of ModemManager.
func (nm NetworkManager) UseModem() error { return nm.Device("wwan0", string(modemPath)) }

// ModemManager is the fake of ModemManager with one modem.
type ModemManager struct{ *Service }

// ModemManager puts ModemManager on the bus, its modem in its home network.
func (b *Bus) ModemManager() (ModemManager, error) {
	s, err := b.Own("org.freedesktop.ModemManager1")
	if err != nil {
		return ModemManager{}, err
	}
	mm := ModemManager{s}
	return mm, mm.Roaming(false)
}

// Roaming sets whether the modem is in a foreign network.
func (mm ModemManager) Roaming(yes bool) error {
	state := uint32(1) // home
	if yes {
		state = 5
	}
	return mm.Set(modemPath, "org.freedesktop.ModemManager1.Modem.Modem3gpp", "RegistrationState", state)
}

// UPower is the fake of UPower.
type UPower struct{ *Service }

// UPower puts UPower on the bus, on mains power.
func (b *Bus) UPower() (UPower, error) {
	s, err := b.Own("org.freedesktop.UPower")
	if err != nil {
		return UPower{}, err
	}
	u := UPower{s}
	return u, u.OnBattery(false)
}

// OnBattery sets whether the machine runs on battery.
func (u UPower) OnBattery(yes bool) error {
	return u.Set("/org/freedesktop/UPower", "org.freedesktop.UPower", "OnBattery", yes)
}

// PowerProfiles is the fake of the power profiles.
type PowerProfiles struct {
	*Service
	path dbus.ObjectPath
}

// PowerProfiles puts the power profiles on the bus under their present name, balanced.
func (b *Bus) PowerProfiles() (PowerProfiles, error) {
	return b.powerProfiles("org.freedesktop.UPower.PowerProfiles", "/org/freedesktop/UPower/PowerProfiles")
}

// OldPowerProfiles is PowerProfiles under their former name.
func (b *Bus) OldPowerProfiles() (PowerProfiles, error) {
	return b.powerProfiles("net.hadess.PowerProfiles", "/net/hadess/PowerProfiles")
}

func (b *Bus) powerProfiles(name string, path dbus.ObjectPath) (PowerProfiles, error) {
	s, err := b.Own(name)
	if err != nil {
		return PowerProfiles{}, err
	}
	p := PowerProfiles{s, path}
	return p, p.Profile("balanced")
}

// Profile sets the active profile: power-saver, balanced or performance.
func (p PowerProfiles) Profile(name string) error {
	return p.Set(p.path, p.Name, "ActiveProfile", name)
}

// first returns the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Polkit puts polkit on the bus. may decides what the processes of a user may do; ask tells that a
// person could be asked.
func (b *Bus) Polkit(may func(uid uint32, action string, ask bool) bool) error {
	s, err := b.Own("org.freedesktop.PolicyKit1")
	if err != nil {
		return err
	}
	return s.conn.Export(authority(may), "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority")
}

// authority is polkit's object.
type authority func(uid uint32, action string, ask bool) bool

// CheckAuthorization is org.freedesktop.PolicyKit1.Authority.CheckAuthorization.
func (a authority) CheckAuthorization(subject struct {
	Kind    string
	Details map[string]dbus.Variant
}, action string, _ map[string]string, flags uint32, _ string) (result struct {
	Authorized, Challenge bool
	Details               map[string]string
}, err *dbus.Error) {
	uid, ok := subject.Details["uid"].Value().(int32)
	pid, _ := subject.Details["pid"].Value().(uint32)
	start, _ := subject.Details["start-time"].Value().(uint64)
	if subject.Kind != "unix-process" || !ok || pid == 0 || start == 0 {
		return result, dbus.NewError("org.freedesktop.PolicyKit1.Error.Failed", []any{"the subject is not a process"})
	}
	result.Authorized = a(uint32(uid), action, flags&1 != 0)
	return result, nil
}

// Logind is the fake of systemd-logind: who has a session or lingers.
type Logind struct {
	*Service
	manager *loginManager
}

// The paths of logind's objects.
const (
	logindPath     dbus.ObjectPath = "/org/freedesktop/login1"
	logindName                     = "org.freedesktop.login1"
	logindUser                     = logindName + ".User"
	logindSession                  = logindName + ".Session"
	userPathPrefix                 = string(logindPath) + "/user/_"
	sessionsPrefix                 = string(logindPath) + "/session/_"
)

// loginUser is an element of the answer of ListUsers.
type loginUser struct {
	UID  uint32
	Name string
	Path dbus.ObjectPath
}

// loginManager is what logind exports as its manager.
type loginManager struct {
	mu    sync.Mutex // guards users
	users []loginUser
}

// ListUsers is org.freedesktop.login1.Manager.ListUsers.
func (m *loginManager) ListUsers() ([]loginUser, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.users), nil
}

// Logind puts logind on the bus; nobody is logged on.
func (b *Bus) Logind() (Logind, error) {
	s, err := b.Own(logindName)
	if err != nil {
		return Logind{}, err
	}
	l := Logind{s, &loginManager{}}
	return l, s.conn.Export(l.manager, logindPath, logindName+".Manager")
}

// Is makes a user known, with a session of a class ("user", "background", "greeter") in a state ("online",
// "active", "closing"), or with none where class is empty; and says whether the user lingers.
func (l Logind) Is(uid uint32, class, state string, lingers bool) error {
	user, session := dbus.ObjectPath(userPathPrefix+fmt.Sprint(uid)), dbus.ObjectPath(sessionsPrefix+fmt.Sprint(uid))
	type ref struct {
		ID   string
		Path dbus.ObjectPath
	}
	own := []ref{}
	if class != "" {
		own = append(own, ref{"_" + fmt.Sprint(uid), session})
	}
	err := first(l.Set(session, logindSession, "Class", class), l.Set(session, logindSession, "State", state),
		l.Set(user, logindUser, "Linger", lingers), l.Set(user, logindUser, "Sessions", own))
	l.manager.mu.Lock()
	l.manager.users = append(slices.DeleteFunc(l.manager.users, func(u loginUser) bool { return u.UID == uid }), loginUser{uid, "somebody", user})
	l.manager.mu.Unlock()
	return first(err, l.conn.Emit(logindPath, logindName+".Manager.SessionNew", "_"+fmt.Sprint(uid), session))
}

// Gone takes a user away.
func (l Logind) Gone(uid uint32) error {
	l.manager.mu.Lock()
	l.manager.users = slices.DeleteFunc(l.manager.users, func(u loginUser) bool { return u.UID == uid })
	l.manager.mu.Unlock()
	return l.conn.Emit(logindPath, logindName+".Manager.UserRemoved", uid, dbus.ObjectPath(userPathPrefix+fmt.Sprint(uid)))
}
