package scenario

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

const (
	faultSize = 3 * mib / 2
	faultCut  = 5 * mib / 4
)

// A fault is something wrong with a server, and what becomes of a job that meets it.
type fault struct {
	name     string
	script   []faultserver.Program // the first answers
	standing faultserver.Program   // and all others
	state    bits.State            // in which the job stops
	code     bits.Code             // with which, unless it is TRANSFERRED
	context  bits.Context
	again    int64 // bytes that a job which gets through may fetch twice
	empty    bool  // the file has no bytes
}

func faults() []fault {
	type program = faultserver.Program
	cut := func(how faultserver.CutKind) faultserver.Cut { return faultserver.Cut{How: how, After: faultCut} }
	from := func(r faultserver.RangeFault) program { return program{Range: r} }
	const (
		whole = bits.Transferred
		fatal = bits.Errored
		later = bits.TransientError

		remote    = bits.ContextRemoteFile
		transport = bits.ContextGeneralTransport
	)
	list := []fault{
		{name: "nothing is wrong", state: whole},
		{name: "an empty file", state: whole, empty: true},
		{name: "an empty file without ranges", standing: from(faultserver.RangeIgnored), state: whole, empty: true},
		{name: "a body that ends early", script: []program{{Cut: cut(faultserver.Close)}}, state: whole, again: 64 * kib},
		{name: "a reset", script: []program{{Cut: cut(faultserver.Reset)}}, state: whole, again: 64 * kib},
		{name: "a reset before the first byte", script: []program{{Cut: faultserver.Cut{How: faultserver.Reset}}}, state: whole},
		{name: "a stall", script: []program{{Cut: cut(faultserver.Stall)}}, state: whole, again: 64 * kib},
		{name: "an answer that first does not come", script: []program{{Silent: true}}, state: whole},
		{name: "a slow drip", standing: program{Drip: faultserver.Drip{Bytes: 32 * kib, Every: 30 * time.Millisecond}}, state: whole},
		{name: "a header that drips", standing: program{HeaderDrip: faultserver.Drip{Bytes: 20, Every: 50 * time.Millisecond}}, state: whole},
		{name: "news before the answer", standing: program{Informational: 3}, state: whole},
		{name: "a 200 in answer to the rest", script: []program{{Cut: cut(faultserver.Close)}, from(faultserver.RangeIgnored)}, state: whole, again: faultSize},
		{name: "no ranges, interrupted", script: []program{{Range: faultserver.RangeIgnored, Cut: cut(faultserver.Reset)}}, standing: from(faultserver.RangeIgnored), state: whole, again: faultSize},
		{name: "chunks", standing: program{Framing: faultserver.FramingChunked}, state: whole},
		{name: "chunks of unknown length", standing: program{Range: faultserver.RangeIgnored, Framing: faultserver.FramingChunked}, state: whole},
		{name: "chunks of unknown length, interrupted", script: []program{{Range: faultserver.RangeIgnored, Framing: faultserver.FramingChunked, Cut: cut(faultserver.Close)}}, state: whole, again: 64 * kib},
		{name: "HTTP/1.0 until the connection ends", standing: program{Range: faultserver.RangeIgnored, Framing: faultserver.FramingClose}, state: whole},
		{name: "HTTP/1.0 with ranges, interrupted", script: []program{{Framing: faultserver.FramingClose, Cut: cut(faultserver.Close)}}, state: whole, again: 64 * kib},
		{name: "half of what was asked for each time", standing: from(faultserver.RangeShort), state: whole},
		{name: "a range of a file of unknown size", standing: from(faultserver.RangeStarTotal), state: whole, again: faultSize},
		{name: "no range satisfies", standing: from(faultserver.RangeRefused), state: whole},
		{name: "no range satisfies, and no size", standing: from(faultserver.RangeRefusedBare), state: whole},
		{name: "another ETag each time, interrupted", script: []program{{ETag: faultserver.ETagToken, Cut: cut(faultserver.Close)}}, standing: program{ETag: faultserver.ETagToken}, state: whole, again: faultSize},
		{name: "a length that is too large, then the truth", script: []program{{Range: faultserver.RangeIgnored, ContentLength: []string{fmt.Sprint(faultSize + 1000)}}}, state: whole, again: faultSize},

		{name: "a range that starts later", standing: from(faultserver.RangeShifted), state: fatal, code: bits.InvalidServerResponse, context: remote},
		{name: "a range under a wrong label", standing: from(faultserver.RangeMislabelled), state: fatal, code: bits.InvalidServerResponse, context: remote},
		{name: "a range that cannot be read", standing: from(faultserver.RangeGarbage), state: fatal, code: bits.InvalidServerResponse, context: remote},
		{name: "a range without a label", standing: from(faultserver.RangeUnlabelled), state: fatal, code: bits.InvalidServerResponse, context: remote},
		{name: "a range in parts", standing: from(faultserver.RangeMultipart), state: fatal, code: bits.InvalidServerResponse, context: remote},
		{name: "a range with a wrong total", standing: from(faultserver.RangeWrongTotal), state: later, code: bits.RemoteFileChanged, context: remote},
		{name: "a rest under a wrong label", script: []program{{Cut: cut(faultserver.Close)}}, standing: from(faultserver.RangeMislabelled), state: fatal, code: bits.InvalidServerResponse, context: remote},
		{name: "compression that was not asked for", standing: program{Gzip: true}, state: fatal, code: bits.InvalidServerResponse, context: remote},
		{name: "a length that is too large", standing: program{Range: faultserver.RangeIgnored, ContentLength: []string{fmt.Sprint(faultSize + 1000)}}, state: later, code: bits.ConnectionError, context: transport},
		{name: "a length that is negative", standing: program{Range: faultserver.RangeIgnored, ContentLength: []string{"-1"}}, state: later, code: bits.InvalidServerAnswer, context: transport},
		{name: "two lengths", standing: program{Range: faultserver.RangeIgnored, ContentLength: []string{"1000", "2000"}}, state: later, code: bits.InvalidServerAnswer, context: transport},
		{name: "the largest length there is", standing: program{Range: faultserver.RangeIgnored, ContentLength: []string{"9223372036854775807"}}, state: later, code: bits.DiskFull, context: bits.ContextLocalFile},
		{name: "a length of a petabyte", standing: program{Range: faultserver.RangeIgnored, ContentLength: []string{"1125899906842624"}}, state: later, code: bits.DiskFull, context: bits.ContextLocalFile},
		{name: "a redirect in a circle", standing: program{Redirect: "?"}, state: fatal, code: bits.RedirectFailed, context: remote},
		{name: "too many redirects", standing: program{Redirect: "/elsewhere", Hops: 40}, state: fatal, code: bits.RedirectFailed, context: remote},
		{name: "a redirect to a local file", standing: program{Redirect: "file:///etc/passwd"}, state: fatal, code: bits.RedirectFailed, context: remote},
		{name: "a redirect to nonsense", standing: program{Redirect: "http://%zz/"}, state: fatal, code: bits.RedirectFailed, context: transport},
		{name: "garbage", standing: program{Garbage: "SSH-2.0-OpenSSH_9.2p1\r\n"}, state: later, code: bits.InvalidServerAnswer, context: transport},
		{name: "a huge header", standing: program{HeaderBytes: mib}, state: later, code: bits.InvalidServerAnswer, context: transport},
		{name: "no answer ever", standing: program{Silent: true}, state: later, code: bits.WinHTTPTimeout, context: transport},
		{name: "a reset each time", standing: program{Cut: faultserver.Cut{How: faultserver.Reset}}, state: later, code: bits.ConnectionError, context: transport},
	}
	for _, status := range []int{401, 403, 404, 410, 416, 451, 501, 505} {
		list = append(list, fault{name: fmt.Sprintf("status %d", status), standing: program{Status: status}, state: fatal, code: bits.HTTPStatus(status), context: remote})
	}
	for _, status := range []int{408, 409, 425, 429, 500, 502, 503, 504} {
		list = append(list, fault{name: fmt.Sprintf("status %d", status), standing: program{Status: status}, state: later, code: bits.HTTPStatus(status), context: remote})
	}
	return list
}

