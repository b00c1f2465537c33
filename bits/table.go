package bits

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Property describes one settable property of jobs. From the table of them come validation,
// what the store keeps, who may set it when, the CLI's help and docs/properties.md.
type Property struct {
	Name    string // as in JSON and in `ebb set`
	BITS    string // what BITS calls it; empty if BITS has no such thing
	Default string
	Range   string
	Doc     string
	// When is the row of the state machine that says in which states it can be set.
	When Method
	// For is the type of the jobs that have it; nil for all.
	For []Type
	// OwnerOnly says that not even an administrator sets it.
	OwnerOnly bool
	// ActsAsOwner says that what is set acts with the owner's rights: of administrators only root sets it.
	ActsAsOwner bool
	// Restarts says that a running transfer starts again with the new value.
	Restarts bool
	// ByPolicy says that Default is what policy may replace; a job that was given just that keeps it.
	ByPolicy bool

	set   func(s *Settings, value string) error // parses a value from the command line into s
	given func(s *Settings) bool                // whether s sets the property
	check func(s *Settings) *Error              // validates what s sets, and may normalise it
	merge func(from, to *Options)               // of an option: copies what is set
	fill  func(o *Options, p *Properties)       // of an option: its value or the default
	text  func(j *Job) string                   // the value as set takes it
}

// Option reports whether the property is one of Options.
func (p *Property) Option() bool { return p.merge != nil }

// Text returns the value that a job has, as Set takes it; empty for none, and for header the
// names only.
func (p *Property) Text(j *Job) string { return p.text(j) }

// kind is how values of a type are written on the command line.
type kind[T any] struct {
	parse  func(string) (T, error)
	format func(T) string
}

var (
	plainText = kind[string]{func(v string) (string, error) { return v, nil }, func(v string) string { return v }}
	boolean   = kind[bool]{func(v string) (bool, error) {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return false, fmt.Errorf("%q is neither true nor false", v)
		}
		return b, nil
	}, strconv.FormatBool}
	wholeSeconds = kind[int64]{parseSeconds, decimal}
	wholeNumber  = kind[int64]{func(v string) (int64, error) {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a whole number", v)
		}
		return n, nil
	}, decimal}
	sizeLimit = kind[SizeLimit]{func(v string) (SizeLimit, error) {
		if l, ok := unlimited(v); ok {
			return l, nil
		}
		n, err := wholeNumber.parse(v)
		return SizeLimit(n), err
	}, func(l SizeLimit) string { return decimal(int64(l)) }}
	wordList = kind[[]string]{func(v string) ([]string, error) {
		if strings.HasPrefix(v, "[") {
			words := []string{}
			err := json.Unmarshal([]byte(v), &words)
			return words, err
		}
		return splitWords(v)
	}, joinWords}
)

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// textual is the kind of a type that has a text form of its own.
func textual[T fmt.Stringer, P interface {
	*T
	encoding.TextUnmarshaler
}]() kind[T] {
	return kind[T]{func(v string) (t T, err error) { return t, P(&t).UnmarshalText([]byte(v)) }, T.String}
}

// property completes a row of the table.
func property[T any](p Property, k kind[T], field func(*Settings) **T, now func(*Job) T, check func(*T) *Error) Property {
	if p.When == 0 {
		p.When = MethodSetProperty
	}
	p.set = func(s *Settings, value string) error {
		v, err := k.parse(value)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		*field(s) = &v
		return nil
	}
	p.given = func(s *Settings) bool { return *field(s) != nil }
	p.check = func(s *Settings) *Error {
		if check == nil {
			return nil
		}
		v := **field(s) // a copy: what was given is not changed
		e := check(&v)
		*field(s) = &v
		return e
	}
	p.text = func(j *Job) string { return k.format(now(j)) }
	return p
}

// option completes the row of a property that is one of Options.
func option[T any](p Property, k kind[T], def T, field func(*Options) **T, view func(*Properties) *T, check func(*T) *Error) Property {
	p.Default = k.format(def)
	p = property(p, k, func(s *Settings) **T { return field(&s.Options) }, func(j *Job) T { return *view(&j.Properties) }, check)
	p.merge = func(from, to *Options) {
		v := *field(from)
		if v == nil {
			return
		}
		if k.format(*v) == p.Default && !p.ByPolicy {
			v = nil
		}
		*field(to) = v
	}
	p.fill = func(o *Options, out *Properties) {
		*view(out) = def
		if o != nil && *field(o) != nil {
			*view(out) = **field(o)
		}
	}
	return p
}

