package bits

import (
	"fmt"
	"strings"
	"time"
)

// Policy is the configuration that a service works by.
type Policy struct {
	File     string          `json:"file" doc:"Path of the configuration file; where there is none, where one would be made"`
	Exists   bool            `json:"exists" doc:"The file is there; else all is at its default"`
	Read     time.Time       `json:"read" doc:"When what is in effect was read"`
	Settings []PolicySetting `json:"settings" doc:"What is in effect"`
	Notices  []PolicyProblem `json:"notices" doc:"What is worth knowing about it"`
	Errors   []PolicyProblem `json:"errors" doc:"Why the file as it is now is not in effect; empty if it is"`
}

// PolicySetting is one key of the configuration and its value.
type PolicySetting struct {
	Key   string `json:"key" example:"bandwidth.work.high"`
	Value any    `json:"value" doc:"Text, number or boolean as in the file"`
	Line  int    `json:"line,omitempty" doc:"Line of the file that sets it; absent for a default"`
	BITS  string `json:"bits,omitempty" doc:"BITS's name of the value, if that is what sets it"`
}

// PolicyProblem is something wrong with a configuration file, or worth knowing about it.
type PolicyProblem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty" doc:"Absent where the file as a whole is meant"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

// String returns the problem in one line: "/etc/ebb/policy.toml:3: jobs.background: ...".
func (p PolicyProblem) String() string {
	var b strings.Builder
	switch {
	case p.File != "" && p.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", p.File, p.Line)
	case p.File != "":
		fmt.Fprintf(&b, "%s: ", p.File)
	case p.Line > 0:
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	return b.String() + p.Message
}

// PolicyLimit is what the configuration allows the jobs of one priority.
type PolicyLimit struct {
	Priority Priority    `json:"priority"`
	Now      PolicyRule  `json:"now"`
	Next     *PolicyRule `json:"next,omitempty" doc:"What follows; absent if nothing changes"`
	Hold     *ErrorInfo  `json:"hold,omitempty" doc:"Why jobs of the priority wait: a limit of 0, or what the network costs and how the machine is powered now; absent if they may run"`
}

// PolicyRule is a limit and the rule that it comes from.
type PolicyRule struct {
	Rate  *int64     `json:"rate" doc:"Bytes per second; null without a limit; 0: nothing may move"`
	Rule  string     `json:"rule,omitempty" doc:"What decides; absent if no rule does" enum:"foreground,background,interval,work,nonwork,maintenance"`
	Key   string     `json:"key,omitempty" doc:"The rule's key" example:"bandwidth.work.high"`
	Line  int        `json:"line,omitempty" doc:"Line of the file that sets it"`
	BITS  string     `json:"bits,omitempty" doc:"BITS's name of the value, if that is what sets it"`
	Hours string     `json:"hours,omitempty" doc:"When the rule holds" example:"Mon-Fri 08:00-17:00"`
	Until *time.Time `json:"until,omitempty" doc:"When another rule or limit begins; absent if never"`
}
