// Command bench measures agents side by side: ours and the published ones, each
// in a machine of the same kind, in one run and by turns. It prints a table of
// medians with ratios to the first published agent, and one line for each target.
//
//	go run ./bench [-rounds N] [-repeat N] [-cpus N] [-size MiB] [-agents LIST] [-only LIST] [-short]
//	go run ./bench -boots N [-agents LIST] [-only plain,full]
//
// A round boots one machine for each agent. All but one are paused at any time: the
// agents take their turns measure by measure, so that what the host does meanwhile
// meets them alike. With -repeat there are several turns for each measure: what a
// change has given shows best between the agent before it (-agents ours,before=FILE)
// and ours, by short turns. Figures of two runs are not comparable; ratios within one are.
//
// The host's side is the same for all: one goroutine that reads the port into one
// large buffer and looks at frames where they lie. It is several times faster than
// the port; the port's own limit is measured with a program that does nothing but
// write or read it (package bench/guest).
//
// With -boots nothing but boots is measured, one machine at a time: plain ones, and
// full ones with a root of layers, eight mounts, a network and an authority. Ours
// boots in both ways, told by variables and by a message, and is compared with the
// agents that are told in the same way.
//
// Exit status: 0, or 1 after a failure: with -short, which is for CI, of what is
// not noise (memory, commands held up, bytes lost); else of a machine of ours.
package main
