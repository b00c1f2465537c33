package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/test/faultserver"
	"github.com/ebbtransfer/ebb/test/netlab"
)

// What the measurement of retrieval has.
const (
	peerPort      = 2178
	clientsEach   = 8 // of a machine, with two connections each
	peerDownloads = 64
	segmentsEach  = 4 // that a job fetches at once
)

// peerDist measures retrieval of blocks from one peer beside curl, the description of files beside SHA-256, and
// the memory of a peer that serves many.
func peerDist(flags *flag.FlagSet) func(context.Context, *lab) error {
	n := size(256 * mib)
	flags.TextVar(&n, "size", n, "`bytes` that are fetched")
	return func(ctx context.Context, l *lab) error {
		if why := netlab.Missing(); why != "" {
			return errors.New(why)
		}
		if err := need("curl", "nginx"); err != nil {
			return err
		}
		if err := l.free(4 * int64(n)); err != nil {
			return err
		}
		m := &retrieval{l: l, body: make([]byte, n)}
		if _, err := faultserver.Content(1, int64(n)).ReadAt(m.body, 0); err != nil {
			return err
		}
		targets, err := m.describing(ctx)
		if err != nil {
			return err
		}
		more, err := m.measure(ctx)
		if err == nil {
			printTargets(append(targets, more...))
		}
		return err
	}
}

type retrieval struct {
	l      *lab
	body   []byte
	hashes *peerdist.Hashes
}

// describing compares content information of version 1 with bare SHA-256, by processor time of one core.
func (m *retrieval) describing(ctx context.Context) ([]target, error) {
	var bare, described figures
	for range m.l.runs {
		for _, c := range []struct {
			into *figures
			do   func() error
		}{
			{&bare, func() error { sha256.Sum256(m.body); return nil }},
			{&described, func() (err error) {
				m.hashes, err = peerdist.Generate(ctx, bytes.NewReader(m.body), peerdist.SHA256)
				return err
			}},
		} {
			before, err := process.CPUTime(os.Getpid())
			if err == nil {
				err = c.do()
			}
			after, err2 := process.CPUTime(os.Getpid())
			if err := errors.Join(err, err2); err != nil {
				return nil, err
			}
			*c.into = append(*c.into, float64(len(m.body))/1e6/(after-before).Seconds())
		}
	}
	t := table{head: []string{"MB for a second of processor time", ""}}
	t.add("SHA-256", bare.spread("%.0f"))
	t.add("content information, version 1", described.spread("%.0f"))
	t.print("Describing %s in memory", size(len(m.body)))
	return []target{{what: "content information, times the speed of SHA-256 per core", limit: 0.8, got: described.median() / bare.median(), format: "%.2f", least: true}}, nil
}

