package bootenv

// The variables that configure a machine (boot section 4). With one of them that has
// a value, a machine waits for no message.
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

// The variables of our own agent. They are a matter of the machine, whichever way
// configures it; the hosts of the reference set none.
const (
	// Root says which file system to make the root before anything else, as
	// TYPE:SOURCE ("virtiofs:root"). It serves machines that start from an initramfs
	// or from a root with nothing but agentd in it; without it the root stays the one
	// that the kernel has mounted.
	Root = "AGENTD_ROOT"
	// Share says, with the value [ShareInMemory], that the monitor shares no directory,
	// as those without virtiofs: then memory takes its place.
	Share         = "AGENTD_SHARE"
	ShareInMemory = "tmpfs"
	// Seal says, with the value [SealRoot], that nobody writes to the root after the
	// boot. The boot has to: it makes the mount points. Where the host can keep the root
	// from being written to, Seal is not needed.
	Seal     = "AGENTD_SEAL"
	SealRoot = "root"
	// Debug lists what to print to the console, joined by commas: "boot" (the time of
	// each step), "plan" (what is going to be done).
	Debug = "AGENTD_DEBUG"
	// Hosts has lines for /etc/hosts: NAME=ADDRESS, joined by commas.
	Hosts = "AGENTD_HOSTS"
	// Resolver has the resolver's lines (resolv.conf(5)): nameserver=ADDRESS,
	// search=DOMAIN and option=WORD, joined by commas, each as often as it is wanted.
	// With a name server it takes the place of those of the network.
	Resolver = "AGENTD_RESOLVER"
)

// OwnPrefix begins the names of our own agent's variables. Commands inherit none.
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
