package client_test

import (
	"context"
	"errors"
	"fmt"
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

// The examples run against a real service, a web server with two files, and a directory to put
// them in. A program uses client.New("") to find its user's service.
var socket, origin, dir string

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
