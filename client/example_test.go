package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// The examples run against a real service, a web server with two files, a directory to put
// them in, and an `ebb serve` whose application counts the bytes of what is uploaded. A program uses client.New("") to find its user's service.
var socket, origin, target, dir string

func TestMain(m *testing.M) { os.Exit(withService(m)) }

func withService(m *testing.M) int {
	var err error
	if dir, err = os.MkdirTemp("", "ebb-client-"); err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(dir)
	ebb := filepath.Join(dir, "ebb")
	if out, err := exec.Command("go", "build", "-o", ebb, "../cmd/ebb").CombinedOutput(); err != nil {
		log.Printf("build ebb: %v\n%s", err, out)
		return 1
	}
	files := http.FileServerFS(os.DirFS(dir))
	server := httptest.NewServer(http.StripPrefix("/files/", files))
	defer server.Close()
	origin = server.URL + "/files/"
	for name, text := range map[string]string{"hello.txt": "hello\n", "world.txt": "world\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			log.Print(err)
			return 1
		}
	}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d bytes", n)
	}))
	defer app.Close()
	stop, err := takeUploads(ebb, app.URL)
	if err != nil {
		log.Print(err)
		return 1
	}
	defer stop()
	socket = filepath.Join(dir, "s")
	daemon := exec.Command(ebb, "daemon", "--socket", socket, "--state", filepath.Join(dir, "state"))
	if err := daemon.Start(); err != nil {
		log.Print(err)
		return 1
	}
	defer func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	manager := client.New(socket)
	defer manager.Close()
	for {
		_, err := manager.Service(ctx)
		if err == nil {
			return m.Run()
		}
		if ctx.Err() != nil {
			log.Printf("the service does not answer: %v", err)
			return 1
		}
		time.Sleep(10 * time.Millisecond) // nothing tells when a socket appears
	}
}

// takeUploads starts a server for uploads, and sets target to its URL.
func takeUploads(ebb, app string) (stop func(), err error) {
	in := filepath.Join(dir, "in")
	if err := os.Mkdir(in, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "serve.toml")
	text := fmt.Sprintf("listen = [\"127.0.0.1:0\"]\n[[group]]\npath = \"/\"\ndir = %q\n[group.uploads]\nnotify = \"by-value\"\nnotify_url = %q\n", in, app)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	server := exec.Command(ebb, "serve", "--json", "--config", config, "--state", filepath.Join(dir, "serve"), "--socket", filepath.Join(dir, "t"))
	out, err := server.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := server.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	}
	var started struct{ URLs []string }
	if err := json.NewDecoder(out).Decode(&started); err != nil {
		stop()
		return nil, fmt.Errorf("the server for uploads did not start: %w", err)
	}
	target = started.URLs[0] + "/"
	return stop, nil
}

// show prints a file's content.
func show(name string) {
	b, err := os.ReadFile(name)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s", filepath.Base(name), b)
}

