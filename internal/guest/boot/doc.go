// Package boot carries a plan out, step by step, and takes the machine down
// again.
//
// A plan is checked before its first step: a step that this agent cannot do ends the
// boot with nothing done. Each step is timed. A step that fails ends the boot; the error
// names the step, the operation and the kernel's error.
//
// The root belongs to the image's author. No step follows a symbolic link in it to mount
// or write, and files are written whole or not at all. On a root that cannot be written
// to, files that a machine can run without (hosts, the profile block, the run directories)
// are left as they are.
package boot
