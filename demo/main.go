// Command demo shows Ebb's main job without any set-up: it builds ebb, serves a generated file,
// fetches it through the service, kills the service with kill -9 in the middle, lets it come
// back, and shows that the file is whole and how little was fetched twice.
//
//	go run ./demo
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

func main() {
	size := flag.Int64("size", 2048, "size of the file in MiB")
	rate := flag.Int64("rate", 300, "what the server sends in MiB a second")
	flag.Parse()
	if err := run(*size<<20, *rate<<20); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func say(format string, args ...any) { fmt.Printf("\n== "+format+"\n", args...) }

func run(size, rate int64) (err error) {
	dir, err := os.MkdirTemp("", "ebb-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	say("building ebb")
	ebb := filepath.Join(dir, "ebb")
	build := exec.Command("go", "build", "-o", ebb, "github.com/ebbtransfer/ebb/cmd/ebb")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}

	srv, err := faultserver.Start(faultserver.Options{SendBuffer: 64 << 10})
	if err != nil {
		return err
	}
	defer srv.Close()
	file := srv.File("/image.iso", faultserver.File{Seed: 1, Size: size, ETag: `"v1"`, LastModified: time.Now().Add(-time.Hour)})
	file.Set(func(p *faultserver.Program) { p.Rate = rate })
	say("serving %d MiB at %s, %d MiB/s", size>>20, file.URL(), rate>>20)

	socket := filepath.Join(dir, "ebb.sock")
	service, err := start(ebb, dir, socket)
	if err != nil {
		return err
	}
	defer func() { stop(service) }()

	say("ebb get %s", file.URL())
	get := exec.Command(ebb, "--socket", socket, "get", file.URL(), dir)
	get.Stdout, get.Stderr = os.Stdout, os.Stderr
	if err := get.Start(); err != nil {
		return err
	}
	defer get.Process.Kill() //nolint:errcheck // it has ended unless something above failed
	m := client.New(socket)
	defer m.Close()
	if err := halfway(m, size*2/5); err != nil {
		return err
	}
	say("kill -9 of the service (process %d)", service.Process.Pid)
	if err := service.Process.Kill(); err != nil {
		return err
	}
	_ = service.Wait()
	say("starting it again; ebb get is still waiting")
	if service, err = start(ebb, dir, socket); err != nil {
		return err
	}
	if err := get.Wait(); err != nil {
		return fmt.Errorf("ebb get: %w", err)
	}

	got, err := digest(filepath.Join(dir, "image.iso"))
	if err != nil {
		return err
	}
	if want := file.SHA256(); got != want {
		return fmt.Errorf("the file is not whole: sha256 %s, want %s", got, want)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Await(ctx, srv.Idle); err != nil {
		return err
	}
	twice := srv.Refetched("/image.iso")
	say("the file is whole: sha256 %s", got)
	fmt.Printf("   sent by the server:  %7.1f MiB\n   of these twice:      %7.1f MiB (%.2f %%), what was under way when the service died\n",
		float64(srv.Sent("/image.iso"))/(1<<20), float64(twice)/(1<<20), 100*float64(twice)/float64(size))
	return nil
}

// start starts the service and returns once it answers.
func start(ebb, dir, socket string) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(ebb, "--socket", socket, "daemon", "--state", filepath.Join(dir, "state"))
	// The demonstration needs no network: what this machine's network costs must not hold it up.
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent/bus")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m := client.New(socket)
	defer m.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		_, err := m.Service(ctx)
		if err == nil {
			return cmd, nil
		}
		if ctx.Err() != nil {
			stop(cmd)
			return nil, fmt.Errorf("the service does not answer: %w", err)
		}
		time.Sleep(10 * time.Millisecond) // nothing tells when a socket appears
	}
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
}

// halfway returns once the job has so many bytes.
func halfway(m *client.Manager, bytes int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	// Events from the first one on: the job may have been made already.
	for e, err := range m.Watch(ctx, client.Filter{Progress: true}) {
		if err != nil {
			return err
		}
		if e.Progress != nil && e.Progress.BytesTransferred >= bytes {
			return nil
		}
		if e.Kind == bits.EventTransferred || e.Kind == bits.EventRemoved {
			return errors.New("the file came too fast to kill the service in the middle: lower --rate")
		}
	}
	return ctx.Err()
}

func digest(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}
