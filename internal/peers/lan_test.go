package peers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/conditions"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/test/netlab"
)

// patience is how long a test waits for what must happen, on a busy machine.
const patience = 60 * time.Second

// TestMain runs the tests, or is a machine of one.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "machine" {
		if err := machine(os.Args[2], os.Args[3], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// role is what a machine is.
type role struct {
	Settings  Settings
	Size      int // of the content that all know
	Algorithm peerdist.Algorithm
	Has       bool // all of it
}

// question is what a machine is to do, result what came of it.
type (
	question struct {
		Fetch   bool // all of the content, from peers
		Battery *bool
	}
	result struct {
		Peers  []netip.AddrPort       // that are said to have the first segment
		From   map[netip.AddrPort]int // blocks
		Bytes  int
		Took   time.Duration
		Status Status
	}
)

// machine is one on a network.
func machine(text, dir string, in io.Reader, out io.Writer) error {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	data := make([]byte, r.Size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	h, err := peerdist.Generate(context.Background(), bytes.NewReader(data), r.Algorithm)
	if err != nil {
		return err
	}
	info, err := h.Info(r.Algorithm.ServerKey([]byte("secret")), bits.Range{Length: int64(r.Size)})
	if err != nil {
		return err
	}
	var all []*peerdist.Segment
	for i := range info.Segments {
		all = append(all, &info.Segments[i])
	}
	n := Open(dir, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	defer n.Close()
	if err := n.Apply(r.Settings); err != nil {
		return err
	}
	for _, s := range all {
		for i := range s.Blocks() {
			if at, length := s.Block(i); r.Has {
				if err := n.Cache().Put(s, i, data[s.Offset+int64(at):][:length]); err != nil {
					return err
				}
			}
		}
	}
	fmt.Fprintln(out, "ready")
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return err
		}
		var a result
		began := time.Now()
		switch {
		case q.Fetch:
			a.From = map[netip.AddrPort]int{}
			for i, s := range all {
				peers := n.Find(context.Background(), all[i:i+1])[0]
				if i == 0 {
					a.Peers = peers
				}
				var blocks []int
				for b := range s.Blocks() {
					blocks = append(blocks, b)
				}
				from, err := n.Fetch(context.Background(), s, blocks, peers, func(b int, block []byte) error {
					at, length := s.Block(b)
					if !bytes.Equal(block, data[s.Offset+int64(at):][:length]) {
						return fmt.Errorf("block %d of segment %d is wrong", b, i)
					}
					a.Bytes += length
					return nil
				})
				if err != nil {
					return err
				}
				for p, b := range from {
					a.From[p] += b
				}
			}
		case q.Battery != nil:
			n.SetConditions(conditions.State{OnBattery: *q.Battery})
		}
		a.Took = time.Since(began)
		a.Status = n.Status()
		if err := json.NewEncoder(out).Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}

// remote is a machine that runs.
type remote struct {
	*netlab.Machine
	t   testing.TB
	in  io.Writer
	out *bufio.Scanner
}

func network(t testing.TB) *netlab.Net {
	t.Helper()
	if why := netlab.Missing(); why != "" {
		if os.Getenv("CI") != "" && os.Getuid() == 0 {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	n, err := netlab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// distributed are the settings of a machine that shares with its network.
func distributed() Settings {
	s := Defaults()
	s.Mode, s.Interfaces, s.Limits = Distributed, []string{netlab.Interface}, cache.Limits{Size: 1 << 40, MaxAge: time.Hour}
	return s
}

// add adds a machine to a network.
func add(t testing.TB, n *netlab.Net, four, six bool, r role) *remote {
	t.Helper()
	m, err := n.Machine(four, six)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	words := append(m.Inside(), self, "machine", string(text), filepath.Join(t.TempDir(), "cache"))
	cmd := exec.Command(words[0], words[1:]...)
	var log bytes.Buffer
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("machine %s: %v: %s", m.Space, err, log.Bytes())
		}
	})
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("machine %s says %q: %s", m.Space, lines.Text(), log.Bytes())
	}
	return &remote{m, t, in, lines}
}

// does asks a machine to do something and waits for what comes of it.
func (r *remote) does(q question) result {
	r.t.Helper()
	if err := json.NewEncoder(r.in).Encode(q); err != nil {
		r.t.Fatal(err)
	}
	if !r.out.Scan() {
		r.t.Fatalf("machine %s ended", r.Space)
	}
	var a result
	if err := json.Unmarshal(r.out.Bytes(), &a); err != nil {
		r.t.Fatal(err)
	}
	return a
}

// fetchAll asks until all came, for a busy machine may be slower than a peer may be.
func (r *remote) fetchAll(size int) result {
	r.t.Helper()
	for end := time.Now().Add(patience); ; {
		a := r.does(question{Fetch: true})
		if a.Bytes == size {
			return a
		}
		if time.Now().After(end) {
			r.t.Fatalf("%d of %d bytes came: %+v", a.Bytes, size, a.Status)
		}
	}
}

// TestLAN lets a machine fetch what another of its network has.
func TestLAN(t *testing.T) {
	const size = 4 << 20
	for _, by := range []struct {
		name      string
		four, six bool
		algorithm peerdist.Algorithm
	}{
		{"IPv4", true, false, peerdist.SHA256},
		{"IPv6", false, true, peerdist.TruncatedSHA512},
		{"both", true, true, peerdist.TruncatedSHA512},
	} {
		t.Run(by.name, func(t *testing.T) {
			t.Parallel()
			n := network(t)
			r := role{Settings: distributed(), Size: size, Algorithm: by.algorithm, Has: true}
			whole := add(t, n, by.four, by.six, r)
			r.Has = false
			asker := add(t, n, by.four, by.six, r)
			a := asker.fetchAll(size)
			st := a.Status
			if st.Stats.Fetched < size || len(st.Peers) == 0 || len(st.Networks) != 1 || len(st.Serving) == 0 || st.Problem != "" {
				t.Errorf("the asker's status is %+v", st)
			}
			// Some 60 segments of version 2: all but the first are asked for directly.
			if st.Stats.Probes > 10 {
				t.Errorf("%d probes were sent", st.Stats.Probes)
			}
			if st := whole.does(question{}).Status; st.Stats.Served < size || st.Stats.ServedBlocks == 0 || st.Stats.Answered == 0 {
				t.Errorf("the other's status is %+v", st)
			}
		})
	}
}

// TestBattery serves nothing on battery, unless it is told to.
func TestBattery(t *testing.T) {
	const size = 1 << 20
	n := network(t)
	r := role{Settings: distributed(), Size: size, Algorithm: peerdist.SHA256, Has: true}
	laptop := add(t, n, true, false, r)
	r.Has = false
	yes, no := true, false
	if st := laptop.does(question{Battery: &yes}).Status; len(st.Serving) != 0 || st.WhyNot == "" || st.Problem != "" {
		t.Errorf("on battery its status is %+v", st)
	}
	early := add(t, n, true, false, r)
	if a := early.does(question{Fetch: true}); a.Bytes != 0 || len(a.Peers) != 0 {
		t.Errorf("a machine on battery gives %d bytes", a.Bytes)
	}
	serves := r
	serves.Settings.ServeOnBattery = true
	if st := add(t, n, true, false, serves).does(question{Battery: &yes}).Status; len(st.Serving) == 0 || st.WhyNot != "" {
		t.Errorf("on battery, with ServeOnBattery, its status is %+v", st)
	}
	if st := laptop.does(question{Battery: &no}).Status; len(st.Serving) == 0 || st.WhyNot != "" {
		t.Errorf("off battery its status is %+v", st)
	}
	add(t, n, true, false, r).fetchAll(size)
}

// TestHeard: who asks for what this machine wants too will have it.
func TestHeard(t *testing.T) {
	n := network(t)
	r := role{Settings: distributed(), Size: 1 << 20, Algorithm: peerdist.SHA256}
	one, two := add(t, n, true, false, r), add(t, n, true, false, r)
	if a := one.does(question{Fetch: true}); len(a.Peers) != 0 {
		t.Fatalf("it finds %v in an empty network", a.Peers)
	}
	two.does(question{Fetch: true})
	for end := time.Now().Add(patience); ; {
		if a := one.does(question{Fetch: true}); len(a.Peers) == 1 && a.Peers[0] == netip.AddrPortFrom(two.Four, DefaultPort) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not know who else asked")
		}
		two.does(question{Fetch: true}) // once its first question is old enough
		time.Sleep(time.Second)
	}
}