var downloads = []Type{Download}

// PropertyTable lists the settable properties in the order people read them.
var PropertyTable = []Property{
	property(Property{Name: "name", BITS: "DisplayName", Range: "1 to 256 characters", Doc: "display name; need not be unique"},
		plainText, func(s *Settings) **string { return &s.Name }, func(j *Job) string { return j.Name }, checkName),
	property(Property{Name: "description", BITS: "Description", Range: "up to 1,024 characters", Doc: "free text"},
		plainText, func(s *Settings) **string { return &s.Description }, func(j *Job) string { return j.Properties.Description }, checkDescription),
	property(Property{Name: "priority", BITS: "Priority", Default: "NORMAL", Range: "FOREGROUND, HIGH, NORMAL, LOW", Doc: "who goes first; takes effect at once"},
		textual[Priority](), func(s *Settings) **Priority { return &s.Priority }, func(j *Job) Priority { return j.Priority }, func(p *Priority) *Error {
			if *p >= Priorities {
				return Errorf(NotImplemented, "there is no priority %d", *p)
			}
			return nil
		}),
	property(Property{Name: "minimum_retry_delay", BITS: "MinimumRetryDelay", Default: "600", Range: "5 s or more", Doc: "least seconds between a transient error and the next attempt; also takes 90s, 10m, 2h"},
		wholeSeconds, func(s *Settings) **int64 { return &s.MinimumRetryDelay }, func(j *Job) int64 { return j.Properties.MinimumRetryDelay }, func(v *int64) *Error {
			e := within("minimum_retry_delay", "seconds", *v, 0, maxDWORD)
			*v = max(*v, int64(LeastMinimumRetryDelay/time.Second))
			return e
		}),
	property(Property{Name: "no_progress_timeout", BITS: "NoProgressTimeout", Default: "1209600", Range: "0 s or more", Doc: "seconds without progress after which a transient error becomes ERROR; 0 means at once"},
		wholeSeconds, func(s *Settings) **int64 { return &s.NoProgressTimeout }, func(j *Job) int64 { return j.Properties.NoProgressTimeout }, func(v *int64) *Error {
			return within("no_progress_timeout", "seconds", *v, 0, maxDWORD)
		}),
	property(Property{Name: "maximum_download_time", BITS: "MaximumDownloadTime", Default: "default", Range: "0 s or more, default", Doc: "seconds in CONNECTING and TRANSFERRING after which the job becomes ERROR; 0 means never, default what the policy says (90 days)"},
		kind[int64]{func(v string) (int64, error) {
			if v == "" || strings.EqualFold(v, "default") {
				return DefaultMaximumDownloadTime, nil
			}
			return parseSeconds(v)
		}, decimal}, func(s *Settings) **int64 { return &s.MaximumDownloadTime }, func(j *Job) int64 { return j.Properties.MaximumDownloadTime }, func(v *int64) *Error {
			if *v == DefaultMaximumDownloadTime {
				return nil
			}
			return within("maximum_download_time", "seconds (or -1 for the policy's)", *v, 0, maxDWORD)
		}),
	property(Property{Name: "connections", Default: strconv.Itoa(DefaultConnections), Range: "1 to 64", Doc: "files of the job that move at once; a large one moves alone"},
		kind[int]{strconv.Atoi, strconv.Itoa}, func(s *Settings) **int { return &s.Connections }, func(j *Job) int { return j.Properties.Connections }, func(v *int) *Error {
			return within("connections", "files", int64(*v), 1, MaxConnections)
		}),
	property(Property{Name: "auto_complete", Default: "false", Range: "true, false", Doc: "the service completes the job by itself once it is TRANSFERRED"},
		boolean, func(s *Settings) **bool { return &s.AutoComplete }, func(j *Job) bool { return j.Properties.AutoComplete }, nil),
	property(Property{Name: "transfer_policy", BITS: "COST_FLAGS", Default: "default", Range: strings.Join(TransferPolicies(), ", "), Doc: "on which networks the job runs; default is the policy of its priority; takes effect at once"},
		kind[Cost]{func(v string) (Cost, error) {
			if v == "" {
				return TransferDefault, nil
			}
			return ParseCost(v)
		}, Cost.String}, func(s *Settings) **Cost { return &s.TransferPolicy }, func(j *Job) Cost { return j.Properties.TransferPolicy }, func(c *Cost) *Error {
			switch {
			case *c&^costDefined != 0:
				return Errorf(InvalidArg, "the transfer policy %s has bits without a meaning", *c)
			case *c != TransferDefault && *c&^CostIgnoreCongestion == 0:
				return Errorf(InvalidArg, "the transfer policy %s allows no network at all", *c)
			}
			return nil
		}),
	option(Property{Name: "run_when", ByPolicy: true, Range: "always, logged-on", Doc: "whether the job runs also while its owner is not logged on, or only then, as in BITS"},
		kind[RunWhen]{func(v string) (RunWhen, error) { return RunWhen(strings.ToLower(v)), nil }, func(r RunWhen) string { return string(r) }}, RunAlways,
		func(o *Options) **RunWhen { return &o.RunWhen }, func(p *Properties) *RunWhen { return &p.RunWhen }, func(r *RunWhen) *Error {
			if *r != RunAlways && *r != RunLoggedOn {
				return Errorf(InvalidArg, "run_when is %q; want %s or %s", *r, RunAlways, RunLoggedOn)
			}
			return nil
		}),
	property(Property{Name: "protocol", Default: string(ProtocolBITS), Range: protocolNames(), Doc: "how an upload's file is sent; auto asks the server. While the transfer runs, and once a server has something of the file, it is refused with " + ReadOnlyAfterResume.Name(), For: []Type{Upload, UploadReply}},
		kind[Protocol]{ParseProtocol, func(p Protocol) string { return string(p) }}, func(s *Settings) **Protocol { return &s.Protocol }, func(j *Job) Protocol { return j.Properties.Protocol }, func(p *Protocol) *Error {
			if !slices.Contains(Protocols, *p) {
				return Errorf(InvalidArg, "there is no protocol %q", *p)
			}
			return nil
		}),
	property(Property{Name: "reply_file", BITS: "ReplyFileName", Range: "an absolute path", Doc: "where the answer to an upload-reply job's file goes; empty for a name beside that file", When: MethodSetReplyFileName, For: []Type{UploadReply}},
		plainText, func(s *Settings) **string { return &s.ReplyFile }, func(j *Job) string {
			if j.Reply == nil {
				return ""
			}
			return j.Reply.File
		}, func(v *string) *Error {
			if *v == "" {
				return nil
			}
			return checkLocal(v)
		}),
	headerProperty(),
	option(Property{Name: "headers_write_only", BITS: "MakeCustomHeadersWriteOnly", Range: "true, for good", Doc: "the custom headers can never be read back", OwnerOnly: true},
		boolean, false, func(o *Options) **bool { return &o.HeadersWriteOnly }, func(p *Properties) *bool { return &p.HeadersWriteOnly }, nil),
	option(Property{Name: "http_method", BITS: "HttpMethod", Range: "a method", Doc: "method of the requests; empty for the usual one, GET of downloads and BITS_POST of uploads. Another one makes the job FOREGROUND, which cannot be changed then, and every error fatal, and the file starts again whenever the job does. A redirect of a download keeps it, but for 303, and 301 and 302 of POST, which make it GET. Of an upload it is the method of all requests of the protocol bits, and the one in place of PUT of the protocols put and auto; the other protocols have their own and do not go together with it", When: MethodSetBeforeResume},
		plainText, "", func(o *Options) **string { return &o.HTTPMethod }, func(p *Properties) *string { return &p.HTTPMethod }, checkMethod),
	option(Property{Name: "security_flags", BITS: "SecurityFlags", Range: flagNames(securityNames), Doc: "which certificates and redirects are taken; joined by '|', a number, or none. Of a download that is under way crl-check begins unfinished files again", Restarts: true},
		textual[SecurityFlags](), 0, func(o *Options) **SecurityFlags { return &o.SecurityFlags }, func(p *Properties) *SecurityFlags { return &p.SecurityFlags }, func(f *SecurityFlags) *Error {
			if e := defined("security flags", uint32(*f), allFlags(securityNames), NotImplemented); e != nil {
				return e
			}
			if *f&SecurityRedirectMask == SecurityRedirectReport|SecurityRedirectDeny {
				return Errorf(NotImplemented, "the security flags both follow and refuse redirects")
			}
			return nil
		}),
	option(Property{Name: "tls_min_version", Range: "1.0, 1.1, 1.2, 1.3", Doc: "oldest version of TLS to speak; empty for the service's own choice, 1.2", Restarts: true},
		plainText, "", func(o *Options) **string { return &o.TLSMinVersion }, func(p *Properties) *string { return &p.TLSMinVersion }, func(v *string) *Error {
			if !slices.Contains([]string{"", "1.0", "1.1", "1.2", "1.3"}, *v) {
				return Errorf(InvalidArg, "tls_min_version is %q; want 1.0, 1.1, 1.2 or 1.3", *v)
			}
			return nil
		}),
	option(Property{Name: "tls_pins", Range: "up to 64 of sha256/BASE64", Doc: "public keys, one of which must be in the server's chain of certificates; with blanks between, empty for none", Restarts: true},
		wordList, nil, func(o *Options) **[]string { return &o.TLSPins }, func(p *Properties) *[]string { return &p.TLSPins }, checkPins),
	option(Property{Name: "verify_certificates", BITS: "ServerCertificateValidationInterface", Range: "true, false", Doc: "a program of the owner's is asked about each server's certificate, which the machine trusts, before anything is sent; without an answer nothing moves", When: MethodSetCertificateCallback},
		boolean, false, func(o *Options) **bool { return &o.VerifyCertificates }, func(p *Properties) *bool { return &p.VerifyCertificates }, nil),
	option(Property{Name: "proxy", BITS: "ProxySettings", Range: "preconfig, no-proxy, autodetect, override PROXY,PROXY... [HOST,HOST...]", Doc: "which proxies are used: those of the environment and the desktop, none, what the network says, or these, but not for these hosts", Restarts: true},
		kind[ProxySettings]{ParseProxy, ProxySettings.String}, ProxySettings{}, func(o *Options) **ProxySettings { return &o.Proxy }, func(p *Properties) *ProxySettings { return &p.Proxy }, checkProxy),
	option(Property{Name: "use_stored_credentials", BITS: "USE_STORED_CREDENTIALS", Range: "none, proxy", Doc: "proxy lets the owner's own credentials answer a proxy", Restarts: true},
		textual[AuthTarget](), TargetNone, func(o *Options) **AuthTarget { return &o.UseStoredCredentials }, func(p *Properties) *AuthTarget { return &p.UseStoredCredentials }, func(t *AuthTarget) *Error {
			switch {
			case *t == TargetServer:
				return Errorf(StoredCredentialsUnsupported, "stored credentials are for proxies only, not for servers")
			case *t > TargetProxy:
				return Errorf(InvalidAuthTarget, "there is no target %d of credentials", *t)
			}
			return nil
		}),
	option(Property{Name: "notify_flags", BITS: "NotifyFlags", Range: flagNames(notifyNames), Doc: "events to tell the owner of; joined by '|', a number, or none; disable turns all off"},
		textual[NotifyFlags](), DefaultNotifyFlags, func(o *Options) **NotifyFlags { return &o.NotifyFlags }, func(p *Properties) *NotifyFlags { return &p.NotifyFlags }, func(f *NotifyFlags) *Error {
			return defined("notify flags", uint32(*f), allFlags(notifyNames), NotImplemented)
		}),
	option(Property{Name: "notify_command", BITS: "NotifyCmdLine", Range: "a program by its absolute path, and arguments of up to 4,000 characters", Doc: "run as the owner when the job is TRANSFERRED or in ERROR; words in quotes as in a shell, or a JSON array; empty for none", ActsAsOwner: true},
		wordList, nil, func(o *Options) **[]string { return &o.NotifyCommand }, func(p *Properties) *[]string { return &p.NotifyCommand }, checkCommand),
	option(Property{Name: "notify_url", Range: "an http or https URL", Doc: "where the service posts when the job is TRANSFERRED or in ERROR; only the owner sees more of it than its server; empty for nowhere", ActsAsOwner: true},
		plainText, "", func(o *Options) **string { return &o.NotifyURL }, func(p *Properties) *string { return &p.NotifyURL }, checkHook),
	option(Property{Name: "notify_desktop", Range: "true, false", Doc: "the owner's desktop tells of the job's end"},
		boolean, false, func(o *Options) **bool { return &o.NotifyDesktop }, func(p *Properties) *bool { return &p.NotifyDesktop }, nil),
	option(Property{Name: "minimum_notification_interval", BITS: "MINIMUM_NOTIFICATION_INTERVAL_MS", Range: "0 ms or more", Doc: "least milliseconds between two events about modifications or ranges"},
		wholeNumber, DefaultNotifyInterval, func(o *Options) **int64 { return &o.MinimumNotificationInterval }, func(p *Properties) *int64 { return &p.MinimumNotificationInterval }, func(v *int64) *Error {
			return within("minimum_notification_interval", "milliseconds", *v, 0, maxDWORD)
		}),
	option(Property{Name: "dynamic_content", BITS: "DYNAMIC_CONTENT", Range: "true, false", Doc: "the server makes the content as it is asked, so that its size, dates and ranges mean nothing; for FOREGROUND jobs", When: MethodSetBeforeResume, For: downloads},
		boolean, false, func(o *Options) **bool { return &o.DynamicContent }, func(p *Properties) *bool { return &p.DynamicContent }, nil),
	option(Property{Name: "high_performance", BITS: "HIGH_PERFORMANCE", Range: "true, false", Doc: "for many small files: they are written straight into their places and begin again after a crash", When: MethodSetBeforeAddFile, For: downloads},
		boolean, false, func(o *Options) **bool { return &o.HighPerformance }, func(p *Properties) *bool { return &p.HighPerformance }, nil),
	option(Property{Name: "on_demand", BITS: "ON_DEMAND_MODE", Range: "true, false", Doc: "only ranges that are asked for are fetched", When: MethodSetBeforeResume, For: downloads},
		boolean, false, func(o *Options) **bool { return &o.OnDemand }, func(p *Properties) *bool { return &p.OnDemand }, nil),
	option(Property{Name: "maximum_download_size", BITS: "MAX_DOWNLOAD_SIZE", Range: "bytes, 0 for no limit, as BITS's numbers from 2^63 on are", Doc: "bytes that all files of the job together may have", When: MethodSetBeforeResume, For: downloads},
		sizeLimit, 0, func(o *Options) **SizeLimit { return &o.MaximumDownloadSize }, func(p *Properties) *SizeLimit { return &p.MaximumDownloadSize }, func(v *SizeLimit) *Error {
			if *v < 0 {
				return Errorf(MaxDownloadSizeInvalid, "maximum_download_size is %d; want a number of bytes, or 0 for no limit", *v)
			}
			return nil
		}),
	option(Property{Name: "only_if_newer", Range: "true, false", Doc: "files that are here already and as new as the server's are not fetched", For: downloads},
		boolean, false, func(o *Options) **bool { return &o.OnlyIfNewer }, func(p *Properties) *bool { return &p.OnlyIfNewer }, nil),
	option(Property{Name: "acl_flags", BITS: "FileACLFlags", Range: flagNames(aclNames), Doc: "parts of the access rights of files on this machine or on shares that copies get; joined by '|', a number, or none", When: MethodSetFileACLFlags, Restarts: true},
		textual[ACLFlags](), 0, func(o *Options) **ACLFlags { return &o.ACLFlags }, func(p *Properties) *ACLFlags { return &p.ACLFlags }, func(f *ACLFlags) *Error {
			return defined("ACL flags", uint32(*f), allFlags(aclNames), InvalidArg)
		}),
	option(Property{Name: "peer_caching_flags", BITS: "PeerCachingFlags", Range: flagNames(peerNames), Doc: "what is shared with peers: disable-branchcache keeps the job from it, the others have no effect, as in BITS; joined by '|', a number, or none"},
		textual[PeerFlags](), 0, func(o *Options) **PeerFlags { return &o.PeerCachingFlags }, func(p *Properties) *PeerFlags { return &p.PeerCachingFlags }, func(f *PeerFlags) *Error {
			return defined("peer-caching flags", uint32(*f), allFlags(peerNames), InvalidArg)
		}),
}

