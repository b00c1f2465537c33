package localfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"time"
)

// Account is what the system's user database has about a user.
type Account struct {
	Name, Home string
	GID        uint32
	Groups     []uint32
}

// databaseTime is how long the user database may take, which may be on another machine.
const databaseTime = 10 * time.Second

// LocalName returns the name of a user of this machine's own, of which its list tells without asking
// anybody.
func LocalName(uid uint32) (name string, known bool) {
	list, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return "", false
	}
	want := strconv.FormatUint(uint64(uid), 10)
	for line := range strings.Lines(string(list)) {
		// "name:password:uid:..."; a line that begins with + or - stands for others.
		fields := strings.SplitN(line, ":", 4)
		if len(fields) == 4 && fields[2] == want && fields[0] != "" && fields[0][0] != '+' && fields[0][0] != '-' && fields[0][0] != '#' {
			return fields[0], true
		}
	}
	return "", false
}

// AccountOf looks up a user; known is false if the system has none with that number. It may take its
// time.
func AccountOf(ctx context.Context, uid uint32) (a Account, known bool, err error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	var unknown user.UnknownUserIdError
	if errors.As(err, &unknown) {
		return viaNSS(ctx, uid)
	}
	if err != nil {
		return a, false, fmt.Errorf("look up the user %d: %w", uid, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return a, false, fmt.Errorf("look up the groups of %s: %w", u.Username, err)
	}
	a = Account{Name: u.Username, Home: u.HomeDir}
	a.GID, a.Groups, err = parseGroups(u.Gid, ids)
	return a, err == nil, err
}

// viaNSS asks getent(1), which knows users that are not in /etc/passwd also where this program was
// built without the C library that does.
func viaNSS(ctx context.Context, uid uint32) (a Account, known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTime)
	defer cancel()
	ask := func(args ...string) ([]byte, error) {
		c := exec.CommandContext(ctx, "getent", args...)
		c.WaitDelay = time.Second // what it started may hold the pipe
		return c.Output()
	}
	late := func() error { return fmt.Errorf("look up the user %d: %w", uid, context.Cause(ctx)) }
	out, err := ask("passwd", strconv.FormatUint(uint64(uid), 10))
	fields := bytes.Split(bytes.TrimSpace(out), []byte(":"))
	switch {
	case err != nil && ctx.Err() != nil:
		return a, false, late()
	case err != nil || len(fields) < 7 || string(fields[2]) != strconv.FormatUint(uint64(uid), 10):
		return a, false, nil
	}
	a = Account{Name: string(fields[0]), Home: string(fields[5])}
	ids := []string{}
	// "name gid gid ..."
	switch out, err := ask("initgroups", "--", a.Name); {
	case err == nil:
		if words := bytes.Fields(out); len(words) > 1 {
			for _, w := range words[1:] {
				ids = append(ids, string(w))
			}
		}
	case ctx.Err() != nil:
		return a, false, late()
	}
	a.GID, a.Groups, err = parseGroups(string(fields[3]), ids)
	return a, err == nil, err
}

func parseGroups(primary string, ids []string) (gid uint32, groups []uint32, err error) {
	n, err := strconv.ParseUint(primary, 10, 32)
	if err != nil {
		return 0, nil, err
	}
	for _, id := range ids {
		g, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return 0, nil, err
		}
		groups = append(groups, uint32(g))
	}
	return uint32(n), groups, nil
}
