package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ebbtransfer/ebb/bench/internal/process"
)

// aria2 is aria2c as a daemon, spoken to by JSON-RPC.
type aria2 struct {
	*process.Process
	port string
	log  string
	args []string
}

// newAria2 makes a daemon that has not been started, with further arguments.
func (l *lab) newAria2(name string, args ...string) (*aria2, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	if err := ln.Close(); err != nil {
		return nil, err
	}
	a := &aria2{port: port, log: filepath.Join(l.temp, name+".log")}
	a.args = append([]string{"aria2c", "--no-conf", "--quiet", "--enable-rpc", "--rpc-listen-port=" + port, "--rpc-max-request-size=64M"}, args...)
	l.onClose(func() {
		if a.Process != nil {
			a.Kill()
		}
	})
	return a, nil
}

// start starts the daemon and returns when it answers.
func (a *aria2) start(ctx context.Context, dir string, more ...string) (err error) {
	if a.Process, err = process.Spawn(a.log, nil, dir, append(a.args, more...)...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		if err := a.call(ctx, "aria2.getVersion", nil); err == nil {
			return nil
		} else if !a.Running() {
			return fmt.Errorf("aria2c ended; it may have said why in %s", a.log)
		}
		if err := process.Sleep(ctx, 2*time.Millisecond); err != nil {
			return fmt.Errorf("aria2c does not answer: %w", err)
		}
	}
}

// call calls a method and decodes its result into out, if that is not nil.
func (a *aria2) call(ctx context.Context, method string, out any, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": "bench", "method": method, "params": params})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:"+a.port+"/jsonrpc", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := rpc.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: read the answer: %w", method, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: %s", method, answer.Error.Message)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, out)
}

// rpc goes to this machine whatever proxies the environment names.
var rpc = &http.Client{Transport: &http.Transport{}}

// addPaused adds n downloads that wait, in calls of 500.
func (a *aria2) addPaused(ctx context.Context, n int, url func(i int) string) error {
	type call struct {
		Method string `json:"methodName"`
		Params []any  `json:"params"`
	}
	const batch = 500
	for i := 0; i < n; i += batch {
		var calls []call
		for j := i; j < min(n, i+batch); j++ {
			calls = append(calls, call{"aria2.addUri", []any{[]string{url(j)}, map[string]string{"pause": "true"}}})
		}
		if err := a.call(ctx, "system.multicall", nil, calls); err != nil {
			return err
		}
	}
	return nil
}
