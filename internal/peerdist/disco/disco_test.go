package disco

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/pccrd"
	"github.com/ebbtransfer/ebb/test/netlab"
)

// patience is how long a test waits for what must happen, on a busy machine.
const patience = 60 * time.Second

// TestMain runs the tests, or is a machine of one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "machine" {
		if err := machine(os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// role is what a machine of a test does.
type role struct {
	Held    []string // ids in hex that it has all of; with none it answers nobody
	Partial bool     // it has one block of each only
}

// question is what a machine is asked to do: to send datagrams from a port, or to ask for segments.
type question struct {
	To        netip.AddrPort // datagrams go there, from a socket of their own
	From      []netip.Addr   // or from these addresses by turns
	Datagrams [][]byte
	Version   int // segments are asked for
	Wants     []Want
	Times     int // 0: once
	Counts    bool
}

// result is what came of it.
type result struct {
	Asked  int
	Found  map[string][]netip.AddrPort // by id in hex, until a moment after
	Back   int                         // datagrams that came to the socket
	Counts Counts
	Took   time.Duration
}

// machine is one on a network: it says "ready", then reads questions and writes results.
func machine(text string, in io.Reader, out io.Writer) error {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	networks, err := Networks([]string{netlab.Interface}, nil)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	found := map[string][]netip.AddrPort{}
	c := Config{Networks: networks, Port: 2178, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Found: func(id []byte, p netip.AddrPort) {
		mu.Lock()
		defer mu.Unlock()
		s := hex.EncodeToString(id)
		found[s] = append(found[s], p)
	}, Heard: func([][]byte, netip.Addr) {}}
	if len(r.Held) > 0 {
		c.Held = func(id []byte) (Holding, bool) {
			if !slices.Contains(r.Held, hex.EncodeToString(id)) {
				return Holding{}, false
			}
			if r.Partial {
				return Holding{Blocks: 1}, true
			}
			return Holding{Blocks: 512, All: true, Age: time.Minute}, true
		}
	}
	d, err := Open(c)
	if err != nil {
		return err
	}
	defer d.Close()
	fmt.Fprintln(out, "ready")
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return err
		}
		var answer result
		began := time.Now()
		switch {
		case q.To.IsValid():
			if answer.Back, err = exchange(q); err != nil {
				return err
			}
		case q.Wants != nil:
			for range max(1, q.Times) {
				answer.Asked += d.Probe(context.Background(), q.Version, q.Wants)
			}
			answer.Took = time.Since(began)
			time.Sleep(2 * maxDelay) // what comes late
		}
		mu.Lock()
		answer.Found = found
		found = map[string][]netip.AddrPort{}
		mu.Unlock()
		answer.Counts = d.Counts()
		if err := json.NewEncoder(out).Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

// exchange sends datagrams and counts those that come back within half a second.
func exchange(q question) (int, error) {
	var from []*net.UDPConn
	for _, a := range append(q.From, netip.Addr{})[:max(1, len(q.From))] {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: a.AsSlice()})
		if err != nil {
			return 0, err
		}
		defer c.Close()
		from = append(from, c)
	}
	for i, b := range q.Datagrams {
		if _, err := from[i%len(from)].WriteToUDPAddrPort(b, q.To); err != nil {
			return 0, err
		}
		if len(q.Datagrams) > 50 {
			time.Sleep(time.Millisecond) // so that they are not lost on the way
		}
	}
	until := time.Now().Add(time.Second / 2)
	var back atomic.Int64
	var wait sync.WaitGroup
	for _, c := range from {
		if err := c.SetReadDeadline(until); err != nil {
			return 0, err
		}
		wait.Go(func() {
			b := make([]byte, pccrd.MaxDatagram)
			for {
				if _, _, err := c.ReadFrom(b); err != nil {
					return
				}
				back.Add(1)
			}
		})
	}
	wait.Wait()
	return int(back.Load()), nil
}

