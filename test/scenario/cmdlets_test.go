package scenario

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// psJob is a job as a cmdlet prints it for programs.
type psJob struct {
	JobID                                                                             bits.ID `json:"JobId"`
	DisplayName, Description, TransferType, JobState, OwnerAccount, Priority          string
	TransferPolicy, ErrorCondition, ErrorDescription                                  string
	FilesTotal, FilesTransferred                                                      int
	BytesTotal                                                                        json.Number
	BytesTransferred, RetryInterval, RetryTimeout, MaxDownloadTime, InternalErrorCode int64
	FileList                                                                          []struct {
		RemoteName, LocalName string
		IsTransferComplete    bool
		BytesTotal            json.Number
	}
}

// ps runs a cmdlet and reads the jobs that it prints.
func (s *service) ps(args ...string) []psJob {
	s.t.Helper()
	var jobs []psJob
	s.cli(append([]string{"--json"}, args...)...).want(s.t, 0).decode(s.t, &jobs)
	return jobs
}

// psOne is ps for a cmdlet that prints one job.
func (s *service) psOne(args ...string) psJob {
	s.t.Helper()
	jobs := s.ps(args...)
	if len(jobs) != 1 {
		s.t.Fatalf("%q prints %d jobs, want one", args, len(jobs))
	}
	return jobs[0]
}

// with runs a verb with a standard input.
func (s *service) with(input string, args ...string) result {
	s.t.Helper()
	c := s.prepareCall(args...)
	c.cmd.Stdin = strings.NewReader(input)
	return c.begin().end()
}

