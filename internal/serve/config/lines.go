package config

import (
	"fmt"

	"github.com/pelletier/go-toml/v2/unstable"
)

// lines maps each key of a TOML text, such as "group[0].uploads.max_size", to its line. The text
// was parsed before.
func lines(text []byte) map[string]int {
	at := map[string]int{}
	length := map[string]int{} // of arrays of tables
	table := ""
	resolve := func(it unstable.Iterator, base string) (key string, last *unstable.Node) {
		key = base
		for it.Next() {
			if last != nil {
				if n := length[key]; n > 0 {
					key += fmt.Sprintf("[%d]", n-1)
				}
			}
			if last = it.Node(); key != "" {
				key += "."
			}
			key += string(last.Data)
		}
		return key, last
	}
	var p unstable.Parser
	var collect func(e *unstable.Node, base string)
	collect = func(e *unstable.Node, base string) {
		key, last := resolve(e.Key(), base)
		at[key] = p.Shape(last.Raw).Start.Line
		if v := e.Value(); v.Kind == unstable.InlineTable {
			for it := v.Children(); it.Next(); {
				if n := it.Node(); n.Kind == unstable.KeyValue {
					collect(n, key)
				}
			}
		}
	}
	p.Reset(text)
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			key, last := resolve(e.Key(), "")
			if e.Kind == unstable.ArrayTable {
				length[key]++
			}
			if n := length[key]; n > 0 {
				key += fmt.Sprintf("[%d]", n-1)
			}
			at[key], table = p.Shape(last.Raw).Start.Line, key
		case unstable.KeyValue:
			collect(e, table)
		}
	}
	return at
}
