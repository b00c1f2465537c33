package bits

import (
	"fmt"
	"strconv"
	"strings"
)

// namedBit is one bit of a set and its name.
type namedBit struct {
	bit  uint32
	name string
}

// parseFlags reads names joined by '|' or ',', a number such as 3 or 0x0C00, or "none". A number
// may have bits without a name: what they are worth is for the checks to say.
func parseFlags(s, kind string, names []namedBit) (uint32, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	if n, err := strconv.ParseUint(text, 0, 32); err == nil {
		return uint32(n), nil
	}
	if text == "none" {
		return 0, nil
	}
	var set uint32
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '|' || r == ',' }) {
		part = strings.ReplaceAll(strings.TrimSpace(part), "_", "-")
		n, err := strconv.ParseUint(part, 0, 32)
		found := err == nil
		set |= uint32(n)
		for _, f := range names {
			if f.name == part {
				set |= f.bit
				found = true
			}
		}
		if !found {
			return 0, fmt.Errorf("unknown %s %q (want %s, joined by '|', a number, or none)", kind, part, flagNames(names))
		}
	}
	if set == 0 {
		return 0, fmt.Errorf("%q is no %s (want %s, joined by '|', a number, or none)", s, kind, flagNames(names))
	}
	return set, nil
}

// formatFlags writes what parseFlags reads, by name wherever there is one.
func formatFlags(set uint32, names []namedBit) string {
	if set == 0 {
		return "none"
	}
	var parts []string
	for _, f := range names {
		if f.bit != 0 && set&f.bit == f.bit {
			parts = append(parts, f.name)
			set &^= f.bit
		}
	}
	if set != 0 {
		parts = append(parts, fmt.Sprintf("0x%X", set))
	}
	return strings.Join(parts, "|")
}

func flagNames(names []namedBit) string {
	var all []string
	for _, f := range names {
		all = append(all, f.name)
	}
	return strings.Join(all, ", ")
}

// allFlags is the set of all bits that have a name.
func allFlags(names []namedBit) uint32 {
	var set uint32
	for _, f := range names {
		set |= f.bit
	}
	return set
}

// NotifyFlags are the events that a job's owner wants to be told of (BG_NOTIFY). Client.md 2.6.
type NotifyFlags uint32

// The notify flags. With NotifyDisable no other has an effect.
const (
	NotifyTransferred  NotifyFlags = 0x01 // all files are transferred
	NotifyError        NotifyFlags = 0x02 // the job became ERROR
	NotifyDisable      NotifyFlags = 0x04 // tell nothing at all
	NotifyModification NotifyFlags = 0x08 // a property, the state or the progress changed
	NotifyFile         NotifyFlags = 0x10 // one file is transferred
	NotifyRanges       NotifyFlags = 0x20 // ranges of a file are transferred
	DefaultNotifyFlags             = NotifyTransferred | NotifyError
)

var notifyNames = []namedBit{{0x01, "transferred"}, {0x02, "error"}, {0x04, "disable"}, {0x08, "modification"}, {0x10, "file"}, {0x20, "ranges"}}

// Wants reports whether an event is wanted: one of the bits of what is set and nothing is
// disabled.
func (f NotifyFlags) Wants(what NotifyFlags) bool { return f&NotifyDisable == 0 && f&what != 0 }

func (f NotifyFlags) String() string { return formatFlags(uint32(f), notifyNames) }

// MarshalText implements encoding.TextMarshaler.
func (f NotifyFlags) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it reads names joined by '|', or a number.
func (f *NotifyFlags) UnmarshalText(b []byte) error {
	return unmarshalFlags((*uint32)(f), b, "notify flag", notifyNames, NotImplemented)
}

// unmarshalFlags is parseFlags with the code of what is refused.
func unmarshalFlags(to *uint32, b []byte, kind string, names []namedBit, code Code) error {
	v, err := parseFlags(string(b), kind, names)
	if err != nil {
		return Errorf(code, "%v", err)
	}
	*to = v
	return nil
}

// SecurityFlags say how strictly a server's certificate is checked and which redirects are
// followed (BG_HTTP security flags). Client.md 2.8.
type SecurityFlags uint32

// The security flags.
const (
	SecurityCRLCheck         SecurityFlags = 0x0001 // ask whether the certificate was revoked; no answer is fatal
	SecurityIgnoreName       SecurityFlags = 0x0002 // the certificate may be for another host
	SecurityIgnoreDate       SecurityFlags = 0x0004 // it may have expired
	SecurityIgnoreUnknownCA  SecurityFlags = 0x0008 // its authority need not be trusted
	SecurityIgnoreUsage      SecurityFlags = 0x0010 // it may be for another use
	SecurityRedirectReport   SecurityFlags = 0x0100 // follow redirects; the file's URL becomes the one they lead to
	SecurityRedirectDeny     SecurityFlags = 0x0200 // follow none: the job becomes ERROR
	SecurityRedirectMask     SecurityFlags = 0x0700 // the policy of redirects; 0 is to follow and to keep the URL
	SecurityRedirectInsecure SecurityFlags = 0x0800 // follow those from https to http too
)

