package client

import (
	"context"
	"strconv"

	"github.com/ebbtransfer/ebb/bits"
)

// File returns all that is known of the file with an index, which counts from 0: which parts of it are here
// (GetFilledFileRanges), its temporary name, whether its content was found right, and the header of
// the server's last answer.
func (j *Job) File(ctx context.Context, index int) (*bits.FileDetail, error) {
	var f bits.FileDetail
	return &f, j.m.call(ctx, "GET", j.file(index, ""), nil, &f)
}

func (j *Job) file(index int, rest string) string {
	return j.path("/files/" + strconv.Itoa(index) + rest)
}

// RequestFileRanges has parts of a file fetched before all others. They count bytes of the file here
// and may overlap what is here, and each other. A job with OnDemand fetches nothing else; it is
// SUSPENDED when all that was asked for is here, and goes on with the next request. The events of
// kind bits.EventRanges tell what came; File tells what is here.
func (j *Job) RequestFileRanges(ctx context.Context, index int, ranges ...bits.Range) error {
	var s bits.Summary
	return j.m.call(ctx, "POST", j.file(index, "/ranges"), ranges, &s)
}

// UpdateDownloadPosition has what is missing at and after an offset of a file fetched first from now on.
func (j *Job) UpdateDownloadPosition(ctx context.Context, index int, offset int64) error {
	var s bits.Summary
	return j.m.call(ctx, "PUT", j.file(index, "/position"), map[string]int64{"offset": offset}, &s)
}

// SetValidationState says whether the content of a file that is transferred is right. If it is not the
// job becomes ERROR with bits.ValidationFailed, and Resume fetches the file again; but what came from peers
// is fetched again at once, from its server. Of a file that is not transferred yet the error is bits.Pending.
func (j *Job) SetValidationState(ctx context.Context, index int, right bool) error {
	var s bits.Summary
	return j.m.call(ctx, "PUT", j.file(index, "/validated"), map[string]bool{"validated": right}, &s)
}
