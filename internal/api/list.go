package api

import (
	"bufio"
	"context"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/queue"
)

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// registerList registers the listing, which is streamed: 100,000 jobs are neither held as JSON
// nor do they hold up anything else.
func (s *server) registerList(a huma.API) {
	type input struct {
		AllUsers bool     `query:"all_users" doc:"Jobs of all users; for administrators"`
		Files    bool     `query:"files" doc:"With the files of each job"`
		State    []string `query:"state,explode" doc:"Only jobs in these states; all that are not final otherwise"`
		Limit    int      `query:"limit" minimum:"0" doc:"At most so many jobs; 0 for all"`
		After    string   `query:"after" doc:"Only jobs created after this one: the id of the last job of the page before"`
	}
	huma.Register(a, huma.Operation{OperationID: "listJobs", Method: "GET", Path: "/v1/jobs", Summary: "List jobs, oldest first",
		Responses: map[string]*huma.Response{"200": {Description: "The jobs", Content: map[string]*huma.MediaType{"application/json": {Schema: schemaOf[[]bits.Job](a)}}}}},
		func(_ context.Context, in *input) (*huma.StreamResponse, error) {
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				o := queue.ListOptions{AllUsers: in.AllUsers, Files: in.Files, Limit: in.Limit}
				states, err := parseAll(in.State, parseState)
				if err == nil && in.After != "" {
					var after []bits.ID
					if after, err = parseAll([]string{in.After}, bits.ParseID); err == nil {
						o.After = after[0]
					}
				}
				if err != nil {
					fail(hc, err)
					return
				}
				o.States = states
				w := bufio.NewWriterSize(hc.BodyWriter(), 64<<10)
				var doc []byte
				begun := false
				begin := func() {
					hc.SetHeader("Content-Type", "application/json")
					_ = w.WriteByte('[')
					begun = true
				}
				err = s.q.List(callerOf(hc.Context()), o, func(j bits.Job) bool {
					if begun {
						_ = w.WriteByte(',')
					} else {
						begin()
					}
					doc = appendJob(doc[:0], &j)
					_, _ = w.Write(doc)
					return w.WriteByte('\n') == nil // so that each job is a line; an error means that the client is gone
				})
				if err != nil {
					fail(hc, err)
					return
				}
				if !begun {
					begin()
				}
				_, _ = w.WriteString("]\n")
				_ = w.Flush()
			}}, nil
		})
}

func parseState(text string) (s bits.State, err error) {
	return s, s.UnmarshalText([]byte(text))
}
