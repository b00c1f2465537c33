//go:build 386 || arm

package localfile

import "golang.org/x/sys/unix"

// sysSetgroups is the call that takes ids of 32 bits.
const sysSetgroups = unix.SYS_SETGROUPS32
