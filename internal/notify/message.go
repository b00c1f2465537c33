package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/notify/helper"
	"github.com/ebbtransfer/ebb/internal/queue"
)

// run runs a job's notify command and waits for its end.
func (n *Notifier) run(notice *queue.Notice, command []string) error {
	p := n.Queue.NotifyPolicy()
	if !p.Commands.Allow(command[0]) {
		return fmt.Errorf("the policy does not let jobs run %s (notify.commands)", command[0])
	}
	who, err := n.owner(notice.UID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(n.ctx, time.Duration(p.Timeout), errLate)
	defer cancel()
	return n.process(ctx, &helper.Task{User: who.User, Command: &helper.Command{Args: command, Dir: who.home, Env: append(who.env(n.System), n.environment(notice)...)}})
}

// process carries out a task, when there is room for another process.
func (n *Notifier) process(ctx context.Context, t *helper.Task) error {
	select {
	case n.processes <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-n.processes }()
	return helper.Run(ctx, t)
}

// account is the owner of a job.
type account struct {
	helper.User
	name, home string
}

// owner returns the account of a user.
func (n *Notifier) owner(uid uint32) (account, error) {
	a := account{home: "/"}
	known, ok, err := localfile.AccountOf(n.ctx, uid)
	if ok {
		a.name, a.home = known.Name, known.Home
	}
	switch {
	case !n.System && uid != uint32(os.Geteuid()):
		return a, errors.New("the service runs programs of its own user only")
	case !n.System:
		return a, nil
	case err != nil:
		return a, err
	case !ok:
		return a, fmt.Errorf("the job's owner, the user %d, is not known to the system", uid)
	}
	a.User = helper.User{Switch: true, UID: uid, GID: known.GID, Groups: known.Groups}
	return a, nil
}

// session are the variables that a user's own service hands on: how to find the desktop, and the
// language.
var session = []string{"PATH", "HOME", "LANG", "LC_ALL", "LC_MESSAGES", "TZ", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
	"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"}

// env is the environment of the user's programs. Nothing of a service for all users is in it.
func (a *account) env(system bool) []string {
	vars := map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": a.home, "LANG": "C.UTF-8"}
	if a.name != "" {
		vars["USER"], vars["LOGNAME"] = a.name, a.name
	}
	if system {
		if dir := helper.RuntimeDir(a.UID); dir != "" {
			vars["XDG_RUNTIME_DIR"] = dir
		}
		if bus := helper.SessionBus(a.UID); bus != "" {
			vars["DBUS_SESSION_BUS_ADDRESS"] = bus
		}
	} else {
		for _, name := range session {
			if v, ok := os.LookupEnv(name); ok {
				vars[name] = v
			}
		}
	}
	var out []string
	for name, v := range vars {
		out = append(out, name+"="+v)
	}
	return out
}

// environment tells a program about the job. What others have put into names and errors is text
// there, without NUL.
func (n *Notifier) environment(notice *queue.Notice) []string {
	j := &notice.Job
	vars := []string{
		"EBB_EVENT=" + string(notice.Kind),
		"EBB_ATTEMPT=" + strconv.Itoa(notice.Failed+1),
		"EBB_JOB_ID=" + j.ID.String(),
		"EBB_JOB_NAME=" + j.Name,
		"EBB_JOB_TYPE=" + j.Type.String(),
		"EBB_JOB_STATE=" + j.State.String(),
		"EBB_JOB_OWNER=" + j.Owner,
		"EBB_JOB_FILES=" + strconv.Itoa(j.Progress.FilesTotal),
		"EBB_JOB_FILES_TRANSFERRED=" + strconv.Itoa(j.Progress.FilesTransferred),
		"EBB_JOB_BYTES_TRANSFERRED=" + strconv.FormatInt(j.Progress.BytesTransferred, 10),
		"EBB_FILE=" + notice.Local,
	}
	if j.Progress.BytesTotal != bits.Unknown {
		vars = append(vars, "EBB_JOB_BYTES_TOTAL="+strconv.FormatInt(int64(j.Progress.BytesTotal), 10))
	}
	if n.Socket != "" {
		vars = append(vars, "EBB_SOCKET="+n.Socket)
	}
	if e := j.Error; e != nil {
		vars = append(vars, "EBB_ERROR_CODE="+e.Code, "EBB_ERROR_HRESULT="+e.HResult, "EBB_ERROR_CONTEXT="+e.Context.String(), "EBB_ERROR_FILE="+e.File, "EBB_ERROR_MESSAGE="+e.Message)
	}
	for i, v := range vars {
		vars[i] = strings.ReplaceAll(v, "\x00", "")
	}
	return vars
}

// message is what a web hook posts.
type message struct {
	Type      string      `json:"type"` // job.transferred or job.error
	Timestamp time.Time   `json:"timestamp"`
	Data      messageData `json:"data"`
}

type messageData struct {
	ID         bits.ID         `json:"id"`
	Name       string          `json:"name"`
	Type       bits.Type       `json:"type"`
	State      bits.State      `json:"state"`
	Owner      string          `json:"owner"`
	Host       string          `json:"host"`
	Progress   bits.Progress   `json:"progress"`
	Error      *bits.ErrorInfo `json:"error"`
	ErrorCount int             `json:"error_count"`
	Created    time.Time       `json:"created"`
	Attempt    int             `json:"attempt"`
}

// post posts a job's web hook, by the specification "Standard Webhooks": the same id each time that
// the same is told, and a signature over id, time and body if the job has a secret.
func (n *Notifier) post(notice *queue.Notice) error {
	to, err := n.Queue.HookURL(notice)
	if err != nil {
		return err
	}
	if !n.Queue.NotifyPolicy().Hooks.Allow(to) {
		return errors.New("the policy does not let jobs post there (notify.hooks)")
	}
	who, err := n.owner(notice.UID)
	if err != nil {
		return err
	}
	j := &notice.Job
	host, _ := os.Hostname()
	body, err := json.Marshal(message{"job." + string(notice.Kind), time.Unix(0, notice.Due).UTC(),
		messageData{j.ID, j.Name, j.Type, j.State, j.Owner, host, j.Progress, j.Error, j.ErrorCount, j.Times.Created, notice.Hook + 1}})
	if err != nil {
		return err
	}
	id := fmt.Sprintf("%s-%x", j.ID, notice.Due)
	header := map[string]string{"Content-Type": "application/json", "User-Agent": "Ebb", "Webhook-Id": id, "Webhook-Timestamp": strconv.FormatInt(time.Now().Unix(), 10)}
	key, err := n.Queue.HookKey(notice)
	if err != nil { // nothing goes out unsigned
		return fmt.Errorf("the secret of the web hook cannot be had: %w", err)
	}
	if key != nil {
		header["Webhook-Signature"] = sign(key, id, header["Webhook-Timestamp"], body)
	}
	ctx, cancel := context.WithTimeout(n.ctx, hookPatience+10*time.Second)
	defer cancel()
	return n.process(ctx, &helper.Task{User: who.User, Hook: &helper.Hook{URL: to, Header: header, Body: string(body), Timeout: hookPatience, Env: proxies(n.System)}})
}

// sign returns the signature of a web hook.
func sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// proxies are the variables of the service that tell how servers are reached. A proxy's password
// is not for the users of the machine.
func proxies(system bool) []string {
	var out []string
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok && (!system || !strings.Contains(v, "@")) {
			out = append(out, name+"="+v)
		}
	}
	return out
}

// show puts a message on the owner's desktop.
func (n *Notifier) show(notice *queue.Notice) error {
	who, err := n.owner(notice.UID)
	if err != nil {
		return err
	}
	d := &helper.Desktop{Bus: helper.SessionBus(notice.UID), Icon: "folder-download", Summary: "Download finished", Body: notice.Job.Name}
	if bus, ok := os.LookupEnv("DBUS_SESSION_BUS_ADDRESS"); ok && !n.System {
		d.Bus = bus
	}
	if notice.Job.Type != bits.Download {
		d.Icon, d.Summary = "folder-upload", "Upload finished"
	}
	if e := notice.Job.Error; notice.Kind == bits.EventError {
		d.Urgent, d.Icon = true, "dialog-error"
		d.Summary = strings.TrimSuffix(d.Summary, "finished") + "failed"
		if e != nil {
			d.Body += ": " + e.Message
		}
	}
	if d.Bus == "" {
		return errors.New("the user has no desktop session")
	}
	ctx, cancel := context.WithTimeout(n.ctx, hookPatience)
	defer cancel()
	return n.process(ctx, &helper.Task{User: who.User, Desktop: d})
}
