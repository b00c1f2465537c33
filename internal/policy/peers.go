package policy

import (
	"fmt"
	"math/big"
	"net"
	"regexp"
	"strconv"
	"strings"
)

// Peers says what the machine gets from others of its network, and gives to them (BranchCache).
type Peers struct {
	Mode           PeerMode
	Fetch          bool       // downloads may get blocks from peers and hosted caches
	Serve          bool       // peers may get blocks from here
	Port           int        // TCP port that blocks are served on; 1 to 65535
	Interfaces     Interfaces // networks that peers are looked for on and served
	HostedCaches   Caches     // asked in mode hosted
	CacheSize      Size       // of the blocks that are kept
	MaxAge         Duration   // for how long they are kept; 1h to 365d
	Uploads        int        // answers to peers at a time; 1 to 16384
	UploadRate     Rate       // of all of them together; Unlimited: as much as other traffic leaves
	ServeOnBattery bool
	PlainHTTP      bool // content information counts that came without TLS
	Version1Only   bool // of content information: what Windows 7 and Server 2008 R2 know
	ThrottleLAN    bool // the limits of the bandwidth hold for bytes from peers too
	DigestMode     bool // files of which only a digest is known are shared too
}

// PeerMode says whom blocks are got from.
type PeerMode string

// The modes.
const (
	PeersOff         PeerMode = "off"         // there is no cache, and nobody is asked or answered
	PeersLocal       PeerMode = "local"       // this machine's own cache only
	PeersDistributed PeerMode = "distributed" // machines of the same network
	PeersHosted      PeerMode = "hosted"      // the caches of HostedCaches
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *PeerMode) UnmarshalText(b []byte) error {
	switch mode := PeerMode(strings.ToLower(strings.TrimSpace(string(b)))); mode {
	case PeersOff, PeersLocal, PeersDistributed, PeersHosted:
		*m = mode
		return nil
	}
	return fmt.Errorf("%q is not a mode (want %q, %q, %q or %q)", b, PeersOff, PeersLocal, PeersDistributed, PeersHosted)
}

func (m PeerMode) String() string { return string(m) }

// automatic is the word for a choice that the service makes itself.
const automatic = "auto"

// Interfaces are names of network interfaces, or "auto": those with private addresses that are not
// virtual.
type Interfaces string

// Names returns the interfaces that are named; none for "auto".
func (i Interfaces) Names() []string {
	if i == automatic || i == "" {
		return nil
	}
	return strings.Split(string(i), ", ")
}

func (i Interfaces) String() string { return string(i) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (i *Interfaces) UnmarshalText(b []byte) error {
	text, err := parseList(string(b), automatic, "", func(item string) error {
		if strings.ContainsAny(item, "/ \t") || len(item) > 255 {
			return fmt.Errorf("%q is not the name of a network interface", item)
		}
		return nil
	})
	*i = Interfaces(text)
	return err
}

// Caches are the addresses of hosted caches, each with its port, or "none".
type Caches string

// hostedPort is where hosted caches of BranchCache listen: what Windows knows no other for.
const hostedPort = "80"

// Addresses returns them as host:port.
func (c Caches) Addresses() []string {
	if c == nothing || c == "" {
		return nil
	}
	return strings.Split(string(c), ", ")
}

func (c Caches) String() string { return string(c) }

// UnmarshalText implements encoding.TextUnmarshaler: "cache.example.com" stands for its port 80.
func (c *Caches) UnmarshalText(b []byte) error {
	var full []string
	text, err := parseList(string(b), "", nothing, func(item string) error {
		host, port, err := net.SplitHostPort(item)
		if err != nil {
			host, port = strings.TrimSuffix(strings.TrimPrefix(item, "["), "]"), hostedPort
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@[] \t") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return fmt.Errorf("%q is not the address of a cache (want \"cache.example.com\" or \"cache.example.com:2178\")", item)
		}
		full = append(full, net.JoinHostPort(host, port))
		return nil
	})
	if full != nil {
		text = strings.Join(full, ", ")
	}
	*c = Caches(text)
	return err
}

// Size is an amount of disk: of bytes, or a part of the whole.
type Size struct {
	Percent int   // of the disk; 0: Bytes holds
	Bytes   int64 // in the file with a unit
}

// Bounds of a size.
const (
	leastSize   = 64 << 20 // two segments
	mostSize    = 1 << 50
	mostPercent = 80
)

// sizeUnits are the units of sizes, the largest first of each kind.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}}

var sizeForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)[ \t]*([A-Za-z%]+)$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(b []byte) error {
	m := sizeForm.FindStringSubmatch(strings.TrimSpace(string(b)))
	if m == nil {
		return fmt.Errorf("%q is not a size (want \"5%%\" of the disk, or \"20 GiB\")", b)
	}
	if m[2] == "%" {
		n, err := strconv.Atoi(m[1])
		if err != nil || n < 1 || n > mostPercent {
			return fmt.Errorf("%q is out of range; want 1%% to %d%%, as a whole number", b, mostPercent)
		}
		*s = Size{Percent: n}
		return nil
	}
	for _, u := range sizeUnits {
		if u.name != m[2] {
			continue
		}
		n, ok := new(big.Rat).SetString(m[1])
		if !ok {
			break
		}
		n.Mul(n, new(big.Rat).SetInt64(u.bytes))
		if n.Cmp(new(big.Rat).SetInt64(leastSize)) < 0 || n.Cmp(new(big.Rat).SetInt64(mostSize)) > 0 {
			return fmt.Errorf("%q is out of range; want %s to %s", b, Size{Bytes: leastSize}, Size{Bytes: mostSize})
		}
		*s = Size{Bytes: new(big.Int).Div(n.Num(), n.Denom()).Int64()}
		return nil
	}
	return fmt.Errorf("%q is not a unit of sizes (want %%, or MiB, GiB, TiB, MB, GB, TB)", m[2])
}

// String returns the size in the largest unit in which it is a whole number, or in MB with
// a fraction.
func (s Size) String() string {
	if s.Percent > 0 {
		return strconv.Itoa(s.Percent) + "%"
	}
	for _, u := range sizeUnits {
		if s.Bytes%u.bytes == 0 {
			return fmt.Sprintf("%d %s", s.Bytes/u.bytes, u.name)
		}
	}
	// Millionths of 1 MB are whole bytes.
	return strings.TrimRight(fmt.Sprintf("%d.%06d", s.Bytes/1e6, s.Bytes%1e6), "0") + " MB"
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
