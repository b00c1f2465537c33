package daemon

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unmapProgram takes the pages of the program that are as they are in its file out of the process's memory:
// of tens of megabytes that starting and working needed, waiting needs a few. They come back when they are
// used, from the system's cache. What was changed after it was mapped, as by the dynamic linker before it
// was made read-only, stays.
func unmapProgram() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()
	var start, end uintptr
	ours := false
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		name, value, attribute := strings.Cut(lines.Text(), ":")
		switch {
		case !attribute || strings.Contains(name, " "): // the first line of a mapping
			start, end, ours = programMap(lines.Text(), program)
		case ours && name == "Anonymous" && strings.TrimSpace(value) == "0 kB":
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
		}
	}
}

// programMap returns the place of a mapping of the program's file that cannot be written, from its line of
// proc(5), for example
//
//	00400000-018e6000 r-xp 00000000 fe:00 9978633    /usr/bin/ebb
func programMap(line, program string) (start, end uintptr, ok bool) {
	f := strings.Fields(line)
	if len(f) != 6 || f[5] != program || len(f[1]) != 4 || f[1][1] != '-' || f[1][3] != 'p' {
		return 0, 0, false
	}
	from, to, _ := strings.Cut(f[0], "-")
	a, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return 0, 0, false
	}
	b, err := strconv.ParseUint(to, 16, 64)
	return uintptr(a), uintptr(b), err == nil && a < b
}
