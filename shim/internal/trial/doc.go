// Package trial runs the shim beneath a real containerd: the test starts one in a
// directory of its own, with sockets, images and pods below it, and stops it at its
// end. It needs root, the packages containerd and runc, and what "make shim" builds;
// without them it is skipped with the reason, and fails if AGENTD_REQUIRE_PODS=1.
package trial