// headerProperty is the row of the request headers, of which setting again adds one.
func headerProperty() Property {
	p := property(Property{Name: "header", BITS: "CustomHeaders", Range: "'Name: value'", Doc: "a request header sent with every request; repeat it for more; empty removes all", OwnerOnly: true, Restarts: true},
		wordList, func(s *Settings) **[]string { return &s.Headers }, func(j *Job) []string { return j.Properties.HeaderNames }, func(h *[]string) *Error { return checkHeaders(*h) })
	p.set = func(s *Settings, v string) error {
		if s.Headers == nil {
			s.Headers = &[]string{}
		}
		if v != "" {
			s.Headers = new(append(slices.Clone(*s.Headers), v))
		}
		return nil
	}
	return p
}

// FindProperty returns the row of a property; case does not matter.
func FindProperty(name string) *Property {
	for i := range PropertyTable {
		if strings.EqualFold(PropertyTable[i].Name, name) {
			return &PropertyTable[i]
		}
	}
	return nil
}

// Set parses one property from its text form, as `ebb set JOB name=value` takes it. A value
// that is refused changes nothing.
func (s *Settings) Set(name, value string) error {
	if p := FindProperty(name); p != nil {
		return p.set(s, value)
	}
	var known []string
	for _, p := range PropertyTable {
		known = append(known, p.Name)
	}
	return fmt.Errorf("unknown property %q (want %s)", name, strings.Join(known, ", "))
}

