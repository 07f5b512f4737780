package tree

import (
	"errors"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/internal/pax"
)

// Records of members, besides those of PAX.
const (
	// SizeRecord has the size of a file in an archive without contents.
	SizeRecord = pax.OwnPrefix + "size"
)

// Pack says what is packed.
type Pack struct {
	// Names are the members to pack, without what is below them; nil packs the whole tree.
	Names []string

	// After is a member after which the archive begins, in the order of an archive; "" is
	// the beginning. So an interrupted transfer goes on.
	After string

	Exclude Patterns // Names that are left out.

	Bare      bool // Leave contents out; the size is in a record ([SizeRecord]).
	Xattrs    bool // Extended attributes.
	Links     bool // Pack a file's second name as a link to the first.
	Devices   bool // Devices and fifos; they are reported otherwise.
	OneDevice bool // Leave out what is on other file systems, such as /proc.

	Packed func(h *pax.Header) // Called for each member; may be nil.
}

// ErrSocket says that no archive has sockets: they mean nothing without their server.
var ErrSocket = errors.New("left out: is a socket")

// ErrDevice says that devices and fifos were not asked for.
var ErrDevice = errors.New("left out: is a device or fifo")

// Unpack says how an archive is unpacked.
type Unpack struct {
	Owners  bool   // Set owners; otherwise a replaced file's owner is kept.
	Xattrs  bool   // Set extended attributes.
	Devices bool   // Make devices and fifos; they are reported otherwise.
	Clear   uint32 // Mode bits that are not set.

	// Replace lets a directory replace other files, and other files an empty directory.
	Replace bool

	// Sync writes files to their disk before they get their names, so that a machine that is
	// killed keeps only complete files. Files of a batch share a sync.
	Sync bool

	// Accept is asked for each member but the top directory; nil accepts all.
	Accept func(h *pax.Header) bool

	// Done is called after each member, Wrote after n bytes of contents. They may be nil.
	Done  func(h *pax.Header)
	Wrote func(n int)
}

// TempPrefix begins the names of incomplete files.
const TempPrefix = ".agentctl-"

// Split returns the parts of a member's name; none for the top directory. It refuses a name
// that would lead out of the directory.
func Split(name string) ([]string, error) {
	if name == "." {
		return nil, nil
	}
	parts := strings.Split(name, "/")
	for _, part := range parts {
		if part == "" || part == "." || part == ".." {
			return nil, &pax.FormatError{Why: "the name " + strconv.Quote(name) + " leads out of the directory"}
		}
	}
	return parts, nil
}
