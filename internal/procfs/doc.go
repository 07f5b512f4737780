// Package procfs reads /proc of a Linux system from any fs.FS: a machine's, through its
// agent, or this host's.
//
// OwnMappings and ReleaseProgram alone are about this process.
//
// It needs no program in the guest. Values that a kernel lacks (such as pressure
// without CONFIG_PSI) are zero. A process that ends meanwhile is left out.
//
// Formats are those of proc_pid_stat(5), proc_meminfo(5), proc_stat(5), proc_diskstats
// (Documentation/admin-guide/iostats.rst) and Documentation/accounting/psi.rst.
package procfs