// Given returns the properties that s sets, in the order of the table.
func (s *Settings) Given() []*Property {
	var given []*Property
	for i := range PropertyTable {
		if p := &PropertyTable[i]; p.given(s) {
			given = append(given, p)
		}
	}
	return given
}

// Check validates the settings and normalises them: it raises a too small retry delay to its
// least value and cleans paths. create tells whether they are for a new job, where BITS answers a
// too long name differently. Whether a job's state and type allow them is for Refuse to say.
func (s *Settings) Check(create bool) *Error {
	for _, p := range s.Given() {
		if e := p.check(s); e != nil {
			if create && p.Name == "name" && e.Code == StringTooLong {
				e.Code = InvalidArg
			}
			return e
		}
	}
	return nil
}

// Refuse answers whether a job takes checked settings: whether its type has them, its state and
// what happened to it so far allow them, and they go together with those that it has. It
// returns nil if it does.
func (s *Settings) Refuse(state State, f Facts, have *Options) *Error {
	given := s.Given()
	for _, p := range given {
		if p.For != nil && !slices.Contains(p.For, f.Type) {
			if p.For[0] == Download {
				return Errorf(DownloadJobsOnly, "only downloads have %s; the job is of type %s", p.Name, f.Type)
			}
			return Errorf(NotImplemented, "a job of type %s has no %s", f.Type, p.Name)
		}
		if p.Name == "http_method" && f.Type != Download && s.customMethod() && (*s.HTTPMethod == "GET" || *s.HTTPMethod == "HEAD") {
			return Errorf(InvalidArg, "a request with the method %s sends no file", *s.HTTPMethod)
		}
	}
	after := have.Merge(&s.Options)
	for _, p := range given {
		when := p.When
		if p.Name == "http_method" && !have.customMethod() && !s.customMethod() {
			when = MethodSetProperty // the default over the default changes nothing
		}
		switch code := Decide(state, when, f).Code; {
		case code == InvalidState:
			return Errorf(code, "the job is %s and its %s cannot be changed", state, p.Name)
		case code == ReadOnlyAfterResume:
			return Errorf(code, "%s is fixed once the job was resumed", p.Name)
		case code == ReadOnlyWhenJobActive:
			return Errorf(code, "the job is %s and its %s changes only while it does not run", state, p.Name)
		case code == ReadOnlyAfterAddFile:
			return Errorf(code, "%s is fixed once the job has a file", p.Name)
		case code.Failed():
			return &Error{Code: code}
		}
	}
	isSet := func(b *bool) bool { return b != nil && *b }
	if have != nil && isSet(have.HeadersWriteOnly) && s.HeadersWriteOnly != nil && !*s.HeadersWriteOnly {
		return Errorf(ReadOnlyProperty, "the headers stay write-only for good")
	}
	if after == nil {
		return nil
	}
	if after.customMethod() {
		switch {
		case isSet(after.DynamicContent):
			return Errorf(NotWithCustomMethod, "dynamic_content and http_method do not go together")
		case isSet(after.OnDemand):
			return Errorf(NotWithCustomMethod, "on_demand and http_method do not go together")
		case s.Priority != nil && *s.Priority != Foreground:
			return Errorf(NotWithCustomMethod, "a job with the HTTP method %s stays FOREGROUND", *after.HTTPMethod)
		}
	}
	if isSet(after.DynamicContent) && isSet(after.OnDemand) {
		return Errorf(UnsupportedConfiguration, "dynamic_content and on_demand do not go together")
	}
	return nil
}

