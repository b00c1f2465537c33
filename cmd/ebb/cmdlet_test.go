package main

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

func cmdletNamed(t *testing.T, name string) *cmdlet {
	t.Helper()
	for _, c := range bitsTransfer() {
		if c.name == name {
			return c
		}
	}
	t.Fatalf("there is no cmdlet %s", name)
	return nil
}

// TestParseCmdlet reads command lines as PowerShell does.
func TestParseCmdlet(t *testing.T) {
	for _, test := range []struct {
		name, line string // arguments are separated by one blank; '_' stands for a blank in one
		want       arguments
		fails      string
	}{
		{"Start-BitsTransfer", "-Source http://a/1 -Destination /x", arguments{"Source": {"http://a/1"}, "Destination": {"/x"}}, ""},
		{"Start-BitsTransfer", "http://a/1 /x", arguments{"Source": {"http://a/1"}, "Destination": {"/x"}}, ""},
		{"Start-BitsTransfer", "/x -source http://a/1", arguments{"Source": {"http://a/1"}, "Destination": {"/x"}}, ""},
		{"Start-BitsTransfer", "http://a/1,http://a/2 /x,/y", arguments{"Source": {"http://a/1", "http://a/2"}, "Destination": {"/x", "/y"}}, ""},
		{"Start-BitsTransfer", "http://a/1, http://a/2 /x , /y", arguments{"Source": {"http://a/1", "http://a/2"}, "Destination": {"/x", "/y"}}, ""},
		{"Start-BitsTransfer", "http://a/1,2?x=3,4", arguments{"Source": {"http://a/1,2?x=3,4"}}, ""},
		{"Start-BitsTransfer", "-asy -sus -dis:n_n -d x", nil, "is ambiguous"},
		{"Start-BitsTransfer", "-As -Sus -Disp:n_n -Source x", arguments{"Asynchronous": {"true"}, "Suspended": {"true"}, "DisplayName": {"n n"}, "Source": {"x"}}, ""},
		{"Start-BitsTransfer", "x -Asynchronous:$false -Suspended:$TRUE", arguments{"Source": {"x"}, "Asynchronous": {"false"}, "Suspended": {"true"}}, ""},
		{"Start-BitsTransfer", "x -Priority foreground", arguments{"Source": {"x"}, "Priority": {"Foreground"}}, ""},
		{"Start-BitsTransfer", "x -Priority urgent", nil, "does not belong to the set"},
		{"Start-BitsTransfer", "x -RetryInterval 59", nil, "less than the minimum allowed range of 60"},
		{"Start-BitsTransfer", "x -RetryInterval 60", arguments{"Source": {"x"}, "RetryInterval": {"60"}}, ""},
		{"Start-BitsTransfer", "x -TransferPolicy unrestricted,Roaming", arguments{"Source": {"x"}, "TransferPolicy": {"Unrestricted", "Roaming"}}, ""},
		{"Start-BitsTransfer", "x -TransferPolicy 0x80", arguments{"Source": {"x"}, "TransferPolicy": {"128"}}, ""},
		{"Start-BitsTransfer", "x -CustomHeaders A:_1,B:_2,_3", arguments{"Source": {"x"}, "CustomHeaders": {"A: 1", "B: 2, 3"}}, ""},
		{"Start-BitsTransfer", "x -NotifyCmdLine /bin/sh,sh_-c_'a,b'", arguments{"Source": {"x"}, "NotifyCmdLine": {"/bin/sh", "sh -c 'a,b'"}}, ""},
		{"Start-BitsTransfer", "x -SecurityFlags -1", arguments{"Source": {"x"}, "SecurityFlags": {"-1"}}, ""},
		{"Start-BitsTransfer", "x -Priority", nil, "missing an argument for parameter 'Priority'"},
		{"Start-BitsTransfer", "x -Priority -Suspended", nil, "missing an argument for parameter 'Priority'"},
		{"Start-BitsTransfer", "x -Priority Low -priority High", nil, "more than once"},
		{"Start-BitsTransfer", "x y z", nil, "positional parameter cannot be found that accepts argument 'z'"},
		{"Start-BitsTransfer", "x -Frobnicate", nil, "matches parameter name 'Frobnicate'"},
		{"Start-BitsTransfer", "x -dn y", nil, "matches parameter name 'dn'"}, // an alias of Set- only
		{"Start-BitsTransfer", "x -wi -ea SilentlyContinue -OutVariable v", arguments{"Source": {"x"}, "WhatIf": {"true"}, "ErrorAction": {"SilentlyContinue"}, "OutVariable": {"v"}}, ""},
		{"Set-BitsTransfer", "j -dn n -p low -d text -au basic -so -hm GET -pu override -pl p:1,q:2 -pb a,b", arguments{"BitsJob": {"j"}, "DisplayName": {"n"}, "Priority": {"Low"}, "Description": {"text"},
			"Authentication": {"Basic"}, "SetOwnerToCurrentUser": {"true"}, "HttpMethod": {"GET"}, "ProxyUsage": {"Override"}, "ProxyList": {"p:1", "q:2"}, "ProxyBypass": {"a", "b"}}, ""},
		{"Get-BitsTransfer", "night*,day -all", arguments{"Name": {"night*", "day"}, "AllUsers": {"true"}}, ""},
		{"Get-BitsTransfer", "-id -", arguments{"JobId": {"-"}}, ""},
		{"Get-BitsTransfer", "x -wa silentlycontinue -infa Continue -proga Ignore -Debug", arguments{"Name": {"x"}, "WarningAction": {"SilentlyContinue"}, "InformationAction": {"Continue"}, "ProgressAction": {"Ignore"}, "Debug": {"true"}}, ""},
		{"Get-BitsTransfer", "x -InformationAction loudly", nil, "does not belong to the set"},
		{"Get-BitsTransfer", "-id 1,2", arguments{"JobId": {"1", "2"}}, ""},
		{"Resume-BitsTransfer", "-b j -as", arguments{"BitsJob": {"j"}, "Asynchronous": {"true"}}, ""},
		{"Add-BitsFile", "j http://a/1 /x", arguments{"BitsJob": {"j"}, "Source": {"http://a/1"}, "Destination": {"/x"}}, ""},
	} {
		var args []string
		for word := range strings.SplitSeq(test.line, " ") {
			args = append(args, strings.ReplaceAll(word, "_", " "))
		}
		got, err := parseCmdlet(cmdletNamed(t, test.name).params, args)
		switch {
		case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)):
			t.Errorf("%s %s: the error is %v, want %q", test.name, test.line, err, test.fails)
		case test.fails == "" && (err != nil || !reflect.DeepEqual(got, test.want)):
			t.Errorf("%s %s:\ngot  %q, %v\nwant %q", test.name, test.line, got, err, test.want)
		}
	}
}

