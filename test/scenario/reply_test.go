package scenario

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// farm answers like IIS with its BITS Server Extensions does in the second recorded example (server.md 1.15 B): it names a
// host for the packets, and a reply by a relative path with backslashes, which is there until the session is closed.
type farm struct {
	t       *testing.T
	host    string // BITS-Host-Id
	session string
	reply   []byte // what the application wrote; nil: the Ack names a reply that is not there

	mu      sync.Mutex
	log     []string // guarded by mu: what was asked, in words
	open    bool     // guarded by mu: there is a session
	body    []byte   // guarded by mu: of the upload
	replies int      // guarded by mu: answers with bytes of the reply
}

const farmPath = "/upload-ref-isapi-WebFarm/"

func (f *farm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kind := r.Header.Get("BITS-Packet-Type")
	if r.Method != "BITS_POST" {
		f.log = append(f.log, r.Method+" "+r.URL.Path)
		want := farmPath + "BITS-Sessions/Replies/" + f.session + "/responsefile.bin"
		if !f.open || f.reply == nil || r.URL.Path != want {
			http.NotFound(w, r)
			return
		}
		f.replies++
		w.Header().Set("ETag", `"0123456789abcdef"`)
		http.ServeContent(w, r, "", time.Date(2007, 6, 18, 21, 1, 56, 0, time.UTC), bytes.NewReader(f.reply))
		return
	}
	f.log = append(f.log, kind)
	body, _ := io.ReadAll(r.Body)
	h := w.Header()
	h["BITS-Packet-Type"] = []string{"Ack"} // as Windows spells it
	h.Set("Content-Length", "0")
	if kind != "Create-Session" && kind != "Ping" && (!f.open || r.Header.Get("BITS-Session-Id") != f.session) {
		h["BITS-Error-Code"], h["BITS-Error-Context"] = []string{"0x8020001F"}, []string{"0x5"}
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	switch kind {
	case "Create-Session":
		f.open = true
		h["BITS-Protocol"] = []string{"{7df0354d-249b-430f-820d-3d2a9bef4931}"}
		h["BITS-Session-Id"] = []string{f.session}
		h["BITS-Host-Id"], h["BITS-Host-Id-Fallback-Timeout"] = []string{f.host}, []string{"110"}
	case "Fragment":
		var first, last, total int
		if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); err != nil || first != len(f.body) {
			f.t.Errorf("a fragment of %q after %d bytes: %v", r.Header.Get("Content-Range"), len(f.body), err)
		}
		f.body = append(f.body, body...)
		h["BITS-Received-Content-Range"] = []string{fmt.Sprint(len(f.body))}
		if len(f.body) == total {
			h["BITS-Reply-URL"] = []string{`BITS-Sessions\Replies\` + f.session + `\responsefile.bin`}
		}
	case "Close-Session", "Cancel-Session":
		f.open = false
	}
}

// TestReplyOfAServerLikeIIS fetches a reply that the server deletes when the session is closed.
func TestReplyOfAServerLikeIIS(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	_, order := s.source("order", 4892, 1)
	_, reply := s.source("expected", 10240, 2)
	serve := func(t *testing.T, reply []byte) (*farm, string) {
		f := &farm{t: t, session: "{C85B4E0A-9EB9-4114-BFA4-8A43B4710091}", reply: reply}
		srv := httptest.NewUnstartedServer(f)
		f.host = srv.Listener.Addr().String()
		srv.Start()
		t.Cleanup(srv.Close)
		return f, srv.URL + farmPath + "order"
	}

	t.Run("by the command line", func(t *testing.T) {
		s := s.in(t)
		f, url := serve(t, reply)
		s.cli("put", "--protocol", "bits", "--reply", "answer", "order", url).want(t, 0)
		if got, err := os.ReadFile(filepath.Join(s.dir, "answer")); err != nil || !bytes.Equal(got, reply) {
			t.Errorf("the reply has %d bytes, %v", len(got), err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if !bytes.Equal(f.body, order) {
			t.Errorf("the server got %d bytes", len(f.body))
		}
		if f.open || f.replies == 0 || f.log[len(f.log)-1] != "Close-Session" {
			t.Errorf("the server was asked for %q, the session is open: %v", f.log, f.open)
		}
	})
	t.Run("as data", func(t *testing.T) {
		s := s.in(t)
		_, url := serve(t, reply)
		job := s.upload(uploaded{file: filepath.Join(s.dir, "order"), url: url, reply: true})
		s.settled(job, bits.Transferred)
		if got, err := job.ReplyData(s.ctx()); err != nil || !bytes.Equal(got, reply) {
			t.Errorf("the reply has %d bytes, %v", len(got), err)
		}
		s.complete(job)
	})
	t.Run("a reply that is not there", func(t *testing.T) {
		s := s.in(t)
		_, url := serve(t, nil)
		job := s.upload(uploaded{file: filepath.Join(s.dir, "order"), url: url, reply: true})
		info := s.settled(job, bits.Errored)
		if info.Error == nil || info.Error.Code != bits.HTTPStatus(404).Name() {
			t.Errorf("it ends in %+v", info.Error)
		}
	})
}
