// Package erofs writes EROFS images: read-only file systems that Linux mounts
// from a block device. It needs no privilege and no other program, and runs on
// any system.
//
// A [Writer] takes entries in the order of the archive, in one or more layers, and
// writes them at once. In memory it keeps only the name and the inode's place of a
// file, and the attributes of a directory. It writes directories last, when their
// content is final. The same entries in the same order give the same bytes.
//
//	block 0        1,024 bytes of zeros, super block, inode of the root
//	then, mixed    data blocks; runs of metadata blocks, which hold inodes with
//	               their attributes and short ends of their data, and attributes
//	               that several inodes share
//	at the end     inodes and blocks of the directories
//
// Nothing is compressed: the guest's processor may be emulated, and the image is in the
// host's page cache anyway. A later layer that replaces or deletes a file leaves its
// blocks in the image, unused.
//
// The facts are those of Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h in
// Linux 6.1; all features exist since Linux 5.4. All numbers on disk are little endian.
package erofs