// TestFaults lets a job meet each fault, all of them at once. A job that stops goes on once
// the server is repaired and the job resumed.
func TestFaults(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{config: fastStall})
	list := faults()
	entries := make([]*faultserver.Entry, len(list))
	jobs := make([]*client.Job, len(list))
	began := time.Now()
	for i, f := range list {
		size := int64(faultSize)
		if f.empty {
			size = 0
		}
		entries[i] = srv.File(fmt.Sprintf("/%d", i), faultserver.File{Seed: uint64(i), Size: size})
		entries[i].Script(f.script...)
		entries[i].Set(func(p *faultserver.Program) { *p = f.standing })
		jobs[i] = s.create(fetched{name: f.name, files: []bits.FileSpec{s.file(entries[i].URL(), fmt.Sprint(i))}})
	}
	for i, f := range list {
		t.Run(f.name, func(t *testing.T) {
			s, path := s.in(t), fmt.Sprintf("/%d", i)
			if f.state == bits.Transferred {
				s.arrives(jobs[i], entries[i])
				if again := srv.Refetched(path); again > f.again {
					t.Errorf("%d bytes were fetched twice, want %d at most", again, f.again)
				}
				return
			}
			info := s.untilState(jobs[i], f.state)
			isError(t, info, f.code, f.context)
			if info.ErrorCount != 1 {
				t.Errorf("%d errors are counted", info.ErrorCount)
			}
			if f.state == bits.TransientError {
				if at := info.Times.RetryAt; at == nil || at.Before(began.Add(bits.DefaultMinimumRetryDelay)) {
					t.Errorf("the next attempt is at %v", at)
				}
			}
			for _, name := range names(t, s.dir) {
				if strings.Contains(name, fmt.Sprintf(".%d.", i)) && onDisk(t, filepath.Join(s.dir, name)) > 2*faultSize {
					t.Errorf("%s takes %d bytes on the disk", name, onDisk(t, filepath.Join(s.dir, name)))
				}
			}
			entries[i].Set(func(p *faultserver.Program) { *p = faultserver.Program{} })
			if err := jobs[i].Resume(s.ctx()); err != nil {
				t.Fatal(err)
			}
			s.arrives(jobs[i], entries[i])
		})
	}
	var want []string
	for i := range list {
		want = append(want, fmt.Sprint(i))
	}
	s.holds(want...)
}

