package pccrr

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// The security model of peercache.md 11, row by row, as far as it is this protocol's. Rows that others keep are
// tested there: privacy of the secret, no-store and stale content (rows 6 to 8, 10) in serve/files and
// scenario.TestServeBranchCache..., reflection and XML (rows 4 and 5) in disco and pccrd, what is at rest in
// cache and scenario.TestServeHostedCache.

// recorded is a peer behind a wire that is listened to.
type recorded struct {
	mu   sync.Mutex
	wire bytes.Buffer
}

func (r *recorded) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wire.Write(b)
}

// listens passes connections on to a peer, and records all bytes of both directions.
func (r *recorded) listens(t *testing.T, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			peer, err := net.Dial("tcp", to.String())
			if err != nil {
				c.Close()
				continue
			}
			go func() { _, _ = io.Copy(peer, io.TeeReader(c, r)); peer.Close() }()
			go func() { _, _ = io.Copy(c, io.TeeReader(peer, r)); c.Close() }()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// described is content with segments under a server's secret.
func described(t *testing.T, body []byte, a peerdist.Algorithm, secret string) []peerdist.Segment {
	t.Helper()
	h, err := peerdist.Generate(context.Background(), bytes.NewReader(body), a)
	if err != nil {
		t.Fatal(err)
	}
	f, err := h.Info(a.ServerKey([]byte(secret)), bits.Range{Length: h.Size})
	if err != nil {
		t.Fatal(err)
	}
	return f.Segments
}

// TestSecurityConfidentialityOnTheLAN: what goes over the wire are public ids and what is encrypted.
func TestSecurityConfidentialityOnTheLAN(t *testing.T) {
	body := bytes.Repeat([]byte("what nobody else may read "), 20000)
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
		all := described(t, body, a, "secret")
		var wire recorded
		peer := wire.listens(t, serving(t, NewServer(filled(t, body, all, whole), DefaultUploads, everybody), "127.0.0.1:0"))
		c, _ := client(t)
		s := &all[0]
		if came, _ := fetch(t, c, s, body, upTo(s.Blocks()), peer); len(came) != s.Blocks() {
			t.Fatalf("%d of %d blocks came", len(came), s.Blocks())
		}
		wire.mu.Lock()
		b := bytes.Clone(wire.wire.Bytes())
		wire.mu.Unlock()
		if !bytes.Contains(b, s.ID()) || bytes.Contains(b, []byte("nobody else")) || bytes.Contains(b, s.Secret[:16]) || bytes.Contains(b, s.HashOfData) ||
			len(s.Hashes) > 0 && bytes.Contains(b, s.Hashes[:32]) {
			t.Errorf("%d bytes on the wire tell more than the id", len(b))
		}
	}
}

// TestSecurityWithoutAuthorisationAtTheOrigin: who has no content information, but heard all public ids and asks
// for every block, has nothing that he can read, nor anything that tells him whether a guess is right.
func TestSecurityWithoutAuthorisationAtTheOrigin(t *testing.T) {
	body := random(10*peerdist.BlockSize + 77)
	all := described(t, body, peerdist.SHA256, "secret")
	peer := serving(t, NewServer(filled(t, body, all, whole), DefaultUploads, everybody), "127.0.0.1:0")
	c, _ := client(t)
	s := &all[0]
	guesses := map[string]peerdist.Secret{
		"of another server": described(t, body, peerdist.SHA256, "guess")[0].Secret, // who has the content itself
		"the id":            s.ID(),
		"the hash of data":  s.HashOfData,
		"zeros":             make([]byte, 32),
	}
	for i := range s.Blocks() {
		_, n := s.Block(i)
		sealed, cipher, _, err := c.Sealed(t.Context(), peer, s.ID(), i, n, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, guess := range guesses {
			b := sealed
			b.Data = bytes.Clone(sealed.Data)
			if plain, err := Open(cipher, guess, b); err == nil && s.Verify(i, plain) {
				t.Errorf("block %d opens with %s", i, name)
			}
		}
		b := sealed
		b.Data = bytes.Clone(sealed.Data)
		if plain, err := Open(cipher, s.Secret, b); err != nil || !s.Verify(i, plain) {
			t.Errorf("block %d does not open for who may read it: %v", i, err)
		}
	}
}

// TestSecurityPrivacyOfInterest: an id tells nothing of the content to who has that, unless he has a secret of
// the server too; each server has its own.
func TestSecurityPrivacyOfInterest(t *testing.T) {
	body := random(200000)
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
		one, two := described(t, body, a, "one"), described(t, body, a, "two")
		for i := range one {
			if bytes.Equal(one[i].ID(), two[i].ID()) || bytes.Equal(one[i].ID(), one[i].HashOfData) || bytes.Equal(one[i].ID(), one[i].Secret) {
				t.Errorf("segment %d has an id that the content tells", i)
			}
			if !bytes.Equal(one[i].HashOfData, two[i].HashOfData) {
				t.Error("the content has two hashes")
			}
		}
	}
}

