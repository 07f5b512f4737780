package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// exitUsage is the status for an invalid command line: nothing was done.
const exitUsage = 2

// A usageError is an error in the words or flags of a command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// misuse marks an error as one of the command line; nil stays nil.
func misuse(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// carriers are the commands that exit with the status of a command in a machine. So
// their own errors all have status 125, as with container tools.
var carriers = []string{"run", "create", "exec", "shell", "attach", "testexec", "debug frames"}

// withStatus adds the exit status to an error of the command line.
func withStatus(cmd *cobra.Command, err error) error {
	if _, ok := errors.AsType[usageError](err); !ok {
		return err
	}
	if slices.Contains(carriers, pathOf(cmd)) {
		return &statusError{exitOwnFailure, err.Error()}
	}
	return &statusError{exitUsage, err.Error()}
}

// pathOf returns a command's name after those of its parents, without the program's
// name.
func pathOf(cmd *cobra.Command) string {
	_, path, _ := strings.Cut(cmd.CommandPath(), " ")
	return path
}

// refusedFlag returns the error for a wrong flag, in one form for all flags.
func refusedFlag(cmd *cobra.Command, err error) error {
	if r, ok := errors.AsType[*refusedError](err); ok {
		return misuse(r)
	}
	if v, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return misuse(fmt.Errorf("--%s %q: %w", v.GetFlag().Name, v.GetValue(), plainCause(v)))
	}
	return misuse(fmt.Errorf("%w; '%s --help' lists the flags", err, cmd.CommandPath()))
}

// plainCause returns the reason for refusing a value, without names of functions.
func plainCause(v *pflag.InvalidValueError) error {
	if v.GetFlag().Value.Type() == "bool" {
		return errors.New("want true or false")
	}
	return errors.Unwrap(v)
}

// checkValues makes the flags of a command refuse doubtful values: empty words, octal
// or out-of-range numbers, negative times.
func checkValues(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		switch f.Value.Type() {
		case "string":
			if !slices.Contains(mayBeEmpty, f.Name) {
				f.Value = word{f.Value}
			}
		case "int":
			f.Value = number{f.Value, bounds[f.Name]}
		case "duration":
			f.Value = elapsed{f.Value}
			if f.DefValue == "0s" {
				f.DefValue = "" // Help does not show the default of a flag that has none.
			}
		}
	})
}

// mayBeEmpty are flags for which "" means something: no host name but the machine's
// own. (--entrypoint, for none, is no plain string.)
var mayBeEmpty = []string{"hostname"}

// word is a text that is not empty.
type word struct{ pflag.Value }

func (w word) Set(s string) error {
	if s == "" {
		return errors.New("it is empty; leave the flag out")
	}
	return w.Value.Set(s)
}

// A bound is the range of a number; also is one further valid value.
type bound struct {
	least, most int
	also        string
}

// largest is the default upper bound; in seconds it is still a valid duration.
const largest = 1<<31 - 1

// bounds are the bounds of all number flags.
var bounds = map[string]bound{
	"cpus":           {1, largest, ""},
	"health-retries": {0, largest, ""},
	"last":           {1, largest, ""},
	"stop-timeout":   {0, largest, "-1"},
	"time":           {0, largest, "-1"},
	"timeout":        {0, largest, "-1"},
}

// number is a decimal number between bounds.
type number struct {
	pflag.Value
	bound
}

func (n number) Set(s string) error {
	if v, err := strconv.Atoi(s); s == n.also && s != "" || err == nil && strconv.Itoa(v) == s && v >= n.least && v <= n.most {
		return n.Value.Set(s)
	}
	text := fmt.Sprintf("want a whole number from %d to %d", n.least, n.most)
	if n.also != "" {
		text += ", or " + n.also
	}
	return errors.New(text)
}

// elapsed is a duration that is not negative.
type elapsed struct{ pflag.Value }

func (d elapsed) Set(s string) error {
	if v, err := time.ParseDuration(s); err != nil || v < 0 {
		return errors.New("want a time that is not negative, with its unit, such as 30s or 1m30s")
	}
	return d.Value.Set(s)
}

// usageOf adds the usage line to an error in a command's words.
func usageOf(cmd *cobra.Command, err error) error {
	if _, told := errors.AsType[*statusError](err); told || err == nil {
		return err
	}
	if _, told := errors.AsType[usageError](err); told {
		return err
	}
	return misuse(fmt.Errorf("%s: %w; usage: %s", pathOf(cmd), err, cmd.UseLine()))
}
