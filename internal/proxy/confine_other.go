//go:build !linux

package proxy

import (
	"os"
	"os/exec"
	"runtime/debug"
)

// confined returns the command that starts a helper, and what ends its process.
func confined() (*exec.Cmd, func(*os.Process), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	return exec.Command(self, HelperVerb), func(p *os.Process) { _ = p.Kill() }, nil
}

// confineSelf sets limits; rights are given up on Linux only, where there is a service of all users.
func confineSelf([]string) found {
	debug.SetMemoryLimit(128 << 20)
	debug.SetMaxStack(64 << 20)
	return found{Open: "this system has no means for it"}
}
