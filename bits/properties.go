package bits

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Properties are the settings of a job, as they are in effect.
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

	NotifyFlags                 NotifyFlags        `json:"notify_flags" doc:"Events that are told to the owner, by name"`
	MinimumNotificationInterval int64              `json:"minimum_notification_interval" doc:"Least milliseconds between two modification or ranges events"`
	NotifyCommand               []string           `json:"notify_command,omitempty" doc:"Program, by its absolute path, and its arguments, run as the owner when the job is TRANSFERRED or in ERROR"`
	NotifyURL                   string             `json:"notify_url,omitempty" doc:"Where the service posts when the job is TRANSFERRED or in ERROR; for others than the owner, and once the job has ended, only the server, followed by /..."`
	NotifyDesktop               bool               `json:"notify_desktop,omitempty" doc:"The owner's desktop tells of the job's end"`
	Proxy                       ProxySettings      `json:"proxy"`
	SecurityFlags               SecurityFlags      `json:"security_flags" doc:"Which certificates and redirects are taken, by name"`
	TLSMinVersion               string             `json:"tls_min_version,omitempty" doc:"Oldest version of TLS that is spoken; absent for the service's own choice, 1.2"`
	TLSPins                     []string           `json:"tls_pins,omitempty" doc:"Public keys, one of which must be in the server's chain of certificates"`
	ClientCertificate           *ClientCertificate `json:"client_certificate,omitempty" doc:"The certificate that the job shows to servers"`
	VerifyCertificates          bool               `json:"verify_certificates,omitempty" doc:"A program of the owner's is asked about each server's certificate"`
	HTTPMethod                  string             `json:"http_method,omitempty" doc:"Method of the requests; absent for GET of downloads and BITS_POST of uploads"`
	DynamicContent              bool               `json:"dynamic_content,omitempty" doc:"The server makes the content as it is asked: size, dates and ranges mean nothing"`
	HighPerformance             bool               `json:"high_performance,omitempty" doc:"Files are written straight into their places and begin again after a crash"`
	OnDemand                    bool               `json:"on_demand,omitempty" doc:"Only ranges that were asked for are fetched"`
	MaximumDownloadSize         SizeLimit          `json:"maximum_download_size,omitempty" doc:"Bytes that all files together may have; absent without a limit"`
	ACLFlags                    ACLFlags           `json:"acl_flags,omitzero" doc:"Parts of the access rights of files of this machine and of shares that their copies get, by name"`
	PeerCachingFlags            PeerFlags          `json:"peer_caching_flags,omitzero" doc:"What is shared with peers, by name"`
	UseStoredCredentials        AuthTarget         `json:"use_stored_credentials,omitzero" doc:"PROXY if the owner's own credentials may answer a proxy"`
	Credentials                 []CredentialName   `json:"credentials,omitempty" doc:"For whom and for which schemes the job has credentials; they are never shown"`
	HeadersWriteOnly            bool               `json:"headers_write_only,omitempty" doc:"The custom headers can never be read back"`
	RunWhen                     RunWhen            `json:"run_when" doc:"When the job may run" enum:"always,logged-on"`
	OnlyIfNewer                 bool               `json:"only_if_newer,omitempty" doc:"Files that are here already and as new as the server's are not fetched"`
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
	Protocol            *Protocol `json:"protocol,omitempty" enum:"auto,bits,tus,ietf,s3,put,file" doc:"How the job's file is uploaded: bits unless set otherwise; not once bytes were sent. Uploads only"`
	ReplyFile           *string   `json:"reply_file,omitempty" doc:"Absolute path for the server's answer; empty for a name in the directory of the uploaded file. UPLOAD_REPLY jobs only, until the answer's download begins"`
	Headers             *[]string `json:"headers,omitempty" doc:"Request headers, each as 'Name: value'; an empty list removes them. The owner's only"`
	Options
}

// Options are the settings that few jobs have. The store keeps them in this form: a nil field is
// a property at its default.
type Options struct {
	NotifyFlags                 *NotifyFlags   `json:"notify_flags,omitempty" doc:"Events to tell: transferred, error, disable, modification, file, ranges, joined by '|', a number, or none"`
	MinimumNotificationInterval *int64         `json:"minimum_notification_interval,omitempty" doc:"Milliseconds"`
	NotifyCommand               *[]string      `json:"notify_command,omitempty" doc:"Program, by its absolute path, and its arguments; an empty list removes it"`
	NotifyURL                   *string        `json:"notify_url,omitempty" doc:"http or https URL; empty removes it"`
	NotifyDesktop               *bool          `json:"notify_desktop,omitempty"`
	Proxy                       *ProxySettings `json:"proxy,omitempty"`
	SecurityFlags               *SecurityFlags `json:"security_flags,omitempty" doc:"crl-check, ignore-name, ignore-date, ignore-unknown-ca, ignore-usage, redirect-report, redirect-deny, redirect-https-to-http, joined by '|', a number, or none"`
	TLSMinVersion               *string        `json:"tls_min_version,omitempty" doc:"1.0, 1.1, 1.2 or 1.3; empty for the service's own choice"`
	TLSPins                     *[]string      `json:"tls_pins,omitempty" doc:"Public keys, each as sha256/BASE64 of its SubjectPublicKeyInfo; an empty list removes them"`
	VerifyCertificates          *bool          `json:"verify_certificates,omitempty" doc:"While the job is suspended"`
	HTTPMethod                  *string        `json:"http_method,omitempty" doc:"Another method than the usual one, GET of downloads and BITS_POST of uploads, makes the job FOREGROUND and errors fatal. Before the first resume"`
	DynamicContent              *bool          `json:"dynamic_content,omitempty" doc:"Downloads only, before the first resume"`
	HighPerformance             *bool          `json:"high_performance,omitempty" doc:"Downloads only, before the first file"`
	OnDemand                    *bool          `json:"on_demand,omitempty" doc:"Downloads only, before the first resume"`
	MaximumDownloadSize         *SizeLimit     `json:"maximum_download_size,omitempty" doc:"Bytes; 0 for no limit. Downloads only, before the first resume"`
	ACLFlags                    *ACLFlags      `json:"acl_flags,omitempty" doc:"owner, group, dacl, sacl, all, joined by '|', a number, or none; until the job is TRANSFERRED"`
	PeerCachingFlags            *PeerFlags     `json:"peer_caching_flags,omitempty" doc:"client, server, disable-branchcache, joined by '|', a number, or none"`
	UseStoredCredentials        *AuthTarget    `json:"use_stored_credentials,omitempty" doc:"PROXY lets the owner's own credentials answer a proxy"`
	HeadersWriteOnly            *bool          `json:"headers_write_only,omitempty" doc:"true for good; the owner's only"`
	RunWhen                     *RunWhen       `json:"run_when,omitempty" enum:"always,logged-on"`
	OnlyIfNewer                 *bool          `json:"only_if_newer,omitempty" doc:"Downloads only"`
}

