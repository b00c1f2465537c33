package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ebbtransfer/ebb/bits"
)

// OneFile names a file of a job in a path. It is exported for huma, which needs that.
type OneFile struct {
	JobPath
	Index int `path:"index" minimum:"0" doc:"The file's number in the job, from 0"`
}

// registerRanges registers what is asked of single files, and of their parts.
func (s *server) registerRanges(a huma.API) {
	const path = "/v1/jobs/{job}/files/{index}"
	failures := []int{403, 404, 409, 422}
	huma.Register(a, huma.Operation{OperationID: "getFile", Method: "GET", Path: path, Summary: "Show all that is known of a file: which parts of it are here (BITS's GetFilledFileRanges), and the server's last response headers", Errors: []int{404, 409, 422}},
		func(ctx context.Context, in *OneFile) (*Body[bits.FileDetail], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			f, err := s.q.File(c, id, in.Index)
			return reply(f, err)
		})
	huma.Register(a, huma.Operation{OperationID: "requestRanges", Method: "POST", Path: path + "/ranges", Summary: "Have parts of a file fetched before all others (BITS's RequestFileRanges). A job with on_demand that is SUSPENDED because all that was asked for is here goes on", SkipValidateBody: true, Errors: failures},
		func(ctx context.Context, in *struct {
			OneFile
			Body []bits.Range
		}) (*Body[bits.Summary], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			sum, err := s.q.RequestRanges(c, id, in.Index, in.Body)
			return reply(sum, err)
		})
	huma.Register(a, huma.Operation{OperationID: "setPosition", Method: "PUT", Path: path + "/position", Summary: "Fetch what is missing at and after an offset of a file first from now on (BITS's UpdateDownloadPosition)", SkipValidateBody: true, Errors: failures},
		func(ctx context.Context, in *struct {
			OneFile
			Body struct {
				Offset int64 `json:"offset" doc:"Bytes from the beginning of the file here"`
			}
		}) (*Body[bits.Summary], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			sum, err := s.q.SetPosition(c, id, in.Index, in.Body.Offset)
			return reply(sum, err)
		})
	huma.Register(a, huma.Operation{OperationID: "setValidated", Method: "PUT", Path: path + "/validated", Summary: "Say whether the content of a file that is transferred is right (BITS's SetValidationState). If it is not, the job becomes ERROR, and Resume fetches the file again; what came from peers is fetched again at once, from its server", SkipValidateBody: true, Errors: failures},
		func(ctx context.Context, in *struct {
			OneFile
			Body struct {
				Validated bool `json:"validated"`
			}
		}) (*Body[bits.Summary], error) {
			c, id, err := s.resolve(ctx, in.Job)
			if err != nil {
				return nil, err
			}
			sum, err := s.q.SetValidated(c, id, in.Index, in.Body.Validated)
			return reply(sum, err)
		})
}
