package helper

import (
	"context"
	"errors"
	"fmt"
	"html"
	"time"

	"github.com/godbus/dbus/v5"
)

// desktopPatience is how long the desktop may take.
const desktopPatience = 10 * time.Second

// show puts a message on the user's desktop, by the Desktop Notifications Specification.
func show(d *Desktop) error {
	ctx, cancel := context.WithTimeout(context.Background(), desktopPatience)
	defer cancel()
	if d.Bus == "" {
		return errors.New("the user has no desktop session")
	}
	conn, err := dbus.Dial(d.Bus, dbus.WithContext(ctx))
	if err != nil {
		return errors.New("the user has no desktop session")
	}
	defer conn.Close()
	if err := conn.Auth(nil); err != nil {
		return fmt.Errorf("the user's message bus lets nobody in: %w", err)
	}
	if err := conn.Hello(); err != nil {
		return fmt.Errorf("the user's message bus does not answer: %w", err)
	}
	urgency := byte(1)
	if d.Urgent {
		urgency = 2
	}
	hints := map[string]dbus.Variant{
		"urgency":       dbus.MakeVariant(urgency),
		"category":      dbus.MakeVariant("transfer"),
		"desktop-entry": dbus.MakeVariant("ebb"),
	}
	// The body may have markup; what a job is called must not be taken for it.
	call := conn.Object("org.freedesktop.Notifications", "/org/freedesktop/Notifications").CallWithContext(ctx,
		"org.freedesktop.Notifications.Notify", 0, "Ebb", uint32(0), d.Icon, d.Summary, html.EscapeString(d.Body), []string{}, hints, int32(-1))
	if call.Err != nil {
		return fmt.Errorf("the desktop shows no message: %w", call.Err)
	}
	return nil
}
