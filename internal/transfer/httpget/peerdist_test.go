package httpget

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

var settled, _ = http.ParseTime(modified) // when content was changed, long ago

// described is content information of content.
func described(t testing.TB, a peerdist.Algorithm, r bits.Range) []byte {
	t.Helper()
	h, err := peerdist.Generate(t.Context(), bytes.NewReader(content), a)
	if err != nil {
		t.Fatal(err)
	}
	info, err := h.Info(a.ServerKey([]byte("secret")), r)
	if err != nil {
		t.Fatal(err)
	}
	return info.Append(nil)
}

// TestContentInformation: what a server answers when it is asked for content information. What cannot be
// used is the file's bytes in the end, always.
func TestContentInformation(t *testing.T) {
	all := bits.Range{Length: int64(len(content))}
	v1, v2 := described(t, peerdist.SHA256, all), described(t, peerdist.TruncatedSHA512, all)
	const none = 0
	for _, c := range []struct {
		name   string
		body   []byte
		status int
		header string // of the answer, in the place of what is right
		want   int    // version of what is read, none for the file's bytes
	}{
		{"version 1", v1, 200, "", 1},
		{"version 2", v2, 200, "", 2},
		{"part that is all", v2, 206, "", 2},
		{"old server", v1, 200, "X-P2P-PeerDist: version=1.0 , contentlength=100000", 1},
		{"no length", v1, 200, "X-P2P-PeerDist: Version=1.1", none},
		{"no length of a part", v1, 206, "X-P2P-PeerDist: Version=1.1", none},
		{"negative length", v1, 200, "X-P2P-PeerDist: Version=1.1, ContentLength=-100000", none},
		{"another length", v1, 200, "X-P2P-PeerDist: Version=1.1, ContentLength=100001", none},
		{"another length of a part", v1, 206, "X-P2P-PeerDist: Version=1.1, ContentLength=7", none},
		{"another part", v1, 206, "Content-Range: bytes 0-9/100000", none},
		{"no field", v1, 200, "X-P2P-PeerDist: ", none},
		{"of a range", described(t, peerdist.SHA256, bits.Range{Length: 70_000}), 200, "", none},
		{"of a range, with its length", described(t, peerdist.SHA256, bits.Range{Length: 70_000}), 200, "X-P2P-PeerDist: Version=1.1, ContentLength=70000", none},
		{"of a range from the middle", described(t, peerdist.TruncatedSHA512, bits.Range{Offset: 90_000, Length: 10_000}), 200, "", none},
		{"nothing", nil, 200, "", none},
		{"garbage", []byte("garbage"), 200, "", none},
		{"cut", v2[:len(v2)-1], 200, "", none},
		{"longer than the file", slices.Concat(v1, make([]byte, len(content))), 200, "", none},
		{"something behind it", slices.Concat(v1, make([]byte, 3)), 200, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked []string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Header.Get("Accept-Encoding")+"; "+r.Header.Get("X-P2P-PeerDist"))
				w.Header().Set("Etag", `"a"`)
				if r.Header.Get("Accept-Encoding") != "peerdist" {
					http.ServeContent(w, r, "", settled, bytes.NewReader(content))
					return
				}
				if got := r.Header.Get("Range"); got != "" {
					t.Errorf("Range is %q", got)
				}
				if got := r.Header.Get("X-P2P-PeerDistEx"); got != "MinContentInformation=1.0, MaxContentInformation=2.0" {
					t.Errorf("X-P2P-PeerDistEx is %q", got)
				}
				w.Header().Set("Content-Encoding", "PeerDist")
				w.Header().Set("X-P2P-PeerDist", "Version=1.1, ContentLength=100000")
				if c.status == http.StatusPartialContent {
					w.Header().Set("Content-Range", "bytes 0-99999/100000")
				}
				if name, value, ok := strings.Cut(c.header, ": "); ok {
					w.Header().Set(name, value)
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(c.body)))
				w.WriteHeader(c.status)
				_, _ = w.Write(c.body)
			}))
			defer s.Close()
			client := New(httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler))))
			r, err := client.Get(t.Context(), Request{URL: s.URL, PeerDist: PeerDist{Version: 2}})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			got := none
			if r.Info {
				info, err := r.ReadInfo(t.Context(), func() {})
				if err == nil {
					got = info.Version()
				} else if !ErrInfo(err) {
					t.Errorf("the error is %v", err)
				}
			}
			if got != c.want {
				t.Errorf("version %d is read, want %d", got, c.want)
			}
			if r.Info && (!r.Speaks || r.Validator.ETag != `"a"`) {
				t.Errorf("the answer is %+v", r)
			}
			if !r.Info && (len(asked) != 2 || asked[1] != "identity; Version=1.1, MissingDataRequest=true" || r.Validator.Size != 100_000) {
				t.Errorf("asked %q", asked)
			}
		})
	}
}