// TestCmdletNamesInAnyCase: PowerShell does not know of cases.
func TestCmdletNamesInAnyCase(t *testing.T) {
	for _, test := range []struct{ in, want []string }{
		{[]string{"start-bitstransfer", "X"}, []string{"Start-BitsTransfer", "X"}},
		{[]string{"--socket", "add-bitsfile", "--json", "ADD-BITSFILE"}, []string{"--socket", "add-bitsfile", "--json", "Add-BitsFile"}},
		{[]string{"BITSADMIN", "/list"}, []string{"bitsadmin", "/list"}},
		{[]string{"get", "start-bitstransfer"}, []string{"get", "start-bitstransfer"}},
	} {
		if got := canonical(test.in); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q became %q, want %q", test.in, got, test.want)
		}
	}
}

func TestWildcard(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		fits          bool
	}{
		{"night*", "Nightly", true}, {"night*", "a night", false}, {"*", "a/b\\c", true}, {"n?ght", "n/ght", true}, {"[a-c]x", "Bx", true}, {"plain", "PLAIN", true}, {"plain", "plainer", false}, {"[", "[", false},
	} {
		if wildcard(test.pattern, test.name) != test.fits {
			t.Errorf("whether %q fits %q: want %v", test.pattern, test.name, test.fits)
		}
	}
}

