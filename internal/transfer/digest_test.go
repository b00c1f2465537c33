package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peers"
	"github.com/ebbtransfer/ebb/internal/store"
)

// pair returns two machines that are each other's hosted caches, which works over the loopback too.
func pair(t *testing.T, change func(s *peers.Settings)) [2]*machine {
	t.Helper()
	var ports [2]int
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	var out [2]*machine
	for i := range out {
		out[i] = newMachine(t)
		s := out[i].node.Settings()
		s.Mode, s.Port, s.Uploads, s.DigestMode = peers.Hosted, uint16(ports[i]), 64, true
		s.HostedCaches = []string{fmt.Sprintf("127.0.0.1:%d", ports[1-i])}
		if change != nil {
			change(&s)
		}
		if err := out[i].node.Apply(s); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// plainOrigin is a server that knows nothing of content information.
func plainOrigin(t *testing.T, size int) *origin {
	o := newOrigin(t, size)
	o.plain = true
	o.header = http.Header{}
	return o
}

// until makes the origin slow until something has happened, or for so long that all has come nevertheless.
func (o *origin) until(happened func() bool) {
	o.serve = func(b []byte, _ int64) bool {
		if !happened() {
			time.Sleep(20 * time.Millisecond)
		}
		return true
	}
}

func (o *origin) checksum() string {
	sum := sha256.Sum256(o.content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// getKnown fetches the origin's file, of which a checksum is known.
func (m *machine) getKnown(o *origin, job Job) *store.File {
	m.t.Helper()
	f := m.file(o)
	f.Checksum = o.checksum()
	out, sink := m.fetch(m.t.Context(), job, f)
	return m.check(o, out, sink)
}

// TestDigestMode: of a file with a digest the second machine gets blocks from the first one, whoever has told the digest.
func TestDigestMode(t *testing.T) {
	for _, by := range []string{"owner", "server"} {
		t.Run(by, func(t *testing.T) {
			o := plainOrigin(t, 40<<20)
			sum := sha256.Sum256(o.content)
			get := func(m *machine) *store.File { return m.getKnown(o, Job{}) }
			if by == "server" {
				o.header.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
				get = func(m *machine) *store.File { return m.get(o) }
			}
			two := pair(t, nil)
			if f := get(two[0]); f.Part.Peers != 0 || two[0].node.Cache().Used() != o.size() {
				t.Fatalf("the first one has %d bytes in its cache, the record is %+v", two[0].node.Cache().Used(), f.Part)
			}
			o.until(func() bool { return two[1].node.Status().Stats.Fetched > 0 })
			o.sent.Store(0)
			f := get(two[1])
			if f.Part.Peers == 0 || f.Part.Peers+o.sent.Load() < o.size() {
				t.Errorf("the origin sent %d bytes, the record is %+v", o.sent.Load(), f.Part)
			}
			// What it got it has.
			o.until(func() bool { return o.sent.Load() > 8<<20 })
			o.sent.Store(0)
			if f = get(two[1]); f.Part.Cached == 0 || o.sent.Load() >= o.size() {
				t.Errorf("the origin sent %d bytes, the record is %+v", o.sent.Load(), f.Part)
			}
		})
	}
}

// TestDigestModeIsForPublicFiles: nothing is given to others, nor asked of them, that not everybody may have, as far as it
// shows, or where nobody wants it.
func TestDigestModeIsForPublicFiles(t *testing.T) {
	for name, change := range map[string]func(o *origin, s *peers.Settings, job *Job){
		"off":           func(_ *origin, s *peers.Settings, _ *Job) { s.DigestMode = false },
		"opted out":     func(_ *origin, _ *peers.Settings, job *Job) { job.NoPeers = true },
		"private":       func(o *origin, _ *peers.Settings, _ *Job) { o.header.Set("Cache-Control", "max-age=5, Private") },
		"not stored":    func(o *origin, _ *peers.Settings, _ *Job) { o.header.Set("Cache-Control", "no-store") },
		"authorisation": func(_ *origin, _ *peers.Settings, job *Job) { job.Header = http.Header{"Authorization": {"Bearer x"}} },
		"a cookie":      func(_ *origin, _ *peers.Settings, job *Job) { job.Header = http.Header{"Cookie": {"a=b"}} },
	} {
		t.Run(name, func(t *testing.T) {
			o := plainOrigin(t, 2<<20)
			job := Job{}
			two := pair(t, func(s *peers.Settings) { change(o, s, &job) })
			two[0].getKnown(o, job)
			if used := two[0].node.Cache().Used(); used != 0 {
				t.Errorf("%d bytes are for others", used)
			}
			if f := two[1].getKnown(o, job); f.Part.Peers != 0 {
				t.Errorf("%d bytes are from peers", f.Part.Peers)
			}
		})
	}
	// A digest that came without TLS is nobody's word, unless the administrator takes it.
	o := plainOrigin(t, 2<<20)
	sum := sha256.Sum256(o.content)
	o.header.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
	two := pair(t, func(s *peers.Settings) { s.PlainHTTP = false })
	two[0].get(o)
	if used := two[0].node.Cache().Used(); used != 0 {
		t.Errorf("%d bytes are for others by the word of a server without TLS", used)
	}
}

// TestIndexesThatLie: who says of a file what is not true wastes a moment, and is banned and named.
func TestIndexesThatLie(t *testing.T) {
	for name, wrong := range map[string]func(content []byte){
		"in all of it":     func(b []byte) { copy(b, noise(len(b), 9)) },
		"at the end":       func(b []byte) { b[len(b)-1] ^= 1 },
		"at the beginning": func(b []byte) { b[0] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			o := plainOrigin(t, 12<<20)
			sum := sha256.Sum256(o.content)
			two := pair(t, nil)
			lie := bytes.Clone(o.content)
			wrong(lie)
			// The first one has other bytes under the digest.
			h, err := peerdist.Generate(t.Context(), bytes.NewReader(lie), peerdist.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			info, err := h.Info(peerdist.SHA256.ServerKey(peerdist.DigestSecret(sum[:])), bits.Range{Length: o.size()})
			if err != nil {
				t.Fatal(err)
			}
			for i := range info.Segments[0].Blocks() {
				at, n := info.Segments[0].Block(i)
				if err := two[0].node.Cache().Put(&info.Segments[0], i, lie[at:at+n]); err != nil {
					t.Fatal(err)
				}
			}
			if err := two[0].node.PublishIndex(info, sum[:]); err != nil {
				t.Fatal(err)
			}
			o.until(func() bool { return two[1].log.blames("127.0.0.1") })
			two[1].getKnown(o, Job{})
			if !two[1].log.blames("127.0.0.1") {
				t.Errorf("the log says %q", two[1].log.text.String())
			}
			if f := two[1].getKnown(o, Job{}); f.Part.Peers != 0 {
				t.Errorf("%d bytes are from a peer that is banned", f.Part.Peers)
			}
		})
	}
}

// TestStopInDigestMode: what peers gave is proven by the digest too when it goes on with the server alone.
func TestStopInDigestMode(t *testing.T) {
	for _, lies := range []bool{false, true} {
		t.Run(fmt.Sprintf("lies %v", lies), func(t *testing.T) {
			o := plainOrigin(t, 6<<20)
			sum := sha256.Sum256(o.content)
			o.header.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
			m := newMachine(t)
			f := m.file(o)
			// As a service leaves it that was killed: the first half, by the word of a peer.
			half := o.size() / 2
			content := bytes.Clone(o.content[:half])
			if lies {
				content[1000] ^= 1
			}
			path := (&Job{}).Path(f.Local, 0)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			f.Size, f.Done = o.size(), half
			f.Part = &store.Part{ETag: o.tag, Total: o.size(), Digest: o.checksum(), Peers: half, Filled: []bits.Range{{Length: half}}}
			out, sink := m.fetch(context.Background(), Job{}, f)
			f = m.check(o, out, sink)
			// Else it goes on with what is here.
			if lies != strings.Contains(f.Part.Note, "did not have the checksum") || lies != strings.Contains(f.Part.Note, "started again") {
				t.Errorf("the note is %q", f.Part.Note)
			}
		})
	}
}
