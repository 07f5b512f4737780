package vmtest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/sandbox"
)

// required turns skips into failures.
const required = "AGENTD_REQUIRE_MACHINES"

// krunfw begins the names of kernels that were taken from a libkrunfw library.
const krunfw = "krunfw-"

// Require skips the test with the reason where no machine can run here, or fails
// it if AGENTD_REQUIRE_MACHINES=1.
func Require(t *testing.T) {
	t.Helper()
	if err := sandbox.SupportedFor(Platform()); err != nil {
		unavailable(t, err)
	}
}

func unavailable(t *testing.T, err error) {
	t.Helper()
	if os.Getenv(required) == "1" {
		t.Fatalf("%s=1, but no machine can run here: %v", required, err)
	}
	t.Skipf("no machine can run here: %v", err)
}

// Kernels returns the names of the kernels to test with: the newest one from a
// libkrunfw library and the newest one of a distribution. Where one is missing
// the test goes on with the other, unless machines are required.
func Kernels(t *testing.T) []string {
	t.Helper()
	Require(t)
	all, err := allKernels()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for what, is := range map[string]func(sandbox.Kernel) bool{
		"from a libkrunfw library": fromLibrary,
		"of a distribution":        func(k sandbox.Kernel) bool { return !fromLibrary(k) && k.Modules },
	} {
		if i := slices.IndexFunc(all, is); i >= 0 {
			names = append(names, all[i].Name)
		} else if err := fmt.Errorf("no kernel %s in the cache", what); os.Getenv(required) == "1" {
			unavailable(t, err)
		} else {
			t.Logf("left out: %v", err)
		}
	}
	slices.Sort(names)
	return names
}

func fromLibrary(k sandbox.Kernel) bool { return strings.HasPrefix(k.Name, krunfw) }

// allKernels returns the kernels of the user's cache for the machines' platform.
func allKernels() ([]sandbox.Kernel, error) {
	c, err := sandbox.OpenCache("")
	if err != nil {
		return nil, err
	}
	all, err := c.Kernels()
	return slices.DeleteFunc(all, func(k sandbox.Kernel) bool { return k.Platform != Platform() }), err
}
