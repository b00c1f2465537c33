package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/polkit"
	"github.com/ebbtransfer/ebb/internal/queue"
)

type (
	callerKey struct{}
	peerKey   struct{}
)

// peer is the process at the other end of a connection.
type peer struct {
	conn    net.Conn
	uid     uint32
	pid     int32
	program func() string // what it runs: looked at once, by the first request
}

// WithCaller returns a context for the requests of a connection: it says who is at the other
// end. Where that cannot be told the caller is nobody in particular, and sees nothing.
func WithCaller(ctx context.Context, c net.Conn) context.Context {
	caller := queue.Caller{UID: nobody, Self: uint32(os.Geteuid())}
	if uid, pid, ok := peerOf(c); ok {
		caller.UID, caller.PID = uid, pid
		ctx = context.WithValue(ctx, peerKey{}, peer{c, uid, pid, sync.OnceValue(func() string { return programOf(pid) })})
	}
	return context.WithValue(ctx, callerKey{}, caller)
}

// nobody is the uid that no user has: (uid_t)-1.
const nobody = ^uint32(0)

func callerOf(ctx context.Context) queue.Caller {
	c, ok := ctx.Value(callerKey{}).(queue.Caller)
	if !ok {
		return queue.Caller{UID: nobody, Self: nobody - 1}
	}
	if p, ok := ctx.Value(peerKey{}).(peer); ok {
		c.Process = p.program()
	}
	return c
}

// OwnUserOnly refuses callers that are neither the user that the service runs as nor root: the
// files of all jobs are written as that user, whoever made the job.
func OwnUserOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := callerOf(r.Context()); !c.Admin() {
			refuse(w, http.StatusForbidden, bits.Errorf(bits.AccessDenied, "this service serves its own user only"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// interaction is the header with which a client asks for an administrator's rights: with "true"
// polkit may ask a person for a password, with "false" it may not.
const interaction = "X-Allow-Interaction"

// EveryUser serves callers of all users, each with their own rights, and with an administrator's if
// they ask for these and polkit agrees.
func EveryUser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callerOf(r.Context())
		if c.UID == nobody {
			refuse(w, http.StatusForbidden, bits.Errorf(bits.AccessDenied, "the service cannot tell who is calling"))
			return
		}
		if ask := r.Header.Get(interaction); ask != "" && !c.Admin() {
			p, _ := r.Context().Value(peerKey{}).(peer)
			if e := elevate(r.Context(), p, ask == "true"); e != nil {
				refuse(w, http.StatusForbidden, e)
				return
			}
			c.Granted = true
			r = r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
		}
		next.ServeHTTP(w, r)
	})
}

// elevate asks polkit whether the caller is an administrator.
func elevate(ctx context.Context, p peer, ask bool) *bits.Error {
	proc, err := process(p)
	granted := false
	if err == nil {
		granted, err = polkit.Check(ctx, proc, polkit.ManageAll, ask)
	}
	if granted {
		return nil
	}
	e := bits.Errorf(bits.AccessDenied, "polkit does not let this user deal with the jobs of others (%s)", polkit.ManageAll)
	if errors.Is(err, polkit.ErrAbsent) {
		e.Message = "only root deals with the jobs of others here: polkit cannot be asked"
	} else if err != nil {
		e.Message = fmt.Sprintf("polkit was not asked: %v", err)
	}
	e.Cause = err
	return e
}

// refuse writes an error answer.
func refuse(w http.ResponseWriter, status int, e *bits.Error) {
	e.Context = bits.ContextGeneralQueueManager
	p := newProblem(status, e)
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}
