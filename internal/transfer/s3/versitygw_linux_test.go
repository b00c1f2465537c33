package s3

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/put"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
	"github.com/ebbtransfer/ebb/test/servers"
)

// environment names an endpoint as AWS's tools want it.
func environment(t *testing.T, endpoint, key, secret string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_S3": endpoint, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
}

// gateway starts an S3 server with a bucket and returns the bucket's directory.
func gateway(t *testing.T) (*servers.Server, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bucket"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := servers.VersityGW(dir, servers.Options{})
	if errors.Is(err, servers.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	environment(t, s.URL, servers.S3AccessKey, servers.S3SecretKey)
	return s, filepath.Join(dir, "bucket")
}

func same(t *testing.T, name string, data []byte) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("the store has %d bytes (%v) that are not the file's %d", len(got), err, len(data))
	}
}

func TestUpload(t *testing.T) {
	_, dir := gateway(t)
	c := New(uploadtest.Client())
	for _, class := range []governor.Class{governor.Foreground, governor.Background} {
		for _, n := range []int{0, 1, wholeSize, wholeSize + 1, 40<<20 + 7} {
			data := uploadtest.Bytes(n, byte(n))
			task := uploadtest.New(t, "s3://bucket/some/", uploadtest.NewSource("ä b.txt", data))
			task.Class = class
			task.Header.Set("X-Amz-Meta-Colour", "red")
			if err := c.Upload(t.Context(), task.Task); err != nil {
				t.Fatal(err)
			}
			same(t, filepath.Join(dir, "some", "ä b.txt"), data)
			if s := task.State; !s.Done || s.Offset != int64(n) || s.Protocol != bits.ProtocolS3 || s.URL != "s3://bucket/some/%C3%A4%20b.txt" {
				t.Errorf("state %+v", s)
			}
			if task.MostSent() != int64(n) {
				t.Errorf("told of %d bytes, want %d", task.MostSent(), n)
			}
			o, err := c.open(t.Context(), task.Task)
			if err != nil {
				t.Fatal(err)
			}
			head, err := o.api.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &o.bucket, Key: &o.key})
			if err != nil || head.Metadata["colour"] != "red" || *head.ContentType != "text/plain; charset=utf-8" {
				t.Errorf("%v, %+v", err, head)
			}
		}
	}
}

