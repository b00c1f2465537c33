package scenario

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/servers"
)

// started returns a server that runs, or skips the test where it is not installed.
func started(t *testing.T) func(*servers.Server, error) *servers.Server {
	return func(s *servers.Server, err error) *servers.Server {
		t.Helper()
		if errors.Is(err, servers.ErrNotInstalled) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
}

// put uploads a file by ebb put and returns the job's file.
func (s *service) put(args ...string) bits.File {
	s.t.Helper()
	var jobs []bits.Job
	s.cli(append([]string{"put", "--json"}, args...)...).want(s.t, 0).decode(s.t, &jobs)
	if len(jobs) != 1 || len(jobs[0].Files) != 1 {
		s.t.Fatalf("put made %+v", jobs)
	}
	return jobs[0].Files[0]
}

// hasFile reports as an error if a directory of a server does not hold one file with these bytes
// besides what ignored ends with, and locks.
func hasFile(t *testing.T, dir, ignored string, data []byte) {
	t.Helper()
	found := 0
	for _, name := range names(t, dir) {
		if ignored != "" && strings.HasSuffix(name, ignored) || strings.HasSuffix(name, ".lock") {
			continue
		}
		found++
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes (%v), want %d", name, len(got), err, len(data))
		}
	}
	if found != 1 {
		t.Errorf("%d files, want 1", found)
	}
}

func TestPutToAnIndependentTusServer(t *testing.T) {
	t.Parallel()
	for record, run := range map[string]func(string, servers.Options) (*servers.Server, error){".json": servers.Tus, ".info": servers.Tusd} {
		dir := t.TempDir()
		srv := started(t)(run(dir, servers.Options{}))
		s := start(t, options{})
		file, data := s.source("a.bin", 5*mib+1, 1)
		f := s.put(file, srv.URL+"/files/")
		if f.Protocol != bits.ProtocolTus || !strings.Contains(f.Note, "tus 1.0.0") {
			t.Errorf("uploaded by %q, note %q", f.Protocol, f.Note)
		}
		hasFile(t, dir, record, data)
	}
}

func TestPutToNginx(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := started(t)(servers.Nginx(dir, servers.Options{Uploads: true}))
	s := start(t, options{})
	file, data := s.source("a b.bin", 5*mib+1, 2)
	f := s.put(file, srv.URL+"/")
	if f.Protocol != bits.ProtocolPut || !strings.Contains(f.Note, "no protocol that can resume") {
		t.Errorf("uploaded by %q, note %q", f.Protocol, f.Note)
	}
	hasFile(t, dir, "", data)
	if got := names(t, dir); got[0] != "a b.bin" {
		t.Errorf("it has the name %q", got)
	}
}

func TestPutToABucket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bucket := filepath.Join(dir, "bucket")
	if err := os.Mkdir(bucket, 0o700); err != nil {
		t.Fatal(err)
	}
	srv := started(t)(servers.VersityGW(dir, servers.Options{}))
	s := start(t, options{env: []string{
		"AWS_ENDPOINT_URL_S3=" + srv.URL, "AWS_ACCESS_KEY_ID=" + servers.S3AccessKey, "AWS_SECRET_ACCESS_KEY=" + servers.S3SecretKey,
		"AWS_REGION=" + servers.S3Region,
	}})
	file, data := s.source("a.bin", 20*mib+1, 3)
	job := s.sends(bits.Upload, bits.Settings{Protocol: ptr(bits.ProtocolS3)}, "s3://bucket/some/", file)
	if f := s.settled(job, bits.Transferred).Files[0]; f.Protocol != bits.ProtocolS3 {
		t.Errorf("uploaded by %q", f.Protocol)
	}
	if d, err := job.File(s.ctx(), 0); err != nil || !strings.HasPrefix(d.ResponseHeaders, "HTTP/1.1 200 OK\r\n") || !strings.Contains(d.ResponseHeaders, "Server: VERSITYGW\r\n") {
		t.Errorf("the last answer is %q, %v", d.ResponseHeaders, err)
	}
	s.complete(job)
	hasFile(t, filepath.Join(bucket, "some"), "", data)
}

// TestPutIsKilled: an upload by tus goes on after kill -9 of the service where the server has it.
func TestPutIsKilled(t *testing.T) {
	t.Parallel()
	srv := startServing(t, "", "--uploads")
	s := start(t, options{})
	for _, protocol := range []bits.Protocol{bits.ProtocolTus, bits.ProtocolIETF} {
		file, data := s.source(string(protocol), 64*mib, 4)
		job := s.sends(bits.Upload, bits.Settings{Protocol: ptr(protocol)}, srv.url+"/"+string(protocol), file)
		s.moved(job, 1)
		s.kill9()
		s.up()
		info := s.settled(job, bits.Transferred)
		srv.isFile(string(protocol), string(data))
		if f := info.Files[0]; strings.Contains(f.Note, "started again") {
			t.Errorf("%s: %s", protocol, f.Note)
		}
		s.complete(job)
	}
}
