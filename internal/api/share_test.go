package api

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ebbtransfer/ebb/internal/queue"
)

// endless is a body that is not read.
type endless struct{}

func (endless) Read([]byte) (int, error) { return 0, io.EOF }

// TestLargeBodiesShareMemory: however many users send large bodies, few bytes of them are in memory,
// each of them gets a turn, and small requests do not wait for it.
func TestLargeBodiesShareMemory(t *testing.T) {
	const users = 10
	var held, most atomic.Int64
	full := make(chan struct{}, users)
	end := make(chan struct{})
	h := FairShare(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 5 {
			return
		}
		n := r.ContentLength
		if n < 0 {
			n = maxBody
		}
		for now := held.Add(n); ; {
			m := most.Load()
			if now <= m || most.CompareAndSwap(m, now) {
				break
			}
		}
		full <- struct{}{}
		<-end
		held.Add(-n)
	}))
	ask := func(ctx context.Context, uid uint32, length int64) {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/jobs", endless{})
		r.ContentLength = length
		as(queue.Caller{UID: uid, Self: 500}, h).ServeHTTP(httptest.NewRecorder(), r)
	}
	var all sync.WaitGroup
	for uid := range uint32(users) {
		all.Go(func() { ask(t.Context(), 1000+uid, []int64{maxBody, -1}[uid%2]) })
	}
	<-full
	<-full
	ask(t.Context(), 1000, 5) // by one whose large one waits or is there
	ask(t.Context(), 2000, 5)
	gone, leave := context.WithCancel(t.Context())
	leave()
	ask(gone, 2001, maxBody) // and who goes away keeps nothing
	close(end)
	all.Wait()
	if most.Load() > largeBodies || held.Load() != 0 {
		t.Errorf("%d bytes were in memory, and %d stay", most.Load(), held.Load())
	}
}
