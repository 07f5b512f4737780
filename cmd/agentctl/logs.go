package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
)

// logFlags holds the flags of logs.
type logFlags struct {
	follow, console, agent, supervisor, timestamps bool
	tail, since, until, cmd                        string
	query                                          machines.LogQuery
}

// A logLine is a line in the output of logs --json.
type logLine struct {
	Log    string    `json:"log"` // command, console, agent or supervisor.
	Stream string    `json:"stream,omitempty"`
	Time   time.Time `json:"time,omitzero"`
	Text   string    `json:"text"`
}

func newLogs() *cobra.Command {
	f := &logFlags{}
	cmd := &cobra.Command{
		Use:   "logs [flags] NAME",
		Short: "Show what a machine has printed",
		Long: `Show the output of a machine. If the machine has a command, that is the command's output
since the machine was made, in its order: stdout on standard output and stderr on
standard error. At least the last 32 MiB are kept. Otherwise it is the console of the
last run, with the lines of the kernel and the agent. For a pod of containerd it is the
console of the pod's machine.

A time is RFC 3339 (2026-01-02T15:04:05Z), a date, seconds since 1970, or a duration
before now (10m).
` + exitHelp(plainExit),
		Example: `  agentctl logs -f --tail 10 web
  agentctl logs -t --since 10m web`,
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.parse(time.Now()); err != nil {
				return misuse(err)
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			if f.cmd != "" {
				return withReconnector(cmd, args[0], func(ctx context.Context, r *client.Reconnector) error {
					return logsOfKept(ctx, r, f.cmd, f.follow)
				})
			}
			if isPod(args[0]) {
				return f.showPod(args[0], wantsJSON(cmd))
			}
			m, err := lookup(args[0])
			if err != nil {
				return err
			}
			return f.show(ctx, m, wantsJSON(cmd))
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "continue until the machine has ended")
	flags.BoolVarP(&f.timestamps, "timestamps", "t", false, "print the time before each line of a command")
	flags.StringVarP(&f.tail, "tail", "n", "all", "only the last `LINES`, and later ones")
	flags.StringVar(&f.since, "since", "", "only what a command has printed since a `TIME`")
	flags.StringVar(&f.until, "until", "", "only what a command has printed until a `TIME`")
	flags.StringVar(&f.cmd, "cmd", "", "what is kept of the output of a `COMMAND` of 'agentctl exec -d'")
	flags.BoolVar(&f.console, "console", false, "the console")
	flags.BoolVar(&f.agent, "agent", false, "only the agent's lines on the console")
	flags.BoolVar(&f.supervisor, "supervisor", false, "the messages of agentctl in the background")
	return offerJSON(cmd)
}

// parse reads the flags.
func (f *logFlags) parse(now time.Time) (err error) {
	f.query = machines.LogQuery{Follow: f.follow, Tail: -1}
	if f.tail != "all" {
		if f.query.Tail, err = strconv.Atoi(f.tail); err != nil {
			return fmt.Errorf("--tail %q: want a number of lines, or all", f.tail)
		}
	}
	if f.query.Since, err = parseTime("since", f.since, now); err != nil {
		return err
	}
	f.query.Until, err = parseTime("until", f.until, now)
	return err
}

// parseTime reads a time in the forms of container tools.
func parseTime(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil {
		whole := int64(s)
		return time.Unix(whole, int64((s-float64(whole))*float64(time.Second))), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil { //nolint:gosmopolitan // A person's.
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--%s %q: want a time such as 2026-01-02T15:04:05Z, or a duration such as 10m", flag, text)
}

// which returns the requested log.
func (f *logFlags) which(m *machines.Machine) machines.LogKind {
	switch {
	case f.agent:
		return machines.AgentLog
	case f.supervisor:
		return machines.SupervisorLog
	case f.console || len(m.Record().Command) == 0 || m.Record().Passing && !m.HasOutput():
		return machines.ConsoleLog
	}
	return machines.OutputLog
}

func (f *logFlags) show(ctx context.Context, m *machines.Machine, asJSON bool) error {
	kind := f.which(m)
	if kind == machines.OutputLog {
		f.query.Lines = f.timestamps || asJSON
		return m.ReadOutput(ctx, f.query, func(e machines.Entry) error {
			if asJSON {
				return encodeJSON(os.Stdout, logLine{kind.String(), e.Stream, e.Time, strings.TrimRight(string(e.Text), "\r")}, "")
			}
			return f.print(e)
		})
	}
	return f.showLines(kind, func(to io.Writer, follow bool) error { return m.CopyLog(ctx, to, kind, follow) }, asJSON)
}

// showLines prints a log that is not a command's, which copyLog writes.
func (f *logFlags) showLines(kind machines.LogKind, copyLog func(to io.Writer, follow bool) error, asJSON bool) error {
	if f.timestamps || f.since != "" || f.until != "" {
		return misuse(fmt.Errorf("logs: the log of the %s has no times; --timestamps, --since and --until are for the output of a command", kind))
	}
	return f.copyLines(kind, copyLog, func(line []byte) error {
		text := strings.TrimRight(string(line), "\r\n")
		if asJSON {
			return encodeJSON(os.Stdout, logLine{Log: kind.String(), Text: text}, "")
		}
		_, err := fmt.Println(text)
		return err
	})
}

// print writes an entry to its stream.
func (f *logFlags) print(e machines.Entry) error {
	to := os.Stdout
	if e.Stream == machines.Stderr {
		to = os.Stderr
	}
	text := e.Text
	if f.timestamps {
		text = append([]byte(e.Time.UTC().Format("2006-01-02T15:04:05.000000000Z")+" "), text...)
	}
	if !e.Partial {
		text = append(slices.Clip(text), '\n')
	}
	_, err := to.Write(text)
	return err
}

// copyLines calls each for the lines of a log that is not a command's.
func (f *logFlags) copyLines(kind machines.LogKind, copyLog func(to io.Writer, follow bool) error, each func([]byte) error) error {
	wanted := func(line []byte) bool {
		return (f.console || !machines.IsNoise(line)) && (kind != machines.AgentLog || machines.IsAgent(line))
	}
	skip := 0
	if f.query.Tail >= 0 {
		count := 0
		err := eachLine(func(to io.Writer) error { return copyLog(to, false) }, func(line []byte) error {
			if wanted(line) {
				count++
			}
			return nil
		})
		if err != nil {
			return err
		}
		skip = max(0, count-f.query.Tail)
	}
	return eachLine(func(to io.Writer) error { return copyLog(to, f.follow) }, func(line []byte) error {
		if !wanted(line) {
			return nil
		}
		if skip > 0 {
			skip--
			return nil
		}
		return each(line)
	})
}

func eachLine(from func(to io.Writer) error, each func([]byte) error) error {
	lines := &machines.Lines{Each: each}
	return errors.Join(from(lines), lines.Flush())
}
