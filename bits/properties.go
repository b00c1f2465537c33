package bits

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Properties are the settings of a job that its owner may change.
type Properties struct {
	Description         string   `json:"description"`
	MinimumRetryDelay   int64    `json:"minimum_retry_delay" doc:"Least seconds between a transient error and the next attempt; the delay grows from there"`
	NoProgressTimeout   int64    `json:"no_progress_timeout" doc:"Seconds without progress after which a transient error becomes ERROR; 0 means at once"`
	Connections         int      `json:"connections" doc:"Files of the job that move at once; a large one moves alone"`
	AutoComplete        bool     `json:"auto_complete" doc:"The service completes the job by itself once it is TRANSFERRED"`
	TransferPolicy      Cost     `json:"transfer_policy" doc:"On which networks the job runs (BITS's COST_FLAGS): the name of a policy, or cost states; 'default' leaves it to the service's policy for the job's priority"`
	MaximumDownloadTime int64    `json:"maximum_download_time" doc:"Seconds in CONNECTING and TRANSFERRING after which the job becomes ERROR; 0 means never"`
	Protocol            Protocol `json:"protocol,omitempty" doc:"How the job's file is uploaded; auto asks the server. Uploads only"`
	HeaderNames         []string `json:"header_names,omitempty" doc:"Names of the custom request headers; the values are never shown"`
}

// Settings are changes of a job; a nil field leaves its property alone.
type Settings struct {
	Name                *string   `json:"name,omitempty" doc:"Display name"`
	Priority            *Priority `json:"priority,omitempty"`
	Description         *string   `json:"description,omitempty"`
	MinimumRetryDelay   *int64    `json:"minimum_retry_delay,omitempty" doc:"Seconds, at least 5; smaller values become 5"`
	NoProgressTimeout   *int64    `json:"no_progress_timeout,omitempty" doc:"Seconds; 0 turns the first transient error into ERROR"`
	Connections         *int      `json:"connections,omitempty" doc:"1 to 64"`
	AutoComplete        *bool     `json:"auto_complete,omitempty"`
	TransferPolicy      *Cost     `json:"transfer_policy,omitempty" doc:"On which networks the job runs: always, not-roaming, no-surcharge, standard, unmetered, unrestricted, or cost states such as 'flat-rate|roaming' or 0x80000021; 'default' for the policy of its priority"`
	MaximumDownloadTime *int64    `json:"maximum_download_time,omitempty" doc:"Seconds; 0 means never, -1 what the service's policy says"`
	Protocol            *Protocol `json:"protocol,omitempty" enum:"auto,bits,tus,ietf,s3,put" doc:"How the job's file is uploaded: bits unless set otherwise; not once bytes were sent. Uploads only"`
	ReplyFile           *string   `json:"reply_file,omitempty" doc:"Absolute path for the server's answer; empty for a name in the directory of the uploaded file. UPLOAD_REPLY jobs only, until the answer's download begins"`
	Headers             *[]string `json:"headers,omitempty" doc:"Request headers, each as 'Name: value'; an empty list removes them"`
}

// DefaultMaximumDownloadTime as a setting leaves the time to the service's policy.
const DefaultMaximumDownloadTime int64 = -1

// A Property describes one settable property: the table from which validation, the CLI's help
// and the documentation are made.
type Property struct {
	Name    string // as in JSON and in `ebb set`
	Default string
	Range   string
	Doc     string
	// set parses a value from the command line into s.
	set func(s *Settings, value string) error
}

