package bits

import (
	"strings"
	"testing"
)

// TestDecide holds every cell of client.md 3.2, written out once more and apart from the table
// in the code: a line per method and set of facts, a word per state in the order SUSPENDED
// QUEUED CONNECTING TRANSFERRING TRANSIENT_ERROR ERROR TRANSFERRED ACKNOWLEDGED CANCELLED. A
// word is the state after the call, or the code it is refused with; "same" is no change.
func TestDecide(t *testing.T) {
	const (
		invalid = " BG_E_INVALID_STATE"
		finals  = invalid + invalid
	)
	all := func(word string, n int) string { return strings.Repeat(word+" ", n) }
	some := Facts{Files: 3, Unfinished: 2}
	done := Facts{Files: 3}
	with := func(f Facts, change func(*Facts)) Facts { change(&f); return f }
	upload := Facts{Type: Upload, Files: 1}
	reply := Facts{Type: UploadReply, Files: 1}

	for _, c := range []struct {
		name   string
		method Method
		facts  Facts
		want   string
	}{
		{"Suspend", MethodSuspend, some, "same SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED same" + finals},
		{"Resume without files", MethodResume, Facts{}, all("BG_E_EMPTY", 7) + finals},
		{"Resume with work", MethodResume, some, "QUEUED same same same QUEUED QUEUED QUEUED" + finals},
		{"Resume with nothing left", MethodResume, done, "QUEUED same same same QUEUED QUEUED same" + finals},
		{"Cancel", MethodCancel, some, all("CANCELLED", 7) + finals},
		{"Cancel of an upload", MethodCancel, upload, all("CANCELLED", 7) + finals},
		{"Complete of a download with work left", MethodComplete, some, all("ACKNOWLEDGED/BG_S_PARTIAL_COMPLETE", 6) + "ACKNOWLEDGED" + finals},
		{"Complete of a download with nothing left", MethodComplete, done, all("ACKNOWLEDGED", 7) + finals},
		{"Complete of a download without files", MethodComplete, Facts{}, all("ACKNOWLEDGED/BG_S_PARTIAL_COMPLETE", 6) + "ACKNOWLEDGED" + finals},
		{"Complete of an upload", MethodComplete, upload, all("BG_E_INVALID_STATE", 6) + "ACKNOWLEDGED" + finals},
		{"Complete of an upload-reply", MethodComplete, reply, all("BG_E_INVALID_STATE", 6) + "ACKNOWLEDGED" + finals},
		{"AddFile", MethodAddFile, some, all("same", 7) + finals},
		{"AddFileWithRanges, download", MethodAddFileWithRanges, some, all("same", 7) + finals},
		{"AddFileWithRanges, upload", MethodAddFileWithRanges, upload, all("E_NOTIMPL", 9)},
		{"setters", MethodSetProperty, some, all("same", 7) + finals},
		{"SetReplyFileName", MethodSetReplyFileName, reply, all("same", 6) + "BG_E_INVALID_STATE" + finals},
		{"SetReplyFileName, reply begun", MethodSetReplyFileName, with(reply, func(f *Facts) { f.ReplyStarted = true }), "same same same" + strings.Repeat(invalid, 4) + finals},
		{"SetReplyFileName of a download", MethodSetReplyFileName, some, all("E_NOTIMPL", 9)},
		{"SetFileACLFlags", MethodSetFileACLFlags, some, all("same", 6) + "BG_E_INVALID_STATE" + finals},
		{"ReplaceRemotePrefix, download", MethodReplaceRemotePrefix, some, all("same", 7) + finals},
		{"ReplaceRemotePrefix, upload", MethodReplaceRemotePrefix, upload, all("E_NOTIMPL", 9)},
		{"SetServerCertificateValidationInterface", MethodSetCertificateCallback, some, "same " + all("BG_E_READ_ONLY_WHEN_JOB_ACTIVE", 4) + "same same" + finals},
		{"SetHttpMethod before Resume", MethodSetBeforeResume, some, all("same", 7) + finals},
		{"SetHttpMethod after Resume", MethodSetBeforeResume, with(some, func(f *Facts) { f.Resumed = true }), all("BG_E_READ_ONLY_PROPERTY_AFTER_RESUME", 7) + finals},
		{"HIGH_PERFORMANCE before AddFile", MethodSetBeforeAddFile, Facts{}, all("same", 7) + finals},
		{"HIGH_PERFORMANCE after AddFile", MethodSetBeforeAddFile, some, all("BG_E_READ_ONLY_PROPERTY_AFTER_ADDFILE", 7) + finals},
		{"TakeOwnership", MethodTakeOwnership, some, all("same", 7) + finals},
		{"GetError, error kept", MethodGetError, with(some, func(f *Facts) { f.ErrorKept = true }),
			"BG_E_ERROR_INFORMATION_UNAVAILABLE same BG_E_ERROR_INFORMATION_UNAVAILABLE BG_E_ERROR_INFORMATION_UNAVAILABLE same same " + all("BG_E_ERROR_INFORMATION_UNAVAILABLE", 3)},
		{"GetError, no error", MethodGetError, some, all("BG_E_ERROR_INFORMATION_UNAVAILABLE", 9)},
		{"GetReplyData", MethodGetReplyData, reply, all("BG_E_INVALID_STATE", 6) + "same same" + invalid},
		{"GetReplyData of a download", MethodGetReplyData, some, all("E_NOTIMPL", 9)},
		{"SetValidationState of a done file", MethodSetValidationState, with(some, func(f *Facts) { f.FileDone = true }), all("same", 7) + finals},
		{"SetValidationState of a pending file", MethodSetValidationState, some, all("E_PENDING", 7) + finals},
	} {
		words := strings.Fields(c.want)
		if len(words) != States {
			t.Fatalf("%s: %d words, want %d", c.name, len(words), States)
		}
		for i, state := range columns {
			got := Decide(state, c.method, c.facts)
			word := got.Code.Name()
			switch {
			case got.Code == OK && got.Next == state:
				word = "same"
			case got.Code == OK:
				word = got.Next.String()
			case !got.Code.Failed():
				word = got.Next.String() + "/" + got.Code.Name()
			}
			if word != words[i] {
				t.Errorf("%s in %s: %s, want %s", c.name, state, word, words[i])
			}
			if got.Code.Failed() && got.Next != state {
				t.Errorf("%s in %s is refused but leads to %s", c.name, state, got.Next)
			}
		}
	}
}

// TestFinalStatesNeverChange checks for all methods and many facts what client.md 3.1 says.
func TestFinalStatesNeverChange(t *testing.T) {
	for m := MethodSuspend; m <= MethodSetValidationState; m++ {
		for n := range 1 << 7 {
			bit := func(i int) bool { return n>>i&1 == 1 }
			f := Facts{Type: Type(n % 3), Resumed: bit(2), ErrorKept: bit(3), FileDone: bit(4), ReplyStarted: bit(5)}
			if bit(6) {
				f.Files, f.Unfinished = 2, n%2
			}
			for _, s := range []State{Acknowledged, Cancelled} {
				if v := Decide(s, m, f); v.Next != s {
					t.Errorf("method %d with %+v leads from %s to %s", m, f, s, v.Next)
				}
			}
		}
	}
}
