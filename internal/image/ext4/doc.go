// Package ext4 makes an empty ext4 file system: the disk that takes what a
// machine writes over an image that it only reads. It needs no privilege and no
// other program. The file stays sparse: of each 128 MiB two blocks are written.
//
// The file system has a journal and what a plain mke2fs -t ext4 gives without
// checksums and growing: those need a writer for metadata that changes later,
// which the guest's kernel is. The blocks of each group stand in the old order,
//
//	group 0, 1, 3^n, 5^n, 7^n   super block, descriptors of all groups, then
//	every group                 bitmaps of blocks and of inodes, table of inodes, data
//
// and the data of group 0 begins with the root, lost+found and the journal. What
// is not written here reads as zeros, which are unused inodes.
//
// The facts are those of Documentation/filesystems/ext4 in Linux. Numbers on disk
// are little endian, and big endian in the journal.
package ext4
