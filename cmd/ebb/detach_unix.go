//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// detach gives the command a session of its own, so that it outlives this terminal.
func detach(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