// HTTPMethod is the method of the requests of jobs of the type that were given none of their own
// (client.md 1.9). Other protocols than BITS's have methods of their own for that.
func (t Type) HTTPMethod() string {
	if t == Download {
		return "GET"
	}
	return "BITS_POST"
}

// Settle makes a value that is the usual one of jobs of a type the default, which the check of a value
// cannot know.
func (s *Settings) Settle(t Type) {
	if s.HTTPMethod != nil && *s.HTTPMethod == t.HTTPMethod() {
		s.HTTPMethod = new("")
	}
}

// customMethod reports whether the options set an HTTP method that is not the usual one.
func (o *Options) customMethod() bool { return o != nil && o.HTTPMethod != nil && *o.HTTPMethod != "" }

// Merge returns o with what other sets, as a new value; nil if all is at its default. Both may
// be nil, neither is changed.
func (o *Options) Merge(other *Options) *Options {
	var out Options
	if o != nil {
		out = *o
	}
	if other != nil {
		for i := range PropertyTable {
			if p := &PropertyTable[i]; p.merge != nil {
				p.merge(other, &out)
			}
		}
	}
	if out == (Options{}) {
		return nil
	}
	return &out
}

// defaultOptions are the properties of a job without options.
var defaultOptions = func() (p Properties) {
	for i := range PropertyTable {
		if row := &PropertyTable[i]; row.fill != nil {
			row.fill(nil, &p)
		}
	}
	return p
}()

