package scenario

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/compat"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// raw returns what a command line of bitsadmin prints with /rawreturn.
func (s *service) raw(args ...string) string {
	s.t.Helper()
	return s.cli(append([]string{"bitsadmin", "/rawreturn"}, args...)...).want(s.t, 0).out
}

// admin runs a command line of bitsadmin and returns what it prints below the banner.
func (s *service) admin(code int, args ...string) string {
	s.t.Helper()
	out := s.cli(append([]string{"bitsadmin"}, args...)...).want(s.t, code).out
	banner, rest, ok := strings.Cut(out, "\n\n")
	if !ok || !strings.Contains(banner, "BITSADMIN version 3.0\n") {
		s.t.Errorf("bitsadmin %q does not begin with its banner: %q", args, out)
	}
	return rest
}

var bracedID = regexp.MustCompile(`^\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}$`)

// TestBitsadmin runs each switch that makes, moves and lists jobs, in the forms of the original.
func TestBitsadmin(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	e := srv.File("/a", faultserver.File{Seed: 1, Size: 5000})
	missing := srv.URL() + "/missing"
	s := start(t, options{config: patientStall})
	local := filepath.Join(s.dir, "a")

	t.Run("/rawreturn", func(t *testing.T) {
		s := s.in(t)
		id := s.raw("/create", "raw")
		if !bracedID.MatchString(id) {
			t.Fatalf("/rawreturn /create prints %q", id)
		}
		for _, ref := range []string{"raw", id, strings.ToLower(strings.Trim(id, "{}"))} {
			if got := s.raw("/GetState", ref); got != "SUSPENDED" {
				t.Errorf("the state of %s is %q", ref, got)
			}
		}
		if got := s.raw("/list"); got != id+" raw SUSPENDED 0 / 0 0 / 0\n" {
			t.Errorf("/rawreturn /list prints %q", got)
		}
		s.raw("/cancel", id)
	})
	for _, name := range []string{"/wrap", "/nowrap"} { // Ebb leaves long lines to the terminal
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			long := strings.Repeat("a long name ", 20)
			id := s.raw("/create", long)
			want := id + " " + long + " SUSPENDED 0 / 0 0 / 0\n\nListed 1 job(s).\n"
			for _, args := range [][]string{{name, "/list"}, {strings.ToUpper(name), "/list"}} {
				if got := s.admin(0, args...); got != want {
					t.Errorf("%q prints %q, want one whole line, %q", args, got, want)
				}
			}
			if got := s.cli("bitsadmin", "/rawreturn", name, "/getstate", id).want(t, 0).out; got != "SUSPENDED" {
				t.Errorf("beside /rawreturn it prints %q", got)
			}
			s.raw("/cancel", id)
		})
	}
	t.Run("/create", func(t *testing.T) {
		s := s.in(t)
		out := s.admin(0, "/create", "plain")
		id := strings.TrimSuffix(strings.TrimPrefix(out, "Created job "), ".\n")
		if !bracedID.MatchString(id) || s.raw("/gettype", id) != "DOWNLOAD" || s.raw("/getcompletiontime", id) != "UNKNOWN" {
			t.Errorf("it prints %q", out)
		}
		for name, kind := range map[string]string{"/download": "DOWNLOAD", "/upload": "UPLOAD", "/upload-reply": "UPLOAD_REPLY"} {
			id := s.raw("/create", name, "typed")
			if got := s.raw("/gettype", id); got != kind {
				t.Errorf("/create %s makes a job of type %s", name, got)
			}
			s.raw("/cancel", id)
		}
		s.raw("/cancel", "plain")
	})
	t.Run("names", func(t *testing.T) {
		s := s.in(t)
		one := s.raw("/create", "twice")
		s.raw("/create", "twice")
		if out := s.admin(2, "/getstate", "twice"); out != "Found 2 jobs named \"twice\". Use the job identifier instead of the job name.\n" {
			t.Errorf("an ambiguous name: %q", out)
		}
		if out := s.admin(4, "/getstate", "nobody"); out != "Unable to find job named \"nobody\".\n" {
			t.Errorf("an unknown name: %q", out)
		}
		s.admin(4, "/cancel", strings.Trim(one, "{}")[:8]) // the beginning of an id is no name
		s.raw("/cancel", one)
		s.admin(4, "/getstate", one) // what has ended is gone
		s.raw("/cancel", "twice")
	})

	// One job from its beginning to its end.
	id := s.raw("/create", "whole")
	whole := s.named("whole")
	steps := []struct {
		args []string
		want string               // of what is printed
		is   func(*bits.Job) bool // of the job thereafter
	}{
		{[]string{"/addfile", "whole", e.URL(), local}, "Added " + e.URL() + " -> " + local + " to job.\n",
			func(j *bits.Job) bool {
				return len(j.Files) == 1 && j.Files[0].Remote == e.URL() && j.Files[0].Local == local
			}},
		{[]string{"/info", "whole"}, id + " whole SUSPENDED 0 / 1 0 / UNKNOWN\n", func(j *bits.Job) bool { return j.State == bits.Suspended }},
		{[]string{"/resume", "whole"}, "Job resumed.\n", func(j *bits.Job) bool { return j.State != bits.Suspended }},
	}
	for _, step := range steps {
		t.Run(step.args[0], func(t *testing.T) {
			s := s.in(t)
			if got := s.admin(0, step.args...); got != step.want {
				t.Errorf("%q prints %q, want %q", step.args, got, step.want)
			}
			if j := s.info(whole); !step.is(j) {
				t.Errorf("after %q the job is %+v", step.args, j)
			}
		})
	}
	s.settled(whole, bits.Transferred)
	// In the middle of a job all four numbers differ.
	stalls := srv.File("/half", faultserver.File{Seed: 2, Size: 7000})
	stalls.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: 3000}})
	halfID := s.raw("/create", "half")
	for _, args := range [][]string{{"/setpriority", "half", "foreground"}, {"/addfile", "half", e.URL(), "half 1"}, {"/addfile", "half", stalls.URL(), "half 2"}, {"/resume", "half"}} {
		s.raw(args...)
	}
	half := s.named("half")
	s.until(half, "half done", func(j *bits.Job) bool {
		return j.Progress.BytesTransferred == 5000+3000 && j.Progress.FilesTransferred == 1
	})
	for name, want := range map[string]string{"/getbytestotal": "12000", "/getbytestransferred": "8000", "/getfilestotal": "2", "/getfilestransferred": "1", "/getdisplayname": "half"} {
		t.Run(name, func(t *testing.T) {
			if got := s.in(t).raw(name, halfID); got != want {
				t.Errorf("it prints %q, want %q", got, want)
			}
		})
	}
	firstLine := "5000 / 5000 COMPLETED " + e.URL() + " -> " + filepath.Join(s.dir, "half 1") + "\n"
	secondLine := "3000 / 7000 WORKING " + stalls.URL() + " -> " + filepath.Join(s.dir, "half 2") + "\n"
	t.Run("/listfiles", func(t *testing.T) {
		if got := s.in(t).admin(0, "/listfiles", "half"); got != firstLine+secondLine {
			t.Errorf("it prints %q", got)
		}
	})
	t.Run("/list", func(t *testing.T) {
		s := s.in(t)
		if got := s.admin(0, "/list"); got != id+" whole TRANSFERRED 1 / 1 5000 / 5000\n"+halfID+" half TRANSFERRING 1 / 2 8000 / 12000\n\nListed 2 job(s).\n" {
			t.Errorf("/list prints %q", got)
		}
		got := s.admin(0, "/list", "/allusers", "/verbose")
		for _, part := range []string{"GUID: " + id + " DISPLAY: 'whole'\n", "GUID: " + halfID + " DISPLAY: 'half'\n", "JOB FILES:\n\t" + firstLine + "\t" + secondLine, "Listed 2 job(s).\n"} {
			if !strings.Contains(got, part) {
				t.Errorf("/list /verbose has no %q:\n%s", part, got)
			}
		}
		if out := s.admin(2, "/list", "/frobnicate"); !strings.HasPrefix(out, "Unable to list jobs - 0x80070057\n") {
			t.Errorf("of an option that it does not have it prints %q", out)
		}
	})
	t.Run("/info /verbose", func(t *testing.T) { // of all properties: TestBitsadminProperties
		s := s.in(t)
		for ref, lines := range map[string][]string{
			"whole": {"GUID: " + id + " DISPLAY: 'whole'\n", "TYPE: DOWNLOAD STATE: TRANSFERRED OWNER: ", "PRIORITY: NORMAL FILES: 1 / 1 BYTES: 5000 / 5000\n",
				"RETRY DELAY: 600 NO PROGRESS TIMEOUT: 1209600 ERROR COUNT: 0\n", "JOB FILES:\n\t5000 / 5000 COMPLETED " + e.URL() + " -> " + local + "\n"},
			halfID: {"TYPE: DOWNLOAD STATE: TRANSFERRING OWNER: ", "PRIORITY: FOREGROUND FILES: 1 / 2 BYTES: 8000 / 12000\n", "JOB FILES:\n\t" + firstLine + "\t" + secondLine},
		} {
			out := s.admin(0, "/info", ref, "/verbose")
			for _, line := range lines {
				if !strings.Contains(out, line) {
					t.Errorf("/info %s /verbose has no %q:\n%s", ref, line, out)
				}
			}
		}
	})
	t.Run("/getstate", func(t *testing.T) {
		s := s.in(t)
		s.raw("/create", "refused")
		if got := s.raw("/getstate", "refused"); got != "SUSPENDED" {
			t.Errorf("of a new job: %q", got)
		}
		s.raw("/addfile", "refused", "http://127.0.0.1:9/f", "refused")
		s.raw("/setpriority", "refused", "foreground")
		s.raw("/resume", "refused")
		s.untilState(s.named("refused"), bits.TransientError)
		for name, want := range map[string]string{"refused": "TRANSIENT_ERROR", "whole": "TRANSFERRED", "half": "TRANSFERRING"} {
			if got := s.raw("/getstate", name); got != want {
				t.Errorf("of %s it prints %q, want %q", name, got, want)
			}
		}
		s.raw("/cancel", "refused")
	})
	t.Run("/suspend", func(t *testing.T) {
		s := s.in(t)
		if got := s.admin(0, "/suspend", "half"); got != "Job suspended.\n" {
			t.Errorf("it prints %q", got)
		}
		if got := s.info(half).State; got != bits.Suspended {
			t.Errorf("the job is %s", got)
		}
	})
	t.Run("/cancel", func(t *testing.T) {
		s := s.in(t)
		if got := s.admin(0, "/cancel", "half"); got != "Job canceled.\n" {
			t.Errorf("it prints %q", got)
		}
		if got := s.info(half).State; got != bits.Cancelled {
			t.Errorf("the job is %s", got)
		}
		s.admin(4, "/getstate", "half")
		s.nothingStray(whole)
	})
	t.Run("/getowner", func(t *testing.T) {
		me, err := user.Current()
		must(t, err)
		if got := s.in(t).raw("/getowner", "whole"); got != me.Username {
			t.Errorf("it prints %q, want %q", got, me.Username)
		}
	})
	t.Run("/geterror", func(t *testing.T) {
		s := s.in(t)
		if out := s.admin(1, "/geterror", "whole"); !strings.HasPrefix(out, "Unable to get error - 0x8020000f\n") {
			t.Errorf("of a job without an error: %q", out)
		}
		s.raw("/create", "failing")
		s.raw("/addfile", "failing", missing, "b") // relative to the directory of the script
		s.raw("/resume", "failing")
		s.settled(s.named("failing"), bits.Errored)
		out := s.admin(0, "/geterror", "failing")
		for _, line := range []string{"ERROR FILE:    " + missing + " -> " + filepath.Join(s.dir, "b") + "\n", "ERROR CODE:    0x80190194 - ", "ERROR CONTEXT: 0x00000005 - "} {
			if !strings.Contains(out, line) {
				t.Errorf("it has no %q:\n%s", line, out)
			}
		}
		if got := s.raw("/getstate", "failing"); got != "ERROR" {
			t.Errorf("its state is %q", got)
		}
		if one, none := s.raw("/geterrorcount", "failing"), s.raw("/geterrorcount", "whole"); one != "1" || none != "0" {
			t.Errorf("there were %q errors, and %q of a job without", one, none)
		}
		s.raw("/cancel", "failing")
		// A file whose directory is not there has its own name, not that of its part file.
		s.raw("/create", "failing")
		s.raw("/addfile", "failing", e.URL(), "none/b")
		s.raw("/resume", "failing")
		s.settled(s.named("failing"), bits.Errored)
		if out := s.admin(0, "/geterror", "failing"); !strings.HasPrefix(out, "ERROR FILE:    "+e.URL()+" -> "+filepath.Join(s.dir, "none/b")+"\nERROR CODE:    0x80070003 - ") {
			t.Errorf("of a directory that is not there: %q", out)
		}
		s.cli("explain", "failing").want(t, 0).tellsAll(t, "The error is about file 0, "+filepath.Join(s.dir, "none/b"))
		s.raw("/cancel", "failing")
	})
	t.Run("/complete", func(t *testing.T) {
		s := s.in(t)
		if got := s.admin(0, "/complete", id); got != "Job completed.\n" {
			t.Errorf("it prints %q", got)
		}
		s.isWhole(local, e)
		if out := s.admin(4, "/complete", id); !strings.HasPrefix(out, "Unable to find job named ") {
			t.Errorf("again: %q", out)
		}
	})
	t.Run("/resume without files", func(t *testing.T) {
		s := s.in(t)
		s.raw("/create", "empty")
		if out := s.admin(6, "/resume", "empty"); !strings.HasPrefix(out, "Unable to resume job - 0x80200003\n") {
			t.Errorf("it prints %q", out)
		}
		s.raw("/cancel", "empty")
	})
	t.Run("/addfileset", func(t *testing.T) {
		s := s.in(t)
		s.raw("/create", "set")
		list := s.text("set.txt", e.URL()+" one\r\n\r\n"+e.URL()+"\t\""+filepath.Join(s.dir, "t w o")+"\"\r\n")
		s.admin(0, "/addfileset", "set", list)
		if got, line := s.admin(0, "/listfiles", "set"), "0 / UNKNOWN WORKING "+e.URL()+" -> "; got != line+filepath.Join(s.dir, "one")+"\n"+line+filepath.Join(s.dir, "t w o")+"\n" {
			t.Errorf("the files are %q", got)
		}
		s.text("set.txt", e.URL()+"\n")
		if out := s.admin(2, "/addfileset", "set", list); !strings.HasPrefix(out, "Unable to add files to job - 0x80070057\n") {
			t.Errorf("of a line without a local name it prints %q", out)
		}
		// As Windows writes it: UTF-16, with quotes.
		s.text("set.txt", utf16le("\""+e.URL()+"\" \""+filepath.Join(s.dir, "Übung 1")+"\"\r\n"))
		s.admin(0, "/addfileset", "set", list)
		if got := s.admin(0, "/listfiles", "set"); !strings.Contains(got, e.URL()+" -> "+filepath.Join(s.dir, "Übung 1")) {
			t.Errorf("of UTF-16 the files are %q", got)
		}
		s.raw("/cancel", "set")
	})
	t.Run("/replaceremoteprefix", func(t *testing.T) {
		s := s.in(t)
		s.raw("/create", "moved")
		s.raw("/addfile", "moved", "http://old.example/a", filepath.Join(s.dir, "moved"))
		if out := s.admin(0, "/replaceremoteprefix", "moved", "http://new.example/", "http://x/"); out != "No file has a URL that begins with http://new.example/.\n" {
			t.Errorf("of a prefix that no file has: %q", out)
		}
		s.admin(0, "/replaceremoteprefix", "moved", "http://old.example/", srv.URL()+"/")
		s.raw("/resume", "moved")
		s.settled(s.named("moved"), bits.Transferred)
		s.raw("/complete", "moved")
		s.isWhole(filepath.Join(s.dir, "moved"), e)
	})
	t.Run("/transfer", func(t *testing.T) {
		s := s.in(t)
		out := s.admin(0, "/transfer", "at once", "/download", "/priority", "foreground", e.URL(), filepath.Join(s.dir, "c"), e.URL(), "d")
		if !strings.HasPrefix(out, "DISPLAY: 'at once' TYPE: DOWNLOAD STATE: ACKNOWLEDGED\nPRIORITY: FOREGROUND FILES: 2 / 2 BYTES: 10000 / 10000\n") || !strings.HasSuffix(out, "Transfer complete.\n") {
			t.Errorf("it prints %q", out)
		}
		s.isWhole(filepath.Join(s.dir, "c"), e)
		s.isWhole(filepath.Join(s.dir, "d"), e)
		out = s.admin(1, "/transfer", "failing", missing, filepath.Join(s.dir, "x"))
		if !strings.Contains(out, "STATE: ERROR") || !strings.Contains(out, "PRIORITY: NORMAL ") || !strings.Contains(out, "0x80190194") {
			t.Errorf("of a failure it prints %q", out)
		}
		s.admin(4, "/getstate", "failing")
		up := startServing(t, "", "--uploads")
		out = s.admin(0, "/transfer", "up", "/upload", "/priority", "high", up.url+"/u", s.text("u", "uploaded"))
		if !strings.HasPrefix(out, "DISPLAY: 'up' TYPE: UPLOAD STATE: ACKNOWLEDGED\nPRIORITY: HIGH FILES: 1 / 1 BYTES: 8 / 8\n") {
			t.Errorf("of an upload it prints %q", out)
		}
		up.isFile("u", "uploaded")
		if out := s.admin(2, "/transfer", "odd", e.URL()); !strings.HasPrefix(out, "Invalid number of arguments.") {
			t.Errorf("without a local name: %q", out)
		}

		// Dynamic content is fetched in the foreground only: without a priority it goes there.
		out = s.admin(0, "/transfer", "generated", "/dynamic", "/ACLflags", "OG", e.URL(), filepath.Join(s.dir, "generated"))
		if !strings.Contains(out, "PRIORITY: FOREGROUND ") {
			t.Errorf("it prints %q", out)
		}
		s.isWhole(filepath.Join(s.dir, "generated"), e)
		if p := s.info(s.named("generated")).Properties; !p.DynamicContent || p.ACLFlags != bits.ACLOwner|bits.ACLGroup {
			t.Errorf("the job had %+v", p)
		}
		if out := s.admin(2, "/transfer", "x", "/aclflags", "OX", e.URL(), "x"); !strings.HasPrefix(out, "Unable to transfer - 0x80070057\n") {
			t.Errorf("of a wrong ACL flag it prints %q", out)
		}
		// The job of a failure is gone, and no advice says to resume it.
		got := s.cli("bitsadmin", "/transfer", "x", "smb://nosuchserver/share/f", filepath.Join(s.dir, "x")).want(t, 1)
		if strings.Contains(got.out+got.err, "resume") || !strings.Contains(got.err, "hint: create or mount it, then start the transfer again\n") {
			t.Errorf("of a share that is not mounted it prints %q and %q", got.out, got.err)
		}

		srv.File("/endless", faultserver.File{Seed: 3, Size: 7000}).Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: 3000}})
		s.interrupts("stopped", "bitsadmin", "/transfer", "stopped", "/priority", "foreground", srv.URL()+"/endless", "stopped")
	})
	t.Run("paths of Windows", func(t *testing.T) {
		s := s.in(t)
		s.raw("/create", "windows")
		for _, args := range [][]string{{"/addfile", "windows", e.URL(), `C:\downloads\x`}, {"/addfile", "windows", e.URL(), `d:/x`}, {"/addfile", "windows", e.URL(), `downloads\x`}, {"/addfileset", "windows", `C:\list.txt`},
			{"/addfilewithranges", "windows", e.URL(), `\\nas\share\x`, "0:1"}, {"/transfer", "t", e.URL(), `%TEMP%\x`}, {"/setreplyfilename", "windows", `C:\reply`}} {
			if got := s.cli(append([]string{"bitsadmin"}, args...)...).want(t, 2); !strings.Contains(got.err, "is a path of Windows\nhint: give a path of this machine") {
				t.Errorf("%q prints %q", args, got.err)
			}
		}
		s.admin(0, "/addfile", "windows", e.URL(), `./a\b`) // as it stands
		s.raw("/cancel", "windows")
	})
	t.Run("/reset", func(t *testing.T) {
		s := s.in(t)
		one := s.raw("/create", "one")
		s.raw("/create", "two")
		jobs := []*client.Job{s.named("one"), s.named("two")}
		out := s.admin(0, "/reset")
		if !strings.HasPrefix(out, one+" canceled.\n{") || !strings.HasSuffix(out, "2 out of 2 jobs canceled.\n") {
			t.Errorf("it prints %q", out)
		}
		for _, j := range jobs {
			if got := s.info(j).State; got != bits.Cancelled {
				t.Errorf("a job is %s", got)
			}
		}
		if got := s.admin(0, "/list"); got != "Listed 0 job(s).\n" {
			t.Errorf("thereafter /list prints %q", got)
		}
	})
	s.raw("/create", "watched")
	t.Run("/monitor", func(t *testing.T) {
		s := s.in(t)
		for _, c := range []struct {
			args  []string
			every int // seconds
			times int
		}{{nil, 5, 1}, {[]string{"/refresh", "1"}, 1, 2}} {
			got := s.monitor(c.times, c.args...)
			head := fmt.Sprintf("MONITORING BACKGROUND COPY MANAGER (%d second refresh)\n", c.every)
			if strings.Count(got, head) != c.times || strings.Count(got, " watched SUSPENDED 0 / 0 0 / 0\n") != c.times {
				t.Errorf("with %q it prints %q", c.args, got)
			}
		}
	})
	// The job was created more than a second ago. It is transferred now, and modified in a later second.
	watched := s.named("watched")
	s.raw("/addfile", "watched", e.URL(), "watched")
	s.raw("/resume", "watched")
	transferred := s.settled(watched, bits.Transferred).Times.Transferred
	time.Sleep(time.Until(transferred.Truncate(time.Second).Add(time.Second)))
	s.raw("/setdescription", "watched", "later")
	times := s.info(watched).Times
	clock := func(at time.Time) string { return at.Local().Format("1/2/2006 3:04:05 PM") }
	if a, b, c := clock(times.Created), clock(*times.Transferred), clock(times.Modified); a == b || b == c {
		t.Errorf("created %s, transferred %s, modified %s", a, b, c)
	}
	for name, want := range map[string]string{"/getcreationtime": clock(times.Created), "/getmodificationtime": clock(times.Modified), "/getcompletiontime": clock(*times.Transferred)} {
		t.Run(name, func(t *testing.T) {
			if got := s.in(t).raw(name, "watched"); got != want {
				t.Errorf("it prints %q, want %q", got, want)
			}
		})
	}
	s.raw("/cancel", "watched")
	for _, name := range []string{"/help", "/?"} {
		t.Run(name, func(t *testing.T) {
			out := s.in(t).admin(0, name)
			told := strings.FieldsFunc(out, func(r rune) bool { return strings.ContainsRune(" \n[]|,", r) })
			for _, section := range compat.Sections() {
				if section.Title != "bitsadmin" {
					continue
				}
				for _, row := range section.Rows {
					if known, _, _ := strings.Cut(row.BITS, " "); !slices.Contains(told, strings.ToUpper(known)) {
						t.Errorf("it tells nothing of %s: %s", known, out)
					}
				}
			}
		})
	}
	t.Run("/examples", func(t *testing.T) {
		if out := s.in(t).admin(0, "/examples"); !strings.Contains(out, "/rawreturn /getstate") {
			t.Errorf("it prints %q", out)
		}
	})
	t.Run("/util /version", func(t *testing.T) {
		s := s.in(t)
		service, err := s.Service(s.ctx())
		must(t, err)
		if out := s.raw("/util", "/version"); out != service.Version {
			t.Errorf("it prints %q, want %q", out, service.Version)
		}
		if out := s.admin(0, "/util", "/version", "/verbose"); !strings.Contains(out, service.Version) || !strings.Contains(out, s.state) {
			t.Errorf("with /verbose it prints %q", out)
		}
	})
	t.Run("/util /help", func(t *testing.T) {
		if out := s.in(t).admin(0, "/util", "/help"); !strings.Contains(out, "/UTIL /VERSION") {
			t.Errorf("it prints %q", out)
		}
	})
	for name, says := range map[string]string{"/cache /help": "/CACHE /SETLIMIT PERCENT\n", "/peers /help": "/PEERS /DISCOVER\n", "/peercaching /help": "/PEERCACHING /GETCONFIGURATIONFLAGS JOB\n"} {
		t.Run(name, func(t *testing.T) {
			if out := s.in(t).admin(0, strings.Fields(name)...); !strings.Contains(out, says) || !strings.Contains(out, "ended with Windows 7: these switches fail with 0x80200047") {
				t.Errorf("it prints %q", out)
			}
		})
	}
	t.Run("the peer cache of BITS 3 is disabled", func(t *testing.T) {
		s := s.in(t)
		for _, line := range []string{"/peers /list", "/peers /discover", "/peers /clear", "/cache /list", "/cache /info x", "/cache /delete x",
			"/cache /deleteurl http://h/", "/cache /clear", "/cache /getlimit", "/cache /setlimit 5", "/cache /getexpirationtime",
			"/cache /setexpirationtime 60", "/peercaching /getconfigurationflags x", "/peercaching /setconfigurationflags x 3"} {
			if out := s.admin(6, strings.Fields(line)...); !strings.HasPrefix(out, "Unable to use ") || !strings.Contains(out, " - 0x80200047\n") {
				t.Errorf("%s prints %q", line, out)
			}
		}
	})
	t.Run("what is left out says so", func(t *testing.T) {
		s := s.in(t)
		for _, line := range []string{"/util /getieproxy x", "/util /setieproxy x NO_PROXY", "/util /repairservice", "/util /enableanalyticchannel TRUE",
			"/sethelpertoken x", "/gethelpertokensid x", "/gethelpertokenflags x", "/sethelpertokenflags x 3"} {
			if out := s.admin(2, strings.Fields(line)...); !strings.Contains(out, " - 0x80004001\nthere ") {
				t.Errorf("%s prints %q", line, out)
			}
		}
	})
	t.Run("wrong command lines", func(t *testing.T) {
		s := s.in(t)
		if out := s.admin(2, "/frobnicate"); out != "Invalid command.\n" {
			t.Errorf("an unknown switch: %q", out)
		}
		if out := s.admin(2, "/addfile", "x"); out != "Invalid number of arguments.\n" {
			t.Errorf("too few arguments: %q", out)
		}
	})
}

