package bootenv

// The variables that configure a machine (boot section 4). If at least one of them has
// a value, the machine does not wait for a message.
const (
	BlockRoot       = "MSB_BLOCK_ROOT"
	DirMounts       = "MSB_DIR_MOUNTS"
	FileMounts      = "MSB_FILE_MOUNTS"
	DiskMounts      = "MSB_DISK_MOUNTS"
	Tmpfs           = "MSB_TMPFS"
	Hostname        = "MSB_HOSTNAME"
	HostAlias       = "MSB_HOST_ALIAS"
	Net             = "MSB_NET"
	NetIPv4         = "MSB_NET_IPV4"
	NetIPv6         = "MSB_NET_IPV6"
	Rlimits         = "MSB_RLIMITS"
	SecurityProfile = "MSB_SECURITY_PROFILE"
	HandoffInit     = "MSB_HANDOFF_INIT"
	HandoffInitArgs = "MSB_HANDOFF_INIT_ARGS"
	HandoffInitEnv  = "MSB_HANDOFF_INIT_ENV"
	User            = "MSB_USER"
)

// The variables of our own agent. They describe the machine, and work with both ways of
// configuration. The reference's hosts set none of them.
const (
	// Root is the file system that becomes the root before anything else, as
	// TYPE:SOURCE ("virtiofs:root"). Machines need it that start from an initramfs, or
	// from a root with only agentd in it. Without it the root stays the one that the
	// kernel has mounted.
	Root = "AGENTD_ROOT"
	// Share has the value [ShareInMemory] if the monitor shares no directory, for
	// example because it has no virtiofs. A file system in memory then takes its place.
	Share         = "AGENTD_SHARE"
	ShareInMemory = "tmpfs"
	// Seal has the value [SealRoot] if the root is read-only after the boot. During the
	// boot it is writable, because the agent makes the mount points. Seal is not needed
	// if the host itself refuses writes to the root.
	Seal     = "AGENTD_SEAL"
	SealRoot = "root"
	// Debug lists what the agent prints on the console, joined by commas: "boot" (the
	// time of each step), "plan" (the steps, before they are done).
	Debug = "AGENTD_DEBUG"
	// Hosts has lines for /etc/hosts: NAME=ADDRESS, joined by commas.
	Hosts = "AGENTD_HOSTS"
	// Resolver has the resolver's lines (resolv.conf(5)): nameserver=ADDRESS,
	// search=DOMAIN and option=WORD, joined by commas; each may be repeated. If a name
	// server is among them, the network's name servers are not used.
	Resolver = "AGENTD_RESOLVER"
)

// OwnPrefix begins the names of our own agent's variables. Commands inherit none of
// them.
const OwnPrefix = "AGENTD_"

// The separators. No form can quote one.
const (
	Entry = ";"    // Joins the entries of a list of mounts or limits.
	Part  = ","    // Joins key=value parts, and the options of a mount.
	Field = ":"    // Joins the fields of a mount, and the two values of a limit.
	Unit  = "\x1f" // Joins arguments and variables of an init: ASCII's unit separator.
)

// The values of "kind" in [BlockRoot].
const (
	KindDiskImage = "disk-image"
	KindOCIErofs  = "oci-erofs"
)

// Word is a variable as the command line has it.
func Word(name, value string) string { return name + "=" + value }
