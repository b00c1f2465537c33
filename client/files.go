package client

import (
	"context"
	"strconv"

	"github.com/ebbtransfer/ebb/bits"
)

// ChangeFile changes the file with an index (bits.File.Index): its URL, its mirrors, or whether it is
// skipped. The outcome's code is S_FALSE if nothing was to change.
func (j *Job) ChangeFile(ctx context.Context, index int, change bits.FileChange) (*bits.Outcome, error) {
	var o bits.Outcome
	return &o, j.m.call(ctx, "PATCH", j.path("/files/"+strconv.Itoa(index)), change, &o)
}

// SetRemoteName changes the URL of a file, also while it moves. What is here of it is kept if the new
// source has the same size and date.
func (j *Job) SetRemoteName(ctx context.Context, index int, url string) (*bits.Outcome, error) {
	return j.ChangeFile(ctx, index, bits.FileChange{Remote: &url})
}

// SkipFile leaves a file out of the job, so that the job is done without it, or takes it in again.
func (j *Job) SkipFile(ctx context.Context, index int, skip bool) (*bits.Outcome, error) {
	return j.ChangeFile(ctx, index, bits.FileChange{Skipped: &skip})
}

// RemoveFile takes a file out of the job and deletes what was fetched of it. The other files keep
// their indexes.
func (j *Job) RemoveFile(ctx context.Context, index int) error {
	var o bits.Outcome
	return j.m.call(ctx, "DELETE", j.path("/files/"+strconv.Itoa(index)), nil, &o)
}

// ReplaceRemotePrefix replaces the beginning of the URLs of all files of the job that begin with old.
// The outcome's code is S_FALSE if none does.
func (j *Job) ReplaceRemotePrefix(ctx context.Context, old, new string) (*bits.Outcome, error) {
	var o bits.Outcome
	return &o, j.m.call(ctx, "POST", j.path("/replace-prefix"), bits.PrefixChange{Old: old, New: new}, &o)
}

// Explain says in sentences why the job does not move, or how it moves, and what would change that.
func (j *Job) Explain(ctx context.Context) (*bits.Explanation, error) {
	var e bits.Explanation
	return &e, j.m.call(ctx, "GET", j.path("/explain"), nil, &e)
}
