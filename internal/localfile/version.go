package localfile

import "io/fs"

// Version tells whether a file is still the one that was looked at before. A program that sets the date of
// a file back does not get past the inode's own, where there is one.
type Version struct {
	Size     int64  // bytes
	Modified int64  // Unix nanoseconds
	Changed  int64  // of the inode, Unix nanoseconds; 0 where that is not known
	Inode    uint64 // 0 where files have none
}

// VersionOf returns the version of a file.
func VersionOf(info fs.FileInfo) Version {
	v := Version{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	v.Inode, v.Changed = inode(info)
	return v
}

// Version looks at a regular file by its path. The file is not opened.
func (o Owner) Version(path string) (Version, error) {
	var v Version
	err := o.at(path, func(dir int, name string) error {
		e, err := lstat(dir, name)
		if err == nil && !e.regular {
			err = notRegular(path, e.dir)
		}
		v = e.Version
		return err
	})
	if err != nil {
		return Version{}, err
	}
	return v, nil
}
