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
their defaults, ` + "`--properties`" + ` all that a job of its type has, in the form that
` + "`ebb set`" + ` takes; of headers only the names.

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
		line("Settable", settable(p))
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
| ` + "`http_method`" + ` other than the usual one | ` + "`dynamic_content`, `on_demand`" + `, a ` + "`priority`" + ` other than FOREGROUND | ` + NotWithCustomMethod.Name() + ` |
| ` + "`http_method`" + ` of an upload | ` + "`protocol`" + ` tus, ietf or s3; ` + "`file://` and `s3://`" + ` targets | ` + NotWithCustomMethod.Name() + ` |
| ` + "`dynamic_content`" + ` | ` + "`on_demand`" + ` | ` + UnsupportedConfiguration.Name() + ` |
| files with ranges | ` + "`dynamic_content`, mirrors, `only_if_newer`" + ` of the file | ` + UnsupportedConfiguration.Name() + ` |
| files with ranges | ` + "`http_method`" + ` other than GET | ` + NotWithCustomMethod.Name() + ` |
| files with ranges | URLs of files: ` + "`file://`, `smb://`" + ` | ` + InsufficientRangeSupport.Name() + ` |
| ` + "`on_demand`" + ` | URLs of files: ` + "`file://`, `smb://`" + ` | ` + RandomAccessNotSupported.Name() + ` |
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

// settable says in words what the state machine does: before and after what closes a property for good.
func settable(p *Property) string {
	f := Facts{Files: 1}
	if p.For != nil {
		f.Type = p.For[len(p.For)-1]
	}
	until := ""
	then := f
	switch p.When {
	case MethodSetBeforeResume:
		until, then.Resumed = "the job is resumed for the first time", true
	case MethodSetBeforeAddFile:
		until, then.Files, f.Files = "the job has a file", 1, 0
	case MethodSetReplyFileName:
		until, then.ReplyStarted = "the answer's download begins", true
	}
	if until == "" {
		return statesOf(p.When, f)
	}
	return "until " + until + " (" + statesOf(p.When, f) + "); then " + statesOf(p.When, then)
}

// statesOf says in which states a method is carried out, and with what the others refuse it.
func statesOf(m Method, f Facts) string {
	var takes []string
	var codes []Code
	refuses := map[Code][]string{}
	for _, s := range columns {
		switch code := Decide(s, m, f).Code; code {
		case OK:
			takes = append(takes, s.String())
		default:
			if refuses[code] == nil {
				codes = append(codes, code)
			}
			refuses[code] = append(refuses[code], s.String())
		}
	}
	words := ""
	switch {
	case len(takes) == 0 && len(codes) > 1: // then the final states differ from all others
		words = "refused with " + codes[0].Name()
		codes = codes[1:]
	case len(codes) == 1 && len(takes) > len(refuses[codes[0]]):
		return "in all states but " + list(refuses[codes[0]]) + ", which refuse it with " + codes[0].Name()
	default:
		words = "in " + list(takes)
	}
	for _, c := range codes {
		words += "; " + list(refuses[c]) + " refuse it with " + c.Name()
	}
	return words
}

func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
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