func TestPipedJobs(t *testing.T) {
	const id, other = "6af46e48-41d3-453f-b7af-a694bbc823f7", "482fcaf0-74bf-469b-8929-5ccd028c9499"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"a table", "\nJobId   DisplayName\n-----   -----------\n" + id + " one " + other + "\n" + other + " two\n\n", []string{id, other}},
		{"objects", `[{"JobId": "` + id + `", "DisplayName": "` + other + `"}, {"JobId": "` + other + `"}]`, []string{id, other}},
		{"one object", `{"JobId": "` + id + `"}`, []string{id}},
		{"objects as Windows writes them", "{\r\n  \"JobId\": \"" + id + "\"\r\n}", []string{id}},
		{"ids in braces", "{" + strings.ToUpper(id) + "}\r\n", []string{strings.ToUpper(id)}},
		{"nothing", "", nil},
	} {
		got, err := pipedJobs(test.text)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %q, %v, want %q", test.name, got, err, test.want)
		}
	}
}

// TestPipedNonsense: what is no job must not pass for an empty pipeline.
func TestPipedNonsense(t *testing.T) {
	for _, text := range []string{"hello\n", "JobId DisplayName\n----- -----------\nsome text\n", `[{"id": "6af46e48-41d3-453f-b7af-a694bbc823f7"}]`, `{"x": 1}`, "[1]", "6af46e48-41d3 one\n"} {
		if got, err := pipedJobs(text); err == nil {
			t.Errorf("%q is taken for the jobs %q", text, got)
		}
	}
}

// TestNotifyCommandLines: the parameters of BITS begin with the program's name.
func TestNotifyCommandLines(t *testing.T) {
	for _, test := range []struct {
		program    string
		parameters []string
		want       []string
	}{
		{"/bin/sh", []string{"sh -c 'a b'"}, []string{"/bin/sh", "-c", "a b"}},
		{"/bin/sh", []string{"/bin/sh -c x"}, []string{"/bin/sh", "-c", "x"}},
		{"/bin/logger", []string{`"job done"`}, []string{"/bin/logger", "job done"}},
		{"/bin/a", []string{"b c", "d"}, []string{"/bin/a", "b c", "d"}},
		{"/bin/a", nil, []string{"/bin/a"}},
		{"/bin/a", []string{"NULL"}, []string{"/bin/a"}},
		{"NULL", []string{"NULL"}, []string{}},
	} {
		got, err := notifyCommand(test.program, test.parameters)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s %q: %q, %v, want %q", test.program, test.parameters, got, err, test.want)
		}
	}
	if _, err := notifyCommand("/bin/a", []string{"'open"}); err == nil {
		t.Error("an open quote is taken")
	}
}

func TestBitsJobOfAnUnknownSize(t *testing.T) {
	job := asBitsJob(&bits.Job{State: bits.TransientError, Type: bits.UploadReply, Progress: bits.Progress{BytesTotal: bits.Unknown},
		Error: (&bits.Error{Code: bits.HTTPStatus(404), Context: bits.ContextRemoteFile}).Info()})
	if job.BytesTotal != 18446744073709551615 || job.JobState != "TransientError" || job.TransferType != "UploadReply" || job.InternalErrorCode != -2145844844 || job.ErrorCondition != "RemoteFile" {
		t.Errorf("the job is %+v", job)
	}
	if job.ErrorContextDescription != "The error occurred while the remote file was being processed." || job.ProxyUsage != "SystemDefault" || job.HttpMethod != "BITS_POST" {
		t.Errorf("the job is %+v", job)
	}
}

