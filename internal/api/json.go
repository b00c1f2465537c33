package api

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// appendJob appends what json.Marshal makes of a job, several times as fast: a listing of
// 100,000 jobs consists of it. A test keeps the two the same.
func appendJob(b []byte, j *bits.Job) []byte {
	b = append(b, `{"id":"`...)
	b, _ = j.ID.AppendText(b)
	b = append(b, `","name":`...)
	b = appendString(b, j.Name)
	b = append(b, `,"type":"`...)
	b = append(b, j.Type.String()...)
	b = append(b, `","priority":"`...)
	b = append(b, j.Priority.String()...)
	b = append(b, `","state":"`...)
	b = append(b, j.State.String()...)
	b = append(b, `","owner":`...)
	b = appendString(b, j.Owner)
	p := &j.Progress
	b = append(b, `,"progress":{"bytes_total":`...)
	b = appendSize(b, p.BytesTotal)
	b = append(b, `,"bytes_transferred":`...)
	b = strconv.AppendInt(b, p.BytesTransferred, 10)
	b = append(b, `,"files_total":`...)
	b = strconv.AppendInt(b, int64(p.FilesTotal), 10)
	b = append(b, `,"files_transferred":`...)
	b = strconv.AppendInt(b, int64(p.FilesTransferred), 10)
	b = append(b, '}')
	if j.Pace != nil {
		b = append(b, `,"pace":`...)
		b = appendAny(b, j.Pace)
	}
	if j.Files != nil {
		b = append(b, `,"files":[`...)
		for i := range j.Files {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendFile(b, &j.Files[i])
		}
		b = append(b, ']')
	}
	if j.Reply != nil {
		b = append(b, `,"reply":`...)
		b = appendAny(b, j.Reply)
	}
	b = append(b, `,"error":`...)
	b = appendAny(b, j.Error)
	b = append(b, `,"error_count":`...)
	b = strconv.AppendInt(b, int64(j.ErrorCount), 10)
	if j.Note != "" {
		b = append(b, `,"note":`...)
		b = appendString(b, j.Note)
	}
	if j.Failure != nil {
		b = append(b, `,"notification_failure":`...)
		b = appendAny(b, j.Failure)
	}
	if j.Hook != nil {
		b = append(b, `,"hook_failure":`...)
		b = appendAny(b, j.Hook)
	}
	b = append(b, `,"times":{"created":`...)
	b = appendTime(b, j.Times.Created)
	b = append(b, `,"modified":`...)
	b = appendTime(b, j.Times.Modified)
	b = append(b, `,"transferred":`...)
	if j.Times.Transferred == nil {
		b = append(b, "null"...)
	} else {
		b = appendTime(b, *j.Times.Transferred)
	}
	if j.Times.RetryAt != nil {
		b = append(b, `,"retry_at":`...)
		b = appendTime(b, *j.Times.RetryAt)
	}
	q := &j.Properties
	b = append(b, `},"properties":{"description":`...)
	b = appendString(b, q.Description)
	b = append(b, `,"minimum_retry_delay":`...)
	b = strconv.AppendInt(b, q.MinimumRetryDelay, 10)
	b = append(b, `,"no_progress_timeout":`...)
	b = strconv.AppendInt(b, q.NoProgressTimeout, 10)
	b = append(b, `,"connections":`...)
	b = strconv.AppendInt(b, int64(q.Connections), 10)
	b = append(b, `,"auto_complete":`...)
	b = strconv.AppendBool(b, q.AutoComplete)
	b = append(b, `,"transfer_policy":"`...)
	b = append(b, q.TransferPolicy.String()...)
	b = append(b, `","maximum_download_time":`...)
	b = strconv.AppendInt(b, q.MaximumDownloadTime, 10)
	if q.Protocol != "" {
		b = append(b, `,"protocol":`...)
		b = appendString(b, string(q.Protocol))
	}
	if len(q.HeaderNames) > 0 {
		b = append(b, `,"header_names":`...)
		b = appendAny(b, q.HeaderNames)
	}
	b = append(b, `,"notify_flags":"`...)
	b = append(b, q.NotifyFlags.String()...)
	b = append(b, `","minimum_notification_interval":`...)
	b = strconv.AppendInt(b, q.MinimumNotificationInterval, 10)
	if len(q.NotifyCommand) > 0 {
		b = append(b, `,"notify_command":`...)
		b = appendAny(b, q.NotifyCommand)
	}
	if q.NotifyURL != "" {
		b = append(b, `,"notify_url":`...)
		b = appendString(b, q.NotifyURL)
	}
	if q.NotifyDesktop {
		b = append(b, `,"notify_desktop":true`...)
	}
	if q.Proxy.Usage == bits.ProxyPreconfig && len(q.Proxy.List)+len(q.Proxy.Bypass) == 0 {
		b = append(b, `,"proxy":{"usage":"PRECONFIG"}`...)
	} else {
		b = append(b, `,"proxy":`...)
		b = appendAny(b, q.Proxy)
	}
	b = append(b, `,"security_flags":"`...)
	b = append(b, q.SecurityFlags.String()...)
	b = append(b, '"')
	if q.TLSMinVersion != "" {
		b = append(b, `,"tls_min_version":`...)
		b = appendString(b, q.TLSMinVersion)
	}
	if len(q.TLSPins) > 0 {
		b = append(b, `,"tls_pins":`...)
		b = appendAny(b, q.TLSPins)
	}
	if q.ClientCertificate != nil {
		b = append(b, `,"client_certificate":`...)
		b = appendAny(b, q.ClientCertificate)
	}
	if q.VerifyCertificates {
		b = append(b, `,"verify_certificates":true`...)
	}
	if q.HTTPMethod != "" {
		b = append(b, `,"http_method":`...)
		b = appendString(b, q.HTTPMethod)
	}
	if q.DynamicContent {
		b = append(b, `,"dynamic_content":true`...)
	}
	if q.HighPerformance {
		b = append(b, `,"high_performance":true`...)
	}
	if q.OnDemand {
		b = append(b, `,"on_demand":true`...)
	}
	if q.MaximumDownloadSize != 0 {
		b = append(b, `,"maximum_download_size":`...)
		b = strconv.AppendInt(b, int64(q.MaximumDownloadSize), 10)
	}
	if q.ACLFlags != 0 {
		b = append(b, `,"acl_flags":"`...)
		b = append(b, q.ACLFlags.String()...)
		b = append(b, '"')
	}
	if q.PeerCachingFlags != 0 {
		b = append(b, `,"peer_caching_flags":"`...)
		b = append(b, q.PeerCachingFlags.String()...)
		b = append(b, '"')
	}
	if q.UseStoredCredentials != bits.TargetNone {
		b = append(b, `,"use_stored_credentials":"`...)
		b = append(b, q.UseStoredCredentials.String()...)
		b = append(b, '"')
	}
	if len(q.Credentials) > 0 {
		b = append(b, `,"credentials":`...)
		b = appendAny(b, q.Credentials)
	}
	if q.HeadersWriteOnly {
		b = append(b, `,"headers_write_only":true`...)
	}
	b = append(b, `,"run_when":`...)
	b = appendString(b, string(q.RunWhen))
	if q.OnlyIfNewer {
		b = append(b, `,"only_if_newer":true`...)
	}
	return append(b, "}}"...)
}

