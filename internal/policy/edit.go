package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Change is a key and the value that it shall have, as people write it, without quotes; an
// empty value stands for the default.
type Change struct{ Key, Value string }

// Edit makes changes in the text of a file and leaves everything else in it as it is, comments
// and order too. What is wrong with the result is told as Problems.
func Edit(name string, text []byte, changes []Change) ([]byte, error) {
	for _, c := range changes {
		doc, problem := scan(text)
		if problem != nil {
			problem.File = name
			return nil, Problems{*problem}
		}
		path := strings.Split(c.Key, ".")
		if c.Value == "" && doc.has(path) { // also of a key that does not exist
			text = doc.remove(path)
			continue
		}
		lit, err := c.literal()
		if err != nil {
			return nil, err
		}
		if c.Value != "" {
			text = doc.set(path, lit)
		}
	}
	if _, err := Parse(name, text); err != nil {
		return nil, err
	}
	return text, nil
}

// literal returns the value as it is written in a file.
func (c Change) literal() (string, error) {
	k := keyNamed(c.Key)
	if k == nil {
		if !slices.ContainsFunc(bitsTableNames(), func(n string) bool { return strings.EqualFold(n, c.Key) }) {
			return "", fmt.Errorf("%s: %s", c.Key, unknown(c.Key))
		}
		if lit, ok := bare(c.Value); ok {
			return lit, nil
		}
		return quote(c.Value), nil
	}
	if c.Value == "" {
		return "", nil
	}
	v, lit := value{kindString, c.Value}, quote(c.Value)
	if text, ok := bare(c.Value); ok && !k.isText() {
		lit, v = text, value{kindInt, text}
		if text == "true" || text == "false" {
			v.kind = kindBool
		}
	}
	p := Default()
	if err := k.set(&p, v); err != nil {
		return "", fmt.Errorf("%s: %w", c.Key, err)
	}
	return lit, nil
}

// bare returns a number or a boolean as TOML writes it, which knows no leading zeros.
func bare(text string) (lit string, ok bool) {
	if text == "true" || text == "false" {
		return text, true
	}
	if n, err := strconv.ParseUint(text, 0, 32); err == nil && strings.HasPrefix(text, "0x") {
		return fmt.Sprintf("0x%X", n), true
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return strconv.FormatInt(n, 10), err == nil
}

func (d *document) has(path []string) bool {
	return slices.ContainsFunc(d.settings, func(s setting) bool { return samePath(s.path, path) })
}

func (d *document) splice(at span, insert string) []byte {
	return slices.Concat(d.text[:at.from], []byte(insert), d.text[at.to:])
}

// samePath compares paths; below [bits] case does not matter.
func samePath(a, b []string) bool {
	if len(a) > 0 && len(b) > 0 && a[0] == bitsTable && b[0] == bitsTable {
		return slices.EqualFunc(a, b, strings.EqualFold)
	}
	return slices.Equal(a, b)
}

// set gives a key a value: where it is set already, else beside its neighbours, else in a new
// table at the end.
func (d *document) set(path []string, lit string) []byte {
	for _, s := range d.settings {
		if samePath(s.path, path) {
			return d.splice(s.valued, lit)
		}
	}
	table, name := path[:len(path)-1], path[len(path)-1]
	eol := "\n"
	if bytes.Contains(d.text, []byte("\r\n")) {
		eol = "\r\n"
	}
	// Into the innermost table that is there, be it written as a header, an inline table or the
	// beginning of a dotted key. An inline table and one of dotted keys must not be opened
	// again by a header.
	for depth := len(table); depth > 0; depth-- {
		parent := path[:depth]
		for _, s := range slices.Backward(d.settings) {
			if len(s.path) <= depth || !samePath(s.path[:depth], parent) || s.given > depth {
				continue
			}
			key := dotted(path[s.given:])
			if s.inline != nil {
				return d.splice(span{s.whole.to, s.whole.to}, ", "+key+" = "+lit)
			}
			if s.given < depth || depth == len(table) {
				at := d.lineEnd(s.whole.to)
				return d.splice(span{at, at}, eol+d.indent(s.whole.from)+key+" = "+lit)
			}
		}
		for _, t := range d.inlines { // an empty one, or one of nothing but inline tables
			if !samePath(t.path, parent) {
				continue
			}
			comma := ","
			if bytes.HasPrefix(bytes.TrimLeft(d.text[t.at:], " \t"), []byte("}")) {
				comma = " "
			}
			return d.splice(span{t.at, t.at}, " "+dotted(path[depth:])+" = "+lit+comma)
		}
		for _, h := range d.headers {
			if depth == len(table) && samePath(h.path, parent) {
				return d.splice(span{h.end, h.end}, eol+name+" = "+lit)
			}
		}
	}
	text := bytes.TrimRight(d.text, " \t\r\n")
	var b bytes.Buffer
	b.Write(text)
	if len(text) > 0 {
		b.WriteString(eol + eol)
	}
	fmt.Fprintf(&b, "[%s]%s%s = %s%s", dotted(table), eol, name, lit, eol)
	return b.Bytes()
}

// dotted joins names of keys, which need no quotes, as all of Ebb's do.
func dotted(names []string) string { return strings.Join(names, ".") }

// indent returns the white space before an offset in its line.
func (d *document) indent(at int) string {
	from := bytes.LastIndexByte(d.text[:at], '\n') + 1
	before := string(d.text[from:at])
	if strings.Trim(before, " \t") != "" {
		return ""
	}
	return before
}

// remove takes a setting out of the text, with its line if it has one for itself.
func (d *document) remove(path []string) []byte {
	for _, s := range d.settings {
		if !samePath(s.path, path) {
			continue
		}
		if s.inline == nil {
			from := bytes.LastIndexByte(d.text[:s.whole.from], '\n') + 1
			to := d.lineEnd(s.whole.to)
			if n := bytes.IndexByte(d.text[to:], '\n'); n >= 0 {
				to += n + 1
			}
			return d.splice(span{from, to}, "")
		}
		return d.splice(d.withComma(s.whole), "")
	}
	return d.text
}

// withComma adds to an element of an inline table the comma behind it or, of the last one, the
// one before.
func (d *document) withComma(at span) span {
	const blank = " \t\r\n"
	behind := bytes.TrimLeft(d.text[at.to:], blank)
	if bytes.HasPrefix(behind, []byte(",")) {
		return span{at.from, len(d.text) - len(bytes.TrimLeft(behind[1:], blank))}
	}
	if before := bytes.TrimRight(d.text[:at.from], blank); bytes.HasSuffix(before, []byte(",")) {
		return span{len(before) - 1, at.to}
	}
	return at
}
