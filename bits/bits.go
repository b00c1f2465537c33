// Package bits is Ebb's vocabulary: jobs, files, states, priorities, error codes and the
// state machine of the Background Intelligent Transfer Service, with BITS's names and values.
//
// It does no I/O, starts no goroutine, reads no clock and imports nothing of Ebb, so every
// other room (and every program that talks to the service) can use it.
package bits

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ID identifies a job: a random (version 4) UUID.
type ID [16]byte

// NewID returns a fresh random ID.
func NewID() ID {
	var id ID
	rand.Read(id[:]) // never fails: crypto/rand aborts the program instead
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ParseID reads the text form of an ID, with or without braces, in any case.
func ParseID(s string) (ID, error) {
	var id ID
	t := s
	if strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") {
		t = s[1 : len(s)-1]
	}
	if len(t) != 36 || t[8] != '-' || t[13] != '-' || t[18] != '-' || t[23] != '-' {
		return id, fmt.Errorf("%q is not a job id (want the form 6af46e48-41d3-453f-b7af-a694bbc823f7)", s)
	}
	if _, err := hex.Decode(id[:], []byte(t[0:8]+t[9:13]+t[14:18]+t[19:23]+t[24:36])); err != nil {
		return ID{}, fmt.Errorf("%q is not a job id: %w", s, err)
	}
	return id, nil
}

// AppendText appends the lower-case text form to b.
func (id ID) AppendText(b []byte) ([]byte, error) {
	b = hex.AppendEncode(b, id[0:4])
	b = append(b, '-')
	b = hex.AppendEncode(b, id[4:6])
	b = append(b, '-')
	b = hex.AppendEncode(b, id[6:8])
	b = append(b, '-')
	b = hex.AppendEncode(b, id[8:10])
	b = append(b, '-')
	return hex.AppendEncode(b, id[10:16]), nil
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return id.AppendText(make([]byte, 0, 36)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*id = v
	}
	return err
}

func (id ID) String() string {
	b, _ := id.AppendText(make([]byte, 0, 36))
	return string(b)
}

// State is the state of a job (BG_JOB_STATE).
type State uint8

// The states of a job.
const (
	Queued         State = 0 // eligible; waits for its turn or for the network
	Connecting     State = 1 // contacting the server
	Transferring   State = 2 // moving bytes
	Suspended      State = 3 // initial state, or paused by its owner
	Errored        State = 4 // ended in a fatal error; needs its owner
	TransientError State = 5 // will be retried by the service
	Transferred    State = 6 // everything moved; waits for Complete or Cancel
	Acknowledged   State = 7 // final: Complete succeeded
	Cancelled      State = 8 // final: Cancel
)

// States is the number of states.
const States = 9

var stateNames = [...]string{"QUEUED", "CONNECTING", "TRANSFERRING", "SUSPENDED", "ERROR", "TRANSIENT_ERROR", "TRANSFERRED", "ACKNOWLEDGED", "CANCELLED"}

// Final reports whether the state never changes again.
func (s State) Final() bool { return s == Acknowledged || s == Cancelled }

// Action reports whether the service works, or will work by itself, on a job in this state.
func (s State) Action() bool { return s <= Transferring || s == TransientError }

// Running reports whether a transfer of the job is under way.
func (s State) Running() bool { return s == Connecting || s == Transferring }

func (s State) String() string { return nameOf(stateNames[:], int(s), "State") }

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; case does not matter.
func (s *State) UnmarshalText(b []byte) error {
	i, err := indexOf(stateNames[:], string(b), "state")
	if err == nil {
		*s = State(i)
	}
	return err
}

// Type is what a job moves and in which direction (BG_JOB_TYPE).
type Type uint8

// The types of jobs.
const (
	Download    Type = 0
	Upload      Type = 1
	UploadReply Type = 2
)

var typeNames = [...]string{"DOWNLOAD", "UPLOAD", "UPLOAD_REPLY"}

func (t Type) String() string { return nameOf(typeNames[:], int(t), "Type") }

// MarshalText implements encoding.TextMarshaler.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; case does not matter, '-' stands for '_'.
func (t *Type) UnmarshalText(b []byte) error {
	i, err := indexOf(typeNames[:], strings.ReplaceAll(string(b), "-", "_"), "job type")
	if err == nil {
		*t = Type(i)
	}
	return err
}

// Priority is the urgency of a job (BG_JOB_PRIORITY). Lower values go first.
type Priority uint8

// The priorities. Foreground competes with other programs for the network; the three
// background levels do not.
const (
	Foreground Priority = 0
	High       Priority = 1
	Normal     Priority = 2 // default
	Low        Priority = 3
)

// Priorities is the number of priorities.
const Priorities = 4

var priorityNames = [...]string{"FOREGROUND", "HIGH", "NORMAL", "LOW"}

func (p Priority) String() string { return nameOf(priorityNames[:], int(p), "Priority") }