// TestNoContentInformation: servers that have none.
func TestNoContentInformation(t *testing.T) {
	for _, c := range []struct {
		name          string
		header        http.Header
		refuses       int // status for who asks for it
		speaks, makes bool
	}{
		{name: "knows nothing of it"},
		{"makes it", http.Header{"X-P2P-PeerDist": {"Version=1.1"}, "X-P2P-PeerDistEx": {"makehashrequest=TRUE"}}, 0, true, true},
		{"does not for this file", http.Header{"X-P2P-PeerDist": {"Version=1.1"}}, 0, true, false},
		{"cannot make what it does not speak", http.Header{"X-P2P-PeerDistEx": {"MakeHashRequest=true"}}, 0, false, false},
		{name: "takes offence", refuses: 406},
		{name: "does not understand", refuses: 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			requests := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests++
				if c.refuses > 0 && r.Header.Get("X-P2P-PeerDist") != "" {
					w.WriteHeader(c.refuses)
					return
				}
				for name, v := range c.header {
					w.Header()[name] = v
				}
				http.ServeContent(w, r, "", settled, bytes.NewReader(content))
			}))
			defer s.Close()
			client := New(httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler))))
			r, err := client.Get(t.Context(), Request{URL: s.URL, PeerDist: PeerDist{Version: 1, Make: true}})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			want := 1
			if c.refuses > 0 {
				want = 2
			}
			if r.Info || !r.Ranges || r.Speaks != c.speaks || r.Makes != c.makes || r.Length != int64(len(content)) || requests != want {
				t.Errorf("the answer is %+v after %d requests", r, requests)
			}
		})
	}
}

// TestRedirectedContentInformation: the question goes along to another host, where nothing of the owner's
// goes; and so do those for bytes.
func TestRedirectedContentInformation(t *testing.T) {
	var seen []string
	end := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, fmt.Sprint(r.Header.Get("X-P2P-PeerDist"), "; ", r.Header.Get("X-P2P-PeerDistEx"), "; ", r.Header.Get("X-Mine")))
		w.Header().Set("Etag", `"a"`)
		http.ServeContent(w, r, "", settled, bytes.NewReader(content))
	}))
	defer end.Close()
	s := httptest.NewServer(http.RedirectHandler(end.URL, http.StatusFound))
	defer s.Close()
	client := New(httpconn.New("test", governor.New("", slog.New(slog.DiscardHandler))))
	mine := http.Header{"X-Mine": {"mine"}}
	r, err := client.Get(t.Context(), Request{URL: s.URL, Header: mine, PeerDist: PeerDist{Version: 2, Make: true}})
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	p, err := client.GetParts(t.Context(), PartsRequest{URL: s.URL, Header: mine, Ranges: []bits.Range{{Length: 5}}, PeerDist: PeerDist{Missing: true}})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	want := []string{"Version=1.1; MinContentInformation=1.0, MaxContentInformation=2.0, HashRequest=true; ", "Version=1.1, MissingDataRequest=true; ; "}
	if !slices.Equal(seen, want) {
		t.Errorf("the server saw\n%q, want\n%q", seen, want)
	}
}
