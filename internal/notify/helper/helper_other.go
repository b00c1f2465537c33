//go:build !linux

package helper

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
)

var errLinuxOnly = errors.New("notifications by program, web hook and desktop need Linux")

func executable() (string, error) { return "", errLinuxOnly }

func prepare(*exec.Cmd, User)  {}
func endGroup(User, int, bool) {}

// Main is the helper's process, which there is on Linux only.
func Main(_ []string, in io.Reader) int {
	var t Task
	if err := json.NewDecoder(in).Decode(&wire{Task: &t}); err == nil {
		_ = carryOut(&t)
	}
	return 2
}

// SessionBus returns the address of a user's message bus; it is known on Linux only.
func SessionBus(uint32) string { return "" }

// RuntimeDir returns the user's XDG_RUNTIME_DIR; it is known on Linux only.
func RuntimeDir(uint32) string { return "" }
