package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// adminGetters are the switches that print one value of a job, and the words for it.
var adminGetters = []struct {
	name, label string
	get         func(*bits.Job) (string, error)
}{
	{"gettype", "TYPE", func(j *bits.Job) (string, error) { return j.Type.String(), nil }},
	{"getbytestotal", "BYTES TOTAL", func(j *bits.Job) (string, error) { return adminSize(j.Progress.BytesTotal), nil }},
	{"getbytestransferred", "BYTES TRANSFERRED", func(j *bits.Job) (string, error) { return strconv.FormatInt(j.Progress.BytesTransferred, 10), nil }},
	{"getfilestotal", "FILES TOTAL", func(j *bits.Job) (string, error) { return strconv.Itoa(j.Progress.FilesTotal), nil }},
	{"getfilestransferred", "FILES TRANSFERRED", func(j *bits.Job) (string, error) { return strconv.Itoa(j.Progress.FilesTransferred), nil }},
	{"getcreationtime", "CREATION TIME", func(j *bits.Job) (string, error) { return adminTime(&j.Times.Created), nil }},
	{"getmodificationtime", "MODIFICATION TIME", func(j *bits.Job) (string, error) { return adminTime(&j.Times.Modified), nil }},
	{"getcompletiontime", "COMPLETION TIME", func(j *bits.Job) (string, error) { return adminTime(j.Times.Transferred), nil }},
	{"getstate", "STATE", func(j *bits.Job) (string, error) { return j.State.String(), nil }},
	{"getowner", "OWNER", func(j *bits.Job) (string, error) { return safe(j.Owner), nil }},
	{"getdisplayname", "DISPLAY NAME", func(j *bits.Job) (string, error) { return safe(j.Name), nil }},
	{"getdescription", "DESCRIPTION", func(j *bits.Job) (string, error) { return safe(j.Properties.Description), nil }},
	{"getpriority", "PRIORITY", func(j *bits.Job) (string, error) { return j.Priority.String(), nil }},
	{"getminretrydelay", "RETRY DELAY", func(j *bits.Job) (string, error) { return decimal(j.Properties.MinimumRetryDelay), nil }},
	{"getnoprogresstimeout", "NO PROGRESS TIMEOUT", func(j *bits.Job) (string, error) { return decimal(j.Properties.NoProgressTimeout), nil }},
	{"getmaxdownloadtime", "MAX DOWNLOAD TIME", func(j *bits.Job) (string, error) { return decimal(j.Properties.MaximumDownloadTime), nil }},
	{"geterrorcount", "ERROR COUNT", func(j *bits.Job) (string, error) { return strconv.Itoa(j.ErrorCount), nil }},
	{"getaclflags", "ACL FLAGS", func(j *bits.Job) (string, error) { return aclLetters(j.Properties.ACLFlags), nil }},
	{"getnotifyflags", "NOTIFICATION FLAGS", func(j *bits.Job) (string, error) { return decimal(int64(j.Properties.NotifyFlags)), nil }},
	{"getnotifycmdline", "NOTIFICATION COMMAND LINE", func(j *bits.Job) (string, error) { return commandLine(j.Properties.NotifyCommand), nil }},
	{"getproxyusage", "PROXY USAGE", func(j *bits.Job) (string, error) { return j.Properties.Proxy.Usage.String(), nil }},
	{"getproxylist", "PROXY LIST", func(j *bits.Job) (string, error) {
		return orNull(safe(strings.Join(j.Properties.Proxy.List, ","))), nil
	}},
	{"getproxybypasslist", "PROXY BYPASS LIST", func(j *bits.Job) (string, error) {
		return orNull(safe(strings.Join(j.Properties.Proxy.Bypass, ","))), nil
	}},
	{"getsecurityflags", "SECURITY FLAGS", func(j *bits.Job) (string, error) {
		return fmt.Sprintf("0x%04X", uint32(j.Properties.SecurityFlags)), nil
	}},
	{"gethttpmethod", "HTTP METHOD", func(j *bits.Job) (string, error) {
		return cmp.Or(j.Properties.HTTPMethod, j.Type.HTTPMethod()), nil
	}},
	{"getpeercachingflags", "PEER CACHING FLAGS", func(j *bits.Job) (string, error) { return decimal(int64(j.Properties.PeerCachingFlags)), nil }},
	{"getclientcertificate", "CLIENT CERTIFICATE", func(j *bits.Job) (string, error) {
		c := j.Properties.ClientCertificate
		if c == nil {
			return "NULL", nil
		}
		return safe(strings.ToUpper(c.SHA1) + " " + c.Subject), nil
	}},
	{"getreplyfilename", "REPLY FILE", func(j *bits.Job) (string, error) {
		if j.Reply == nil {
			return "", noReply()
		}
		return orNull(safe(j.Reply.File)), nil
	}},
	{"getreplyprogress", "REPLY PROGRESS", func(j *bits.Job) (string, error) {
		if j.Reply == nil {
			return "", noReply()
		}
		return adminBytes(j.Reply.BytesTransferred, j.Reply.BytesTotal), nil
	}},
}

