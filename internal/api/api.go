// Package api is the service's HTTP API on its Unix socket: JSON requests, RFC 9457 errors,
// events as server-sent events, and an OpenAPI 3.1 document made from the same types. It finds
// out who is calling, hands the call to the queue and writes the answer; it decides nothing.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/notify"
	"github.com/ebbtransfer/ebb/internal/peers"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/queue"
)

// Service is what the API tells about the service besides its jobs.
type Service func(queue.Caller) bits.Service

// New returns the handler of the API. Requests must carry their caller in the context; see
// WithCaller.
func New(q *queue.Queue, gov *governor.Governor, file *policy.File, notifier *notify.Notifier, node *peers.Node, service Service) http.Handler {
	mux := http.NewServeMux()
	s := &server{q: q, gov: gov, policy: file, notifier: notifier, peers: node, service: service}
	s.register(humago.New(mux, config()))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = rehearsed(r)
		if h, pattern := mux.Handler(r); pattern == "" {
			noSuchCall(w, r, h)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// dryRun is where calls that change jobs are answered as if they were carried out, and are not. It is a
// place of its own, so that a service that does not know it does nothing.
const dryRun = "/v1/dry-run"

// rehearsed returns the request that a call below dryRun stands for.
func rehearsed(r *http.Request) *http.Request {
	rest, ok := strings.CutPrefix(r.URL.Path, dryRun)
	if !ok || r.URL.RawPath != "" || rest != "/jobs" && !strings.HasPrefix(rest, "/jobs/") {
		return r
	}
	c := callerOf(r.Context())
	c.DryRun = true
	out := r.Clone(context.WithValue(r.Context(), callerKey{}, c))
	out.URL.Path = "/v1" + rest
	return out
}

// noSuchCall answers requests that fit no operation, which h would do as plain text.
func noSuchCall(w http.ResponseWriter, r *http.Request, h http.Handler) {
	plain := &discard{header: http.Header{}}
	h.ServeHTTP(plain, r)
	e := bits.Errorf(bits.NotImplemented, "there is no such call: %s %s", r.Method, r.URL.EscapedPath())
	status := http.StatusNotFound
	if allow := plain.header.Get("Allow"); plain.status == http.StatusMethodNotAllowed {
		status = plain.status
		w.Header().Set("Allow", allow)
		e.Message += "; the path takes " + allow
	}
	e.Context = bits.ContextGeneralQueueManager
	p := newProblem(status, e)
	p.Hint = "see /openapi.json"
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p)
}

// discard keeps the head of an answer.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

// OpenAPI returns the API's OpenAPI 3.1 document.
func OpenAPI() ([]byte, error) {
	s := &server{}
	a := humago.New(http.NewServeMux(), config())
	s.register(a)
	doc, err := json.Marshal(a.OpenAPI())
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Indent(&out, doc, "", "  ")
	out.WriteByte('\n')
	return out.Bytes(), err
}

func config() huma.Config {
	c := huma.DefaultConfig("Ebb", "1")
	c.Info.Description = "The local API of the Ebb transfer service. It listens on a Unix socket; who calls is known from the socket. Errors are application/problem+json with BITS codes."
	c.DocsPath, c.SchemasPath = "", ""
	c.OpenAPIPath = "/openapi"
	c.CreateHooks = nil // no $schema links in answers
	registerSchemas(c.Components.Schemas)
	c.Formats = map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat}
	return c
}

// jsonFormat refuses unknown fields, so that a misspelt one is not silently ignored.
var jsonFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		if j, ok := v.(bits.Job); ok { // its files may be tens of thousands
			_, err := w.Write(append(appendJob(nil, &j), '\n'))
			return err
		}
		return json.NewEncoder(w).Encode(v)
	},
	Unmarshal: func(data []byte, v any) error {
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			return err
		}
		return ended(d)
	},
}

// problem is an error answer.
type problem struct{ bits.Problem }

func (p *problem) Error() string             { return p.Detail }
func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) ContentType(string) string { return "application/problem+json" }
func (p *problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(p.Problem)
}

