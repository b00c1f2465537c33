// Package vault seals the secrets of jobs, so that the store, its journal and its backups hold
// none in clear: passwords, tokens, keys of certificates, headers.
//
// It promises that what it sealed opens only with the same key, for the same job and as the same
// kind of secret: what someone copies from one job's record into another's does not open there. It
// does not protect from who can read both the store and its key; that is why the key comes from
// the service manager where there is one (systemd-creds, bound to the machine), and is no part of
// the store's backups.
package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ebbtransfer/ebb/bits"
)

const (
	// CredentialName names the key among the credentials that systemd hands to the service
	// (LoadCredentialEncrypted=).
	CredentialName = "ebb-store-key"
	// KeyName is the file in the state directory that has the key where no service manager gives
	// one.
	KeyName = "store.key"

	format  = 1  // first byte of what is sealed
	keySize = 32 // of what the key file has, in bytes; a credential may have more
	maxKey  = 4 << 10
	idSize  = 4 // bytes of a sealed secret that tell which key sealed it
)

// ErrKey means that a secret was sealed with another key than the vault has: the machine's key or
// the key file was changed or lost, or the store came from elsewhere.
var ErrKey = errors.New("the secret was sealed with another key")

// ErrDamaged means that what should be a sealed secret is not one, or is another job's or of
// another kind.
var ErrDamaged = errors.New("the sealed secret is damaged")

// Vault has a key. It is safe for use by several goroutines at once.
type Vault struct {
	aead cipher.AEAD
	id   [idSize]byte
}

// Open returns a Vault with the key that the service manager gave, or else with that in the state
// directory dir, which is made if there is none.
func Open(dir string) (*Vault, error) {
	if given := os.Getenv("CREDENTIALS_DIRECTORY"); given != "" {
		name := filepath.Join(given, CredentialName)
		secret, err := readKey(name, false)
		if err == nil {
			return vaultWith(secret, name)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	name := filepath.Join(dir, KeyName)
	secret, err := readKey(name, true)
	if errors.Is(err, os.ErrNotExist) {
		if err = makeKey(dir); err != nil {
			return nil, fmt.Errorf("make a key for secrets: %w", err)
		}
		secret, err = readKey(name, true)
	}
	if err != nil {
		return nil, err
	}
	return vaultWith(secret, name)
}

// readKey reads a file that has a key. One that is ours must be for our eyes only: who could read
// it has the secrets, who could write it chooses their key.
func readKey(name string, ours bool) ([]byte, error) {
	f, err := openKey(name)
	if err != nil {
		return nil, fmt.Errorf("read the key for secrets: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the key for secrets: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the key for secrets %s is not a file", name)
	}
	if ours {
		if err := private(info); err != nil {
			return nil, fmt.Errorf("the key for secrets %s %w", name, err)
		}
	}
	secret, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return nil, fmt.Errorf("read the key for secrets: %w", err)
	}
	if len(secret) > maxKey {
		return nil, fmt.Errorf("the key for secrets %s has more than %d bytes", name, maxKey)
	}
	return secret, nil
}

// makeKey makes the key file in dir: whole and durable, or not at all. If another one was faster,
// its key counts.
func makeKey(dir string) error {
	f, err := os.CreateTemp(dir, KeyName+".*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	secret := make([]byte, keySize)
	_, _ = rand.Read(secret) // never fails
	if _, err = f.Write(secret); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), filepath.Join(dir, KeyName)); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func vaultWith(secret []byte, name string) (*Vault, error) {
	if len(secret) < keySize {
		return nil, fmt.Errorf("the key for secrets %s has %d bytes; %d are needed", name, len(secret), keySize)
	}
	derive := func(purpose string, n int) []byte {
		key, err := hkdf.Key(sha256.New, secret, nil, "ebb "+purpose, n)
		if err != nil {
			panic(err) // only for lengths that SHA-256 cannot give
		}
		return key
	}
	block, err := aes.NewCipher(derive("secrets of jobs", 32))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	v := &Vault{aead: aead}
	copy(v.id[:], derive("name of the key", idSize))
	return v, nil
}

// bound is what a sealed secret belongs to: it is authenticated with it.
func bound(job bits.ID, kind string) []byte {
	return append(append([]byte("ebb secret 1\x00"), job[:]...), kind...)
}

// Seal encrypts a secret of a job. kind says what it is; it is needed again to open it.
func (v *Vault) Seal(plain []byte, job bits.ID, kind string) []byte {
	head := append([]byte{format}, v.id[:]...)
	return v.aead.Seal(head, nil, plain, bound(job, kind))
}

// Open returns what was sealed. Its errors are ErrKey or ErrDamaged.
func (v *Vault) Open(sealed []byte, job bits.ID, kind string) ([]byte, error) {
	if len(sealed) < 1+idSize || sealed[0] != format {
		return nil, ErrDamaged
	}
	if [idSize]byte(sealed[1:]) != v.id {
		return nil, ErrKey
	}
	plain, err := v.aead.Open(nil, nil, sealed[1+idSize:], bound(job, kind))
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}