// measure sets up one machine that has all and others that fetch.
func (m *retrieval) measure(ctx context.Context) (_ []target, err error) {
	net, err := netlab.New()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, net.Close()) }()
	peer, err := net.Machine(true, false)
	if err != nil {
		return nil, err
	}
	machines := make([]*netlab.Machine, peerDownloads/clientsEach)
	for i := range machines {
		if machines[i], err = net.Machine(true, false); err != nil {
			return nil, err
		}
	}
	info, service, err := m.serve(ctx, peer)
	if err != nil {
		return nil, err
	}
	defer service.Kill()
	fetcher, err := m.l.build(ctx, "peerclient", "github.com/ebbtransfer/ebb/bench/internal/peerclient")
	if err != nil {
		return nil, err
	}
	web, err := m.web(peer)
	if err != nil {
		return nil, err
	}
	defer web.Kill()
	at := netip.AddrPortFrom(peer.Four, peerPort).String()
	url := fmt.Sprintf("http://%s/file", netip.AddrPortFrom(peer.Four, 8080))

	var ours, rival, perByte, rivalPerByte figures
	for range m.l.runs {
		cpu := processors()
		came, rate, err := fetchFrom(ctx, machines[0], fetcher, info, at, 1, segmentsEach)
		if err == nil && came != int64(len(m.body)) {
			err = fmt.Errorf("%d of %d bytes came", came, len(m.body))
		}
		if err != nil {
			return nil, err
		}
		ours, perByte = append(ours, rate), append(perByte, processors().Sub(cpu, len(m.body)))
		cpu = processors()
		began := time.Now()
		sum, err := exec.CommandContext(ctx, "sh", "-c", shell(machines[0])+" curl -sSf --retry 20 --retry-connrefused --retry-delay 1 "+url+" | sha256sum").Output()
		if err != nil {
			return nil, err
		}
		if want := sha256.Sum256(m.body); !strings.HasPrefix(string(sum), fmt.Sprintf("%x", want)) {
			return nil, errors.New("curl got something else")
		}
		rival, rivalPerByte = append(rival, float64(len(m.body))/1e6/time.Since(began).Seconds()), append(rivalPerByte, processors().Sub(cpu, len(m.body)))
	}
	t := table{head: []string{"", "MB/s", "processor time of the whole machine, ns/byte"}}
	t.add("blocks from one peer: encrypted, both ends check each block", ours.spread("%.0f"), perByte.spread("%.1f"))
	t.add("curl from nginx, in the clear, into sha256sum", rival.spread("%.0f"), rivalPerByte.spread("%.1f"))
	t.print("%s over a pair of interfaces; both ends share the processors. The peer to curl: %.2f", size(len(m.body)), ours.median()/rival.median())

	idle, _, err := memoryUse(service.PID)
	if err == nil {
		err = resetPeak(service.PID)
	}
	if err != nil {
		return nil, err
	}
	type result struct {
		came int64
		err  error
	}
	results := make(chan result, len(machines))
	for _, c := range machines {
		go func() {
			came, _, err := fetchFrom(ctx, c, fetcher, info, at, clientsEach, 1)
			results <- result{came, err}
		}()
	}
	var came int64
	for range machines {
		r := <-results
		came += r.came
		err = errors.Join(err, r.err)
	}
	if err != nil {
		return nil, err
	}
	_, peak, err := memoryUse(service.PID)
	// Clients leave a peer that is too slow for them, as 64 at a time may be.
	fmt.Printf("\nResident memory of the service: %.1f MiB before, at most %.1f MiB while it serves %d downloads, %.0f %% of whose bytes came.\n",
		float64(idle)/mib, float64(peak)/mib, peerDownloads, 100*float64(came)/float64(peerDownloads*len(m.body)))
	return []target{
		{what: "retrieval from one peer, MB/s", limit: 300, got: ours.median(), format: "%.0f", least: true},
		{what: fmt.Sprintf("memory of a peer that serves %d downloads, MiB", peerDownloads), limit: 100, got: float64(peak) / mib, format: "%.1f"},
	}, err
}

