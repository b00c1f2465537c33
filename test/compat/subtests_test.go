package compat

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// tests are the tests of a package, each with the names of its subtests as `go test -run` has them.
type tests map[string]map[string]bool

// testsOf reads the tests of a package in its source. Of the names of subtests it knows literals, and
// those that stand in a table over which a loop around t.Run ranges: elements, keys, and fields.
func testsOf(t *testing.T, dir string) tests {
	t.Helper()
	files, err := fs.Glob(os.DirFS(dir), "*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var functions []*ast.FuncDecl
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Body != nil {
				functions = append(functions, fn)
			}
		}
	}
	found := tests{}
	for _, fn := range functions {
		if name := fn.Name.Name; strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Example") || strings.HasPrefix(name, "Fuzz") {
			found[name] = subtests(fn.Body)
		}
	}
	return found
}

// subtests returns the names of the calls of t.Run in a function, those in others behind the other's
// name and a '/'.
func subtests(body ast.Node) map[string]bool {
	names := map[string]bool{}
	var around []ast.Node // the nodes that the present one is in
	runs := map[*ast.CallExpr][]string{}
	ast.Inspect(body, func(n ast.Node) bool {
		if n == nil {
			around = around[:len(around)-1]
			return true
		}
		if call, ok := n.(*ast.CallExpr); ok && len(call.Args) == 2 {
			if s, ok := call.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Run" {
				outer := []string{""}
				for _, o := range around {
					if within, ok := runs[asCall(o)]; ok {
						outer = within
					}
				}
				runs[call] = nil
				for _, o := range outer {
					for _, name := range valuesOf(call.Args[0], around) {
						full := o + strings.ReplaceAll(name, " ", "_")
						names[full] = true
						runs[call] = append(runs[call], full+"/")
					}
				}
			}
		}
		around = append(around, n)
		return true
	})
	return names
}

func asCall(n ast.Node) *ast.CallExpr {
	call, _ := n.(*ast.CallExpr)
	return call
}

// valuesOf returns the strings that an expression has in the loops around it; none if that is not
// to be seen.
func valuesOf(x ast.Expr, around []ast.Node) (all []string) {
	for _, e := range expand(x, around) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				all = append(all, s)
			}
		}
	}
	return all
}

// expand returns what an expression stands for: of a loop's variable each element, of a field or an
// index of such that of each.
func expand(x ast.Expr, around []ast.Node) (all []ast.Expr) {
	switch x := x.(type) {
	case *ast.Ident:
		for _, n := range slices.Backward(around) {
			loop, ok := n.(*ast.RangeStmt)
			if !ok || !isNamed(loop.Key, x.Name) && !isNamed(loop.Value, x.Name) {
				continue
			}
			for _, e := range elements(loop.X, around) {
				switch pair, ok := e.(*ast.KeyValueExpr); {
				case !ok && isNamed(loop.Value, x.Name):
					all = append(all, e)
				case ok && isNamed(loop.Key, x.Name):
					all = append(all, pair.Key)
				case ok:
					all = append(all, pair.Value)
				}
			}
			return all
		}
	case *ast.SelectorExpr:
		for _, e := range expand(x.X, around) {
			if v := field(e, x.Sel.Name, fields(x.X, around)); v != nil {
				all = append(all, v)
			}
		}
	case *ast.IndexExpr:
		at, ok := x.Index.(*ast.BasicLit)
		if !ok {
			return nil
		}
		n, err := strconv.Atoi(at.Value)
		for _, e := range expand(x.X, around) {
			if list, ok := e.(*ast.CompositeLit); ok && err == nil && n < len(list.Elts) {
				all = append(all, list.Elts[n])
			}
		}
	case *ast.BasicLit, *ast.CompositeLit:
		return []ast.Expr{x}
	}
	return all
}

// table returns the composite literal over which a loop ranges: itself, or a variable's.
func table(x ast.Expr, around []ast.Node) *ast.CompositeLit {
	switch x := x.(type) {
	case *ast.CompositeLit:
		return x
	case *ast.Ident:
		var found *ast.CompositeLit
		ast.Inspect(around[0], func(n ast.Node) bool {
			if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 && isNamed(a.Lhs[0], x.Name) && a.Tok == token.DEFINE {
				found, _ = a.Rhs[0].(*ast.CompositeLit)
			}
			return found == nil
		})
		return found
	}
	return nil
}

func elements(x ast.Expr, around []ast.Node) []ast.Expr {
	if t := table(x, around); t != nil {
		return t.Elts
	}
	return nil
}

// fields returns the names of the fields of a loop's variable, in their order, if they stand in the
// type of the table.
func fields(x ast.Expr, around []ast.Node) (names []string) {
	v, ok := x.(*ast.Ident)
	if !ok {
		return nil
	}
	for _, n := range slices.Backward(around) {
		loop, ok := n.(*ast.RangeStmt)
		if !ok || !isNamed(loop.Value, v.Name) {
			continue
		}
		t := table(loop.X, around)
		if t == nil {
			return nil
		}
		var element ast.Expr
		switch list := t.Type.(type) {
		case *ast.ArrayType:
			element = list.Elt
		case *ast.MapType:
			element = list.Value
		}
		s, ok := element.(*ast.StructType)
		if !ok {
			return nil
		}
		for _, f := range s.Fields.List {
			for _, name := range f.Names {
				names = append(names, name.Name)
			}
		}
		return names
	}
	return nil
}

// field returns the value that a field has in an element of a table.
func field(e ast.Expr, name string, order []string) ast.Expr {
	c, ok := e.(*ast.CompositeLit)
	if !ok {
		return nil
	}
	for i, v := range c.Elts {
		pair, ok := v.(*ast.KeyValueExpr)
		switch {
		case ok && isNamed(pair.Key, name):
			return pair.Value
		case !ok && i < len(order) && order[i] == name:
			return v
		}
	}
	return nil
}

func isNamed(x ast.Expr, name string) bool {
	id, ok := x.(*ast.Ident)
	return ok && id.Name == name
}

// TestSubtests: the names are those that a run of such a test has, and no other strings.
func TestSubtests(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "", `package p
func f(t *testing.T) {
	cases := []struct{ a, name string; args []string }{{"no", "by position", nil}, {name: "by name", args: []string{"x", "no"}}}
	t.Run("one two", func(t *testing.T) {
		t.Log("no")
		t.Run("inner", func(t *testing.T) {})
	})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {})
	}
	for _, c := range cases {
		t.Run(c.args[0], func(t *testing.T) {})
	}
	for key, value := range map[string]string{"key": "no"} {
		t.Run(key, func(t *testing.T) { t.Log(value) })
	}
	for _, name := range []string{"/listed"} {
		t.Run(name, func(t *testing.T) { t.Run("below", nil) })
	}
	t.Run(other(), nil)
}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(maps.Keys(subtests(f.Decls[0].(*ast.FuncDecl).Body)))
	want := []string{"/listed", "/listed/below", "by_name", "by_position", "key", "one_two", "one_two/inner", "x"}
	if !slices.Equal(got, want) {
		t.Errorf("the subtests are %q, want %q", got, want)
	}
}
