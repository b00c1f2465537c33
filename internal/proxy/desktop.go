package proxy

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// desktop is what a user chose in the settings of his desktop.
type desktop struct {
	list   *List  // nil for none
	script string // URL of a script; empty for none
	auto   bool   // ask the network
}

func (d desktop) set() bool { return d.list != nil || d.script != "" || d.auto }

// desktopTime bounds how long the settings of a desktop may take to read.
const desktopTime = 5 * time.Second

// readDesktop reads the settings of GNOME (and of what shares them), or else those of KDE.
func readDesktop(ctx context.Context, owner uint32) (desktop, error) {
	ctx, cancel := context.WithTimeout(ctx, desktopTime)
	defer cancel()
	out, err := gsettings(ctx, owner)
	if err == nil {
		if d, err := parseGNOME(out); err != nil || d.set() {
			return d, err
		}
	}
	text, err := kioslaverc(owner)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
		return desktop{}, nil
	}
	if err != nil {
		return desktop{}, err
	}
	return parseKDE(text)
}

// parseGNOME reads what `gsettings list-recursively org.gnome.system.proxy` prints: lines of
// schema, key and value.
func parseGNOME(out string) (desktop, error) {
	v := map[string]string{}
	for line := range strings.Lines(out) {
		schema, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, value, _ := strings.Cut(rest, " ")
		v[strings.TrimPrefix(strings.TrimPrefix(schema, "org.gnome.system.proxy"), ".")+"/"+key] = value
	}
	text := func(key string) string { return strings.Trim(v[key], `'"`) }
	switch text("/mode") {
	case "manual":
		var items []string
		for _, scheme := range []string{"http", "https", "socks"} {
			host, port := text(scheme+"/host"), text(scheme+"/port")
			if n, err := strconv.Atoi(port); host != "" && err == nil && n > 0 {
				items = append(items, scheme+"="+hostPort(host, port))
			}
		}
		if len(items) == 0 {
			return desktop{}, nil
		}
		var without []string
		for _, w := range strings.FieldsFunc(strings.Trim(v["/ignore-hosts"], "@as []"), func(r rune) bool { return r == ',' || r == ' ' }) {
			without = append(without, strings.Trim(w, `'"`))
		}
		l, err := ParseList(items, without)
		return desktop{list: l}, err
	case "auto":
		if u := text("/autoconfig-url"); u != "" {
			return desktop{script: u}, nil
		}
		return desktop{auto: true}, nil
	}
	return desktop{}, nil
}

func hostPort(host, port string) string {
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// parseKDE reads the group "Proxy Settings" of kioslaverc.
func parseKDE(text string) (desktop, error) {
	v, in := map[string]string{}, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = line == "[Proxy Settings]"
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && in {
			key, _, _ = strings.Cut(strings.TrimSpace(key), "[$") // a mark such as [$e]
			v[key] = strings.TrimSpace(value)
		}
	}
	switch v["ProxyType"] {
	case "1": // by hand
		var items []string
		for _, scheme := range []string{"http", "https", "socks"} {
			p := strings.TrimSuffix(strings.Replace(v[scheme+"Proxy"], " ", ":", 1), "/")
			if p != "" {
				items = append(items, scheme+"="+p)
			}
		}
		if len(items) == 0 {
			return desktop{}, nil
		}
		l, err := ParseList(items, []string{v["NoProxyFor"]})
		if err == nil && v["ReversedException"] == "true" {
			err = errors.New("KDE's proxy is set for named hosts only, which is not supported")
		}
		return desktop{list: l}, err
	case "2":
		if u, err := url.Parse(v["Proxy Config Script"]); err != nil || u.Host == "" {
			return desktop{}, errors.New("KDE's proxy script is at no http or https URL")
		}
		return desktop{script: v["Proxy Config Script"]}, nil
	case "3":
		return desktop{auto: true}, nil
	}
	return desktop{}, nil
}
