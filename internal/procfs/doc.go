// Package procfs reads what a Linux system says of itself in /proc, from any file
// system that has one: a machine's, through its agent, or this host's.
//
// No program in the guest is needed for that. What a kernel does not have (pressure
// without CONFIG_PSI, say) is left at zero; a process that ends while it is looked
// at is left out.
//
// Formats are those of proc_pid_stat(5), proc_meminfo(5), proc_stat(5), proc_diskstats
// (Documentation/admin-guide/iostats.rst) and Documentation/accounting/psi.rst.
package procfs