func appendFile(b []byte, f *bits.File) []byte {
	b = append(b, `{"index":`...)
	b = strconv.AppendInt(b, int64(f.Index), 10)
	b = append(b, `,"remote":`...)
	b = appendString(b, f.Remote)
	b = append(b, `,"local":`...)
	b = appendString(b, f.Local)
	if f.Temporary != "" {
		b = append(b, `,"temporary":`...)
		b = appendString(b, f.Temporary)
	}
	b = append(b, `,"bytes_total":`...)
	b = appendSize(b, f.BytesTotal)
	b = append(b, `,"bytes_transferred":`...)
	b = strconv.AppendInt(b, f.BytesTransferred, 10)
	if f.BytesFromPeers != 0 {
		b = append(b, `,"bytes_from_peers":`...)
		b = strconv.AppendInt(b, f.BytesFromPeers, 10)
	}
	if f.BytesFromCache != 0 {
		b = append(b, `,"bytes_from_cache":`...)
		b = strconv.AppendInt(b, f.BytesFromCache, 10)
	}
	b = append(b, `,"completed":`...)
	b = strconv.AppendBool(b, f.Completed)
	b = append(b, `,"checksum":`...)
	b = appendString(b, f.Checksum)
	if f.Protocol != "" {
		b = append(b, `,"protocol":`...)
		b = appendString(b, string(f.Protocol))
	}
	if len(f.Mirrors) > 0 {
		b = append(b, `,"mirrors":`...)
		b = appendAny(b, f.Mirrors)
	}
	if f.Source != "" {
		b = append(b, `,"source":`...)
		b = appendString(b, f.Source)
	}
	if f.OnlyIfNewer {
		b = append(b, `,"only_if_newer":true`...)
	}
	if f.Skipped {
		b = append(b, `,"skipped":true`...)
	}
	if len(f.Ranges) > 0 {
		b = append(b, `,"ranges":`...)
		b = appendAny(b, f.Ranges)
	}
	if f.Validated {
		b = append(b, `,"validated":true`...)
	}
	if f.Note != "" {
		b = append(b, `,"note":`...)
		b = appendString(b, f.Note)
	}
	return append(b, '}')
}

// appendString leaves all but plain text to encoding/json.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return appendAny(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendAny appends what json.Marshal makes of a value that it cannot fail on.
func appendAny(b []byte, v any) []byte {
	doc, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return append(b, doc...)
}

func appendSize(b []byte, s bits.Size) []byte {
	if s < 0 {
		return append(b, "null"...)
	}
	return strconv.AppendInt(b, int64(s), 10)
}

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}
