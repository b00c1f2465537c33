package bits

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Code is a result code: an HRESULT with BITS's name and value. HTTP status n is 0x80190000+n.
type Code uint32

// Class says what becomes of a transfer that ends with a code. Client.md chapter 5.
type Class uint8

// The classes of codes.
const (
	Fatal     Class = iota // the job goes to ERROR
	Transient              // the job goes to TRANSIENT_ERROR and a timer retries it
	Waiting                // the job goes to TRANSIENT_ERROR and an event, not a timer, retries it
)

// Success codes.
const (
	OK                  Code = 0
	False               Code = 1
	PartialComplete     Code = 0x00200017
	UnableToDeleteFiles Code = 0x0020001A
)

// Error codes. The names are those of BITS without the prefix BG_E_ (or E_, ERROR_).
const (
	NotFound                     Code = 0x80200001
	InvalidState                 Code = 0x80200002
	Empty                        Code = 0x80200003
	FileNotAvailable             Code = 0x80200004
	ProtocolNotAvailable         Code = 0x80200005
	DestinationLocked            Code = 0x8020000D
	VolumeChanged                Code = 0x8020000E
	ErrorInfoUnavailable         Code = 0x8020000F
	NetworkDisconnected          Code = 0x80200010
	MissingFileSize              Code = 0x80200011
	InsufficientHTTPSupport      Code = 0x80200012
	InsufficientRangeSupport     Code = 0x80200013
	InvalidServerResponse        Code = 0x8020001B
	TooManyFiles                 Code = 0x8020001C
	NewOwnerNoFileAccess         Code = 0x80200016
	LocalFileChanged             Code = 0x8020001D
	SessionNotFound              Code = 0x8020001F
	TooLarge                     Code = 0x80200020
	StringTooLong                Code = 0x80200021
	ProtocolMismatch             Code = 0x80200022
	ServerExecuteEnabled         Code = 0x80200023
	NoProgress                   Code = 0x80200024
	InvalidRange                 Code = 0x8020002B
	OverlappingRanges            Code = 0x8020002C
	BlockedByPolicy              Code = 0x8020003E
	PeerCachingDisabled          Code = 0x80200047
	TooManyJobsPerUser           Code = 0x80200049
	TooManyJobsPerMachine        Code = 0x80200050
	TooManyFilesInJob            Code = 0x80200051
	ValidationFailed             Code = 0x80200053
	MaxDownloadTimeout           Code = 0x80200054
	BlockedByCost                Code = 0x80200059
	ReadOnlyAfterAddFile         Code = 0x80200061
	ReadOnlyAfterResume          Code = 0x80200062
	StandbyMode                  Code = 0x80200065
	BlockedByBattery             Code = 0x80200067
	BlockedByBatterySaver        Code = 0x80200068
	DatabaseCorrupt              Code = 0x8020006C
	BlockedByBackground          Code = 0x8020006E
	BlockedByGameMode            Code = 0x8020006F
	BlockedBySystem              Code = 0x80200070
	RemoteFileChanged            Code = 0x80200073
	ServerCertAnswerRequired     Code = 0x80200074
	ReadOnlyWhenJobActive        Code = 0x80200075
	ProxyListTooLarge            Code = 0x80200018
	ProxyBypassListTooLarge      Code = 0x80200019
	UsernameTooLarge             Code = 0x80200025
	PasswordTooLarge             Code = 0x80200026
	InvalidAuthTarget            Code = 0x80200027
	InvalidAuthScheme            Code = 0x80200028
	InvalidCredentials           Code = 0x80200040
	UnknownPropertyID            Code = 0x80200057
	ReadOnlyProperty             Code = 0x80200058
	DownloadJobsOnly             Code = 0x80200060
	MaxDownloadSizeInvalid       Code = 0x80200063
	MaxDownloadSizeReached       Code = 0x80200064
	StoredCredentialsUnsupported Code = 0x80200066
	NotWithCustomMethod          Code = 0x80200071
	UnsupportedConfiguration     Code = 0x80200072
	InvalidProxyInfo             Code = 0x8020003F

	NotImplemented       Code = 0x80004001 // E_NOTIMPL
	LanguageNotFound     Code = 0x80070717 // ERROR_RESOURCE_LANG_NOT_FOUND
	Pending              Code = 0x8000000A // E_PENDING
	Unexpected           Code = 0x8000FFFF // E_UNEXPECTED
	FileNotFound         Code = 0x80070002 // ERROR_FILE_NOT_FOUND
	PathNotFound         Code = 0x80070003 // ERROR_PATH_NOT_FOUND
	AccessDenied         Code = 0x80070005 // E_ACCESSDENIED
	WriteProtect         Code = 0x80070013 // ERROR_WRITE_PROTECT
	InvalidArg           Code = 0x80070057 // E_INVALIDARG
	DiskFull             Code = 0x80070070 // ERROR_DISK_FULL
	FileTooLarge         Code = 0x800700DF // ERROR_FILE_TOO_LARGE
	DiskIO               Code = 0x8007045D // ERROR_IO_DEVICE
	DiskQuotaExceeded    Code = 0x8007050F // ERROR_DISK_QUOTA_EXCEEDED
	NotLoggedOn          Code = 0x800704DD // ERROR_NOT_LOGGED_ON
	TimedOut             Code = 0x800705B4 // ERROR_TIMEOUT
	TooManyOpenFiles     Code = 0x80070004 // ERROR_TOO_MANY_OPEN_FILES
	WinHTTPTimeout       Code = 0x80072EE2 // ERROR_WINHTTP_TIMEOUT
	NameNotResolved      Code = 0x80072EE7 // ERROR_WINHTTP_NAME_NOT_RESOLVED
	CannotConnect        Code = 0x80072EFD // ERROR_WINHTTP_CANNOT_CONNECT
	ConnectionError      Code = 0x80072EFE // ERROR_WINHTTP_CONNECTION_ERROR
	CertDateInvalid      Code = 0x80072F05 // ERROR_WINHTTP_SECURE_CERT_DATE_INVALID
	CertNameInvalid      Code = 0x80072F06 // ERROR_WINHTTP_SECURE_CERT_CN_INVALID
	CertUntrusted        Code = 0x80072F0D // ERROR_WINHTTP_SECURE_INVALID_CA
	SecureFailure        Code = 0x80072F8F // ERROR_WINHTTP_SECURE_FAILURE
	ClientCertNeeded     Code = 0x80072F0C // ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED
	CertNotFound         Code = 0x80092004 // CRYPT_E_NOT_FOUND
	BadStubData          Code = 0x800706F7 // RPC_X_BAD_STUB_DATA
	InvalidPassword      Code = 0x80070056 // ERROR_INVALID_PASSWORD
	CertRevocationFailed Code = 0x80072F19 // ERROR_WINHTTP_SECURE_CERT_REV_FAILED
	CertRevoked          Code = 0x80072F8A // ERROR_WINHTTP_SECURE_CERT_REVOKED
	CertWrongUsage       Code = 0x80072F93 // ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE
	InvalidServerAnswer  Code = 0x80072F78 // ERROR_WINHTTP_INVALID_SERVER_RESPONSE
	RedirectFailed       Code = 0x80072F7C // ERROR_WINHTTP_REDIRECT_FAILED
)

