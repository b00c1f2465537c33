package tap

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/internal/bupwire"
)

func TestReturns(t *testing.T) {
	at := func(from, length, passed int64) Fragment {
		return Fragment{Range: bupwire.RangeOf(from, length, 1000), Passed: passed}
	}
	for _, c := range []struct {
		name string
		log  []Fragment
		want []Return
	}{
		{"none", []Fragment{at(0, 100, 100), at(100, 100, 100)}, nil},
		{"a fragment once more", []Fragment{at(0, 100, 100), at(100, 100, 60), at(100, 100, 100), at(200, 100, 100)}, []Return{{60, at(100, 100, 60)}}},
		{"in shorter ones", []Fragment{at(0, 100, 60), at(0, 25, 25), at(25, 25, 25), at(50, 25, 25), at(75, 100, 100)}, []Return{{60, at(0, 100, 60)}}},
		{"the server has what came", []Fragment{at(0, 100, 60), at(0, 5, 5), at(58, 100, 100)}, []Return{{7, at(0, 100, 60)}}},
		{"the server has less than was thought", []Fragment{at(100, 100, 60), at(150, 5, 5), at(110, 100, 100)}, []Return{{10, at(100, 100, 60)}, {45, at(100, 100, 60)}}},
		{"cut again", []Fragment{at(0, 100, 60), at(0, 25, 25), at(25, 25, 5), at(25, 25, 25), at(50, 100, 100)}, []Return{{60, at(0, 100, 60)}, {5, at(0, 100, 60)}}},
		{"from the start", []Fragment{at(0, 100, 100), at(100, 100, 60), at(0, 100, 100), at(100, 100, 100)}, []Return{{160, at(100, 100, 60)}}},
		{"a fragment that did not come", []Fragment{at(0, 100, 60), at(0, 100, 0), at(0, 100, 100)}, []Return{{60, at(0, 100, 60)}}},
	} {
		if got := Returns(c.log); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFragmentsThatPass(t *testing.T) {
	var got strings.Builder
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(&got, r.Body) }))
	defer srv.Close()
	tap, err := New(srv.Listener.Addr().String(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	send := func(contentRange, body string) {
		t.Helper()
		req, err := http.NewRequest("BITS_POST", tap.URL()+"/file", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Range", contentRange)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	send("bytes 0-3/9", "abcd")
	send("", "no fragment")
	send("bytes 4-8/9", "efghi")
	if got.String() != "abcdno fragmentefghi" {
		t.Errorf("the server got %q", got.String())
	}
	client.CloseIdleConnections()
	tap.Close() // the server answers before the tap has counted
	want := []Fragment{{"/file", bupwire.RangeOf(0, 4, 9), 4}, {"/file", bupwire.RangeOf(4, 5, 9), 5}}
	if got := tap.Fragments(); !slices.Equal(got, want) {
		t.Errorf("%v passed, want %v", got, want)
	}
	if tap.Forget(); tap.Fragments() != nil {
		t.Error("the tap has not forgotten")
	}
}
