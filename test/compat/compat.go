// Package compat is the table of all that BITS, its cmdlets and bitsadmin offer: for each method,
// property, parameter and switch the counterpart in Ebb and the test that proves it, or why there
// is none. docs/compat.md is made from it; a test fails when the document is old, when a row
// names no test, and when the test it names does not exist.
package compat

import (
	"fmt"
	"slices"
	"strings"
)

// A Row is one thing that BITS offers.
type Row struct {
	BITS string // its name there
	Ebb  string // what serves for it in Ebb; empty if nothing does
	// Test proves the row: the package's directory, a dot, and the test's name, with a subtest
	// after a '/': "internal/queue.TestQuotas". What one test does not prove alone has several, with
	// "; " between. A row without a counterpart needs none.
	Test string
	Why  string // why it is left out, or how it differs
}

// A Section is an interface, a cmdlet or a tool.
type Section struct {
	Title string
	Intro string
	Rows  []Row
}

// Sections are all parts of the table, in the order of the document.
func Sections() []Section {
	var all []Section
	for _, part := range [][]Section{interfaces, codes, cmdlets, bitsadmin, branchcache} {
		all = append(all, part...)
	}
	return all
}

// Markdown returns docs/compat.md.
func Markdown() string {
	var b strings.Builder
	count := func(parts ...[]Section) (rows, out int) {
		for _, s := range slices.Concat(parts...) {
			for _, r := range s.Rows {
				if rows++; r.Ebb == "" {
					out++
				}
			}
		}
		return rows, out
	}
	rows, out := count(interfaces, cmdlets, bitsadmin, branchcache)
	all, unused := count(codes)
	fmt.Fprintf(&b, `# Compatibility with BITS

Made from test/compat by `+"`go test ./test/compat -update`"+`; do not edit. Of %d methods, properties,
parameters and switches of BITS 10.3, its cmdlets, bitsadmin and BranchCache, %d have a counterpart in Ebb, each with the
test that proves it, and %d are left out for the reason in their row. Of %d result codes no job and no call ends in %d.
`, rows, rows-out, out, all, unused)
	for _, s := range Sections() {
		fmt.Fprintf(&b, "\n## %s\n\n", s.Title)
		if s.Intro != "" {
			fmt.Fprintf(&b, "%s\n\n", s.Intro)
		}
		b.WriteString("| BITS | Ebb | proved by |\n|---|---|---|\n")
		for _, r := range s.Rows {
			ebb := r.Ebb
			switch {
			case ebb == "":
				ebb = "left out: " + r.Why
			case r.Why != "":
				ebb += " (" + r.Why + ")"
			}
			test := ""
			if r.Test != "" {
				test = "`" + strings.ReplaceAll(r.Test, "; ", "`, `") + "`"
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(r.BITS), cell(ebb), cell(test))
		}
	}
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