// Transfer is all that most programs need: it returns when the file is in its place.
func ExampleManager_Transfer() {
	ctx := context.Background()
	m := client.New(socket)
	defer m.Close()
	name, foreground := "greeting", bits.Foreground
	local := filepath.Join(dir, "copy.txt")
	job, err := m.Transfer(ctx, bits.NewJob{
		Settings: bits.Settings{Name: &name, Priority: &foreground},
		Files:    []bits.FileSpec{{Remote: origin + "hello.txt", Local: local}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(job.State, job.Progress.BytesTransferred)
	show(local)
	// Output:
	// ACKNOWLEDGED 6
	// copy.txt: hello
}

// An upload is a job of another type. The server may be one of BITS's, which the protocol bits
// is for; with auto it is asked what it speaks.
func ExampleManager_Transfer_upload() {
	m := client.New(socket)
	defer m.Close()
	name, protocol := "report", bits.ProtocolAuto
	job, err := m.Transfer(context.Background(), bits.NewJob{
		Type:     bits.Upload,
		Settings: bits.Settings{Name: &name, Protocol: &protocol},
		Files:    []bits.FileSpec{{Remote: target + "report.txt", Local: filepath.Join(dir, "hello.txt")}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(job.State, job.Files[0].Completed, job.Progress.BytesTransferred)
	// Output: ACKNOWLEDGED true 6
}

// The application behind a server answers to the file of an UPLOAD_REPLY job.
func ExampleJob_ReplyData() {
	ctx := context.Background()
	m := client.New(socket)
	defer m.Close()
	name := "order"
	job, err := m.Create(ctx, bits.NewJob{
		Type:     bits.UploadReply,
		Settings: bits.Settings{Name: &name},
		Files:    []bits.FileSpec{{Remote: target + "order.txt", Local: filepath.Join(dir, "world.txt")}},
		Resume:   true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err = job.Wait(ctx); err != nil {
		fmt.Println(err)
		return
	}
	answer, err := job.ReplyData(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", answer)
	// The answer is also put in a file, unless the job is cancelled instead.
	_, err = job.Cancel(ctx)
	fmt.Println(err)
	// Output:
	// 6 bytes
	// <nil>
}

// An error carries BITS's code.
func ExampleManager_Transfer_error() {
	m := client.New(socket)
	defer m.Close()
	name := "nothing there"
	_, err := m.Transfer(context.Background(), bits.NewJob{
		Settings: bits.Settings{Name: &name},
		Files:    []bits.FileSpec{{Remote: origin + "missing.txt", Local: filepath.Join(dir, "missing.txt")}},
	})
	var e *bits.Error
	if errors.As(err, &e) {
		fmt.Println(e.Code, e.Context, e.Sentence())
	}
	_, err = os.Stat(filepath.Join(dir, "missing.txt"))
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// BG_E_HTTP_ERROR_404 0x80190194 REMOTE_FILE the server answered 404 Not Found
	// true
}

// A Manager makes jobs, finds them and lists them.
func ExampleManager() {
	ctx := context.Background()
	m := client.New(socket)
	defer m.Close()
	for _, name := range []string{"nightly", "weekly"} {
		if _, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: &name}}); err != nil {
			fmt.Println(err)
			return
		}
	}
	for job, err := range m.List(ctx, client.ListOptions{}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(job.Name, job.Type, job.Priority, job.State)
	}
	for _, ref := range []string{"nightly", "weekly"} {
		job, err := m.Find(ctx, ref)
		if err == nil {
			_, err = job.Cancel(ctx)
		}
		if err != nil {
			fmt.Println(err)
		}
	}
	_, err := m.Find(ctx, "monthly")
	fmt.Println(errors.Is(err, &bits.Error{Code: bits.NotFound}))
	// Output:
	// nightly DOWNLOAD NORMAL SUSPENDED
	// weekly DOWNLOAD NORMAL SUSPENDED
	// true
}

// Paths tells why background jobs move as fast as they do, such as to hold back work that would
// make a busy link busier.
func ExampleManager_Paths() {
	m := client.New(socket)
	defer m.Close()
	paths, err := m.Paths(context.Background())
	busy := 0
	for _, p := range paths {
		if p.State == bits.PaceYielding {
			fmt.Printf("%s: %s\n", p.Name, p.Why)
			busy++
		}
	}
	fmt.Println(busy, "busy paths", err)
	// Output:
	// 0 busy paths <nil>
}

// A Job is filled, started, waited for and completed. The handle stays readable afterwards.
func ExampleJob() {
	ctx := context.Background()
	m := client.New(socket)
	defer m.Close()
	name, delay := "two files", int64(60)
	job, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: &name, MinimumRetryDelay: &delay}})
	if err != nil {
		fmt.Println(err)
		return
	}
	hello, world := filepath.Join(dir, "a.txt"), filepath.Join(dir, "b.txt")
	err = errors.Join(
		job.AddFiles(ctx, bits.FileSpec{Remote: origin + "hello.txt", Local: hello}, bits.FileSpec{Remote: origin + "world.txt", Local: world}),
		job.Resume(ctx))
	if err != nil {
		fmt.Println(err)
		return
	}
	info, err := job.Wait(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(info.State, info.Progress.FilesTransferred, "files")
	outcome, err := job.Complete(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	show(hello)
	show(world)
	info, err = job.Info(ctx)
	fmt.Println(outcome.Code, info.State, info.Files[1].Completed, err)
	// Output:
	// TRANSFERRED 2 files
	// a.txt: hello
	// b.txt: world
	// S_OK ACKNOWLEDGED true <nil>
}

// Watch sees what happens from an event's number on, even if the service restarts meanwhile.
func ExampleManager_Watch() {
	ctx := context.Background()
	m := client.New(socket)
	defer m.Close()
	name := "watched"
	job, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: &name}, Resume: true,
		Files: []bits.FileSpec{{Remote: origin + "hello.txt", Local: filepath.Join(dir, "w.txt")}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for e, err := range m.Watch(ctx, client.Filter{Job: []bits.ID{job.ID}, After: 1}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(e.Kind, e.State)
		if e.Kind == bits.EventTransferred {
			if _, err := job.Complete(ctx); err != nil {
				fmt.Println(err)
			}
		}
		if e.State.Final() {
			break
		}
	}
	// Output:
	// added QUEUED
	// state CONNECTING
	// state TRANSFERRING
	// file TRANSFERRING
	// transferred TRANSFERRED
	// removed ACKNOWLEDGED
}
