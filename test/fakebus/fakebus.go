// Package fakebus is a private message bus with fakes of the services that tell what the
// network costs, how the machine is powered and who is logged on: NetworkManager, ModemManager, UPower, the
// power profiles and systemd-logind. A program under test finds it through DBUS_SYSTEM_BUS_ADDRESS.
//
// It needs dbus-daemon (Debian's package dbus).
package fakebus

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
)

// everybodyMay is the configuration of a bus on which any user owns any name.
const everybodyMay = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
`

// Bus is a running message bus.
type Bus struct {
	// Address is the value for DBUS_SYSTEM_BUS_ADDRESS.
	Address string

	dir string
	cmd *exec.Cmd

	mu       sync.Mutex // guards services
	services []*Service
}

// New runs a bus that the test ends. Without dbus-daemon the test is skipped; in CI it fails.
func New(t *testing.T) *Bus {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		const missing = "dbus-daemon is not installed: apt-get install dbus"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	dir, err := os.MkdirTemp("", "ebb") // a socket's path must be short; t.TempDir's is not
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &Bus{dir: dir, Address: "unix:path=" + filepath.Join(dir, "bus")}
	config := fmt.Appendf(nil, everybodyMay, filepath.Join(dir, "bus"))
	if err := os.WriteFile(filepath.Join(dir, "bus.conf"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// run starts the daemon and returns when it listens.
func (b *Bus) run() error {
	b.cmd = exec.Command("dbus-daemon", "--config-file="+filepath.Join(b.dir, "bus.conf"), "--nofork", "--print-address")
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var told bytes.Buffer
	b.cmd.Stderr = &told
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.cmd.Start(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		_ = b.cmd.Wait()
		return fmt.Errorf("dbus-daemon did not start: %s", strings.TrimSpace(told.String()))
	}
	return nil
}

// Stop ends the bus as a crash of it would.
func (b *Bus) Stop() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
	_ = os.Remove(filepath.Join(b.dir, "bus"))
}

// Restart runs the bus again after Stop. The services that were on it are not.
func (b *Bus) Restart() error { return b.run() }

// Close ends the bus and the services on it.
func (b *Bus) Close() {
	b.mu.Lock()
	services := b.services
	b.mu.Unlock()
	for _, s := range services {
		s.Leave()
	}
	b.Stop()
}

// Service is one service on the bus: a name with objects that have properties.
type Service struct {
	Name string
	conn *dbus.Conn

	mu      sync.Mutex // guards all below
	objects map[dbus.ObjectPath]map[string]map[string]any
	asked   int
	hangs   chan struct{} // nil while it answers; closed when it does again
}

// Own puts a service on the bus.
func (b *Bus) Own(name string) (*Service, error) {
	conn, err := dbus.Connect(b.Address)
	if err != nil {
		return nil, err
	}
	s := &Service{Name: name, conn: conn, objects: map[dbus.ObjectPath]map[string]map[string]any{}}
	if err := s.Come(); err != nil {
		conn.Close()
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.services = append(b.services, s)
	return s, nil
}

// Come takes the service's name, Go gives it up; the objects stay as they are.
func (s *Service) Come() error {
	r, err := s.conn.RequestName(s.Name, dbus.NameFlagDoNotQueue)
	if err == nil && r != dbus.RequestNameReplyPrimaryOwner && r != dbus.RequestNameReplyAlreadyOwner {
		err = fmt.Errorf("%s is taken", s.Name)
	}
	return err
}

// Go gives the service's name up.
func (s *Service) Go() error {
	_, err := s.conn.ReleaseName(s.Name)
	return err
}

// Leave closes the service's connection.
func (s *Service) Leave() { _ = s.conn.Close() }

// Set gives an object a property, of any type, and signals the change as PropertiesChanged.
func (s *Service) Set(path dbus.ObjectPath, iface, property string, value any) error {
	s.mu.Lock()
	o, ok := s.objects[path]
	if !ok {
		o = map[string]map[string]any{}
		s.objects[path] = o
	}
	if o[iface] == nil {
		o[iface] = map[string]any{}
	}
	o[iface][property] = value
	s.mu.Unlock()
	const properties = "org.freedesktop.DBus.Properties"
	if !ok {
		if err := s.conn.Export(&object{s, path}, path, properties); err != nil {
			return err
		}
	}
	return s.conn.Emit(path, properties+".PropertiesChanged", iface, map[string]dbus.Variant{property: dbus.MakeVariant(value)}, []string{})
}

// Hang makes the service answer nobody until the function that it returns is called.
func (s *Service) Hang() (recover func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{})
	s.hangs = c
	return sync.OnceFunc(func() { close(c) })
}

// Asked returns how often a property was read.
func (s *Service) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// object is what a service exports at a path.
type object struct {
	s    *Service
	path dbus.ObjectPath
}

// Get is org.freedesktop.DBus.Properties.Get.
func (o *object) Get(iface, property string) (dbus.Variant, *dbus.Error) {
	o.s.mu.Lock()
	o.s.asked++
	hangs := o.s.hangs
	o.s.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	v, ok := o.s.objects[o.path][iface][property]
	if !ok {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", []any{"no such property"})
	}
	return dbus.MakeVariant(v), nil
}
