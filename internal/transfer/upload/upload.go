// Package upload is what the protocols of uploads have in common: the source, the state that must
// survive a restart, and the task that a protocol carries out.
//
// It knows nothing of jobs or of any one protocol.
package upload

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

// Protocol is a way to upload.
type Protocol = bits.Protocol

// The protocols.
const (
	Auto = bits.ProtocolAuto // probe and choose
	BITS = bits.ProtocolBITS // [MC-BUP]
	Tus  = bits.ProtocolTus  // tus 1.0
	IETF = bits.ProtocolIETF // draft-ietf-httpbis-resumable-upload, interop version 8
	S3   = bits.ProtocolS3   // S3 multipart upload
	Put  = bits.ProtocolPut  // plain PUT
	File = bits.ProtocolFile // a file is written
)

// Source is the file that is uploaded. ReadAt fails with the code LocalFileChanged once the file is
// not the one that the job began with.
type Source interface {
	io.ReaderAt
	Size() int64
	Name() string // leaf name
	Modified() time.Time
}

// State is what must survive a restart of the service. Each protocol uses the fields it needs.
type State struct {
	Protocol Protocol `json:"protocol,omitempty"` // chosen; empty before
	URL      string   `json:"url,omitempty"`      // of the upload that the server made (tus, IETF)
	ID       string   `json:"id,omitempty"`       // session id (BITS), upload id (S3), inode (file)
	Offset   int64    `json:"offset,omitempty"`   // bytes that the server acknowledged
	Done     bool     `json:"done,omitempty"`     // the server has the whole file
	Reply    string   `json:"reply,omitempty"`    // absolute URL of the reply (BITS)

	Fragment     int64  `json:"fragment,omitempty"`      // bytes that a request may carry, learned from 413; 0 is unknown
	Host         string `json:"host,omitempty"`          // BITS-Host-Id
	HostFallback *int64 `json:"host_fallback,omitempty"` // seconds; nil is never
	HostFailed   int64  `json:"host_failed,omitempty"`   // Unix seconds of the first failed connect to Host since the last success
	Parts        []Part `json:"parts,omitempty"`         // S3 parts, or tus partial uploads
}

// Part is a piece of an upload in parts.
type Part struct {
	URL    string `json:"url,omitempty"`  // of a tus partial upload
	ETag   string `json:"etag,omitempty"` // of an S3 part
	Size   int64  `json:"size"`
	Offset int64  `json:"offset,omitempty"` // bytes of it that are acknowledged
}

// Task is one upload.
type Task struct {
	// URL is what the job's owner gave. Where the URL names the file (put, bits, s3) and ends in a
	// slash, Target adds the source's name; tus and ietf upload to it as it is, since it is the
	// place that makes uploads.
	URL    string
	Header http.Header // that the job's owner gave
	// Method is in place of the protocol's own (bits, put); empty for that. Such an upload begins anew each time.
	Method string
	Class  governor.Class
	Source Source // nil for Close and Cancel: the file may be gone by then
	State  State
	// Stall is how long a connection may stand still.
	Stall func() time.Duration
	// Save stores State; it is called after every change that a restart must know, and may block
	// until it is durable.
	Save func(State) error
	// Sent is told how far the upload is, in bytes of the file; it may go back. Like Connected and
	// On it is called by several goroutines, one at a time.
	Sent func(offset int64)
	// Connected is called when the server takes bytes, once for each request.
	Connected func()
	// On is told of the connection that the next request goes over.
	On func(*governor.Conn)
	// Answered is told of each answer about the file, whatever it says, but for demands to say who asks. It
	// reads the header only, and may be called by several goroutines at a time.
	Answered func(*http.Response)
	// Waits has the requests that wait for the server.
	Waits *httpconn.Waits
	// Note is told what a person should know, such as why a protocol was chosen.
	Note func(string)
	// Reply says that the server's application must answer (an upload-reply job).
	Reply bool
}

// Uploader carries out one protocol. Errors are *bits.Error or carry one, with context and code; a
// transport error says so by its code. A server that is asked to wait returns a RetryError of package httpconn.
type Uploader interface {
	// Upload goes on from t.State until the server has confirmed the whole file.
	Upload(ctx context.Context, t *Task) error
	// Close tells the server that its answer arrived, after everything else is done.
	Close(ctx context.Context, t *Task) error
	// Cancel tells the server to forget the upload. nil also if it does not know it.
	Cancel(ctx context.Context, t *Task) error
}
