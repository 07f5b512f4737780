package pax

// The bounds of one header.
const (
	// MaxName is the longest name of a member or target of a link: longer than any path of
	// Linux (PATH_MAX is 4,096 with the final NUL).
	MaxName = 4096

	// MaxRecords is the most bytes of the PAX records of a member. The names of the extended
	// attributes of a file have at most 64 KiB and each value too (xattr(7)). A file has more
	// only if it has many long values.
	MaxRecords = 1 << 20

	// MaxExtents is the most pieces of data in a file with holes. Its map has some 20 bytes
	// for each.
	MaxExtents = 16 << 10
)

// A Kind is the type of a member, as its header has it.
type Kind byte

// The kinds of members.
const (
	Regular     Kind = '0'
	HardLink    Kind = '1' // A second name of an earlier member.
	Symlink     Kind = '2'
	CharDevice  Kind = '3'
	BlockDevice Kind = '4'
	Directory   Kind = '5'
	Fifo        Kind = '6'
)

// Known reports whether a kind is one of the constants.
func (k Kind) Known() bool { return k >= Regular && k <= Fifo }

// A Header describes one member.
type Header struct {
	Name  string // Without a slash at the end; its bytes need not be UTF-8.
	Kind  Kind
	Mode  uint32 // Permissions with setuid, setgid and sticky (07777).
	UID   uint32
	GID   uint32
	Size  int64  // Of a regular file, holes included; 0 of others.
	Sec   int64  // Time of the last change, in seconds since 1970, and
	Nsec  int64  // nanoseconds.
	Link  string // Target of a link, or the earlier name of a hard link.
	Major uint32 // Of a device.
	Minor uint32

	Xattrs []Xattr // In the order of the archive.

	// Extents are the pieces of a file with holes that are stored, in ascending order. Nil
	// means that the file is stored whole.
	Extents []Extent

	// Records are PAX records of other keys, which the writer writes as they are. Reader
	// returns the records whose keys begin with [OwnPrefix].
	Records []Xattr
}

// OwnPrefix begins the keys of records that only this project understands.
const OwnPrefix = "AGENTD."

// An Xattr is an extended attribute, or a record.
type Xattr struct{ Name, Value string }

// An Extent is a piece of a file.
type Extent struct{ Offset, Length int64 }

// Stored returns how many bytes of the member's contents the archive has.
func (h *Header) Stored() (n int64) {
	if h.Kind != Regular {
		return 0
	}
	if h.Extents == nil {
		return h.Size
	}
	for _, e := range h.Extents {
		n += e.Length
	}
	return n
}

const (
	block    = 512
	xattrKey = "SCHILY.xattr."
)

// The fields of a ustar header, as offset and length (tar.h of POSIX).
type span struct{ at, size int }

var (
	fieldName     = span{0, 100}
	fieldMode     = span{100, 8}
	fieldUID      = span{108, 8}
	fieldGID      = span{116, 8}
	fieldSize     = span{124, 12}
	fieldMtime    = span{136, 12}
	fieldChecksum = span{148, 8}
	fieldLink     = span{157, 100}
	fieldMajor    = span{329, 8}
	fieldMinor    = span{337, 8}
	fieldPrefix   = span{345, 155}
)

const (
	atKind  = 156
	atMagic = 257
	magic   = "ustar\x0000"
)

func (s span) of(b []byte) []byte { return b[s.at : s.at+s.size] }

// checksum is the sum of a header's bytes with its own field as spaces.
func checksum(b []byte) (sum int64) {
	for _, c := range b {
		sum += int64(c)
	}
	for _, c := range fieldChecksum.of(b) {
		sum += ' ' - int64(c)
	}
	return sum
}

// padding returns how many bytes lead from n to the end of a block.
func padding(n int64) int64 { return -n & (block - 1) }
