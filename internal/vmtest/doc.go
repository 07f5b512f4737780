// Package vmtest boots a machine inside a test, with the agent of this tree.
//
// [Start] returns a machine for the test. The machine must end by itself when the test
// ends, print no fault on its console, and leave nothing on the host. If the machine
// dies early, the test fails and shows the end of the console and the command that
// repeats the machine.
//
// Where no machine can run, a test is skipped with the reason, or fails if
// AGENTD_REQUIRE_MACHINES=1 says that one must run. AGENTD_AGENT names a guest
// binary to test instead of one built from the tree; AGENTD_CONFORMANCE names a
// published version whose agent, the reference, is tested instead of ours.
//
// Only tests import it, and a package that does runs its tests by [Main].
package vmtest
