// Package nstest runs a test as the first process of a machine that is only
// namespaces: user (for who is not root), mount, pid, uts, ipc and net. It costs
// some milliseconds and needs no virtual machine, so it is where everything is
// tested that PID 1 does and that needs no device.
//
// The test binary starts itself again; what [Run] is given runs in the copy.
// Root keeps its ids, so that real users can be switched to; what would reach
// out of the namespaces (the clock, modules, a restart) is taken from the copy
// before it starts. Where namespaces are refused a test is skipped with the
// reason, or fails if AGENTD_REQUIRE_NAMESPACES=1 says that they must work.
//
// Only tests import it.
package nstest
