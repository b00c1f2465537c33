package api

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/queue"
)

type callerKey struct{}

// WithCaller returns a context for the requests of a connection: it says who is at the other
// end. Where that cannot be told the caller is nobody in particular, and sees nothing.
func WithCaller(ctx context.Context, c net.Conn) context.Context {
	caller := queue.Caller{UID: nobody, Self: uint32(os.Geteuid())}
	if uid, ok := peerUID(c); ok {
		caller.UID = uid
	}
	caller.PID, caller.Process = peerProcess(c)
	return context.WithValue(ctx, callerKey{}, caller)
}

// nobody is the uid that no user has: (uid_t)-1.
const nobody = ^uint32(0)

func callerOf(ctx context.Context) queue.Caller {
	if c, ok := ctx.Value(callerKey{}).(queue.Caller); ok {
		return c
	}
	return queue.Caller{UID: nobody, Self: nobody - 1}
}

// OwnUserOnly refuses callers that are neither the user that the service runs as nor root: the
// files of all jobs are written as that user, whoever made the job.
func OwnUserOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := callerOf(r.Context()); !c.Admin() {
			e := &bits.Error{Code: bits.AccessDenied, Context: bits.ContextGeneralQueueManager, Message: "this service serves its own user only"}
			p := newProblem(http.StatusForbidden, e)
			w.Header().Set("Content-Type", p.ContentType(""))
			w.WriteHeader(p.Status)
			_ = json.NewEncoder(w).Encode(p)
			return
		}
		next.ServeHTTP(w, r)
	})
}
