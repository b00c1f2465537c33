package config

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// fileBITS are the properties of a virtual directory with BITS's names, units and values
// (server.md chapter 2). A key of [group.uploads] goes before its name here.
type fileBITS struct {
	Enabled         any     `toml:"BITSUploadEnabled"` // IIS has Booleans, scripts write 1 and 0 too
	SessionTimeout  *int64  `toml:"BITSSessionTimeout"`
	MaxSize         any     `toml:"BITSMaximumUploadSize"` // IIS has a text with a number
	Notify          *int64  `toml:"BITSServerNotificationType"`
	NotifyURL       *string `toml:"BITSServerNotificationURL"`
	HostID          *string `toml:"BITSHostId"`
	HostIDFallback  *int64  `toml:"BITSHostIdFallbackTimeout"`
	Overwrite       *int64  `toml:"BITSAllowOverwrites"`
	CleanupDefault  any     `toml:"BITSCleanupUseDefault"`
	CleanupCount    *int64  `toml:"BITSCleanupCount"`
	CleanupUnits    *int64  `toml:"BITSCleanupUnits"`
	SessionsPerUser *int64  `toml:"BITSNumberOfSessionsLimit"`
	LimitEnable     any     `toml:"BITSSessionLimitEnable"`
	SessionDir      string  `toml:"BITSSessionDirectory"` // taken and not used: sessions have their own place here
}

// mostUpload is the most that BITSMaximumUploadSize can be.
const mostUpload = 1844674407370955

// cleanupUnits are the values of BITSCleanupUnits, and the most of each.
var cleanupUnits = []struct {
	unit time.Duration
	most int64
}{{time.Minute, 60}, {time.Hour, 24}, {day, 360}}

// bits takes over what is set with BITS's names, and reports whether uploads are enabled; otherwise is
// what holds without BITSUploadEnabled.
func (r *reader) bits(key string, f *fileBITS, u *Uploads, otherwise bool) bool {
	number := func(name string, v *int64, lo, hi, otherwise int64) int64 {
		if v == nil {
			return otherwise
		}
		if *v < lo || *v > hi {
			r.problem(key+"."+name, "%d is out of range; want %d to %d", *v, lo, hi)
			return otherwise
		}
		return *v
	}
	boolean := func(name string, v any, otherwise bool) bool {
		switch v {
		case nil:
			return otherwise
		case true, int64(1):
			return true
		case false, int64(0):
		default:
			r.problem(key+"."+name, "want true or false, or 1 or 0")
		}
		return false
	}
	const most = int64(dword / time.Second)
	u.SessionTimeout = time.Duration(number("BITSSessionTimeout", f.SessionTimeout, 1, most, int64(u.SessionTimeout/time.Second))) * time.Second
	u.HostIDFallback = time.Duration(number("BITSHostIdFallbackTimeout", f.HostIDFallback, 1, most, int64(u.HostIDFallback/time.Second))) * time.Second
	u.Overwrite = number("BITSAllowOverwrites", f.Overwrite, 0, 1, 0) == 1
	u.Notify = session.NotifyType(number("BITSServerNotificationType", f.Notify, 0, 2, 0))
	switch limited := boolean("BITSSessionLimitEnable", f.LimitEnable, true); {
	case !limited:
		u.SessionsPerUser = 0
	case f.LimitEnable != nil:
		u.SessionsPerUser = DefaultUploads(nil).SessionsPerUser // where anyone may upload it has to be asked for
		fallthrough
	default:
		u.SessionsPerUser = int(number("BITSNumberOfSessionsLimit", f.SessionsPerUser, 1, math.MaxInt32, int64(u.SessionsPerUser)))
	}
	if f.MaxSize != nil {
		switch text := fmt.Sprint(f.MaxSize); text {
		case "":
			u.MaxSize = -1
		default:
			n, err := strconv.ParseInt(text, 10, 64)
			switch {
			case n > mostUpload: // also where it is too large for n
				r.problem(key+".BITSMaximumUploadSize", "%s is out of range; want up to %d bytes, or \"\" for no limit", text, int64(mostUpload))
			case err != nil || n < 0:
				r.problem(key+".BITSMaximumUploadSize", "%q is not a number of bytes", text)
			default:
				u.MaxSize = n
			}
		}
	}
	set(r, key+".BITSServerNotificationURL", f.NotifyURL, &u.NotifyURL, parseNotifyURL)
	set(r, key+".BITSHostId", f.HostID, &u.HostID, parseHostID)
	// The documents say that count and unit do not count where UseDefault is 0. That must be
	// the other way round.
	if !boolean("BITSCleanupUseDefault", f.CleanupDefault, true) {
		unit := cleanupUnits[number("BITSCleanupUnits", f.CleanupUnits, 0, 2, 1)]
		if f.CleanupCount == nil {
			r.problem(key+".BITSCleanupUseDefault", "is false, but there is no BITSCleanupCount")
		}
		u.Cleanup = time.Duration(number("BITSCleanupCount", f.CleanupCount, 1, unit.most, 1)) * unit.unit
	} else if f.CleanupCount != nil {
		r.problem(key+".BITSCleanupCount", "has no effect: BITSCleanupUseDefault is not false")
	}
	return boolean("BITSUploadEnabled", f.Enabled, otherwise)
}
