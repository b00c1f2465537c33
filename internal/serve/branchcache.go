package serve

import (
	"cmp"
	"net"
	"path/filepath"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peerdist/hashstore"
	"github.com/ebbtransfer/ebb/internal/serve/config"
	"github.com/ebbtransfer/ebb/internal/serve/files"
)

// Defaults of BranchCache's documents: hashes may take 1 % of the disk, and are kept for 28 days.
const (
	hashesPercent = 1
	hashesAge     = 28 * 24 * time.Hour
	unknownDisk   = 100 << 30 // where nobody tells how large a disk is
	// leastSecret is how many bytes a secret has that nobody guesses; others can be tried one by one by who
	// knows a public id and what is in the file.
	leastSecret = 16
)

// openBranchCache opens what it takes to describe files, if any are to be described. The secret and the
// hashes are for all groups.
func (s *server) openBranchCache() error {
	b := s.BranchCache
	if !b.On {
		return nil
	}
	secret, err := s.secret()
	if err != nil {
		return err
	}
	if len(secret) < leastSecret {
		s.Log.Warn("the BranchCache secret is short, and may be guessed", "bytes", len(secret))
	}
	dir := filepath.Join(s.State, "hashes")
	size := cmp.Or(b.HashesSize, cache.Part(s.State, hashesPercent, unknownDisk))
	if s.hashes, err = hashstore.New(dir, hashstore.Limits{Size: size, MaxAge: cmp.Or(b.HashesAge, hashesAge)}, s.Log); err != nil {
		return err
	}
	s.origin = files.NewOrigin(s.hashes, secret, s.metrics.described)
	return nil
}

func (s *server) secret() ([]byte, error) {
	if s.BranchCache.Secret != "" {
		return ReadSecret(s.BranchCache.Secret)
	}
	return ownSecret(s.State)
}

// describing returns how a group's files are described; nil if they are not.
func (s *server) describing(g *config.Group) *files.Describing {
	b := s.BranchCache.In(g)
	if !b.On || s.origin == nil {
		return nil
	}
	return &files.Describing{Origin: s.origin, PlainHTTP: b.PlainHTTP, Second: b.Version == 2}
}

// warnBranchCache tells what an operator may not expect.
func (s *server) warnBranchCache(listeners []listener) {
	if s.origin == nil {
		return
	}
	plain, tls := false, false
	for _, l := range listeners {
		a, ok := l.Addr().(*net.TCPAddr)
		tls = tls || l.tls
		plain = plain || !l.tls && (!ok || !a.IP.IsLoopback())
	}
	switch {
	case !tls && !s.BranchCache.PlainHTTP:
		s.Log.Warn("BranchCache is for clients that come by HTTPS, and there is no address for them; see --branchcache-http")
	case plain && s.BranchCache.PlainHTTP:
		s.Log.Warn("content information, with the keys of the files' blocks, can be read on the way to clients that come without HTTPS")
	}
}