func onDisk(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return blocksOf(st)
}

// TestServersThatCannotBeTrusted: nothing is ever fetched from them.
func TestServersThatCannotBeTrusted(t *testing.T) {
	t.Parallel()
	s := start(t, options{env: trusting(t), config: fastStall})
	plain := serve(t, faultserver.Options{})
	plain.File("/file", faultserver.File{Size: 1000})
	valid := serve(t, faultserver.Options{TLS: faultserver.Valid})
	valid.File("/file", faultserver.File{Size: 1000})
	valid.File("/down", faultserver.File{}).Set(func(p *faultserver.Program) { p.Redirect = plain.URL() + "/file" })
	valid.File("/over", faultserver.File{}).Set(func(p *faultserver.Program) { p.Redirect = valid.URLAt("localhost") + "/file" })
	with := func(c faultserver.Certificate) string {
		srv := serve(t, faultserver.Options{TLS: c})
		srv.File("/file", faultserver.File{Size: 1000})
		return srv.URL() + "/file"
	}
	for _, test := range []struct {
		name, url string
		state     bits.State
		code      bits.Code
		context   bits.Context
	}{
		{"a certificate that has expired", with(faultserver.Expired), bits.Errored, bits.CertDateInvalid, bits.ContextGeneralTransport},
		{"a certificate for another name", with(faultserver.WrongName), bits.Errored, bits.CertNameInvalid, bits.ContextGeneralTransport},
		{"a certificate of an unknown authority", with(faultserver.Untrusted), bits.Errored, bits.CertUntrusted, bits.ContextGeneralTransport},
		{"no TLS where there should be", strings.Replace(plain.URL(), "http:", "https:", 1) + "/file", bits.Errored, bits.SecureFailure, bits.ContextGeneralTransport},
		{"TLS where there should be none", strings.Replace(valid.URL(), "https:", "http:", 1) + "/file", bits.Errored, bits.HTTPStatus(400), bits.ContextRemoteFile},
		{"a redirect from https to http", valid.URL() + "/down", bits.Errored, bits.HTTPStatus(302), bits.ContextRemoteFile},
		{"a redirect from https to https", valid.URL() + "/over", bits.Transferred, 0, 0},
		{"nobody listens", "http://127.0.0.1:1/file", bits.TransientError, bits.CannotConnect, bits.ContextGeneralTransport},
		{"a name that does not exist", "http://ebb.invalid/file", bits.TransientError, bits.NameNotResolved, bits.ContextGeneralTransport},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			job := s.fetch(test.url, "file")
			info := s.untilState(job, test.state)
			if test.state != bits.Transferred {
				isError(t, info, test.code, test.context)
				if plain.Sent("/file") > 0 {
					t.Error("bytes were fetched")
				}
			}
			if _, err := job.Cancel(s.ctx()); err != nil {
				t.Fatal(err)
			}
			s.holds()
		})
	}
}