func init() {
	// huma's own errors (malformed JSON, unknown parameters) get our form too.
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		for _, e := range errs {
			var d *huma.ErrorDetail
			var p *problem
			switch {
			case errors.As(e, &p):
				return p
			case errors.As(e, &d) && d.Location == "body":
				msg += ": " + d.Message // without the body itself: it is long, and may hold secrets
			case e != nil:
				msg += ": " + e.Error()
			}
		}
		code := bits.InvalidArg
		if status >= 500 {
			code = bits.Unexpected
		}
		return newProblem(status, &bits.Error{Code: code, Context: bits.ContextGeneralQueueManager, Message: msg})
	}
}

func newProblem(status int, e *bits.Error) *problem {
	i := e.Info()
	return &problem{bits.Problem{Title: http.StatusText(status), Status: status, Detail: i.Message, Code: i.Code, HResult: i.HResult, Context: i.Context, File: i.File, Hint: i.Hint}}
}

// statusOf maps codes to HTTP statuses; all others are 422.
var statusOf = map[bits.Code]int{
	bits.NotFound:     http.StatusNotFound,
	bits.AccessDenied: http.StatusForbidden,
	bits.InvalidState: http.StatusConflict,
	bits.Unexpected:   http.StatusInternalServerError,

	bits.PeerCachingDisabled: http.StatusConflict,
}

// answer turns an error of the queue into an error answer.
func answer(err error) error {
	var e *bits.Error
	if errors.As(err, &e) && e == queue.ErrClosed {
		// No answer: the client sees the connection break and asks the next service.
		panic(http.ErrAbortHandler)
	}
	if e == nil {
		e = &bits.Error{Code: bits.Unexpected, Context: bits.ContextGeneralQueueManager, Message: err.Error()}
	}
	status, ok := statusOf[e.Code]
	if !ok {
		status = http.StatusUnprocessableEntity
	}
	if e.Context == bits.ContextNone { // such as from the checks in bits, which do not know who calls them
		named := *e
		named.Context = bits.ContextGeneralQueueManager
		e = &named
	}
	p := newProblem(status, e)
	var ambiguous *queue.AmbiguousError
	if errors.As(err, &ambiguous) {
		p.Candidates = ambiguous.Candidates
		p.Status, p.Title = http.StatusConflict, http.StatusText(http.StatusConflict)
	}
	return p
}

type server struct {
	q        *queue.Queue
	gov      *governor.Governor
	policy   *policy.File
	notifier *notify.Notifier
	peers    *peers.Node
	service  Service
}

// JobPath names a job in a path. It is exported for huma, which needs that.
type JobPath struct {
	Job string `path:"job" doc:"A job's id, a unique prefix of one, or its name" maxLength:"1024"`
}

// Body is a request or an answer that is all body. It is exported for huma, which needs that.
type Body[T any] struct{ Body T }

