// Package image prepares what a machine boots from: a kernel, an initramfs and
// a root directory. It runs on the host, needs no privilege and starts no other
// program, except a busybox that it asks for its applets.
//
// Everything that is made is kept in a [Cache], a directory of finished trees.
// An entry's name is the hash of what it was made from, so that an entry is
// never changed and never stale. It is built under a temporary name and renamed
// when complete: two tools may build the same entry at once, the first rename
// wins and both use it.
//
//	DIR/kernels/HASH/     kernel.json, vmlinuz or vmlinux, lib/modules/RELEASE
//	DIR/initramfs/HASH/   initramfs.cpio
//	DIR/roots/HASH/       a root directory
//	DIR/tmp/              what is being built
//
// Kernels come in three forms: a libkrunfw library, which carries a kernel with
// everything built in; a distribution's package, with its modules; and a plain
// bzImage or ELF file. The form is told by content, never by name.
//
// Inputs are files that somebody downloaded: every length in them is checked
// before it is used, what an archive holds is written beneath one directory
// only, and links and devices in it are never created.
package image
