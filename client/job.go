package client

import (
	"cmp"
	"context"
	"net/url"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// The getters ask the service each time and work in every state, also after Complete and Cancel.
// Who wants several values of the same moment takes Status. The setters change one property each;
// Set changes several at once. docs/properties.md tells ranges, defaults and when a property can
// be set; an error has the code that BITS has for the case.

// get asks for one value of the job.
func get[T any](ctx context.Context, j *Job, value func(*bits.Job) T) (T, error) {
	info, err := j.Status(ctx)
	if err != nil {
		var none T
		return none, err
	}
	return value(info), nil
}

// seconds rounds a time up to whole seconds, which is what the service keeps.
func seconds(d time.Duration) *int64 {
	n := int64(d / time.Second)
	if d%time.Second > 0 {
		n++
	}
	return &n
}

// Type returns what the job moves and in which direction.
func (j *Job) Type(ctx context.Context) (bits.Type, error) {
	return get(ctx, j, func(b *bits.Job) bits.Type { return b.Type })
}

// State returns the state.
func (j *Job) State(ctx context.Context) (bits.State, error) {
	return get(ctx, j, func(b *bits.Job) bits.State { return b.State })
}

// Owner returns the name of the owner, or the uid where it has no name.
func (j *Job) Owner(ctx context.Context) (string, error) {
	return get(ctx, j, func(b *bits.Job) string { return b.Owner })
}

// Progress returns how many bytes and files moved; Size.Uint64 gives an unknown size as BITS has it.
func (j *Job) Progress(ctx context.Context) (bits.Progress, error) {
	return get(ctx, j, func(b *bits.Job) bits.Progress { return b.Progress })
}

// Times returns when the job was made, last changed, and transferred.
func (j *Job) Times(ctx context.Context) (bits.Times, error) {
	return get(ctx, j, func(b *bits.Job) bits.Times { return b.Times })
}

// ErrorCount returns how often a transfer was interrupted by an error.
func (j *Job) ErrorCount(ctx context.Context) (int, error) {
	return get(ctx, j, func(b *bits.Job) int { return b.ErrorCount })
}

// Name returns the display name.
func (j *Job) Name(ctx context.Context) (string, error) {
	return get(ctx, j, func(b *bits.Job) string { return b.Name })
}

// SetName changes the display name.
func (j *Job) SetName(ctx context.Context, v string) error {
	return j.Set(ctx, bits.Settings{Name: &v})
}

// Description returns the description.
func (j *Job) Description(ctx context.Context) (string, error) {
	return get(ctx, j, func(b *bits.Job) string { return b.Properties.Description })
}

// SetDescription changes the description.
func (j *Job) SetDescription(ctx context.Context, v string) error {
	return j.Set(ctx, bits.Settings{Description: &v})
}

// Priority returns the priority.
func (j *Job) Priority(ctx context.Context) (bits.Priority, error) {
	return get(ctx, j, func(b *bits.Job) bits.Priority { return b.Priority })
}

// SetPriority changes the priority, which takes effect at once.
func (j *Job) SetPriority(ctx context.Context, v bits.Priority) error {
	return j.Set(ctx, bits.Settings{Priority: &v})
}

// MinimumRetryDelay returns the least time between a transient error and the next attempt.
func (j *Job) MinimumRetryDelay(ctx context.Context) (time.Duration, error) {
	return get(ctx, j, func(b *bits.Job) time.Duration { return time.Duration(b.Properties.MinimumRetryDelay) * time.Second })
}

// SetMinimumRetryDelay changes the least time between a transient error and the next attempt; less than 5 s becomes 5 s.
func (j *Job) SetMinimumRetryDelay(ctx context.Context, v time.Duration) error {
	return j.Set(ctx, bits.Settings{MinimumRetryDelay: seconds(v)})
}

// NoProgressTimeout returns the time without progress after which a transient error becomes ERROR.
func (j *Job) NoProgressTimeout(ctx context.Context) (time.Duration, error) {
	return get(ctx, j, func(b *bits.Job) time.Duration { return time.Duration(b.Properties.NoProgressTimeout) * time.Second })
}

// SetNoProgressTimeout changes the time without progress after which a transient error becomes ERROR; 0 means at once.
func (j *Job) SetNoProgressTimeout(ctx context.Context, v time.Duration) error {
	return j.Set(ctx, bits.Settings{NoProgressTimeout: seconds(v)})
}

// MaximumDownloadTime returns the time in CONNECTING and TRANSFERRING after which the job becomes ERROR, 0 for never.
func (j *Job) MaximumDownloadTime(ctx context.Context) (time.Duration, error) {
	return get(ctx, j, func(b *bits.Job) time.Duration { return time.Duration(b.Properties.MaximumDownloadTime) * time.Second })
}

// SetMaximumDownloadTime changes the time in CONNECTING and TRANSFERRING after which the job becomes
// ERROR; 0 means never, a negative time what the service's policy says.
func (j *Job) SetMaximumDownloadTime(ctx context.Context, v time.Duration) error {
	n := seconds(v)
	if v < 0 {
		n = new(bits.DefaultMaximumDownloadTime)
	}
	return j.Set(ctx, bits.Settings{MaximumDownloadTime: n})
}

// Connections returns how many files of the job move at once.
func (j *Job) Connections(ctx context.Context) (int, error) {
	return get(ctx, j, func(b *bits.Job) int { return b.Properties.Connections })
}

// SetConnections changes how many files of the job move at once.
func (j *Job) SetConnections(ctx context.Context, v int) error {
	return j.Set(ctx, bits.Settings{Connections: &v})
}

// AutoComplete returns whether the service completes the job by itself.
func (j *Job) AutoComplete(ctx context.Context) (bool, error) {
	return get(ctx, j, func(b *bits.Job) bool { return b.Properties.AutoComplete })
}

// SetAutoComplete says whether the service completes the job by itself.
func (j *Job) SetAutoComplete(ctx context.Context, v bool) error {
	return j.Set(ctx, bits.Settings{AutoComplete: &v})
}

// TransferPolicy returns on which networks the job runs (BITS's COST_FLAGS).
func (j *Job) TransferPolicy(ctx context.Context) (bits.Cost, error) {
	return get(ctx, j, func(b *bits.Job) bits.Cost { return b.Properties.TransferPolicy })
}

// SetTransferPolicy changes on which networks the job runs (BITS's COST_FLAGS).
func (j *Job) SetTransferPolicy(ctx context.Context, v bits.Cost) error {
	return j.Set(ctx, bits.Settings{TransferPolicy: &v})
}

// Protocol returns how an upload is sent.
func (j *Job) Protocol(ctx context.Context) (bits.Protocol, error) {
	return get(ctx, j, func(b *bits.Job) bits.Protocol { return b.Properties.Protocol })
}

// SetProtocol changes how an upload is sent; not once bytes were sent.
func (j *Job) SetProtocol(ctx context.Context, v bits.Protocol) error {
	return j.Set(ctx, bits.Settings{Protocol: &v})
}

// ReplyFileName returns the path of the file that the answer to an upload goes to. It is empty for jobs
// that get none, and until the job has a file.
func (j *Job) ReplyFileName(ctx context.Context) (string, error) {
	return get(ctx, j, func(b *bits.Job) string {
		if b.Reply == nil {
			return ""
		}
		return b.Reply.File
	})
}

// SetReplyFileName changes the path of the file that the answer to an upload goes to, until its download begins.
func (j *Job) SetReplyFileName(ctx context.Context, path string) error {
	return j.Set(ctx, bits.Settings{ReplyFile: &path})
}

// ReplyProgress returns how far the download of an upload's answer is. A job that gets none is an
// error with the code bits.NotImplemented.
func (j *Job) ReplyProgress(ctx context.Context) (bits.Reply, error) {
	r, err := get(ctx, j, func(b *bits.Job) *bits.Reply { return b.Reply })
	if err != nil {
		return bits.Reply{}, err
	}
	if r == nil {
		return bits.Reply{}, bits.Errorf(bits.NotImplemented, "only jobs of type %s have a reply", bits.UploadReply)
	}
	return *r, nil
}

// CustomHeaderNames returns the names of the request headers that the owner set; the values are never shown.
func (j *Job) CustomHeaderNames(ctx context.Context) ([]string, error) {
	return get(ctx, j, func(b *bits.Job) []string { return b.Properties.HeaderNames })
}

// SetCustomHeaders changes the request headers, each "Name: value", of every request of the job; none
// removes them. Only the owner may.
func (j *Job) SetCustomHeaders(ctx context.Context, headers ...string) error {
	if headers == nil {
		headers = []string{}
	}
	return j.Set(ctx, bits.Settings{Headers: &headers})
}

// MakeCustomHeadersWriteOnly lets nobody read the request headers again. There is no way back.
func (j *Job) MakeCustomHeadersWriteOnly(ctx context.Context) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{HeadersWriteOnly: new(true)}})
}

