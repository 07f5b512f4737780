package wire

// FSRequest is one file system operation. The answer is one FSResponse; reading
// and writing have FSData before it.
type FSRequest struct {
	Op   FSOp // never nil after decoding
	Bulk *BulkOffer
}

// Type returns TypeFSRequest.
func (*FSRequest) Type() Type { return TypeFSRequest }

func (m *FSRequest) fields() []field {
	return []field{
		required("op", external[FSOp]{&m.Op, &fsOpUnion}),
		omitted("bulk", optionalObject(&m.Bulk)).since(8),
	}
}

// FSResponse is the outcome of a file system operation.
type FSResponse struct {
	OK    bool
	Error *string  // the reason, if OK is false
	Data  FSResult // nil for operations that return none
}

// Type returns TypeFSResponse.
func (*FSResponse) Type() Type { return TypeFSResponse }

func (m *FSResponse) fields() []field {
	return []field{
		required("ok", truth(&m.OK)),
		defaulted("error", optionalText(&m.Error)),
		defaulted("data", external[FSResult]{&m.Data, &fsResultUnion}),
	}
}

// FSResult is what an operation returns: *ResultPath, *ResultStat, *ResultList or
// *ResultHandle; of an extension's operation *ResultArchive or *ResultCall.
type FSResult interface {
	result() (name string, content value)
}

var (
	fsOpUnion     = union[FSOp]{open: FSOp.op, all: fsOps, more: fsExtensions}
	fsResultUnion = union[FSResult]{open: FSResult.result, all: fsResults, more: fsExtensionResults, nullable: true}
)

var fsResults = alternatives[FSResult]{
	{"Path", func() FSResult { return new(ResultPath) }},
	{"Stat", func() FSResult { return new(ResultStat) }},
	{"List", func() FSResult { return new(ResultList) }},
	{"Handle", func() FSResult { return new(ResultHandle) }},
}

// ResultPath is the result of OpRealPath and OpReadLink.
type ResultPath struct {
	Path string
}

func (r *ResultPath) result() (string, value) { return "Path", text(&r.Path) }

// ResultStat is the result of OpStat and OpFStat.
type ResultStat struct {
	Entry FSEntry
}

func (r *ResultStat) result() (string, value) { return "Stat", object(&r.Entry) }

// ResultList is the result of OpList and OpReadDir. An empty list is the end of the
// directory.
type ResultList struct {
	Entries []FSEntry
}

func (r *ResultList) result() (string, value) { return "List", objects(&r.Entries) }

// ResultHandle is the result of OpOpenFile and OpOpenDir.
type ResultHandle struct {
	Handle uint64
}

func (r *ResultHandle) result() (string, value) { return "Handle", num(&r.Handle) }

// EntryKind is the type of a file. Unknown ones decode too, because later agents may
// add some.
type EntryKind string

// The types of file. Devices, sockets and fifos are EntryOther.
const (
	EntryFile    EntryKind = "file"
	EntryDir     EntryKind = "dir"
	EntrySymlink EntryKind = "symlink"
	EntryOther   EntryKind = "other"
)

// FSEntry describes one file. Times are Unix seconds.
type FSEntry struct {
	Path     string // as the request gave it, or joined with it
	Kind     EntryKind
	Size     uint64
	Mode     uint32 // all of st_mode, with the type
	Modified *int64 // the same as Mtime
	UID, GID uint32
	Atime    *int64
	Mtime    *int64
	Exact    []uint64 // by ExactNumber; nil unless the request has Exact, and the agent ExtensionFiles
}

func (f *FSEntry) fields() []field {
	return []field{
		required("path", text(&f.Path)),
		required("kind", text(&f.Kind)),
		required("size", num(&f.Size)),
		required("mode", num(&f.Mode)),
		defaulted("modified", optionalNumber(&f.Modified)),
		required("uid", num(&f.UID)),
		required("gid", num(&f.GID)),
		defaulted("atime", optionalNumber(&f.Atime)),
		defaulted("mtime", optionalNumber(&f.Mtime)),
		omitted("exact", numbers(&f.Exact)),
	}
}

// FSAttrs are attributes to change. Nil ones stay as they are. Times are Unix seconds.
type FSAttrs struct {
	Mode     *uint32
	UID, GID *uint32
	Size     *uint64
	Atime    *int64
	Mtime    *int64

	AtimeNsec, MtimeNsec *uint32 // Nanoseconds beside the seconds, nil for 0; need ExtensionFiles.
}

func (a *FSAttrs) fields() []field {
	return []field{
		defaulted("mode", optionalNumber(&a.Mode)),
		defaulted("uid", optionalNumber(&a.UID)),
		defaulted("gid", optionalNumber(&a.GID)),
		defaulted("size", optionalNumber(&a.Size)),
		defaulted("atime", optionalNumber(&a.Atime)),
		defaulted("mtime", optionalNumber(&a.Mtime)),
		omitted("atime_nsec", optionalNumber(&a.AtimeNsec)),
		omitted("mtime_nsec", optionalNumber(&a.MtimeNsec)),
	}
}

// OpenOptions are the ways to open a file.
type OpenOptions struct {
	Read, Write, Append, Create, Truncate, CreateNew bool

	Mode *uint32 // of a new file, before the umask; nil: 0666
}

func (o *OpenOptions) fields() []field {
	return []field{
		required("read", truth(&o.Read)),
		required("write", truth(&o.Write)),
		required("append", truth(&o.Append)),
		required("create", truth(&o.Create)),
		required("truncate", truth(&o.Truncate)),
		required("create_new", truth(&o.CreateNew)),
		defaulted("mode", optionalNumber(&o.Mode)),
	}
}

// FSData is a piece of a file, in either direction. Empty data from the host ends the
// file. The guest never sends empty data.
type FSData struct {
	Data []byte
}

// Type returns TypeFSData.
func (*FSData) Type() Type { return TypeFSData }

func (m *FSData) fields() []field {
	return []field{required(dataField, data(&m.Data))}
}
