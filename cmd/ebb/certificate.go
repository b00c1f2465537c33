package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/clientcert"
)

func newCertificateCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certificate",
		Short: "Give a job a certificate for servers that ask for one, or take it away",
		Long: `Give a job the certificate that it shows to servers that ask for one, or take it away.

The certificate and its key are stored encrypted, for the job alone, and the key
cannot be read back. They go when the job is completed or cancelled, or gets another
owner.`,
		Example: `  ebb certificate set nightly ~/.pki/me.p12
  ebb certificate show nightly
  ebb certificate remove nightly`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCertificateSetCmd(a), newCertificateRemoveCmd(a), newCertificateShowCmd(a))
	return cmd
}

func newCertificateSetCmd(a *app) *cobra.Command {
	var key, from string
	cmd := &cobra.Command{
		Use:   "set JOB FILE",
		Short: "Give a job a certificate",
		Long: `Give a job a certificate with its key, in the place of the one that it has.

FILE is PEM, with the key in it or in the file of --key, or PKCS#12 (.p12, .pfx). ebb
reads it as you, once: what becomes of it later does not matter to the job. The
password of a PKCS#12 file is asked for on a terminal, or is the first line of the
input or of the file of --from.`,
		Example: `  ebb certificate set nightly me.pem --key me.key
  ebb certificate set nightly me.p12 --from ~/.config/p12-password`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := a.readCertificate(args[1], key, from)
			if err != nil {
				return err
			}
			return a.onJob(cmd, args[0], func(job *client.Job) error {
				c, err := job.SetCertificate(cmd.Context(), f)
				if err != nil {
					return err
				}
				if !a.quiet && !a.json {
					a.printf("%s shows the certificate of %s\n", safe(args[0]), safe(c.Subject))
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "PEM `file` of the key, if it is not in FILE")
	cmd.Flags().StringVar(&from, "from", "", "`file` whose first line is the password; - is the input")
	return a.mayDryRun(cmd)
}

// readCertificate reads a certificate and its key as the user who calls, and asks for a password if
// it takes one.
func (a *app) readCertificate(name, key, from string) (f bits.ClientCertificateFile, err error) {
	data, err := readSmall(name)
	if err != nil {
		return f, err
	}
	if key != "" {
		more, err := readSmall(key)
		if err != nil {
			return f, err
		}
		data = append(append(data, '\n'), more...)
	}
	password := ""
	if from != "" {
		if password, err = a.secretFrom(from); err != nil {
			return f, err
		}
	}
	f, err = client.ReadCertificate(data, password)
	var e *bits.Error
	if from == "" && errors.As(err, &e) && e.Code == bits.InvalidPassword {
		if in, ok := a.in.(interface{ Fd() uintptr }); !ok || !term.IsTerminal(int(in.Fd())) {
			return f, hinted(err, "give the password with `ebb certificate set JOB FILE --from PASSWORD-FILE`")
		}
		if password, err = a.readSecret(); err != nil {
			return f, err
		}
		f, err = client.ReadCertificate(data, password)
	}
	return f, err
}

// readSmall reads a file that is no larger than certificates and keys are.
func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &bits.Error{Code: bits.FileNotFound, Context: bits.ContextLocalFile, File: name, Message: "there is no file " + name, Cause: err}
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, 2*clientcert.MaxSize))
	return data, err
}

func newCertificateRemoveCmd(a *app) *cobra.Command {
	return a.mayDryRun(&cobra.Command{
		Use:               "remove JOB",
		Short:             "Take the certificate from a job",
		Example:           `  ebb certificate remove nightly`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onJob(cmd, args[0], func(job *client.Job) error {
				had, err := job.RemoveCertificate(cmd.Context())
				if err != nil {
					return err
				}
				if !had && !a.json {
					a.note("there was none")
				}
				return nil
			})
		},
	})
}

func newCertificateShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show JOB",
		Short:             "Show whose certificate a job has",
		Long:              "Show the subject of a job's certificate and its fingerprints. The key is never shown.",
		Example:           `  ebb certificate show nightly`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJobs,
		RunE: shows(a, (*client.Job).Certificate, func(c *bits.ClientCertificate) {
			a.printf("subject  %s\nSHA-256  %s\nSHA-1    %s\n", safe(c.Subject), safe(c.Fingerprint), safe(c.SHA1))
		}),
	}
}
