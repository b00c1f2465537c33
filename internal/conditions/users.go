package conditions

import (
	"slices"
	"strconv"
	"strings"
)

// Users are the users who are logged on. The zero value knows of nobody, and nothing is made to wait
// for what nobody knows.
type Users struct {
	uids string // ",1000,1001,": in order, so that equal sets are equal values; empty while unknown
}

// LoggedOnUsers returns a set of users.
func LoggedOnUsers(uids ...uint32) Users {
	uids = slices.Clone(uids)
	slices.Sort(uids)
	var b strings.Builder
	b.WriteByte(',')
	for _, uid := range slices.Compact(uids) {
		b.WriteString(strconv.FormatUint(uint64(uid), 10) + ",")
	}
	return Users{b.String()}
}

// Known reports whether something tells who is logged on.
func (u Users) Known() bool { return u.uids != "" }

// LoggedOn reports whether a user is logged on, or never logs on and counts as present: root, the users
// of the system, those that systemd makes for services, and nobody (client.md 4.2). While nobody knows
// who is, all are.
func (u Users) LoggedOn(uid uint32) bool {
	return !u.Known() || IsSystemUser(uid) || strings.Contains(u.uids, ","+strconv.FormatUint(uint64(uid), 10)+",")
}

// IsSystemUser reports whether a user is none that a person logs on as, by the ranges that systemd
// documents (UIDS-GIDS.md).
func IsSystemUser(uid uint32) bool {
	const (
		lastOfSystem = 999
		firstDynamic = 61184
		lastDynamic  = 65519
		nobody       = 65534
	)
	return uid <= lastOfSystem || uid >= firstDynamic && uid <= lastDynamic || uid == nobody
}