// PropertyTable lists the settable properties in the order people read them.
var PropertyTable = []Property{
	{"name", "", "1 to 256 characters", "display name; need not be unique", func(s *Settings, v string) error { s.Name = &v; return nil }},
	{"description", "", "up to 1,024 characters", "free text", func(s *Settings, v string) error { s.Description = &v; return nil }},
	{"priority", "NORMAL", "FOREGROUND, HIGH, NORMAL, LOW", "who goes first; takes effect at once", func(s *Settings, v string) error {
		p := new(Priority)
		s.Priority = p
		return p.UnmarshalText([]byte(v))
	}},
	{"minimum_retry_delay", "600", "5 s or more", "least seconds between a transient error and the next attempt; also takes 90s, 10m, 2h", func(s *Settings, v string) (err error) {
		s.MinimumRetryDelay, err = seconds(v)
		return err
	}},
	{"no_progress_timeout", "1209600", "0 s or more", "seconds without progress after which a transient error becomes ERROR; 0 means at once", func(s *Settings, v string) (err error) {
		s.NoProgressTimeout, err = seconds(v)
		return err
	}},
	{"connections", strconv.Itoa(DefaultConnections), "1 to 64", "files of the job that move at once; a large one moves alone", func(s *Settings, v string) error {
		n, err := strconv.Atoi(v)
		s.Connections = &n
		if err != nil {
			return fmt.Errorf("connections=%s: want a whole number from 1 to %d", v, MaxConnections)
		}
		return nil
	}},
	{"auto_complete", "false", "true, false", "the service completes the job by itself once it is TRANSFERRED", func(s *Settings, v string) error {
		b, err := strconv.ParseBool(v)
		s.AutoComplete = &b
		if err != nil {
			return fmt.Errorf("auto_complete=%s: want true or false", v)
		}
		return nil
	}},
	{"transfer_policy", "default", strings.Join(TransferPolicies(), ", "), "on which networks the job runs; default is the policy of its priority; takes effect at once", func(s *Settings, v string) error {
		c := TransferDefault
		s.TransferPolicy = &c
		if v == "" {
			return nil
		}
		return c.UnmarshalText([]byte(v))
	}},
	{"maximum_download_time", "default", "0 s or more, default", "seconds in CONNECTING and TRANSFERRING after which the job becomes ERROR; 0 means never, default what the policy says (90 days)", func(s *Settings, v string) (err error) {
		if v == "" || strings.EqualFold(v, "default") {
			s.MaximumDownloadTime = new(DefaultMaximumDownloadTime)
			return nil
		}
		s.MaximumDownloadTime, err = seconds(v)
		return err
	}},
	{"protocol", string(ProtocolBITS), "auto, bits, tus, ietf, s3, put", "how an upload's file is sent; auto asks the server; not once bytes were sent", func(s *Settings, v string) error {
		s.Protocol = new(Protocol)
		return s.Protocol.UnmarshalText([]byte(v))
	}},
	{"reply_file", "", "an absolute path", "where the answer to an upload-reply job's file goes; empty for a name beside that file", func(s *Settings, v string) error { s.ReplyFile = &v; return nil }},
	{"header", "", "'Name: value'", "a request header sent with every request; repeat it for more; empty removes all", func(s *Settings, v string) error {
		if s.Headers == nil {
			s.Headers = &[]string{}
		}
		if v != "" {
			*s.Headers = append(*s.Headers, v)
		}
		return nil
	}},
}

// Set parses one property from its text form, as `ebb set JOB name=value` takes it. A value
// that is refused changes nothing.
func (s *Settings) Set(name, value string) error {
	for _, p := range PropertyTable {
		if strings.EqualFold(p.Name, name) {
			changed := *s
			err := p.set(&changed, value)
			if err == nil {
				*s = changed
			}
			return err
		}
	}
	var known []string
	for _, p := range PropertyTable {
		known = append(known, p.Name)
	}
	return fmt.Errorf("unknown property %q (want %s)", name, strings.Join(known, ", "))
}

// seconds reads "90", "90s", "10m" or "2h".
func seconds(v string) (*int64, error) {
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		return &n, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d%time.Second != 0 {
		return nil, fmt.Errorf("%q is not a time in whole seconds (want 90, 90s, 10m or 2h)", v)
	}
	n := int64(d / time.Second)
	return &n, nil
}