// TestCmdlets runs the eight cmdlets as scripts do.
func TestCmdlets(t *testing.T) {
	t.Parallel()
	srv := serve(t, faultserver.Options{})
	e := srv.File("/a.bin", faultserver.File{Seed: 1, Size: 5000})
	f := srv.File("/b.bin", faultserver.File{Seed: 2, Size: 7000})
	missing := srv.URL() + "/missing"
	s := start(t, options{config: patientStall})
	in := func(name string) string { return filepath.Join(s.dir, name) }

	// undecided returns command lines that each would change something, and what checks that none did: a job
	// that runs, one that could, and one that is transferred are as they were, and there are no others.
	stalls := srv.File("/undecided", faultserver.File{Seed: 6, Size: mib})
	stalls.Set(func(p *faultserver.Program) { p.Cut = faultserver.Cut{How: faultserver.Stall, After: 100 * kib} })
	undecided := func(s *service) (lines [][]string, untouched func()) {
		made := func(name string, at *faultserver.Entry, waits bool) (*client.Job, string) {
			job := s.create(fetched{name: name, files: []bits.FileSpec{s.file(at.URL(), name)}, waits: waits})
			return job, job.ID.String()
		}
		runs, run := made("runs", stalls, false)
		could, resume := made("could", e, true)
		is, complete := made("is transferred", e, false)
		s.untilState(runs, bits.Transferring)
		s.settled(is, bits.Transferred)
		lines = [][]string{{"Start-BitsTransfer", e.URL(), in("no")}, {"Suspend-BitsTransfer", run}, {"Resume-BitsTransfer", resume}, {"Complete-BitsTransfer", complete},
			{"Set-BitsTransfer", run, "-Description", "x"}, {"Add-BitsFile", run, e.URL(), in("no")}, {"Remove-BitsTransfer", run}}
		return lines, func() {
			s.t.Helper()
			for job, state := range map[*client.Job]bits.State{runs: bits.Transferring, could: bits.Suspended, is: bits.Transferred} {
				if info := s.info(job); info.State != state || len(info.Files) != 1 || info.Properties.Description != "" {
					s.t.Errorf("the job is %+v", info)
				}
			}
			if got := s.ps("Get-BitsTransfer"); len(got) != 3 {
				s.t.Errorf("there are %d jobs, want 3", len(got))
			}
			s.with(s.cli("Get-BitsTransfer").out, "Remove-BitsTransfer").want(s.t, 0)
		}
	}

	t.Run("Start-BitsTransfer", func(t *testing.T) {
		s := s.in(t)
		if got := s.cli("Start-BitsTransfer", "-Source", e.URL(), "-Destination", in("one")).want(t, 0); got.out != "" {
			t.Errorf("it prints %q", got.out)
		}
		s.isWhole(in("one"), e)
		s.cli("start-bitstransfer", e.URL()+","+f.URL(), in("two")+","+in("three")).want(t, 0)
		s.isWhole(in("two"), e)
		s.isWhole(in("three"), f)
		if got := s.psOne("Start-BitsTransfer", e.URL()+","+f.URL(), in("two")+","+in("three"), "-TransferType", "Download", "-Suspended"); got.FilesTotal != 2 || got.Priority != "Foreground" || got.RetryInterval != 600 || got.RetryTimeout != 1209600 || got.MaxDownloadTime != 7776000 {
			t.Errorf("of two sources it makes %+v", got)
		}
		s.cli("Remove-BitsTransfer", "BITS Transfer").want(t, 0)
		if got := s.cli("Remove-BitsTransfer", "BITS Transfer").want(t, 4); !strings.Contains(got.err, "there is no job") { // all that had the name have ended
			t.Errorf("of a name of the past it says %q", got.err)
		}
		s.cli("Start-BitsTransfer", e.URL()).want(t, 0) // to the current directory
		s.isWhole(in("a.bin"), e)
		got := s.cli("Start-BitsTransfer", missing, in("x")).want(t, 1)
		if !strings.Contains(got.err, "Start-BitsTransfer : ") || !strings.Contains(got.err, "0x80190194") {
			t.Errorf("of a failure it prints %q", got.err)
		}
		if got := s.cli("Start-BitsTransfer", missing, in("x"), "-ErrorAction", "SilentlyContinue").want(t, 1); got.err != "" {
			t.Errorf("with -ErrorAction SilentlyContinue it prints %q", got.err)
		}
		s.cli("Start-BitsTransfer", e.URL()+","+f.URL(), in("x")).want(t, 2) // two sources, one file
		for _, args := range [][]string{{e.URL(), `C:\downloads\x`}, {`C:\shares\*`, in("x")}, {"-TransferType", "Upload", `C:\x`, srv.URL()}} {
			if got := s.cli(append([]string{"Start-BitsTransfer"}, args...)...).want(t, 2); !strings.Contains(got.err, "is a path of Windows") {
				t.Errorf("%q prints %q", args, got.err)
			}
		}
		for _, args := range [][]string{{"smb://nosuchserver/share/f", in("x")}, {e.URL(), in("none/x")}} {
			got := s.cli(append([]string{"Start-BitsTransfer"}, args...)...).want(t, 1)
			if !strings.Contains(got.err, "hint: create or mount it, then start the transfer again\n") || strings.Contains(got.err, "resume the job") {
				t.Errorf("%q prints %q", args, got.err)
			}
		}
		srv.File("/endless", faultserver.File{Seed: 5, Size: 7000}).Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: 3000}})
		s.interrupts("stopped", "Start-BitsTransfer", srv.URL()+"/endless", in("stopped"), "-DisplayName", "stopped")
		if jobs := s.ps("Get-BitsTransfer"); len(jobs) != 0 {
			t.Errorf("jobs are left: %+v", jobs)
		}
	})
	t.Run("a CSV list", func(t *testing.T) {
		s := s.in(t)
		list := "Source,Destination\r\n" + e.URL() + "," + in("csv 1") + "\r\n\"" + f.URL() + "\"," + in("csv2") + "\r\n"
		jobs := s.with(list, "--json", "Start-BitsTransfer", "-Asynchronous")
		var made []psJob
		jobs.want(t, 0).decode(t, &made)
		if len(made) != 2 {
			t.Fatalf("%d jobs, want one for each row", len(made))
		}
		for _, j := range made {
			s.settled(s.Job(j.JobID), bits.Transferred)
		}
		if got := s.with(jobs.out, "Complete-BitsTransfer").want(t, 0); got.out != "" {
			t.Errorf("Complete-BitsTransfer prints %q", got.out)
		}
		s.isWhole(in("csv 1"), e)
		s.isWhole(in("csv2"), f)
		s.with("URL\nx\n", "Start-BitsTransfer").want(t, 2)
		// As Export-Csv of Windows writes it. A row that fails does not end the list.
		list = "#TYPE System.Management.Automation.PSCustomObject\r\n\"Source\",\"Destination\"\r\n\"" + missing + "\",\"" + in("csv3") + "\"\r\n\"" + e.URL() + "\",\"C:\\x\"\r\n\"" + f.URL() + "\",\"" + in("csv4") + "\"\r\n"
		if got := s.with(utf16le(list), "Start-BitsTransfer").want(t, 2); strings.Count(got.err, "Start-BitsTransfer : ") != 2 {
			t.Errorf("of two rows that fail it prints %q", got.err)
		}
		s.isWhole(in("csv4"), f)
		if got := s.with(list, "Start-BitsTransfer", "-ErrorAction", "Stop").want(t, 1); strings.Count(got.err, "Start-BitsTransfer : ") != 1 {
			t.Errorf("with -ErrorAction Stop it prints %q", got.err)
		}
		s.with("", "Start-BitsTransfer").want(t, 2)
	})
	t.Run("-Asynchronous", func(t *testing.T) {
		s := s.in(t)
		job := s.psOne("Start-BitsTransfer", e.URL(), in("later"), "-Asynchronous", "-DisplayName", "later")
		if job.DisplayName != "later" || job.Priority != "Foreground" || job.TransferType != "Download" || job.FileList[0].LocalName != in("later") {
			t.Errorf("the job is %+v", job)
		}
		s.settled(s.Job(job.JobID), bits.Transferred)
		if got := s.psOne("Get-BitsTransfer", "-JobId", job.JobID.String()); got.JobState != "Transferred" || got.BytesTotal != "5000" || !got.FileList[0].IsTransferComplete {
			t.Errorf("Get-BitsTransfer: %+v", got)
		}
		s.cli("Complete-BitsTransfer", "-BitsJob", job.JobID.String()).want(t, 0)
		s.isWhole(in("later"), e)
		s.cli("Get-BitsTransfer", "-JobId", job.JobID.String()).want(t, 4)
	})
	t.Run("-Suspended", func(t *testing.T) {
		s := s.in(t)
		job := s.psOne("Start-BitsTransfer", e.URL(), in("s1"), "-Suspended")
		if job.JobState != "Suspended" || job.DisplayName != "BITS Transfer" || job.BytesTotal != "18446744073709551615" || job.FilesTotal != 1 {
			t.Errorf("the job is %+v", job)
		}
		id := job.JobID.String()
		// Add-BitsFile writes the job back, Resume-BitsTransfer waits for it.
		if got := s.psOne("Add-BitsFile", id, "-Source", f.URL(), "-Destination", in("s2")); got.FilesTotal != 2 {
			t.Errorf("Add-BitsFile: %+v", got)
		}
		must(t, os.Mkdir(in("here"), 0o755))
		if got := s.psOne("Add-BitsFile", id, e.URL()+","+f.URL(), in("here")); got.FilesTotal != 4 { // several to a directory
			t.Errorf("Add-BitsFile: %+v", got)
		}
		if got := s.psOne("Add-BitsFile", id, f.URL()); got.FileList[4].LocalName != in("b.bin") { // to the current directory
			t.Errorf("Add-BitsFile: %+v", got)
		}
		if got := s.cli("Resume-BitsTransfer", id).want(t, 0); got.out != "" {
			t.Errorf("Resume-BitsTransfer prints %q", got.out)
		}
		for _, name := range []string{"s1", "here/a.bin"} {
			s.isWhole(in(name), e)
		}
		for _, name := range []string{"s2", "here/b.bin", "b.bin"} {
			s.isWhole(in(name), f)
		}
	})
	t.Run("Suspend-BitsTransfer", func(t *testing.T) {
		s := s.in(t)
		slow := srv.File("/slow", faultserver.File{Seed: 3, Size: mib})
		slow.Script(faultserver.Program{Cut: faultserver.Cut{How: faultserver.Stall, After: 100 * kib}})
		job := s.psOne("Start-BitsTransfer", slow.URL(), in("slow"), "-Asynchronous")
		handle := s.Job(job.JobID)
		s.moved(handle, 1)
		// A job that runs is left alone, and not waited for.
		if got := s.cli("Resume-BitsTransfer", job.JobID.String()).want(t, 0); got.out+got.err != "" || s.info(handle).State != bits.Transferring {
			t.Errorf("of a job that runs Resume-BitsTransfer prints %q %q", got.out, got.err)
		}
		if got := s.psOne("Suspend-BitsTransfer", job.JobID.String()); got.JobState != "Suspended" {
			t.Errorf("it is %+v", got)
		}
		if got := s.psOne("Resume-BitsTransfer", job.JobID.String(), "-Asynchronous"); got.JobID != job.JobID {
			t.Errorf("Resume-BitsTransfer -Asynchronous: %+v", got)
		}
		s.settled(handle, bits.Transferred)
		s.cli("Remove-BitsTransfer", job.JobID.String()).want(t, 0)
		if st := s.info(handle).State; st != bits.Cancelled {
			t.Errorf("after Remove-BitsTransfer it is %s", st)
		}
	})
	t.Run("Get-BitsTransfer", func(t *testing.T) {
		s := s.in(t)
		for _, name := range []string{"get one", "get two", "other"} {
			s.create(fetched{name: name, waits: true})
		}
		if got := s.ps("Get-BitsTransfer", "-Name", "GET*"); len(got) != 2 {
			t.Errorf("-Name GET* finds %d", len(got))
		}
		if got := s.ps("Get-BitsTransfer", "-Name", "get one,other"); len(got) != 2 {
			t.Errorf("two names find %d", len(got))
		}
		if got := s.ps("Get-BitsTransfer", "-AllUsers"); len(got) != 3 {
			t.Errorf("-AllUsers finds %d", len(got))
		}
		s.cli("Get-BitsTransfer", "nobody").want(t, 4)
		s.cli("Get-BitsTransfer", "nob*").want(t, 0)
		table := s.cli("Get-BitsTransfer", "other").want(t, 0).out
		if !strings.Contains(table, "DisplayName TransferType JobState  OwnerAccount\n") || !strings.Contains(table, " other       Download     Suspended ") {
			t.Errorf("the table is\n%s", table)
		}
		// -JobId takes the ids of a pipeline.
		if got := s.with(s.cli("Get-BitsTransfer", "get*").out, "--json", "Get-BitsTransfer", "-JobId", "-").want(t, 0); strings.Count(got.out, `"JobId"`) != 2 {
			t.Errorf("-JobId - finds %s", got.out)
		}
		// The table is a pipeline too.
		s.with(s.cli("Get-BitsTransfer").out, "Remove-BitsTransfer").want(t, 0)
		if got := s.ps("Get-BitsTransfer"); len(got) != 0 {
			t.Errorf("%d jobs are left", len(got))
		}
	})
	t.Run("a pipeline without jobs", func(t *testing.T) {
		s := s.in(t)
		for _, name := range []string{"Remove-BitsTransfer", "Complete-BitsTransfer"} {
			for _, input := range []string{s.cli("Get-BitsTransfer").out, s.cli("--json", "Get-BitsTransfer").out} {
				if got := s.with(input, name).want(t, 0); got.out+got.err != "" {
					t.Errorf("%s of nothing prints %q %q", name, got.out, got.err)
				}
			}
			s.with("no jobs here\n", name).want(t, 2)
			s.cli(name).want(t, 2) // no pipeline
		}
	})
	t.Run("-Confirm", func(t *testing.T) {
		s := s.in(t)
		cases, untouched := undecided(s)
		for _, args := range cases { // nobody sits there
			call := s.prepareCall(append(args, "-Confirm")...)
			call.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			got := call.begin().end().want(t, 2)
			if !strings.Contains(got.err, "there is nobody to answer the question of -Confirm") || got.out != "" {
				t.Errorf("%q prints %q %q", args, got.out, got.err)
			}
		}
		for _, args := range cases {
			at := newScreen(t, fmt.Sprintf("EBB_SOCKET=%s %s %s -Confirm; echo left with $?; read wait", s.socket, ebb, strings.Join(args, " ")))
			at.shows("Performing the operation \""+args[0]+"\" on target \"", "[Y] Yes  [A] Yes to All  [N] No  [L] No to All")
			at.tmux("send-keys", "n", "Enter")
			at.shows("left with 0")
		}
		untouched()
		// The pipeline is the standard input: the terminal is asked all the same, and Enter is yes to one.
		for _, name := range []string{"asked 1", "asked 2", "asked 3", "asked 4"} {
			s.create(fetched{name: name, waits: true})
		}
		at := newScreen(t, fmt.Sprintf("export EBB_SOCKET=%s; %s Get-BitsTransfer 'asked*' | %[2]s Remove-BitsTransfer -Confirm; echo left with $?; read wait", s.socket, ebb))
		at.shows("Remove-BitsTransfer", "(default is \"Y\"):")
		at.tmux("send-keys", "?", "Enter")
		at.shows("L - leave out this and all that follows.")
		at.tmux("send-keys", "Enter")
		at.shows("on target \"asked 2 {") // keys that come before their question are shown in other places
		at.tmux("send-keys", "n", "Enter")
		at.shows("on target \"asked 3 {")
		at.tmux("send-keys", "a", "Enter")
		at.shows("left with 0")
		if got := s.ps("Get-BitsTransfer", "asked*"); len(got) != 1 {
			t.Errorf("%d jobs are left, want the one of the no", len(got))
		}
		s.with(s.cli("Get-BitsTransfer").out, "Remove-BitsTransfer").want(t, 0)
	})
	t.Run("-BitsJob", func(t *testing.T) {
		s := s.in(t)
		slow := srv.File("/piped", faultserver.File{Seed: 4, Size: mib})
		slow.Set(func(p *faultserver.Program) { p.Cut = faultserver.Cut{How: faultserver.Stall, After: 100 * kib} })
		job := s.Job(s.psOne("Start-BitsTransfer", slow.URL(), in("piped 1"), "-Suspended", "-DisplayName", "piped").JobID)
		// What Get-BitsTransfer prints, as a table and for programs.
		for i, list := range []string{s.cli("Get-BitsTransfer", "piped").out, s.cli("--json", "Get-BitsTransfer", "piped").out} {
			s.with(list, "Set-BitsTransfer", "-Description", fmt.Sprint("text ", i)).want(t, 0)
			s.with(list, "Add-BitsFile", "-Source", f.URL(), "-Destination", in(fmt.Sprint("piped ", i+2))).want(t, 0)
			if got := s.info(job); got.Properties.Description != fmt.Sprint("text ", i) || len(got.Files) != i+2 || got.Files[i+1].Remote != f.URL() {
				t.Errorf("Set-BitsTransfer and Add-BitsFile made it %+v", got)
			}
			s.with(list, "Resume-BitsTransfer", "-Asynchronous").want(t, 0) // which does not wait for what stalls
			s.untilState(job, bits.Transferring)
			s.with(list, "Suspend-BitsTransfer").want(t, 0)
			if got := s.info(job).State; got != bits.Suspended {
				t.Errorf("Suspend-BitsTransfer made it %s", got)
			}
		}
		slow.Set(func(p *faultserver.Program) { p.Cut = faultserver.Cut{} })
		s.with(s.cli("Get-BitsTransfer", "piped").out, "Resume-BitsTransfer").want(t, 0) // and waits
		s.isWhole(in("piped 1"), slow)
		s.isWhole(in("piped 3"), f)
	})
	t.Run("common parameters", func(t *testing.T) {
		s := s.in(t)
		for _, args := range [][]string{{"Start-BitsTransfer", missing, in("x")}, {"Add-BitsFile", "nobody", e.URL(), in("x")}, {"Complete-BitsTransfer", "nobody"}, {"Get-BitsTransfer", "nobody"},
			{"Remove-BitsTransfer", "nobody"}, {"Resume-BitsTransfer", "nobody"}, {"Set-BitsTransfer", "nobody", "-Description", "x"}, {"Suspend-BitsTransfer", "nobody"}} {
			loud := s.cli(append(args, "-ErrorAction", "Continue", "-ErrorVariable", "v")...)
			quiet := s.cli(append(args, "-ErrorAction", "SilentlyContinue", "-OutVariable", "v")...)
			if loud.code == 0 || !strings.Contains(loud.err, args[0]+" : ") || quiet.code != loud.code || quiet.err+quiet.out != "" {
				t.Errorf("%q fails with %d %q, silently with %d %q", args, loud.code, loud.err, quiet.code, quiet.err+quiet.out)
			}
		}
		other := s.create(fetched{name: "other", waits: true}).ID.String()
		job := s.create(fetched{name: "told", waits: true})
		id := job.ID.String()
		for _, args := range [][]string{{"Start-BitsTransfer", e.URL(), in("verbose 1")}, {"Add-BitsFile", id, f.URL(), in("verbose 2")}, {"Set-BitsTransfer", id, "-Description", "x"},
			{"Resume-BitsTransfer", id, "-Asynchronous"}, {"Suspend-BitsTransfer", id}, {"Complete-BitsTransfer", id}, {"Remove-BitsTransfer", other}} {
			if got := s.cli(append(args, "-Verbose")...).want(t, 0); !strings.HasPrefix(got.err, fmt.Sprintf("VERBOSE: Performing the operation %q on target ", args[0])) {
				t.Errorf("%q -Verbose prints %q", args, got.err)
			}
			if args[0] == "Resume-BitsTransfer" {
				s.settled(job, bits.Transferred)
			}
		}
		s.isWhole(in("verbose 1"), e)
		s.isWhole(in("verbose 2"), f)
	})
	t.Run("-Verbose", func(t *testing.T) {
		s := s.in(t)
		job := s.create(fetched{name: "told", waits: true})
		got := s.cli("Remove-BitsTransfer", "told", "-Verbose").want(t, 0)
		if want := fmt.Sprintf("VERBOSE: Performing the operation \"Remove-BitsTransfer\" on target \"told {%s}\".\n", strings.ToUpper(job.ID.String())); got.err != want || got.out != "" {
			t.Errorf("it prints %q %q, want %q", got.out, got.err, want)
		}
	})
	t.Run("-WhatIf", func(t *testing.T) {
		s := s.in(t)
		cases, untouched := undecided(s)
		for _, args := range cases {
			out := s.cli(append(args, "-WhatIf")...).want(t, 0).out
			if !strings.HasPrefix(out, fmt.Sprintf("What if: Performing the operation %q on target ", args[0])) {
				t.Errorf("%q prints %q", args, out)
			}
		}
		untouched()
		id := s.create(fetched{name: "not asked", waits: true}).ID.String()
		s.cli("Remove-BitsTransfer", id, "-Confirm:$false").want(t, 0)
		s.cli("Get-BitsTransfer", "-JobId", id).want(t, 4)
	})
	t.Run("uploads", func(t *testing.T) {
		s := s.in(t)
		up := startServing(t, "", "--uploads")
		s.cli("Start-BitsTransfer", "-TransferType", "Upload", "-Source", s.text("up.txt", "uploaded"), "-Destination", up.url+"/up.txt").want(t, 0)
		up.isFile("up.txt", "uploaded")
		job := s.psOne("Start-BitsTransfer", "-TransferType", "UploadReply", "-Source", s.text("r", "x"), "-Destination", up.url+"/r", "-Suspended")
		if job.TransferType != "UploadReply" {
			t.Errorf("the job is %+v", job)
		}
		s.cli("Remove-BitsTransfer", job.JobID.String()).want(t, 0)
		s.raw("/create", "/upload", "added to")
		if got := s.psOne("Add-BitsFile", "added to", in("up.txt"), up.url+"/added.txt"); got.FileList[0].RemoteName != up.url+"/added.txt" {
			t.Errorf("Add-BitsFile makes of an upload %+v", got)
		}
		s.cli("Resume-BitsTransfer", "added to").want(t, 0)
		up.isFile("added.txt", "uploaded")
		s.cli("Start-BitsTransfer", "-TransferType", "Upload", "-Source", in("up.txt")+","+in("r"), "-Destination", up.url+"/u,"+up.url+"/v").want(t, 2)
	})
	t.Run("wildcards", func(t *testing.T) {
		s := s.in(t)
		must(t, os.MkdirAll(in("share/sub"), 0o755), os.Mkdir(in("copies"), 0o755))
		for _, name := range []string{"1.log", "2.log", "3.txt"} {
			s.text(filepath.Join("share", name), "text of "+name)
		}
		s.cli("Start-BitsTransfer", "-Source", in("share/*"), "-Destination", in("copies")).want(t, 0)
		if got := names(t, in("copies")); len(got) != 3 { // directories are not gone into
			t.Errorf("the copies are %q", got)
		}
		if b, err := os.ReadFile(in("copies/2.log")); err != nil || string(b) != "text of 2.log" {
			t.Errorf("the copy is %q, %v", b, err)
		}
		must(t, os.Mkdir(in("of a URL"), 0o755))
		s.cli("Start-BitsTransfer", "-Source", "file://"+in("share/*.log"), "-Destination", in("of a URL")).want(t, 0)
		if got := names(t, in("of a URL")); len(got) != 2 {
			t.Errorf("of a URL the copies are %q", got)
		}
		s.cli("Start-BitsTransfer", "-Source", `\\nosuchserver\share\*.log`, "-Destination", in("copies")).want(t, 1).tellsAll(t, "the share //nosuchserver/share is not mounted", "then start the transfer again")
		s.cli("Start-BitsTransfer", "-Source", in("share/*.log"), "-Destination", in("one.log")).want(t, 2)
		s.cli("Start-BitsTransfer", "-Source", in("share/*.none"), "-Destination", in("copies")).want(t, 2)
	})
	t.Run("errors of several jobs", func(t *testing.T) {
		s := s.in(t)
		one, two := s.create(fetched{waits: true, name: "one"}), s.create(fetched{waits: true, name: "two"})
		// Without files neither can be resumed; -ErrorAction Stop ends with the first.
		got := s.cli("Resume-BitsTransfer", "one,two").want(t, 6)
		if strings.Count(got.err, "BG_E_EMPTY") != 2 {
			t.Errorf("it prints %q", got.err)
		}
		got = s.cli("Resume-BitsTransfer", "one,two", "-ErrorAction", "Stop").want(t, 6)
		if strings.Count(got.err, "BG_E_EMPTY") != 1 {
			t.Errorf("with -ErrorAction Stop it prints %q", got.err)
		}
		for _, j := range []*client.Job{one, two} {
			_, err := j.Cancel(s.ctx())
			must(t, err)
		}
	})
}