// TestSecurityThreats are the threats of the table that a peer is. Each lies in its way; what comes is right all the
// same, from an honest one, and the liar is asked once and no more.
func TestSecurityThreats(t *testing.T) {
	body := random(3 * peerdist.BlockSize)
	all := described(t, body, peerdist.SHA256, "secret")
	s := &all[0]
	seal := func(i uint32, plain []byte) Block {
		data, iv, err := Seal(AES128, s.Secret, plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		return Block{Segment: s.ID(), Index: i, Data: data, IV: iv}
	}
	right := func(i uint32) []byte { at, n := s.Block(int(i)); return body[at : at+n] }
	for _, c := range []struct {
		name string
		lie  func(i uint32) (Message, Cipher)
	}{
		{"1: garbage blocks", func(i uint32) (Message, Cipher) { return seal(i, make([]byte, peerdist.BlockSize)), AES128 }},
		{"1: another block of the same segment", func(i uint32) (Message, Cipher) { return seal(i, right((i+1)%3)), AES128 }},
		{"2: padding that is wrong", func(i uint32) (Message, Cipher) {
			b := seal(i, right(i))
			b.Data[len(b.Data)-17] ^= 1 // of the vector of the last part
			return b, AES128
		}},
		{"11: a bit of the data is turned", func(i uint32) (Message, Cipher) {
			b := seal(i, right(i))
			b.Data[100] ^= 1
			return b, AES128
		}},
		{"11: a bit of the vector is turned", func(i uint32) (Message, Cipher) {
			b := seal(i, right(i))
			b.IV[0] ^= 1
			return b, AES128
		}},
		{"12: without a cipher", func(i uint32) (Message, Cipher) {
			return Block{Segment: s.ID(), Index: i, Data: slices.Clone(right(i)), IV: make([]byte, 16)}, 0
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			asked := 0
			var said []string // all that the client tells the liar
			l, err := net.Listen("tcp", "127.0.0.2:0")
			if err != nil {
				t.Fatal(err)
			}
			liar := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				m, _, err := DecodeRequest(b)
				q, ok := m.(GetBlocks)
				if err != nil || !ok {
					t.Errorf("asked for %v, %v", m, err)
					return
				}
				mu.Lock()
				asked++
				said = append(said, fmt.Sprintf("%v %x", r.Header, q.Segment))
				mu.Unlock()
				answer, cipher := c.lie(first(q.Ranges))
				_, _ = w.Write(AppendResponse(nil, cipher, answer))
			})}}
			liar.Start()
			defer liar.Close()
			from := netip.MustParseAddrPort(l.Addr().String())
			cl, log := client(t)
			if came, _ := fetch(t, cl, s, body, []int{0}, from); len(came) != 0 {
				t.Error("a lie is taken for a block")
			}
			honest := serving(t, NewServer(filled(t, body, all, whole), DefaultUploads, everybody), "127.0.0.1:0")
			if came, by := fetch(t, cl, s, body, []int{0, 1, 2}, from, honest); len(came) != 3 || by[honest] != 3 {
				t.Errorf("%v came, by %v", came, by)
			}
			mu.Lock()
			defer mu.Unlock()
			// What it may have learned is that it is not asked any more, of whatever kind the lie was. Two blocks
			// may have been on the way.
			if asked < 1 || asked > 2 {
				t.Errorf("it was asked %d times: %q", asked, said)
			}
			if banned, lied := cl.Banned(from); !banned || !lied || !strings.Contains(log.String(), "peer=127.0.0.2") {
				t.Errorf("banned %v, lied %v; the log is %s", banned, lied, log)
			}
		})
	}
}

// TestSecurityNothingPrintsSecrets: row 7, of what holds a key.
func TestSecurityNothingPrintsSecrets(t *testing.T) {
	s := described(t, random(100), peerdist.SHA256, "secret")[0]
	for _, form := range []string{"%v", "%+v", "%s", "%x", "%q", "%d"} {
		if text := fmt.Sprintf(form, s.Secret); text != "(secret)" {
			t.Errorf("%s prints %s", form, text)
		}
	}
}
