package policy

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/ebbtransfer/ebb/bits"
)

// document is a file taken apart, with the places of all that is in it.
type document struct {
	text     []byte
	headers  []header // the first stands for the lines above all headers
	settings []setting
	inlines  []brace
}

// header is a [table].
type header struct {
	path  []string
	line  int
	array bool // [[table]]
	end   int  // offset of the end of its line, without the line break
}

// brace is an inline table.
type brace struct {
	path []string
	at   int // offset behind its brace
}

// setting is a KEY = VALUE.
type setting struct {
	path    []string // the table's names and the key's
	line    int
	section int   // the header that it stands below
	inline  *span // the inline table that it stands in, if any
	given   int   // how many names of path come from the header and from inline tables
	whole   span  // KEY = VALUE
	valued  span  // VALUE
	value
}

// value is a value's kind and its text, without quotes.
type value struct {
	kind unstable.Kind
	text string
}

const (
	kindString = unstable.String
	kindInt    = unstable.Integer
	kindBool   = unstable.Bool
)

// span is a part of a text, by offsets.
type span struct{ from, to int }

// name is the path as people write it.
func (s *setting) name() string { return strings.Join(s.path, ".") }

// scan takes a file apart, or says what is not TOML in it.
func scan(text []byte) (document, *bits.PolicyProblem) {
	doc := document{text: text, headers: []header{{}}}
	var tree map[string]any // finds what the parser below does not: keys that are set twice
	if err := toml.Unmarshal(text, &tree); err != nil {
		problem := &bits.PolicyProblem{Message: strings.TrimPrefix(err.Error(), "toml: ")}
		var at *toml.DecodeError
		if errors.As(err, &at) {
			problem.Line, _ = at.Position()
			problem.Key = strings.Join(at.Key(), ".")
		}
		return doc, problem
	}
	var p unstable.Parser
	p.Reset(text)
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			names, last := keyOf(e)
			doc.headers = append(doc.headers, header{
				path: names, line: p.Shape(last.Raw).Start.Line, array: e.Kind == unstable.ArrayTable,
				end: doc.lineEnd(int(last.Raw.Offset)),
			})
		case unstable.KeyValue:
			doc.collect(&p, e, doc.headers[len(doc.headers)-1].path, nil)
		}
	}
	return doc, nil
}

// collect adds what a KEY = VALUE sets: one setting or, with an inline table, several.
func (d *document) collect(p *unstable.Parser, e *unstable.Node, table []string, inline *span) {
	names, last := keyOf(e)
	whole := span{int(e.Raw.Offset), int(e.Raw.Offset + e.Raw.Length)}
	// Between the key and the value is only white space and the equals sign.
	valued := int(last.Raw.Offset + last.Raw.Length)
	for valued < whole.to && strings.IndexByte(" \t=", d.text[valued]) >= 0 {
		valued++
	}
	path := slices.Concat(table, names)
	if v := e.Value(); v.Kind == unstable.InlineTable {
		d.inlines = append(d.inlines, brace{path, int(v.Raw.Offset) + 1})
		for it := v.Children(); it.Next(); {
			if n := it.Node(); n.Kind == unstable.KeyValue {
				d.collect(p, n, path, &span{valued, whole.to})
			}
		}
		return
	}
	d.settings = append(d.settings, setting{
		path: path, line: p.Shape(e.Raw).Start.Line, section: len(d.headers) - 1, inline: inline, given: len(table),
		whole: whole, valued: span{valued, whole.to}, value: value{kind: e.Value().Kind, text: string(e.Value().Data)},
	})
}

// keyOf returns the names of a dotted key, and the node of the last.
func keyOf(e *unstable.Node) (names []string, last *unstable.Node) {
	for it := e.Key(); it.Next(); {
		last = it.Node()
		names = append(names, string(last.Data))
	}
	return names, last
}

// lineEnd returns the offset at which the line around an offset ends, without its line break.
func (d *document) lineEnd(at int) int {
	if n := bytes.IndexByte(d.text[at:], '\n'); n >= 0 {
		if at += n; at > 0 && d.text[at-1] == '\r' {
			at--
		}
		return at
	}
	return len(d.text)
}