// adminValues are the switches that print values.
func adminValues() []adminSwitch {
	var all []adminSwitch
	for _, g := range adminGetters {
		what := strings.ToLower(g.label)
		all = append(all, adminSwitch{g.name, "JOB", 1, 1, "prints the " + what, "get " + what, withJob(func(b *bitsadmin, _ *client.Job, info *bits.Job, _ []string) error {
			v, err := g.get(info)
			if err != nil {
				return err
			}
			b.value(g.label, v)
			return nil
		})})
	}
	return append(all,
		adminSwitch{"geterror", "JOB", 1, 1, "tells why the job is in an error", "get error", withJob(func(b *bitsadmin, _ *client.Job, info *bits.Job, _ []string) error {
			if info.Error == nil {
				return &bits.Error{Code: bits.ErrorInfoUnavailable}
			}
			b.printAdminError(info)
			return nil
		})},
		adminSwitch{"getnotifyinterface", "JOB", 1, 1, "tells whether a program is registered for the job's news", "get notify interface", withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, _ []string) error {
			word, err := b.notifyInterface(job)
			if err != nil {
				return err
			}
			b.value("NOTIFY INTERFACE", word)
			return nil
		})},
		adminSwitch{"getreplydata", "JOB", 1, 1, "prints the server's reply as hexadecimal digits", "get reply data", withJob((*bitsadmin).replyData)},
		adminSwitch{"gettemporaryname", "JOB FILE-INDEX", 2, 2, "prints the path of a file's part file", "get temporary name", withFile(func(b *bitsadmin, _ *client.Job, f *bits.File, _ int, _ []string) error {
			b.value("TEMPORARY NAME", orNull(safe(f.Temporary)))
			return nil
		})},
		adminSwitch{"getvalidationstate", "JOB FILE-INDEX", 2, 2, "tells whether a file's content was found right", "get validation state", withFile(func(b *bitsadmin, _ *client.Job, f *bits.File, _ int, _ []string) error {
			b.value("VALIDATION STATE", strings.ToUpper(strconv.FormatBool(f.Validated)))
			return nil
		})},
		adminSwitch{"setvalidationstate", "JOB FILE-INDEX TRUE|FALSE", 3, 3, "says whether a file's content is right; one that is not is fetched again", "set validation state", withFile((*bitsadmin).setValidation)},
	)
}