func (s *server) register(a huma.API) {
	huma.Register(a, huma.Operation{OperationID: "getService", Method: "GET", Path: "/v1/service", Summary: "Describe the running service"},
		func(ctx context.Context, _ *struct{}) (*Body[bits.Service], error) {
			return &Body[bits.Service]{s.service(callerOf(ctx))}, nil
		})
	huma.Register(a, huma.Operation{OperationID: "listPaths", Method: "GET", Path: "/v1/paths", Summary: "Show the network paths in use: what they can carry, who uses them, and why background jobs move as fast as they do"},
		func(ctx context.Context, _ *struct{}) (*Body[[]bits.Path], error) {
			if !callerOf(ctx).Admin() { // it tells where other users' jobs connect to
				return &Body[[]bits.Path]{[]bits.Path{}}, nil
			}
			return &Body[[]bits.Path]{s.gov.Paths()}, nil
		})
	s.registerPolicy(a)
	registerStreamed[bits.NewJob](a, huma.Operation{OperationID: "createJob", Method: "POST", Path: "/v1/jobs", Summary: "Create a job, with files if wanted, and start it if wanted",
		DefaultStatus: http.StatusCreated, Errors: []int{422, 500}},
		func(ctx context.Context, in *Streamed[bits.NewJob]) (*Body[bits.Summary], error) {
			j, err := s.q.Create(callerOf(ctx), in.value)
			return reply(j, err)
		})
	registerStreamed[[]bits.NewJob](a, huma.Operation{OperationID: "createJobs", Method: "POST", Path: "/v1/batch", Summary: "Create up to 1,000 jobs, each for itself, durable together; the answers are in their order",
		Errors: []int{422, 500}}, s.createAll)
	s.registerList(a)
	huma.Register(a, huma.Operation{OperationID: "getJob", Method: "GET", Path: "/v1/jobs/{job}", Summary: "Show a job", Errors: []int{404, 409}},
		func(ctx context.Context, in *struct {
			JobPath
			Files bool `query:"files" default:"true" doc:"With the job's files"`
		}) (*Body[bits.Job], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			j, err := s.q.Get(c, id, in.Files)
			return reply(j, err)
		})
	huma.Register(a, huma.Operation{OperationID: "setProperties", Method: "PATCH", Path: "/v1/jobs/{job}", Summary: "Change properties of a job: all or none", SkipValidateBody: true, Errors: []int{403, 404, 409, 422}},
		func(ctx context.Context, in *struct {
			JobPath
			Body decoded[bits.Settings]
		}) (*Body[bits.Summary], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			sum, err := s.q.Set(c, id, in.Body.value)
			return reply(sum, err)
		})
	registerStreamed[[]bits.FileSpec](a, huma.Operation{OperationID: "addFiles", Method: "POST", Path: "/v1/jobs/{job}/files", Summary: "Add files to a job: all or none", Errors: []int{403, 404, 409, 422}},
		func(ctx context.Context, in *struct {
			JobPath
			Streamed[[]bits.FileSpec]
		}) (*Body[bits.Summary], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			sum, err := s.q.AddFiles(c, id, in.value)
			return reply(sum, err)
		})
	s.registerAction(a, "resume", "Start a job, or retry it now", func(c queue.Caller, id bits.ID) (bits.Code, error) {
		_, err := s.q.Resume(c, id)
		return bits.OK, err
	})
	s.registerAction(a, "suspend", "Stop a job and keep its progress", func(c queue.Caller, id bits.ID) (bits.Code, error) {
		_, err := s.q.Suspend(c, id)
		return bits.OK, err
	})
	s.registerAction(a, "cancel", "End a job and delete what it fetched. The server of an upload that it has begun is told to forget it, again and again for a day if it must be", func(c queue.Caller, id bits.ID) (bits.Code, error) { return s.q.Cancel(c, id) })
	s.registerAction(a, "complete", "Put a job's files in their places and end it. Of a download that is not TRANSFERRED only the finished files are kept (BG_S_PARTIAL_COMPLETE); an upload must be TRANSFERRED",
		func(c queue.Caller, id bits.ID) (bits.Code, error) { return s.q.Complete(c, id) })
	s.registerFiles(a)
	s.registerOwn(a)
	s.registerExplain(a)
	s.registerReply(a)
	s.registerRanges(a)
	s.registerErrors(a)
	s.registerSecrets(a)
	s.registerCertificates(a)
	s.registerEvents(a)
	s.registerCallbacks(a)
	s.registerPeers(a)
	s.registerMetrics(a)
	refine(a.OpenAPI().Components.Schemas.Map())
}

func (s *server) registerErrors(a huma.API) {
	huma.Register(a, huma.Operation{OperationID: "getError", Method: "GET", Path: "/v1/jobs/{job}/error", Summary: "Get the error of a job that is in ERROR or TRANSIENT_ERROR, or was until it was queued again (else BG_E_ERROR_INFORMATION_UNAVAILABLE)", Errors: []int{404, 409, 422}},
		func(ctx context.Context, in *JobPath) (*Body[*bits.ErrorInfo], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			info, err := s.q.Error(c, id)
			return reply(info, err)
		})
	huma.Register(a, huma.Operation{OperationID: "describeError", Method: "GET", Path: "/v1/errors/{code}", Summary: "Describe a result code", Errors: []int{422}},
		func(_ context.Context, in *struct {
			Code     string `path:"code" doc:"A code's name or value" example:"0x80200013" maxLength:"64"`
			Context  string `query:"context" doc:"Where the error occurred" example:"REMOTE_FILE" maxLength:"64"`
			Language string `query:"language" doc:"Language of the texts; there is English" maxLength:"64"`
		}) (*Body[bits.ErrorText], error) {
			text, err := describe(in.Code, in.Context, in.Language)
			return reply(text, err)
		})
}

