package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/doctor"
)

// examined is what doctor prints for programs.
type examined struct {
	OK       bool             `json:"ok"` // there is no problem; there may be warnings
	Findings []doctor.Finding `json:"findings"`
}

func newDoctorCmd(a *app) *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at what commonly is wrong on a machine, and say what to do",
		Long: `Look at what commonly is wrong on a machine where Ebb does not do what it should:
the socket and its rights, the service and its version, the job store and the room
for it, the configuration, the clock, systemd's units, what tells of the network's
cost and of power, the kernel, proxies and certificates. It changes nothing and
starts no service. It sees what the calling user may see.

The exit code is 1 if there is a problem; a warning is none.`,
		Example: `  ebb doctor
  ebb doctor --quiet    # warnings and problems only
  ebb doctor --json | jq -r '.findings[] | select(.level == "problem") | .message'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := doctor.Config{Version: ownVersion(), Socket: a.socket, State: state}
			if c.Socket == "" {
				c.Socket = client.FindSocket()
				c.Usual = os.Getenv("EBB_SOCKET") == "" && c.Socket != "" && c.Socket == client.UserSocket()
			}
			if c.Socket == client.SystemSocket && !cmd.Flags().Changed("state") {
				c.State = systemState
			}
			out := examined{OK: true, Findings: doctor.Examine(cmd.Context(), c)}
			for _, f := range out.Findings {
				out.OK = out.OK && f.Level != doctor.Problem
			}
			code := exitDone
			if !out.OK {
				code = exitFailed
			}
			if a.json {
				if err := a.printJSON(out); err != nil {
					return err
				}
				return told(code)
			}
			last := ""
			for _, f := range out.Findings {
				if a.quiet && f.Level == doctor.OK {
					continue
				}
				name := f.Check
				if name == last {
					name = ""
				}
				last = f.Check
				mark := map[doctor.Level]string{doctor.OK: "ok", doctor.Warning: a.outTerm.paint(yellow, "warning"), doctor.Problem: a.outTerm.paint(red, "problem")}[f.Level]
				a.printf("%-14s %s: %s\n", name, mark, safe(f.Message))
				if f.Hint != "" {
					a.printf("%-14s   hint: %s\n", "", safe(f.Hint))
				}
			}
			return told(code)
		},
	}
	cmd.Flags().StringVar(&state, "state", client.UserState(), "`directory` of the job store, where no service runs that says")
	return cmd
}
