//go:build !linux

package store

import "os"

// durable has each write of a file return when its bytes are durable.
const durable = os.O_SYNC