// TestRetryAfter: a server that names a time is not asked before it, unless the job's owner
// wants it.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	s := start(t, options{})
	soon := srv.File("/soon", faultserver.File{Seed: 1, Size: 1000})
	soon.Script(faultserver.Program{Status: http.StatusServiceUnavailable, RetryAfter: "7"})
	hour := srv.File("/hour", faultserver.File{Seed: 2, Size: 1000})
	hour.Script(faultserver.Program{Status: http.StatusTooManyRequests, RetryAfter: "3600"})
	date := srv.File("/date", faultserver.File{Seed: 3, Size: 1000})
	date.Script(faultserver.Program{Status: http.StatusServiceUnavailable, RetryAfter: time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat)})
	began := time.Now()
	waits := bits.Settings{MinimumRetryDelay: ptr(int64(5))}
	first := s.create(fetched{settings: waits, files: []bits.FileSpec{s.file(soon.URL(), "soon")}})
	for _, test := range []struct {
		e     *faultserver.Entry
		name  string
		after time.Duration
	}{{hour, "hour", time.Hour}, {date, "date", 2*time.Hour - time.Second}} {
		job := s.create(fetched{settings: waits, files: []bits.FileSpec{s.file(test.e.URL(), test.name)}})
		at := s.untilState(job, bits.TransientError).Times.RetryAt
		if at == nil || at.Before(began.Add(test.after)) || at.After(time.Now().Add(test.after+2*time.Second)) {
			t.Errorf("the next attempt is at %v, want in %v", at, test.after)
		}
		if err := job.Resume(s.ctx()); err != nil {
			t.Fatal(err)
		}
		s.arrives(job, test.e)
	}
	s.arrives(first, soon)
	if q := srv.RequestsFor("/soon"); len(q) != 2 || q[1].Time.Sub(q[0].Time) < 7*time.Second {
		t.Errorf("the server that asked for 7 s was asked again: %+v", q)
	}
}

func TestGetWaitsForADeadServer(t *testing.T) {
	t.Parallel()
	for _, deaf := range []bool{false, true} {
		t.Run(map[bool]string{false: "that refuses", true: "that does not answer"}[deaf], func(t *testing.T) {
			t.Parallel()
			srv := serve(t, faultserver.Options{SendBuffer: 64 * kib})
			s := start(t, options{config: fastStall})
			e := srv.File("/file", faultserver.File{Seed: 1, Size: 6 * mib})
			e.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: 5 * mib}})
			get := s.begin("get", e.URL())
			sent(t, srv, "/file", 5*mib)
			srv.SetDeaf(deaf)
			srv.Stop()
			if deaf {
				if err := srv.Start(); err != nil {
					t.Fatal(err)
				}
			}
			for j, err := range s.List(s.ctx(), client.ListOptions{}) {
				if err != nil {
					t.Fatal(err)
				}
				s.untilState(s.Job(j.ID), bits.TransientError)
			}
			srv.SetDeaf(false)
			srv.Stop()
			if err := srv.Start(); err != nil {
				t.Fatal(err)
			}
			get.end().want(t, 0)
			s.isWhole(filepath.Join(s.dir, "file"), e)
			s.holds("file")
			if again := srv.Refetched("/file"); again > 4*mib {
				t.Errorf("%d bytes were fetched twice", again)
			}
		})
	}
}
