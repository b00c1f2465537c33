//go:build !unix

package main

import "os/exec"

// detach does nothing: here a process has no session to leave.
func detach(*exec.Cmd) {}
