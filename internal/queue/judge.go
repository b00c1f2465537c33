package queue

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
)

// judges are the programs that say which servers the owners of jobs trust (client.md 1.9).
type judges struct {
	mu   sync.Mutex
	all  []*Judge
	open map[uint64]*question
	last uint64 // number of a question
}

// mostJudges is how many programs of one user may answer at once.
const mostJudges = 64

// Judge is a program that answers whether servers are trusted: for some jobs, or for all of a user's.
// Of several the last that named the job is asked, else the last that named none.
type Judge struct {
	q         *Queue
	caller    Caller
	jobs      []bits.ID
	questions chan bits.CertificateQuestion
	gone      chan struct{}
	once      sync.Once
}

// question is one that is not answered yet. All connections of a job that need its answer wait.
type question struct {
	job  *job
	key  string
	done chan struct{} // closed when err is set
	err  error
}

// Judge asks for the questions about certificates of jobs, or of all jobs of the caller if none are
// named. Jobs that wait for a program that answers go on.
func (q *Queue) Judge(c Caller, jobs []bits.ID) (*Judge, error) {
	w := &Judge{q: q, caller: c, jobs: jobs, questions: make(chan bits.CertificateQuestion), gone: make(chan struct{})}
	q.judges.mu.Lock()
	own := 0
	for _, other := range q.judges.all {
		if other.caller.UID == c.UID {
			own++
		}
	}
	if own >= mostJudges {
		q.judges.mu.Unlock()
		return nil, denied("too many programs of the user answer for certificates")
	}
	q.judges.all = append(q.judges.all, w)
	q.judges.mu.Unlock()
	go q.post(func(t *tx) error {
		for _, j := range q.troubled {
			v := t.get(j)
			if e := v.detail().Error; v.rec.State == bits.TransientError && e != nil && e.Code == bits.ServerCertAnswerRequired && w.covers(j, v) {
				t.setState(j, bits.Queued)
			}
		}
		return nil
	})
	return w, nil
}

// Questions are what the program is to answer; it is never closed.
func (w *Judge) Questions() <-chan bits.CertificateQuestion { return w.questions }

// Close says that the program answers no more.
func (w *Judge) Close() {
	w.q.judges.mu.Lock()
	w.q.judges.all = slices.DeleteFunc(w.q.judges.all, func(o *Judge) bool { return o == w })
	w.q.judges.mu.Unlock()
	w.once.Do(func() { close(w.gone) })
}

// covers reports whether the program answers for a job.
func (w *Judge) covers(j *job, v *version) bool {
	if len(w.jobs) == 0 {
		return w.caller.UID == v.rec.UID
	}
	return w.caller.Changes(v.rec.UID) && slices.Contains(w.jobs, j.id)
}

// judgeOf returns the program that is asked for a job; nil for none. judges.mu is held.
func (q *Queue) judgeOf(j *job, v *version) *Judge {
	var all *Judge
	for _, w := range slices.Backward(q.judges.all) {
		switch {
		case !w.covers(j, v):
		case len(w.jobs) > 0:
			return w
		case all == nil:
			all = w
		}
	}
	return all
}