// Properties returns the options' values, those that are not set at their default. All others are
// zero. o may be nil.
func (o *Options) Properties() Properties {
	p := defaultOptions
	if o == nil {
		return p
	}
	for i := range PropertyTable {
		if row := &PropertyTable[i]; row.fill != nil {
			row.fill(o, &p)
		}
	}
	return p
}

// maxDWORD is the largest value of most of BITS's numbers.
const maxDWORD = 1<<32 - 1

func within(name, unit string, v, least, most int64) *Error {
	if v < least || v > most {
		return Errorf(InvalidArg, "%s is %d; want %d to %d %s", name, v, least, most, unit)
	}
	return nil
}

// defined refuses bits without a meaning.
func defined(what string, have, all uint32, code Code) *Error {
	if unknown := have &^ all; unknown != 0 {
		return Errorf(code, "the %s have bits without a meaning: 0x%X", what, unknown)
	}
	return nil
}

func checkName(v *string) *Error {
	if *v == "" {
		return Errorf(InvalidArg, "the name is empty")
	}
	if n := utf8.RuneCountInString(*v); n > MaxNameLen {
		return Errorf(StringTooLong, "the name has %d characters; %d are allowed", n, MaxNameLen)
	}
	return checkText("name", *v)
}

func checkDescription(v *string) *Error {
	if n := utf8.RuneCountInString(*v); n > MaxDescriptionLen {
		return Errorf(StringTooLong, "the description has %d characters; %d are allowed", n, MaxDescriptionLen)
	}
	return checkText("description", *v)
}