// Check validates the settings and raises a too small retry delay to its least value.
// create tells whether they are for a new job, where BITS answers a too long name differently.
func (s *Settings) Check(create bool) *Error {
	if s.Name != nil {
		if *s.Name == "" {
			return Errorf(InvalidArg, "the name is empty")
		}
		if n := utf8.RuneCountInString(*s.Name); n > MaxNameLen {
			code := StringTooLong
			if create {
				code = InvalidArg
			}
			return Errorf(code, "the name has %d characters; %d are allowed", n, MaxNameLen)
		}
		if e := checkText("name", *s.Name); e != nil {
			return e
		}
	}
	if s.Description != nil {
		if n := utf8.RuneCountInString(*s.Description); n > MaxDescriptionLen {
			return Errorf(StringTooLong, "the description has %d characters; %d are allowed", n, MaxDescriptionLen)
		}
		if e := checkText("description", *s.Description); e != nil {
			return e
		}
	}
	if s.Priority != nil && *s.Priority >= Priorities {
		return Errorf(NotImplemented, "there is no priority %d", *s.Priority)
	}
	const maxSeconds = 1<<32 - 1
	if d := s.MinimumRetryDelay; d != nil {
		if *d < 0 || *d > maxSeconds {
			return Errorf(InvalidArg, "minimum_retry_delay is %d; want 5 to %d seconds", *d, int64(maxSeconds))
		}
		if least := int64(LeastMinimumRetryDelay / time.Second); *d < least {
			s.MinimumRetryDelay = &least
		}
	}
	if d := s.NoProgressTimeout; d != nil && (*d < 0 || *d > maxSeconds) {
		return Errorf(InvalidArg, "no_progress_timeout is %d; want 0 to %d seconds", *d, int64(maxSeconds))
	}
	if d := s.MaximumDownloadTime; d != nil && (*d < DefaultMaximumDownloadTime || *d > maxSeconds) {
		return Errorf(InvalidArg, "maximum_download_time is %d; want 0 to %d seconds, or -1 for the policy's", *d, int64(maxSeconds))
	}
	if c := s.TransferPolicy; c != nil && *c != TransferDefault && *c&^CostIgnoreCongestion == 0 {
		return Errorf(InvalidArg, "the transfer policy %s allows no network at all", *c)
	}
	if p := s.Protocol; p != nil && !slices.Contains(Protocols, *p) {
		return Errorf(InvalidArg, "there is no protocol %q", *p)
	}
	if s.ReplyFile != nil && *s.ReplyFile != "" {
		if e := checkLocal(s.ReplyFile); e != nil {
			return e
		}
	}
	if n := s.Connections; n != nil && (*n < 1 || *n > MaxConnections) {
		return Errorf(InvalidArg, "connections is %d; want 1 to %d", *n, MaxConnections)
	}
	if s.Headers != nil {
		return checkHeaders(*s.Headers)
	}
	return nil
}

// checkText refuses what would garble a terminal or a log line: control characters, those of
// the C1 set too, and those that turn the direction of the text around them.
func checkText(what, s string) *Error {
	if !utf8.ValidString(s) {
		return Errorf(InvalidArg, "the %s is not valid UTF-8", what)
	}
	for _, r := range s {
		if unicode.IsControl(r) && r != '\t' && r != '\n' || unicode.Is(unicode.Bidi_Control, r) {
			return Errorf(InvalidArg, "the %s holds the control character %q", what, r)
		}
	}
	return nil
}

// reservedHeaders belong to the transfer itself: they frame the request, or decide which bytes
// of which version the answer has.
var reservedHeaders = []string{
	"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Accept-Encoding",
	"Content-Length", "Content-Range", "Transfer-Encoding", "Connection", "Proxy-Connection", "Expect", "Host", "Te", "Trailer", "Upgrade",
}

// checkHeaders refuses all that net/http would refuse later, when the job can only fail.
func checkHeaders(headers []string) *Error {
	total := 0
	for _, h := range headers {
		total += len(h) + 2
		name, value, ok := strings.Cut(h, ":")
		if !ok || name == "" || strings.ContainsFunc(name, notToken) {
			return Errorf(InvalidArg, "the header %q is not of the form 'Name: value'", name)
		}
		for _, r := range reservedHeaders {
			if strings.EqualFold(name, r) {
				return Errorf(InvalidArg, "the header %s is set by the transfer itself", r)
			}
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }) {
			return Errorf(InvalidArg, "the value of the header %s holds a control character", name)
		}
	}
	if total > MaxHeaderBytes {
		return Errorf(StringTooLong, "the headers have %d bytes; %d are allowed", total, MaxHeaderBytes)
	}
	return nil
}