// utf16le is a text as Windows writes it: two bytes a character, and a byte order mark.
func utf16le(text string) string {
	b := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return string(b)
}

// monitor returns what bitsadmin /monitor prints until it has listed the jobs so many times; then it is
// ended by Ctrl+C.
func (s *service) monitor(times int, args ...string) string {
	s.t.Helper()
	call := s.prepareCall(append([]string{"bitsadmin", "/monitor"}, args...)...)
	call.cmd.Stdout = nil
	out, err := call.cmd.StdoutPipe()
	must(s.t, err)
	call.begin()
	lines := bufio.NewScanner(out)
	var text strings.Builder
	for n := 0; n < times && lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "Listed ") {
			n++
		}
	}
	must(s.t, call.cmd.Process.Signal(os.Interrupt))
	call.end().want(s.t, 0)
	return text.String()
}

// interrupts runs a command line that waits for a job with a name, presses Ctrl+C once the job has moved
// bytes, and checks that the job is cancelled and leaves nothing.
func (s *service) interrupts(name string, args ...string) {
	s.t.Helper()
	before := names(s.t, s.dir)
	call := s.begin(args...)
	job, err := s.Find(s.ctx(), name)
	for ctx := s.ctx(); err != nil; job, err = s.Find(ctx, name) {
		if ctx.Err() != nil {
			s.t.Fatalf("%q makes no job: %v", args, err)
		}
	}
	s.moved(job, 1)
	must(s.t, call.cmd.Process.Signal(os.Interrupt))
	if got := call.end().want(s.t, 130); !strings.Contains(got.err, "interrupted; the job is cancelled") {
		s.t.Errorf("of Ctrl+C %q says %q", args, got.err)
	}
	if got := s.info(job).State; got != bits.Cancelled {
		s.t.Errorf("after Ctrl+C the job is %s", got)
	}
	s.holds(before...)
}