// Codes of parts of files.
const (
	TooManyRangesInFile      Code = 0x80200052
	RandomAccessNotSupported Code = 0x8020006D
)

// httpBase is the value of HTTP status 0.
const httpBase Code = 0x80190000

// HTTPStatus returns the code of an HTTP status.
func HTTPStatus(status int) Code { return httpBase + Code(status) }

// codeInfo is all that is known about one code.
type codeInfo struct {
	name    string
	class   Class
	message string // a sentence for people, without a full stop
	hint    string // what to do about it
}

// codes is the one place where a code's name, class, sentence and hint stand.
var codes = map[Code]codeInfo{
	OK:                  {"S_OK", Fatal, "done", ""},
	False:               {"S_FALSE", Fatal, "there was nothing to do", ""},
	PartialComplete:     {"BG_S_PARTIAL_COMPLETE", Fatal, "only the finished files were kept", ""},
	UnableToDeleteFiles: {"BG_S_UNABLE_TO_DELETE_FILES", Fatal, "done, but some part files could not be deleted", "delete them by hand"},

	NotFound:                     {"BG_E_NOT_FOUND", Fatal, "there is no such job", "`ebb list` shows the jobs"},
	InvalidState:                 {"BG_E_INVALID_STATE", Fatal, "the job's state does not allow this", "`ebb show` tells the state"},
	Empty:                        {"BG_E_EMPTY", Fatal, "the job has no files", "add one with `ebb add`"},
	FileNotAvailable:             {"BG_E_FILE_NOT_AVAILABLE", Fatal, "the error is not about a file", "`ebb show` tells the error"},
	ProtocolNotAvailable:         {"BG_E_PROTOCOL_NOT_AVAILABLE", Fatal, "the error is not about a protocol", "`ebb show` tells the error"},
	DestinationLocked:            {"BG_E_DESTINATION_LOCKED", Waiting, "the destination's volume is locked", "the job goes on when it is unlocked"},
	VolumeChanged:                {"BG_E_VOLUME_CHANGED", Fatal, "the destination is on another volume than when the job began", "mount the old volume and resume the job"},
	ErrorInfoUnavailable:         {"BG_E_ERROR_INFORMATION_UNAVAILABLE", Fatal, "the job is not in an error", "`ebb show` tells the state"},
	NetworkDisconnected:          {"BG_E_NETWORK_DISCONNECTED", Waiting, "there is no network", "the job goes on by itself when the network is back"},
	MissingFileSize:              {"BG_E_MISSING_FILE_SIZE", Fatal, "the server did not tell the size of the file", "use a server that sends Content-Length"},
	InsufficientHTTPSupport:      {"BG_E_INSUFFICIENT_HTTP_SUPPORT", Fatal, "the server does not speak HTTP well enough", "a proxy may be in the way; use another URL or another server"},
	InsufficientRangeSupport:     {"BG_E_INSUFFICIENT_RANGE_SUPPORT", Fatal, "the server does not support byte ranges", "fetch the whole file, or use a server that supports ranges"},
	InvalidServerResponse:        {"BG_E_INVALID_SERVER_RESPONSE", Fatal, "the server's answer is malformed", "check the URL with `curl -v`; a proxy may be in the way"},
	NewOwnerNoFileAccess:         {"BG_E_NEW_OWNER_NO_FILE_ACCESS", Fatal, "the new owner may not use the job's files", "let the new owner write to the directory of the files, or cancel the job"},
	TooManyFiles:                 {"BG_E_TOO_MANY_FILES", Fatal, "an upload takes one file", "create a job for each file"},
	LocalFileChanged:             {"BG_E_LOCAL_FILE_CHANGED", Fatal, "the local file was changed by something else", "see what else writes there; cancel the job and create it again"},
	SessionNotFound:              {"BG_E_SESSION_NOT_FOUND", Transient, "the server does not know the upload any more", "the upload starts again by itself"},
	TooLarge:                     {"BG_E_TOO_LARGE", Fatal, "it is larger than the limit", "use a smaller file, or split what is sent"},
	StringTooLong:                {"BG_E_STRING_TOO_LONG", Fatal, "the text is too long", "shorten it"},
	ProtocolMismatch:             {"BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH", Fatal, "the server speaks no upload protocol that ebb does", "see with --protocol whether another one works, and ask who runs the server"},
	ServerExecuteEnabled:         {"BG_E_SERVER_EXECUTE_ENABLED", Fatal, "the server's directory runs programs, and so takes no uploads", "upload to another directory, or have its scripts and programs turned off"},
	NoProgress:                   {"BG_E_NO_PROGRESS", Fatal, "there was no progress for too long", "resume the job when the server works again"},
	InvalidRange:                 {"BG_E_INVALID_RANGE", Fatal, "the range lies outside the file", "give ranges that lie within the file"},
	OverlappingRanges:            {"BG_E_OVERLAPPING_RANGES", Fatal, "the ranges overlap", "give ranges that do not overlap"},
	BlockedByPolicy:              {"BG_E_BLOCKED_BY_POLICY", Waiting, "the bandwidth policy allows nothing now", "the job goes on when the policy allows it"},
	PeerCachingDisabled:          {"BG_E_PEERCACHING_DISABLED", Fatal, "peer caching is off", "turn it on with `ebb peers enable`"},
	TooManyJobsPerUser:           {"BG_E_TOO_MANY_JOBS_PER_USER", Fatal, "the user has too many jobs", "complete or cancel some"},
	TooManyJobsPerMachine:        {"BG_E_TOO_MANY_JOBS_PER_MACHINE", Fatal, "the machine has too many jobs", "complete or cancel some"},
	TooManyFilesInJob:            {"BG_E_TOO_MANY_FILES_IN_JOB", Fatal, "the job has too many files", "spread them over several jobs"},
	ValidationFailed:             {"BG_E_VALIDATION_FAILED", Fatal, "the content is not what was expected", "check the expected digest; resume fetches the file again"},
	MaxDownloadTimeout:           {"BG_E_MAXDOWNLOAD_TIMEOUT", Fatal, "the download took longer than allowed", "resume the job to go on"},
	BlockedByCost:                {"BG_E_BLOCKED_BY_COST_TRANSFER_POLICY", Waiting, "the network's cost does not allow the job to run", "`ebb set JOB transfer_policy=always` lets it run on any network"},
	ReadOnlyAfterAddFile:         {"BG_E_READ_ONLY_PROPERTY_AFTER_ADDFILE", Fatal, "the property is fixed once a file was added", "create a new job"},
	ReadOnlyAfterResume:          {"BG_E_READ_ONLY_PROPERTY_AFTER_RESUME", Fatal, "the property is fixed once the job was resumed", "create a new job"},
	StandbyMode:                  {"BG_E_STANDBY_MODE", Waiting, "the machine is about to sleep", "the job goes on by itself when the machine wakes up"},
	BlockedByBattery:             {"BG_E_BLOCKED_BY_BATTERY_POLICY", Waiting, "the machine runs on battery", "the job goes on by itself on mains power"},
	BlockedByBatterySaver:        {"BG_E_BLOCKED_BY_BATTERY_SAVER", Waiting, "the machine saves power", "the job goes on by itself when power saving ends"},
	DatabaseCorrupt:              {"BG_E_DATABASE_CORRUPT", Fatal, "the job store cannot be used", "`ebb daemon restore` brings back the last backup"},
	BlockedByBackground:          {"BG_E_BLOCKED_BY_BACKGROUND_ACCESS_POLICY", Waiting, "work in the background is not allowed now", "the job goes on by itself when it is"},
	BlockedByGameMode:            {"BG_E_BLOCKED_BY_GAME_MODE", Waiting, "the machine is kept free for a game", "the job goes on by itself when the game ends"},
	BlockedBySystem:              {"BG_E_BLOCKED_BY_SYSTEM_POLICY", Waiting, "a policy of the system does not allow the job to run", "the job goes on by itself when the policy allows it"},
	RemoteFileChanged:            {"BG_E_REMOTE_FILE_CHANGED", Transient, "the file keeps changing on the server", "it is fetched again later"},
	ServerCertAnswerRequired:     {"BG_E_SERVER_CERT_VALIDATION_INTERFACE_REQUIRED", Transient, "no program says whether the server's certificate is to be trusted", "start the owner's program, or suspend the job and set verify_certificates=false"},
	ReadOnlyWhenJobActive:        {"BG_E_READ_ONLY_WHEN_JOB_ACTIVE", Fatal, "the property cannot change while the job is active", "suspend the job first"},
	ProxyListTooLarge:            {"BG_E_PROXY_LIST_TOO_LARGE", Fatal, "the list of proxies is too long", "shorten it"},
	ProxyBypassListTooLarge:      {"BG_E_PROXY_BYPASS_LIST_TOO_LARGE", Fatal, "the list of hosts to reach without a proxy is too long", "shorten it, for instance with *.example.org for all hosts of a domain"},
	UsernameTooLarge:             {"BG_E_USERNAME_TOO_LARGE", Fatal, "the user name is too long", "300 characters are allowed"},
	PasswordTooLarge:             {"BG_E_PASSWORD_TOO_LARGE", Fatal, "the password is too long", "65,535 characters are allowed"},
	InvalidAuthTarget:            {"BG_E_INVALID_AUTH_TARGET", Fatal, "there is no such target of credentials", "give server or proxy"},
	InvalidAuthScheme:            {"BG_E_INVALID_AUTH_SCHEME", Fatal, "there is no such scheme for credentials", "it is basic, digest, ntlm, negotiate or bearer"},
	InvalidCredentials:           {"BG_E_INVALID_CREDENTIALS", Fatal, "the credentials are malformed", "set them again with `ebb credentials set`"},
	InvalidProxyInfo:             {"BG_E_INVALID_PROXY_INFO", Fatal, "the job's proxy settings cannot be used", "correct them with `ebb set JOB proxy=...`, then resume the job"},
	UnknownPropertyID:            {"BG_E_UNKNOWN_PROPERTY_ID", Fatal, "there is no such property", "`ebb set --help` tells the properties"},
	ReadOnlyProperty:             {"BG_E_READ_ONLY_PROPERTY", Fatal, "the property cannot be changed", "create a new job"},
	DownloadJobsOnly:             {"BG_E_PROPERTY_SUPPORTED_FOR_DOWNLOAD_JOBS_ONLY", Fatal, "only downloads have the property", "leave it out"},
	MaxDownloadSizeInvalid:       {"BG_E_MAX_DOWNLOAD_SIZE_INVALID_VALUE", Fatal, "the maximum download size is not valid", "give a number of bytes, or 0 for no limit"},
	MaxDownloadSizeReached:       {"BG_E_MAX_DOWNLOAD_SIZE_LIMIT_REACHED", Fatal, "the job's files are larger than its maximum_download_size", "see what the server sends, and create a job with a larger limit if that is right"},
	StoredCredentialsUnsupported: {"BG_E_USE_STORED_CREDENTIALS_NOT_SUPPORTED", Fatal, "stored credentials are for proxies only", "give the server's credentials with `ebb credentials set`"},
	NotWithCustomMethod:          {"BG_E_NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD", Fatal, "a job with an HTTP method of its own cannot do this", "create a job without http_method"},
	UnsupportedConfiguration:     {"BG_E_UNSUPPORTED_JOB_CONFIGURATION", Fatal, "the job's properties do not go together", "see in docs/properties.md which do not, and change one of them"},

	TooManyRangesInFile:      {"BG_E_TOO_MANY_RANGES_IN_FILE", Fatal, "the file has too many ranges", "join ranges that are close together, or add the file once more with the rest"},
	RandomAccessNotSupported: {"BG_E_RANDOM_ACCESS_NOT_SUPPORTED", Fatal, "parts of the file cannot be fetched out of order", "use a server that supports byte ranges and sends an ETag or a date with the file"},

	NotImplemented:       {"E_NOTIMPL", Fatal, "this is not supported", "`ebb --help` and /openapi.json tell what is supported"},
	LanguageNotFound:     {"ERROR_RESOURCE_LANG_NOT_FOUND", Fatal, "there are no texts in that language", "ask for English (en)"},
	Pending:              {"E_PENDING", Fatal, "the file is not transferred yet", "wait until the file is transferred, for instance with `ebb wait`"},
	Unexpected:           {"E_UNEXPECTED", Transient, "something unexpected happened", "see the service's log"},
	FileNotFound:         {"ERROR_FILE_NOT_FOUND", Fatal, "the file does not exist", "see what deleted it; cancel the job and create it again"},
	PathNotFound:         {"ERROR_PATH_NOT_FOUND", Fatal, "the destination's directory does not exist", "create or mount it, then resume the job"},
	AccessDenied:         {"E_ACCESSDENIED", Fatal, "access is denied", "check who owns the job, who may use the file, and what the policy allows"},
	WriteProtect:         {"ERROR_WRITE_PROTECT", Fatal, "the file system is read-only", "mount it writable, then resume the job"},
	InvalidArg:           {"E_INVALIDARG", Fatal, "an argument is not valid", "correct it; --help of the verb and /openapi.json tell what is allowed"},
	DiskFull:             {"ERROR_DISK_FULL", Transient, "the disk is full", "free some space; resume the job to retry at once"},
	FileTooLarge:         {"ERROR_FILE_TOO_LARGE", Fatal, "the file is larger than the file system or the file size limit allows", "choose another destination"},
	DiskIO:               {"ERROR_IO_DEVICE", Fatal, "the disk reported an error", "check the disk, then resume the job"},
	DiskQuotaExceeded:    {"ERROR_DISK_QUOTA_EXCEEDED", Transient, "the disk quota is used up", "free some space; resume the job to retry at once"},
	TooManyOpenFiles:     {"ERROR_TOO_MANY_OPEN_FILES", Transient, "the service has too many files open", "raise the service's limit of open files"},
	NotLoggedOn:          {"ERROR_NOT_LOGGED_ON", Fatal, "the job's owner is not logged on", "log on, or have an administrator call `loginctl enable-linger USER`"},
	TimedOut:             {"ERROR_TIMEOUT", Transient, "it took too long", "it is tried again later"},
	WinHTTPTimeout:       {"ERROR_WINHTTP_TIMEOUT", Transient, "the server did not answer in time", "the server, or the way to it, may be overloaded"},
	NameNotResolved:      {"ERROR_WINHTTP_NAME_NOT_RESOLVED", Transient, "the server's name could not be resolved", "check the spelling of the URL's host"},
	CannotConnect:        {"ERROR_WINHTTP_CANNOT_CONNECT", Transient, "the server could not be reached", "check the URL's host and port, and that the server runs"},
	ConnectionError:      {"ERROR_WINHTTP_CONNECTION_ERROR", Transient, "the connection broke", "the server, or something on the way to it, may be failing"},
	CertDateInvalid:      {"ERROR_WINHTTP_SECURE_CERT_DATE_INVALID", Fatal, "the server's certificate has expired or is not valid yet", "check this machine's clock and the server's certificate"},
	CertNameInvalid:      {"ERROR_WINHTTP_SECURE_CERT_CN_INVALID", Fatal, "the server's certificate is for another name", "check the URL's host"},
	CertUntrusted:        {"ERROR_WINHTTP_SECURE_INVALID_CA", Fatal, "the server's certificate is not signed by an authority this machine trusts", "install the authority's certificate, or set SSL_CERT_FILE for the service"},
	ClientCertNeeded:     {"ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED", Fatal, "the server wants a certificate of the client", "give the job one with `ebb certificate set JOB`, then resume it"},
	CertNotFound:         {"CRYPT_E_NOT_FOUND", Fatal, "there is no such certificate", "give a file that has the certificate and its key, as PEM or PKCS#12"},
	BadStubData:          {"RPC_X_BAD_STUB_DATA", Fatal, "the job has no client certificate", "give it one with `ebb certificate set JOB`"},
	InvalidPassword:      {"ERROR_INVALID_PASSWORD", Fatal, "the password is not the file's", "give the password with which the file was made"},
	CertRevocationFailed: {"ERROR_WINHTTP_SECURE_CERT_REV_FAILED", Fatal, "whether the server's certificate was revoked cannot be known", "see that the lists of revoked certificates can be reached"},
	CertRevoked:          {"ERROR_WINHTTP_SECURE_CERT_REVOKED", Fatal, "the server's certificate was revoked", "ask who runs the server"},
	CertWrongUsage:       {"ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE", Fatal, "the server's certificate is for another use", "ask who runs the server"},
	SecureFailure:        {"ERROR_WINHTTP_SECURE_FAILURE", Fatal, "no secure connection could be made", "check the server's TLS settings"},
	InvalidServerAnswer:  {"ERROR_WINHTTP_INVALID_SERVER_RESPONSE", Transient, "the server's answer could not be understood", "check the URL with `curl -v`"},
	RedirectFailed:       {"ERROR_WINHTTP_REDIRECT_FAILED", Fatal, "the server redirects in a circle or too often", "check the URL"},
}