func notToken(r rune) bool {
	token := r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	return !token
}

// FileSpec names a file to add to a job.
type FileSpec struct {
	Remote   string `json:"remote" doc:"URL: http or https, of an upload also s3://BUCKET/KEY" example:"https://example.org/image.iso"`
	Local    string `json:"local" doc:"Absolute path of the finished file, in a directory that exists; or of the file to upload"`
	Checksum string `json:"checksum,omitempty" doc:"Expected digest as ALGORITHM:HEX with sha256, sha512 or blake3; not for uploads"`
}

// Check validates and normalises a file of a job of a type: the URL's fragment is cut off, the
// path is cleaned and the checksum is put in lower case.
func (f *FileSpec) Check(t Type) *Error {
	shown := RedactURL(f.Remote)
	bad := func(code Code, ctx Context, file, format string, args ...any) *Error {
		e := Errorf(code, format, args...)
		e.Context, e.File = ctx, file
		return e
	}
	if len(f.Remote) > MaxURLLen {
		return bad(InvalidArg, ContextRemoteFile, "", "the URL has %d bytes; %d are allowed", len(f.Remote), MaxURLLen)
	}
	u, err := url.Parse(f.Remote)
	if err != nil {
		return bad(InvalidArg, ContextRemoteFile, shown, "%q is not a URL", shown)
	}
	if u.Scheme != "http" && u.Scheme != "https" && (u.Scheme != "s3" || t != Upload) {
		return bad(InvalidArg, ContextRemoteFile, shown, "%q is not an http or https URL", shown)
	}
	if u.Hostname() == "" {
		return bad(InvalidArg, ContextRemoteFile, shown, "the URL %q has no host", shown)
	}
	u.Fragment, u.RawFragment = "", ""
	f.Remote = u.String()
	if e := checkLocal(&f.Local); e != nil {
		return e
	}
	if f.Checksum != "" {
		c, err := ParseChecksum(f.Checksum)
		if err != nil {
			return bad(InvalidArg, ContextLocalFile, f.Local, "%v", err)
		}
		f.Checksum = c
	}
	return nil
}

// checkLocal validates the path of a file on this machine and cleans it.
func checkLocal(path *string) *Error {
	p := *path
	bad := func(file, format string, args ...any) *Error {
		e := Errorf(InvalidArg, format, args...)
		e.Context, e.File = ContextLocalFile, file
		return e
	}
	switch {
	case p == "":
		return bad("", "the local path is empty")
	case strings.ContainsRune(p, 0):
		return bad("", "the local path holds a NUL byte")
	case !filepath.IsAbs(p):
		return bad(p, "the local path %q is not absolute", p)
	case strings.HasSuffix(p, string(filepath.Separator)):
		return bad(p, "the local path %q names a directory, not a file", p)
	case len(p) > 4095 || len(filepath.Base(p)) > 255:
		return bad("", "the local path is too long (4,095 bytes, 255 in a name)")
	}
	p = filepath.Clean(p)
	if filepath.Dir(p) == p {
		return bad(p, "the local path %q names a directory, not a file", p)
	}
	*path = p
	return nil
}

// checksumLen is the number of hexadecimal digits of each algorithm.
var checksumLen = map[string]int{"sha256": 64, "sha512": 128, "blake3": 64}

// ParseChecksum checks a digest of the form ALGORITHM:HEX and returns it in lower case.
func ParseChecksum(s string) (string, error) {
	algorithm, digits, ok := strings.Cut(strings.ToLower(s), ":")
	n, known := checksumLen[algorithm]
	if !ok || !known {
		return "", fmt.Errorf("the checksum %q is not of the form ALGORITHM:HEX with sha256, sha512 or blake3", s)
	}
	if len(digits) != n || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", fmt.Errorf("the checksum %q needs %d hexadecimal digits after \"%s:\"", s, n, algorithm)
	}
	return algorithm + ":" + digits, nil
}
