package contract

import (
	"strings"

	"github.com/agentd-go/agentd/wire"
)

// A row is one file operation and how it ends.
type row struct {
	op   wire.FSOp
	want string
	own  string
}

// rows makes behaviours of a table, each named after its operation.
func rows(table []row) (all []Behaviour) {
	for _, r := range table {
		all = append(all, Behaviour{Name: "file: " + describe(r.op), Own: r.own, Check: func(p *Peer) error {
			got, err := p.File(r.op)
			if err != nil {
				return err
			}
			return same("outcome", got, r.want)
		}})
	}
	return all
}

// Texts that many rows end with.
const (
	missing  = "No such file or directory (os error 2)"
	notDir   = "Not a directory (os error 20)"
	isDir    = "Is a directory (os error 21)"
	invalid  = "Invalid argument (os error 22)"
	tooLong  = "Filename too long (os error 36)"
	loop     = "Symbolic link loop (os error 40)"
	exists   = "File exists (os error 17)"
	nul      = "file name contained an unexpected NUL byte"
	notACopy = "copy: the source path is neither a regular file nor a symlink to a regular file"
)

// filePaths are the operations on paths, in the order in which a tree grows and
// goes (protocol sections 9.2 to 9.4 and 9.7).
//
//holds:wire 19a: a copy onto itself or a hard link of itself
func filePaths() []Behaviour {
	made := Behaviour{Name: "files to ask about", Check: func(p *Peer) error {
		_, err := p.Say(`mkdir /c; cd /c; printf hello >f; chmod 640 f; ln -s f l; ln -s nowhere dangling; ln -s /c/loop loop
			mkfifo p; mkdir full; echo >full/x; ln f hard`)
		return err
	}}
	after := Behaviour{Name: "files after the questions", Check: func(p *Peer) error {
		got, err := p.Say("cat /c/hard; stat -c '%X %Y' /c/l")
		if err != nil {
			return err
		}
		return same("a copy onto itself, the times of a link", got, "hello-5 1000000000\n")
	}}
	all := append([]Behaviour{made}, rows(resolved())...)
	all = append(all, rows(described())...)
	all = append(all, rows(changed())...)
	return append(append(all, rows(attributes())...), after)
}

// resolved are RealPath and ReadLink.
func resolved() []row {
	return []row{
		{op: &wire.OpRealPath{Path: "/c/l"}, want: "/c/f"},
		{op: &wire.OpRealPath{Path: "/c/../c/./f"}, want: "/c/f"},
		{op: &wire.OpRealPath{Path: "c/f"}, want: "/c/f"},
		{op: &wire.OpRealPath{Path: "/c/dangling"}, want: "/c/dangling"},
		{op: &wire.OpRealPath{Path: "/c/new"}, want: "/c/new"},
		{op: &wire.OpRealPath{Path: "new"}, want: "/new"},
		{op: &wire.OpRealPath{Path: "/new"}, want: "/new"},
		{op: &wire.OpRealPath{Path: "/"}, want: "/"},
		{op: &wire.OpRealPath{Path: ""}, want: "realpath: " + missing},
		{op: &wire.OpRealPath{Path: "/no/new"}, want: "realpath: " + missing},
		{op: &wire.OpRealPath{Path: "/no/.."}, want: "realpath: " + missing},
		{op: &wire.OpRealPath{Path: "/c/loop"}, want: "/c/loop"},
		{op: &wire.OpRealPath{Path: "/c/f/x"}, want: "/c/f/x"},
		{op: &wire.OpRealPath{Path: "/c/f/x/y"}, want: "realpath: " + notDir},
		{op: &wire.OpRealPath{Path: "/c\x00"}, want: "realpath: " + nul},
		{op: &wire.OpReadLink{Path: "/c/l"}, want: "f"},
		{op: &wire.OpReadLink{Path: "/c/f"}, want: "readlink: " + invalid},
		{op: &wire.OpReadLink{Path: "/no"}, want: "readlink: " + missing},
	}
}

