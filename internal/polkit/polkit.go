// Package polkit asks the system's authorisation service whether a process may do something. It
// decides nothing itself: without an answer of polkit nobody may.
package polkit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// ManageAll is the action of dealing with the jobs of all users.
const ManageAll = "org.ebb.manage-all"

// Process is who asks. A number alone would not do: numbers are used again.
type Process struct {
	PID   uint32
	Start uint64 // when the process started, in clock ticks since the machine did (proc(5), stat)
	UID   uint32 // the user that it had when it connected; it may have run a set-id program since
}

// ErrAbsent means that there is no polkit to ask.
var ErrAbsent = errors.New("polkit cannot be asked")

// patience bounds how long a person may take to type a password.
const patience = 2 * time.Minute

// interactive is the flag that lets polkit ask a person for a password.
const interactive = uint32(1)

// Check reports whether a process may do what action names. With ask polkit may ask a person, which
// takes as long as that takes, at most two minutes.
func Check(ctx context.Context, p Process, action string, ask bool) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	defer func() { _ = conn.Close() }()
	type subject struct {
		Kind    string
		Details map[string]dbus.Variant
	}
	who := subject{"unix-process", map[string]dbus.Variant{
		"pid": dbus.MakeVariant(p.PID), "start-time": dbus.MakeVariant(p.Start), "uid": dbus.MakeVariant(int32(p.UID))}}
	var flags uint32
	if ask {
		flags = interactive
	}
	var result struct {
		Authorized bool
		Challenge  bool
		Details    map[string]string
	}
	err = conn.Object("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority").
		CallWithContext(ctx, "org.freedesktop.PolicyKit1.Authority.CheckAuthorization", 0, who, action, map[string]string{}, flags, "").Store(&result)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	return result.Authorized, nil
}
