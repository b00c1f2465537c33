package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/queue"
)

// FilePath names a file of a job in a path. It is exported for huma, which needs that.
type FilePath struct {
	JobPath
	Index int `path:"index" minimum:"0" doc:"The file's number in the job, as in its index"`
}

// registerFiles registers what is done to single files of a job.
func (s *server) registerFiles(a huma.API) {
	huma.Register(a, huma.Operation{OperationID: "changeFile", Method: "PATCH", Path: "/v1/jobs/{job}/files/{index}", Summary: "Change a file of a job, in any state that is not final and also while it moves: its URL (BITS's SetRemoteName), its mirrors, or whether it is skipped. S_FALSE if nothing was to change", SkipValidateBody: true, Errors: []int{403, 404, 409, 422}},
		func(ctx context.Context, in *struct {
			FilePath
			Body bits.FileChange
		}) (*Body[bits.Outcome], error) {
			return s.outcome(ctx, in.Job, func(c queue.Caller, id bits.ID) (bits.Code, error) {
				return s.q.ChangeFile(c, id, in.Index, in.Body)
			})
		})
	huma.Register(a, huma.Operation{OperationID: "removeFile", Method: "DELETE", Path: "/v1/jobs/{job}/files/{index}", Summary: "Take a file out of a job and delete what was fetched of it; the numbers of the others stay. Downloads only", Errors: []int{403, 404, 409, 422}},
		func(ctx context.Context, in *FilePath) (*Body[bits.Outcome], error) {
			return s.outcome(ctx, in.Job, func(c queue.Caller, id bits.ID) (bits.Code, error) {
				return bits.OK, s.q.RemoveFile(c, id, in.Index)
			})
		})
	huma.Register(a, huma.Operation{OperationID: "replaceRemotePrefix", Method: "POST", Path: "/v1/jobs/{job}/replace-prefix", Summary: "Replace the beginning of the URLs of a job's files (BITS's ReplaceRemotePrefix); S_FALSE if none begins so", SkipValidateBody: true, Errors: []int{403, 404, 409, 422}},
		func(ctx context.Context, in *struct {
			JobPath
			Body bits.PrefixChange
		}) (*Body[bits.Outcome], error) {
			return s.outcome(ctx, in.Job, func(c queue.Caller, id bits.ID) (bits.Code, error) {
				return s.q.ReplacePrefix(c, id, in.Body)
			})
		})
}

// registerExplain registers the explanation of what a job waits for.
func (s *server) registerExplain(a huma.API) {
	huma.Register(a, huma.Operation{OperationID: "explainJob", Method: "GET", Path: "/v1/jobs/{job}/explain", Summary: "Say in sentences why a job does not move and what would make it", Errors: []int{404, 409}},
		func(ctx context.Context, in *JobPath) (*Body[bits.Explanation], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			return reply(s.q.Explain(c, id))
		})
}

// outcome does something to a job and tells how that went, and the job's state after it.
func (s *server) outcome(ctx context.Context, ref string, do func(queue.Caller, bits.ID) (bits.Code, error)) (*Body[bits.Outcome], error) {
	c, id, err := s.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	code, err := do(c, id)
	if err != nil {
		return nil, answer(err)
	}
	j, err := s.q.Get(c, id, false)
	if err != nil {
		return nil, answer(err)
	}
	return &Body[bits.Outcome]{bits.Outcome{Code: code.Name(), HResult: code.Hex(), Message: code.Message(), Job: bits.Summary{ID: j.ID, Name: j.Name, State: j.State}}}, nil
}
