package bits

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write docs/properties.md anew")

// TestPropertiesDocument keeps docs/properties.md equal to what the table of properties says.
func TestPropertiesDocument(t *testing.T) {
	doc := propertiesDocument()
	name := filepath.Join("..", "docs", "properties.md")
	if *update {
		if err := os.WriteFile(name, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(committed) != doc {
		t.Error("docs/properties.md is old: go test ./bits -run PropertiesDocument -update")
	}
}

func propertiesDocument() string {
	var b strings.Builder
	b.WriteString(`# Properties of jobs

Made from bits.PropertyTable by ` + "`go test ./bits -run PropertiesDocument -update`" + `; do not edit.

` + "`ebb set JOB NAME=VALUE...`" + ` sets properties, all or none; ` + "`ebb create --set NAME=VALUE`" + ` those of a new
job; ` + "`PATCH /v1/jobs/JOB`" + ` and the setters of ` + "`client.Job`" + ` do the same. ` + "`ebb show JOB`" + ` tells those that are not at
their defaults, ` + "`--properties`" + ` all of them as ` + "`ebb set`" + ` takes them, but
of headers only the names.

`)
	for i := range PropertyTable {
		p := &PropertyTable[i]
		fmt.Fprintf(&b, "## %s\n\n%s%s.\n\n", p.Name, strings.ToUpper(p.Doc[:1]), p.Doc[1:])
		line := func(what, text string) {
			if text != "" {
				fmt.Fprintf(&b, "- %s: %s\n", what, text)
			}
		}
		line("Values", p.Range)
		if p.Default != "" {
			line("Default", "`"+p.Default+"`")
		}
		var jobs []string
		for _, kind := range p.For {
			jobs = append(jobs, kind.String())
		}
		if p.For != nil {
			code := NotImplemented
			if p.For[0] == Download {
				code = DownloadJobsOnly
			}
			line("Jobs", strings.Join(jobs, ", ")+"; others refuse it with "+code.Name())
		}
		line("Settable", settable(p.When))
		if p.OwnerOnly {
			line("By", "the owner alone; an administrator is refused with "+AccessDenied.Name())
		}
		if p.ActsAsOwner {
			line("By", "the owner, or root; another administrator is refused with "+AccessDenied.Name())
		}
		if p.Restarts {
			line("Effect", "a running transfer starts again with the new value and goes on where it was")
		}
		if p.BITS != "" {
			line("BITS", p.BITS)
		}
		b.WriteByte('\n')
	}
	b.WriteString(`## What does not go together

| | with | refused with |
|---|---|---|
| ` + "`http_method`" + ` other than GET | ` + "`dynamic_content`, `on_demand`" + `, a ` + "`priority`" + ` other than FOREGROUND | ` + NotWithCustomMethod.Name() + ` |
| ` + "`dynamic_content`" + ` | ` + "`on_demand`" + ` | ` + UnsupportedConfiguration.Name() + ` |
| ` + "`headers_write_only`" + ` | going back to false | ` + ReadOnlyProperty.Name() + ` |

## Properties that cannot be set

| in JSON | BITS | |
|---|---|---|
| ` + "`id`" + ` | Id | random, or chosen by who creates the job |
| ` + "`type`" + ` | Type | DOWNLOAD, UPLOAD or UPLOAD_REPLY, fixed at creation |
| ` + "`owner`" + ` | Owner | who created the job; ` + "`ebb own`" + ` changes it |
| ` + "`state`" + ` | State | changed by suspend, resume, cancel and complete, and by what happens |
| ` + "`progress`, `reply`" + ` | Progress, ReplyProgress | bytes and files that moved |
| ` + "`times`" + ` | Times | when it was made, changed, transferred |
| ` + "`error`" + ` | Error | code, place, file and protocol; in ERROR and TRANSIENT_ERROR |
| ` + "`error_count`" + ` | ErrorCount | interruptions by errors; never reset |
`)
	return b.String()
}

// settable says in words what a row of the state machine does.
func settable(when Method) string {
	const final = "; in ACKNOWLEDGED and CANCELLED it is refused with BG_E_INVALID_STATE"
	switch when {
	case MethodSetBeforeResume:
		return "until the job is resumed for the first time, then refused with " + ReadOnlyAfterResume.Name() + final
	case MethodSetBeforeAddFile:
		return "until the job has a file, then refused with " + ReadOnlyAfterAddFile.Name() + final
	case MethodSetFileACLFlags:
		return "until the job is TRANSFERRED, then refused with " + InvalidState.Name()
	case MethodSetReplyFileName:
		return "until the answer's download begins or the job is TRANSFERRED, then refused with " + InvalidState.Name()
	}
	return "in all states but ACKNOWLEDGED and CANCELLED, which refuse it with " + InvalidState.Name()
}

// TestWords: what joinWords writes is what splitWords reads.
func TestWords(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", []string{}},
		{"  ", []string{}},
		{"/bin/echo a  b", []string{"/bin/echo", "a", "b"}},
		{`a 'b c' "d 'e'" f\ g ''`, []string{"a", "b c", "d 'e'", "f g", ""}},
		{`a"b"'c'`, []string{"abc"}},
		{`'a\b' "a\"b"`, []string{`a\b`, `a"b`}},
	} {
		got, err := splitWords(c.text)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, %v, want %q", c.text, got, err, c.want)
		}
		if again, err := splitWords(joinWords(got)); err != nil || !slices.Equal(again, got) {
			t.Errorf("%q becomes %q, then %q: %v", c.text, joinWords(got), again, err)
		}
	}
	for _, text := range []string{`'a`, `"a`, `a\`} {
		if got, err := splitWords(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// FuzzWords: any words can be written and read.
func FuzzWords(f *testing.F) {
	f.Add("a", "b c")
	f.Add("'", `\"`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if !utf8.ValidString(a) || !utf8.ValidString(b) {
			t.Skip()
		}
		want := []string{a, b}
		if got, err := splitWords(joinWords(want)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q becomes %q: %v", want, got, err)
		}
	})
}