// NotifyFlags returns which events the owner is told of.
func (j *Job) NotifyFlags(ctx context.Context) (bits.NotifyFlags, error) {
	return get(ctx, j, func(b *bits.Job) bits.NotifyFlags { return b.Properties.NotifyFlags })
}

// SetNotifyFlags changes which events the owner is told of.
func (j *Job) SetNotifyFlags(ctx context.Context, v bits.NotifyFlags) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{NotifyFlags: &v}})
}

// NotifyURL returns where the service posts at the job's end, empty for nowhere.
func (j *Job) NotifyURL(ctx context.Context) (string, error) {
	return get(ctx, j, func(b *bits.Job) string { return b.Properties.NotifyURL })
}

// SetNotifyURL changes where the service posts at the job's end, empty for nowhere.
func (j *Job) SetNotifyURL(ctx context.Context, v string) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{NotifyURL: &v}})
}

// NotifyDesktop returns whether the owner's desktop tells of the job's end.
func (j *Job) NotifyDesktop(ctx context.Context) (bool, error) {
	return get(ctx, j, func(b *bits.Job) bool { return b.Properties.NotifyDesktop })
}

// SetNotifyDesktop changes whether the owner's desktop tells of the job's end.
func (j *Job) SetNotifyDesktop(ctx context.Context, v bool) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{NotifyDesktop: &v}})
}

