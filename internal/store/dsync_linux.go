package store

import "golang.org/x/sys/unix"

// durable has each write of a file return when its bytes are durable, without the file's times: in one
// call of the system, which is quicker than a write and an fdatasync (docs/decisions/002-journal.md).
const durable = unix.O_DSYNC
