package fileget

import (
	"strings"
	"testing"
)

const table = `22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 22 0:50 / /mnt/public rw - cifs //Files/Public rw
41 22 0:51 /deep/er /mnt/deep\040er rw - cifs \134\134files\134public rw
42 22 0:52 / /mnt/other rw - nfs4 files:/public rw
`

func TestFind(t *testing.T) {
	for _, c := range []struct{ host, path, dir, rest string }{
		{"files", "/public/a/b.iso", "/mnt/public", "a/b.iso"},
		{"FILES", "/PUBLIC/a", "/mnt/public", "a"},
		{"files", "/public/deep/er/a", "/mnt/deep er", "a"},
		{"files", "/public", "", ""},
		{"files", "/publication/a", "", ""},
		{"elsewhere", "/public/a", "", ""},
	} {
		dir, rest := find(strings.NewReader(table), c.host, c.path)
		if dir != c.dir || rest != c.rest {
			t.Errorf("//%s%s is %q in %q, want %q in %q", c.host, c.path, rest, dir, c.rest, c.dir)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add(table, "files", "/public/a")
	f.Fuzz(func(_ *testing.T, table, host, path string) { find(strings.NewReader(table), host, path) })
}