// httpHints are hints for single HTTP statuses.
var httpHints = map[int]string{
	301: "the redirect was refused; use the URL it leads to",
	302: "the redirect was refused; use the URL it leads to",
	303: "the redirect was refused; use the URL it leads to",
	307: "the redirect was refused; use the URL it leads to",
	308: "the redirect was refused; use the URL it leads to",
	401: "give credentials with `ebb credentials set JOB server SCHEME`, then resume it",
	403: "check that you may use this URL",
	404: "check the URL",
	407: "give credentials with `ebb credentials set JOB proxy SCHEME`, then resume it",
	410: "the file is gone for good; check the URL",
}

// uploadHints are those that differ for a file that is sent.
var uploadHints = map[Code]string{
	HTTPStatus(403): "the server refused: the file may exist there and not be overwritable, or you may not write there; choose another name or ask whoever runs the server",
	HTTPStatus(404): "the directory may not exist on the server, or it takes no uploads there; check the URL or ask whoever runs the server",
}

// UploadHint is Hint for an error of an upload.
func (c Code) UploadHint() string {
	if h, ok := uploadHints[c]; ok {
		return h
	}
	return c.Hint()
}

// Info gives the name, the class, a sentence and a hint for any code.
func (c Code) info() codeInfo {
	if i, ok := codes[c]; ok {
		return i
	}
	if c >= httpBase && c < httpBase+1000 {
		status := int(c - httpBase)
		i := codeInfo{name: "BG_E_HTTP_ERROR_" + strconv.Itoa(status), class: httpClass(status)}
		i.message = fmt.Sprintf("the server answered %d", status)
		if t := http.StatusText(status); t != "" {
			i.message += " " + t
		}
		i.hint = httpHints[status]
		if i.hint == "" && i.class == Transient {
			i.hint = "the server cannot serve this now"
		}
		if i.hint == "" {
			i.hint = "see what the server says with `curl -v`"
		}
		return i
	}
	return codeInfo{name: fmt.Sprintf("0x%08X", uint32(c)), class: Transient, message: "an unknown error", hint: "see the service's log"}
}

