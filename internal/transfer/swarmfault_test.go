package transfer

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peers"
	"github.com/ebbtransfer/ebb/test/faultpeer"
)

// TestPeersThatFail: whatever a peer does, the file is right; who lies is banned and named in the log, and nobody
// else.
func TestPeersThatFail(t *testing.T) {
	both(t, func(t *testing.T, same *origin) {
		warm := newMachine(t)
		warm.get(same)
		for _, fault := range faultpeer.Faults {
			t.Run(fault.Name, func(t *testing.T) {
				t.Parallel()
				o := same.twin(t)
				peer := serveBlocks(t, warm.node.Cache(), func(h http.Handler) http.Handler { return fault.Wrap(h, func() {}) })
				m := newMachine(t, peer)
				// So that a busy machine does not have all before the peer was asked.
				if end := time.Now().Add(time.Minute); fault.Lies {
					o.serve = func([]byte, int64) bool {
						for !m.log.blames(peer.Addr().String()) && time.Now().Before(end) {
							time.Sleep(time.Millisecond)
						}
						return true
					}
				}
				f := m.get(o)
				if sent := o.sent.Load(); f.Part.Peers+sent < o.size() || sent > o.size() {
					t.Errorf("the origin sent %d bytes, %d are from peers", sent, f.Part.Peers)
				}
				if m.log.blames(peer.Addr().String()) != fault.Lies {
					t.Errorf("the log says %q", m.log.text.String())
				}
			})
		}
	})
}

// reopen closes the node, lets change work on its cache, and opens it again.
func (m *machine) reopen(change func(dir string)) {
	m.t.Helper()
	s := m.node.Settings()
	off := s
	off.Mode = peers.Off
	if err := m.node.Apply(off); err != nil {
		m.t.Fatal(err)
	}
	change(m.cache)
	if err := m.node.Apply(s); err != nil {
		m.t.Fatal(err)
	}
}

// blocks calls change with the blocks of each segment of a cache, and keeps what becomes of them.
func blocks(t *testing.T, dir string, change func(b []byte)) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "seg", "*", "*.dat"))
	if err != nil || len(names) == 0 {
		t.Fatal("the cache has no files", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		change(b)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCachesThatRot: what a disk has changed is not given to others, nor used here.
func TestCachesThatRot(t *testing.T) {
	rot := func(b []byte) {
		for i := 0; i < len(b); i += 100_000 { // not each block
			b[i] ^= 4
		}
	}
	both(t, func(t *testing.T, o *origin) {
		warm := newMachine(t)
		warm.get(o)
		warm.reopen(func(dir string) { blocks(t, dir, rot) })
		o.sent.Store(0)
		m := newMachine(t, warm.peer())
		f := m.get(o)
		if f.Part.Peers >= o.size() || o.sent.Load() == 0 || m.log.blames("127.0.0.1") {
			t.Errorf("from a peer whose disk rots came %d bytes, from the origin %d; the log says %q", f.Part.Peers, o.sent.Load(), m.log.text.String())
		}
		m.reopen(func(dir string) { blocks(t, dir, rot) })
		o.sent.Store(0)
		f = m.get(o)
		if o.sent.Load() == 0 || f.Part.Cached >= o.size() {
			t.Errorf("from the own disk, which rots, came %d bytes, from the origin %d", f.Part.Cached, o.sent.Load())
		}
	})
}

// TestClocksThatAreWrong: how old a cache takes its segments to be changes who gives the bytes, and nothing else; so
// does what the origin takes the time to be.
func TestClocksThatAreWrong(t *testing.T) {
	for _, by := range []struct {
		ahead time.Duration // when the segments came, from now on
		gives bool          // whether they still count
	}{{time.Hour, true}, {-time.Hour, true}, {365 * 24 * time.Hour, false}, {-365 * 24 * time.Hour, false}} {
		t.Run(by.ahead.String(), func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, size2)
			o.ahead = by.ahead
			warm := newMachine(t)
			warm.get(o)
			warm.reopen(func(dir string) {
				if err := faultpeer.Date(dir, time.Now().Add(by.ahead)); err != nil {
					t.Fatal(err)
				}
			})
			if f := newMachine(t, warm.peer()).get(o); f.Part.Peers > 0 && !by.gives {
				t.Errorf("%d bytes came from the peer", f.Part.Peers)
			}
			if f := warm.get(o); (f.Part.Cached > 0) != by.gives {
				t.Errorf("%d bytes came from the own cache", f.Part.Cached)
			}
		})
	}
}

// TestNoRoomForTheCache: a cache that may have less than a file does not hold its download up.
func TestNoRoomForTheCache(t *testing.T) {
	for _, room := range []int64{0, 1 << 20} {
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			both(t, func(t *testing.T, o *origin) {
				warm := newMachine(t)
				warm.get(o)
				m := newMachine(t, warm.peer())
				s := m.node.Settings()
				s.Limits = cache.Limits{Size: room, MaxAge: time.Hour}
				if err := m.node.Apply(s); err != nil {
					t.Fatal(err)
				}
				m.get(o)
				if used := m.node.Cache().Used(); used > room {
					t.Errorf("the cache has %d bytes", used)
				}
			})
		})
	}
}

// TestTheCacheIsGone while the file comes: somebody removed its directory.
func TestTheCacheIsGone(t *testing.T) {
	both(t, func(t *testing.T, o *origin) {
		m := newMachine(t)
		o.serve = func([]byte, int64) bool {
			if err := os.RemoveAll(m.cache); err != nil && !strings.Contains(err.Error(), "not empty") { // it is written to
				t.Error(err)
			}
			return true
		}
		m.get(o)
	})
}
