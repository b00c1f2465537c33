package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/queue"
)

// registerCallbacks registers how programs ask for callbacks (client.md 1.11, 7.2).
func (s *server) registerCallbacks(a huma.API) {
	type input struct {
		Job []string `query:"job,explode" doc:"Only of these jobs; of all of the caller's otherwise"`
	}
	huma.Register(a, huma.Operation{OperationID: "getCallbacks", Method: "GET", Path: "/v1/callbacks",
		Summary: "Ask for callbacks, and stream them (text/event-stream). The first, 'registered', has a Registration; each 'notification' that follows has a Notification, which is to be acknowledged if it says so. What the job's notify_flags ask for comes, and what was not told before. Whoever asked last is told; the registration ends with the stream",
		Responses: map[string]*huma.Response{"200": {Description: "A stream of notifications",
			Content: map[string]*huma.MediaType{"text/event-stream": {Schema: schemaOf[bits.Notification](a)}}}}, Errors: []int{403, 404, 422}},
		func(ctx context.Context, in *input) (*huma.StreamResponse, error) {
			ids, err := s.resolveAll(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) { s.callBack(hc, ids) }}, nil
		})
	type answerInput struct {
		Registration string `path:"registration" format:"uuid"`
		Notification uint64 `path:"notification"`
		Body         bits.Acknowledgement
	}
	huma.Register(a, huma.Operation{OperationID: "acknowledge", Method: "POST", Path: "/v1/callbacks/{registration}/{notification}", DefaultStatus: http.StatusNoContent,
		Summary: "Acknowledge a notification: the program has dealt with it, or could not. Then the job's notify command runs or, without one, the program is told again", Errors: []int{404, 422}},
		func(ctx context.Context, in *answerInput) (*struct{}, error) {
			id, err := bits.ParseID(in.Registration)
			if err == nil {
				err = s.notifier.Acknowledge(callerOf(ctx), id, in.Notification, in.Body.Handled)
			}
			if err != nil {
				return nil, answer(err)
			}
			return nil, nil
		})
	huma.Register(a, huma.Operation{OperationID: "getCallback", Method: "GET", Path: "/v1/jobs/{job}/callback", Summary: "Tell whether a program has asked for the callbacks of a job", Errors: []int{404, 409}},
		func(ctx context.Context, in *JobPath) (*Body[bits.CallbackState], error) {
			_, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			return &Body[bits.CallbackState]{bits.CallbackState{Registered: s.notifier.Registered(id)}}, nil
		})
}

// resolveAll finds the jobs that a program asks about.
func (s *server) resolveAll(ctx context.Context, refs []string) (ids []bits.ID, err error) {
	for _, ref := range refs {
		_, id, err := s.resolve(ctx, ref)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// callBack streams the notifications of one program until it goes away.
func (s *server) callBack(hc huma.Context, jobs []bits.ID) {
	caller := callerOf(hc.Context())
	r, err := s.notifier.Register(caller, jobs)
	if err != nil {
		fail(hc, err)
		return
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(hc.Context())
	defer cancel()
	hc.SetHeader("Content-Type", "text/event-stream")
	hc.SetHeader("Cache-Control", "no-store")
	w := hc.BodyWriter()
	send := func(kind string, v any) error {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", kind, data)
		if fl, ok := w.(http.Flusher); ok {
			fl.Flush()
		}
		return err
	}
	if send("registered", bits.Registration{ID: r.ID}) != nil {
		return
	}
	events := make(chan bits.Event)
	go r.Modifications(events, ctx.Done())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		_ = s.q.Watch(ctx, caller, queue.Filter{Jobs: jobs, Progress: true, After: s.q.LastEvent()}, func(some []bits.Event) error {
			for _, e := range some {
				select {
				case events <- e:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	}()
	for {
		select {
		case n := <-r.News():
			if send("notification", n) != nil {
				return
			}
		case <-r.Gone():
			return
		case <-watched:
			return
		}
	}
}
