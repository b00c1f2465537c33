package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ebbtransfer/ebb/bits"
)

// registerCertificates adds the calls for the certificates that jobs show (client.md 1.9), and for
// those of servers that the jobs' owners judge.
func (s *server) registerCertificates(a huma.API) {
	const path = "/v1/jobs/{job}/certificate"
	huma.Register(a, huma.Operation{OperationID: "getCertificate", Method: "GET", Path: path, Summary: "Tell which client certificate a job has; RPC_X_BAD_STUB_DATA if it has none. The key is never shown", Errors: []int{404, 409, 422}},
		func(ctx context.Context, in *JobPath) (*Body[bits.ClientCertificate], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			shown, err := s.q.Certificate(c, id)
			if err != nil {
				return nil, answer(err)
			}
			return &Body[bits.ClientCertificate]{*shown}, nil
		})
	huma.Register(a, huma.Operation{OperationID: "setCertificate", Method: "PUT", Path: path, Summary: "Give a job a certificate, with its key, for servers that ask for one, in the place of the one that it had. The owner's only",
		MaxBodyBytes: 128 << 10, SkipValidateBody: true, Errors: []int{403, 404, 409, 422}},
		func(ctx context.Context, in *struct {
			JobPath
			Body bits.ClientCertificateFile
		}) (*Body[bits.ClientCertificate], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			shown, err := s.q.SetCertificate(c, id, in.Body)
			if err != nil {
				return nil, answer(err)
			}
			return &Body[bits.ClientCertificate]{*shown}, nil
		})
	huma.Register(a, huma.Operation{OperationID: "removeCertificate", Method: "DELETE", Path: path, Summary: "Take the client certificate from a job; S_FALSE if it had none. The owner's only", Errors: []int{403, 404, 409}},
		func(ctx context.Context, in *JobPath) (*Body[bits.Outcome], error) {
			return s.outcome(ctx, in.Job, s.q.RemoveCertificate)
		})

	type input struct {
		Job []string `query:"job,explode" doc:"Only of these jobs; of all of the caller's otherwise"`
	}
	huma.Register(a, huma.Operation{OperationID: "judgeCertificates", Method: "GET", Path: "/v1/certificates",
		Summary: "Ask for the questions whether servers are to be trusted, of jobs with verify_certificates, and stream them (text/event-stream). The first event is 'registered'; each 'question' that follows has a CertificateQuestion, and the transfer waits up to 60 seconds for its answer. Whoever asked last is asked; jobs that wait for an answer go on at once",
		Responses: map[string]*huma.Response{"200": {Description: "A stream of questions",
			Content: map[string]*huma.MediaType{"text/event-stream": {Schema: schemaOf[bits.CertificateQuestion](a)}}}}, Errors: []int{403, 404, 422}},
		func(ctx context.Context, in *input) (*huma.StreamResponse, error) {
			ids, err := s.resolveAll(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) { s.judge(hc, ids) }}, nil
		})
	huma.Register(a, huma.Operation{OperationID: "answerCertificate", Method: "POST", Path: "/v1/certificates/{question}", DefaultStatus: http.StatusNoContent,
		Summary: "Answer whether a server is to be trusted. A yes counts for the job, the server and the certificate until verify_certificates is set again or the service ends; a no puts the job into TRANSIENT_ERROR", Errors: []int{404, 422}},
		func(ctx context.Context, in *struct {
			Question uint64 `path:"question"`
			Body     bits.CertificateAnswer
		}) (*struct{}, error) {
			if err := s.q.AnswerCertificate(callerOf(ctx), in.Question, in.Body); err != nil {
				return nil, answer(err)
			}
			return nil, nil
		})
}

// judge streams questions to one program until it goes away.
func (s *server) judge(hc huma.Context, jobs []bits.ID) {
	w, err := s.q.Judge(callerOf(hc.Context()), jobs)
	if err != nil {
		fail(hc, err)
		return
	}
	defer w.Close()
	hc.SetHeader("Content-Type", "text/event-stream")
	hc.SetHeader("Cache-Control", "no-store")
	out := hc.BodyWriter()
	send := func(kind string, v any) bool {
		data, err := json.Marshal(v)
		if err == nil {
			_, err = fmt.Fprintf(out, "event: %s\ndata: %s\n\n", kind, data)
		}
		if fl, ok := out.(http.Flusher); ok {
			fl.Flush()
		}
		return err == nil
	}
	for ok := send("registered", struct{}{}); ok; {
		select {
		case question := <-w.Questions():
			ok = send("question", question)
		case <-hc.Context().Done():
			return
		case <-s.q.Closing():
			return
		}
	}
}