// named returns the job with a name.
func (s *service) named(name string) *client.Job {
	s.t.Helper()
	job, err := s.Find(s.ctx(), name)
	must(s.t, err)
	return job
}

// TestBitsadminProperties sets and reads each property by its switches.
func TestBitsadminProperties(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	id := s.raw("/create", "p")
	job := s.named("p")
	s.raw("/addfile", "p", "http://127.0.0.1:9/f", filepath.Join(s.dir, "f"))
	for _, c := range []struct {
		set  string
		args []string
		says string
		get  string
		want string
	}{
		{"/setdescription", []string{"the text"}, "Description set to the text.\n", "/getdescription", "the text"},
		{"/setpriority", []string{"low"}, "Priority set to low.\n", "/getpriority", "LOW"},
		{"/setminretrydelay", []string{"120"}, "Minimum retry delay set to 120.\n", "/getminretrydelay", "120"},
		{"/setminretrydelay", []string{"1"}, "Minimum retry delay set to 1.\n", "/getminretrydelay", "5"},
		{"/setnoprogresstimeout", []string{"3600"}, "No progress timeout set to 3600.\n", "/getnoprogresstimeout", "3600"},
		{"/setmaxdownloadtime", []string{"86400"}, "Maximum download time set to 86400.\n", "/getmaxdownloadtime", "86400"},
		{"/setcustomheaders", []string{"X-One: 1", "X-Two: 2"}, "Custom headers set.\n", "/getcustomheaders", "X-One: 1\nX-Two: 2"},
		{"/setcustomheaders", []string{"NULL"}, "Custom headers set.\n", "/getcustomheaders", "NULL"},
		{"/setaclflag", []string{"GO"}, "ACL flags set to OG.\n", "/getaclflags", "OG"},
		{"/setaclflag", []string{"sd"}, "ACL flags set to DS.\n", "/getaclflags", "DS"},
		{"/setnotifyflags", []string{"1"}, "Notification flags set to 1.\n", "/getnotifyflags", "1"},
		{"/setnotifycmdline", []string{"/bin/sh", "sh -c 'echo \"done\"'"}, "notification command line set to /bin/sh -c 'echo \"done\"'.\n", "/getnotifycmdline", "/bin/sh -c 'echo \"done\"'"},
		{"/setnotifycmdline", []string{"NULL", "NULL"}, "notification command line set to none.\n", "/getnotifycmdline", "none"},
		{"/setnotifycmdline", []string{"/bin/true", "NULL"}, "notification command line set to /bin/true.\n", "/getnotifycmdline", "/bin/true"},
		{"/setproxysettings", []string{"OVERRIDE", "http://p:3128,q:80", "*.example.org,<local>"}, "Proxy usage set to OVERRIDE.\n", "/getproxylist", "http://p:3128,q:80"},
		{"/setproxysettings", []string{"NO_PROXY"}, "Proxy usage set to NO_PROXY.\n", "/getproxyusage", "NO_PROXY"},
		{"/setproxysettings", []string{"AUTODETECT"}, "Proxy usage set to AUTODETECT.\n", "/getproxyusage", "AUTODETECT"},
		{"/setproxysettings", []string{"PRECONFIG"}, "Proxy usage set to PRECONFIG.\n", "/getproxylist", "NULL"},
		{"/setproxysettings", []string{"OVERRIDE", "p:3128", "*.example.org,<local>"}, "Proxy usage set to OVERRIDE.\n", "/getproxybypasslist", "*.example.org,<local>"},
		{"/setsecurityflags", []string{"257"}, "Security flags set to 257.\n", "/getsecurityflags", "0x0101"},
		{"/setpeercachingflags", []string{"3"}, "Peer caching flags set to 3.\n", "/getpeercachingflags", "3"},
		{"/sethttpmethod", []string{"POST"}, "HTTP method set to POST.\n", "/gethttpmethod", "POST"},
		{"/setdisplayname", []string{"the name"}, "Display name set to the name.\n", "/getdisplayname", "the name"},
	} {
		t.Run(c.set, func(t *testing.T) {
			s := s.in(t)
			if out := s.admin(0, append([]string{c.set, id}, c.args...)...); out != c.says {
				t.Errorf("%s %q prints %q, want %q", c.set, c.args, out, c.says)
			}
			if got := s.raw(c.get, id); got != c.want {
				t.Errorf("%s prints %q, want %q", c.get, got, c.want)
			}
			if out := s.admin(0, c.get, id); !strings.HasSuffix(out, ": "+c.want+"\n") {
				t.Errorf("%s prints %q", c.get, out)
			}
		})
	}
	t.Run("/info /verbose", func(t *testing.T) { // of what was set last
		s := s.in(t)
		times := s.info(job).Times
		clock := func(at time.Time) string { return at.Local().Format("1/2/2006 3:04:05 PM") }
		out := s.admin(0, "/info", "the name", "/verbose")
		want := "GUID: " + id + " DISPLAY: 'the name'\n" +
			"TYPE: DOWNLOAD STATE: SUSPENDED OWNER: " + s.raw("/getowner", id) + "\n" +
			"PRIORITY: FOREGROUND FILES: 0 / 1 BYTES: 0 / UNKNOWN\n" + // of a job with the method POST
			"CREATION TIME: " + clock(times.Created) + " MODIFICATION TIME: " + clock(times.Modified) + "\n" +
			"COMPLETION TIME: UNKNOWN ACL FLAGS: DS\n" +
			"NOTIFY INTERFACE: UNREGISTERED NOTIFICATION FLAGS: 1\n" +
			"RETRY DELAY: 5 NO PROGRESS TIMEOUT: 3600 ERROR COUNT: 0\n" +
			"PROXY USAGE: OVERRIDE PROXY LIST: p:3128 PROXY BYPASS LIST: *.example.org,<local>\n" +
			"DESCRIPTION: the text\n" +
			"JOB FILES:\n\t0 / UNKNOWN WORKING http://127.0.0.1:9/f -> " + filepath.Join(s.dir, "f") + "\n" +
			"NOTIFICATION COMMAND LINE: /bin/true\nPEER CACHING FLAGS: 3\nCUSTOM HEADERS: NULL\n\n"
		if out != want {
			t.Errorf("it prints\n%s\nwant\n%s", out, want)
		}
		if out := s.admin(1, "/setpriority", id, "low"); !strings.HasPrefix(out, "Unable to set priority - 0x80200071\n") {
			t.Errorf("of a job with the method POST: %q", out)
		}
	})
	s.raw("/setdisplayname", id, "p")
	t.Run("/getnotifyinterface", func(t *testing.T) {
		s := s.in(t)
		if got := s.raw("/getnotifyinterface", "p"); got != "UNREGISTERED" {
			t.Errorf("it prints %q", got)
		}
		ctx, cancel := context.WithCancel(s.ctx())
		ended := make(chan error, 1)
		go func() {
			ended <- s.Callbacks(ctx, []bits.ID{job.ID}, func(context.Context, bits.Notification) error { return nil })
		}()
		for registered := false; !registered; {
			var err error
			registered, err = job.HasCallback(ctx)
			must(t, err)
		}
		if got := s.raw("/getnotifyinterface", "p"); got != "REGISTERED" {
			t.Errorf("with a program it prints %q", got)
		}
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("/makecustomheaderswriteonly", func(t *testing.T) {
		s := s.in(t)
		s.raw("/setcustomheaders", "p", "X-Key: secret")
		if out := s.admin(0, "/makecustomheaderswriteonly", "p"); out != "Custom headers are write-only now.\n" {
			t.Errorf("it prints %q", out)
		}
		if out := s.admin(5, "/getcustomheaders", "p"); !strings.HasPrefix(out, "Unable to get custom headers - 0x80070005\n") || strings.Contains(out, "secret") {
			t.Errorf("of headers that are write-only: %q", out)
		}
		if values, err := job.Headers(s.ctx()); !failsWith(err, bits.AccessDenied) || len(values) > 0 {
			t.Errorf("the headers are %q, %v", values, err)
		}
		s.raw("/setcustomheaders", "p", "X-Key: another") // which may be set all the same
		s.admin(5, "/getcustomheaders", "p")
	})
	t.Run("/gettemporaryname", func(t *testing.T) {
		s := s.in(t)
		if got := s.raw("/gettemporaryname", "p", "0"); got != "NULL" {
			t.Errorf("before the transfer it is %q", got)
		}
		s.admin(2, "/gettemporaryname", "p", "1")
	})
	if out := s.admin(2, "/setpriority", "p", "urgent"); !strings.HasPrefix(out, "Unable to set priority - 0x80070057\n") || strings.Contains(out, "E_NOTIMPL") {
		t.Errorf("a wrong priority: %q", out)
	}
}

// TestBitsadminReply runs the switches of UPLOAD_REPLY jobs.
func TestBitsadminReply(t *testing.T) {
	t.Parallel()
	app := applies(t, func(body []byte) []byte { return []byte("got it") })
	r := startServing(t, "[[group]]\npath = \"/\"\ndir = \"%DIR%\"\n[group.uploads]\nnotify = \"by-value\"\nnotify_url = \""+app.URL+"\"\n")
	s := start(t, options{})
	s.raw("/create", "/upload-reply", "order")
	s.raw("/addfile", "order", r.url+"/7", s.text("order.xml", "an order"))
	if got := s.raw("/getreplyprogress", "order"); got != "0 / UNKNOWN" {
		t.Errorf("/getreplyprogress prints %q", got)
	}
	s.admin(0, "/setreplyfilename", "order", "answer")
	if got := s.raw("/getreplyfilename", "order"); got != filepath.Join(s.dir, "answer") {
		t.Errorf("/getreplyfilename prints %q", got)
	}
	s.raw("/resume", "order")
	s.settled(s.named("order"), bits.Transferred)
	if got := s.raw("/getreplyprogress", "order"); got != "6 / 6" {
		t.Errorf("/getreplyprogress prints %q", got)
	}
	if got := s.raw("/getreplydata", "order"); got != "676F74206974" {
		t.Errorf("/rawreturn /getreplydata prints %q", got)
	}
	if got := s.admin(0, "/getreplydata", "order"); got != "REPLY DATA LENGTH: 6\n67 6F 74 20 69 74\n" {
		t.Errorf("/getreplydata prints %q", got)
	}
	s.raw("/complete", "order")
	holdsText(t, filepath.Join(s.dir, "answer"), "got it")
	if out := s.admin(0, "/transfer", "at once", "/upload-reply", r.url+"/8", filepath.Join(s.dir, "order.xml")); !strings.HasPrefix(out, "DISPLAY: 'at once' TYPE: UPLOAD_REPLY STATE: ACKNOWLEDGED\n") {
		t.Errorf("/transfer prints %q", out)
	}
	if reply := s.info(s.named("at once")).Reply; reply.BytesTransferred != 6 {
		t.Errorf("/transfer got the reply %+v", reply)
	}
	s.raw("/create", "plain")
	if out := s.admin(2, "/getreplyfilename", "plain"); !strings.HasPrefix(out, "Unable to get reply file - 0x80004001\n") {
		t.Errorf("of a download: %q", out)
	}
}