// httpClass applies the rule of client.md 5.2, with 423, 425 and 429 transient.
func httpClass(status int) Class {
	switch {
	case status >= 300 && status <= 305, status == 307, status == 308:
		return Fatal
	case status == 408, status == 409, status == 423, status == 425, status == 429:
		return Transient
	case status >= 400 && status < 500:
		return Fatal
	case status == 501, status == 505:
		return Fatal
	}
	return Transient
}

// Name returns the code's BITS name, such as "BG_E_INVALID_STATE".
func (c Code) Name() string { return c.info().name }

// Class returns what becomes of a transfer that ends with the code.
func (c Code) Class() Class { return c.info().class }

// Message returns a sentence for people, without a full stop.
func (c Code) Message() string { return c.info().message }

// Hint returns what a person may do about it. Every error has one.
func (c Code) Hint() string { return c.info().hint }

// Failed reports whether the code is an error.
func (c Code) Failed() bool { return c&0x80000000 != 0 }

// HTTPStatus returns the HTTP status that the code stands for, or 0.
func (c Code) HTTPStatus() int {
	if c >= httpBase && c < httpBase+1000 {
		return int(c - httpBase)
	}
	return 0
}

// Hex returns the value as BITS tools print it: 0x80200002.
func (c Code) Hex() string { return fmt.Sprintf("0x%08X", uint32(c)) }

