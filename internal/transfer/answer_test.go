package transfer

import (
	"net/http"
	"strings"
	"testing"
)

func TestHeaderText(t *testing.T) {
	long := strings.Repeat("x", maxHeaderText)
	for _, c := range []struct {
		name   string
		header http.Header
		want   string
	}{
		{"in the order of names", http.Header{"Etag": {`"1"`}, "Date": {"now"}, "Link": {"<a>", "<b>"}}, "Date: now\r\nEtag: \"1\"\r\nLink: <a>\r\nLink: <b>\r\n"},
		{"no cookies", http.Header{"Set-Cookie": {"a=b"}, "Set-Cookie2": {"c=d"}}, ""},
		{"what is too long is counted, and what fits is there", http.Header{"Content-Security-Policy": {long}, "Retry-After": {"1"}, "X": {long, "y"}},
			"Retry-After: 1\r\nX: y\r\nEbb-Left-Out: 2\r\n"},
		{"no server says so", http.Header{"Ebb-Left-Out": {"9"}}, ""},
	} {
		got := headerText(&http.Response{Proto: "HTTP/1.1", Status: "200 OK", Header: c.header})
		if want := "HTTP/1.1 200 OK\r\n" + c.want; got != want {
			t.Errorf("%s: %.200q, want %.200q", c.name, got, want)
		}
	}
	if got := headerText(&http.Response{Proto: "HTTP/1.1", Status: "200 " + long}); len(got) > 300 {
		t.Errorf("a long status line has %d bytes", len(got))
	}
}
