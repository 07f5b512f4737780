// Command bench measures agents side by side: ours and the published ones, each
// in a machine of the same kind, in one run and in alternation. It prints a table of
// medians with ratios to the first published agent, and one line for each target.
//
//	go run ./bench [-rounds N] [-repeat N] [-cpus N] [-size MiB] [-agents LIST] [-only LIST] [-short]
//	go run ./bench -boots N [-agents LIST] [-only plain,full]
//	go run ./bench -count N [-agents LIST] [-only LIST]
//
// A round boots one machine for each agent. All but one are paused at any time. The agents
// do each measure one after the other, so that other load on the host affects them equally.
// With -repeat they do it several times. The effect of a change shows best in short
// alternation between the agent before it (-agents ours,before=FILE) and ours. Figures of two runs are
// not comparable; ratios within one run are.
//
// The host's side is the same for all: one goroutine that reads the port into one
// large buffer and looks at frames where they lie. It is several times faster than
// the port; the port's own limit is measured with a program that does nothing but
// write or read it (package bench/guest).
//
// With -boots only boots are measured, one machine at a time: plain ones, and full ones
// with a layered root, eight mounts, a network and a certificate authority. Ours boots
// in both ways, configured by variables and by a message, and is compared with the
// agents that are configured in the same way.
//
// With -count nothing is timed. A plug-in of QEMU (plugin/counter.c, built by gcc) counts what
// the guest does for a boot and for each small operation: instructions of user space and of the
// kernel, steps of repeated string instructions, switches and wakes of threads, requests to
// servers of files, and system calls by name. A line has the least of N batches. Other work on the
// host changes these figures little.
//
// Exit status: 0, or 1 after a failure. With -short, which is for CI, failures are
// missed bounds that noise cannot explain (memory, blocked commands, lost bytes);
// otherwise they are failures of our own machines.
package main
