// Package tap lies between a client that uploads by BITS and its server, for tests and measurements,
// and notes which fragments of which file pass, and how much of them.
package tap

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/internal/bupwire"
)

// Tap passes connections on. It must be closed.
type Tap struct {
	listener net.Listener
	server   string
	rate     int64 // bytes a second of each fragment
	wg       sync.WaitGroup

	mu  sync.Mutex
	log []*Fragment // guarded by mu
}

// Fragment is one that a client began to send.
type Fragment struct {
	Path   string
	Range  bupwire.Range // what it was to be
	Passed int64         // bytes of it that came
}

// New listens on a port of its own for a server at an address.
func New(server string, rate int64) (*Tap, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &Tap{listener: l, server: server, rate: rate}
	t.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.wg.Go(func() { t.connect(c) })
		}
	})
	return t, nil
}

// URL is what clients take for the server's, without a slash at the end.
func (t *Tap) URL() string { return "http://" + t.listener.Addr().String() }

// Close takes no more connections and waits until those that there are end.
func (t *Tap) Close() {
	_ = t.listener.Close()
	t.wg.Wait()
}

// Forget empties the log.
func (t *Tap) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log = nil
}

// Fragments returns those that passed, in the order in which they began.
func (t *Tap) Fragments() []Fragment {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Fragment
	for _, f := range t.log {
		all = append(all, *f)
	}
	return all
}

// connect passes on what both sides say. It ends when either side does.
func (t *Tap) connect(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", t.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	t.wg.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	r := bufio.NewReaderSize(io.TeeReader(client, server), 64<<10)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		f := &Fragment{Path: req.URL.Path}
		if f.Range, err = bupwire.ParseRange(req.Header.Get("Content-Range")); err == nil {
			t.mu.Lock()
			t.log = append(t.log, f)
			t.mu.Unlock()
		}
		if err := t.pass(req.Body, f); err != nil {
			return
		}
	}
}

// pass reads a body no faster than the rate.
func (t *Tap) pass(body io.Reader, f *Fragment) error {
	began := time.Now()
	buf := make([]byte, 256<<10)
	for n := int64(0); ; {
		m, err := body.Read(buf)
		n += int64(m)
		t.mu.Lock()
		f.Passed = n
		t.mu.Unlock()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(float64(n)/float64(t.rate)*float64(time.Second)) - time.Since(began))
	}
}

// Return is a client's going back in a file behind what it had sent.
type Return struct {
	Again int64    // bytes that it sent once more because of it
	Cut   Fragment // what it had begun last
}

// Returns finds them in the fragments of one file. What is sent for the third time because the client
// went back once more meanwhile is charged to the later return alone.
func Returns(log []Fragment) []Return {
	var all []Return
	type reach struct {
		i  int   // of the return
		to int64 // where the client had been
	}
	var open []reach // that the client has yet to come to again, the latest last
	var last Fragment
	for _, f := range log {
		from, to := f.Range.First, f.Range.First+f.Passed
		if had := last.Range.First + last.Passed; from < had {
			cut := last
			if len(open) > 0 {
				// A shorter one in between only asked where the server is.
				if before := all[open[len(open)-1].i].Cut; before.Range.Len() > cut.Range.Len() {
					cut = before
				}
			}
			open = append(open, reach{len(all), had})
			all = append(all, Return{Cut: cut})
		}
		for at := from; len(open) > 0; {
			r := open[len(open)-1]
			if n := min(to, r.to) - at; n > 0 {
				all[r.i].Again += n
				at += n
			}
			if to < r.to {
				break
			}
			open = open[:len(open)-1]
		}
		last = f
	}
	return all
}
