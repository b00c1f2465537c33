package peerdist

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"unicode/utf16"
)

// Files of a server's secret, as Windows's Export-BCSecretKey makes them (section 2): the supported way
// to share it between servers of the same URLs. The passphrase is not stretched, so the file is to be
// kept like the secret itself.

// maxSecretFile bounds a file that is imported; secrets have 32 bytes, more of a passphrase.
const maxSecretFile = 64 << 10

var errSecretFile = errors.New("it is no file of a server's secret, or the passphrase is another")

// exportCipher has a vector of zeros: each passphrase makes one key, and the plain text begins with a
// hash.
func exportCipher(passphrase string) (block cipher.Block, iv []byte) {
	var b []byte
	for _, c := range utf16.Encode([]rune(passphrase)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	key := sha256.Sum256(b)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only for lengths that SHA-256 does not have
	}
	return block, make([]byte, aes.BlockSize)
}

// ExportSecret returns the file of a server's secret p, sealed with a passphrase.
func ExportSecret(p []byte, passphrase string) []byte {
	sum := sha256.Sum256(p)
	b := append(sum[:], p...)
	pad := aes.BlockSize - len(b)%aes.BlockSize
	b = append(b, bytes.Repeat([]byte{byte(pad)}, pad)...)
	block, iv := exportCipher(passphrase)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(b, b)
	return b
}

// ImportSecret returns the secret p that a file holds.
func ImportSecret(file []byte, passphrase string) ([]byte, error) {
	if len(file) < sha256.Size+aes.BlockSize || len(file)%aes.BlockSize != 0 || len(file) > maxSecretFile {
		return nil, errSecretFile
	}
	b := make([]byte, len(file))
	block, iv := exportCipher(passphrase)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(b, file)
	pad := int(b[len(b)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errSecretFile
	}
	sum, p := b[:sha256.Size], b[sha256.Size:len(b)-pad]
	want := sha256.Sum256(p)
	if len(p) == 0 || subtle.ConstantTimeCompare(sum, want[:]) != 1 {
		return nil, errSecretFile
	}
	return p, nil
}
