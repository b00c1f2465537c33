package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// A cmdlet is one of the cmdlets of the PowerShell module BitsTransfer.
type cmdlet struct {
	name    string
	does    string
	example string
	params  []param
	run     func(*cmdletCall) error
}

// cmdletCall is one call of a cmdlet.
type cmdletCall struct {
	arguments
	a   *app
	ctx context.Context
	srv *service
	*cmdlet
	cert   *bits.ClientCertificateFile // of the -Cert parameters; nil for none
	asking *cmdletQuestion             // of -Confirm, from its first question on

	secrets *bufio.Reader // what lines reads; nil until then
}

var (
	schemes  = []string{"Basic", "Digest", "Ntlm", "Negotiate", "Passport"}
	bitsJobs = param{name: "BitsJob", kind: texts, aliases: []string{"b"}, at: 1, required: true}
)

// properties are the parameters of Start- and Set-BitsTransfer that are properties of the job.
// The aliases are those of Set-; Start- has none.
func properties(aliases bool) []param {
	all := []param{
		{name: "DisplayName", aliases: []string{"dn"}},
		{name: "Priority", kind: oneWord, aliases: []string{"p"}, words: []string{"Foreground", "High", "Normal", "Low"}},
		{name: "Description", aliases: []string{"d"}},
		{name: "Dynamic", kind: switched},
		{name: "CustomHeadersWriteOnly", kind: switched},
		{name: "HttpMethod", aliases: []string{"hm"}},
		{name: "ProxyAuthentication", kind: oneWord, aliases: []string{"pa"}, words: schemes},
		{name: "RetryInterval", kind: number, least: 60},
		{name: "RetryTimeout", kind: number},
		{name: "MaxDownloadTime", kind: number},
		{name: "TransferPolicy", kind: oneWord, flags: true, words: costWords()},
		{name: "ACLFlags", kind: texts},
		{name: "SecurityFlags", kind: texts},
		{name: "UseStoredCredential", kind: oneWord, words: []string{"None", "Server", "Proxy"}},
		{name: "Credential", aliases: []string{"cred"}},
		{name: "ProxyCredential", aliases: []string{"pc"}},
		{name: "Authentication", kind: oneWord, aliases: []string{"au"}, words: schemes},
		{name: "ProxyUsage", kind: oneWord, aliases: []string{"pu"}, words: []string{"SystemDefault", "NoProxy", "AutoDetect", "Override"}},
		{name: "ProxyList", kind: texts, aliases: []string{"pl"}},
		{name: "ProxyBypass", kind: texts, aliases: []string{"pb"}},
		{name: "CustomHeaders", kind: texts, begins: beginsHeader},
		{name: "NotifyFlags", kind: texts},
		{name: "NotifyCmdLine", kind: texts, begins: beginsParameters},
		{name: "CertStoreLocation"},
		{name: "CertStoreName"},
		{name: "CertHash"},
	}
	if !aliases {
		for i := range all {
			all[i].aliases = nil
		}
	}
	return all
}

// costs are the names of cost states and transfer policies in PowerShell.
var costs = []struct {
	name string
	cost bits.Cost
}{
	{"None", 0}, {"Unrestricted", bits.CostUnrestricted}, {"Capped", bits.CostCappedUsageUnknown}, {"BelowCap", bits.CostBelowCap}, {"NearCap", bits.CostNearCap},
	{"OverCapCharged", bits.CostOvercapCharged}, {"OverCapThrottled", bits.CostOvercapThrottled}, {"UsageBased", bits.CostUsageBased}, {"Roaming", bits.CostRoaming},
	{"IgnoreCongestion", bits.CostIgnoreCongestion}, {"PolicyUnrestricted", bits.TransferUnrestricted}, {"Standard", bits.TransferStandard},
	{"NoSurcharge", bits.TransferNoSurcharge}, {"NotRoaming", bits.TransferNotRoaming}, {"Always", bits.TransferAlways},
}

func costWords() []string {
	var words []string
	for _, c := range costs {
		words = append(words, c.name)
	}
	return words
}