// MarshalText implements encoding.TextMarshaler.
func (p Priority) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; case does not matter.
func (p *Priority) UnmarshalText(b []byte) error {
	i, err := indexOf(priorityNames[:], string(b), "priority")
	if err != nil {
		return Errorf(NotImplemented, "%v", err)
	}
	*p = Priority(i)
	return nil
}

// Context says where an error arose (BG_ERROR_CONTEXT).
type Context uint8

// The error contexts.
const (
	ContextNone                      Context = 0
	ContextUnknown                   Context = 1
	ContextGeneralQueueManager       Context = 2
	ContextQueueManagerNotification  Context = 3
	ContextLocalFile                 Context = 4
	ContextRemoteFile                Context = 5
	ContextGeneralTransport          Context = 6
	ContextRemoteApplication         Context = 7
	ContextServerCertificateCallback Context = 8
)

var contextNames = [...]string{"NONE", "UNKNOWN", "GENERAL_QUEUE_MANAGER", "QUEUE_MANAGER_NOTIFICATION", "LOCAL_FILE", "REMOTE_FILE", "GENERAL_TRANSPORT", "REMOTE_APPLICATION", "SERVER_CERTIFICATE_CALLBACK"}

func (c Context) String() string { return nameOf(contextNames[:], int(c), "Context") }

// MarshalText implements encoding.TextMarshaler.
func (c Context) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; case does not matter.
func (c *Context) UnmarshalText(b []byte) error {
	i, err := indexOf(contextNames[:], string(b), "error context")
	if err == nil {
		*c = Context(i)
	}
	return err
}

func nameOf(names []string, i int, kind string) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", kind, i)
}

