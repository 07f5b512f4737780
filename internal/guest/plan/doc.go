// Package plan decides the steps of a boot, and carries out none of them.
//
// A machine is configured by variables on the kernel command line or by the first
// message on the port. Both become one [Plan]: an ordered list of steps as values, and
// the defaults of commands. A configuration is checked completely before a plan is
// returned, so a rejected one has no effect. A plan prints as text, so that a boot can
// be read and compared before it happens. The facts are in docs/BOOT.md: sections 4 and
// 5 for the sources, 8 to 22 for the steps.
//
// The package makes no system call, reads no clock and no file, and builds on every
// system. It also resolves users ([ResolveUser]), from the contents of files that its
// caller has read, and makes the environment of a command ([CommandEnv]).
//
// # Differences from the reference agent
//
// Configurations by hosts of generations 4 and 7 boot unchanged. Values that only this
// package rejects have no effect in the reference, fail there later with a less clear
// error, or break something that the agent or the host needs.
//
//	what                                            reference        here
//	values that are not UTF-8, or hold a NUL        absent           rejected
//	MSB_BLOCK_ROOT=/dev/vda, without a kind         rejected         a disk image
//	MSB_BLOCK_ROOT: parts without '='               ignored          rejected
//	MSB_BLOCK_ROOT: unknown keys, keys of the       ignored          rejected
//	  other kind
//	MSB_BLOCK_ROOT: devices by relative paths       fail to mount    rejected
//	MSB_TMPFS: relative paths                       taken            rejected
//	user mounts with ".." (variables)               taken            rejected
//	user mounts at / (variables)                    taken            rejected
//	user mounts at or below /proc, /sys, /dev,      taken            rejected
//	  /.msb
//	user mounts with names that no kernel takes     fail to mount    rejected
//	  (path over 4095 bytes, component over 255)
//	more than 4096 user mounts                      taken            rejected
//	tag of a file mount, file name or disk id       taken            rejected
//	  that is more than one path component
//	tmpfs mode above 07777                          cut by kernel    cut in the plan
//	hostname over 64 bytes                          fails to be set  rejected
//	control characters in hostname or alias         written          rejected
//	interface names that no kernel takes            fail later       rejected
//	mtu below 68                                    fails later      rejected
//	user spec with an empty part                    fails later      rejected
//	one resource limited twice in different case    last one holds   rejected
//	  (message)
//	cgroup2 missing from the kernel                 ends the boot    optional
//	/dev/pts                                        no data          terminals of group tty
//	/dev/stdin, /dev/stdout, /dev/stderr            missing          links
//	the share                                       no flags         nosuid,nodev
//	read-only ext4 disk (variables)                 journal fails    mounted with noload
//	configuration in the environment of commands    visible          removed
//	password entries with an empty number           user 0           no entry
//	an empty home in the password file              HOME is empty    HOME is inherited
package plan
