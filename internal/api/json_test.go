package api

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/quick"
	"time"

	"github.com/ebbtransfer/ebb/bits"
)

// TestAppendJobIsWhatMarshalMakes fills jobs at random, field by field, so that a new field that
// appendJob does not know is found.
func TestAppendJobIsWhatMarshalMakes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var j bits.Job
		fill(t, random, reflect.ValueOf(&j).Elem())
		want, err := json.Marshal(j)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendJob(nil, &j); !bytes.Equal(got, want) {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
}

var texts = []string{"", "plain", `quo"te`, "back\\slash", "<a&b>", "é", "line\n", "\u2028", "\x00", "bad \xff utf-8", "http://h/p?a=1&b=2"}

// fill gives a value of any type that a job has random content.
func fill(t *testing.T, r *rand.Rand, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(r.Int64N(1e10), r.Int64N(2)*r.Int64N(1e9)).UTC()
		return
	case *bits.State:
		*x = bits.State(r.IntN(bits.States))
		return
	case *bits.Type:
		*x = bits.Type(r.IntN(3))
		return
	case *bits.Priority:
		*x = bits.Priority(r.IntN(bits.Priorities))
		return
	case *bits.Context:
		*x = bits.Context(r.IntN(9))
		return
	case *bits.Cost:
		*x = bits.Cost(r.Uint32())
		return
	case *bits.NotifyFlags:
		*x = bits.NotifyFlags(r.Uint32())
		return
	case *bits.SecurityFlags:
		*x = bits.SecurityFlags(r.Uint32N(2) * r.Uint32())
		return
	case *bits.ACLFlags:
		*x = bits.ACLFlags(r.Uint32N(20))
		return
	case *bits.PeerFlags:
		*x = bits.PeerFlags(r.Uint32N(10))
		return
	case *bits.AuthTarget:
		*x = bits.AuthTarget(r.IntN(3))
		return
	case *bits.AuthScheme:
		*x = bits.AuthScheme(r.IntN(7))
		return
	case *bits.ProxyUsage:
		*x = bits.ProxyUsage(r.IntN(4))
		return
	case *bits.Size:
		*x = bits.Size(r.Int64N(100) - 50)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, r, v.Field(i))
		}
	case reflect.Pointer:
		if r.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, r, v.Elem())
		}
	case reflect.Slice:
		if n := r.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n-1))
			for i := range v.Len() {
				fill(t, r, v.Index(i))
			}
		}
	case reflect.String:
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(r.Uint64() & 0xff)
		}
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64N(3) * r.Int64N(1<<50))
	default:
		t.Fatalf("a job has a field of type %s, which this test cannot fill", v.Type())
	}
}

func TestAppendString(t *testing.T) {
	same := func(s string) bool {
		want, err := json.Marshal(s)
		return err == nil && bytes.Equal(appendString(nil, s), want)
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
}
