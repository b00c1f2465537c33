package compat

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// quoted are the names in a row.
var quoted = regexp.MustCompile("`[^`]+`")

// TestCounterpartsExist: what a row says of the Go packages, and of properties, is there under that name.
func TestCounterpartsExist(t *testing.T) {
	types := map[string]reflect.Type{}
	for _, v := range []any{client.Manager{}, client.Job{}, client.ListOptions{}, bits.Job{}, bits.File{}, bits.FileSpec{}, bits.FileDetail{}, bits.Reply{}, bits.ErrorInfo{}} {
		types[reflect.TypeOf(v).String()] = reflect.TypeOf(v)
	}
	seen := 0
	for _, s := range Sections() {
		for _, r := range s.Rows {
			after := strings.SplitAfter(r.Ebb, "property `")
			for _, p := range after[1:] {
				name, _, _ := strings.Cut(p, "`")
				if bits.FindProperty(name) == nil {
					t.Errorf("%s, %s: there is no property %s", s.Title, r.BITS, name)
				}
				seen++
			}
			for _, name := range quoted.FindAllString(r.Ebb+r.Why, -1) {
				name = strings.Trim(name, "`")
				dot := strings.LastIndexByte(name, '.')
				if !strings.HasPrefix(name, "client.") && !strings.HasPrefix(name, "bits.") || dot < 0 {
					continue
				}
				of := types[name[:dot]]
				if of == nil {
					t.Errorf("%s, %s: this test knows no %s", s.Title, r.BITS, name)
					continue
				}
				_, method := reflect.PointerTo(of).MethodByName(name[dot+1:])
				_, field := of.FieldByName(name[dot+1:])
				if !method && !field {
					t.Errorf("%s, %s: there is no %s", s.Title, r.BITS, name)
				}
				seen++
			}
		}
	}
	if seen < 100 {
		t.Errorf("this test found %d names", seen)
	}
}