func indexOf(names []string, s, kind string) (int, error) {
	for i, n := range names {
		if strings.EqualFold(n, s) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("unknown %s %q (want %s)", kind, s, strings.Join(names, ", "))
}

// Size is a number of bytes, or Unknown.
type Size int64

// Unknown is the size of a file whose server has not told it yet (BG_SIZE_UNKNOWN).
const Unknown Size = -1

// Uint64 returns the size as BITS has it: Unknown is 2⁶⁴-1.
func (s Size) Uint64() uint64 {
	if s < 0 {
		return math.MaxUint64
	}
	return uint64(s)
}

// MarshalJSON writes Unknown as null.
func (s Size) MarshalJSON() ([]byte, error) {
	if s < 0 {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// UnmarshalJSON reads null as Unknown.
func (s *Size) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*s = Unknown
		return nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%s is not a size in bytes", b)
	}
	*s = Size(n)
	return nil
}

// Progress counts a job's bytes and files (BG_JOB_PROGRESS). All zero for an empty job.
type Progress struct {
	BytesTotal       Size  `json:"bytes_total" doc:"Bytes of all files; null while the size of any file is unknown"`
	BytesTransferred int64 `json:"bytes_transferred" doc:"Bytes received so far, or of an upload bytes that the server has; the reply has a count of its own"`
	FilesTotal       int   `json:"files_total"`
	FilesTransferred int   `json:"files_transferred" doc:"Files whose bytes are all here and durable, or all with the server"`
}

// Times are a job's dates (BG_JOB_TIMES), UTC.
type Times struct {
	Created     time.Time  `json:"created"`
	Modified    time.Time  `json:"modified" doc:"Last change of a property, a file list, a state or of the bytes moved"`
	Transferred *time.Time `json:"transferred" doc:"When the job last became TRANSFERRED; null before"`
	RetryAt     *time.Time `json:"retry_at,omitempty" doc:"When a job in TRANSIENT_ERROR will be retried, if a timer decides that"`
}

// File is one file of a job.
type File struct {
	Index            int      `json:"index" doc:"Number of the file in its job; it never changes, also if other files are removed"`
	Remote           string   `json:"remote" doc:"URL"`
	Local            string   `json:"local" doc:"Absolute path of the finished file, or of the file that is uploaded"`
	Temporary        string   `json:"temporary,omitempty" doc:"Path of the part file while there is one"`
	BytesTotal       Size     `json:"bytes_total" doc:"Size; null while unknown"`
	BytesTransferred int64    `json:"bytes_transferred"`
	BytesFromPeers   int64    `json:"bytes_from_peers,omitempty" doc:"Bytes of a download that are here and came from peers"`
	BytesFromCache   int64    `json:"bytes_from_cache,omitempty" doc:"Bytes of a download that are here and came from the cache of this machine, which is there for peers"`
	Completed        bool     `json:"completed" doc:"The file is in its place under its own name; of an upload, that the server has it"`
	Checksum         string   `json:"checksum" doc:"Expected digest, or empty, as ALGORITHM:HEX" example:"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
	Protocol         Protocol `json:"protocol,omitempty" doc:"How the file is uploaded, once that is known"`
	Mirrors          []string `json:"mirrors,omitempty" doc:"Other URLs of the same content"`
	Source           string   `json:"source,omitempty" doc:"URL that the bytes are from, if it is not remote"`
	OnlyIfNewer      bool     `json:"only_if_newer,omitempty" doc:"The file is fetched only if it is newer than the one in its place"`
	Skipped          bool     `json:"skipped,omitempty" doc:"The file is left out: by the job's owner, or because the one in its place is not older"`
	Ranges           []Range  `json:"ranges,omitempty" doc:"Parts of the file on the server that are fetched; they stand back to back, in this order, in the file here, and its size is theirs. All of the file if absent"`
	Validated        bool     `json:"validated,omitempty" doc:"The job's owner, or Complete, said that the content is right"`
	Note             string   `json:"note,omitempty" doc:"What a person should know, such as that the file changed on the server and was started again"`
}

// FileDetail is all that is known of a file.
type FileDetail struct {
	File
	Filled          []Range `json:"filled" doc:"Parts of the file here, or of its part file, that are fetched and durable, in order"`
	Wanted          []Range `json:"wanted,omitempty" doc:"Parts of the file here that were asked for and are not fetched yet"`
	Position        int64   `json:"position,omitempty" doc:"What is missing at and after this offset is fetched before the rest"`
	BytesFromOrigin int64   `json:"bytes_from_origin" doc:"Bytes of a download that are here and came from servers (BITS's GetPeerDownloadStats)"`
	ResponseHeaders string  `json:"response_headers,omitempty" doc:"Status line and header of the server's last answer to a request for the file, also if it was an error, a line for each field, without cookies (BITS's HTTP_RESPONSE_HEADERS). Of more than 4 KiB some fields are left out, and the last line, Ebb-Left-Out, says how many"`
}

// Reply is what the server's application answers to the file of an UPLOAD_REPLY job
// (BG_JOB_REPLY_PROGRESS and the reply file's name).
type Reply struct {
	Remote           string `json:"remote,omitempty" doc:"URL of the reply, once the server named one"`
	File             string `json:"file" doc:"Absolute path of the reply file; empty until the job has a file"`
	BytesTotal       Size   `json:"bytes_total" doc:"Size; null until the reply's download began. An error before is about the upload, one after that about the reply"`
	BytesTransferred int64  `json:"bytes_transferred"`
	Completed        bool   `json:"completed" doc:"The reply file is in its place"`
}

// MaxReplyData is the size, in bytes, up to which a reply can be had as data.
const MaxReplyData = 1 << 20

// NoteServerUntold is the note, or the end of it, of a cancelled upload whose server does not know
// yet that it may forget what it has.
const NoteServerUntold = "the server is still to be told; the service keeps trying"

// NotificationFailure tells that neither callbacks nor the notify command, or that the web hook, could not
// be told of a job's end (client.md 7.3), or that a program could not be told of its files.
type NotificationFailure struct {
	Attempts int        `json:"attempts"`
	Message  string     `json:"message" doc:"Why, and the end of what the program wrote"`
	RetryAt  *time.Time `json:"retry_at,omitempty" doc:"When it is tried again"`
}

// Job is a snapshot of a job.
type Job struct {
	ID         ID                   `json:"id"`
	Name       string               `json:"name" doc:"Display name; need not be unique"`
	Type       Type                 `json:"type"`
	Priority   Priority             `json:"priority"`
	State      State                `json:"state"`
	Owner      string               `json:"owner" doc:"User name of the owner, or the uid where it has no name"`
	Progress   Progress             `json:"progress"`
	Pace       *Pace                `json:"pace,omitempty" doc:"How fast the job moves and why; only while it is CONNECTING or TRANSFERRING"`
	Files      []File               `json:"files,omitzero" doc:"The files, where they were asked for"`
	Reply      *Reply               `json:"reply,omitempty" doc:"The answer of the server's application; UPLOAD_REPLY jobs only"`
	Error      *ErrorInfo           `json:"error" doc:"Why the job is in ERROR or TRANSIENT_ERROR"`
	ErrorCount int                  `json:"error_count" doc:"How often a transfer was interrupted by an error"`
	Note       string               `json:"note,omitempty" doc:"What a person should know, such as why the service cancelled the job"`
	Failure    *NotificationFailure `json:"notification_failure,omitempty" doc:"Why the program that is to be told of the job's end, or of its files, could not be told"`
	Hook       *NotificationFailure `json:"hook_failure,omitempty" doc:"Why the web hook of the job's end was not taken"`
	Times      Times                `json:"times"`
	Properties Properties           `json:"properties"`
}

// Rate limits and ranges of job properties. Client.md 0.4.
const (
	MaxNameLen        = 256  // characters
	MaxDescriptionLen = 1024 // characters
	MaxURLLen         = 8192 // bytes; BITS allows 2,200 characters
	MaxConnections    = 64
	MaxHeaderBytes    = 16384   // all custom headers of a job together
	MaxFilesPerJob    = 1 << 20 // policy allows fewer: jobs.max_files

	DefaultMinimumRetryDelay = 600 * time.Second
	LeastMinimumRetryDelay   = 5 * time.Second
	DefaultNoProgressTimeout = 14 * 24 * time.Hour
	DefaultConnections       = 16
)
