// Package image prepares what a machine boots from: a kernel, an initramfs and a root
// directory. It runs on the host and needs no privilege. It starts two other programs:
// a busybox, to list its applets, and apt's tools, to fetch a kernel.
//
// Everything that the package makes is kept in a [Cache], a directory of finished
// trees. An entry's name is the hash of its inputs, so an entry never changes and is
// never stale. It is built under a temporary name and renamed when it is complete. Two
// tools may build the same entry at once: the first rename wins and both use the
// result.
//
//	DIR/kernels/HASH/     kernel.json, vmlinuz or vmlinux, lib/modules/RELEASE
//	DIR/initramfs/HASH/   initramfs.cpio
//	DIR/roots/HASH/       a root directory
//	DIR/tmp/              what is being built
//
// Kernels come in three forms: a libkrunfw library, which carries a kernel with
// everything built in; a distribution's package, with its modules; and a plain bzImage
// or ELF file. The content tells the form, never the name.
//
// Inputs are downloaded files and are not trusted: every length in them is checked
// before it is used. The files of a package are written beneath one directory only, and
// links and devices in it are never created.
package image
