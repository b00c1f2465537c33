package conditions

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
	"github.com/godbus/dbus/v5"
)

// systemd-logind and its objects.
const (
	logind      = "org.freedesktop.login1"
	logindPath  = "/org/freedesktop/login1"
	logindUsers = logindPath + "/user"
	sessions    = logindPath + "/session"
)

// loginSignals are what logind sends when users come and go.
var loginSignals = []string{"SessionNew", "SessionRemoved", "UserNew", "UserRemoved"}

// lingering is the directory in which logind has a file for each user who lingers.
const lingering = "/var/lib/systemd/linger"

// watchLingering tells, until ctx ends, that a user may have been made to linger, or not to any more: logind has no signal for
// it if it knows the user already, who has just logged out, perhaps. The directory is made for the first of them.
func watchLingering(ctx context.Context, dir string, changed chan<- struct{}) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return
	}
	defer w.Close()
	if w.Add(filepath.Dir(dir)) != nil {
		return // there is no systemd
	}
	_ = w.Add(dir)
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-w.Errors: // something was missed
			if !open {
				return
			}
		case e := <-w.Events:
			if e.Name == dir && e.Has(fsnotify.Create) {
				_ = w.Add(dir)
			} else if filepath.Dir(e.Name) != dir {
				continue
			}
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// users asks logind who is logged on: who has a session of a person that is not closing, or lingers.
// That a session began to close, because something was left running in it, is told by no signal; it
// is seen when the next one comes.
func (b *bus) users(ctx context.Context, s *State) {
	var all []struct {
		UID  uint32
		Name string
		Path dbus.ObjectPath
	}
	if b.conn.Object(logind, logindPath).CallWithContext(ctx, logind+".Manager.ListUsers", dbus.FlagNoAutoStart).Store(&all) != nil {
		return
	}
	var on []uint32
	for _, u := range all {
		if below(u.Path, logindUsers) && b.present(ctx, u.Path) {
			on = append(on, u.UID)
		}
	}
	s.Users = LoggedOnUsers(on...)
}

// present reports whether a user lingers or has a session.
func (b *bus) present(ctx context.Context, user dbus.ObjectPath) bool {
	const iface = logind + ".User"
	if lingers, ok := get[bool](ctx, b, logind, user, iface, "Linger"); ok && lingers {
		return true
	}
	own, _ := get[[][]any](ctx, b, logind, user, iface, "Sessions")
	for _, one := range own {
		if len(one) != 2 {
			continue
		}
		path, _ := one[1].(dbus.ObjectPath)
		if below(path, sessions) && b.isPersons(ctx, path) {
			return true
		}
	}
	return false
}

// isPersons reports whether a session is one of a person: not of the log-in screen, of cron or of the
// user's manager, and not one that only waits for its last processes.
func (b *bus) isPersons(ctx context.Context, session dbus.ObjectPath) bool {
	const iface = logind + ".Session"
	class, _ := get[string](ctx, b, logind, session, iface, "Class")
	state, _ := get[string](ctx, b, logind, session, iface, "State")
	return (class == "user" || strings.HasPrefix(class, "user-")) && state != "closing"
}
