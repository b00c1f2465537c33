package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
)

// sourceOptions are the flags of verbs that add files to download.
type sourceOptions struct {
	checksum    string
	mirrors     []string
	ranges      []string
	onlyIfNewer bool
}

func (o *sourceOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.checksum, "checksum", "", "expected digest as `ALGORITHM:HEX` with sha256, sha512 or blake3")
	f.StringArrayVar(&o.mirrors, "url", nil, "another `URL` of the same file, for when the first one fails; repeat it for more")
	f.StringArrayVar(&o.ranges, "range", nil, "fetch only a part, `OFFSET:LENGTH` in bytes, the length may be eof; repeat it or separate parts by commas")
	f.BoolVarP(&o.onlyIfNewer, "only-if-newer", "N", false, "skip files that are here and as new as the server's")
}

// single names a flag that is for one URL, if it was given.
func (o *sourceOptions) single() string {
	switch {
	case o.checksum != "":
		return "--checksum"
	case len(o.mirrors) > 0:
		return "--url"
	case len(o.ranges) > 0:
		return "--range"
	}
	return ""
}

// addOne plans the one file of a call.
func (p *planner) addOne(rawURL, dest string, o sourceOptions) error {
	p.onlyIfNewer = o.onlyIfNewer
	if len(o.ranges) > 0 {
		ranges, err := parseRanges(o.ranges)
		if err != nil {
			return usagef("--range: %w", err)
		}
		p.ranges = ranges
	}
	if o.single() == "" {
		return p.addSource(rawURL, dest)
	}
	return p.add(rawURL, dest, o.checksum, o.mirrors...)
}

// parseRanges reads the parts of a file of several words, each of which may be a list with commas.
func parseRanges(words []string) ([]bits.Range, error) {
	return bits.ParseRanges(strings.Join(words, ","))
}

// isSource reports whether an argument is meant as something to fetch: a URL, or a Windows network
// path of a share that is mounted here.
func isSource(s string) bool {
	if strings.HasPrefix(s, `\\`) {
		return true
	}
	scheme, rest, ok := strings.Cut(s, "://")
	return isURL(s) || ok && rest != "" && fileScheme(strings.ToLower(scheme))
}

// fileScheme reports whether URLs of a scheme are of files of this machine or of shares.
func fileScheme(scheme string) bool { return scheme == "file" || scheme == "smb" }
