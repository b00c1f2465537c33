package access

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// maxPassword is how many bytes a password has at most; bcrypt looks at 72 of them.
const maxPassword = 1024

// password is the hash of one.
type password interface{ matches(secret string) bool }

type bcryptHash []byte

func (h bcryptHash) matches(secret string) bool {
	return bcrypt.CompareHashAndPassword(h, []byte(secret)) == nil
}

type argonHash struct {
	time, memory uint32 // memory in KiB
	threads      uint8
	salt, sum    []byte
}

func (h argonHash) matches(secret string) bool {
	got := argon2.IDKey([]byte(secret), h.salt, h.time, h.memory, h.threads, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(got, h.sum) == 1
}

// parseHash reads a hash as argon2 (argon2id) and htpasswd -B (bcrypt) write it. Costs that would
// stop the server are refused.
func parseHash(text string) (password, error) {
	switch {
	case strings.HasPrefix(text, "$2"):
		cost, err := bcrypt.Cost([]byte(text))
		if err != nil {
			return nil, err
		}
		if cost > 16 {
			return nil, fmt.Errorf("the bcrypt cost %d takes seconds for each check; want 10 to 16", cost)
		}
		return bcryptHash(text), nil
	case strings.HasPrefix(text, "$argon2id$"):
		return parseArgon(text)
	}
	return nil, errors.New("is not a hash: want $argon2id$... or $2y$..., such as `ebb serve password` prints")
}

func parseArgon(text string) (password, error) {
	bad := errors.New("is not an argon2id hash: want $argon2id$v=19$m=65536,t=3,p=4$SALT$HASH")
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return nil, bad
	}
	var h argonHash
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); n != 3 || err != nil {
		return nil, bad
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	h.sum, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.sum) < 16 || len(h.sum) > 128 {
		return nil, bad
	}
	if h.memory > 1<<20 || h.time < 1 || h.time > 64 || h.threads < 1 {
		return nil, errors.New("the costs of the argon2id hash are out of range; want m up to 1048576, t from 1 to 64, p from 1")
	}
	return h, nil
}

// Hash hashes a password for New, with the costs that OWASP names as enough: 19 MiB, twice.
func Hash(secret string) (string, error) {
	if secret == "" || len(secret) > maxPassword {
		return "", fmt.Errorf("a password has 1 to %d bytes", maxPassword)
	}
	h := argonHash{time: 2, memory: 19 << 10, threads: 1, salt: make([]byte, 16)}
	_, _ = rand.Read(h.salt) // never fails
	sum := argon2.IDKey([]byte(secret), h.salt, h.time, h.memory, h.threads, 32)
	enc := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads, enc(h.salt), enc(sum)), nil
}
