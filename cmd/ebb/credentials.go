package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newCredentialsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "credentials",
		Short: "Give a job what servers and proxies ask for, or take it away",
		Long: `Give a job what it identifies with to servers and proxies, or take it away.

A job has at most one credential for each TARGET (server or proxy) and SCHEME:
basic, digest, ntlm, negotiate (Kerberos, or NTLM where there is none) or bearer
(a token). Which one is used is up to what the server offers; the strongest comes
first. The target hook has the scheme hmac: a secret by which what is posted to the
job's notify_url is signed. They are stored encrypted, for the job's servers only, and cannot be read
back. They go when the job is completed or cancelled, or gets another owner.`,
		Example: `  ebb credentials set nightly server basic alice
  ebb credentials set nightly hook hmac --from ~/.config/hook-secret
  ebb credentials list nightly
  ebb credentials remove nightly`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCredentialsSetCmd(a), newCredentialsRemoveCmd(a), newCredentialsListCmd(a))
	return cmd
}

// credentialName reads the target and the scheme of a command line.
func credentialName(target, scheme string) (n bits.CredentialName, err error) {
	if n.Target, err = bits.ParseAuthTarget(target); err != nil {
		return n, usagef("%w", err)
	}
	if n.Scheme, err = bits.ParseAuthScheme(scheme); err != nil {
		return n, usagef("%w", err)
	}
	return n, nil
}

func newCredentialsSetCmd(a *app) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "set JOB TARGET SCHEME [USER]",
		Short: "Give a job a credential",
		Long: `Give a job a credential, in the place of the one that it has for the same target
and scheme. The password, or the token, is asked for on a terminal, or is the first
line of the input or of a file: in the arguments everybody on the machine could
read it.

USER may be DOMAIN\user or user@REALM for ntlm and negotiate. Without USER, negotiate
stands for your own identity: the Kerberos tickets that kinit got. The secret of hmac
has 24 characters or more, or whsec_ and 24 to 64 bytes in base64.`,
		Example: `  ebb credentials set nightly server basic alice
  ebb credentials set nightly proxy negotiate
  ebb credentials set nightly server bearer --from ~/.config/token`,
		Args:              cobra.RangeArgs(3, 4),
		ValidArgsFunction: a.completeCredential,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := credentialName(args[1], args[2])
			if err != nil {
				return err
			}
			c := bits.Credential{CredentialName: name}
			if len(args) == 4 {
				c.User = &args[3]
			}
			if own := c.User == nil && name.Scheme != bits.AuthBearer && name.Scheme != bits.AuthHMAC; !own {
				secret, err := a.secretFrom(from)
				if err != nil {
					return err
				}
				c.Password = &secret
			} else if from != "" {
				return usagef("a password needs a user")
			}
			if e := c.Check(); e != nil {
				return usagef("%s", e.Sentence())
			}
			return a.onJob(cmd, args[0], func(job *client.Job) error {
				if err := job.SetCredential(cmd.Context(), c); err != nil {
					return err
				}
				if !a.quiet && !a.json {
					a.printf("%s has credentials for %s\n", safe(args[0]), name)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "`file` whose first line is the password, token or secret; - is the input")
	return a.mayDryRun(cmd)
}

// secretFrom reads the first line of a file, or of the input.
func (a *app) secretFrom(name string) (string, error) {
	if name == "" || name == "-" {
		return a.readSecret()
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	other := *a
	other.in = f
	return other.readSecret()
}

// onJob does something to a job; with --json the job is printed afterwards.
func (a *app) onJob(cmd *cobra.Command, ref string, do func(*client.Job) error) error {
	srv := a.connect()
	defer srv.Close()
	job, err := srv.Find(cmd.Context(), ref)
	if err != nil {
		return err
	}
	quiet := a.quiet
	a.quiet = a.quiet || a.dryRun // nothing was done that could be told
	err = do(job)
	a.quiet = quiet
	if err != nil {
		return err
	}
	if a.dryRun {
		return a.wouldChange(cmd.Context(), job, "")
	}
	if a.json {
		return a.printJob(cmd.Context(), job)
	}
	return nil
}

// shows is what a verb does that shows something of a job: what get returns, as JSON or as text writes it.
func shows[T any](a *app, get func(*client.Job, context.Context) (T, error), text func(T)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		srv := a.connect()
		defer srv.Close()
		job, err := srv.Find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		v, err := get(job, cmd.Context())
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(v)
		}
		text(v)
		return nil
	}
}

func newCredentialsRemoveCmd(a *app) *cobra.Command {
	return a.mayDryRun(&cobra.Command{
		Use:   "remove JOB [TARGET SCHEME]",
		Short: "Take a credential from a job, or all",
		Example: `  ebb credentials remove nightly server basic
  ebb credentials remove nightly`,
		Args:              cobra.MatchAll(cobra.RangeArgs(1, 3), func(_ *cobra.Command, args []string) error { return pair(args) }),
		ValidArgsFunction: a.completeCredential,
		RunE: func(cmd *cobra.Command, args []string) error {
			var names []bits.CredentialName
			if len(args) == 3 {
				n, err := credentialName(args[1], args[2])
				if err != nil {
					return err
				}
				names = append(names, n)
			}
			return a.onJob(cmd, args[0], func(job *client.Job) error {
				if len(args) == 1 {
					var err error
					if names, err = job.Credentials(cmd.Context()); err != nil {
						return err
					}
				}
				removed := 0
				for _, n := range names {
					had, err := job.RemoveCredential(cmd.Context(), n.Target, n.Scheme)
					if err != nil {
						return err
					}
					if had {
						removed++
					}
				}
				switch {
				case a.quiet || a.json:
				case removed == 0:
					a.note("there was none")
				default:
					a.printf("%s has lost %d\n", safe(args[0]), removed)
				}
				return nil
			})
		},
	})
}

// pair refuses a target without a scheme.
func pair(args []string) error {
	if len(args) == 2 {
		return fmt.Errorf("%s needs a scheme", args[1])
	}
	return nil
}

func newCredentialsListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "list JOB",
		Short:             "List for what a job has credentials",
		Long:              "List for which targets and schemes a job has credentials. What they are is never shown.",
		Example:           `  ebb credentials list nightly`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJobs,
		RunE: shows(a, (*client.Job).Credentials, func(names []bits.CredentialName) {
			for _, n := range names {
				a.printf("%s\n", strings.ToLower(n.Target.String()+" "+n.Scheme.String()))
			}
		}),
	}
}

// completeCredential completes a job, then a target, then a scheme.
func (a *app) completeCredential(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return a.completeJobs(cmd, args, toComplete)
	case 1:
		return []string{"server", "proxy", "hook"}, cobra.ShellCompDirectiveNoFileComp
	case 2:
		if args[1] == "hook" {
			return []string{"hmac"}, cobra.ShellCompDirectiveNoFileComp
		}
		return []string{"basic", "digest", "ntlm", "negotiate", "bearer"}, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}
