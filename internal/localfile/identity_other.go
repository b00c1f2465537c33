//go:build !linux

package localfile

import "io/fs"

// inode knows no inodes: size and date must do.
func inode(fs.FileInfo) (number uint64, changed int64) { return 0, 0 }

// UserOf knows no users.
func UserOf(fs.FileInfo) (uid uint32, ok bool) { return 0, false }
