package client_test

import (
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

// The kinds of failure are the protocol's.
func TestFailureKinds(t *testing.T) {
	for ours, theirs := range map[client.FailureKind]wire.FailureKind{
		client.FailureNotFound: wire.FailureNotFound, client.FailurePermissionDenied: wire.FailurePermissionDenied,
		client.FailureNotExecutable: wire.FailureNotExecutable, client.FailureBadCwd: wire.FailureBadCwd,
		client.FailureBadArgs: wire.FailureBadArgs, client.FailureResourceLimit: wire.FailureResourceLimit,
		client.FailureUserSetup: wire.FailureUserSetup, client.FailurePTYSetup: wire.FailurePTYSetup,
		client.FailureOutOfMemory: wire.FailureOutOfMemory, client.FailureOther: wire.FailureOther,
	} {
		if string(ours) != string(theirs) {
			t.Errorf("%q stands for the protocol's %q", ours, theirs)
		}
	}
}
