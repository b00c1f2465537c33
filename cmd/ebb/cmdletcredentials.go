package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// credentials makes of -Credential, -Authentication and their counterparts for proxies what a job
// identifies with. A credential is a user's name; the password comes from a terminal, or from a line
// of the standard input, the server's before the proxy's. A scheme alone, NTLM or Negotiate, stands
// for the caller's own identity. Nothing is asked for with -WhatIf.
func (c *cmdletCall) credentials() (all []bits.Credential, err error) {
	from := map[string]string{"Start-BitsTransfer": "Source", "Set-BitsTransfer": "BitsJob"}[c.name]
	for _, k := range []struct {
		target       bits.AuthTarget
		user, scheme string
	}{{bits.TargetServer, "Credential", "Authentication"}, {bits.TargetProxy, "ProxyCredential", "ProxyAuthentication"}} {
		if !c.has(k.user) && !c.has(k.scheme) {
			continue
		}
		one := bits.Credential{CredentialName: bits.CredentialName{Target: k.target, Scheme: bits.AuthNegotiate}}
		if c.has(k.scheme) {
			if one.Scheme, err = bits.ParseAuthScheme(c.text(k.scheme)); err != nil {
				return nil, usagef("-%s: %w", k.scheme, err)
			}
		}
		if c.has(k.user) && !c.on("WhatIf") {
			if !c.has(from) {
				return nil, usagef("-%s: the standard input holds the password, so that -%s must be given", k.user, from)
			}
			user := c.text(k.user)
			password, err := c.password(k.user, user)
			if err != nil {
				return nil, err
			}
			one.User, one.Password = &user, &password
		}
		if e := one.Check(); e != nil && !c.on("WhatIf") {
			switch {
			case e.Code == bits.NotImplemented:
				return nil, usagef("-%s: %w", k.scheme, e)
			case !c.has(k.user) && e.Code == bits.InvalidArg:
				return nil, usagef("-%s %s needs -%s", k.scheme, c.text(k.scheme), k.user)
			}
			return nil, usagef("-%s: %s", k.user, e.Sentence())
		}
		all = append(all, one)
	}
	return all, nil
}

// lines are the lines of the standard input that hold secrets: first headers, then passwords.
func (c *cmdletCall) lines() *bufio.Reader {
	if c.secrets == nil {
		c.secrets = bufio.NewReader(io.LimitReader(c.a.in, bits.MaxHeaderBytes*8+2*maxSecret)) // of headers as JSON
	}
	return c.secrets
}

// pipedHeaders reads custom headers, which may be secrets, from the first line of the standard input.
func (c *cmdletCall) pipedHeaders() (headers []string, err error) {
	from := map[string]string{"Start-BitsTransfer": "Source", "Set-BitsTransfer": "BitsJob"}[c.name]
	if !c.has(from) {
		return nil, usagef("-CustomHeaders -: the standard input holds the headers, so that -%s must be given", from)
	}
	line, err := c.lines().ReadBytes('\n')
	if len(line) > 0 {
		err = json.Unmarshal(line, &headers)
	}
	if err != nil {
		return nil, usagef("-CustomHeaders -: the first line of the standard input is no JSON array of headers")
	}
	return headers, nil
}

// password asks for a password on a terminal, without showing it, or takes the next line of the input.
func (c *cmdletCall) password(parameter, user string) (string, error) {
	if f, ok := c.a.in.(interface{ Fd() uintptr }); ok && term.IsTerminal(int(f.Fd())) {
		_, _ = fmt.Fprintf(c.a.err, "-%s %s, ", parameter, safe(user))
		return c.a.readSecret()
	}
	line, err := c.lines().ReadString('\n')
	if line == "" {
		return "", usagef("-%s %s: the standard input has no line with the password (%w)", parameter, user, err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// prepare gives a job what is not a property: credentials and a certificate.
func (c *cmdletCall) prepare(ctx context.Context, job *client.Job, credentials []bits.Credential) error {
	for _, one := range credentials {
		if err := job.SetCredential(ctx, one); err != nil {
			return err
		}
	}
	if c.cert == nil {
		return nil
	}
	_, err := job.SetCertificate(ctx, *c.cert)
	return err
}

// set is Set-BitsTransfer. Who takes a job over does that first: the rest is the owner's to change.
func (c *cmdletCall) set() error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	credentials, err := c.credentials()
	if err != nil {
		return err
	}
	return c.each(func(j *client.Job) error {
		if c.on("SetOwnerToCurrentUser") {
			outcome, err := j.TakeOwnership(c.ctx)
			if err != nil {
				return err
			}
			if len(outcome.Dropped) > 0 {
				c.a.note("%s lost its %s", shortID(j.ID), strings.Join(outcome.Dropped, ", "))
			}
		}
		if s != (bits.Settings{}) {
			if err := j.Set(c.ctx, s); err != nil {
				return err
			}
		}
		return c.prepare(c.ctx, j, credentials)
	})
}
