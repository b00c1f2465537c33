package bup

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

// counted counts what is written.
type counted struct {
	io.Writer
	n *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// relay passes on what connections say to a server and what it answers, and counts both. The first connection
// ends after so many bytes one way; none of a negative number.
func relay(t *testing.T, server string, most [2]int64) (address string, passed *[2]atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	passed = new([2]atomic.Int64)
	go func() {
		for ; ; most = [2]int64{-1, -1} {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				near.Close()
				return
			}
			for i, ends := range [2][2]net.Conn{{near, far}, {far, near}} {
				var from io.Reader = ends[0]
				if most[i] >= 0 {
					from = io.LimitReader(from, most[i])
				}
				go func() {
					_, _ = io.Copy(counted{ends[1], &passed[i]}, from)
					near.Close()
					far.Close()
				}()
			}
		}
	}()
	return l.Addr().String(), passed
}

// TestCutAfterAnyByte ends the connection after every single byte of an exchange, of what the client says and of what
// it hears.
func TestCutAfterAnyByte(t *testing.T) {
	data := uploadtest.Bytes(300, 31)
	exchange := func(most [2]int64) (passed [2]int64) {
		s := newIIS(t)
		defer s.Close()
		s.start()
		address, counts := relay(t, s.l.Addr().String(), most)
		s.URL = "http://" + address + "/upload/"
		task := newTask(t, s, data)
		c := client()
		if err := task.Patiently(t.Context(), c, 3); err != nil {
			t.Errorf("cut after %d: %v", most, err)
			return passed
		}
		if err := c.Close(t.Context(), task.Task); err != nil { // cut there; it is told again
			if err := c.Close(t.Context(), task.Task); err != nil {
				t.Errorf("cut after %d: the session is not closed: %v", most, err)
			}
		}
		if got, _ := s.file("f.bin"); got != string(data) {
			t.Errorf("cut after %d: the server has other %d bytes", most, len(got))
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.notified != 1 {
			t.Errorf("cut after %d: published %d times", most, s.notified)
		}
		return [2]int64{counts[0].Load(), counts[1].Load()}
	}
	all := exchange([2]int64{-1, -1})
	if all[0] < 300 || all[1] < 100 {
		t.Fatalf("the whole exchange has %d bytes", all)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, 16)
	for way := range all {
		for n := range all[way] {
			most := [2]int64{-1, -1}
			most[way] = n
			room <- struct{}{}
			wg.Go(func() {
				exchange(most)
				<-room
			})
		}
	}
}
