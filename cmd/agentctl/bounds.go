package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
)

// registerBounds adds the flags of exec that bound one command.
func registerBounds(flags *pflag.FlagSet, r *client.Resources) {
	flags.Func("memory", "memory of the command, such as 64m: above it the machine's kernel kills one of its processes", func(word string) error {
		mib, err := machines.ParseSize(word)
		r.Memory = uint64(max(mib, 0)) << 20
		return err
	})
	flags.Func("cpus", "`number` of processors whose time the command may take, such as 0.5", func(word string) (err error) {
		r.CPUs, err = parseCPUs(word)
		return err
	})
	flags.Func("pids-limit", "`number` of processes and threads of the command; 0 and -1 are no limit", func(word string) (err error) {
		r.PIDs, err = parsePIDs(word)
		return err
	})
}

// parseCPUs reads a number of processors: at least a hundredth of one, as the kernel has it.
func parseCPUs(word string) (float64, error) {
	const least, most = 0.01, 1024
	n, err := strconv.ParseFloat(word, 64)
	if err != nil || strings.Trim(word, "0123456789.") != "" || n < least || n > most {
		return 0, fmt.Errorf("want a number of processors from %v to %d, such as 0.5", least, most)
	}
	return n, nil
}

// errPIDs says which numbers of processes are taken.
var errPIDs = errors.New("want a number of processes, or 0 or -1 for no limit")

func parsePIDs(word string) (uint64, error) {
	n, err := strconv.Atoi(word)
	switch {
	case err != nil || n < -1 || strconv.Itoa(n) != word || n > largest:
		return 0, errPIDs
	case n <= 0:
		return 0, nil
	}
	return uint64(n), nil
}