// adminSetters are the switches that change a job.
var adminSetters = []adminSwitch{
	setter("setdisplayname", "NAME", "display name", "name"),
	setter("setdescription", "TEXT", "description", "description"),
	setter("setpriority", "FOREGROUND|HIGH|NORMAL|LOW", "priority", "priority"),
	setter("setminretrydelay", "SECONDS", "minimum retry delay", "minimum_retry_delay"),
	setter("setnoprogresstimeout", "SECONDS", "no progress timeout", "no_progress_timeout"),
	setter("setmaxdownloadtime", "SECONDS", "maximum download time", "maximum_download_time"),
	setter("setnotifyflags", "1, 2, 4 or a sum", "notification flags", "notify_flags"),
	setter("setsecurityflags", "VALUE", "security flags", "security_flags"),
	setter("sethttpmethod", "METHOD", "HTTP method", "http_method"),
	setter("setpeercachingflags", "VALUE", "peer caching flags", "peer_caching_flags"),
	{"setaclflag", "JOB O|G|D|S...", 2, 2, "sets which parts of a source's access rights are copied", "set ACL flags", withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, args []string) error {
		flags, err := parseACL(args[0])
		if err != nil {
			return err
		}
		return b.changed(job, bits.Settings{Options: bits.Options{ACLFlags: &flags}}, "ACL flags set to %s.\n", aclLetters(flags))
	})},
	{"setnotifycmdline", "JOB PROGRAM [PARAMETERS...]", 2, -1, "sets the program that is run when the job is TRANSFERRED or in ERROR", "set notification command line", withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, args []string) error {
		command, err := notifyCommand(args[0], args[1:])
		if err != nil {
			return err
		}
		return b.changed(job, bits.Settings{Options: bits.Options{NotifyCommand: &command}}, "notification command line set to %s.\n", commandLine(command))
	})},
	{"setproxysettings", "JOB PRECONFIG|NO_PROXY|AUTODETECT|OVERRIDE [LIST [BYPASS]]", 2, 4, "sets which proxies are used", "set proxy settings", withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, args []string) error {
		var p bits.ProxySettings
		if err := p.Usage.UnmarshalText([]byte(args[0])); err != nil {
			return err
		}
		for i, list := range []*[]string{&p.List, &p.Bypass} {
			if i+1 < len(args) && !strings.EqualFold(args[i+1], "NULL") {
				*list = strings.FieldsFunc(args[i+1], func(r rune) bool { return r == ',' || r == ' ' || r == ';' })
			}
		}
		return b.changed(job, bits.Settings{Options: bits.Options{Proxy: &p}}, "Proxy usage set to %s.\n", p.Usage)
	})},
	{"makecustomheaderswriteonly", "JOB", 1, 1, "hides the request headers for good", "make custom headers write-only", withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, _ []string) error {
		yes := true
		return b.changed(job, bits.Settings{Options: bits.Options{HeadersWriteOnly: &yes}}, "Custom headers are write-only now.\n")
	})},
	{"setreplyfilename", "JOB PATH", 2, 2, "sets where the reply goes", "set reply file name", withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, args []string) error {
		path, err := localName(args[0])
		if err != nil {
			return err
		}
		return b.changed(job, bits.Settings{ReplyFile: &path}, "Reply file name set to %s.\n", safe(path))
	})},
	{"setcustomheaders", "JOB HEADER...", 2, -1, "sets the request headers", "set custom headers", withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, args []string) error {
		headers := args
		if len(args) == 1 && strings.EqualFold(args[0], "NULL") {
			headers = []string{}
		}
		return b.changed(job, bits.Settings{Headers: &headers}, "Custom headers set.\n")
	})},
}

// setter is a switch that sets a property to the text that follows.
func setter(name, args, what, property string) adminSwitch {
	return adminSwitch{name, "JOB " + args, 2, 2, "sets the " + what, "set " + what, withJob(func(b *bitsadmin, job *client.Job, _ *bits.Job, args []string) error {
		var s bits.Settings
		err := s.Set(property, args[0])
		if e := (*bits.Error)(nil); errors.As(err, &e) { // bitsadmin refuses words by itself, all with one code
			return bits.Errorf(bits.InvalidArg, "%s", e.Sentence())
		}
		if err != nil {
			return bits.Errorf(bits.InvalidArg, "%s", err)
		}
		return b.changed(job, s, "%s set to %s.\n", strings.ToUpper(what[:1])+what[1:], safe(args[0]))
	})}
}

// changed sets properties and says so.
func (b *bitsadmin) changed(job *client.Job, s bits.Settings, format string, args ...any) error {
	if err := job.Set(b.ctx, s); err != nil {
		return err
	}
	b.say(format, args...)
	return nil
}

// The letters of ACL flags, from the lowest bit up.
const aclNames = "OGDS"

func aclLetters(f bits.ACLFlags) string {
	s := ""
	for i, letter := range aclNames {
		if f&(1<<i) != 0 {
			s += string(letter)
		}
	}
	return s
}

// parseACL reads letters in any order, with or without commas.
func parseACL(s string) (f bits.ACLFlags, err error) {
	for _, r := range strings.ToUpper(strings.ReplaceAll(s, ",", "")) {
		i := strings.IndexRune(aclNames, r)
		if i < 0 {
			return 0, bits.Errorf(bits.InvalidArg, "%q is no ACL flag (want O, G, D and S)", string(r))
		}
		f |= 1 << i
	}
	return f, nil
}