// SecurityFlags returns which certificates and redirects are taken.
func (j *Job) SecurityFlags(ctx context.Context) (bits.SecurityFlags, error) {
	return get(ctx, j, func(b *bits.Job) bits.SecurityFlags { return b.Properties.SecurityFlags })
}

// SetSecurityFlags changes which certificates and redirects are taken.
func (j *Job) SetSecurityFlags(ctx context.Context, v bits.SecurityFlags) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{SecurityFlags: &v}})
}

// TLSMinVersion returns the oldest version of TLS that is spoken, empty for the service's own choice.
func (j *Job) TLSMinVersion(ctx context.Context) (string, error) {
	return get(ctx, j, func(b *bits.Job) string { return b.Properties.TLSMinVersion })
}

// SetTLSMinVersion changes the oldest version of TLS that is spoken, empty for the service's own choice.
func (j *Job) SetTLSMinVersion(ctx context.Context, v string) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{TLSMinVersion: &v}})
}

// HTTPMethod returns the method of the job's requests: GET of a download, BITS_POST of an upload, or what was set.
func (j *Job) HTTPMethod(ctx context.Context) (string, error) {
	return get(ctx, j, func(b *bits.Job) string { return cmp.Or(b.Properties.HTTPMethod, b.Type.HTTPMethod()) })
}

// SetHTTPMethod changes the method of the job's requests, empty for the usual one; not after the first Resume.
func (j *Job) SetHTTPMethod(ctx context.Context, v string) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{HTTPMethod: &v}})
}

// DynamicContent returns whether the server makes the content as it is asked.
func (j *Job) DynamicContent(ctx context.Context) (bool, error) {
	return get(ctx, j, func(b *bits.Job) bool { return b.Properties.DynamicContent })
}

