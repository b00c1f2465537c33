package localfile

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"strconv"
)

// Account is what the system's user database has about a user.
type Account struct {
	Name, Home string
	GID        uint32
	Groups     []uint32
}

// AccountOf looks up a user; known is false if the system has none with that number.
func AccountOf(uid uint32) (a Account, known bool, err error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	var unknown user.UnknownUserIdError
	if errors.As(err, &unknown) {
		return viaNSS(uid)
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
func viaNSS(uid uint32) (a Account, known bool, err error) {
	out, err := exec.Command("getent", "passwd", strconv.FormatUint(uint64(uid), 10)).Output()
	fields := bytes.Split(bytes.TrimSpace(out), []byte(":"))
	if err != nil || len(fields) < 7 || string(fields[2]) != strconv.FormatUint(uint64(uid), 10) {
		return a, false, nil
	}
	a = Account{Name: string(fields[0]), Home: string(fields[5])}
	ids := []string{}
	// "name gid gid ..."
	if out, err := exec.Command("getent", "initgroups", "--", a.Name).Output(); err == nil {
		if words := bytes.Fields(out); len(words) > 1 {
			for _, w := range words[1:] {
				ids = append(ids, string(w))
			}
		}
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
