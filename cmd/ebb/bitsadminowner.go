package main

import (
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// adminOwner are the switches about who a job acts for, and what it identifies with.
var adminOwner = []adminSwitch{
	{"setcredentials", "JOB SERVER|PROXY BASIC|DIGEST|NTLM|NEGOTIATE USER PASSWORD", 5, 5, "gives a job credentials; all users can read arguments: with - as PASSWORD it is asked for, or is the first line of the input", "set credentials", withJob((*bitsadmin).setCredentials)},
	{"removecredentials", "JOB SERVER|PROXY BASIC|DIGEST|NTLM|NEGOTIATE", 3, 3, "takes credentials from a job", "remove credentials", withJob((*bitsadmin).removeCredentials)},
	{"getcustomheaders", "JOB", 1, 1, "prints the request headers to the job's owner", "get custom headers", withJob((*bitsadmin).customHeaders)},
	{"takeownership", "JOB", 1, 1, "makes the caller, an administrator, the job's owner", "take ownership", withJob((*bitsadmin).takeOwnership)},
}

// adminCredential reads a target and a scheme.
func adminCredential(args []string) (n bits.CredentialName, err error) {
	if n.Target, err = bits.ParseAuthTarget(args[0]); err == nil {
		n.Scheme, err = bits.ParseAuthScheme(args[1])
	}
	return n, err
}

// setCredentials takes NULL for the user and the password as the original does: they are the owner's
// own identity then. A password "-" comes from the terminal or the input.
func (b *bitsadmin) setCredentials(job *client.Job, _ *bits.Job, args []string) error {
	name, err := adminCredential(args)
	if err != nil {
		return err
	}
	c := bits.Credential{CredentialName: name}
	for i, field := range []**string{&c.User, &c.Password} {
		if arg := args[2+i]; !strings.EqualFold(arg, "NULL") {
			*field = &args[2+i]
		}
	}
	if args[3] == "-" {
		if args[3], err = b.a.readSecret(); err != nil { // c.Password points to it
			return err
		}
	}
	if e := c.Check(); e != nil {
		return e
	}
	if err := job.SetCredential(b.ctx, c); err != nil {
		return err
	}
	b.say("Credentials set.\n")
	return nil
}

func (b *bitsadmin) removeCredentials(job *client.Job, _ *bits.Job, args []string) error {
	name, err := adminCredential(args)
	if err != nil {
		return err
	}
	had, err := job.RemoveCredential(b.ctx, name.Target, name.Scheme)
	if err != nil {
		return err
	}
	if had {
		b.say("Credentials removed.\n")
	} else {
		b.say("The job has no such credentials.\n")
	}
	return nil
}

func (b *bitsadmin) customHeaders(job *client.Job, _ *bits.Job, _ []string) error {
	lines, err := job.Headers(b.ctx)
	if err != nil {
		return err
	}
	for i, line := range lines {
		lines[i] = safe(line)
	}
	b.value("CUSTOM HEADERS", orNull(strings.Join(lines, "\n")))
	return nil
}

func (b *bitsadmin) takeOwnership(job *client.Job, _ *bits.Job, _ []string) error {
	outcome, err := job.TakeOwnership(b.ctx)
	if err != nil {
		return err
	}
	b.say("Job ownership taken.\n")
	if len(outcome.Dropped) > 0 {
		b.say("The job lost its %s.\n", strings.Join(outcome.Dropped, ", "))
	}
	return nil
}
