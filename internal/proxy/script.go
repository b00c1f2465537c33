package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dop251/goja"
)

const (
	scriptTime = 3 * time.Second // that a script may take for one answer
	lookupTime = 2 * time.Second // for one name
	maxLookups = 32              // names that a script may look up for one answer
	maxCalls   = 256             // depth of its calls
)

// Help is the helper process: it runs the script that the first line of in brings and answers each
// line with one line on out, after one that tells how it is confined. It gives up its rights first; args are
// those behind HelperVerb. It ends with its input.
func Help(args []string, in io.Reader, out io.Writer) error {
	enc := json.NewEncoder(out)
	first := confineSelf(args)
	if err := enc.Encode(first); err != nil || first.Refuses {
		return err
	}
	lines := bufio.NewReader(in)
	var s *script
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		var q question
		if err := json.Unmarshal(line, &q); err != nil {
			return err
		}
		var f found
		if s == nil {
			s, err = load(q.Script)
		}
		if err == nil {
			f.Proxies, err = s.find(q.URL, q.Host)
		}
		if err != nil {
			f.Error = fmt.Sprintf("%.200s", err.Error())
			var late *goja.InterruptedError
			f.Late = errors.As(err, &late)
		}
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
}

// script is a proxy script (PAC) that is ready to be asked.
type script struct {
	vm      *goja.Runtime
	fn      goja.Callable
	lookups int
}

// load reads a script.
func load(source string) (*script, error) {
	s := &script{vm: goja.New()}
	s.vm.SetMaxCallStackSize(maxCalls)
	for name, f := range s.functions() {
		if err := s.vm.Set(name, f); err != nil {
			return nil, err
		}
	}
	defer s.limit()()
	if _, err := s.vm.RunString(source); err != nil {
		return nil, err
	}
	fn, ok := goja.AssertFunction(s.vm.Get("FindProxyForURL"))
	if !ok {
		return nil, errors.New("FindProxyForURL is no function")
	}
	s.fn = fn
	return s, nil
}

// limit ends what runs when its time is up. What it returns must be called when it has ended.
func (s *script) limit() func() {
	s.lookups = 0
	t := time.AfterFunc(scriptTime, func() { s.vm.Interrupt("it ran for too long") })
	return func() {
		t.Stop()
		s.vm.ClearInterrupt()
	}
}

// find asks the script.
func (s *script) find(u, host string) (string, error) {
	defer s.limit()()
	v, err := s.fn(goja.Undefined(), s.vm.ToValue(u), s.vm.ToValue(host))
	if err != nil {
		return "", err
	}
	if goja.IsUndefined(v) || goja.IsNull(v) {
		return "DIRECT", nil
	}
	found := v.String()
	if len(found) > maxFound/4 {
		return "", errors.New("its answer is too long")
	}
	return found, nil
}

// functions are those that scripts expect to be there, as Netscape defined them and as Microsoft
// added to them for IPv6.
func (s *script) functions() map[string]any {
	return map[string]any{
		"isPlainHostName": func(host string) bool { return !strings.ContainsAny(host, ".:") },
		"dnsDomainIs": func(host, domain string) bool {
			return strings.HasSuffix(strings.ToLower(host), strings.ToLower(domain))
		},
		"localHostOrDomainIs": localHostOrDomainIs,
		"dnsDomainLevels":     func(host string) int { return strings.Count(host, ".") },
		"shExpMatch":          shExpMatch,
		"isResolvable":        func(host string) bool { return len(s.lookup(host, "ip4")) > 0 },
		"isResolvableEx":      func(host string) bool { return len(s.lookup(host, "ip")) > 0 },
		"dnsResolve": func(host string) any {
			if a := s.lookup(host, "ip4"); len(a) > 0 {
				return a[0].String()
			}
			return nil
		},
		"dnsResolveEx": func(host string) string { return joined(s.lookup(host, "ip")) },
		"isInNet": func(host, network, mask string) bool {
			a := s.lookup(host, "ip4")
			n, err := netip.ParseAddr(network)
			m := net.ParseIP(mask).To4()
			if len(a) == 0 || err != nil || !n.Is4() || m == nil {
				return false
			}
			x, y := a[0].As4(), n.As4()
			for i := range x {
				if x[i]&m[i] != y[i]&m[i] {
					return false
				}
			}
			return true
		},
		"isInNetEx": func(host, prefix string) bool {
			p, err := netip.ParsePrefix(prefix)
			return err == nil && slices.ContainsFunc(s.lookup(host, "ip"), p.Contains)
		},
		"convert_addr": func(addr string) uint32 {
			a, err := netip.ParseAddr(addr)
			if err != nil || !a.Is4() {
				return 0
			}
			b := a.As4()
			return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		},
		"myIpAddress": func() string {
			for _, a := range own() {
				if a.Is4() {
					return a.String()
				}
			}
			return "127.0.0.1"
		},
		"myIpAddressEx":     func() string { return joined(own()) },
		"sortIpAddressList": func(list string) string { return list },
		"getClientVersion":  func() string { return "1.0" },
		"weekdayRange":      ranged(weekdayRange),
		"dateRange":         ranged(dateRange),
		"timeRange":         ranged(timeRange),
		"alert":             func(string) {},
	}
}