// described are Stat and List.
func described() []row {
	return []row{
		{op: &wire.OpStat{Path: "/c/f"}, want: "/c/f file 5 100640 0:0"},
		{op: &wire.OpStat{Path: "c/l"}, want: "c/l symlink 1 120777 0:0"},
		{op: &wire.OpStat{Path: "/c/l", FollowSymlink: true}, want: "/c/l file 5 100640 0:0"},
		{op: &wire.OpStat{Path: "/c/p"}, want: "/c/p other 0 10644 0:0"},
		{op: &wire.OpStat{Path: "/c/full"}, want: "/c/full dir 40755 0:0"},
		{op: &wire.OpStat{Path: "/no"}, want: "stat: " + missing},
		{op: &wire.OpStat{Path: "/c/dangling", FollowSymlink: true}, want: "stat: " + missing},
		{op: &wire.OpStat{Path: "/c/loop", FollowSymlink: true}, want: "stat: " + loop},
		{op: &wire.OpStat{Path: "/" + strings.Repeat("n", 256)}, want: "stat: " + tooLong},
		{op: &wire.OpStat{Path: strings.Repeat("/n", 1<<20)}, want: "stat: " + tooLong},
		{op: &wire.OpStat{Path: "/c\x00"}, want: "stat: " + nul},
		{op: &wire.OpList{Path: "/c\x00"}, want: "readdir: opendir: " + nul},
		{op: &wire.OpList{Path: "/c/full/"}, want: "[/c/full/x]"},
		{op: &wire.OpList{Path: "/no"}, want: "readdir: opendir: " + missing},
		{op: &wire.OpList{Path: "/c/f"}, want: "readdir: opendir: " + notDir},
	}
}

// changed are the operations that make, move and remove.
func changed() []row {
	return []row{
		{op: &wire.OpMkdir{Path: "/c\x00"}, want: "mkdir: " + nul},
		{op: &wire.OpSymlink{Target: "x", LinkPath: "/c/new-link"}, want: "ok"},
		{op: &wire.OpSymlink{Target: "x", LinkPath: "/c/new-link"}, want: "symlink: " + exists},
		{op: &wire.OpMkdir{Path: "/c/a/b/d", Mode: new(uint32(0o1777))}, want: "ok"},
		{op: &wire.OpStat{Path: "/c/a/b/d"}, want: "/c/a/b/d dir 41777 0:0"},
		{op: &wire.OpStat{Path: "/c/a/b"}, want: "/c/a/b dir 40755 0:0"},
		{op: &wire.OpMkdir{Path: "/c/a/b/d/", Mode: new(uint32(0o700))}, want: "ok"},
		{op: &wire.OpStat{Path: "/c/a/b/d"}, want: "/c/a/b/d dir 40700 0:0"},
		{op: &wire.OpMkdir{Path: "c/rel//x"}, want: "ok"},
		{op: &wire.OpMkdir{Path: "/c/f"}, want: "mkdir: " + exists},
		{op: &wire.OpMkdir{Path: "/c/f/x"}, want: "mkdir: " + notDir},
		{op: &wire.OpMkdir{Path: "/proc/x"}, want: "mkdir: " + missing},
		{op: &wire.OpMkdir{Path: "/proc/self/fd", Mode: new(uint32(0o700))}, want: "chmod: Operation not permitted (os error 1)"},
		{op: &wire.OpRemove{Path: "/c/a"}, want: "remove: " + isDir},
		{op: &wire.OpRemove{Path: "/c/new-link"}, want: "ok"},
		{op: &wire.OpRemove{Path: "/c/new-link"}, want: "remove: " + missing},
		{op: &wire.OpRemoveDir{Path: "/c/full"}, want: "remove_dir: Directory not empty (os error 39)"},
		{op: &wire.OpRemoveDir{Path: "/c/f"}, want: "remove_dir: " + notDir},
		{op: &wire.OpRemoveDir{Path: "/c/f", Recursive: true}, want: "remove_dir: " + notDir},
		{op: &wire.OpRemoveDir{Path: "/c/no", Recursive: true}, want: "remove_dir: " + missing},
		{op: &wire.OpSymlink{Target: "full", LinkPath: "/c/to-full"}, want: "ok"},
		{op: &wire.OpRemoveDir{Path: "/c/to-full", Recursive: true}, want: "ok"},
		{op: &wire.OpStat{Path: "/c/full/x"}, want: "/c/full/x file 1 100644 0:0"},
		{op: &wire.OpRemoveDir{Path: "/c/a", Recursive: true}, want: "ok"},
		{op: &wire.OpCopy{Src: "/c/l", Dst: "/c/copy"}, want: "ok"},
		{op: &wire.OpStat{Path: "/c/copy"}, want: "/c/copy file 5 100640 0:0"},
		{op: &wire.OpCopy{Src: "/c/f", Dst: "/c/f"}, want: "ok"},
		{op: &wire.OpStat{Path: "/c/f"}, want: "/c/f file 5 100640 0:0"},
		{op: &wire.OpCopy{Src: "/c/f", Dst: "/c/hard"}, want: "ok"},
		{op: &wire.OpStat{Path: "/c/hard"}, want: "/c/hard file 5 100640 0:0"},
		{op: &wire.OpCopy{Src: "/c/full", Dst: "/c/copy"}, want: notACopy},
		{op: &wire.OpCopy{Src: "/c/p", Dst: "/c/copy"}, want: notACopy, own: hangsInFifo},
		{op: &wire.OpCopy{Src: "/c/f", Dst: "/c/full"}, want: "copy: " + isDir},
		{op: &wire.OpCopy{Src: "/no", Dst: "/c/copy"}, want: "copy: " + missing},
		{op: &wire.OpRename{Src: "/c/copy", Dst: "/c/moved"}, want: "ok"},
		{op: &wire.OpRename{Src: "/c/copy", Dst: "/c/moved"}, want: "rename: " + missing},
	}
}