// TestBitsJob: a job as PowerShell has it tells what was set by the cmdlets' parameters.
func TestBitsJob(t *testing.T) {
	for usage, word := range map[bits.ProxyUsage]string{bits.ProxyPreconfig: "SystemDefault", bits.ProxyNone: "NoProxy", bits.ProxyAutodetect: "AutoDetect", bits.ProxyOverride: "Override"} {
		if job := asBitsJob(&bits.Job{Properties: bits.Properties{Proxy: bits.ProxySettings{Usage: usage}}}); job.ProxyUsage != word || job.ErrorContextDescription != "" {
			t.Errorf("%+v, want %s", job, word)
		}
	}
	for state, word := range map[bits.State]string{bits.Queued: "Queued", bits.Connecting: "Connecting", bits.Transferring: "Transferring", bits.Suspended: "Suspended", bits.Errored: "Error",
		bits.TransientError: "TransientError", bits.Transferred: "Transferred", bits.Acknowledged: "Acknowledged", bits.Cancelled: "Cancelled"} {
		if job := asBitsJob(&bits.Job{State: state}); job.JobState != word {
			t.Errorf("%s is %s, want %s", state, job.JobState, word)
		}
	}
	job := asBitsJob(&bits.Job{Properties: bits.Properties{Proxy: bits.ProxySettings{Usage: bits.ProxyOverride, List: []string{"p:1"}, Bypass: []string{"h"}}, NotifyFlags: bits.DefaultNotifyFlags,
		NotifyCommand: []string{"/bin/true", "a"}, HTTPMethod: "POST", DynamicContent: true, SecurityFlags: bits.SecurityIgnoreName}})
	if !slices.Equal(job.ProxyList, []string{"p:1"}) || !slices.Equal(job.ProxyBypassList, []string{"h"}) || job.NotifyFlags != 3 || !slices.Equal(job.NotifyCmdLine, []string{"/bin/true", "a"}) ||
		job.HttpMethod != "POST" || !job.Dynamic || job.SecurityFlags != uint32(bits.SecurityIgnoreName) {
		t.Errorf("the job is %+v", job)
	}
}

// TestPowerShellModule: the module has the parameters that ebb knows. There is no PowerShell to run it.
func TestPowerShellModule(t *testing.T) {
	text, err := os.ReadFile("../../packaging/powershell/Ebb.BitsTransfer/Ebb.BitsTransfer.psm1")
	if err != nil {
		t.Fatal(err)
	}
	// What may be a secret goes to the input, not into the arguments.
	for _, line := range []string{`elseif ($name -eq 'CustomHeaders') { "-$name"; '-' }`, `if ($Bound.Contains('CustomHeaders')) { ConvertTo-Json -Compress `} {
		if !strings.Contains(string(text), line) {
			t.Errorf("the module lacks %s", line)
		}
	}
	variable := regexp.MustCompile(`(?m)\] \$(\w+),?$`)
	alias := regexp.MustCompile(`\[Alias\('(\w+)'\)\]`)
	for _, c := range bitsTransfer() {
		_, rest, ok := strings.Cut(string(text), "function "+c.name+" {")
		block, _, end := strings.Cut(rest, "\n    )\n")
		if !ok || !end {
			t.Fatalf("the module has no function %s with parameters", c.name)
		}
		got := map[string]bool{}
		for _, m := range variable.FindAllStringSubmatch(block, -1) {
			got[m[1]] = true
		}
		for _, m := range alias.FindAllStringSubmatch(block, -1) {
			got[m[1]] = true
		}
		want := map[string]bool{}
		if got["CertHash"] && strings.Contains(block, "[string] $CertHash") {
			t.Errorf("%s of the module makes one text of the bytes of -CertHash", c.name)
		}
		for _, p := range c.params[:len(c.params)-len(common)] {
			if p.name == "WhatIf" || p.name == "Confirm" { // PowerShell's own
				continue
			}
			want[p.name] = true
			for _, a := range p.aliases {
				want[a] = true
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s of the module has %v, want %v", c.name, got, want)
		}
	}
}
