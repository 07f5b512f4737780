package tree

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/internal/pax"
)

// A machine that is killed loses what its kernel has not written to its disks. It may keep
// a file's new name without the bytes (ext4 commits a name before it allocates the blocks of the
// file). So files get their names only after a sync; those of a batch share one.
const (
	batchFiles = 4096
	batchDirs  = 128 // Directories that are open for the batch alone.
	batchBytes = 64 << 20
)

// A batch has the complete files that wait for their names.
type batch struct {
	files []waiting
	names map[node]map[string]string // Temporary names, by directory and name; made when asked for.
	since time.Time
	bytes int64
	dirs  int // Directories of files, counted when the directory changes.
	last  *dir
}

// A waiting file has its temporary name.
type waiting struct {
	d          *dir
	temp, base string
	name       string // In the archive, for errors.
	link       bool   // A second name of a file.
}

// temp returns the temporary name of a file that waits in an open directory.
func (b *batch) temp(at int, name string) (temp string, waits bool) {
	if len(b.files) == 0 {
		return "", false
	}
	id, err := identify(at)
	if err != nil {
		return "", false
	}
	if b.names == nil {
		b.names = map[node]map[string]string{}
		for _, w := range b.files {
			b.note(w)
		}
	}
	temp, waits = b.names[id][name]
	return temp, waits
}

// note adds a file to the names that hard links look for.
func (b *batch) note(w waiting) {
	id, err := identify(w.d.fd)
	if err != nil {
		return
	}
	if b.names[id] == nil {
		b.names[id] = map[string]string{}
	}
	b.names[id][w.base] = w.temp
}

func identify(fd int) (node, error) {
	var st unix.Stat_t
	err := again(func() error { return unix.Fstat(fd, &st) })
	return node{st.Dev, st.Ino}, err
}

// place gives a complete file its name, at once or after the sync of its batch.
func (u *Unpacker) place(h *pax.Header, temp, base string) error {
	d := u.here()
	w := waiting{d: d, temp: temp, base: base, name: h.Name, link: h.Kind == pax.HardLink}
	if !u.how.Sync {
		return u.rename(w)
	}
	b := &u.batch
	if len(b.files) == 0 {
		b.since = time.Now()
	}
	d.uses++
	b.files = append(b.files, w)
	if b.names != nil {
		b.note(w)
	}
	if b.bytes += h.Stored(); b.last != d {
		b.dirs, b.last = b.dirs+1, d
	}
	if len(b.files) >= batchFiles || b.dirs >= batchDirs || b.bytes >= batchBytes || time.Since(b.since) >= batchFor {
		return readFatal(u.flush())
	}
	return nil
}

// readFatal makes an error one that ends the unpacking.
func readFatal(err error) error {
	if err != nil {
		return readError{err}
	}
	return nil
}

// rename gives a file its name. If the name is one of the same file already, rename(2) does
// nothing, and the temporary name is removed.
func (u *Unpacker) rename(w waiting) error {
	err := again(func() error { return unix.Renameat(w.d.fd, w.temp, w.d.fd, w.base) })
	if err != nil || w.link {
		err = errors.Join(err, u.unlink(w.d, w.temp, 0))
	}
	return err
}

// flush syncs the files of the batch and gives them their names.
func (u *Unpacker) flush() error {
	files := u.batch.files
	u.batch = batch{files: files[:0]}
	err := syncAll(files)
	for _, w := range files {
		if err != nil {
			_ = u.unlink(w.d, w.temp, 0) // The sync's error is reported.
		} else if failed := u.rename(w); failed != nil {
			u.Report.Problem("rename", w.name, failed)
		}
		u.release(w.d)
	}
	return err
}

// syncAll writes the file systems of files to their disks.
func syncAll(files []waiting) error {
	done := map[uint64]bool{}
	var last *dir
	for _, w := range files {
		if w.d == last {
			continue
		}
		last = w.d
		id, err := identify(w.d.fd)
		if err == nil && !done[id.device] {
			done[id.device] = true
			err = syncDisk(w.d.fd)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// syncDisk writes the file system of an open directory to its disk. What the host serves
// (FUSE) is there already: a sync would be one of the host's own disk.
func syncDisk(fd int) error {
	const fuse = 0x65735546 // FUSE_SUPER_MAGIC (linux/magic.h).
	var st unix.Statfs_t
	if again(func() error { return unix.Fstatfs(fd, &st) }) == nil && st.Type == fuse {
		return nil
	}
	return again(func() error { return unix.Syncfs(fd) })
}

// settle gives the last files their names, and the top directory its attributes. With Sync
// all of it is on the disk then.
func (u *Unpacker) settle() error {
	err := u.flush()
	if len(u.levels) > 0 {
		u.describeDir(u.levels[0])
		if u.how.Sync {
			err = errors.Join(err, syncDisk(u.levels[0].fd))
		}
	}
	return err
}
