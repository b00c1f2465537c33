package pccrtp

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
)

// get is a GET with headers, which are pairs.
func get(headers ...string) *http.Request {
	r := &http.Request{Method: http.MethodGet, Header: http.Header{}}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

const (
	ae = "Accept-Encoding"
	pd = "X-P2P-PeerDist"
	ex = "X-P2P-PeerDistEx"
)

func TestWanted(t *testing.T) {
	second := Want{Version: Version11, Second: true}
	for _, c := range []struct {
		name string
		r    *http.Request
		want *Want // nil: not wanted
	}{
		{"A", get(ae, "gzip, peerdist", pd, "Version=1.1", ex, "MinContentInformation=1.0, MaxContentInformation=2.0"), &second},
		{"A of version 1 alone", get(ae, "peerdist", pd, "Version=1.1", ex, "MinContentInformation=1.0, MaxContentInformation=1.0"), &Want{Version: Version11}},
		{"A of Windows 7", get(ae, "peerdist", pd, "Version=1.0"), &Want{Version: Version10}},
		{"B", get(ae, "peerdist", pd, "Version=1.1", ex, "MinContentInformation=1.0, MaxContentInformation=2.0, HashRequest=true"), &Want{Version11, true, true}},
		{"names in another case, on several lines", get(ae, "gzip", ae, "PeerDist;q=0.5", pd, "version=1.1", ex, "MAXcontentinformation=2.0", ex, "mincontentinformation = 1.0"), &second},
		{"a later version", get(ae, "peerdist", pd, "Version=1.23"), &Want{Version: Version11}},
		{"a later one still", get(ae, "peerdist", pd, "Version=2.0"), &Want{Version: Version11}},
		{"names that nobody knows", get(ae, "peerdist", pd, "Version=1.1, Later=x,,"), &Want{Version: Version11}},
		{"no missing data", get(ae, "peerdist", pd, "Version=1.1, MissingDataRequest=false"), &Want{Version: Version11}},

		{"D", get(), nil},
		{"encoding alone", get(ae, "peerdist"), nil},
		{"header alone", get(pd, "Version=1.1"), nil},
		{"another encoding", get(ae, "peerdist2, *", pd, "Version=1.1"), nil},
		{"q=0", get(ae, "peerdist;q=0", pd, "Version=1.1"), nil},
		{"q=0.000", get(ae, "peerdist; q=0.000", pd, "Version=1.1"), nil},
		{"no weight", get(ae, "peerdist;q=much", pd, "Version=1.1"), nil},
		{"C", get(pd, "Version=1.1, MissingDataRequest=true"), nil},
		{"C that accepts all the same", get(ae, "peerdist", pd, "Version=1.1, MissingDataRequest=TRUE"), nil},
		{"C with nonsense", get(ae, "peerdist", pd, "Version=1.1, MissingDataRequest=maybe"), nil},
		{"no version", get(ae, "peerdist", pd, "MissingDataRequest=false"), nil},
		{"blanks at the dot", get(ae, "peerdist", pd, "Version=1 .1"), nil},
		{"a version that is none", get(ae, "peerdist", pd, "Version=1"), nil},
		{"a sign", get(ae, "peerdist", pd, "Version=+1.1"), nil},
		{"before all versions", get(ae, "peerdist", pd, "Version=0.9"), nil},
		{"two versions", get(ae, "peerdist", pd, "Version=1.0, Version=1.1"), nil},
		{"least too high", get(ae, "peerdist", pd, "Version=1.1", ex, "MinContentInformation=2.0, MaxContentInformation=2.0"), nil},
		{"most unknown", get(ae, "peerdist", pd, "Version=1.1", ex, "MinContentInformation=1.0, MaxContentInformation=3.0"), nil},
		{"no most", get(ae, "peerdist", pd, "Version=1.1", ex, "MinContentInformation=1.0"), nil},
		{"an empty second header", get(ae, "peerdist", pd, "Version=1.1", ex, ""), nil},
		{"HashRequest=nonsense", get(ae, "peerdist", pd, "Version=1.1", ex, "MinContentInformation=1.0, MaxContentInformation=2.0, HashRequest=1"), nil},
	} {
		got, ok := Wanted(c.r)
		if ok != (c.want != nil) || ok && got != *c.want {
			t.Errorf("%s: %+v %v, want %+v", c.name, got, ok, c.want)
		}
		for _, method := range []string{"HEAD", "POST", "PUT", "BITS_POST"} {
			c.r.Method = method
			if _, ok := Wanted(c.r); ok {
				t.Errorf("%s: wanted by %s", c.name, method)
			}
		}
	}
}

// What is asked for is what the documents show, letter by letter, and is understood.
func TestRequestsOnTheWire(t *testing.T) {
	for _, c := range []struct {
		ask  func(h http.Header)
		wire string
		want *Want
	}{
		{func(h http.Header) { Ask(h, true, false) },
			"Accept-Encoding: peerdist\r\nX-P2P-PeerDist: Version=1.1\r\nX-P2P-PeerDistEx: MinContentInformation=1.0, MaxContentInformation=2.0\r\n", &Want{Version11, true, false}},
		{func(h http.Header) { Ask(h, false, true) },
			"Accept-Encoding: peerdist\r\nX-P2P-PeerDist: Version=1.1\r\nX-P2P-PeerDistEx: MinContentInformation=1.0, MaxContentInformation=1.0, HashRequest=true\r\n", &Want{Version11, false, true}},
		{func(h http.Header) { Ask(h, true, true); AskMissing(h) },
			"Accept-Encoding: identity\r\nX-P2P-PeerDist: Version=1.1, MissingDataRequest=true\r\n", nil},
	} {
		r := get()
		c.ask(r.Header)
		if got := onWire(t, r.Header); got != c.wire {
			t.Errorf("%q, want %q", got, c.wire)
		}
		got, ok := Wanted(get(pairs(r.Header)...))
		if ok != (c.want != nil) || ok && got != *c.want {
			t.Errorf("%s is understood as %+v %v", c.wire, got, ok)
		}
	}
}

func TestAnswersOnTheWire(t *testing.T) {
	for _, c := range []struct {
		answer Answer
		wire   string
	}{
		{Answer{Version: Version11, Encoded: true, Length: 70000001}, "Content-Encoding: peerdist\r\nX-P2P-PeerDist: Version=1.1, ContentLength=70000001\r\n"},
		{Answer{Version: Version10}, "X-P2P-PeerDist: Version=1.0\r\n"},
		{Answer{Version: Version11, MakeHash: true}, "X-P2P-PeerDist: Version=1.1\r\nX-P2P-PeerDistEx: MakeHashRequest=true\r\n"},
	} {
		h := http.Header{}
		c.answer.Set(h)
		if got := onWire(t, h); got != c.wire {
			t.Errorf("%q, want %q", got, c.wire)
		}
		if got, ok := Answered(get(pairs(h)...).Header); !ok || got != c.answer {
			t.Errorf("%s is understood as %+v %v", c.wire, got, ok)
		}
	}
	for _, headers := range [][]string{
		{}, {"Content-Encoding", "peerdist"}, {pd, "Version=x"}, {pd, "Version=1.1", "Content-Encoding", "peerdist"},
		{pd, "Version=1.1, ContentLength=-1", "Content-Encoding", "peerdist"}, {pd, "Version=1.1, ContentLength=9223372036854775808", "Content-Encoding", "peerdist"},
	} {
		a, ok := Answered(get(headers...).Header)
		if ok || a.Encoded != (strings.Contains(strings.Join(headers, " "), "peerdist")) {
			t.Errorf("%q: %+v %v", headers, a, ok)
		}
	}
	if a, _ := Answered(get(pd, "Version=1.1, ContentLength=1", "Content-Encoding", "gzip, peerdist").Header); a.Encoded {
		t.Error("content information within gzip is taken for content information")
	}
}

func onWire(t *testing.T, h http.Header) string {
	t.Helper()
	var b bytes.Buffer
	if err := h.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func pairs(h http.Header) (out []string) {
	for name, values := range h {
		for _, v := range values {
			out = append(out, name, v)
		}
	}
	return out
}

func FuzzHeaders(f *testing.F) {
	f.Add("gzip, peerdist;q=1", "Version=1.1, ContentLength=3", "MinContentInformation=1.0, MaxContentInformation=2.0, HashRequest=true")
	f.Add("peerdist", "Version=1.0,MissingDataRequest=false", "MakeHashRequest=true")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		r := get(ae, a, pd, b, ex, c, "Content-Encoding", a)
		if w, ok := Wanted(r); ok {
			if w.Version != Version10 && w.Version != Version11 {
				t.Errorf("%+v", w)
			}
		}
		if got, ok := Answered(r.Header); ok {
			h := http.Header{}
			got.Set(h)
			again, ok := Answered(get(pairs(h)...).Header)
			if !ok || again != got {
				t.Errorf("%+v becomes %+v", got, again)
			}
		}
	})
}
