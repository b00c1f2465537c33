//go:build !linux

package proxy

import (
	"os"
	"os/exec"
	"runtime/debug"
)

// self is this program.
func self() (string, error) { return os.Executable() }

func confine(*exec.Cmd) {}

func confineSelf() error {
	debug.SetMemoryLimit(128 << 20)
	debug.SetMaxStack(64 << 20)
	return nil
}
