package auth

import (
	"crypto/md5" //nolint:gosec // what most servers offer for Digest; who needs better uses TLS
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"net/url"
	"slices"
	"strings"
)

// digest is what a server told for Digest (RFC 7616). Its count is guarded by the Agent.
type digest struct {
	realm, nonce, opaque string
	algorithm            string // as the server spells it; empty if it does not say
	qop                  bool   // auth; without it the server is one of RFC 2069
	session, userhash    bool
	utf8                 bool
	count                uint32 // requests with this nonce
}

// algorithms of Digest, the best first.
var algorithms = []struct {
	name string
	hash func() hash.Hash
}{
	{"SHA-512-256", sha512.New512_256},
	{"SHA-256", sha256.New},
	{"MD5", md5.New},
}

// rank returns how good an algorithm is, 0 for the best; -1 if it is not known.
func rank(algorithm string) int {
	base := strings.TrimSuffix(strings.ToUpper(algorithm), "-SESS")
	if base == "" {
		base = "MD5"
	}
	for i, a := range algorithms {
		if a.name == base {
			return i
		}
	}
	return -1
}

// newDigest reads a challenge; nil if it asks for what is not known.
func newDigest(c Challenge) *digest {
	d := &digest{
		realm: c.Params["realm"], nonce: c.Params["nonce"], opaque: c.Params["opaque"], algorithm: c.Params["algorithm"],
		session:  strings.HasSuffix(strings.ToUpper(c.Params["algorithm"]), "-SESS"),
		userhash: strings.EqualFold(c.Params["userhash"], "true"), utf8: strings.EqualFold(c.Params["charset"], "UTF-8"),
	}
	if qop, given := c.Params["qop"]; given {
		d.qop = slices.ContainsFunc(strings.Split(qop, ","), func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "auth") })
		if !d.qop {
			return nil // auth-int needs all of a body before its first byte is sent
		}
	}
	if d.nonce == "" || rank(d.algorithm) < 0 || strings.ContainsFunc(d.realm+d.nonce+d.opaque+d.algorithm, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return nil
	}
	return d
}

// answer returns the value of the header for one request, the count-th with this nonce.
func (d *digest) answer(c *Credential, method, uri string, count uint32) string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return d.answerWith(c, method, uri, count, hex.EncodeToString(random[:]))
}

func (d *digest) answerWith(c *Credential, method, uri string, count uint32, cnonce string) string {
	newHash := algorithms[rank(d.algorithm)].hash
	h := func(parts ...string) string {
		sum := newHash()
		sum.Write([]byte(strings.Join(parts, ":")))
		return hex.EncodeToString(sum.Sum(nil))
	}
	a1 := h(c.User, d.realm, c.Password)
	if d.session {
		a1 = h(a1, d.nonce, cnonce)
	}
	a2 := h(method, uri)
	nc := fmt.Sprintf("%08x", count)
	user := "username=" + quote(c.User)
	switch {
	case d.userhash:
		user = "username=" + quote(h(c.User, d.realm)) + ", userhash=true"
	case d.utf8 && strings.ContainsFunc(c.User, func(r rune) bool { return r > '~' }):
		user = "username*=UTF-8''" + url.PathEscape(c.User)
	}
	out := "Digest " + user + ", realm=" + quote(d.realm) + ", nonce=" + quote(d.nonce) + ", uri=" + quote(uri)
	if d.algorithm != "" {
		out += ", algorithm=" + d.algorithm
	}
	if d.qop {
		out += ", response=" + quote(h(a1, d.nonce, nc, cnonce, "auth", a2)) + ", qop=auth, nc=" + nc + ", cnonce=" + quote(cnonce)
	} else {
		out += ", response=" + quote(h(a1, d.nonce, a2))
		if d.session {
			out += ", cnonce=" + quote(cnonce)
		}
	}
	if d.opaque != "" {
		out += ", opaque=" + quote(d.opaque)
	}
	return out
}
