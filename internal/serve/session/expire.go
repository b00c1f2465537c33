package session

import "time"

// What a published session is kept for is that its client did not get the last answer and asks again.
// Without it a client would begin the upload again, and hear that the target exists.
const (
	// finishedFor is how long it is kept at most: a machine that was off for days still asks.
	finishedFor = 7 * 24 * time.Hour
	// finishedLeast is how long it is kept in any case, and mostFinished how many are kept for longer:
	// those that were begun last.
	finishedLeast = time.Hour
	mostFinished  = 10_000
)

// finished says whether all that a client can still want of the session is its last answer.
func (i *Info) finished() bool { return i.Published && !i.Reply }

// Expires returns when the session ends if nobody goes on with it; timeout is how long one may be
// without progress.
func (i *Info) Expires(timeout time.Duration) time.Time {
	if i.finished() {
		timeout = min(timeout, finishedFor)
	}
	return i.Touched.Add(timeout)
}

// Expired returns the ids of those in a list, the oldest first, that a store removes for their age.
func Expired(list []Info, now time.Time, timeout time.Duration) map[string]bool {
	finished := 0
	for _, i := range list {
		if i.finished() {
			finished++
		}
	}
	expired := map[string]bool{}
	for _, i := range list {
		if !now.Before(i.Expires(timeout)) || finished > mostFinished && i.finished() && now.Sub(i.Touched) >= finishedLeast {
			expired[i.ID] = true
			if i.finished() {
				finished--
			}
		}
	}
	return expired
}
