// Package ext4 makes an empty ext4 file system. A machine with a read-only image stores
// its changes there. It needs no privilege and no other program. The file stays sparse:
// of each 128 MiB two blocks are written.
//
// The file system has a journal and the features of a plain mke2fs -t ext4, except
// checksums, which would need more code here. It can grow to MaxSize while it is mounted. The
// blocks of each group are in the old order,
//
//	group 0, 1, 3^n, 5^n, 7^n   super block, descriptors of all groups, room for more, then
//	every group                 bitmaps of blocks and of inodes, table of inodes, data
//
// and the data of group 0 begins with the root, lost+found, the list of that room, and the
// journal. Parts that
// are not written read as zeros, which mean unused inodes.
//
// The facts are those of Documentation/filesystems/ext4 in Linux. Numbers on disk
// are little endian, and big endian in the journal.
package ext4
