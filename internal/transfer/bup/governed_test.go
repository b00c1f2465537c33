package bup

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
)

// ownAddress returns an address of this machine that is not its loopback's: what goes there in the
// background is under the governor's law, over connections without deadlines.
func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no network")
	return ""
}

// background returns a server and a task of a background upload to it that the governor rules.
func background(t *testing.T, data []byte) (*iis, *uploadtest.Task) {
	t.Helper()
	s := newIIS(t)
	l, err := net.Listen("tcp", net.JoinHostPort(ownAddress(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	s.l.Close()
	s.l, s.URL = l, "http://"+l.Addr().String()+"/upload/"
	task := newTask(t, s, data)
	task.Class = governor.Background
	return s, task
}

func TestUnderTheGovernor(t *testing.T) {
	data := uploadtest.Bytes(4<<20, 1)
	s, task := background(t, data)
	s.start()
	whole(t, s, task, data)
}

func TestTooLargeUnderTheGovernor(t *testing.T) {
	data := uploadtest.Bytes(4<<20, 2)
	for _, early := range []bool{false, true} {
		s, task := background(t, data)
		s.act = func(_ int, p *packet) *action {
			if p.length > 100<<10 {
				return &action{raw: "HTTP/1.1 413 Request Entity Too Large\nContent-Length: 0\nConnection: close\n\n", cut: true, early: early}
			}
			return nil
		}
		s.start()
		whole(t, s, task, data)
		if f := task.State.Fragment; f == 0 || f > 100<<10 {
			t.Errorf("early %v: the limit learned is %d", early, f)
		}
	}
}

func TestAWaitUnderTheGovernorEnds(t *testing.T) {
	wake := make(chan struct{})
	defer close(wake)
	s, task := background(t, uploadtest.Bytes(16<<20, 3))
	s.act = func(_ int, p *packet) *action {
		if p.kind == "Fragment" && p.first > 0 {
			<-wake
		}
		return nil
	}
	s.start()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer time.AfterFunc(time.Second, func() { cancel(errors.New("suspended")) }).Stop()
	if err := client().Upload(ctx, task.Task); err == nil || err.Error() != "suspended" {
		t.Errorf("a wait ended with %v", err)
	}
}
