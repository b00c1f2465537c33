// Package session keeps uploads that are under way on a server: how many bytes of each are durable,
// who works on it now, and how it becomes a file. It is the one store behind the front ends for
// BITS, tus, the IETF's resumable uploads and plain PUT.
//
// It promises that an acknowledged byte survives kill -9 and a power loss, that an offset never
// decreases, that one request at a time works on a session, that a session answers only to the
// principal and the URL that it was made for, and that a target appears whole or not at all. It knows
// nothing of HTTP or of any protocol.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// Errors that callers tell apart.
var (
	// ErrNotFound: there is no such session, it expired, or it belongs to somebody else.
	ErrNotFound = errors.New("no such upload session")
	// ErrExists: the target exists and may not be overwritten.
	ErrExists = errors.New("the target exists")
	// ErrTooLarge: more bytes than the session's size, or than are allowed.
	ErrTooLarge = errors.New("the upload is too large")
	// ErrSizeChanged: a size was given before, and it was another one.
	ErrSizeChanged = errors.New("the size of the upload changed")
	// ErrTarget: the target's name is not allowed, or its directory does not exist or is not one.
	ErrTarget = errors.New("the target cannot be used")
	// ErrBusy: another request works on the session and did not end in time.
	ErrBusy = errors.New("another request works on the upload")
	// ErrTooMany: the principal, or all together, have as many sessions as they may have.
	ErrTooMany = errors.New("too many upload sessions")
	// ErrIncomplete: not all bytes are here, or their number is not known.
	ErrIncomplete = errors.New("the upload is not complete")
	// ErrNoSpace: the storage has no room.
	ErrNoSpace = errors.New("no space is left for the upload")
	// ErrTaken is the cause of the context of a Session that had to make way for a newer request.
	ErrTaken = errors.New("a newer request took the upload over")
)

// Spec is what an upload is made with. Only its size may become known later.
type Spec struct {
	Protocol string `json:"protocol"` // "bits", "tus", "ietf" or "put"
	// Target is the file to make, relative to the store's root, with slashes; CheckTarget says what
	// it may be. It is empty for an upload that never becomes a file (a part).
	Target    string `json:"target"`
	URL       string `json:"url"`       // path of the URL that the session is bound to
	Principal string `json:"principal"` // who may go on with it; empty is anonymous
	Size      int64  `json:"size"`      // bytes; -1 while unknown
	Limit     int64  `json:"limit"`     // most bytes it may have; -1 is no limit
	Overwrite bool   `json:"overwrite"` // the target may exist
	// Whole says that the request which makes the session also brings all its bytes and answers only
	// after Publish, so that nobody ever learns of the session if that fails. It then costs no record:
	// the session ends with its first Release, and does not survive a crash.
	Whole bool `json:"-"`
	// Staged says that the bytes are read before Publish, if that comes at all. A bucket then keeps
	// them apart from the target and copies them in the end. Without a target it makes no difference.
	Staged bool `json:"staged,omitempty"`
	// Reply says that the client may have a reply to fetch once the upload is published. The session is
	// then kept for as long as an unfinished one.
	Reply bool `json:"reply,omitempty"`
	// Metadata is the front end's own, such as tus's Upload-Metadata.
	Metadata map[string]string `json:"metadata,omitempty"`
}

// Info describes a session.
type Info struct {
	ID string `json:"id"` // 128 random bits: whoever knows it still needs the principal and the URL
	Spec
	Offset    int64     `json:"offset"` // durable bytes
	Published bool      `json:"published"`
	Created   time.Time `json:"created"`
	Touched   time.Time `json:"touched"` // last progress; see Expires
	// State is the front end's own, such as an answer to be repeated.
	State json.RawMessage `json:"state,omitempty"`
}

// Who identifies a request to the store.
type Who struct {
	Principal string
	URL       string // path; empty where the id alone stands in the URL (tus, IETF)
}

// Session is an upload that one request works on. Its methods are for one goroutine at a time. The
// context that Acquire returned ends when a newer request wants the session: the holder then keeps
// what it has and releases it.
type Session interface {
	Info() Info
	// SetSize makes the size known. ErrSizeChanged, ErrTooLarge.
	SetSize(ctx context.Context, size int64) error
	// Append adds the bytes of r, which begin at the session's offset, and returns how many are
	// now durable: also those that came before r failed or ctx ended. It returns r's error, nil
	// at its end, the cause if ctx ended, or ErrTooLarge once the size or the limit would be passed
	// (what fits is kept). r must fail when the context ends. Bytes that complete an upload with a target are durable,
	// but may have to be sent again after a power loss until Publish or SetState succeeded: only
	// then they are acknowledged to the client.
	Append(ctx context.Context, r io.Reader) (int64, error)
	// AppendVerified adds the bytes of r as Append does, but none of them before r ended and verify,
	// which is called then, returned nil. It returns verify's error as well.
	AppendVerified(ctx context.Context, r io.Reader, verify func() error) error
	// SetState stores the front end's state durably.
	SetState(ctx context.Context, state json.RawMessage) error
	// Open reads the bytes that are here. The reading may go on after Release.
	Open(ctx context.Context) (io.ReadSeekCloser, error)
	// Publish makes the target appear, whole and durable, atomically; ErrExists if it exists by
	// now and may not be overwritten, ErrIncomplete, ErrTarget. It may be repeated after a crash or
	// a lost answer. To publish an upload without a target is to say that its bytes were used: they
	// are given up, and it does not count any more.
	Publish(ctx context.Context) error
	// Remove deletes the session and what it keeps; a published target stays.
	Remove(ctx context.Context) error
	// Release lets the next request have the session. It is called exactly once.
	Release()
}

// Store keeps the sessions of one URL prefix.
type Store interface {
	// Create makes a session. ErrExists, ErrTarget, ErrTooLarge, ErrTooMany, ErrNoSpace.
	Create(ctx context.Context, spec Spec) (Info, error)
	// Acquire hands the session to the caller, asking another request that has it to make way.
	// ErrNotFound, ErrBusy. The context is derived from ctx and ends with ErrTaken.
	Acquire(ctx context.Context, id string, who Who) (context.Context, Session, error)
	// Concat makes a finished session of the bytes of others in their order, all of the same
	// principal and complete (ErrIncomplete); ErrNotFound if one was used up. The parts stay.
	Concat(ctx context.Context, spec Spec, parts []string) (Info, error)
	// List returns the sessions in the order of their creation, for whoever administers them.
	List(ctx context.Context) ([]Info, error)
	// Clean removes the sessions that are Expired, and for each principal the newest unpublished
	// ones beyond limit (0 is no limit). It returns how many it removed.
	Clean(ctx context.Context, now time.Time, timeout time.Duration, limit int) (int, error)
	Close() error
}