func localHostOrDomainIs(host, full string) bool {
	host, full = strings.ToLower(host), strings.ToLower(full)
	name, _, _ := strings.Cut(full, ".")
	return host == full || host == name
}

// shExpMatch matches a whole text with a pattern, in which * is any text, of dots and slashes too, and ? is
// one character; all else stands for itself.
func shExpMatch(text, pattern string) bool {
	t, p := []rune(text), []rune(pattern)
	i, j := 0, 0
	star, from := -1, 0 // the last * that was seen, and how far into the text it reaches
	for i < len(t) {
		switch {
		case j < len(p) && p[j] == '*':
			star, from = j, i
			j++
		case j < len(p) && (p[j] == '?' || p[j] == t[i]):
			i, j = i+1, j+1
		case star >= 0:
			from++
			i, j = from, star+1
		default:
			return false
		}
	}
	for j < len(p) && p[j] == '*' {
		j++
	}
	return j == len(p)
}

func joined(addrs []netip.Addr) string {
	var s []string
	for _, a := range addrs {
		s = append(s, a.String())
	}
	return strings.Join(s, ";")
}

// lookup returns the addresses of a host.
func (s *script) lookup(host, network string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		if network == "ip4" && !a.Unmap().Is4() {
			return nil
		}
		return []netip.Addr{a.Unmap()}
	}
	if s.lookups++; s.lookups > maxLookups {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	if err != nil {
		return nil
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs
}

// own returns the addresses of this machine that others can reach.
func own() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var addrs []netip.Addr
	for _, x := range all {
		if n, ok := x.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok && a.Unmap().IsGlobalUnicast() {
				addrs = append(addrs, a.Unmap())
			}
		}
	}
	return addrs
}

// ranged makes a function of a script from one that judges a time by its arguments, of which a last
// "GMT" says in which zone.
func ranged(f func(now time.Time, args []goja.Value) bool) func(goja.FunctionCall) goja.Value {
	return func(call goja.FunctionCall) goja.Value {
		now, args := time.Now(), call.Arguments
		if n := len(args); n > 0 && strings.EqualFold(args[n-1].String(), "GMT") {
			now, args = now.UTC(), args[:n-1]
		}
		if f(now, args) {
			return trueValue
		}
		return falseValue
	}
}

var trueValue, falseValue = goja.New().ToValue(true), goja.New().ToValue(false)

var (
	weekdays = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
	months   = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
)

func index(names []string, v goja.Value) int { return slices.Index(names, strings.ToUpper(v.String())) }

// between reports whether x lies from a to b, around the end of a cycle if b is before a.
func between(a, x, b int) bool {
	if a <= b {
		return a <= x && x <= b
	}
	return x >= a || x <= b
}

func weekdayRange(now time.Time, args []goja.Value) bool {
	if len(args) == 0 {
		return false
	}
	a := index(weekdays, args[0])
	b := a
	if len(args) > 1 {
		b = index(weekdays, args[1])
	}
	return a >= 0 && b >= 0 && between(a, int(now.Weekday()), b)
}

func timeRange(now time.Time, args []goja.Value) bool {
	n := make([]int, len(args))
	for i, a := range args {
		n[i] = int(a.ToInteger())
	}
	second := now.Hour()*3600 + now.Minute()*60 + now.Second()
	switch len(n) {
	case 1:
		return now.Hour() == n[0]
	case 2: // hours; up to the end of the second would be the next hour
		return between(n[0]*3600, second, n[1]*3600)
	case 4:
		return between(n[0]*3600+n[1]*60, second, n[2]*3600+n[3]*60)
	case 6:
		return between(n[0]*3600+n[1]*60+n[2], second, n[3]*3600+n[4]*60+n[5])
	}
	return false
}

// dateRange takes a day, a month or a year, any two or all three in that order, once or as a range.
func dateRange(now time.Time, args []goja.Value) bool {
	type date struct{ year, month, day int } // -1 for what is not said
	read := func(args []goja.Value) (date, bool) {
		d := date{-1, -1, -1}
		for _, a := range args {
			if m := index(months, a); m >= 0 {
				d.month = m
				continue
			}
			n := int(a.ToInteger())
			switch {
			case n >= 1 && n <= 31:
				d.day = n
			case n > 31:
				d.year = n
			default:
				return d, false
			}
		}
		return d, true
	}
	value := func(d, like date) int { // in the units that both have
		v := 0
		for _, p := range [][2]int{{d.year, like.year}, {d.month, like.month}, {d.day, like.day}} {
			if p[1] >= 0 {
				v = v*10000 + max(p[0], 0)
			}
		}
		return v
	}
	today := date{now.Year(), int(now.Month()) - 1, now.Day()}
	if len(args) == 0 || len(args) > 6 {
		return false
	}
	if len(args)%2 == 0 {
		a, ok1 := read(args[:len(args)/2])
		b, ok2 := read(args[len(args)/2:])
		if ok1 && ok2 && (a.year < 0) == (b.year < 0) && (a.month < 0) == (b.month < 0) && (a.day < 0) == (b.day < 0) {
			return between(value(a, a), value(today, a), value(b, a))
		}
	}
	d, ok := read(args)
	return ok && value(d, d) == value(today, d)
}
