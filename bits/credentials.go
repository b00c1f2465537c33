package bits

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

// AuthScheme is a way to say and to prove who one is (BG_AUTH_SCHEME).
type AuthScheme uint8

// The schemes. Bearer and HMAC are not among BITS's.
const (
	AuthBasic     AuthScheme = 1
	AuthDigest    AuthScheme = 2
	AuthNTLM      AuthScheme = 3
	AuthNegotiate AuthScheme = 4 // Kerberos, or NTLM where there is none
	AuthPassport  AuthScheme = 5 // known so that it can be refused: no server has it any more
	AuthBearer    AuthScheme = 6 // a token (RFC 6750)
	AuthHMAC      AuthScheme = 7 // signs what is posted to a web hook, the only target that has it
)

var schemeNames = []string{"NONE", "BASIC", "DIGEST", "NTLM", "NEGOTIATE", "PASSPORT", "BEARER", "HMAC"}

func (s AuthScheme) String() string { return nameOf(schemeNames, int(s), "AuthScheme") }

// MarshalText implements encoding.TextMarshaler.
func (s AuthScheme) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; case does not matter.
func (s *AuthScheme) UnmarshalText(b []byte) (err error) {
	*s, err = ParseAuthScheme(string(b))
	return err
}

// ParseAuthTarget reads a target's name; case does not matter. Its error is
// BG_E_INVALID_AUTH_TARGET.
func ParseAuthTarget(s string) (AuthTarget, error) {
	if i, err := indexOf(targetNames[1:], s, ""); err == nil {
		return AuthTarget(i + 1), nil
	}
	return 0, Errorf(InvalidAuthTarget, "%.40q is no target of credentials (want SERVER, PROXY or HOOK)", s)
}

// ParseAuthScheme reads a scheme's name; case does not matter. Its error is
// BG_E_INVALID_AUTH_SCHEME.
func ParseAuthScheme(s string) (AuthScheme, error) {
	if i, err := indexOf(schemeNames[1:], s, ""); err == nil {
		return AuthScheme(i + 1), nil
	}
	return 0, Errorf(InvalidAuthScheme, "%.40q is no scheme of credentials (want BASIC, DIGEST, NTLM, NEGOTIATE, BEARER or, for a hook, HMAC)", s)
}

// CredentialName names one of a job's credentials; there is at most one of each name.
type CredentialName struct {
	Target AuthTarget `json:"target" enum:"SERVER,PROXY,HOOK" doc:"Who asks, or HOOK for the job's web hook"`
	Scheme AuthScheme `json:"scheme" enum:"BASIC,DIGEST,NTLM,NEGOTIATE,BEARER,HMAC" doc:"How the job identifies; HMAC, which signs, for HOOK only"`
}

// String returns the name as TARGET/SCHEME.
func (n CredentialName) String() string { return n.Target.String() + "/" + n.Scheme.String() }

// Credential is what a job's owner gives a job to identify with. It cannot be read back.
type Credential struct {
	CredentialName
	// User may be DOMAIN\user or user@realm for NTLM and Negotiate. Without user and password,
	// NTLM and Negotiate stand for the owner's own identity: his Kerberos tickets.
	User     *string `json:"user,omitempty" doc:"User name, up to 300 characters; none for bearer and hmac. Without user and password, negotiate and ntlm stand for the owner's own identity (Kerberos tickets)"`
	Password *string `json:"password,omitempty" doc:"Password, or the token of bearer, up to 65,535 characters; or the secret of hmac, 24 to 512 characters or whsec_ and 24 to 64 bytes in base64"`
}

// Bounds on credentials (client.md 0.4).
const (
	MaxUserLen     = 300   // characters
	MaxPasswordLen = 65535 // characters
	MinHookSecret  = 24    // bytes, of a key or of text (Standard Webhooks)
	MaxHookSecret  = 512   // bytes of text; of a key in base64 maxHookKey
	maxHookKey     = 64    // bytes
)

