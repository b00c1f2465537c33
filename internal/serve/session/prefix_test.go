package session_test

import (
	"context"
	"testing"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// What a client asked for goes on without it, but not without the server.
func TestOutlive(t *testing.T) {
	stop, end := context.WithCancel(t.Context())
	client, leave := context.WithCancel(session.WithStop(t.Context(), stop))
	ctx, cancel := session.Outlive(client)
	defer cancel()
	leave()
	if ctx.Err() != nil {
		t.Error("it ended with the client")
	}
	end()
	<-ctx.Done()
}
