package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// sourceOptions are the flags of verbs that add files to download.
type sourceOptions struct {
	checksum    string
	mirrors     []string
	onlyIfNewer bool
}

func (o *sourceOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.checksum, "checksum", "", "expected digest as `ALGORITHM:HEX` with sha256, sha512 or blake3")
	f.StringArrayVar(&o.mirrors, "url", nil, "another `URL` of the same file, for when the first one fails; repeat it for more")
	f.BoolVarP(&o.onlyIfNewer, "only-if-newer", "N", false, "skip files that are here and as new as the server's")
}

// single names a flag that is for one URL, if it was given.
func (o *sourceOptions) single() string {
	switch {
	case o.checksum != "":
		return "--checksum"
	case len(o.mirrors) > 0:
		return "--url"
	}
	return ""
}

// addOne plans the one file of a call.
func (p *planner) addOne(rawURL, dest string, o sourceOptions) error {
	p.onlyIfNewer = o.onlyIfNewer
	return p.add(rawURL, dest, o.checksum, o.mirrors...)
}

// isSource reports whether an argument is meant as something to fetch: a URL, or a Windows network
// path of a share that is mounted here.
func isSource(s string) bool {
	if strings.HasPrefix(s, `\\`) {
		return true
	}
	scheme, rest, ok := strings.Cut(s, "://")
	return isURL(s) || ok && rest != "" && (strings.EqualFold(scheme, "file") || strings.EqualFold(scheme, "smb"))
}