// describe puts a code and a context, each in its text form, into words.
func describe(name, where, language string) (text bits.ErrorText, err error) {
	code, ok := bits.ParseCode(name)
	if !ok {
		return text, bits.Errorf(bits.InvalidArg, "%q is no result code (want a name such as BG_E_NOT_FOUND, or a value such as 0x80200001)", name)
	}
	if where != "" {
		if err := text.Context.UnmarshalText([]byte(where)); err != nil {
			return text, bits.Errorf(bits.InvalidArg, "%v", err)
		}
	}
	if text.Message, err = code.Description(language); err != nil {
		return text, err
	}
	text.Code, text.HResult, text.Hint, text.ContextMessage = code.Name(), code.Hex(), code.Hint(), text.Context.Message()
	return text, nil
}

func (s *server) createAll(ctx context.Context, in *Streamed[[]bits.NewJob]) (*Body[[]bits.Created], error) {
	made, errs := s.q.CreateAll(callerOf(ctx), in.value)
	created := make([]bits.Created, len(made))
	for i := range made {
		if errs[i] == nil {
			created[i].Job = &made[i]
			continue
		}
		if p, ok := answer(errs[i]).(*problem); ok {
			created[i].Error = &bits.ErrorInfo{Code: p.Code, HResult: p.HResult, Context: p.Context, File: p.File, Message: p.Detail, Hint: p.Hint}
		}
	}
	return &Body[[]bits.Created]{created}, nil
}

func (s *server) registerReply(a huma.API) {
	type output struct {
		ContentType string `header:"Content-Type"`
		Body        []byte
	}
	op := huma.Operation{OperationID: "getReplyData", Method: "GET", Path: "/v1/jobs/{job}/reply", Summary: "Get the reply of an UPLOAD_REPLY job that is TRANSFERRED or completed, up to 1 MiB (BG_E_TOO_LARGE beyond); empty if the server had nothing to say", Errors: []int{404, 409, 422},
		Responses: map[string]*huma.Response{"200": {Description: "The reply", Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}}}
	huma.Register(a, op, func(ctx context.Context, in *JobPath) (*output, error) {
		c, id, err := s.resolve(ctx, in.Job)
		if err != nil {
			return nil, err
		}
		data, err := s.q.ReplyData(c, id)
		if err != nil {
			return nil, answer(err)
		}
		return &output{"application/octet-stream", data}, nil
	})
}

func (s *server) registerAction(a huma.API, verb, doc string, do func(queue.Caller, bits.ID) (bits.Code, error)) {
	huma.Register(a, huma.Operation{OperationID: verb + "Job", Method: "POST", Path: "/v1/jobs/{job}/" + verb, Summary: doc, Errors: []int{403, 404, 409, 422}},
		func(ctx context.Context, in *JobPath) (*Body[bits.Outcome], error) {
			return s.outcome(ctx, in.Job, do)
		})
}

func (s *server) registerOwn(a huma.API) {
	op := huma.Operation{OperationID: "ownJob", Method: "POST", Path: "/v1/jobs/{job}/own", Errors: []int{403, 404, 409, 422},
		Summary: "Make the caller, an administrator, the owner of a job (TakeOwnership). What only the old owner may use is dropped: credentials, client certificate, headers, notify command, web hook"}
	huma.Register(a, op, func(ctx context.Context, in *JobPath) (*Body[bits.Outcome], error) {
		c, id, err := s.resolve(ctx, in.Job)
		if err != nil {
			return nil, err
		}
		dropped, err := s.q.Own(c, id)
		if err != nil {
			return nil, answer(err)
		}
		j, err := s.q.Get(c, id, false)
		if err != nil {
			return nil, answer(err)
		}
		return &Body[bits.Outcome]{bits.Outcome{Code: bits.OK.Name(), HResult: bits.OK.Hex(), Message: bits.OK.Message(), Dropped: dropped,
			Job: bits.Summary{ID: j.ID, Name: j.Name, State: j.State}}}, nil
	})
}

func reply[T any](v T, err error) (*Body[T], error) {
	if err != nil {
		return nil, answer(err)
	}
	return &Body[T]{v}, nil
}