// checkMethod writes the usual methods as they are; see Settle.
func checkMethod(v *string) *Error {
	switch upper := strings.ToUpper(*v); upper {
	case "", Download.HTTPMethod(), Upload.HTTPMethod():
		*v = upper
		return nil
	case "CONNECT", "TRACE":
		return Errorf(InvalidArg, "the HTTP method %s moves no file", *v)
	}
	if len(*v) > 32 || strings.ContainsFunc(*v, notToken) {
		return Errorf(InvalidArg, "%q is no HTTP method", *v)
	}
	return nil
}

// maxPins bounds the public keys that a job names.
const maxPins = 64

func checkPins(v *[]string) *Error {
	if len(*v) > maxPins {
		return Errorf(InvalidArg, "there are %d TLS pins; %d are allowed", len(*v), maxPins)
	}
	for _, pin := range *v {
		digest, ok := strings.CutPrefix(pin, "sha256/")
		b, err := base64.StdEncoding.DecodeString(digest)
		if !ok || err != nil || len(b) != 32 {
			return Errorf(InvalidArg, "the TLS pin %q is not sha256/ and the base64 of 32 bytes", pin)
		}
	}
	return nil
}

// checkProxy leaves the spelling of the lists to the time they are used, as BITS does, but refuses
// passwords, which belong into credentials.
func checkProxy(p *ProxySettings) *Error {
	switch {
	case int(p.Usage) >= len(proxyNames):
		return Errorf(NotImplemented, "there is no proxy usage %d", p.Usage)
	case p.Usage != ProxyOverride && len(p.List)+len(p.Bypass) > 0:
		return Errorf(InvalidArg, "a list of proxies, and of hosts without one, goes with the usage OVERRIDE only")
	case p.Usage == ProxyOverride && len(p.List) == 0:
		return Errorf(InvalidArg, "the proxy usage OVERRIDE needs a list of proxies")
	}
	for i, list := range [][]string{p.List, p.Bypass} {
		n := max(len(list)-1, 0)
		for _, item := range list {
			n += utf8.RuneCountInString(item)
			if item == "" || !utf8.ValidString(item) || strings.ContainsFunc(item, func(r rune) bool { return r <= ' ' || r == 0x7f || r == ',' }) {
				return Errorf(InvalidArg, "the list of proxies, or of hosts without one, has the item %q", RedactURL(item))
			}
			if strings.Contains(item, "@") {
				return Errorf(InvalidArg, "a proxy is given without user and password; `ebb credentials set` takes them")
			}
		}
		if n > MaxProxyList {
			return Errorf([]Code{ProxyListTooLarge, ProxyBypassListTooLarge}[i], "the list has %d characters; %d are allowed", n, MaxProxyList)
		}
	}
	return nil
}