// DefaultMaximumDownloadTime as a setting leaves the time to the service's policy.
const DefaultMaximumDownloadTime int64 = -1

// parseSeconds reads "90", "90s", "10m" or "2h".
func parseSeconds(v string) (int64, error) {
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		return n, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d%time.Second != 0 {
		return 0, fmt.Errorf("%q is not a time in whole seconds (want 90, 90s, 10m or 2h)", v)
	}
	return int64(d / time.Second), nil
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
		if strings.EqualFold(name, "Proxy-Authorization") {
			return Errorf(InvalidArg, "the header Proxy-Authorization would go to servers, not to the proxy alone; give the job credentials for the target proxy instead (ebb credentials set JOB proxy SCHEME)")
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
	Remote      string   `json:"remote" doc:"URL: http or https, of an upload also s3://BUCKET/KEY" example:"https://example.org/image.iso"`
	Local       string   `json:"local" doc:"Absolute path of the finished file, in a directory that exists; or of the file to upload"`
	Checksum    string   `json:"checksum,omitempty" doc:"Expected digest as ALGORITHM:HEX with sha256, sha512 or blake3; not for uploads"`
	Mirrors     []string `json:"mirrors,omitempty" doc:"Other URLs of the same content, the best first: they are asked when the one before them fails. Downloads only"`
	OnlyIfNewer bool     `json:"only_if_newer,omitempty" doc:"Skip the file if the one in its place is as new as the server's, and of the same size. Downloads only"`
	Ranges      []Range  `json:"ranges,omitempty" doc:"Parts of the file to fetch; they stand back to back, in this order, in the file here. They must not overlap. Downloads by http and https only, without mirrors and only_if_newer"`
	NamedBy     string   `json:"named_by,omitempty" doc:"URL of the document, such as a Metalink, that named remote and mirrors, if the job's owner has not: headers and credentials of the job go to its server alone. Downloads only"`
}

// Check validates and normalises a file of a job of a type: the URL's fragment is cut off, the
// path is cleaned and the checksum is put in lower case.
func (f *FileSpec) Check(t Type) *Error {
	bad := func(code Code, ctx Context, file, format string, args ...any) *Error {
		e := Errorf(code, format, args...)
		e.Context, e.File = ctx, file
		return e
	}
	remote, e := CheckURL(f.Remote, t)
	if e != nil {
		return e
	}
	f.Remote = remote
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
	if e := f.checkRanges(t); e != nil {
		return e
	}
	return f.checkSources(t)
}

// checkRanges validates the parts that are to be fetched (client.md 3.3).
func (f *FileSpec) checkRanges(t Type) *Error {
	if f.Ranges == nil {
		return nil
	}
	e := CheckRanges(f.Ranges)
	if t != Download {
		e = Errorf(NotImplemented, "only downloads have ranges")
	}
	if e == nil {
		return CheckRanged(f.Remote, f.Mirrors, f.OnlyIfNewer)
	}
	e.Context, e.File = ContextRemoteFile, RedactURL(f.Remote)
	return e
}

// CheckRanged refuses what does not go together with ranges: files of this machine and of shares, which
// have none (client.md 6.9; InsufficientRangeSupport), and mirrors and only_if_newer, which are about
// whole files (UnsupportedConfiguration). remote is as CheckURL returns it.
func CheckRanged(remote string, mirrors []string, onlyIfNewer bool) *Error {
	var e *Error
	switch {
	case strings.HasPrefix(remote, "file:") || strings.HasPrefix(remote, "smb:"):
		e = Errorf(InsufficientRangeSupport, "%q is a file, and ranges can be had from http and https servers only", RedactURL(remote))
	case len(mirrors) > 0:
		e = Errorf(UnsupportedConfiguration, "a file with ranges has no mirrors: its parts come from one URL, which can be changed at any time")
	case onlyIfNewer:
		e = Errorf(UnsupportedConfiguration, "only_if_newer is for whole files, not for parts of one")
	default:
		return nil
	}
	e.Context, e.File = ContextRemoteFile, RedactURL(remote)
	return e
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