// remote is a machine that runs.
type remote struct {
	*netlab.Machine
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

func network(t *testing.T) *netlab.Net {
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

// add adds a machine to a network.
func add(t *testing.T, n *netlab.Net, four, six bool, r role) *remote {
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
	words := append(m.Inside(), self, "machine", string(text))
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
	lines.Buffer(nil, 64<<20)
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

func id(i int) []byte {
	b := bytes.Repeat([]byte{byte(i)}, 32)
	b[0] = byte(i >> 8)
	return b
}

func wants(ids ...int) (out []Want, text []string) {
	for _, i := range ids {
		out = append(out, Want{id(i), 512})
		text = append(text, hex.EncodeToString(id(i)))
	}
	return out, text
}

// TestFind lets machines find each other, by each family of addresses and both versions of messages.
func TestFind(t *testing.T) {
	for _, by := range []struct {
		name      string
		four, six bool
	}{{"IPv4", true, false}, {"IPv6", false, true}, {"both", true, true}} {
		t.Run(by.name, func(t *testing.T) {
			t.Parallel()
			n := network(t)
			asked, texts := wants(1, 2, 3, 4, 5)
			whole := add(t, n, by.four, by.six, role{Held: texts[:4]})
			part := add(t, n, by.four, by.six, role{Held: texts[:1], Partial: true})
			asker := add(t, n, by.four, by.six, role{})
			for version := 1; version <= 2; version++ {
				// On a busy machine an answer may come too late, but it comes.
				var seen map[string]map[netip.Addr]bool
				for end := time.Now().Add(patience); time.Now().Before(end); {
					a := asker.does(question{Version: version, Wants: asked})
					if a.Asked != len(asked) {
						t.Fatalf("%d of %d segments were asked for", a.Asked, len(asked))
					}
					if seen == nil {
						seen = map[string]map[netip.Addr]bool{}
					}
					for id, peers := range a.Found {
						if seen[id] == nil {
							seen[id] = map[netip.Addr]bool{}
						}
						for _, p := range peers {
							if p.Port() != 2178 {
								t.Errorf("a peer is at port %d", p.Port())
							}
							seen[id][p.Addr()] = true
						}
					}
					if len(seen[texts[0]]) >= 2 && len(seen[texts[3]]) >= 1 {
						break
					}
				}
				for i, text := range texts {
					want := 1
					switch i {
					case 0:
						want = 2
					case 4:
						want = 0
					}
					if got := len(seen[text]); got < want || got > 2*want {
						t.Errorf("version %d: %d machines have segment %d: %v", version, got, i, seen[text])
					}
					for a := range seen[text] {
						if !by.four && (!a.IsLinkLocalUnicast() || a.Zone() != netlab.Interface) || !by.six && a != whole.Four && a != part.Four {
							t.Errorf("version %d: a peer at %s", version, a)
						}
					}
				}
			}
		})
	}
}

// TestLimitOfProbes asks for many segments at once.
func TestLimitOfProbes(t *testing.T) {
	n := network(t)
	asker := add(t, n, true, true, role{})
	many, _ := wants(1, 2, 3)
	a := asker.does(question{Version: 1, Wants: slices.Repeat(many, 1000)})
	if a.Asked == 0 || a.Asked > 2*maxSent*len(many) || a.Counts.Probes > 2*maxSent {
		t.Errorf("%d of 3000 segments were asked for at once with %d probes", a.Asked, a.Counts.Probes)
	}
}

// probe returns a probe as it is sent.
func probe(version int, ids ...[]byte) []byte {
	p := pccrd.Probe{MessageID: pccrd.NewID(), Version: version, IDs: ids}
	return p.Append(nil)
}

// TestAttacks sends a machine what it must not answer, or not so often (section 11, rows 4 and 5).
func TestAttacks(t *testing.T) {
	n := network(t)
	_, texts := wants(1, 2, 3)
	victim := add(t, n, true, true, role{Held: texts})
	attacker := add(t, n, true, true, role{})
	if err := attacker.Run("ip", "route", "add", "239.0.0.0/8", "dev", netlab.Interface); err != nil {
		t.Fatal(err)
	}
	group := netip.AddrPortFrom(pccrd.Group4, pccrd.Port)
	back := func(to netip.AddrPort, datagrams ...[]byte) int {
		t.Helper()
		return attacker.does(question{To: to, Datagrams: datagrams}).Back
	}
	// It answers a good one; on a busy machine it may need a second.
	for end := time.Now().Add(patience); back(group, probe(1, id(1))) == 0; {
		if time.Now().After(end) {
			t.Fatal("a good probe is not answered")
		}
	}
	same := probe(2, id(2))
	if got := back(group, same, same, same); got > 1 {
		t.Errorf("the same probe is answered %d times", got)
	}
	time.Sleep(time.Second) // a new second, for limits
	good := probe(1, id(1))
	if got := back(group,
		nil,
		[]byte("M-SEARCH * HTTP/1.1\r\n\r\n"),
		good[:len(good)/2],
		probe(1, id(99)), // which it does not have
		bytes.Replace(good, []byte("urn:uuid:"), []byte("&lt;x&gt;"), 1),
		bytes.Replace(good, []byte("<soap:Envelope"), []byte("<!DOCTYPE x [<!ENTITY a \"b\">]><soap:Envelope"), 1),
		bytes.Replace(good, []byte("<soap:Body>"), []byte("<soap:Body>"+strings.Repeat("<a>", 50)), 1),
		bytes.Replace(good, []byte("<soap:Body>"), []byte("<soap:Body>"+strings.Repeat(" ", pccrd.MaxDatagram)), 1),
	); got != 0 {
		t.Errorf("%d of the bad probes are answered", got)
	}
	if got := back(netip.AddrPortFrom(victim.Four, pccrd.Port), probe(1, id(1))); got != 0 {
		t.Errorf("a probe to the machine alone is answered %d times", got)
	}
	// From an address that is not of this network, as a forged one would be.
	if err := victim.Run("ip", "route", "add", "192.0.2.0/24", "dev", netlab.Interface); err != nil {
		t.Fatal(err)
	}
	for _, s := range [][]string{
		{"addr", "add", "192.0.2.1/32", "dev", "lo"},
		{"route", "replace", "239.0.0.0/8", "dev", netlab.Interface, "src", "192.0.2.1"},
	} {
		if err := attacker.Run("ip", s...); err != nil {
			t.Fatal(err)
		}
	}
	before := victim.does(question{}).Counts
	if got := back(group, probe(1, id(1)), probe(1, id(2))); got != 0 {
		t.Errorf("a probe from elsewhere is answered %d times", got)
	}
	if after := victim.does(question{}).Counts; after.Dropped-before.Dropped != 2 {
		t.Errorf("%d datagrams from elsewhere were dropped, not 2", after.Dropped-before.Dropped)
	}
	if err := attacker.Run("ip", "route", "replace", "239.0.0.0/8", "dev", netlab.Interface, "src", attacker.Four.String()); err != nil {
		t.Fatal(err)
	}
	// A flood of good ones.
	var flood [][]byte
	for range 400 {
		flood = append(flood, probe(1, id(1)))
	}
	before = victim.does(question{}).Counts
	began := time.Now()
	got := back(group, flood...)
	seconds := int(time.Since(began)/time.Second) + 2
	if got == 0 || got > seconds*answersToOne {
		t.Errorf("a flood of %d probes got %d answers in %d s", len(flood), got, seconds)
	}
	after := victim.does(question{}).Counts
	if read := after.Probed - before.Probed; read > int64(seconds*probesOfOne) {
		t.Errorf("%d of %d probes were read in %d s", read, len(flood), seconds)
	}
}

// TestAttackFromManyAddresses: however many ask, so many answers go out in a second (section 11, row 4).
func TestAttackFromManyAddresses(t *testing.T) {
	n := network(t)
	_, texts := wants(1)
	victim := add(t, n, true, false, role{Held: texts})
	attacker := add(t, n, true, false, role{})
	if err := attacker.Run("ip", "route", "add", "239.0.0.0/8", "dev", netlab.Interface); err != nil {
		t.Fatal(err)
	}
	q := question{To: netip.AddrPortFrom(pccrd.Group4, pccrd.Port)}
	for i := range 20 {
		a := netip.AddrFrom4([4]byte{10, 99, 0, byte(100 + i)})
		if err := attacker.Run("ip", "addr", "add", a.String()+"/24", "dev", netlab.Interface); err != nil {
			t.Fatal(err)
		}
		q.From = append(q.From, a)
	}
	for end := time.Now().Add(patience); ; {
		q.Datagrams = nil
		for range answersToOne * len(q.From) { // as many as each may have answers to
			q.Datagrams = append(q.Datagrams, probe(1, id(1)))
		}
		before := victim.does(question{}).Counts
		began := time.Now()
		got := attacker.does(q).Back
		seconds := int(time.Since(began)/time.Second) + 2
		after := victim.does(question{}).Counts
		most, answered := seconds*maxAnswers, int(after.Answered-before.Answered)
		if got > most || answered > most {
			t.Errorf("%d probes of %d addresses got %d answers in %d s; the machine counts %d", len(q.Datagrams), len(q.From), got, seconds, answered)
		}
		if read := after.Probed - before.Probed; got > 0 && read > int64(most) {
			return
		} else if time.Now().After(end) {
			t.Fatalf("only %d of %d probes were read, %d answered", read, len(q.Datagrams), got)
		}
	}
}

// TestLies lets a machine answer with what nobody asked for, or for others.
func TestLies(t *testing.T) {
	lan := Network{Name: netlab.Interface, Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.1/24")}}
	var found []netip.AddrPort
	d := &Discovery{Config: Config{Found: func(_ []byte, p netip.AddrPort) { found = append(found, p) }}, endpoint: "urn:uuid:ours", asking: map[string]*asking{}, quorum: map[string]tally{}}
	w := []Want{{id(1), 512}, {id(2), 512}}
	p := &pccrd.Probe{MessageID: pccrd.NewID(), Version: 2, IDs: [][]byte{id(1), id(2)}}
	a := &asking{probe: p, wants: w, until: time.Now().Add(time.Hour), tallies: make([]tally, 2), peers: map[string]bool{}, enough: make(chan struct{})}
	d.asking[p.MessageID] = a
	l := &link{Network: lan}
	from := netip.MustParseAddrPort("10.99.0.7:3702")
	other := *p
	other.MessageID = pccrd.NewID()
	match := func(at string, held ...pccrd.Held) pccrd.Match {
		return pccrd.Match{Endpoint: pccrd.NewID(), Address: netip.MustParseAddrPort(at), Held: held}
	}
	reply := func(p *pccrd.Probe, m pccrd.Match) bool {
		return d.reply(nil, l, from, pccrd.AppendReply(nil, p, pccrd.Reply{MessageID: pccrd.NewID()}, m))
	}
	ours := match("10.99.0.9:80", pccrd.Held{Index: 0, All: true})
	ours.Endpoint = d.endpoint
	for name, ok := range map[string]bool{
		"to another probe": reply(&other, match("10.99.0.7:80", pccrd.Held{Index: 0})),
		"of elsewhere":     reply(p, match("192.0.2.7:80", pccrd.Held{Index: 0})),
		"of the loopback":  reply(p, match("127.0.0.1:80", pccrd.Held{Index: 0})),
		"of ourselves":     reply(p, ours),
		"no XML":           d.reply(nil, l, from, []byte("<soap>")),
	} {
		if ok || len(found) > 0 {
			t.Errorf("an answer %s is taken: %v", name, found)
		}
	}
	if !reply(p, match("10.99.0.7:80", pccrd.Held{Index: 0, All: true})) || len(found) != 1 || a.answered() {
		t.Error("a good answer is not taken, or enough for all")
	}
	from = netip.MustParseAddrPort("10.99.0.8:3702")
	if !reply(p, match("10.99.0.8:80", pccrd.Held{Index: 0}, pccrd.Held{Index: 1, All: true})) || len(found) != 3 || !a.answered() {
		t.Error("another good answer is not taken, or not enough")
	}
	// A flood of answers is bounded, for the probe and in a second.
	taken := 0
	for i := range 10000 {
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 99, 0, byte(i)}), 3702)
		if reply(p, match("10.99.0.9:80", pccrd.Held{Index: 0})) {
			taken++
		}
	}
	if taken > maxAnswered {
		t.Errorf("%d answers to a probe were taken", taken)
	}
}

// TestQuorum is silent about what enough others have.
func TestQuorum(t *testing.T) {
	d := &Discovery{quorum: map[string]tally{}}
	now := time.Now()
	answers := func(t tally) (n int) {
		d.mu.Lock()
		d.tell("id", t)
		d.mu.Unlock()
		for range 1000 {
			if !d.enough([]byte("id")) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name        string
		tally       tally
		least, most int // of 1000 answers
	}{
		{"few", tally{quorum - 1, quorum - 1, now}, 1000, 1000},
		{"many have some of it", tally{quorum, quorum - 1, now}, 200, 470},
		{"many have all of it", tally{quorum, quorum, now}, 0, 0},
		{"long ago", tally{quorum, quorum, now.Add(-2 * quorumFor)}, 1000, 1000},
	} {
		if n := answers(c.tally); n < c.least || n > c.most {
			t.Errorf("%s: %d of 1000 probes are answered", c.name, n)
		}
	}
	for i := range 2 * maxQuorums {
		d.tell(fmt.Sprint(i), tally{quorum, quorum, now})
	}
	if len(d.quorum) > maxQuorums {
		t.Errorf("%d segments are remembered", len(d.quorum))
	}
}

// TestManyNames: one machine that answers under many names counts once.
func TestManyNames(t *testing.T) {
	l := &link{Network: Network{Name: "lan", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}}}
	d := &Discovery{endpoint: pccrd.NewID(), quorum: map[string]tally{}}
	d.Found = func([]byte, netip.AddrPort) {}
	answered := func(from func(i byte) netip.Addr) int {
		a := &asking{wants: []Want{{ID: id(1), Blocks: 1}}, tallies: make([]tally, 1), peers: map[string]bool{}}
		for i := range byte(quorum) {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, i}), 80)
			d.match(l, a, from(i), &pccrd.Match{Endpoint: pccrd.NewID(), Address: at, Held: []pccrd.Held{{Blocks: 1, All: true}}})
		}
		return a.tallies[0].all
	}
	if n := answered(func(i byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 1, i}) }); n != quorum {
		t.Errorf("%d machines count as %d", quorum, n)
	}
	if n := answered(func(byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 2, 1}) }); n != 1 {
		t.Errorf("one machine counts as %d", n)
	}
}