// Limits of notify commands and proxy lists. Client.md 0.4.
const (
	MaxNotifyProgram    = 4095     // bytes of the program's path; BITS allows 260 characters
	MaxNotifyParameters = 4000     // characters of all arguments and the blanks between
	MaxProxyList        = 32 << 10 // characters of a list of proxies, and of one of hosts without; BITS's sources say 4,000 and 32 KiB (client.md 12.1)

	DefaultNotifyInterval = 500 // milliseconds
)

func checkCommand(v *[]string) *Error {
	if len(*v) == 0 {
		return nil
	}
	n := max(len(*v)-2, 0)
	for i, word := range *v {
		if !utf8.ValidString(word) || strings.ContainsRune(word, 0) {
			return Errorf(InvalidArg, "word %d of the notify command is not valid UTF-8 without NUL", i+1)
		}
		if i > 0 {
			n += utf8.RuneCountInString(word)
		}
	}
	switch program := (*v)[0]; {
	case !filepath.IsAbs(program):
		return Errorf(InvalidArg, "the notify command's program %q is not an absolute path", program)
	case len(program) > MaxNotifyProgram:
		return Errorf(StringTooLong, "the notify command's program has %d bytes; %d are allowed", len(program), MaxNotifyProgram)
	case n > MaxNotifyParameters:
		return Errorf(StringTooLong, "the notify command's arguments have %d characters; %d are allowed", n, MaxNotifyParameters)
	}
	return nil
}

func checkHook(v *string) *Error {
	if *v == "" {
		return nil
	}
	if len(*v) > MaxURLLen {
		return Errorf(StringTooLong, "notify_url has %d bytes; %d are allowed", len(*v), MaxURLLen)
	}
	u, err := url.Parse(*v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return Errorf(InvalidArg, "notify_url is not an http or https URL")
	}
	if u.User != nil {
		return Errorf(InvalidArg, "notify_url has a user or a password; what is posted is signed instead")
	}
	u.Fragment, u.RawFragment = "", ""
	*v = u.String()
	return nil
}
