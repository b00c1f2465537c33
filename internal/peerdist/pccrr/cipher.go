package pccrr

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// Cipher is how a block is encrypted, by its number on the wire.
type Cipher uint32

// The ciphers, all of them with CBC. There is a number for none, 0: it is never sent, and refused.
const (
	AES128 Cipher = 1 // what we send
	AES192 Cipher = 2
	AES256 Cipher = 3
)

// block returns the cipher with the beginning of a segment's secret as its key (sections 2 and 16.11).
func (c Cipher) block(kp peerdist.Secret) (cipher.Block, error) {
	n := map[Cipher]int{AES128: 16, AES192: 24, AES256: 32}[c]
	if n == 0 || len(kp) < n {
		return nil, fmt.Errorf("cipher %d", c)
	}
	return aes.NewCipher(kp[:n])
}

// Seal encrypts a block under its segment's secret. It returns the data, made in space if that is
// long enough, and a new vector. Space may be the block's own.
func Seal(c Cipher, kp peerdist.Secret, plain, space []byte) (data, iv []byte, err error) {
	block, err := c.block(kp)
	if err != nil {
		return nil, nil, err
	}
	iv = make([]byte, aes.BlockSize)
	_, _ = rand.Read(iv) // never fails
	return seal(block, iv, plain, space), iv, nil
}

func seal(block cipher.Block, iv, plain, space []byte) []byte {
	space = append(space[:0], plain...)
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	for range pad {
		space = append(space, byte(pad))
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(space, space)
	return space
}

// errSealed is the one error of all that can be wrong with a block's data.
var errSealed = errors.New("a block that cannot be decrypted")

// decrypt decrypts data in place. It does what cipher.NewCBCDecrypter does, in three quarters of the time: that
// calls for an exclusive or of 16 bytes at a time.
func decrypt(block cipher.Block, iv, data []byte) {
	var before [aes.BlockSize + 2048]byte // of each byte of the result, the one that its own was mixed with
	copy(before[:], iv)
	for len(data) > 0 {
		part := data[:min(len(data), len(before)-aes.BlockSize)]
		copy(before[aes.BlockSize:], part)
		for i := 0; i < len(part); i += aes.BlockSize {
			b := part[i : i+aes.BlockSize]
			block.Decrypt(b, b)
		}
		subtle.XORBytes(part, part, before[:])
		copy(before[:aes.BlockSize], before[len(part):])
		data = data[len(part):]
	}
}

// Open decrypts a block in place. What it returns has still to be verified: nothing but the block's
// hash tells whether it is right.
func Open(c Cipher, kp peerdist.Secret, b Block) ([]byte, error) {
	block, err := c.block(kp)
	if err != nil {
		return nil, err
	}
	n := len(b.Data)
	if n == 0 || n%aes.BlockSize != 0 || len(b.IV) != aes.BlockSize {
		return nil, errSealed
	}
	decrypt(block, b.IV, b.Data)
	pad := int(b.Data[n-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errSealed
	}
	for _, p := range b.Data[n-pad:] {
		if int(p) != pad {
			return nil, errSealed
		}
	}
	return b.Data[:n-pad], nil
}