// notifyCommand makes a notify command of a program and its parameters. BITS hands the
// parameters to the program as its whole command line, which therefore begins with the program's
// name again; here the name is left out, for programs have their arguments in a list.
func notifyCommand(program string, parameters []string) ([]string, error) {
	if strings.EqualFold(program, "NULL") {
		return []string{}, nil
	}
	if len(parameters) == 1 {
		if strings.EqualFold(parameters[0], "NULL") {
			return []string{program}, nil
		}
		var s bits.Settings
		if err := s.Set("notify_command", parameters[0]); err != nil { // the same rules for quotes
			return nil, bits.Errorf(bits.InvalidArg, "%s", err)
		}
		parameters = *s.NotifyCommand
	}
	if len(parameters) > 0 && (parameters[0] == program || parameters[0] == filepath.Base(program)) {
		parameters = parameters[1:]
	}
	return append([]string{program}, parameters...), nil
}

// commandLine writes a notify command as program and parameters.
func commandLine(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	var quoted []string
	for _, w := range words[1:] {
		quoted = append(quoted, shellQuote(w))
	}
	return safe(strings.TrimSpace(words[0] + " " + strings.Join(quoted, " ")))
}

// withFile is a switch whose arguments begin with a job and the index of a file, from 0.
func withFile(f func(b *bitsadmin, job *client.Job, f *bits.File, index int, args []string) error) func(*bitsadmin, []string) error {
	return withJob(func(b *bitsadmin, job *client.Job, info *bits.Job, args []string) error {
		i, err := strconv.Atoi(args[0])
		if err != nil || i < 0 || i >= len(info.Files) {
			return bits.Errorf(bits.InvalidArg, "the job has no file with the index %s; it has %s, counted from 0", args[0], filesText(len(info.Files)))
		}
		return f(b, job, &info.Files[i], i, args[1:])
	})
}

// setValidation says what the caller found of a file's content. A job with a file that is not right
// is in ERROR, and fetches it again when it is resumed.
func (b *bitsadmin) setValidation(job *client.Job, f *bits.File, _ int, args []string) error {
	right := strings.EqualFold(args[0], "TRUE")
	if !right && !strings.EqualFold(args[0], "FALSE") {
		return bits.Errorf(bits.InvalidArg, "%q is no validation state (want TRUE or FALSE)", args[0])
	}
	if err := job.SetValidationState(b.ctx, f.Index, right); err != nil {
		return err
	}
	b.say("Validation state set to %s.\n", strings.ToUpper(args[0]))
	return nil
}

func noReply() error {
	return bits.Errorf(bits.NotImplemented, "the job has no reply: only UPLOAD_REPLY jobs have one")
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func orNull(s string) string {
	if s == "" {
		return "NULL"
	}
	return s
}

// adminTime is a time as bitsadmin prints it in the United States, by the local clock.
func adminTime(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "UNKNOWN"
	}
	return t.Local().Format("1/2/2006 3:04:05 PM")
}

func (b *bitsadmin) replyData(job *client.Job, info *bits.Job, _ []string) error {
	if info.Reply == nil {
		return noReply()
	}
	data, err := job.ReplyData(b.ctx)
	if err != nil {
		return err
	}
	if b.raw {
		b.a.printf("%X", data)
		return nil
	}
	b.a.printf("REPLY DATA LENGTH: %d\n", len(data))
	for ; len(data) > 0; data = data[min(16, len(data)):] {
		b.a.printf("% X\n", data[:min(16, len(data))])
	}
	return nil
}

// contextTexts are the sentences for error contexts.
var contextTexts = [...]string{
	"There is no error.", "The error occurred in an unknown place.", "The error occurred in the queue manager.", "The error occurred while the queue manager was notifying the client.",
	"The error occurred while the local file was being processed.", "The error occurred while the remote file was being processed.", "The error occurred in the transport layer.",
	"The error occurred while the remote application was processing the uploaded file.", "The error occurred while the client's server certificate callback was running.",
}

// printAdminError prints why a job is in an error.
func (b *bitsadmin) printAdminError(info *bits.Job) {
	e := info.Error.Err()
	file := bits.RedactURL(e.File)
	for _, f := range info.Files {
		if f.Remote == e.File || f.Local == e.File || bits.RedactURL(f.Remote) == file {
			file = bits.RedactURL(f.Remote) + " -> " + f.Local
			break
		}
	}
	if file != "" {
		b.a.printf("ERROR FILE:    %s\n", safe(file))
	}
	b.a.printf("ERROR CODE:    %s - %s\n", strings.ToLower(e.Code.Hex()), safe(e.Sentence()))
	text := ""
	if int(e.Context) < len(contextTexts) {
		text = contextTexts[e.Context]
	}
	b.a.printf("ERROR CONTEXT: 0x%08x - %s\n", uint8(e.Context), text)
}