// SetDynamicContent changes whether the server makes the content as it is asked; not after the first Resume.
func (j *Job) SetDynamicContent(ctx context.Context, v bool) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{DynamicContent: &v}})
}

// HighPerformance returns whether files are written straight into their places.
func (j *Job) HighPerformance(ctx context.Context) (bool, error) {
	return get(ctx, j, func(b *bits.Job) bool { return b.Properties.HighPerformance })
}

// SetHighPerformance changes whether files are written straight into their places; not after the first file.
func (j *Job) SetHighPerformance(ctx context.Context, v bool) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{HighPerformance: &v}})
}

// OnDemand returns whether only ranges are fetched that are asked for.
func (j *Job) OnDemand(ctx context.Context) (bool, error) {
	return get(ctx, j, func(b *bits.Job) bool { return b.Properties.OnDemand })
}

// SetOnDemand changes whether only ranges are fetched that are asked for; not after the first Resume.
func (j *Job) SetOnDemand(ctx context.Context, v bool) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{OnDemand: &v}})
}

// MaximumDownloadSize returns how many bytes the files may have together, 0 without a limit.
func (j *Job) MaximumDownloadSize(ctx context.Context) (bits.SizeLimit, error) {
	return get(ctx, j, func(b *bits.Job) bits.SizeLimit { return b.Properties.MaximumDownloadSize })
}

// SetMaximumDownloadSize changes how many bytes the files may have together, 0 without a limit; not after the first Resume.
func (j *Job) SetMaximumDownloadSize(ctx context.Context, v bits.SizeLimit) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{MaximumDownloadSize: &v}})
}

// FileACLFlags returns which parts of the source files' access rights are copied.
func (j *Job) FileACLFlags(ctx context.Context) (bits.ACLFlags, error) {
	return get(ctx, j, func(b *bits.Job) bits.ACLFlags { return b.Properties.ACLFlags })
}

// SetFileACLFlags changes which parts of the source files' access rights are copied.
func (j *Job) SetFileACLFlags(ctx context.Context, v bits.ACLFlags) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{ACLFlags: &v}})
}

// PeerCachingFlags returns what is shared with peers.
func (j *Job) PeerCachingFlags(ctx context.Context) (bits.PeerFlags, error) {
	return get(ctx, j, func(b *bits.Job) bits.PeerFlags { return b.Properties.PeerCachingFlags })
}

// SetPeerCachingFlags changes what is shared with peers.
func (j *Job) SetPeerCachingFlags(ctx context.Context, v bits.PeerFlags) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{PeerCachingFlags: &v}})
}

// UseStoredCredentials returns who is answered with the owner's own credentials.
func (j *Job) UseStoredCredentials(ctx context.Context) (bits.AuthTarget, error) {
	return get(ctx, j, func(b *bits.Job) bits.AuthTarget { return b.Properties.UseStoredCredentials })
}

// SetUseStoredCredentials changes who is answered with the owner's own credentials.
func (j *Job) SetUseStoredCredentials(ctx context.Context, v bits.AuthTarget) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{UseStoredCredentials: &v}})
}

// RunWhen returns whether the job runs while its owner is not logged on.
func (j *Job) RunWhen(ctx context.Context) (bits.RunWhen, error) {
	return get(ctx, j, func(b *bits.Job) bits.RunWhen { return b.Properties.RunWhen })
}

// SetRunWhen changes whether the job runs while its owner is not logged on.
func (j *Job) SetRunWhen(ctx context.Context, v bits.RunWhen) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{RunWhen: &v}})
}

// OnlyIfNewer returns whether files that are here and as new as the server's are left out.
func (j *Job) OnlyIfNewer(ctx context.Context) (bool, error) {
	return get(ctx, j, func(b *bits.Job) bool { return b.Properties.OnlyIfNewer })
}

// SetOnlyIfNewer changes whether files that are here and as new as the server's are left out.
func (j *Job) SetOnlyIfNewer(ctx context.Context, v bool) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{OnlyIfNewer: &v}})
}