// hangsInFifo is why published agents are not asked about fifos.
const hangsInFifo = "it opens a fifo in its only loop and hangs for ever"

// attributes are SetStat.
func attributes() []row {
	set := func(a wire.FSAttrs, path string, follow bool) wire.FSOp {
		return &wire.OpSetStat{Path: path, FollowSymlink: follow, Attrs: a}
	}
	return []row{
		{op: set(wire.FSAttrs{}, "/no", true), want: "ok"},
		{op: set(wire.FSAttrs{}, "/c", true), want: "ok"}, // Ours is a sync.
		{op: set(wire.FSAttrs{}, "/c/p", true), want: "ok"},
		{op: set(wire.FSAttrs{}, "/c", false), want: "ok"},
		{op: set(wire.FSAttrs{Size: new(uint64(3)), Mode: new(uint32(0o104755)), UID: new(uint32(0))}, "/c/moved", true), want: "ok"},
		{op: &wire.OpStat{Path: "/c/moved"}, want: "/c/moved file 3 100755 0:0"},
		{op: set(wire.FSAttrs{UID: new(uint32(7)), GID: new(uint32(8))}, "/c/moved", true), want: "ok"},
		{op: &wire.OpStat{Path: "/c/moved", FollowSymlink: true}, want: "/c/moved file 3 100755 7:8"},
		{op: set(wire.FSAttrs{Size: new(uint64(1))}, "/no", true), want: "setstat: open for truncate: " + missing},
		{op: set(wire.FSAttrs{Size: new(uint64(1))}, "/c/full", true), want: "setstat: open for truncate: " + isDir},
		{op: set(wire.FSAttrs{Size: new(uint64(1 << 63))}, "/c/moved", true), want: "setstat: set_len: out of range integral type conversion attempted"},
		{
			op:   set(wire.FSAttrs{Size: new(uint64(1))}, "/c/p", true),
			want: "setstat: open for truncate: No such device or address (os error 6)", own: hangsInFifo,
		},
		{op: set(wire.FSAttrs{Mode: new(uint32(0))}, "/no", true), want: "setstat: chmod: " + missing},
		{op: set(wire.FSAttrs{Mode: new(uint32(0))}, "/no", false), want: "setstat: lstat before chmod: " + missing},
		{op: set(wire.FSAttrs{Mode: new(uint32(0))}, "/c/l", false), want: "setstat: chmod on symlink without following is not supported"},
		{op: set(wire.FSAttrs{GID: new(uint32(0))}, "/no", true), want: "setstat: chown: " + missing},
		{op: set(wire.FSAttrs{Mtime: new(int64(0))}, "/no", true), want: "setstat: stat before utimensat: " + missing},
		{op: set(wire.FSAttrs{Atime: new(int64(0)), Mtime: new(int64(0))}, "/no", true), want: "setstat: stat before utimensat: " + missing},
		{op: set(wire.FSAttrs{Atime: new(int64(-5)), Mtime: new(int64(1e9))}, "/c/l", false), want: "ok"},
	}
}
