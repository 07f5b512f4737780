package wire

// Bootstrap is everything that a host of generation 7 or later tells the guest
// before it boots: the first frame on the port. Decoding checks shapes and the
// closed sets (kinds, security profile). The planner decides what the values mean and
// whether they can be used (docs/BOOT.md section 5).
//
// A nil pointer means that the host left the field out or wrote null. An empty string
// is a value of its own. Empty lists decode as nil.
type Bootstrap struct {
	BlockRoot       BlockRoot // *DiskImage, *OCIErofs, or nil: the root stays the one that the kernel mounted
	DirMounts       []DirMount
	FileMounts      []FileMount
	DiskMounts      []DiskMount
	TmpfsMounts     []TmpfsMount
	Hostname        *string
	HostAlias       *string
	Network         *Network
	Rlimits         []Rlimit
	User            *string
	DefaultCwd      *string
	DefaultEnv      []EnvVar
	SecurityProfile SecurityProfile // "" when left out, which means ProfileDefault
	HandoffInit     *HandoffInit

	// Fresh, an extension of ours, is for a guest that was started from a template,
	// and so has the same memory as other guests. The agent applies it before it does
	// anything else, and confirms it with Ready.Fresh.
	Fresh *Fresh

	// StoredCredit, an extension of ours, asks an agent that counts what it is sent to
	// give the credit for input back when it has stored the input, and not only when it
	// has been read. What one command leaves unread then takes no credit from others.
	StoredCredit bool
}

// Fresh has the values by which a guest comes to differ from others with the same
// memory.
type Fresh struct {
	Entropy       [64]byte // of the host's random generator, for this guest alone
	UnixTimeNanos uint64   // the wall clock

	// Disks are the block devices, such as /dev/vdc, that the guest must look at anew:
	// it has met others in their place. nil is none.
	Disks []string
}

// BlockRoot is where the guest's root file system comes from: *DiskImage or *OCIErofs.
//
//sumtype:decl
type BlockRoot interface {
	blockRoot() (kind string, content entries)
}

// DiskImage is a root on one block device that holds a whole file system.
type DiskImage struct {
	Device string  // absolute path, such as /dev/vda
	FSType *string // nil: try the types that the kernel knows
}

// OCIErofs is a root made of a read-only erofs image and a writable layer over it.
type OCIErofs struct {
	Lower string // absolute path of the erofs device
	Upper Upper  // never nil after decoding
}

// Upper is the writable layer of an OCIErofs: *UpperDevice or *UpperTmpfs.
//
//sumtype:decl
type Upper interface {
	upper() (kind string, content entries)
}

// UpperDevice keeps the writable layer on a block device.
type UpperDevice struct {
	Device string
	FSType string
}

// UpperTmpfs keeps the writable layer in memory.
type UpperTmpfs struct {
	SizeMiB *uint32 // nil: the kernel's default, half of memory
}

// MountFlags are the options that every kind of mount shares. Absent ones are false.
type MountFlags struct {
	ReadOnly bool
	NoExec   bool
	NoSuid   bool
	NoDev    bool
}

// DirMount is a virtiofs share mounted on a directory.
type DirMount struct {
	Tag       string
	GuestPath string
	Flags     MountFlags
}

// FileMount is one file of a virtiofs share, bound to a path.
type FileMount struct {
	Tag       string
	Filename  string
	GuestPath string
	Flags     MountFlags
}

// DiskMount is a block device, found by its virtio serial, mounted on a directory.
type DiskMount struct {
	ID        string
	GuestPath string
	FSType    *string
	Flags     MountFlags
}

// TmpfsMount is a file system in memory.
type TmpfsMount struct {
	Path    string
	SizeMiB *uint32
	Mode    *uint32
	Flags   MountFlags
}

// Network describes the guest's one network interface.
type Network struct {
	Interface string
	MAC       [6]byte
	MTU       uint16
	IPv4      *IPv4
	IPv6      *IPv6
}

// IPv4 is a static address with its gateway and name server, in network order.
type IPv4 struct {
	Address   [4]byte
	PrefixLen uint8
	Gateway   [4]byte
	DNS       *[4]byte
}

// IPv6 is a static address with its gateway and name server, in network order.
type IPv6 struct {
	Address   [16]byte
	PrefixLen uint8
	Gateway   [16]byte
	DNS       *[16]byte
}

// Rlimit is one resource limit. The values are raw: 1<<64-1 means no limit.
type Rlimit struct {
	Resource string `json:"resource"` // without the RLIMIT_ prefix, such as "nofile"; case does not matter
	Soft     uint64 `json:"soft"`
	Hard     uint64 `json:"hard"`
}

// EnvVar is one environment variable.
type EnvVar struct {
	Key   string
	Value string
}

// SecurityProfile says how much privilege commands keep.
type SecurityProfile string

// The security profiles. An unknown one does not decode.
const (
	ProfileDefault    SecurityProfile = "default"
	ProfileRestricted SecurityProfile = "restricted" // no new privileges, no CAP_SYS_ADMIN
)

// HandoffInit names the program that becomes PID 1 once the guest is set up.
type HandoffInit struct {
	Cmd  string // absolute path, or "auto" to search for one
	Args []string
	Cwd  *string
	Env  []EnvVar
}
