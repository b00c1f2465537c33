package main

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"runtime"
	"strings"
	"unicode/utf16"
)

// plainText returns a text as UTF-8 without a byte order mark. Windows writes UTF-16 too, and PowerShell
// does where it is not told otherwise; a byte order mark says so. Half a character at the end is left out.
func plainText(b []byte) []byte {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		return bytes.TrimPrefix(b, []byte("\ufeff"))
	}
	units := make([]uint16, 0, len(b)/2)
	for b = b[2:]; len(b) >= 2; b = b[2:] {
		units = append(units, order.Uint16(b))
	}
	return []byte(string(utf16.Decode(units)))
}

// belowType empties the lines before the names of the columns of comma-separated values: Export-Csv of
// PowerShell 5.1 writes there of which type its objects are.
func belowType(csv []byte) []byte {
	var empty []byte
	for bytes.HasPrefix(csv, []byte("#")) {
		_, csv, _ = bytes.Cut(csv, []byte("\n"))
		empty = append(empty, '\n')
	}
	return append(empty, csv...)
}

// localName returns the absolute path of a file or directory of this machine that a command line of
// BITS's own tools names. What is a path on Windows would here be one odd name in the current directory,
// which nobody means: it is refused.
func localName(name string) (string, error) {
	drive := len(name) > 2 && name[1] == ':' && (name[2] == '\\' || name[2] == '/') && (name[0]|0x20 >= 'a' && name[0]|0x20 <= 'z')
	if runtime.GOOS != "windows" && (drive || strings.Contains(name, `\`) && !strings.Contains(name, "/")) {
		return "", hinted(usagef("%q is a path of Windows", name), "give a path of this machine, such as /srv/files/image.iso; a name that is meant as it stands begins with ./")
	}
	return filepath.Abs(name)
}