// Check validates a credential. Its error does not have what it holds.
func (c *Credential) Check() *Error {
	switch {
	case c.Target == TargetHook || c.Scheme == AuthHMAC:
		return c.checkHook()
	case c.Target != TargetServer && c.Target != TargetProxy:
		return Errorf(InvalidAuthTarget, "there is no target %d for credentials", c.Target)
	case c.Scheme < AuthBasic || c.Scheme > AuthBearer:
		return Errorf(InvalidAuthScheme, "there is no scheme %d for credentials", c.Scheme)
	case c.Scheme == AuthPassport:
		return Errorf(NotImplemented, "no server asks for Passport any more")
	}
	user, password := c.User != nil, c.Password != nil
	switch {
	case c.Scheme == AuthBearer && (user || !password || *c.Password == ""):
		return Errorf(InvalidArg, "%s takes a token and no user", c.CredentialName)
	case c.Scheme == AuthBearer:
	case user != password, !user && (c.Scheme == AuthBasic || c.Scheme == AuthDigest):
		return Errorf(InvalidArg, "%s takes a user and a password", c.CredentialName)
	}
	if user {
		if n := utf8.RuneCountInString(*c.User); n > MaxUserLen {
			return Errorf(UsernameTooLarge, "the user name has %d characters; %d are allowed", n, MaxUserLen)
		}
		switch {
		case *c.User == "":
			return Errorf(InvalidArg, "the user name is empty")
		case c.Scheme == AuthBasic && strings.Contains(*c.User, ":"):
			return Errorf(InvalidCredentials, "a user name of the scheme basic cannot have a colon")
		case !printable(*c.User):
			return Errorf(InvalidCredentials, "the user name has a character that cannot be sent")
		}
	}
	if password {
		if n := utf8.RuneCountInString(*c.Password); n > MaxPasswordLen {
			return Errorf(PasswordTooLarge, "the password has %d characters; %d are allowed", n, MaxPasswordLen)
		}
		if !printable(*c.Password) || c.Scheme == AuthBearer && strings.ContainsFunc(*c.Password, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return Errorf(InvalidCredentials, "the password has a character that cannot be sent")
		}
	}
	return nil
}

// checkHook validates the secret of a web hook.
func (c *Credential) checkHook() *Error {
	switch {
	case c.Target != TargetHook:
		return Errorf(InvalidAuthScheme, "%s is for web hooks only", c.Scheme)
	case c.Scheme != AuthHMAC:
		return Errorf(InvalidAuthScheme, "a web hook's posts are signed by %s, not by %s", AuthHMAC, c.Scheme)
	case c.User != nil || c.Password == nil:
		return Errorf(InvalidArg, "%s takes a secret and no user", c.CredentialName)
	}
	key, err := HookKey(*c.Password)
	switch {
	case err != nil:
		return Errorf(InvalidCredentials, "what follows %s in the web hook's secret is not base64", hookPrefix)
	case len(key) < MinHookSecret:
		return Errorf(InvalidCredentials, "the web hook's secret has %d bytes; it must have %d or more", len(key), MinHookSecret)
	case len(key) > MaxHookSecret, len(key) > maxHookKey && strings.HasPrefix(*c.Password, hookPrefix):
		return Errorf(PasswordTooLarge, "the web hook's secret has %d bytes, which is too long", len(key))
	case !printable(*c.Password):
		return Errorf(InvalidCredentials, "the web hook's secret has a character that cannot be typed")
	}
	return nil
}

// hookPrefix is how secrets in the form of Standard Webhooks begin.
const hookPrefix = "whsec_"

// HookKey returns the key that the secret of a web hook stands for: the bytes that follow whsec_ in
// base64, or else the text itself. Receivers can use it to check signatures.
func HookKey(secret string) ([]byte, error) {
	if encoded, ok := strings.CutPrefix(secret, hookPrefix); ok {
		return base64.StdEncoding.DecodeString(encoded)
	}
	return []byte(secret), nil
}

// printable reports whether a text has no control characters.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// GoString keeps the password out of what %#v prints.
func (c Credential) GoString() string { return fmt.Sprintf("bits.Credential{%s}", c.CredentialName) }

// String keeps the password out of logs.
func (c Credential) String() string { return c.CredentialName.String() }
