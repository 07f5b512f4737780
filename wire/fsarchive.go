package wire

// fsExtensions are the operations that agents have only if they announce their
// extension (Ready.Extensions): ExtensionArchive, ExtensionFiles for OpCall and OpFileCall,
// and ExtensionWatch for OpWatch.
var fsExtensions = alternatives[FSOp]{
	{"Pack", func() FSOp { return new(OpPack) }},
	{"Unpack", func() FSOp { return new(OpUnpack) }},
	{"Call", func() FSOp { return new(OpCall) }},
	{"FileCall", func() FSOp { return new(OpFileCall) }},
	{"Watch", func() FSOp { return new(OpWatch) }},
}

// fsExtensionResults are the results of these operations.
var fsExtensionResults = alternatives[FSResult]{
	{"Archive", func() FSResult { return new(ResultArchive) }},
	{"Call", func() FSResult { return new(ResultCall) }},
}

// OpPack sends a directory as an archive, as the data of OpRead. Its result is a
// *ResultArchive. It needs an offer of raw records.
type OpPack struct {
	Path    string
	Names   []string // Only these, without what is below them; nil packs the tree.
	After   string   // Begins after this member; "" is the beginning.
	Exclude []string // Patterns of names that are left out.

	Bare      bool // Without contents.
	Xattrs    bool
	Links     bool // Second names of files as such.
	Devices   bool
	OneDevice bool // Nothing of other file systems.
}

func (o *OpPack) op() (string, value) {
	return "Pack", entries{
		required("path", text(&o.Path)),
		omitted("names", texts(&o.Names)),
		omitted("after", text(&o.After)),
		omitted("exclude", texts(&o.Exclude)),
		omitted("bare", truth(&o.Bare)),
		omitted("xattrs", truth(&o.Xattrs)),
		omitted("links", truth(&o.Links)),
		omitted("devices", truth(&o.Devices)),
		omitted("one_device", truth(&o.OneDevice)),
	}
}

// OpUnpack makes files from an archive beneath a directory, which comes as the data of
// OpWrite. Its result is a *ResultArchive. It needs an offer of raw records.
type OpUnpack struct {
	Path    string
	Owners  bool
	Xattrs  bool
	Devices bool
	Replace bool // Replace files of other types.
}

func (o *OpUnpack) op() (string, value) {
	return "Unpack", entries{
		required("path", text(&o.Path)),
		omitted("owners", truth(&o.Owners)),
		omitted("xattrs", truth(&o.Xattrs)),
		omitted("devices", truth(&o.Devices)),
		omitted("replace", truth(&o.Replace)),
	}
}

// ResultArchive says what was packed or unpacked.
type ResultArchive struct {
	Entries  uint64
	Bytes    uint64           // Of contents.
	Problems []ArchiveProblem // The first members that were left out or are incomplete.
	More     uint64           // How many more there were.
}

func (r *ResultArchive) result() (string, value) {
	return "Archive", entries{
		required("entries", num(&r.Entries)),
		required("bytes", num(&r.Bytes)),
		required("problems", objects(&r.Problems)),
		required("more", num(&r.More)),
	}
}

// An ArchiveProblem is a problem with one member.
type ArchiveProblem struct {
	Op    string
	Name  string
	Error string // In the form of FSResponse.Error.
}

func (p *ArchiveProblem) fields() []field {
	return []field{
		required("op", text(&p.Op)),
		required("name", text(&p.Name)),
		required("error", text(&p.Error)),
	}
}