func (s *server) resolve(ctx context.Context, ref string) (queue.Caller, bits.ID, error) {
	c := callerOf(ctx)
	id, err := s.q.Resolve(c, ref)
	if err != nil {
		return c, id, answer(err)
	}
	return c, id, nil
}

// fail writes an error answer of a streaming operation.
func fail(hc huma.Context, err error) {
	var p *problem
	if !errors.As(answer(err), &p) {
		return
	}
	hc.SetHeader("Content-Type", "application/problem+json")
	hc.SetStatus(p.Status)
	_ = json.NewEncoder(hc.BodyWriter()).Encode(p)
}

func (s *server) registerEvents(a huma.API) {
	type input struct {
		Job         []string `query:"job,explode" doc:"Only these jobs; all of the caller's otherwise"`
		AllUsers    bool     `query:"all_users" doc:"Jobs of all users; for administrators"`
		Progress    bool     `query:"progress" doc:"Progress of running jobs too, at most two events a second and job"`
		Kind        []string `query:"kind,explode" enum:"added,modified,state,transferred,error,file,ranges,note,removed,notify" doc:"Only events of these kinds, and those that progress asks for, and missed; all otherwise"`
		After       uint64   `query:"after" doc:"Go on after the event with this number; 0 for from now on"`
		LastEventID string   `header:"Last-Event-ID" doc:"The same, as browsers send it"`
	}
	huma.Register(a, huma.Operation{OperationID: "watchEvents", Method: "GET", Path: "/v1/events", Summary: "Stream events (text/event-stream; data are Event objects, ids their numbers)",
		Responses: map[string]*huma.Response{"200": {Description: "A stream of events. The header Ebb-Last-Event has the number after which it begins.",
			Content: map[string]*huma.MediaType{"text/event-stream": {Schema: schemaOf[bits.Event](a)}}}}},
		func(_ context.Context, in *input) (*huma.StreamResponse, error) {
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				ids, err := parseAll(in.Job, bits.ParseID)
				if err != nil {
					fail(hc, err)
					return
				}
				f := queue.Filter{Jobs: ids, AllUsers: in.AllUsers, Progress: in.Progress, After: in.After}
				for _, k := range in.Kind {
					f.Kinds = append(f.Kinds, bits.EventKind(k))
				}
				if n, err := strconv.ParseUint(in.LastEventID, 10, 64); err == nil && f.After == 0 {
					f.After = n
				}
				if f.After == 0 {
					f.After = s.q.LastEvent()
				}
				caller := callerOf(hc.Context())
				if f.AllUsers && !caller.Admin() {
					fail(hc, &bits.Error{Code: bits.AccessDenied, Message: "only an administrator sees the events of all users"})
					return
				}
				hc.SetHeader("Content-Type", "text/event-stream")
				hc.SetHeader("Cache-Control", "no-store")
				hc.SetHeader("Ebb-Last-Event", strconv.FormatUint(f.After, 10))
				w := hc.BodyWriter()
				flush := func() {
					if fl, ok := w.(http.Flusher); ok {
						fl.Flush()
					}
				}
				flush()
				var text bytes.Buffer
				_ = s.q.Watch(hc.Context(), caller, f, func(events []bits.Event) error {
					text.Reset()
					for i := range events {
						e := &events[i]
						data, err := json.Marshal(e)
						if err != nil {
							return err
						}
						if e.Seq > 0 {
							fmt.Fprintf(&text, "id: %d\n", e.Seq)
						}
						fmt.Fprintf(&text, "event: %s\ndata: %s\n\n", e.Kind, data)
					}
					_, err := w.Write(text.Bytes())
					flush()
					if text.Cap() > 64<<10 { // after a burst: the stream may be quiet for days
						text = bytes.Buffer{}
					}
					return err
				})
			}}, nil
		})
}

// parseAll parses a parameter that may be given several times.
func parseAll[T any](texts []string, parse func(string) (T, error)) ([]T, error) {
	var out []T
	for _, s := range texts {
		v, err := parse(s)
		if err != nil {
			return nil, &bits.Error{Code: bits.InvalidArg, Context: bits.ContextGeneralQueueManager, Message: err.Error()}
		}
		out = append(out, v)
	}
	return out, nil
}

func schemaOf[T any](a huma.API) *huma.Schema {
	return a.OpenAPI().Components.Schemas.Schema(typeOf[T](), true, "")
}