// TestCmdletProperties gives each property by its parameter, to Start- and to Set-BitsTransfer.
func TestCmdletProperties(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	url := "http://127.0.0.1:9/f"
	for i, c := range []struct {
		args  []string
		check func(*bits.Job) (got, want any)
	}{
		{[]string{"-DisplayName", "named"}, func(j *bits.Job) (any, any) { return j.Name, "named" }},
		{[]string{"-Description", "text"}, func(j *bits.Job) (any, any) { return j.Properties.Description, "text" }},
		{[]string{"-Priority", "Low"}, func(j *bits.Job) (any, any) { return j.Priority, bits.Low }},
		{[]string{"-RetryInterval", "120"}, func(j *bits.Job) (any, any) { return j.Properties.MinimumRetryDelay, int64(120) }},
		{[]string{"-RetryTimeout", "0"}, func(j *bits.Job) (any, any) { return j.Properties.NoProgressTimeout, int64(0) }},
		{[]string{"-MaxDownloadTime", "3600"}, func(j *bits.Job) (any, any) { return j.Properties.MaximumDownloadTime, int64(3600) }},
		{[]string{"-TransferPolicy", "NotRoaming"}, func(j *bits.Job) (any, any) { return j.Properties.TransferPolicy, bits.TransferNotRoaming }},
		{[]string{"-TransferPolicy", "Unrestricted,BelowCap"}, func(j *bits.Job) (any, any) {
			return j.Properties.TransferPolicy, bits.CostUnrestricted | bits.CostBelowCap
		}},
		{[]string{"-ACLFlags", "d,s"}, func(j *bits.Job) (any, any) { return j.Properties.ACLFlags, bits.ACLDACL | bits.ACLSACL }},
		{[]string{"-ACLFlags", "o,g"}, func(j *bits.Job) (any, any) { return j.Properties.ACLFlags, bits.ACLOwner | bits.ACLGroup }},
		{[]string{"-SecurityFlags", "0x101"}, func(j *bits.Job) (any, any) {
			return j.Properties.SecurityFlags, bits.SecurityCRLCheck | bits.SecurityRedirectReport
		}},
		{[]string{"-NotifyFlags", "2,4"}, func(j *bits.Job) (any, any) {
			return j.Properties.NotifyFlags, bits.NotifyError | bits.NotifyDisable
		}},
		{[]string{"-NotifyCmdLine", "/bin/sh,sh -c true"}, func(j *bits.Job) (any, any) {
			return strings.Join(j.Properties.NotifyCommand, "|"), "/bin/sh|-c|true"
		}},
		{[]string{"-ProxyUsage", "NoProxy"}, func(j *bits.Job) (any, any) { return j.Properties.Proxy.Usage, bits.ProxyNone }},
		{[]string{"-ProxyUsage", "AutoDetect"}, func(j *bits.Job) (any, any) { return j.Properties.Proxy.Usage, bits.ProxyAutodetect }},
		{[]string{"-ProxyUsage", "SystemDefault"}, func(j *bits.Job) (any, any) { return j.Properties.Proxy.Usage, bits.ProxyPreconfig }},
		{[]string{"-ProxyUsage", "Override", "-ProxyList", "http://p:1,q:2", "-ProxyBypass", "a,b"}, func(j *bits.Job) (any, any) {
			return j.Properties.Proxy.String(), "override http://p:1,q:2 a,b"
		}},
		{[]string{"-CustomHeaders", "X-One: 1,X-Two: 2, 3"}, func(j *bits.Job) (any, any) {
			lines, err := s.Job(j.ID).Headers(s.ctx())
			must(t, err)
			return strings.Join(lines, "|"), "X-One: 1|X-Two: 2, 3"
		}},
		{[]string{"-CustomHeadersWriteOnly"}, func(j *bits.Job) (any, any) { return j.Properties.HeadersWriteOnly, true }},
		{[]string{"-UseStoredCredential", "Proxy"}, func(j *bits.Job) (any, any) { return j.Properties.UseStoredCredentials, bits.TargetProxy }},
		{[]string{"-Dynamic", "-Priority", "Foreground"}, func(j *bits.Job) (any, any) { return j.Properties.DynamicContent, true }},
		{[]string{"-HttpMethod", "POST"}, func(j *bits.Job) (any, any) {
			return fmt.Sprint(j.Properties.HTTPMethod, " ", j.Priority), "POST FOREGROUND"
		}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			s := s.in(t)
			begun := s.psOne(append([]string{"Start-BitsTransfer", url, filepath.Join(s.dir, fmt.Sprint(i)), "-Suspended"}, c.args...)...)
			plain := s.psOne("Start-BitsTransfer", url, filepath.Join(s.dir, fmt.Sprint(i)), "-Suspended")
			changed := s.psOne(append([]string{"Set-BitsTransfer", plain.JobID.String()}, c.args...)...)
			for verb, job := range map[string]psJob{"Start": begun, "Set": changed} {
				if got, want := c.check(s.info(s.Job(job.JobID))); got != want {
					t.Errorf("%s-BitsTransfer %q: %v, want %v", verb, c.args, got, want)
				}
				s.cli("Remove-BitsTransfer", job.JobID.String()).want(t, 0)
			}
		})
	}
	// The words of -TransferPolicy and their numbers.
	id := s.psOne("Start-BitsTransfer", url, filepath.Join(s.dir, "x"), "-Suspended").JobID
	for word, mask := range map[string]bits.Cost{"Unrestricted": 1, "Capped": 2, "BelowCap": 4, "NearCap": 8, "OverCapCharged": 0x10, "OverCapThrottled": 0x20, "UsageBased": 0x40, "Roaming": 0x80,
		"Capped, Roaming, IgnoreCongestion": 0x80000082, "PolicyUnrestricted": 0x80000021, "Standard": 0x80000067, "NoSurcharge": 0x8000006f, "NotRoaming": 0x8000007f, "Always": 0x800000ff, "None": 0} {
		if got := s.psOne("Set-BitsTransfer", id.String(), "-TransferPolicy", word); got.TransferPolicy != word {
			t.Errorf("-TransferPolicy %s gives %s", word, got.TransferPolicy)
		}
		if got := s.info(s.Job(id)).Properties.TransferPolicy; got != mask {
			t.Errorf("-TransferPolicy %s is 0x%08x, want 0x%08x", word, uint32(got), uint32(mask))
		}
	}
	if long := strings.Repeat("é", 1024); s.psOne("Set-BitsTransfer", id.String(), "-Description", long).Description != long {
		t.Error("a description of 1024 characters is not kept")
	}
	// A method other than GET keeps the job in the foreground.
	s.cli("Set-BitsTransfer", id.String(), "-Priority", "Low").want(t, 0)
	if got := s.psOne("Set-BitsTransfer", id.String(), "-HttpMethod", "PUT"); got.Priority != "Foreground" {
		t.Errorf("with -HttpMethod PUT the job is %+v", got)
	}
	if got := s.cli("Set-BitsTransfer", id.String(), "-Priority", "Low").want(t, 1); !strings.Contains(got.err, "0x80200071") {
		t.Errorf("of another priority it says %q", got.err)
	}
	s.cli("Remove-BitsTransfer", id.String()).want(t, 0)
	for _, args := range [][]string{{"-RetryInterval", "59"}, {"-Priority", "urgent"}, {"-ProxyUsage", "Override"}, {"-ProxyList", "p:1"}, {"-SecurityFlags", "0x8000"},
		{"-Description", strings.Repeat("x", 1025)}, {"-UseStoredCredential", "Server"}, {"-TransferPolicy", "0x100"}, {"-ACLFlags", "x"}, {"-Nonsense"}} {
		got := s.cli(append([]string{"Start-BitsTransfer", url, filepath.Join(s.dir, "x"), "-Suspended"}, args...)...)
		if got.want(t, 2); !strings.HasPrefix(got.err, "ebb: Start-BitsTransfer : ") {
			t.Errorf("%q: %q", args, got.err)
		}
	}
	if jobs := s.ps("Get-BitsTransfer"); len(jobs) != 0 {
		t.Errorf("%d jobs are left", len(jobs))
	}
}
