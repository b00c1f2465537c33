// Package access says who makes a request: a user with a password (HTTP Basic), the holder of a
// bearer token, or the subject of a client certificate that the listener has checked. It knows
// nothing of what they may do.
package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"unicode"
)

var (
	// ErrCredentials means that credentials were given, and that they are wrong.
	ErrCredentials = errors.New("wrong credentials")
	// ErrBusy means that a password was not checked, and can be tried again in a while.
	ErrBusy = errors.New("too many others wait for a check of the password")
)

// List is everyone who can be told apart. The zero value knows nobody.
type List struct {
	users  map[string]password
	tokens map[[sha256.Size]byte]string
	decoy  password // whom unknown users are measured against, so that the time does not tell
	certs  bool

	// Passwords are made to be slow to check. A client sends its own with every fragment, so those
	// that were right are remembered, as a keyed hash that dies with the process.
	key    []byte
	turns  chan struct{} // one for each password that may be checked at once: each takes memory
	places chan struct{} // one for each that is checked or waits for its turn

	mu    sync.Mutex // guards right
	right map[[sha256.Size]byte]struct{}
}

const (
	// mostRemembered is how many right passwords are remembered at most.
	mostRemembered = 4096
	// mostChecked is how many passwords are checked at once, and mostWaiting how many wait for that:
	// a check takes a fortieth of a second with the hashes made here, and who sends wrong ones without end must not make
	// others wait without end.
	mostChecked = 2
	mostWaiting = 40
)

// New makes a list of users with the hashes of their passwords, and of bearer tokens: their
// texts, or "sha256:" and the hexadecimal digest of the text. With certs the subjects of client
// certificates count too.
func New(users, tokens map[string]string, certs bool) (*List, error) {
	l := &List{users: map[string]password{}, tokens: map[[sha256.Size]byte]string{}, certs: certs,
		key: make([]byte, 32), turns: make(chan struct{}, mostChecked), places: make(chan struct{}, mostChecked+mostWaiting), right: map[[sha256.Size]byte]struct{}{}}
	_, _ = rand.Read(l.key) // never fails
	for name, hash := range users {
		p, err := parseHash(hash)
		if err != nil {
			return nil, fmt.Errorf("the password of %s %w", name, err)
		}
		l.users[name], l.decoy = p, p
	}
	for name, text := range tokens {
		sum, err := tokenSum(text)
		if err != nil {
			return nil, fmt.Errorf("the token of %s: %w", name, err)
		}
		if other, ok := l.tokens[sum]; ok {
			return nil, fmt.Errorf("%s and %s have the same token", other, name)
		}
		l.tokens[sum] = name
	}
	return l, nil
}

// leastToken is how many characters a token has at least.
const leastToken = 16

func tokenSum(text string) (sum [sha256.Size]byte, err error) {
	if hash, ok := strings.CutPrefix(text, "sha256:"); ok {
		b, err := hex.DecodeString(hash)
		if err != nil || len(b) != len(sum) {
			return sum, errors.New("sha256: is not followed by 64 hexadecimal digits")
		}
		return [sha256.Size]byte(b), nil
	}
	if len(text) < leastToken {
		return sum, fmt.Errorf("it has fewer than %d characters", leastToken)
	}
	return sha256.Sum256([]byte(text)), nil
}

// Empty reports whether nobody can be told apart.
func (l *List) Empty() bool { return !l.inHeader() && !l.certs }

// Principal returns who makes the request; "" is nobody in particular. Credentials in a header
// go before a certificate; where none could be right, they are meant for somebody else, such as a proxy,
// and do not count. The error is ErrCredentials or ErrBusy.
func (l *List) Principal(r *http.Request) (string, error) {
	var scheme, rest string
	if l.inHeader() {
		scheme, rest, _ = strings.Cut(r.Header.Get("Authorization"), " ")
	}
	switch strings.ToLower(scheme) {
	case "":
	case "basic":
		name, secret, ok := r.BasicAuth()
		err := ErrCredentials
		if ok {
			err = l.verify(r, name, secret)
		}
		if err != nil {
			return "", fmt.Errorf("%w of the user %.64q", err, name)
		}
		return name, nil
	case "bearer":
		// The digest is looked up, not the text: how long that takes tells nothing of the text.
		name, ok := l.tokens[sha256.Sum256([]byte(strings.TrimSpace(rest)))]
		if !ok {
			return "", fmt.Errorf("%w: an unknown token", ErrCredentials)
		}
		return name, nil
	default:
		return "", fmt.Errorf("%w: the scheme %.32q is not known", ErrCredentials, scheme)
	}
	if l.certs && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		name := r.TLS.VerifiedChains[0][0].Subject.CommonName
		if strings.ContainsFunc(name, unicode.IsControl) { // some names here have them, so that nobody has those
			return "", fmt.Errorf("%w: the certificate's name %.64q has control characters", ErrCredentials, name)
		}
		return name, nil
	}
	return "", nil
}

// verify checks a password. The error is ErrCredentials or ErrBusy.
func (l *List) verify(r *http.Request, name, secret string) error {
	p, known := l.users[name]
	if !known {
		p = l.decoy
	}
	if p == nil || len(secret) > maxPassword {
		return ErrCredentials
	}
	mac := hmac.New(sha256.New, l.key)
	_, _ = fmt.Fprintf(mac, "%d:%s%s", len(name), name, secret)
	sum := [sha256.Size]byte(mac.Sum(nil))
	l.mu.Lock()
	_, ok := l.right[sum]
	l.mu.Unlock()
	if ok {
		return nil
	}
	select {
	case l.places <- struct{}{}:
		defer func() { <-l.places }()
	default:
		return ErrBusy
	}
	select {
	case l.turns <- struct{}{}:
		defer func() { <-l.turns }()
	case <-r.Context().Done(): // nobody waits for the answer
		return ErrBusy
	}
	if !p.matches(secret) || !known {
		return ErrCredentials
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.right) >= mostRemembered {
		clear(l.right)
	}
	l.right[sum] = struct{}{}
	return nil
}

// Challenge sets what asks the client for credentials, and reports whether there are any that it
// could give in a header.
func (l *List) Challenge(h http.Header) bool {
	if len(l.users) > 0 {
		h.Add("WWW-Authenticate", `Basic realm="ebb", charset="UTF-8"`)
	}
	if len(l.tokens) > 0 {
		h.Add("WWW-Authenticate", `Bearer realm="ebb"`)
	}
	return l.inHeader()
}

// inHeader reports whether there are credentials that a header could have.
func (l *List) inHeader() bool { return len(l.users) > 0 || len(l.tokens) > 0 }