// bitsTransfer are the eight cmdlets.
func bitsTransfer() []*cmdlet {
	return []*cmdlet{
		{name: "Start-BitsTransfer", does: "move files and wait for them",
			example: "  ebb Start-BitsTransfer -Source https://example.org/image.iso -Destination /srv/images/\n  ebb Start-BitsTransfer https://example.org/a,https://example.org/b a,b -Asynchronous -DisplayName two\n  ebb Start-BitsTransfer -TransferType Upload -Source order.xml -Destination https://example.org/orders/7.xml\n  ebb Start-BitsTransfer < list.csv   # with the columns Source and Destination",
			params: slices.Concat([]param{
				{name: "Source", kind: texts, at: 1, required: true, begins: beginsSource},
				{name: "Destination", kind: texts, at: 2, begins: beginsSource},
				{name: "Asynchronous", kind: switched},
				{name: "Suspended", kind: switched},
				{name: "TransferType", kind: oneWord, words: []string{"Download", "Upload", "UploadReply"}},
			}, properties(false), unattended, common), run: (*cmdletCall).start},
		{name: "Add-BitsFile", does: "add files to jobs",
			example: "  ebb Add-BitsFile nightly https://example.org/image.iso /srv/images/image.iso",
			params: slices.Concat([]param{
				{name: "BitsJob", kind: texts, at: 1, required: true},
				{name: "Source", kind: texts, at: 2, required: true, begins: beginsSource},
				{name: "Destination", kind: texts, at: 3, begins: beginsSource},
			}, unattended, common), run: (*cmdletCall).add},
		{name: "Get-BitsTransfer", does: "list jobs",
			example: "  ebb Get-BitsTransfer\n  ebb Get-BitsTransfer -Name 'night*'\n  ebb --json Get-BitsTransfer -JobId 6af46e48-41d3-453f-b7af-a694bbc823f7 | jq -r .[].JobState",
			params: slices.Concat([]param{
				{name: "Name", kind: texts, aliases: []string{"n"}, at: 1},
				{name: "AllUsers", kind: switched, aliases: []string{"all"}},
				{name: "JobId", kind: texts, aliases: []string{"id"}},
			}, common), run: (*cmdletCall).get},
		{name: "Set-BitsTransfer", does: "change properties of jobs",
			example: "  ebb Set-BitsTransfer nightly -Priority Low -RetryInterval 120",
			params:  slices.Concat([]param{bitsJobs, {name: "SetOwnerToCurrentUser", kind: switched, aliases: []string{"so"}}}, properties(true), unattended, common), run: (*cmdletCall).set},
		{name: "Suspend-BitsTransfer", does: "suspend jobs",
			example: "  ebb Get-BitsTransfer -Name 'night*' | ebb Suspend-BitsTransfer",
			params:  slices.Concat([]param{bitsJobs}, unattended, common), run: (*cmdletCall).suspend},
		{name: "Resume-BitsTransfer", does: "resume jobs and wait for them",
			example: "  ebb Resume-BitsTransfer nightly -Asynchronous",
			params:  slices.Concat([]param{bitsJobs, {name: "Asynchronous", kind: switched, aliases: []string{"as"}}}, unattended, common), run: (*cmdletCall).resume},
		{name: "Complete-BitsTransfer", does: "put the files of jobs in their places",
			example: "  ebb Complete-BitsTransfer nightly",
			params:  slices.Concat([]param{bitsJobs}, unattended, common), run: (*cmdletCall).complete},
		{name: "Remove-BitsTransfer", does: "cancel jobs",
			example: "  ebb Get-BitsTransfer | ebb Remove-BitsTransfer",
			params:  slices.Concat([]param{bitsJobs}, unattended, common), run: (*cmdletCall).remove},
	}
}

// canonical gives the originals' names the spelling that the command line knows them by: PowerShell
// takes them in any case.
func canonical(args []string) []string {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--socket":
			i++
		case strings.HasPrefix(arg, "-"):
		default:
			for _, c := range bitsTransfer() {
				if strings.EqualFold(arg, c.name) {
					args = slices.Clone(args)
					args[i] = c.name
				}
			}
			if strings.EqualFold(arg, "bitsadmin") || strings.EqualFold(arg, "bitsadmin.exe") {
				args = slices.Clone(args)
				args[i] = "bitsadmin"
			}
			return args
		}
	}
	return args
}

