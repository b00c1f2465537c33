package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/client"
)

func newDaemonCmd(*app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Run the service in the foreground",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return errors.New("this build has no service") },
	}
	cmd.Flags().String("state", client.UserState(), "`directory` of the job store")
	cmd.Flags().String("config", "", "configuration `file`")
	cmd.Flags().Duration("idle-exit", 0, "end after so long without work; 0 means never")
	return cmd
}
