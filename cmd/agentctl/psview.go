package main

import (
	"encoding/json"
	"strconv"
	"strings"
)

// A psView is a machine for a template. It has Docker's names as methods; its JSON is
// an object of ps --json.
type psView struct{ machineLine }

// MarshalJSON writes the machine.
func (v psView) MarshalJSON() ([]byte, error) { return json.Marshal(v.machineLine) }

// ID is the name: machines have no other.
func (v psView) ID() string { return v.Name }

// Names is the name.
func (v psView) Names() string { return v.Name }

// State is the phase.
func (v psView) State() string { return string(v.Phase) }

// Status is the state as in the table.
func (v psView) Status() string { return v.state() }

// Command is the machine's command in quotes.
func (v psView) Command() string { return strconv.Quote(strings.Join(v.machineLine.Command, " ")) }

// CreatedAt is when it was made.
func (v psView) CreatedAt() string { return v.Created.Format("2006-01-02 15:04:05 -0700 MST") }

// RunningFor is the time since then.
func (v psView) RunningFor() string { return ago(v.Created) }

// Ports are the forwarded ports.
func (v psView) Ports() string { return v.ports() }

// Labels are all of its labels.
func (v psView) Labels() string { return joinLabels(v.machineLine.Labels) }

// Label returns the value of one label.
func (v psView) Label(key string) string { return v.machineLine.Labels[key] }

// A psHead has the column headers of a table of psViews, by the same names.
type psHead struct{} //nolint:errname // It has a column Error, and is none.

// The columns of Docker's table.
func (psHead) ID() string            { return "NAME" }
func (psHead) Name() string          { return "NAME" }
func (psHead) Names() string         { return "NAMES" }
func (psHead) State() string         { return "STATE" }
func (psHead) Phase() string         { return "STATE" }
func (psHead) Status() string        { return "STATUS" }
func (psHead) Command() string       { return "COMMAND" }
func (psHead) CreatedAt() string     { return "CREATED AT" }
func (psHead) Created() string       { return "CREATED" }
func (psHead) Started() string       { return "STARTED" }
func (psHead) Ended() string         { return "ENDED" }
func (psHead) RunningFor() string    { return "CREATED" }
func (psHead) Ports() string         { return "PORTS" }
func (psHead) Labels() string        { return "LABELS" }
func (psHead) Label(k string) string { return strings.ToUpper(k) }
func (psHead) Image() string         { return "IMAGE" }
func (psHead) PID() string           { return "PID" }
func (psHead) Exit() string          { return "EXIT" }
func (psHead) Error() string         { return "ERROR" }
func (psHead) Reason() string        { return "REASON" }
func (psHead) Restarts() string      { return "RESTARTS" }
func (psHead) OOMKilled() string     { return "OOM KILLED" }
func (psHead) Health() string        { return "HEALTH" }
func (psHead) Passing() string       { return "PASSING" }

// brief returns the first line of an error, cut for a table.
func brief(text string) string {
	const most = 60
	line, _, more := strings.Cut(text, "\n")
	if r := []rune(line); len(r) > most {
		line, more = string(r[:most]), true
	}
	if more {
		line += "…"
	}
	return line
}