func newCmdletCmd(a *app, c *cmdlet) *cobra.Command {
	var names strings.Builder
	for _, p := range c.params[:len(c.params)-len(common)] {
		fmt.Fprintf(&names, "  -%s%s\n", p.name, p.usage())
	}
	return &cobra.Command{
		Use:   c.name + " [-PARAMETER [VALUE[,VALUE...]]]...",
		Short: strings.ToUpper(c.does[:1]) + c.does[1:] + ", as PowerShell's cmdlet does",
		Long: fmt.Sprintf(`Take the command lines of the cmdlet %s: %s.

Parameters are known in any case, by their aliases, and abbreviated as far as they are
unique; a value may stand in the next argument or after a colon, a list has commas. A job
is an id or a name; without -BitsJob the jobs are those on the standard input, as
Get-BitsTransfer prints them; -JobId - takes them from there too. Passwords are lines of
the input, and -CustomHeaders - takes headers, as a JSON array, from its first line: the
arguments of a process can be read by all on the machine. With --json, before the
parameters, jobs are printed as PowerShell's objects, for programs.

Parameters:
%s`, c.name, c.does, names.String()),
		Example:            c.example,
		DisableFlagParsing: true,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			return a.completeCmdlet(c, cmd, args, begun)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			args, help := a.ownFlags(args)
			if help || len(args) == 1 && args[0] == "-?" {
				return cmd.Help()
			}
			return a.cmdlet(cmd.Context(), c, args)
		},
	}
}

