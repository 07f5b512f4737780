// Package erofs writes EROFS images: read-only file systems that Linux mounts
// from a block device. It needs no privilege and no other program, and runs on
// any system.
//
// A [Writer] is given entries in any order, as archives have them, in one or more
// layers, and writes as it goes: of a file nothing is kept but its name and the
// place of its inode, of a directory its attributes. Directories come last, when
// what is in them is final. The same entries in the same order give the same
// bytes.
//
//	block 0        1,024 bytes of zeros, super block, inode of the root
//	then, mixed    data blocks; runs of metadata blocks, which hold inodes with
//	               their attributes and short ends of their data, and attributes
//	               that several inodes share
//	at the end     inodes and blocks of the directories
//
// Nothing is compressed: what reads the image is a guest whose processor may be
// emulated, and what it reads lies in the host's page cache. A later layer that
// replaces or deletes a file leaves its blocks in the image, unused.
//
// The facts are those of Documentation/filesystems/erofs.rst and
// fs/erofs/erofs_fs.h in Linux 6.1; no feature is used that 5.4 lacks. All
// numbers on disk are little endian.
package erofs
