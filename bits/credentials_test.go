package bits

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestCredentialCheck(t *testing.T) {
	text := func(s string) *string { return &s }
	const none = "\x00"
	tests := []struct {
		target         AuthTarget
		scheme         AuthScheme
		user, password string
		want           Code
	}{
		{TargetServer, AuthBasic, "alice", "secret", OK},
		{TargetProxy, AuthDigest, "alice", "", OK},
		{TargetServer, AuthNTLM, `CORP\alice`, "secret", OK},
		{TargetServer, AuthNTLM, none, none, OK},
		{TargetProxy, AuthNegotiate, none, none, OK},
		{TargetServer, AuthBearer, none, "token", OK},
		{TargetServer, AuthBasic, strings.Repeat("ü", MaxUserLen), strings.Repeat("ü", MaxPasswordLen), OK},
		{0, AuthBasic, "alice", "secret", InvalidAuthTarget},
		{4, AuthBasic, "alice", "secret", InvalidAuthTarget},
		{TargetHook, AuthBasic, "alice", "secret", InvalidAuthScheme},
		{TargetServer, AuthHMAC, none, strings.Repeat("k", 24), InvalidAuthScheme},
		{TargetHook, AuthHMAC, none, strings.Repeat("k", MinHookSecret), OK},
		{TargetHook, AuthHMAC, none, strings.Repeat("k", MaxHookSecret), OK},
		{TargetHook, AuthHMAC, none, strings.Repeat("k", MaxHookSecret+1), PasswordTooLarge},
		{TargetHook, AuthHMAC, none, "not long enough", InvalidCredentials},
		{TargetHook, AuthHMAC, none, strings.Repeat("k", 24) + "\n", InvalidCredentials},
		{TargetHook, AuthHMAC, "alice", strings.Repeat("k", 24), InvalidArg},
		{TargetHook, AuthHMAC, none, none, InvalidArg},
		{TargetHook, AuthHMAC, none, "whsec_" + strings.Repeat("kkkk", 8), OK},
		{TargetHook, AuthHMAC, none, "whsec_" + strings.Repeat("kkkk", 22), PasswordTooLarge},
		{TargetHook, AuthHMAC, none, "whsec_" + strings.Repeat("kkkk", 7), InvalidCredentials},
		{TargetHook, AuthHMAC, none, "whsec_" + strings.Repeat("?", 40), InvalidCredentials},
		{TargetServer, 0, "alice", "secret", InvalidAuthScheme},
		{TargetServer, 8, "alice", "secret", InvalidAuthScheme},
		{TargetServer, AuthPassport, "alice", "secret", NotImplemented},
		{TargetServer, AuthBasic, none, none, InvalidArg},
		{TargetServer, AuthDigest, none, none, InvalidArg},
		{TargetServer, AuthBasic, "alice", none, InvalidArg},
		{TargetServer, AuthNTLM, none, "secret", InvalidArg},
		{TargetServer, AuthNegotiate, "alice", none, InvalidArg},
		{TargetServer, AuthBasic, "", "secret", InvalidArg},
		{TargetServer, AuthBearer, "alice", "token", InvalidArg},
		{TargetServer, AuthBearer, none, none, InvalidArg},
		{TargetServer, AuthBearer, none, "", InvalidArg},
		{TargetServer, AuthBasic, strings.Repeat("u", MaxUserLen+1), "secret", UsernameTooLarge},
		{TargetServer, AuthBasic, "alice", strings.Repeat("p", MaxPasswordLen+1), PasswordTooLarge},
		{TargetServer, AuthBasic, "al:ice", "secret", InvalidCredentials},
		{TargetServer, AuthBasic, "alice", "sec\r\nret", InvalidCredentials},
		{TargetServer, AuthDigest, "al\nice", "secret", InvalidCredentials},
		{TargetServer, AuthBasic, "alice", "\xff", InvalidCredentials},
		{TargetServer, AuthBearer, none, "to ken", InvalidCredentials},
	}
	for _, test := range tests {
		c := Credential{CredentialName: CredentialName{test.target, test.scheme}}
		if test.user != none {
			c.User = text(test.user)
		}
		if test.password != none {
			c.Password = text(test.password)
		}
		err := c.Check()
		switch {
		case err == nil && test.want != OK, err != nil && err.Code != test.want:
			t.Errorf("%v %.20q %.20q: %v, want %s", c.CredentialName, test.user, test.password, err, test.want.Name())
		case err != nil && test.password == "secret" && strings.Contains(err.Error(), "secret"):
			t.Errorf("the error has the password: %v", err)
		}
		if s := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(s, "secret") {
			t.Errorf("printed with the password: %s", s)
		}
	}
}

func TestAuthNames(t *testing.T) {
	var n CredentialName
	for _, s := range []string{`{"target":"PROXY","scheme":"Negotiate"}`, `{"target":"proxy","scheme":"NEGOTIATE"}`} {
		if err := json.Unmarshal([]byte(s), &n); err != nil || n != (CredentialName{TargetProxy, AuthNegotiate}) {
			t.Errorf("%s: %v, %v", s, n, err)
		}
	}
	if b, err := json.Marshal(n); err != nil || string(b) != `{"target":"PROXY","scheme":"NEGOTIATE"}` {
		t.Errorf("%s, %v", b, err)
	}
	if _, err := ParseAuthTarget("both"); !errors.Is(err, &Error{Code: InvalidAuthTarget}) {
		t.Error(err)
	}
	if _, err := ParseAuthScheme(""); !errors.Is(err, &Error{Code: InvalidAuthScheme}) {
		t.Error(err)
	}
}