// completeCmdlet completes the names of parameters and their words; jobs where the cmdlet takes some.
func (a *app) completeCmdlet(c *cmdlet, cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	var found []string
	if strings.HasPrefix(begun, "-") {
		for _, p := range c.params {
			if name := "-" + p.name; len(begun) <= len(name) && strings.EqualFold(name[:len(begun)], begun) {
				found = append(found, name)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
	last := bitsJobs
	if len(args) > 0 && isParam(args[len(args)-1]) {
		var err error
		if last, err = findParam(c.params, args[len(args)-1][1:]); err != nil {
			return nil, cobra.ShellCompDirectiveDefault
		}
	} else if len(args) > 0 || c.params[0].name != last.name {
		return nil, cobra.ShellCompDirectiveDefault
	}
	if last.name == bitsJobs.name {
		return a.completeJobs(cmd, nil, begun)
	}
	for _, w := range last.words {
		if len(begun) <= len(w) && strings.EqualFold(w[:len(begun)], begun) {
			found = append(found, w)
		}
	}
	if len(last.words) > 0 {
		return found, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// usage is what a parameter takes, for people.
func (p *param) usage() string {
	s := ""
	switch p.kind {
	case oneText:
		s = " TEXT"
	case texts:
		s = " TEXT[,TEXT...]"
	case number:
		s = " NUMBER"
	case oneWord:
		s = " " + strings.Join(p.words, "|")
	case switched:
	}
	if len(p.aliases) > 0 {
		s += " (also -" + strings.Join(p.aliases, ", -") + ")"
	}
	return s
}

// cmdlet runs a cmdlet and tells its errors in its name.
func (a *app) cmdlet(ctx context.Context, c *cmdlet, args []string) error {
	given, err := parseCmdlet(c.params, args)
	if err != nil && slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--") }) {
		err = hinted(err, "flags of ebb, such as --json, stand before the parameters")
	}
	call := &cmdletCall{arguments: given, a: a, ctx: ctx, cmdlet: c}
	if err == nil {
		// Where the original needs an elevated prompt, polkit may ask.
		a.admin = a.admin || given.on("AllUsers") || given.on("SetOwnerToCurrentUser")
		call.srv = a.connect()
		defer call.srv.Close()
		err = c.run(call)
	}
	return call.tell(err)
}

// tell names the cmdlet in an error, unless the caller asked for silence with -ErrorAction.
func (c *cmdletCall) tell(err error) error {
	if err == nil {
		return nil
	}
	var exit *exitError
	if action := c.text("ErrorAction"); action == "SilentlyContinue" || action == "Ignore" {
		return told(exitCode(err))
	}
	if errors.As(err, &exit) && exit.err == nil {
		return err
	}
	hint := fmt.Sprintf("see `ebb %s --help`", c.name)
	var answer *bits.Error
	switch {
	case exit != nil && exit.hint != "":
		hint = exit.hint
	case errors.As(err, &answer):
		hint = answer.Code.Hint()
	case errors.Is(err, client.ErrNoService):
		hint = noServiceHint(err)
	}
	return &exitError{code: exitCode(err), err: fmt.Errorf("%s : %w", c.name, err), hint: hint}
}

// goAhead says what -WhatIf would do, or asks with -Confirm. It reports whether to do it.
func (c *cmdletCall) goAhead(target string) (bool, error) {
	if c.on("WhatIf") {
		c.a.printf("What if: Performing the operation \"%s\" on target \"%s\".\n", c.name, safe(target))
		return false, nil
	}
	what := fmt.Sprintf("Performing the operation \"%s\" on target \"%s\".", c.name, safe(target))
	if c.on("Confirm") {
		return c.confirm(what)
	}
	if c.on("Verbose") {
		_, _ = fmt.Fprintf(c.a.err, "VERBOSE: %s\n", what)
	}
	return true, nil
}

// piped returns what is on the standard input. It is no pipeline if it is a terminal or another device,
// such as /dev/null.
func (c *cmdletCall) piped() (text []byte, pipeline bool, err error) {
	if f, ok := c.a.in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeDevice != 0 {
			return nil, false, nil
		}
	}
	const most = 64 << 20
	text, err = io.ReadAll(io.LimitReader(c.a.in, most))
	return plainText(text), true, err
}

// leadingID finds the id of a job at the beginning of a line of a table.
var leadingID = regexp.MustCompile(`^\s*\{?([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\b`)

// pipedJobs reads jobs as Get-BitsTransfer prints them, as a table or as JSON.
func pipedJobs(text string) ([]string, error) {
	var refs []string
	if t := strings.TrimSpace(text); strings.HasPrefix(t, "[") || strings.HasPrefix(t, "{") && strings.HasPrefix(strings.TrimSpace(t[1:]), `"`) {
		if t[0] == '{' {
			t = "[" + t + "]"
		}
		var jobs []struct{ JobId bits.ID } //nolint:revive // PowerShell's name
		if err := json.Unmarshal([]byte(t), &jobs); err != nil {
			return nil, usagef("the standard input holds no jobs: %w", err)
		}
		for _, j := range jobs {
			if j.JobId == (bits.ID{}) {
				return nil, usagef("the standard input holds no jobs: an object has no JobId")
			}
			refs = append(refs, j.JobId.String())
		}
		return refs, nil
	}
	for line := range strings.Lines(text) {
		m := leadingID.FindStringSubmatch(line)
		if m != nil {
			refs = append(refs, m[1])
			continue
		}
		// Besides jobs a table has its head.
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "JobId") && !strings.HasPrefix(line, "-----") {
			return nil, usagef("the standard input holds no jobs: one of its lines is %q", cutRunes(line, 80))
		}
	}
	return refs, nil
}

// jobs returns those that -BitsJob or the standard input names.
func (c *cmdletCall) jobs() ([]*client.Job, error) {
	refs := c.arguments["BitsJob"]
	if !c.has("BitsJob") {
		text, pipeline, err := c.piped()
		if err != nil {
			return nil, err
		}
		if refs, err = pipedJobs(string(text)); err != nil {
			return nil, err
		}
		if !pipeline { // of which nothing comes if there are no jobs
			return nil, usagef("a job is needed: -BitsJob ID or NAME, or the output of Get-BitsTransfer on the standard input")
		}
	}
	var jobs []*client.Job
	for _, ref := range refs {
		job, err := c.srv.Find(c.ctx, ref)
		if err != nil {
			return nil, goneIfEnded(err, ref)
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}

// each does one thing to each job.
func (c *cmdletCall) each(do func(*client.Job) error) error {
	jobs, err := c.jobs()
	if err != nil {
		return err
	}
	return inTurn(c, jobs, func(job *client.Job) (*bits.Job, error) {
		info, err := job.Status(c.ctx)
		if err != nil {
			return nil, err
		}
		if ok, err := c.goAhead(info.Name + " " + braced(info.ID)); err != nil || !ok {
			return nil, err
		}
		if err := do(job); err != nil {
			return nil, err
		}
		if c.name == "Set-BitsTransfer" || c.name == "Suspend-BitsTransfer" || c.name == "Add-BitsFile" || c.on("Asynchronous") {
			return job.Info(c.ctx)
		}
		return nil, nil
	})
}

// inTurn does something for each object of a pipeline, and prints the jobs that it returns. An error does
// not end it unless -ErrorAction Stop is given, the user interrupts it or nobody can be asked; the worst
// one is its own.
func inTurn[T any](c *cmdletCall, objects []T, do func(T) (*bits.Job, error)) error {
	worst := exitDone
	var shown []*bits.Job
	for _, object := range objects {
		job, err := do(object)
		switch {
		case err == nil && job != nil:
			shown = append(shown, job)
			continue
		case err == nil:
			continue
		}
		last := c.text("ErrorAction") == "Stop" || exitCode(err) == exitInterrupted || errors.Is(err, errNobodyToAsk)
		if last {
			return errors.Join(c.print(shown), err)
		}
		c.a.printError(c.tell(err))
		worst = max(worst, exitCode(err))
	}
	if err := c.print(shown); err != nil {
		return err
	}
	return told(worst)
}

func (c *cmdletCall) suspend() error {
	return c.each(func(j *client.Job) error { return j.Suspend(c.ctx) })
}

func (c *cmdletCall) remove() error {
	return c.each(func(j *client.Job) error { _, err := j.Cancel(c.ctx); return err })
}

func (c *cmdletCall) complete() error {
	return c.each(func(j *client.Job) error {
		outcome, err := j.Complete(c.ctx)
		if err == nil && outcome.Code != bits.OK.Name() {
			c.a.note("%s (%s %s)", outcome.Message, outcome.Code, outcome.HResult)
		}
		return err
	})
}

// resume starts jobs and, unless -Asynchronous is given, waits for them and completes them. A job
// that runs it leaves alone.
func (c *cmdletCall) resume() error {
	return c.each(func(j *client.Job) error {
		info, err := j.Status(c.ctx)
		if err != nil {
			return err
		}
		if info.State.Running() || info.State == bits.Queued {
			return nil
		}
		if err := j.Resume(c.ctx); err != nil || c.on("Asynchronous") {
			return err
		}
		ctx, stop := catchSignals(c.ctx)
		defer stop()
		return c.wait(ctx, j)
	})
}

// wait waits for a job as a synchronous cmdlet does: it completes the job, or cancels it when it
// failed or the waiting was interrupted.
func (c *cmdletCall) wait(ctx context.Context, job *client.Job) error {
	show, err := c.a.originalDisplay()
	if action := c.text("ProgressAction"); err == nil && (action == "SilentlyContinue" || action == "Ignore") {
		show, err = c.a.newDisplay("none")
	}
	if err != nil {
		return err
	}
	following := c.a.follow(job, show)
	info, err := following.wait(c.srv.wait(ctx))
	if err == nil && info.State == bits.Transferred {
		last, cancel := outlive(ctx)
		defer cancel()
		info, err = following.finish(c.srv.wait(last))
	}
	show.end()
	if err != nil {
		if interrupted(ctx) {
			c.a.leave(ctx, job, false)
			return told(exitInterrupted)
		}
		return err
	}
	switch info.State {
	case bits.Errored:
		sentence, hint := jobError(info.Error)
		sentence, hint = insteadOfResume(sentence), insteadOfResume(hint)
		if _, err := job.Cancel(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, &bits.Error{Code: bits.InvalidState}) {
			c.a.printError(fmt.Errorf("cancel the job: %w", err))
		}
		return &exitError{code: exitFailed, err: errors.New(sentence), hint: hint}
	case bits.Cancelled:
		return &exitError{code: exitFailed, err: errors.New("the job was cancelled")}
	}
	return nil
}

// originalDisplay shows progress as BITS's own tools do: on a terminal only.
func (a *app) originalDisplay() (display, error) {
	if a.errTerm.is {
		return a.newDisplay("auto")
	}
	return a.newDisplay("none")
}

func (c *cmdletCall) get() error {
	var found []*bits.Job
	if c.has("JobId") {
		if c.has("Name") || c.has("AllUsers") {
			return usagef("-JobId goes with neither -Name nor -AllUsers")
		}
		ids := c.arguments["JobId"]
		if len(ids) == 1 && ids[0] == "-" {
			text, _, err := c.piped()
			if err != nil {
				return err
			}
			if ids, err = pipedJobs(string(text)); err != nil {
				return err
			}
		}
		for _, text := range ids {
			id, err := bits.ParseID(text)
			if err != nil {
				return usagef("-JobId: %w", err)
			}
			info, err := c.srv.Job(id).Info(c.ctx)
			if err == nil && info.State.Final() {
				err = bits.Errorf(bits.NotFound, "there is no job %s", id)
			}
			if err != nil {
				return err
			}
			found = append(found, info)
		}
		return c.print(found)
	}
	patterns := c.arguments["Name"]
	fits := make([]bool, len(patterns))
	for j, err := range c.srv.List(c.ctx, client.ListOptions{AllUsers: c.on("AllUsers"), Files: c.a.json}) {
		if err != nil {
			return err
		}
		wanted := len(patterns) == 0
		for i, p := range patterns {
			if wildcard(p, j.Name) {
				wanted, fits[i] = true, true
			}
		}
		if wanted {
			found = append(found, &j)
		}
	}
	if err := c.print(found); err != nil {
		return err
	}
	for i, p := range patterns {
		if !fits[i] && !strings.ContainsAny(p, "*?[") { // a name that nothing has is an error, a wildcard is not
			return bits.Errorf(bits.NotFound, "there is no job named %q", p)
		}
	}
	return nil
}

// wildcard matches a name as PowerShell does: in any case, '*' and '?', and sets in brackets.
func wildcard(pattern, name string) bool {
	// In path.Match '*' and '?' stop at a '/', and '\' quotes.
	plain := strings.NewReplacer("/", "\x00", `\`, "\x01")
	ok, err := path.Match(strings.ToLower(plain.Replace(pattern)), strings.ToLower(plain.Replace(name)))
	return err == nil && ok
}

// A bitsJob is a job as PowerShell has it.
type bitsJob struct {
	JobId                   bits.ID //nolint:revive // PowerShell's name
	DisplayName             string
	Description             string
	TransferType            string
	JobState                string
	OwnerAccount            string
	Priority                string
	TransferPolicy          string
	FilesTotal              int
	FilesTransferred        int
	BytesTotal              uint64 // 2^64-1 is unknown
	BytesTransferred        int64
	CreationTime            time.Time
	ModificationTime        time.Time
	TransferCompletionTime  *time.Time
	FileList                []bitsFile
	ErrorCondition          string
	ErrorDescription        string
	ErrorContextDescription string
	InternalErrorCode       int32
	RetryInterval           int64
	RetryTimeout            int64
	MaxDownloadTime         int64
	ProxyUsage              string
	ProxyList               []string
	ProxyBypassList         []string
	NotifyFlags             uint32
	NotifyCmdLine           []string
	HttpMethod              string //nolint:revive // PowerShell's name
	Dynamic                 bool
	SecurityFlags           uint32
}

type bitsFile struct {
	RemoteName         string
	LocalName          string
	IsTransferComplete bool
	BytesTotal         uint64
	BytesTransferred   int64
}

// The words of PowerShell.
var (
	jobStateWords     = [...]string{"Queued", "Connecting", "Transferring", "Suspended", "Error", "TransientError", "Transferred", "Acknowledged", "Cancelled"}
	transferTypeWords = [...]string{"Download", "Upload", "UploadReply"}
	priorityWords     = [...]string{"Foreground", "High", "Normal", "Low"}
	proxyUsageWords   = [...]string{"SystemDefault", "NoProxy", "Override", "AutoDetect"}
	conditionWords    = [...]string{"NoError", "Unknown", "GeneralQueueManager", "QueueManagerNotification", "LocalFile", "RemoteFile", "GeneralTransport", "RemoteApplication", "ServerCertificateCallback"}
)

// unknownSize is 2^64-1 where a size is not known.
func unknownSize(n bits.Size) uint64 { return uint64(n) } // bits.Unknown is -1

func asBitsJob(j *bits.Job) bitsJob {
	b := bitsJob{JobId: j.ID, DisplayName: j.Name, Description: j.Properties.Description, TransferType: transferTypeWords[j.Type], JobState: jobStateWords[j.State],
		OwnerAccount: j.Owner, Priority: priorityWords[j.Priority], TransferPolicy: costText(j.Properties.TransferPolicy),
		FilesTotal: j.Progress.FilesTotal, FilesTransferred: j.Progress.FilesTransferred, BytesTotal: unknownSize(j.Progress.BytesTotal), BytesTransferred: j.Progress.BytesTransferred,
		CreationTime: j.Times.Created, ModificationTime: j.Times.Modified, TransferCompletionTime: j.Times.Transferred, FileList: []bitsFile{},
		ErrorCondition: conditionWords[0], RetryInterval: j.Properties.MinimumRetryDelay, RetryTimeout: j.Properties.NoProgressTimeout, MaxDownloadTime: j.Properties.MaximumDownloadTime,
		ProxyUsage: proxyUsageWords[j.Properties.Proxy.Usage], ProxyList: j.Properties.Proxy.List, ProxyBypassList: j.Properties.Proxy.Bypass,
		NotifyFlags: uint32(j.Properties.NotifyFlags), NotifyCmdLine: j.Properties.NotifyCommand, HttpMethod: cmp.Or(j.Properties.HTTPMethod, j.Type.HTTPMethod()),
		Dynamic: j.Properties.DynamicContent, SecurityFlags: uint32(j.Properties.SecurityFlags)}
	if e := j.Error; e != nil {
		err := e.Err()
		b.ErrorCondition, b.ErrorDescription, b.InternalErrorCode = conditionWords[err.Context], e.Message, int32(err.Code)
		b.ErrorContextDescription = contextTexts[err.Context]
	}
	for _, f := range j.Files {
		b.FileList = append(b.FileList, bitsFile{RemoteName: bits.RedactURL(f.Remote), LocalName: f.Local, BytesTotal: unknownSize(f.BytesTotal), BytesTransferred: f.BytesTransferred,
			IsTransferComplete: f.Completed || f.BytesTotal >= 0 && f.BytesTransferred == int64(f.BytesTotal)})
	}
	return b
}

// costText is the name of a policy or of its only state, or the names of its states.
func costText(c bits.Cost) string {
	for _, k := range slices.Backward(costs) {
		if k.cost == c {
			return k.name
		}
	}
	var names []string
	for _, k := range costs {
		if one := k.cost != 0 && k.cost&(k.cost-1) == 0; one && c&k.cost != 0 {
			names = append(names, k.name)
		}
	}
	return strings.Join(names, ", ")
}

// print prints jobs: as the table that PowerShell shows, or for programs with all that they have.
func (c *cmdletCall) print(jobs []*bits.Job) error {
	if c.a.json {
		objects := []bitsJob{}
		for _, j := range jobs {
			objects = append(objects, asBitsJob(j))
		}
		return c.a.printJSON(objects)
	}
	if len(jobs) == 0 {
		return nil
	}
	const idWidth = 36
	widths := [3]int{len("DisplayName"), len("TransferType"), len("JobState")}
	var rows [][3]string
	for _, j := range jobs {
		row := [3]string{safe(j.Name), transferTypeWords[j.Type], jobStateWords[j.State]}
		for i, s := range row {
			widths[i] = max(widths[i], len([]rune(s)))
		}
		rows = append(rows, row)
	}
	line := func(id string, cells [3]string, last string) {
		c.a.printf("%-*s %-*s %-*s %-*s %s\n", idWidth, id, widths[0], cells[0], widths[1], cells[1], widths[2], cells[2], last)
	}
	c.a.printf("\n")
	line("JobId", [3]string{"DisplayName", "TransferType", "JobState"}, "OwnerAccount")
	line("-----", [3]string{"-----------", "------------", "--------"}, "------------")
	for i, j := range jobs {
		line(j.ID.String(), rows[i], safe(j.Owner))
	}
	c.a.printf("\n")
	return nil
}

// settings makes a job's properties of the parameters.
func (c *cmdletCall) settings() (s bits.Settings, err error) {
	for _, p := range []struct{ name, property string }{
		{"DisplayName", "name"}, {"Description", "description"}, {"Priority", "priority"}, {"RetryInterval", "minimum_retry_delay"}, {"RetryTimeout", "no_progress_timeout"},
		{"MaxDownloadTime", "maximum_download_time"}, {"HttpMethod", "http_method"}, {"SecurityFlags", "security_flags"}, {"NotifyFlags", "notify_flags"},
		{"Dynamic", "dynamic_content"}, {"CustomHeadersWriteOnly", "headers_write_only"}, {"UseStoredCredential", "use_stored_credentials"},
	} {
		if !c.has(p.name) {
			continue
		}
		if err := s.Set(p.property, c.text(p.name)); err != nil {
			return s, usagef("-%s: %w", p.name, err)
		}
	}
	if c.has("CertStoreLocation") || c.has("CertStoreName") || c.has("CertHash") {
		if c.cert, err = c.a.storeCertificate(c.text("CertStoreLocation"), c.text("CertStoreName"), c.text("CertHash"), ""); err != nil {
			return s, err
		}
	}
	if c.has("TransferPolicy") {
		s.TransferPolicy = new(bits.Cost)
		for _, word := range c.arguments["TransferPolicy"] {
			if n, err := strconv.ParseUint(word, 10, 32); err == nil {
				*s.TransferPolicy = bits.Cost(n)
			}
			for _, k := range costs {
				if k.name == word {
					*s.TransferPolicy |= k.cost
				}
			}
		}
	}
	if err := c.options(&s.Options); err != nil {
		return s, err
	}
	if headers := c.arguments["CustomHeaders"]; c.has("CustomHeaders") {
		if slices.Equal(headers, []string{"-"}) && !c.on("WhatIf") {
			if headers, err = c.pipedHeaders(); err != nil {
				return s, err
			}
		}
		s.Headers = &headers
	}
	if e := s.Check(c.name == "Start-BitsTransfer"); e != nil {
		return s, usagef("%s", e.Sentence())
	}
	return s, nil
}

// options reads the parameters whose form differs from that of `ebb set`.
func (c *cmdletCall) options(o *bits.Options) error {
	if c.has("ACLFlags") {
		flags, err := parseACL(c.text("ACLFlags"))
		if err != nil {
			return err
		}
		o.ACLFlags = &flags
	}
	if list := c.arguments["NotifyCmdLine"]; len(list) > 0 {
		command, err := notifyCommand(list[0], list[1:])
		if err != nil {
			return err
		}
		o.NotifyCommand = &command
	}
	if !c.has("ProxyUsage") {
		if c.has("ProxyList") || c.has("ProxyBypass") {
			return usagef("-ProxyList and -ProxyBypass go with -ProxyUsage Override")
		}
		return nil
	}
	o.Proxy = &bits.ProxySettings{List: c.arguments["ProxyList"], Bypass: c.arguments["ProxyBypass"]}
	switch c.text("ProxyUsage") {
	case "SystemDefault":
		o.Proxy.Usage = bits.ProxyPreconfig
	case "NoProxy":
		o.Proxy.Usage = bits.ProxyNone
	case "AutoDetect":
		o.Proxy.Usage = bits.ProxyAutodetect
	case "Override":
		o.Proxy.Usage = bits.ProxyOverride
	}
	return nil
}
