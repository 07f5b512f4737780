// Package nstest runs a test as the first process of a "machine" that consists only of
// namespaces: user (without root privilege), mount, pid, uts, ipc and net. It takes
// some milliseconds and needs no virtual machine. So all duties of PID 1 that need no
// device are tested here.
//
// The test binary starts itself again, and the function given to [Run] runs in the
// copy. Root keeps its ids, so that tests can switch to real users. The copy loses the
// rights that reach out of the namespaces (the clock, modules, a restart) before it
// starts. Where namespaces are refused a test is skipped with the reason, or fails if
// AGENTD_REQUIRE_NAMESPACES=1 says that they must work.
//
// Only tests import it.
package nstest
