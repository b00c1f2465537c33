package policy

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
)

// Problems are all that is wrong with a file, in the order of its lines.
type Problems []bits.PolicyProblem

// Error returns the first problem and the number of the others: it has to fit in a line.
func (p Problems) Error() string {
	switch len(p) {
	case 0:
		return "no problem"
	case 1:
		return p[0].String()
	}
	return fmt.Sprintf("%s (and %d more)", p[0], len(p)-1)
}

// Load reads a file; an empty name stands for the defaults. What is wrong with the file is told
// as Problems.
func Load(name string) (Policy, error) {
	if name == "" {
		return Default(), nil
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), fmt.Errorf("the configuration file %s does not exist", name)
	}
	if err != nil {
		return Default(), err
	}
	return Parse(name, text)
}

// Parse reads the text of a file of that name. What is wrong with it is told as Problems.
func Parse(name string, text []byte) (Policy, error) {
	r := reader{policy: Default()}
	r.policy.Bandwidth.Zone = Zone{localZone()}
	r.policy.from = map[string]Source{}
	doc, wrong := scan(text)
	if wrong != nil {
		r.problems = Problems{*wrong}
	}
	known := make([]bool, len(doc.headers))
	for i, h := range doc.headers {
		known[i] = r.table(h)
	}
	var foreign []setting
	for _, s := range doc.settings {
		if known[s.section] && s.path[0] == bitsTable {
			foreign = append(foreign, s)
		}
	}
	r.readBITS(foreign)
	for _, s := range doc.settings {
		if known[s.section] && s.path[0] != bitsTable {
			r.read(s)
		}
	}
	r.check()
	for _, list := range []Problems{r.problems, r.policy.Notices} {
		for i := range list {
			list[i].File = name
		}
		slices.SortStableFunc(list, func(a, b bits.PolicyProblem) int { return cmp.Compare(a.Line, b.Line) })
	}
	if len(r.problems) > 0 {
		return Default(), r.problems
	}
	return r.policy, nil
}

// reader turns settings into a policy.
type reader struct {
	policy   Policy
	problems Problems
}

func (r *reader) problem(line int, key, format string, args ...any) {
	r.problems = append(r.problems, bits.PolicyProblem{Line: line, Key: key, Message: fmt.Sprintf(format, args...)})
}

func (r *reader) notice(line int, key, format string, args ...any) {
	r.policy.Notices = append(r.policy.Notices, bits.PolicyProblem{Line: line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// read takes over a setting with a key of Ebb's own.
func (r *reader) read(s setting) {
	name := s.name()
	k := keyNamed(name)
	if k == nil {
		r.problem(s.line, name, "%s", unknown(name))
		return
	}
	if err := k.set(&r.policy, s.value); err != nil {
		r.problem(s.line, name, "%s", err)
		return
	}
	if was := r.policy.from[name]; was.BITS != "" {
		r.notice(was.Line, was.BITS, "has no effect: %s in line %d takes precedence", name, s.line)
	}
	r.policy.from[name] = Source{Line: s.line}
}

// table tells whether there is a table of that name.
func (r *reader) table(h header) bool {
	name := strings.Join(h.path, ".")
	fits := func(s string) bool { return s == name || h.path[0] == bitsTable && strings.EqualFold(s, name) }
	names := tables()
	switch {
	case len(h.path) == 0:
	case !slices.ContainsFunc(names, fits):
		r.problem(h.line, name, "there is no such table%s", meant(Suggest(name, names)))
		return false
	case h.array:
		r.problem(h.line, name, "is one table; write [%s]", name)
		return false
	}
	return true
}

// unknown says what may be meant by a key that does not exist.
func unknown(name string) string {
	last := name[strings.LastIndexByte(name, '.')+1:]
	for _, b := range bitsNames {
		if strings.EqualFold(last, b.name) || strings.EqualFold(name, b.name) {
			return fmt.Sprintf("is a name of BITS; it goes into the table [%s]", bitsTable)
		}
	}
	return "there is no such key" + meant(Suggest(name, KeyNames()))
}

// meant asks whether another name is meant.
func meant(name string) string {
	if name == "" {
		return ""
	}
	return "; did you mean " + name + "?"
}

// tables returns the names of all tables.
func tables() []string {
	out := []string{bitsTable}
	for _, list := range [][]string{KeyNames(), bitsTableNames()} {
		for _, name := range list {
			for i, c := range name {
				if c == '.' && !slices.Contains(out, name[:i]) {
					out = append(out, name[:i])
				}
			}
		}
	}
	return out
}

// check looks at the settings together.
func (r *reader) check() {
	p := &r.policy
	if p.Jobs.MaxPerUser > p.Jobs.MaxPerMachine {
		at := p.from["jobs.max_per_user"]
		if at == (Source{}) {
			at = p.from["jobs.max_per_machine"]
		}
		r.notice(at.Line, "jobs.max_per_user", "%d has no effect: it is more than jobs.max_per_machine, %d", p.Jobs.MaxPerUser, p.Jobs.MaxPerMachine)
	}
	for _, k := range keys {
		if rate, ok := k.field(p).(*Rate); ok && *rate > 0 && *rate < least {
			r.notice(p.from[k.name].Line, k.name, "behaves as %s; write \"block\" to let nothing through", least)
		}
	}
	for _, k := range keys {
		if from, ok := p.from[k.name]; ok && !p.uses(k.name) {
			table, _ := cutLast(k.name)
			r.notice(from.Line, k.name, "has no effect: there is no limit in [%s]", table)
		}
	}
	if p.Peers.Mode == PeersHosted && len(p.Peers.HostedCaches.Addresses()) == 0 {
		r.problem(p.from["peers.mode"].Line, "peers.mode", "%q needs peers.hosted_caches", PeersHosted)
	}
	for _, level := range []string{".high", ".normal", ".low"} {
		from, limited := p.from["bandwidth.maintenance"+level]
		if _, ok := p.from["bandwidth.maintenance.hours"]; limited && !ok {
			r.problem(from.Line, "bandwidth.maintenance"+level, "needs bandwidth.maintenance.hours")
			return
		}
	}
}
