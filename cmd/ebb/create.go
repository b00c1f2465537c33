package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newCreateCmd(a *app) *cobra.Command {
	var kind, priority, transferPolicy, protocol, headerFrom string
	var properties []string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create an empty, suspended job and print its id",
		Long: `Create a job without files that is SUSPENDED, and print its id. Add files with
` + "`ebb add`, start it with `ebb resume` and, when it is TRANSFERRED, put the files in\ntheir places with `ebb complete`." + `

A job of type upload or upload-reply takes one file, which ` + "`ebb add JOB URL FILE`" + ` names.
It is sent by the protocol bits, which BITS servers and ebb serve speak, unless --protocol
names another. --set gives any property that ` + "`ebb set`" + ` knows.

A name need not be unique, but a job is easier to refer to when it is.`,
		Example: `  job=$(ebb create --priority low 'nightly images')
  ebb add $job https://example.org/image.iso /srv/images/image.iso
  ebb resume $job && ebb wait $job && ebb complete $job
  ebb create --type upload --protocol auto logs
  ebb create --type upload-reply orders
  ebb create --set http_method=POST --set maximum_download_size=1000000 report`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec := bits.NewJob{Settings: bits.Settings{Name: &args[0]}}
			if err := spec.Type.UnmarshalText([]byte(kind)); err != nil {
				return usagef("--type: %w", err)
			}
			if cmd.Flags().Changed("priority") { // a property may decide it too
				if err := spec.Set("priority", priority); err != nil {
					return usagef("--priority: %w", err)
				}
			}
			if transferPolicy != "" {
				if err := spec.Set("transfer_policy", transferPolicy); err != nil {
					return usagef("--transfer-policy: %w", err)
				}
			}
			if protocol != "" {
				if err := spec.Set("protocol", protocol); err != nil {
					return usagef("--protocol: %w", err)
				}
			}
			for _, arg := range properties {
				if err := setProperty(&spec.Settings, arg); err != nil {
					return err
				}
			}
			if headerFrom != "" {
				lines, err := a.linesFrom(headerFrom)
				if err != nil {
					return err
				}
				if spec.Headers != nil {
					lines = append(*spec.Headers, lines...)
				}
				spec.Headers = &lines
			}
			if e := spec.Check(true); e != nil {
				return usagef("%s", e.Sentence())
			}
			srv := a.connect()
			defer srv.Close()
			job, err := srv.Create(cmd.Context(), spec)
			if err != nil {
				return createFailed(err)
			}
			if a.dryRun {
				return a.wouldCreate(&spec)
			}
			return a.printNewJob(cmd.Context(), job)
		},
	}
	cmd.Flags().StringVar(&kind, "type", "download", "`type` of the job: download, upload or upload-reply")
	cmd.Flags().StringVar(&priority, "priority", "normal", "`priority`: foreground, high, normal or low")
	protocolFlag(cmd, &protocol, "", "`how` an upload is sent: auto (which asks the server), bits, tus, ietf, s3 or put (default bits)")
	transferPolicyFlag(cmd, &transferPolicy)
	cmd.Flags().StringVar(&headerFrom, "header-from", "", "request headers that are the lines of `FILE`; '-' is the standard input")
	cmd.Flags().StringArrayVar(&properties, "set", nil, "set a `property`, as NAME=VALUE; may be given several times")
	_ = cmd.RegisterFlagCompletionFunc("set", func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return completeProperty(begun)
	})
	complete(cmd, "type", "download", "upload", "upload-reply")
	complete(cmd, "priority", "foreground", "high", "normal", "low")
	return a.mayDryRun(cmd)
}

// transferPolicyFlag adds --transfer-policy to a verb that makes a job.
func transferPolicyFlag(cmd *cobra.Command, v *string) {
	cmd.Flags().StringVar(v, "transfer-policy", "", "run on networks that this `policy` allows: always, not-roaming, no-surcharge, standard, unmetered or unrestricted (default that of the priority)")
	complete(cmd, "transfer-policy", bits.TransferPolicies()...)
}

// createFailed adds what to do when nobody knows whether the job was created.
func createFailed(err error) error {
	var answer *bits.Error
	if errors.As(err, &answer) || errors.Is(err, client.ErrNoService) {
		return err
	}
	return hinted(err, "see with `ebb list` whether the job was created before you try again")
}

// printNewJob prints the id of a job, or the whole job for programs.
func (a *app) printNewJob(ctx context.Context, job *client.Job) error {
	if !a.json {
		a.printf("%s\n", job.ID)
		return nil
	}
	return a.printJob(ctx, job)
}

// printJob prints a job for programs.
func (a *app) printJob(ctx context.Context, job *client.Job) error {
	info, err := job.Info(ctx)
	if err != nil {
		return err
	}
	return a.printJSON(asJSON(info))
}
