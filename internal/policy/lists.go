package policy

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// The two words that a list may be instead.
const (
	anything = "any"
	nothing  = "none"
)

// Programs are absolute paths, "any" or "none". A path whose last part is * stands for all programs
// in a directory.
type Programs string

// Allow reports whether the program at a path is one of them. A path is compared as it is: one with
// "..", or with two names for one file, is another path.
func (p Programs) Allow(program string) bool {
	if program != path.Clean(program) || !strings.HasPrefix(program, "/") {
		return p == anything
	}
	return listed(string(p), func(item string) bool {
		dir, ok := strings.CutSuffix(item, "/*")
		return item == program || ok && program != "/" && path.Dir(program) == path.Clean("/"+dir)
	})
}

// String returns the list as it is in a file.
func (p Programs) String() string { return string(p) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Programs) UnmarshalText(b []byte) error {
	text, err := parseList(string(b), anything, nothing, func(item string) error {
		if dir, _ := strings.CutSuffix(item, "/*"); !strings.HasPrefix(item, "/") || strings.Contains(dir, "*") || dir != "" && dir != path.Clean(dir) {
			return fmt.Errorf("%q is not an absolute path without \"..\", of which the last part may be *", item)
		}
		return nil
	})
	*p = Programs(text)
	return err
}

// Hosts are names or addresses of servers, "any" or "none". One that begins with *. stands for all
// names that end so.
type Hosts string

// Allow reports whether a URL is one of theirs.
func (h Hosts) Allow(to string) bool {
	u, err := url.Parse(to)
	if err != nil {
		return false
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	return listed(string(h), func(item string) bool {
		domain, ok := strings.CutPrefix(item, "*")
		return item == host || ok && strings.HasSuffix(host, domain)
	})
}

// String returns the list as it is in a file.
func (h Hosts) String() string { return string(h) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hosts) UnmarshalText(b []byte) error {
	text, err := parseList(strings.ToLower(string(b)), anything, nothing, func(item string) error {
		if name := strings.TrimPrefix(item, "*."); name == "" || strings.ContainsAny(name, "*/@[] ") {
			return fmt.Errorf("%q is not the name or the address of a server, with *. before it for all below", item)
		}
		return nil
	})
	*h = Hosts(text)
	return err
}

// listed reports whether one of the items of a list fits.
func listed(text string, fits func(item string) bool) bool {
	switch text {
	case anything:
		return true
	case nothing, "":
		return false
	}
	for item := range strings.SplitSeq(text, ", ") {
		if fits(item) {
			return true
		}
	}
	return false
}

// parseList checks the items of a list and returns it in the form that listed reads. It may be a word
// instead: the one for all or the one for none, where there is one.
func parseList(text, all, none string, check func(item string) error) (string, error) {
	text = strings.TrimSpace(text)
	if text != "" && (text == all || text == none) {
		return text, nil
	}
	words := fmt.Sprintf("%q, %q", all, none)
	if all == "" || none == "" {
		words = fmt.Sprintf("%q", all+none)
	}
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			return "", fmt.Errorf("%q has an empty item (want %s, or a list with commas)", text, words)
		}
		if err := check(item); err != nil {
			return "", err
		}
		items = append(items, item)
	}
	return strings.Join(items, ", "), nil
}
