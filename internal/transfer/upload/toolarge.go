package upload

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// TooLarge says that a file of size bytes is more than a server takes, and how much that is if its
// answer tells by the IETF draft's Upload-Limit or tus's Tus-Max-Size.
func TooLarge(size int64, h http.Header) string {
	if most, ok := mostOf(h); ok && most < size {
		return fmt.Sprintf("the file has %d bytes, and the server takes %d at most", size, most)
	}
	return fmt.Sprintf("the file has %d bytes, more than the server takes", size)
}

// mostOf reads how long a file the server takes.
func mostOf(h http.Header) (int64, bool) {
	values := h.Values("Tus-Max-Size")
	for item := range strings.SplitSeq(strings.Join(h.Values("Upload-Limit"), ","), ",") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(item), "max-size="); ok {
			value, _, _ = strings.Cut(value, ";")
			values = append(values, value)
		}
	}
	for _, v := range values {
		if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil && n >= 0 {
			return n, true
		}
	}
	return 0, false
}

// NotMade is the error of an answer that refuses to begin an upload of size bytes.
func NotMade(a *Answer, size int64) error {
	doing := "the server did not make an upload"
	if a.Response.StatusCode == http.StatusRequestEntityTooLarge {
		doing = TooLarge(size, a.Response.Header)
	}
	return a.Err(doing)
}
