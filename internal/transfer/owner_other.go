//go:build !unix

package transfer

import "io/fs"

// ownerOf finds none: files here have no owners by number.
func ownerOf(fs.FileInfo) (uid, gid int, ok bool) { return 0, 0, false }