var securityNames = []namedBit{{0x0001, "crl-check"}, {0x0002, "ignore-name"}, {0x0004, "ignore-date"}, {0x0008, "ignore-unknown-ca"}, {0x0010, "ignore-usage"},
	{0x0100, "redirect-report"}, {0x0200, "redirect-deny"}, {0x0800, "redirect-https-to-http"}}

func (f SecurityFlags) String() string { return formatFlags(uint32(f), securityNames) }

// MarshalText implements encoding.TextMarshaler.
func (f SecurityFlags) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it reads names joined by '|', or a number.
func (f *SecurityFlags) UnmarshalText(b []byte) error {
	return unmarshalFlags((*uint32)(f), b, "security flag", securityNames, NotImplemented)
}

// ACLFlags are the parts of a source file's access rights that a copy gets
// (BG_COPY_FILE). They have an effect only for sources that have such rights. Client.md 2.10.
type ACLFlags uint32

// The ACL flags.
const (
	ACLOwner ACLFlags = 1
	ACLGroup ACLFlags = 2
	ACLDACL  ACLFlags = 4 // who may do what
	ACLSACL  ACLFlags = 8 // what is audited
	ACLAll   ACLFlags = 15
)

var aclNames = []namedBit{{15, "all"}, {1, "owner"}, {2, "group"}, {4, "dacl"}, {8, "sacl"}}

func (f ACLFlags) String() string { return formatFlags(uint32(f), aclNames) }

// MarshalText implements encoding.TextMarshaler.
func (f ACLFlags) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it reads names joined by '|', or a number.
func (f *ACLFlags) UnmarshalText(b []byte) error {
	return unmarshalFlags((*uint32)(f), b, "ACL flag", aclNames, InvalidArg)
}

// PeerFlags say what a job shares with peers (BG_JOB_ENABLE_PEERCACHING). Client.md 2.9.
type PeerFlags uint32

// The peer-caching flags.
const (
	PeerClient        PeerFlags = 1 // the job may fetch from peers
	PeerServer        PeerFlags = 2 // its files may be served to peers
	PeerDisableBranch PeerFlags = 4 // BranchCache is not used
)

var peerNames = []namedBit{{1, "client"}, {2, "server"}, {4, "disable-branchcache"}}

func (f PeerFlags) String() string { return formatFlags(uint32(f), peerNames) }

// MarshalText implements encoding.TextMarshaler.
func (f PeerFlags) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it reads names joined by '|', or a number.
func (f *PeerFlags) UnmarshalText(b []byte) error {
	return unmarshalFlags((*uint32)(f), b, "peer-caching flag", peerNames, InvalidArg)
}

// AuthTarget is who asks for credentials (BG_AUTH_TARGET). Client.md 2.7.
type AuthTarget uint8

// The targets of credentials.
const (
	TargetNone   AuthTarget = 0
	TargetServer AuthTarget = 1
	TargetProxy  AuthTarget = 2
	TargetHook   AuthTarget = 3 // the job's web hook, which BITS does not have
)

var targetNames = []string{"NONE", "SERVER", "PROXY", "HOOK"}

func (t AuthTarget) String() string { return nameOf(targetNames, int(t), "AuthTarget") }

// MarshalText implements encoding.TextMarshaler.
func (t AuthTarget) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; case does not matter.
func (t *AuthTarget) UnmarshalText(b []byte) error {
	i, err := indexOf(targetNames, string(b), "target of credentials")
	if err != nil {
		return Errorf(InvalidAuthTarget, "%v", err)
	}
	*t = AuthTarget(i)
	return nil
}

// ProxyUsage says which proxy a job's requests take (BG_JOB_PROXY_USAGE). Client.md 2.2.
type ProxyUsage uint8

// The proxy usages.
const (
	ProxyPreconfig  ProxyUsage = 0 // that of the owner's environment and desktop, or the system's
	ProxyNone       ProxyUsage = 1 // none
	ProxyOverride   ProxyUsage = 2 // those of the job's own list
	ProxyAutodetect ProxyUsage = 3 // what the network says, for each file anew
)

var proxyNames = []string{"PRECONFIG", "NO_PROXY", "OVERRIDE", "AUTODETECT"}

func (u ProxyUsage) String() string {
	if int(u) < len(proxyNames) {
		return proxyNames[u]
	}
	return strconv.Itoa(int(u))
}

// MarshalText implements encoding.TextMarshaler.
func (u ProxyUsage) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; case does not matter, '-' stands for '_', and
// a number for the usage of BITS with that value.
func (u *ProxyUsage) UnmarshalText(b []byte) error {
	if n, err := strconv.ParseUint(string(b), 10, 8); err == nil {
		*u = ProxyUsage(n)
		return nil
	}
	i, err := indexOf(proxyNames, strings.ReplaceAll(string(b), "-", "_"), "proxy usage")
	if err != nil {
		return Errorf(NotImplemented, "%v", err)
	}
	*u = ProxyUsage(i)
	return nil
}