// serve runs a service on a machine, with all in its cache, and returns the file of content information.
func (m *retrieval) serve(ctx context.Context, on *netlab.Machine) (string, *process.Process, error) {
	content, err := m.hashes.Info(peerdist.SHA256.ServerKey([]byte("bench")), bits.Range{Length: int64(len(m.body))})
	if err != nil {
		return "", nil, err
	}
	info, archive, config := m.l.path("info"), m.l.path("export.tar"), m.l.path("policy.toml")
	if err := os.WriteFile(info, content.Append(nil), 0o600); err != nil {
		return "", nil, err
	}
	text := fmt.Sprintf("[peers]\nmode = \"distributed\"\ninterfaces = %q\nport = %d\ncache_size = \"20 GiB\"\n", netlab.Interface, peerPort)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return "", nil, err
	}
	if err := m.export(ctx, archive, content); err != nil {
		return "", nil, err
	}
	socket := filepath.Join(m.l.temp, "peer.sock")
	p, err := process.Spawn(filepath.Join(m.l.temp, "peer.log"), []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent/bus"}, "/",
		append(on.Inside(), m.l.ebb, "--socket", socket, "daemon", "--state", m.l.path("peer"), "--config", config)...)
	if err != nil {
		return "", nil, err
	}
	c := client.New(socket)
	defer c.Close()
	for end := time.Now().Add(startLimit); ; {
		st, err := c.Peers(ctx)
		if err == nil && st.Problem != "" {
			err = errors.New(st.Problem)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, client.ErrNoService) || time.Now().After(end) {
			p.Kill()
			return "", nil, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	f, err := os.Open(archive)
	if err != nil {
		p.Kill()
		return "", nil, err
	}
	defer f.Close()
	if done, err := c.ImportCache(ctx, f); err != nil || done.Bytes != int64(len(m.body)) {
		p.Kill()
		return "", nil, fmt.Errorf("fill the peer's cache: %+v, %w", done, err)
	}
	return info, p, nil
}

// export writes an archive for the peer's cache.
func (m *retrieval) export(ctx context.Context, name string, content *peerdist.Info) error {
	c, err := cache.Open(m.l.path("filling"), cache.Limits{Size: 1 << 50, MaxAge: time.Hour})
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(m.l.path("filling")) }()
	defer c.Close()
	for i := range content.Segments {
		s := &content.Segments[i]
		for j := range s.Blocks() {
			at, n := s.Block(j)
			if err := c.Put(s, j, m.body[s.Offset+int64(at):][:n]); err != nil {
				return err
			}
		}
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = c.Export(ctx, f, nil)
	return errors.Join(err, f.Close())
}

// web runs nginx on a machine, with the same bytes.
func (m *retrieval) web(on *netlab.Machine) (*process.Process, error) {
	root, err := m.l.mkdir("web")
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "file"), m.body, 0o644)
	}
	if err != nil {
		return nil, err
	}
	conf := m.l.path("nginx.conf")
	text := fmt.Sprintf("daemon off; master_process off; pid %s; error_log stderr;\nevents {}\nhttp { access_log off; sendfile on; server { listen %s; root %s; } }\n",
		m.l.path("nginx.pid"), netip.AddrPortFrom(on.Four, 8080), root)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return process.Spawn(filepath.Join(m.l.temp, "nginx.log"), nil, "/", append(on.Inside(), "nginx", "-c", conf)...)
}

// fetchFrom lets clients on a machine fetch all, so many segments at once, and returns how many bytes they got together,
// and how many MB in a second.
func fetchFrom(ctx context.Context, on *netlab.Machine, fetcher, info, from string, clients, segments int) (came int64, rate float64, err error) {
	argv := slices.Concat(on.Inside(), []string{fetcher, info, from, strconv.Itoa(clients), strconv.Itoa(segments)})
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return 0, 0, err
	}
	var took int64
	_, err = fmt.Sscan(string(out), &came, &took)
	return came, float64(came) / 1e6 / (float64(took) / 1e9), err
}

// shell is how a command on a machine begins in a shell.
func shell(on *netlab.Machine) string { return strings.Join(on.Inside(), " ") }

// busy is processor time that the whole machine spent, whoever spent it.
type busy float64

// processors returns it, in seconds, from /proc/stat: user, nice, system and the two of interrupts.
func processors() busy {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	f := strings.Fields(strings.SplitN(string(b), "\n", 2)[0])
	var sum float64
	for _, i := range []int{1, 2, 3, 6, 7} {
		if i < len(f) {
			n, _ := strconv.ParseFloat(f[i], 64)
			sum += n / 100
		}
	}
	return busy(sum)
}

// Sub returns the ns that were spent since another reading for each of n bytes.
func (b busy) Sub(before busy, n int) float64 { return float64(b-before) * 1e9 / float64(n) }
