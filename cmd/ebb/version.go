package main

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// ownVersion is the version this program was built from.
func ownVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// versions is what version prints for programs.
type versions struct {
	Version  string        `json:"version"`
	Go       string        `json:"go"`
	Platform string        `json:"platform"`
	Service  *bits.Service `json:"service"` // null where none runs
}

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of ebb and of the service, if one runs",
		Long:  "Print the version of this program and that of the service, if one runs. It never starts one.",
		Example: `  ebb version
  ebb version --json | jq -r .service.version`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m := client.New(a.socket)
			defer m.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
			defer cancel()
			v := versions{Version: ownVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			info, err := m.Service(ctx)
			if err == nil {
				v.Service = info
			}
			if a.json {
				return a.printJSON(v)
			}
			a.printf("ebb %s %s %s\n", v.Version, v.Go, v.Platform)
			switch {
			case errors.Is(err, client.ErrNoService):
				a.printf("no service runs\n")
			case err != nil:
				a.printf("the service on %s does not answer: %s\n", safe(m.Socket()), safe(err.Error()))
			default:
				a.printf("service %s, process %d, on %s, up since %s\n", safe(info.Version), info.PID, safe(m.Socket()), moment(info.Started, time.Now()))
				for _, n := range info.Notices {
					a.note("%s", n)
				}
			}
			return nil
		},
	}
}