// count returns how many parts the store has of a task's upload, and whether there is one.
func count(t *testing.T, c *Client, task *upload.Task) (int, bool) {
	t.Helper()
	o, err := c.open(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	out, err := o.api.ListParts(t.Context(), &s3.ListPartsInput{Bucket: &o.bucket, Key: &o.key, UploadId: &task.State.ID})
	if err != nil {
		return 0, false
	}
	return len(out.Parts), true
}

func TestResumeAfterARestart(t *testing.T) {
	_, dir := gateway(t)
	data := uploadtest.Bytes(32<<20, 1)
	src := uploadtest.NewSource("f", data)
	src.Fail = func(off int64) error {
		if off >= 3*leastPart {
			return bits.Errorf(bits.DiskIO, "the disk")
		}
		return nil
	}
	task := uploadtest.New(t, "s3://bucket/f", src)
	task.Class = governor.Background
	c := New(uploadtest.Client())
	if err := c.Upload(t.Context(), task.Task); !errors.Is(err, &bits.Error{Code: bits.DiskIO}) {
		t.Fatalf("error %v", err)
	}
	if n, ok := count(t, c, task.Task); n != 3 || !ok {
		t.Fatalf("%d parts, want 3", n)
	}
	task.Restart()
	read := 0
	src.Fail = func(off int64) error {
		if off < 3*leastPart {
			read++
		}
		return nil
	}
	if err := c.Upload(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join(dir, "f"), data)
	if read > 0 {
		t.Errorf("what the store had was read %d times", read)
	}
}

func TestCancel(t *testing.T) {
	_, _ = gateway(t)
	src := uploadtest.NewSource("f", uploadtest.Bytes(32<<20, 1))
	src.Fail = func(off int64) error {
		if off >= 20<<20 {
			return bits.Errorf(bits.LocalFileChanged, "it changed")
		}
		return nil
	}
	task := uploadtest.New(t, "s3://bucket/f", src)
	c := New(uploadtest.Client())
	if err := c.Upload(t.Context(), task.Task); !errors.Is(err, &bits.Error{Code: bits.LocalFileChanged}) {
		t.Fatalf("error %v", err)
	}
	task.Source = nil // as after a restart
	if err := c.Cancel(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	if _, ok := count(t, c, task.Task); ok {
		t.Error("the store still has the upload")
	}
	if err := c.Cancel(t.Context(), task.Task); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// TestTheUploadIsGone: it expired, or somebody cleaned up.
func TestTheUploadIsGone(t *testing.T) {
	_, dir := gateway(t)
	data := uploadtest.Bytes(20<<20, 2)
	task := uploadtest.New(t, "s3://bucket/f", uploadtest.NewSource("f", data))
	task.State = upload.State{Protocol: upload.S3, ID: "no-such-upload", Fragment: leastPart, Offset: leastPart}
	if err := New(uploadtest.Client()).Upload(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join(dir, "f"), data)
}

// TestTheLastAnswerIsLost: the object was made, but the service was killed before it heard of it.
func TestTheLastAnswerIsLost(t *testing.T) {
	_, dir := gateway(t)
	data := uploadtest.Bytes(20<<20, 3)
	src := uploadtest.NewSource("f", data)
	task := uploadtest.New(t, "s3://bucket/f", src)
	c := New(uploadtest.Client())
	if err := c.Upload(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	saved := task.Saved()
	task.State = saved[len(saved)-2]
	if task.State.Done || len(task.State.Parts) != 1 {
		t.Fatalf("state %+v", task.State)
	}
	src.Fail = func(int64) error { return errors.New("nothing is to be sent again") }
	if err := c.Upload(t.Context(), task.Task); err != nil || !task.State.Done {
		t.Errorf("%v, state %+v", err, task.State)
	}
	same(t, filepath.Join(dir, "f"), data)
}

func TestBrokenConnections(t *testing.T) {
	s, dir := gateway(t)
	for seed := range uint64(2) {
		data := uploadtest.Bytes(24<<20, byte(seed))
		proxy := uploadtest.NewProxy(t, s.URL, 10, 12<<20, seed)
		t.Setenv("AWS_ENDPOINT_URL_S3", proxy.URL)
		task := uploadtest.New(t, "s3://bucket/f", uploadtest.NewSource("f", data))
		if seed%2 == 1 {
			task.Class = governor.Background
		}
		if err := task.Patiently(t.Context(), New(uploadtest.Client()), 30); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		same(t, filepath.Join(dir, "f"), data)
	}
}

func TestWrongCredentialsAndPlaces(t *testing.T) {
	s, _ := gateway(t)
	task := uploadtest.New(t, "s3://none/f", uploadtest.NewSource("f", uploadtest.Bytes(10<<20, 1)))
	err := New(uploadtest.Client()).Upload(t.Context(), task.Task)
	if !errors.Is(err, &bits.Error{Code: bits.HTTPStatus(http.StatusNotFound)}) || apiCode(err) != "NoSuchBucket" {
		t.Errorf("no bucket: %v", err)
	}
	environment(t, s.URL, servers.S3AccessKey, "wrong")
	task = uploadtest.New(t, "s3://bucket/f", uploadtest.NewSource("f", []byte("x")))
	err = New(uploadtest.Client()).Upload(t.Context(), task.Task)
	if !errors.Is(err, &bits.Error{Code: bits.HTTPStatus(http.StatusForbidden)}) {
		t.Errorf("wrong key: %v", err)
	}
	environment(t, s.URL, "", "")
	err = New(uploadtest.Client()).Upload(t.Context(), task.Task)
	if !errors.Is(err, &bits.Error{Code: bits.AccessDenied}) {
		t.Errorf("no key: %v", err)
	}
}

// TestPresigned: a URL that somebody signed needs no credentials, and is put to.
func TestPresigned(t *testing.T) {
	_, dir := gateway(t)
	data := uploadtest.Bytes(3<<20, 1)
	task := uploadtest.New(t, "s3://bucket/f", uploadtest.NewSource("f", data))
	o, err := New(uploadtest.Client()).open(t.Context(), task.Task)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s3.NewPresignClient(o.api).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: &o.bucket, Key: &o.key})
	if err != nil {
		t.Fatal(err)
	}
	task.URL = signed.URL
	if err := put.New(uploadtest.Client()).Upload(t.Context(), task.Task); err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join(dir, "f"), data)
}