// TestPrivate chooses interfaces.
func TestPrivate(t *testing.T) {
	for _, c := range []struct {
		addresses []string
		private   bool
	}{
		{nil, false},
		{[]string{"10.0.0.1/8", "fe80::1/64"}, true},
		{[]string{"192.168.1.2/24", "2001:db8::1/64"}, true},
		{[]string{"198.51.100.7/24", "10.0.0.1/8"}, false},
		{[]string{"fe80::1/64"}, false},
		{[]string{"fe80::1/64", "2001:db8::1/64"}, false},
		{[]string{"fe80::1/64", "fd00::1/64"}, true},
	} {
		var n Network
		for _, a := range c.addresses {
			n.Addresses = append(n.Addresses, netip.MustParsePrefix(a))
		}
		if n.private() != c.private {
			t.Errorf("a network with %v is private: %v", c.addresses, n.private())
		}
	}
	n := Network{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fe80::1/64")}}
	for a, has := range map[string]bool{"10.0.0.9": true, "10.0.1.9": false, "fe80::9%eth0": true, "fe80::9%eth1": false, "fe80::9": false, "127.0.0.1": false} {
		if n.Has(netip.MustParseAddr(a)) != has {
			t.Errorf("%s is of the network: %v", a, !has)
		}
	}
}
