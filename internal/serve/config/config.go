// Package config reads the one TOML file of ebb serve, with line numbers in what it finds wrong.
// It knows every key, its range and its default, and nothing of how a key is put in force.
package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// Config is how a server runs.
type Config struct {
	Listen  []Address
	Metrics string // host:port for Prometheus; empty: only on the admin socket
	TLS     TLS
	Users   map[string]string // name to the hash of the password
	Tokens  map[string]string // name to the token or its hash
	Groups  []Group

	BranchCache BranchCache
	HostedCache HostedCache
}

// HostedCache is what machines of the network leave at the server for others (MS-PCHC).
type HostedCache struct {
	On     bool
	Size   int64          // bytes on disk; 0 is a twentieth of it
	MaxAge time.Duration  // for how long something is kept; 0 is 28 days
	Allow  []netip.Prefix // who may use it; empty: the private networks that the machine is in
}

// BranchCache is how files are described to clients that then get them from each other.
type BranchCache struct {
	On         bool
	Secret     string        // file of the server's secret; empty: in the state directory, made there if it is not yet
	PlainHTTP  bool          // also without TLS
	Version    int           // of content information, 1 or 2, at most; 0 is 2
	HashesSize int64         // bytes that the hashes of files may take; 0 is a hundredth of the disk
	HashesAge  time.Duration // for how long those are kept that nobody asks for; 0 is 28 days
}

// In returns what holds in a group.
func (b BranchCache) In(g *Group) BranchCache {
	b.On = b.On && !g.BranchCache.Off
	if g.BranchCache.PlainHTTP != nil {
		b.PlainHTTP = *g.BranchCache.PlainHTTP
	}
	b.Version = cmp.Or(g.BranchCache.Version, b.Version, 2)
	return b
}

// GroupBranchCache is what a group says in place of what the server says.
type GroupBranchCache struct {
	Off       bool
	PlainHTTP *bool // nil: as the server says
	Version   int   // 0: as the server says
}

// Address is where to listen.
type Address struct {
	Addr string // host:port
	TLS  bool
}

// TLS is how HTTPS is spoken. Nothing of it matters where nobody listens for that.
type TLS struct {
	Cert, Key      string // PEM files
	SelfSigned     bool   // make a certificate, and keep it
	ClientCA       string // PEM file; whoever signs the clients' certificates
	ClientRequired bool   // no connection without one
}

// Group is a URL prefix and what is behind it: files, uploads or both.
type Group struct {
	Path        string            // with a slash at both ends
	Dir         string            // directory; empty with Files or a bucket
	Files       map[string]string // listed ones: name to path
	Listing     bool
	Connections int   // requests at once; 0 is no limit
	Bandwidth   int64 // bytes a second in each direction; 0 is no limit
	// Read and Write name who may: principals, or Anyone, or Authenticated.
	Read, Write []string
	Uploads     *Uploads // nil: none are taken
	BranchCache GroupBranchCache
}

// The names that stand for several principals.
const (
	Anyone        = "anyone"        // also who says nothing
	Authenticated = "authenticated" // who says who he is
)

// Uploads is how a group takes them: what server.md chapter 2 lists, with the same defaults.
type Uploads struct {
	SessionTimeout  time.Duration
	MaxSize         int64 // bytes; -1 is no limit
	MaxFragment     int64 // bytes
	Overwrite       bool
	HostID          string
	HostIDFallback  time.Duration
	Notify          session.NotifyType
	NotifyURL       string
	NotifyTimeout   time.Duration
	PublicURL       string
	Cleanup         time.Duration // how often
	SessionsPerUser int           // 0 is no limit
	MinFree         int64         // bytes that uploads leave free on the disk
	Origins         []string      // whose scripts in browsers may upload
	Storage         Storage
}

// Storage is where uploads go; the zero value is the group's directory.
type Storage struct {
	Bucket    string // empty is the directory
	Prefix    string // of the keys; with a slash at the end unless empty
	Endpoint  string // URL; empty is AWS's
	Region    string
	AccessKey string // empty: as the environment says
	SecretKey string
	Token     string // of temporary credentials, which only the environment gives
}

// DefaultUploads returns BITS's defaults, for those who may write. Where anyone may, there is no
// limit of sessions: it is one for each user, and all who are anonymous would be one. A GiB of the disk
// stays free, whoever may write: what else runs on the machine should not stop for it.
func DefaultUploads(write []string) Uploads {
	u := Uploads{
		SessionTimeout: 14 * 24 * time.Hour, MaxSize: -1, MaxFragment: 64 << 20, HostIDFallback: 24 * time.Hour,
		NotifyTimeout: 5 * time.Minute, Cleanup: 12 * time.Hour, SessionsPerUser: 50,
		MinFree: 1 << 30,
	}
	if slices.Contains(write, Anyone) {
		u.SessionsPerUser = 0
	}
	return u
}

// ParseNetwork reads a network, such as "10.1.0.0/16", or the address of one machine.
func ParseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is not a network, such as \"10.1.0.0/16\", nor an address", text)
	}
	return p.Masked(), nil
}

// ParseAddress reads where to listen: "[http://|https://][host]:port". Without a scheme it is
// HTTPS if tls says so.
func ParseAddress(text string, tls bool) (Address, error) {
	a := Address{Addr: text, TLS: tls}
	if rest, ok := strings.CutPrefix(text, "https://"); ok {
		a = Address{rest, true}
	} else if rest, ok := strings.CutPrefix(text, "http://"); ok {
		a = Address{rest, false}
	}
	a.Addr = strings.TrimSuffix(a.Addr, "/")
	if _, _, err := net.SplitHostPort(a.Addr); err != nil {
		return a, &net.AddrError{Err: "want HOST:PORT, :PORT, http://HOST:PORT or https://HOST:PORT", Addr: text}
	}
	return a, nil
}

// cleanPath returns a URL path with a slash at both ends, and whether it is one that requests
// can have.
func cleanPath(p string) (string, bool) {
	if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "\\?#%\x00") {
		return p, false
	}
	clean := path.Clean(p)
	if clean != "/" {
		clean += "/"
	}
	return clean, strings.TrimSuffix(clean, "/") == strings.TrimSuffix(p, "/")
}
