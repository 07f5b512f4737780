package wire

// FSOp is a file system operation: a pointer to one of the Op types of this package.
// Protocol section 9.2 describes each.
//
//sumtype:decl
type FSOp interface {
	op() (name string, content value)
}

var fsOps = alternatives[FSOp]{
	{"RealPath", func() FSOp { return new(OpRealPath) }},
	{"Stat", func() FSOp { return new(OpStat) }},
	{"SetStat", func() FSOp { return new(OpSetStat) }},
	{"List", func() FSOp { return new(OpList) }},
	{"ReadLink", func() FSOp { return new(OpReadLink) }},
	{"Symlink", func() FSOp { return new(OpSymlink) }},
	{"Mkdir", func() FSOp { return new(OpMkdir) }},
	{"Remove", func() FSOp { return new(OpRemove) }},
	{"RemoveDir", func() FSOp { return new(OpRemoveDir) }},
	{"Copy", func() FSOp { return new(OpCopy) }},
	{"Rename", func() FSOp { return new(OpRename) }},
	{"OpenFile", func() FSOp { return new(OpOpenFile) }},
	{"OpenDir", func() FSOp { return new(OpOpenDir) }},
	{"CloseHandle", func() FSOp { return new(OpCloseHandle) }},
	{"Read", func() FSOp { return new(OpRead) }},
	{"Write", func() FSOp { return new(OpWrite) }},
	{"ReadDir", func() FSOp { return new(OpReadDir) }},
	{"FStat", func() FSOp { return new(OpFStat) }},
	{"FSetStat", func() FSOp { return new(OpFSetStat) }},
}

// OpRealPath resolves a path. Its result is a *ResultPath.
type OpRealPath struct {
	Path string
}

func (o *OpRealPath) op() (string, value) {
	return "RealPath", entries{required("path", text(&o.Path))}
}

// OpStat describes a file. Its result is a *ResultStat.
type OpStat struct {
	Path          string
	FollowSymlink bool
	Exact         bool // With FSEntry.Exact; needs ExtensionFiles.
}

func (o *OpStat) op() (string, value) {
	return "Stat", entries{
		required("path", text(&o.Path)),
		required("follow_symlink", truth(&o.FollowSymlink)),
		omitted("exact", truth(&o.Exact)),
	}
}

// OpSetStat changes a file's attributes.
type OpSetStat struct {
	Path          string
	FollowSymlink bool
	Attrs         FSAttrs
}

func (o *OpSetStat) op() (string, value) {
	return "SetStat", entries{
		required("path", text(&o.Path)),
		required("follow_symlink", truth(&o.FollowSymlink)),
		required("attrs", object(&o.Attrs)),
	}
}

// OpList reads a whole directory. Its result is a *ResultList.
type OpList struct {
	Path string
}

func (o *OpList) op() (string, value) {
	return "List", entries{required("path", text(&o.Path))}
}

// OpReadLink reads a symbolic link. Its result is a *ResultPath.
type OpReadLink struct {
	Path string
}

func (o *OpReadLink) op() (string, value) {
	return "ReadLink", entries{required("path", text(&o.Path))}
}

// OpSymlink makes a symbolic link.
type OpSymlink struct {
	Target   string
	LinkPath string
}

func (o *OpSymlink) op() (string, value) {
	return "Symlink", entries{
		required("target", text(&o.Target)),
		required("link_path", text(&o.LinkPath)),
	}
}

// OpMkdir makes a directory and its parents.
type OpMkdir struct {
	Path string
	Mode *uint32 // set exactly, without the umask, and on an existing directory too
}

func (o *OpMkdir) op() (string, value) {
	return "Mkdir", entries{
		required("path", text(&o.Path)),
		defaulted("mode", optionalNumber(&o.Mode)),
	}
}

// OpRemove removes a file.
type OpRemove struct {
	Path string
}

func (o *OpRemove) op() (string, value) {
	return "Remove", entries{required("path", text(&o.Path))}
}

// OpRemoveDir removes a directory.
type OpRemoveDir struct {
	Path      string
	Recursive bool
}

func (o *OpRemoveDir) op() (string, value) {
	return "RemoveDir", entries{
		required("path", text(&o.Path)),
		required("recursive", truth(&o.Recursive)),
	}
}

// OpCopy copies a regular file's contents and permissions.
type OpCopy struct {
	Src, Dst string
}

func (o *OpCopy) op() (string, value) {
	return "Copy", entries{
		required("src", text(&o.Src)),
		required("dst", text(&o.Dst)),
	}
}

// OpRename renames a file.
type OpRename struct {
	Src, Dst string
}

func (o *OpRename) op() (string, value) {
	return "Rename", entries{
		required("src", text(&o.Src)),
		required("dst", text(&o.Dst)),
	}
}

// OpOpenFile opens a file. Its result is a *ResultHandle.
type OpOpenFile struct {
	Path    string
	Options OpenOptions
}

func (o *OpOpenFile) op() (string, value) {
	return "OpenFile", entries{
		required("path", text(&o.Path)),
		required("options", object(&o.Options)),
	}
}

// OpOpenDir opens a directory. Its result is a *ResultHandle.
type OpOpenDir struct {
	Path string
}

func (o *OpOpenDir) op() (string, value) {
	return "OpenDir", entries{required("path", text(&o.Path))}
}

// OpCloseHandle closes a file or directory.
type OpCloseHandle struct {
	Handle uint64
}

func (o *OpCloseHandle) op() (string, value) {
	return "CloseHandle", entries{required("handle", num(&o.Handle))}
}

// OpRead reads a file as FSData.
type OpRead struct {
	Handle uint64
	Offset uint64
	Len    *uint64 // nil: to the end
}

func (o *OpRead) op() (string, value) {
	return "Read", transfer(&o.Handle, &o.Offset, &o.Len)
}

// OpWrite writes the FSData that follow it.
type OpWrite struct {
	Handle uint64
	Offset uint64
	Len    *uint64 // how much must come in total; nil: any
}

func (o *OpWrite) op() (string, value) {
	return "Write", transfer(&o.Handle, &o.Offset, &o.Len)
}

func transfer(handle, offset *uint64, length **uint64) entries {
	return entries{
		required("handle", num(handle)),
		required("offset", num(offset)),
		defaulted("len", optionalNumber(length)),
	}
}

// OpReadDir reads the next entries of a directory. Its result is a *ResultList.
type OpReadDir struct {
	Handle uint64
	Limit  *uint32 // nil: 128; 0 counts as 1
	Exact  bool    // With FSEntry.Exact; needs ExtensionFiles.
}

func (o *OpReadDir) op() (string, value) {
	return "ReadDir", entries{
		required("handle", num(&o.Handle)),
		defaulted("limit", optionalNumber(&o.Limit)),
		omitted("exact", truth(&o.Exact)),
	}
}

// OpFStat describes an open file. Its result is a *ResultStat.
type OpFStat struct {
	Handle uint64
	Exact  bool // With FSEntry.Exact; needs ExtensionFiles.
}

func (o *OpFStat) op() (string, value) {
	return "FStat", entries{
		required("handle", num(&o.Handle)),
		omitted("exact", truth(&o.Exact)),
	}
}

// OpFSetStat changes an open file's attributes.
type OpFSetStat struct {
	Handle uint64
	Attrs  FSAttrs
}

func (o *OpFSetStat) op() (string, value) {
	return "FSetStat", entries{
		required("handle", num(&o.Handle)),
		required("attrs", object(&o.Attrs)),
	}
}
