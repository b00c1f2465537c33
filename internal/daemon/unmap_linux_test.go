package daemon

import "testing"

func TestProgramMap(t *testing.T) {
	for _, c := range []struct {
		line       string
		start, end uintptr
		ok         bool
	}{
		{"00400000-018e6000 r-xp 00000000 fe:00 9978633                            /usr/bin/ebb", 0x400000, 0x18e6000, true},
		{"018e6000-02d26000 r--p 014e6000 fe:00 9978633                            /usr/bin/ebb", 0x18e6000, 0x2d26000, true},
		{"02d26000-02f97000 rw-p 02926000 fe:00 9978633                            /usr/bin/ebb", 0, 0, false},
		{"02d26000-02f97000 r--s 02926000 fe:00 9978633                            /usr/bin/ebb", 0, 0, false},
		{"7f5c1c000000-7f5c1c021000 r-xp 00000000 fe:00 9978633                    /usr/lib/libc.so.6", 0, 0, false},
		{"7f5c1c000000-7f5c1c021000 rw-p 00000000 00:00 0 ", 0, 0, false},
		{"018e6000-00400000 r-xp 00000000 fe:00 9978633                            /usr/bin/ebb", 0, 0, false},
		{"", 0, 0, false},
	} {
		start, end, ok := programMap(c.line, "/usr/bin/ebb")
		if ok != c.ok || ok && (start != c.start || end != c.end) {
			t.Errorf("%q: %x to %x, %v", c.line, start, end, ok)
		}
	}
}
