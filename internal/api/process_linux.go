package api

import (
	"fmt"
	"os"
	"strings"
)

// programOf returns what a process runs, for the log. Nothing is decided by it: the process may have
// ended, and another one have its number.
func programOf(pid int32) string {
	dir := fmt.Sprintf("/proc/%d/", pid)
	program, err := os.Readlink(dir + "exe")
	if err != nil { // another user's, of which a service without root's rights sees the name only
		name, _ := os.ReadFile(dir + "comm")
		program = strings.TrimSpace(string(name))
	}
	return program
}
