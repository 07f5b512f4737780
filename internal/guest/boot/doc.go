// Package boot carries a plan out, step by step, and takes the machine down
// again.
//
// A plan is looked through before its first step: one that asks for something
// that this agent cannot do ends there, with nothing done. Each step is timed.
// A step that fails ends the boot; the error names the step, what it tried and
// what the kernel said.
//
// The root belongs to the image's author. No step follows a symbolic link of
// it to mount or write somewhere, and files are written whole or not at all. On
// a root that cannot be written to, the files that only serve comfort (hosts,
// the profile block, the run directories) are left as they are.
package boot
