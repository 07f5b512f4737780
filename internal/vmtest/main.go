package vmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Main runs the tests of a package in a directory for temporary files of its
// own, and returns the status to exit with. It fails if machines have left files
// or processes.
func Main(m *testing.M) int { return run(m.Run) }

func run(tests func() int) int {
	dir, err := os.MkdirTemp("", "vmtest-")
	if err == nil {
		err = os.Setenv("TMPDIR", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	status := tests()
	for _, left := range append(machines(dir), children()...) {
		fmt.Fprintln(os.Stderr, "FAIL: a machine has left", left)
		status = 1
	}
	return status
}

// machines returns the directories of machines that are still there.
func machines(dir string) []string {
	left, err := filepath.Glob(filepath.Join(dir, "agentctl-*"))
	if err != nil {
		return []string{err.Error()}
	}
	return left
}

// children returns the command names of our children.
func children() (names []string) {
	lists, _ := filepath.Glob("/proc/self/task/*/children") // The pattern is well formed.
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue // A thread that has ended: its children are another's.
		}
		for pid := range strings.FieldsSeq(string(b)) {
			if comm, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil {
				names = append(names, "process "+pid+" "+strings.TrimSpace(string(comm)))
			}
		}
	}
	return names
}