// ProxySettings say which proxies a job uses. Client.md 7.8.
type ProxySettings struct {
	Usage  ProxyUsage `json:"usage"`
	List   []string   `json:"list,omitempty" doc:"Proxies in the order to try them, each as [PROTOCOL=][SCHEME://]HOST[:PORT]; with OVERRIDE only" example:"http://proxy.example.org:3128"`
	Bypass []string   `json:"bypass,omitempty" doc:"Hosts that are reached without a proxy: names, addresses, *.example.org, <local>; with OVERRIDE only"`
}

// String returns what ParseProxy reads.
func (p ProxySettings) String() string {
	s := strings.ToLower(strings.ReplaceAll(p.Usage.String(), "_", "-"))
	if len(p.List) > 0 {
		s += " " + strings.Join(p.List, ",")
	}
	if len(p.Bypass) > 0 {
		s += " " + strings.Join(p.Bypass, ",")
	}
	return s
}

// ParseProxy reads a usage and, with override, after blanks the proxies and the hosts to reach
// without one, each joined by commas: "override http://p:3128,http://q:3128 *.example.org,<local>".
func ParseProxy(s string) (ProxySettings, error) {
	var p ProxySettings
	words := strings.Fields(s)
	if len(words) == 0 || len(words) > 3 {
		return p, fmt.Errorf("%q is not of the form USAGE [PROXY,PROXY... [HOST,HOST...]] with the usage preconfig, no-proxy, override or autodetect", s)
	}
	if err := p.Usage.UnmarshalText([]byte(words[0])); err != nil {
		return p, err
	}
	if len(words) > 1 {
		p.List = splitList(words[1])
	}
	if len(words) > 2 {
		p.Bypass = splitList(words[2])
	}
	return p, nil
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

// RunWhen says when a job may run.
type RunWhen string

// When a job may run.
const (
	RunAlways   RunWhen = "always"    // also while its owner is not logged on
	RunLoggedOn RunWhen = "logged-on" // only while its owner is, as in BITS
)

// ClientCertificate names the certificate that a job shows to servers. The key is in no answer.
type ClientCertificate struct {
	Subject     string `json:"subject"`
	Fingerprint string `json:"fingerprint" doc:"SHA-256 of the certificate, in hexadecimal digits"`
	SHA1        string `json:"sha1,omitempty" doc:"SHA-1 of the certificate, in hexadecimal digits, by which Windows names it"`
}

// ClientCertificateFile is a certificate for a job, with its key (SetClientCertificateByID and
// SetClientCertificateByName). If the job is to have a certain one it is refused, with CertNotFound,
// if it is another.
type ClientCertificateFile struct {
	PEM     string `json:"pem" doc:"The certificate, its private key without a password, and the certificates between it and its authority, as PEM, up to 32 KiB"`
	SHA1    string `json:"sha1,omitempty" doc:"SHA-1 that the certificate must have, in hexadecimal digits"`
	Subject string `json:"subject,omitempty" doc:"Text that the certificate's subject must have in it; case does not matter"`
}

// CertificateQuestion asks whether a job's owner trusts a server (the arguments of
// ValidateServerCertificate). The machine trusts it already, or the job's flags do.
type CertificateQuestion struct {
	ID    uint64   `json:"id" doc:"Number of the question, for the answer"`
	Job   ID       `json:"job"`
	URL   string   `json:"url,omitempty" doc:"What is fetched or sent to, without passwords"`
	Addr  string   `json:"addr" doc:"host:port of the server"`
	Chain [][]byte `json:"chain" doc:"Certificates in DER, base64: the server's own first"`
}

// CertificateAnswer answers a CertificateQuestion.
type CertificateAnswer struct {
	Trusted bool   `json:"trusted"`
	Code    Code   `json:"code,omitempty" doc:"Of a refusal: the job's error; absent for E_ACCESSDENIED"`
	Reason  string `json:"reason,omitempty" maxLength:"1024" doc:"Of a refusal: a sentence for people"`
}

// splitWords splits a command line at blanks; what stands in single or double quotes is one word
// with its blanks. Within double quotes and outside of quotes a backslash takes the next
// character as it is.
func splitWords(s string) ([]string, error) {
	var (
		words = []string{}
		word  strings.Builder
		in    bool // a word has begun
		quote rune // open quote
		plain bool // after a backslash
	)
	for _, r := range s {
		switch {
		case plain:
			word.WriteRune(r)
			plain = false
		case r == '\\' && quote != '\'':
			plain, in = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 || plain {
		return nil, fmt.Errorf("%s: a quote or a backslash is left open", s)
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}

// joinWords writes what splitWords reads.
func joinWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\[") {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
