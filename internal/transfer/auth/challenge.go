package auth

import "strings"

// Challenge is one way that a server or a proxy offers to identify (RFC 9110 11.6.1).
type Challenge struct {
	Scheme string            // in small letters
	Token  string            // a token68, such as the messages of NTLM; empty if there are parameters
	Params map[string]string // by name in small letters
}

const (
	maxChallenges = 32 // of one answer
	maxParams     = 32 // of one challenge
)

// Parse reads the values of WWW-Authenticate or Proxy-Authenticate, in the order of the server.
// What is malformed ends the value it is in: what was before it counts.
func Parse(values []string) []Challenge {
	var all []Challenge
	for _, v := range values {
		p := parser{rest: v}
		for len(all) < maxChallenges {
			c, ok := p.challenge()
			if !ok {
				break
			}
			all = append(all, c)
		}
	}
	return all
}

type parser struct{ rest string }

// skip leaves out blanks, and commas too if they may stand here.
func (p *parser) skip(cutset string) { p.rest = strings.TrimLeft(p.rest, cutset) }

func (p *parser) token() string {
	n := strings.IndexFunc(p.rest, func(r rune) bool { return !tokenRune(r) })
	if n < 0 {
		n = len(p.rest)
	}
	t := p.rest[:n]
	p.rest = p.rest[n:]
	return t
}

func tokenRune(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func (p *parser) challenge() (Challenge, bool) {
	p.skip(" \t,")
	scheme := p.token()
	if scheme == "" || p.rest != "" && !strings.ContainsRune(" \t,", rune(p.rest[0])) {
		return Challenge{}, false
	}
	c := Challenge{Scheme: strings.ToLower(scheme)}
	p.skip(" \t")
	if t, ok := p.token68(); ok {
		c.Token = t
		return c, true
	}
	for len(c.Params) < maxParams {
		before := p.rest
		p.skip(" \t,")
		name := strings.ToLower(p.token())
		p.skip(" \t")
		if name == "" || !strings.HasPrefix(p.rest, "=") {
			p.rest = before // the next challenge, or the end
			break
		}
		p.rest = p.rest[1:]
		p.skip(" \t")
		value, ok := p.value()
		if !ok {
			p.rest = ""
			break
		}
		if c.Params == nil {
			c.Params = map[string]string{}
		}
		if _, twice := c.Params[name]; !twice {
			c.Params[name] = value
		}
	}
	return c, true
}

// token68 reads what has no name: it ends at a comma or the end, and may end in signs of equality,
// after which no parameter's value comes.
func (p *parser) token68() (string, bool) {
	n := 0
	for n < len(p.rest) && (p.rest[n] >= '0' && p.rest[n] <= '9' || p.rest[n] >= 'a' && p.rest[n] <= 'z' || p.rest[n] >= 'A' && p.rest[n] <= 'Z' || strings.IndexByte("-._~+/", p.rest[n]) >= 0) {
		n++
	}
	if n == 0 {
		return "", false
	}
	for n < len(p.rest) && p.rest[n] == '=' {
		n++
	}
	after := strings.TrimLeft(p.rest[n:], " \t")
	if after != "" && after[0] != ',' {
		return "", false
	}
	t := p.rest[:n]
	p.rest = after
	return t, true
}

// value reads a token or a quoted string.
func (p *parser) value() (string, bool) {
	if !strings.HasPrefix(p.rest, `"`) {
		return p.token(), true
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '"':
			p.rest = p.rest[i+1:]
			return b.String(), true
		case '\\':
			if i++; i == len(p.rest) {
				return "", false
			}
		}
		b.WriteByte(p.rest[i])
	}
	return "", false
}

// quote writes a quoted string.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