func (c Code) String() string { return c.Name() + " " + c.Hex() }

// ParseCode reads a code's name or its hexadecimal value, as Name and Hex write them.
func ParseCode(s string) (Code, bool) {
	for c, i := range codes {
		if strings.EqualFold(i.name, s) {
			return c, true
		}
	}
	if n, ok := strings.CutPrefix(strings.ToUpper(s), "BG_E_HTTP_ERROR_"); ok {
		v, err := strconv.ParseUint(n, 10, 32)
		return HTTPStatus(int(v)), err == nil && v < 1000
	}
	n, ok := strings.CutPrefix(strings.ToLower(s), "0x")
	v, err := strconv.ParseUint(n, 16, 32)
	return Code(v), ok && err == nil
}

// Error is an error with a code: what a job ends in and what a command is refused with.
type Error struct {
	Code    Code
	Context Context
	File    string // the URL or path it is about; may be empty, may hold a password (see RedactURL)
	Message string // a sentence for people; empty means the code's own
	Cause   error  // for the log and for errors.Is; may be nil
}

// Errorf makes an Error with a message of its own.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Sentence returns the message for people, without a full stop and without the passwords that
// URLs in it may hold.
func (e *Error) Sentence() string {
	if e.Message != "" {
		return redactText(e.Message, e.File)
	}
	return e.Code.Message()
}

