package policy

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Problem is something wrong with a file, or worth knowing about it.
type Problem struct {
	File    string // "" where there is none
	Line    int    // 0 where the file as a whole is meant
	Key     string // "" where none is meant
	Message string
}

func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	if p.Line > 0 {
		if p.File == "" {
			b.WriteString("line ")
		}
		fmt.Fprintf(&b, "%d:", p.Line)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	return b.String() + p.Message
}

// Problems are all that is wrong with a file, in the order of its lines.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
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

// Parse reads the text of a file of that name.
func Parse(name string, text []byte) (Policy, error) {
	p := Default()
	p.file, p.from = name, map[string]source{}
	settings, problems := scan(text)
	for _, s := range settings {
		problems = append(problems, p.apply(s)...)
	}
	for i := range problems {
		problems[i].File = name
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	if len(problems) > 0 {
		return p, problems
	}
	return p, nil
}

func (p *Policy) apply(s setting) Problems {
	k := keyNamed(s.key)
	if k == nil {
		return Problems{{Line: s.line, Key: s.key, Message: unknown(s.key)}}
	}
	if err := k.set(p, s.value); err != nil {
		return Problems{{Line: s.line, Key: s.key, Message: err.Error()}}
	}
	p.from[s.key] = source{line: s.line}
	return nil
}

func unknown(name string) string {
	names := make([]string, len(keys))
	for i := range keys {
		names[i] = keys[i].name
	}
	if s := suggest(name, names); s != "" {
		return "there is no such key; did you mean " + s + "?"
	}
	return "there is no such key"
}

// setting is one KEY = VALUE of a file.
type setting struct {
	key  string // with its tables, joined by dots
	line int
	value
}

// value is a value as it is in a file: its kind and its text, without quotes.
type value struct {
	kind unstable.Kind
	text string
}

const (
	kindString = unstable.String
	kindInt    = unstable.Integer
	kindBool   = unstable.Bool
)

// scan takes a file apart. After an error of TOML itself it returns no settings.
func scan(text []byte) ([]setting, Problems) {
	var tree map[string]any // finds what the parser below does not: keys that are set twice
	if err := toml.Unmarshal(text, &tree); err != nil {
		problem := Problem{Message: strings.TrimPrefix(err.Error(), "toml: ")}
		var at *toml.DecodeError
		if errors.As(err, &at) {
			problem.Line, _ = at.Position()
		}
		return nil, Problems{problem}
	}
	var (
		parser   unstable.Parser
		settings []setting
		table    []string
	)
	parser.Reset(text)
	for parser.NextExpression() {
		switch e := parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = names(e)
		case unstable.KeyValue:
			settings = collect(&parser, settings, table, e)
		}
	}
	if err := parser.Error(); err != nil {
		return nil, Problems{{Message: err.Error()}}
	}
	return settings, nil
}

// collect adds what a KEY = VALUE sets: one setting or, with an inline table, several.
func collect(parser *unstable.Parser, settings []setting, table []string, e *unstable.Node) []setting {
	path := append(slices.Clip(table), names(e)...)
	v := e.Value()
	if v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			if n := it.Node(); n.Kind == unstable.KeyValue {
				settings = collect(parser, settings, path, n)
			}
		}
		return settings
	}
	line := parser.Shape(e.Raw).Start.Line
	return append(settings, setting{key: strings.Join(path, "."), line: line, value: value{kind: v.Kind, text: string(v.Data)}})
}

func names(e *unstable.Node) []string {
	var out []string
	for it := e.Key(); it.Next(); {
		out = append(out, string(it.Node().Data))
	}
	return out
}
