//go:build unix

package transfer

import (
	"io/fs"
	"syscall"
)

// ownerOf returns the owner of a file of this host.
func ownerOf(info fs.FileInfo) (uid, gid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}