// verify asks the program of a job's owner about a server. What it trusts is not asked again as long
// as the service runs and the job's verify_certificates is not set again.
func (q *Queue) verify(ctx context.Context, id bits.ID, s httpconn.Server) error {
	q.mu.RLock()
	j := q.byID[id]
	q.mu.RUnlock()
	if j == nil {
		return noSuchJob(id.String())
	}
	sum := sha256.Sum256(s.Chain[0])
	key := s.Addr + " " + string(sum[:])
	q.judges.mu.Lock()
	if j.trusted[key] {
		q.judges.mu.Unlock()
		return nil
	}
	ask := q.ask(j, key, s)
	q.judges.mu.Unlock()
	select {
	case <-ask.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	var e *bits.Error
	if !errors.As(ask.err, &e) {
		return ask.err // nil
	}
	mine := *e
	mine.File = s.URL
	return &mine
}

// ask returns the question about a server, which may have been asked already; judges.mu is held.
func (q *Queue) ask(j *job, key string, s httpconn.Server) *question {
	for _, o := range q.judges.open {
		if o.job == j && o.key == key {
			return o
		}
	}
	o := &question{job: j, key: key, done: make(chan struct{})}
	if q.judges.open == nil {
		q.judges.open = map[uint64]*question{}
	}
	q.judges.last++
	n := q.judges.last
	q.judges.open[n] = o
	q.mu.RLock()
	v := j.now
	q.mu.RUnlock()
	w := q.judgeOf(j, v)
	if w == nil {
		q.judges.settle(n, unanswered("no program answers for the job's owner whether the server's certificate is to be trusted"))
		return o
	}
	go q.put(w, n, o, bits.CertificateQuestion{ID: n, Job: j.id, URL: bits.RedactURL(s.URL), Addr: s.Addr, Chain: s.Chain})
	return o
}

// put brings a question to a program and waits for its end.
func (q *Queue) put(w *Judge, n uint64, o *question, text bits.CertificateQuestion) {
	late := time.NewTimer(httpconn.VerifyTime)
	defer late.Stop()
	why := "the program that was asked whether the server's certificate is to be trusted did not answer in time"
	to := w.questions
	for end := false; !end; {
		select {
		case to <- text:
			to = nil
			continue
		case <-o.done:
			return
		case <-w.gone:
			why = "the program that was asked whether the server's certificate is to be trusted went away"
		case <-late.C:
		case <-q.quit:
		}
		end = true
	}
	q.judges.mu.Lock()
	defer q.judges.mu.Unlock()
	q.judges.settle(n, unanswered(why))
}

func unanswered(why string) *bits.Error {
	return &bits.Error{Code: bits.ServerCertAnswerRequired, Context: bits.ContextServerCertificateCallback, Message: why}
}

// settle ends a question; mu is held.
func (s *judges) settle(n uint64, e *bits.Error) {
	o := s.open[n]
	if o == nil {
		return
	}
	delete(s.open, n)
	if e != nil {
		o.err = e
	} else {
		if o.job.trusted == nil {
			o.job.trusted = map[string]bool{}
		}
		o.job.trusted[o.key] = true
	}
	close(o.done)
}

// forget drops what a job's owner trusts. Questions that are open are for what was set before.
func (s *judges) forget(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.trusted = nil
	for n, o := range s.open {
		if o.job == j {
			s.settle(n, unanswered("the job's verify_certificates was set again"))
		}
	}
}

// AnswerCertificate answers a question. An answer that comes too late, or twice, changes nothing and
// is NotFound.
func (q *Queue) AnswerCertificate(c Caller, n uint64, a bits.CertificateAnswer) error {
	code := cmp.Or(a.Code, bits.AccessDenied)
	if !a.Trusted && !code.Failed() {
		return bits.Errorf(bits.InvalidArg, "the code of a refusal is that of an error, not %s", code)
	}
	q.judges.mu.Lock()
	defer q.judges.mu.Unlock()
	o := q.judges.open[n]
	q.mu.RLock()
	known := o != nil && c.Changes(o.job.now.rec.UID)
	q.mu.RUnlock()
	if !known {
		return &bits.Error{Code: bits.NotFound, Context: bits.ContextServerCertificateCallback, Message: "there is no such question, or nobody waits for its answer any more"}
	}
	if a.Trusted {
		q.judges.settle(n, nil)
		return nil
	}
	addr, _, _ := strings.Cut(o.key, " ")
	why := "the program that was asked does not trust the certificate of " + addr
	if reason := strings.ToValidUTF8(a.Reason, ""); reason != "" {
		why += ": " + reason
	}
	q.judges.settle(n, &bits.Error{Code: code, Context: bits.ContextServerCertificateCallback, Message: why})
	return nil
}

// Closing is closed when the service ends.
func (q *Queue) Closing() <-chan struct{} { return q.quit }