// notifyInterface says whether a program has asked for the callbacks of a job.
func (b *bitsadmin) notifyInterface(job *client.Job) (string, error) {
	registered, err := job.HasCallback(b.ctx)
	if registered {
		return "REGISTERED", err
	}
	return "UNREGISTERED", err
}

// printInfo prints all of a job, in the lines of /info /verbose.
func (b *bitsadmin) printInfo(j *bits.Job) {
	p := &j.Properties
	callback, err := b.notifyInterface(b.srv.Job(j.ID))
	if err != nil { // the job ended a moment ago
		callback = "UNKNOWN"
	}
	b.a.printf("GUID: %s DISPLAY: '%s'\n", braced(j.ID), safe(j.Name))
	b.a.printf("TYPE: %s STATE: %s OWNER: %s\n", j.Type, j.State, safe(j.Owner))
	b.a.printf("PRIORITY: %s FILES: %d / %d BYTES: %s\n", j.Priority, j.Progress.FilesTransferred, j.Progress.FilesTotal, adminBytes(j.Progress.BytesTransferred, j.Progress.BytesTotal))
	b.a.printf("CREATION TIME: %s MODIFICATION TIME: %s\n", adminTime(&j.Times.Created), adminTime(&j.Times.Modified))
	b.a.printf("COMPLETION TIME: %s ACL FLAGS: %s\n", adminTime(j.Times.Transferred), b.one(j, "getaclflags"))
	b.a.printf("NOTIFY INTERFACE: %s NOTIFICATION FLAGS: %s\n", callback, b.one(j, "getnotifyflags"))
	b.a.printf("RETRY DELAY: %d NO PROGRESS TIMEOUT: %d ERROR COUNT: %d\n", p.MinimumRetryDelay, p.NoProgressTimeout, j.ErrorCount)
	b.a.printf("PROXY USAGE: %s PROXY LIST: %s PROXY BYPASS LIST: %s\n", b.one(j, "getproxyusage"), b.one(j, "getproxylist"), b.one(j, "getproxybypasslist"))
	if j.Error != nil {
		b.printAdminError(j)
	}
	b.a.printf("DESCRIPTION: %s\n", safe(p.Description))
	b.a.printf("JOB FILES:\n")
	for _, f := range j.Files {
		b.a.printf("\t%s\n", adminFileLine(j.State, f))
	}
	b.a.printf("NOTIFICATION COMMAND LINE: %s\n", b.one(j, "getnotifycmdline"))
	b.a.printf("PEER CACHING FLAGS: %s\n", b.one(j, "getpeercachingflags"))
	b.a.printf("CUSTOM HEADERS: %s\n\n", orNull(safe(strings.Join(j.Properties.HeaderNames, ", "))))
}

// one is the value that a switch prints of a job.
func (b *bitsadmin) one(j *bits.Job, name string) string {
	for _, g := range adminGetters {
		if g.name == name {
			v, err := g.get(j)
			if err != nil {
				return "NULL"
			}
			return v
		}
	}
	return "NULL"
}