func (e *Error) Error() string {
	s := e.Sentence()
	if file := RedactURL(e.File); file != "" && !strings.Contains(s, file) {
		s = file + ": " + s
	}
	return s + " (" + e.Code.String() + ")"
}

func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is an Error with the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Info returns the form of the error that programs read. It holds no password.
func (e *Error) Info() *ErrorInfo {
	return &ErrorInfo{Code: e.Code.Name(), HResult: e.Code.Hex(), Context: e.Context, File: RedactURL(e.File), Message: e.Sentence(), Hint: e.Code.Hint(),
		ContextMessage: e.Context.Message(), Protocol: protocolOf(e.Context, e.File)}
}

// ErrorInfo is an error as the API and the CLI show it.
type ErrorInfo struct {
	Code           string  `json:"code" doc:"BITS name" example:"BG_E_HTTP_ERROR_404"`
	HResult        string  `json:"hresult" doc:"BITS value" example:"0x80190194"`
	Context        Context `json:"context"`
	File           string  `json:"file" doc:"URL or path it is about; may be empty"`
	Message        string  `json:"message" doc:"A sentence for people"`
	Hint           string  `json:"hint" doc:"What to do about it"`
	ContextMessage string  `json:"context_message,omitempty" doc:"A sentence that says where the error occurred"`
	Protocol       string  `json:"protocol,omitempty" doc:"http or file, if the error is about a protocol" enum:"http,file"`
}

// Err returns the error that i describes.
func (i *ErrorInfo) Err() *Error {
	c, ok := ParseCode(i.HResult)
	if !ok {
		c = Unexpected
	}
	return &Error{Code: c, Context: i.Context, File: i.File, Message: i.Message}
}