// NotifyCommand returns the program, by its absolute path, and its arguments that run at the job's end.
func (j *Job) NotifyCommand(ctx context.Context) ([]string, error) {
	return get(ctx, j, func(b *bits.Job) []string { return b.Properties.NotifyCommand })
}

// SetNotifyCommand changes the program, by its absolute path, and its arguments that run at the job's end; none removes them.
func (j *Job) SetNotifyCommand(ctx context.Context, words ...string) error {
	if words == nil {
		words = []string{}
	}
	return j.Set(ctx, bits.Settings{Options: bits.Options{NotifyCommand: &words}})
}

// TLSPins returns the public keys one of which must be in the server's chain of certificates, each as sha256/BASE64.
func (j *Job) TLSPins(ctx context.Context) ([]string, error) {
	return get(ctx, j, func(b *bits.Job) []string { return b.Properties.TLSPins })
}

// SetTLSPins changes the public keys one of which must be in the server's chain of certificates, each as sha256/BASE64; none removes them.
func (j *Job) SetTLSPins(ctx context.Context, words ...string) error {
	if words == nil {
		words = []string{}
	}
	return j.Set(ctx, bits.Settings{Options: bits.Options{TLSPins: &words}})
}

// VerifyCertificates reports whether a program of the owner's is asked about servers' certificates.
func (j *Job) VerifyCertificates(ctx context.Context) (bool, error) {
	return get(ctx, j, func(b *bits.Job) bool { return b.Properties.VerifyCertificates })
}

// SetVerifyCertificates has a program of the owner's, see Manager.VerifyCertificates, asked about
// servers' certificates, or not; what was trusted so far is forgotten. The job must not be active.
func (j *Job) SetVerifyCertificates(ctx context.Context, on bool) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{VerifyCertificates: &on}})
}

// ProxySettings returns which proxies are used.
func (j *Job) ProxySettings(ctx context.Context) (bits.ProxySettings, error) {
	return get(ctx, j, func(b *bits.Job) bits.ProxySettings { return b.Properties.Proxy })
}

// SetProxySettings changes which proxies are used.
func (j *Job) SetProxySettings(ctx context.Context, v bits.ProxySettings) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{Proxy: &v}})
}

// MinimumNotificationInterval returns the least time between two events about modifications or ranges.
func (j *Job) MinimumNotificationInterval(ctx context.Context) (time.Duration, error) {
	return get(ctx, j, func(b *bits.Job) time.Duration {
		return time.Duration(b.Properties.MinimumNotificationInterval) * time.Millisecond
	})
}

// SetMinimumNotificationInterval changes the least time between two events about modifications or ranges.
func (j *Job) SetMinimumNotificationInterval(ctx context.Context, v time.Duration) error {
	return j.Set(ctx, bits.Settings{Options: bits.Options{MinimumNotificationInterval: new(v.Milliseconds())}})
}

// Files returns the files of the job in the order they were added.
func (j *Job) Files(ctx context.Context) ([]bits.File, error) {
	info, err := j.Info(ctx)
	if err != nil {
		return nil, err
	}
	return info.Files, nil
}

// Error returns why the job is in ERROR or TRANSIENT_ERROR, or was until it was queued again. In any
// other state there is an error with the code bits.ErrorInfoUnavailable.
func (j *Job) Error(ctx context.Context) (*bits.ErrorInfo, error) {
	var info bits.ErrorInfo
	if err := j.m.call(ctx, "GET", j.path("/error"), nil, &info); err != nil {
		return nil, err
	}
	return &info, nil
}

// ErrorText puts a code and the place of an error into words of a language: English, which the
// empty language is too; any other is an error with the code bits.LanguageNotFound.
func (m *Manager) ErrorText(ctx context.Context, code bits.Code, where bits.Context, language string) (*bits.ErrorText, error) {
	var text bits.ErrorText
	q := url.Values{"context": {where.String()}, "language": {language}}
	if err := m.call(ctx, "GET", "/v1/errors/"+code.Hex()+"?"+q.Encode(), nil, &text); err != nil {
		return nil, err
	}
	return &text, nil
}