// adminMachine are the switches that are not about jobs.
var adminMachine = []adminSwitch{
	{"peercaching", "/GETCONFIGURATIONFLAGS JOB | /SETCONFIGURATIONFLAGS JOB VALUE | /HELP", 0, -1, "is about the peer cache of BITS 3: it fails as BITS's own since Windows 7", "use peer caching", peerCache("peercaching",
		"/GETCONFIGURATIONFLAGS JOB", "prints whether this machine gives to peers and takes from them", "/SETCONFIGURATIONFLAGS JOB VALUE", "sets it: 1 takes, 2 gives, 3 does both")},
	{"cache", "/LIST | /INFO ID | ... | /HELP", 0, -1, "is about the peer cache of BITS 3: it fails as BITS's own since Windows 7", "use the cache", peerCache("cache",
		"/LIST", "lists what is in the cache", "/INFO ID [/VERBOSE]", "tells of one entry", "/DELETE ID", "deletes an entry", "/DELETEURL URL", "deletes the entries of a URL", "/CLEAR", "deletes all entries",
		"/GETLIMIT", "prints how much of the disk the cache may take", "/SETLIMIT PERCENT", "sets it",
		"/GETEXPIRATIONTIME", "prints how long an entry stays", "/SETEXPIRATIONTIME SECONDS", "sets it")},
	{"peers", "/LIST | /DISCOVER | /CLEAR | /HELP", 0, -1, "is about the peers of BITS 3: it fails as BITS's own since Windows 7", "use peers", peerCache("peers",
		"/LIST", "lists the known peers", "/DISCOVER", "looks for peers", "/CLEAR", "forgets the peers")},
	{"gethelpertokenflags", "JOB", 1, 1, "is for Windows: there are no helper tokens", "get helper token flags", noHelperToken},
	{"sethelpertokenflags", "JOB FLAGS", 2, 2, "is for Windows: there are no helper tokens", "set helper token flags", noHelperToken},
	{"gethelpertokensid", "JOB", 1, 1, "is for Windows: there are no helper tokens", "get helper token SID", noHelperToken},
	{"sethelpertoken", "JOB", 1, 1, "is for Windows: there are no helper tokens", "set helper token", noHelperToken},
	{"util", "/VERSION [/VERBOSE] | /HELP", 1, -1, "tells of the service", "use the utility", (*bitsadmin).util},
}

// peerCache is a switch of the peer cache of BITS 3, which answers as BITS's has since Windows 7; its help is
// there, given as uses and what they do in turn.
func peerCache(name string, uses ...string) func(*bitsadmin, []string) error {
	return func(b *bitsadmin, args []string) error {
		if len(args) > 0 && adminName(args[0]) != "help" {
			return &bits.Error{Code: bits.PeerCachingDisabled}
		}
		for i := 0; i < len(uses); i += 2 {
			b.a.printf("/%s %s\n    %s\n", strings.ToUpper(name), uses[i], uses[i+1])
		}
		b.a.printf("\nThe peer cache of BITS 3 ended with Windows 7: these switches fail with %s.\nWhat took its place has ebb peers and ebb cache.\n", strings.ToLower(bits.PeerCachingDisabled.Hex()))
		return nil
	}
}

func noHelperToken(*bitsadmin, []string) error {
	return bits.Errorf(bits.NotImplemented, "there are no helper tokens on this system: a job's files and network are those of its owner")
}

func (b *bitsadmin) util(args []string) error {
	switch name := adminName(args[0]); name {
	case "version":
		info, err := b.srv.Service(b.ctx)
		if err != nil {
			return err
		}
		if b.raw {
			b.a.printf("%s", safe(info.Version))
			return nil
		}
		b.a.printf("BITS service: ebb %s, API of BITS 10.3\n", safe(info.Version))
		if len(args) > 1 && adminName(args[1]) == "verbose" {
			b.a.printf("process %d, store %s, running since %s\n", info.PID, safe(info.State), adminTime(&info.Started))
		}
		return nil
	case "help":
		b.a.printf("/UTIL /VERSION [/VERBOSE]\n    prints the version of the service\n")
		return nil
	case "repairservice":
		return bits.Errorf(bits.NotImplemented, "there is nothing to repair by hand: the service sets a damaged store aside, or repairs it, when it starts")
	case "getieproxy", "setieproxy":
		return bits.Errorf(bits.NotImplemented, "there is no Internet Explorer: a job's proxy is its own (/setproxysettings), or that of its owner's environment")
	case "enableanalyticchannel":
		return bits.Errorf(bits.NotImplemented, "there is no analytic channel: the service's log holds what it does")
	default:
		b.a.printf("Invalid command.\n")
		return usagef("/util knows no switch %q", args[0])
	}
}

const adminExamples = `Fetch a file and wait for it:
    ebb bitsadmin /transfer fetch /priority foreground https://example.org/a.iso /tmp/a.iso

Fetch a file in the background, step by step:
    ebb bitsadmin /create nightly
    ebb bitsadmin /addfile nightly https://example.org/a.iso /srv/a.iso
    ebb bitsadmin /setpriority nightly LOW
    ebb bitsadmin /resume nightly
    ebb bitsadmin /info nightly /verbose
    ebb bitsadmin /complete nightly

In a script:
    id=$(ebb bitsadmin /rawreturn /create nightly)
    [ "$(ebb bitsadmin /rawreturn /getstate "$id")" = TRANSFERRED ] && ebb bitsadmin /complete "$id"
`
