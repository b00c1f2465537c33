package ietf

import (
	"strconv"
	"strings"
)

// limits are what a server says of uploads (4.1.4), in bytes.
type limits struct {
	maxSize   int64 // -1 if there is none
	minSize   int64
	maxAppend int64 // of one request; 0 if there is none
	minAppend int64 // of one request but the last
}

var noLimits = limits{maxSize: -1}

// parseLimits reads Upload-Limit, a dictionary of integers (RFC 9651 3.2). Of what it does not
// understand it takes nothing: a limit that exists all the same the server will tell by refusing.
func parseLimits(values []string) limits {
	l := noLimits
	for item := range strings.SplitSeq(strings.Join(values, ","), ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(item), "=")
		n, ok := number([]string{value})
		if !ok {
			continue
		}
		switch key {
		case "max-size":
			l.maxSize = n
		case "min-size":
			l.minSize = n
		case "max-append-size":
			l.maxAppend = n
		case "min-append-size":
			l.minAppend = n
		}
	}
	if l.maxAppend > 0 {
		l.minAppend = min(l.minAppend, l.maxAppend)
	}
	return l
}

// number reads an integer (RFC 9651 3.3.1) that is not negative; its parameters mean nothing here.
func number(values []string) (int64, bool) {
	s, ok := item(values)
	if !ok || s == "" || len(s) > 15 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// boolean reads a boolean (RFC 9651 3.3.6). It reports as the second whether there is one.
func boolean(values []string) (value, ok bool) {
	s, _ := item(values)
	return s == "?1", s == "?1" || s == "?0"
}

// item returns the one item of a header without its parameters.
func item(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	s, _, _ := strings.Cut(values[0], ";")
	return strings.Trim(s, " \t"), true
}
