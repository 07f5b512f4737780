package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/bootenv"
)

// A Configuration is the way in which the guest receives its configuration.
type Configuration uint8

const (
	// ByBootstrap sends one message over the port (protocol generation 7).
	ByBootstrap Configuration = iota
	// ByEnvironment sets variables on the kernel command line (generation 4).
	ByEnvironment
)

// AutoInit is an Init that makes the machine look for one itself: /sbin/init, or
// systemd at its usual paths.
const AutoInit = "auto"

// Accel chooses what executes the guest.
type Accel string

// The accelerators.
const (
	AccelAuto Accel = ""    // KVM if it works, software emulation otherwise.
	AccelKVM  Accel = "kvm" // The processor's own virtualization.
	AccelTCG  Accel = "tcg" // QEMU's emulation in software, some ten times slower.
)

// DefaultCPUs and DefaultMemoryMiB are the default size of a machine: enough for a
// compiler, and small enough for dozens of machines on a host.
const (
	DefaultCPUs      = 1
	DefaultMemoryMiB = 512
)

func init() {
	hooks.Of = func(config any) *hooks.Machine {
		c, ok := config.(*Config)
		if !ok {
			return nil
		}
		return &c.hooks
	}
}

// A Config describes the machine to start. The zero value is a small machine. Its JSON
// holds only the fields that describe the machine, not those that concern this program.
type Config struct {
	// Platform is OS/ARCHITECTURE[/VARIANT], such as linux/arm64: of the machine and its
	// image. "" is this host's. Machines for another architecture are emulated; their
	// small root needs [Cache.FetchBusybox].
	Platform string `json:"platform,omitempty"`

	Kernel string `json:"kernel,omitempty"` // A name in the cache or a file; "" is the cache's default.
	Root   string `json:"root,omitempty"`   // A directory, shared as it is; "" is a private busybox root.
	// OwnRoot says that nobody else on the host can reach Root or write to it. The guest
	// may then make device nodes and keep extended attributes there, and under emulation
	// it caches what it has read. It sees files that are added later.
	OwnRoot bool `json:"own_root,omitempty"`
	// Image replaces Root: a name or ID in the cache, or any source for [Cache.UseImage].
	// The image's user, environment and directory are the defaults of commands; with
	// ByEnvironment only its user is.
	Image string `json:"image,omitempty"`
	Upper Upper  `json:"upper,omitzero"` // Where the machine's writes to Image go.
	Cache *Cache `json:"-"`              // The cache of kernels and images; nil means the user's, see [OpenCache].
	Agent string `json:"-"`              // The guest's binary; "" means the result of FindAgent.

	CPUs      int   `json:"cpus,omitempty"`       // 0 means DefaultCPUs.
	MemoryMiB int   `json:"memory_mib,omitempty"` // 0 means DefaultMemoryMiB.
	Accel     Accel `json:"accel,omitempty"`
	// Warm says whether the machine may start from a template. See [Machine.Cold].
	Warm WarmStart `json:"warm,omitempty"`

	Shares []Share `json:"shares,omitempty"` // Directories that the guest does not mount by itself.
	Mounts []Mount `json:"mounts,omitempty"`
	Tmpfs  []Tmpfs `json:"tmpfs,omitempty"`
	Disks  []Disk  `json:"disks,omitempty"`

	// TranslationMiB bounds the memory on the host for translated code in software
	// emulation, 16 at least; 0 means QEMU's choice, up to 1 GiB. A boot and a shell fit
	// into 32; QEMU forgets all translated code when there is no room for more.
	TranslationMiB int `json:"-"`
	// Taps are network cards on interfaces of the host; they come after the card of
	// Network.
	Taps []Tap `json:"-"`

	// Modules are additional kernel modules to load, for a kernel with modules.
	Modules []string `json:"modules,omitempty"`

	// Runtime is the directory that the guest sees at /.msb: scripts in scripts/,
	// certificate authorities in tls/ca.pem and tls/host-cas.pem. "" means an empty
	// private one.
	Runtime string `json:"runtime,omitempty"`

	// Network gives the guest a network card on QEMU's user network, which uses this
	// host's connections. Without it clients can still connect to servers in the guest:
	// see client.Client.DialContext.
	Network bool `json:"network,omitempty"`
	// ReadOnlyRoot keeps the guest from writing to its root; the host enforces it. The
	// caller's root directory must then contain the mount points. Over an image the
	// agent makes the root read-only after the boot, and the boot's own writes are in
	// memory unless Upper names a disk. A command with CAP_SYS_ADMIN could undo that in
	// this life of the machine: see Restricted.
	ReadOnlyRoot bool `json:"readonly_root,omitempty"`

	// Hosts are entries NAME=ADDRESS for the guest's /etc/hosts; the address
	// host-gateway means this host on the user network. Resolver is the content of its
	// /etc/resolv.conf.
	Hosts    []string `json:"hosts,omitempty"`
	Resolver Resolver `json:"resolver,omitzero"`

	Hostname      string         `json:"hostname,omitempty"` // "" keeps the kernel's.
	User          string         `json:"user,omitempty"`     // Default USER[:GROUP] of commands; "" means root.
	Dir           string         `json:"dir,omitempty"`      // Default directory of commands; "" means /.
	Env           []string       `json:"env,omitempty"`
	Limits        []client.Limit `json:"limits,omitempty"`
	Restricted    bool           `json:"restricted,omitempty"` // Commands cannot gain privileges and lack CAP_SYS_ADMIN.
	Configuration Configuration  `json:"configuration,omitempty"`
	// Generation is the protocol's generation for a machine that is configured by
	// message, and thus the newest that our agent uses: 7, 8 for raw records, or 9 for
	// freezing and the growth of the root's disk too. 0 means 9. If it is set to 8 or more,
	// raw records use a second port, unless the machine has an Init, a PortSocket or Survive.
	Generation int `json:"generation,omitempty"`

	// Socket is the path of a Unix socket on which the running machine serves other
	// clients (client.Connect), at most 127 besides Machine.Client; "" means none.
	// Every client is root in the guest, so only the owner may connect.
	Socket string `json:"-"`
	// Log is called with a line for each client that the machine disconnects, and why,
	// and for a machine that is started once more (see Start). It must neither block
	// nor use the machine; nil is allowed.
	Log func(line string) `json:"-"`

	// Init is the program that becomes the first process when the machine is up; the
	// agent then runs as another process. It is an absolute path in the machine, or
	// AutoInit. "" keeps the agent as the first process.
	Init     string   `json:"init,omitempty"`
	InitArgs []string `json:"init_args,omitempty"` // After its name.
	InitEnv  []string `json:"init_env,omitempty"`  // KEY=VALUE, added to the environment of commands.
	InitDir  string   `json:"init_dir,omitempty"`  // "" means /.

	// PortSocket is the path of a Unix socket for the agent's port: a new host process
	// can use it to reconnect to a machine with an Init. "" means a link that ends with
	// the host process.
	PortSocket string `json:"-"`

	// Survive is a directory for the sockets and records by which another process can take
	// the machine over with [Adopt], as Files may be; nobody else may enter it. QEMU and
	// virtiofsd then outlive the process that starts the machine, even one that is killed,
	// until that or an adopting process ends the machine. It needs Socket and Files, and
	// excludes pauses, snapshots and templates. "" means a machine that ends with its process.
	Survive string `json:"-"`

	Console     io.Writer `json:"-"`                      // Receives the guest's console; must not block.
	ConsoleFile string    `json:"console_file,omitempty"` // Receives the console, up to a bound; "" means none.
	Debug       []string  `json:"debug,omitempty"`        // Topics that the agent prints to the console: "boot", "plan".
	Affinity    []int     `json:"affinity,omitempty"`     // Host CPUs to run on; empty means all.

	// Files is a directory for the machine's private files, made if missing and kept. A
	// later machine with the same directory continues with the same private root. ""
	// means a temporary directory, removed with the machine.
	Files string `json:"-"`

	// Keep keeps the private files of a machine that did not boot, so that its command
	// can be repeated by hand.
	Keep bool `json:"keep,omitempty"`

	hooks hooks.Machine // Hooks for tests.
}

func (c Config) withDefaults() Config {
	if c.CPUs == 0 {
		c.CPUs = DefaultCPUs
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = DefaultMemoryMiB
	}
	return c
}

// Check validates the configuration before anything is made: all fields, the paths on
// this host that they name, and this host's memory.
func (c Config) Check() error { return c.withDefaults().check() }

func (c Config) check() error {
	if _, err := c.accel(); err != nil {
		return err
	}
	if err := c.checkPlatform(); err != nil {
		return err
	}
	if err := c.Warm.check(); err != nil {
		return err
	}
	if c.Root != "" {
		if info, err := os.Stat(c.Root); err != nil {
			return fmt.Errorf("root: %w", err)
		} else if !info.IsDir() {
			return fmt.Errorf("root %s: not a directory", c.Root)
		}
	}
	if err := c.checkUpper(); err != nil {
		return err
	}
	for _, entry := range slices.Concat(c.Env, c.InitEnv) {
		if key, _, ok := strings.Cut(entry, "="); !ok || key == "" {
			return fmt.Errorf("environment entry %q: want KEY=VALUE", entry)
		}
	}
	if err := relay.CheckPath(c.Socket); err != nil {
		return err
	}
	if c.Configuration == ByEnvironment && c.Dir != "" {
		return errors.New("a default directory cannot be configured by environment")
	}
	if c.Configuration == ByEnvironment && c.InitDir != "" {
		return errors.New("the directory of the init cannot be configured by environment")
	}
	if info, _ := wire.Lookup(wire.TypeBootstrap); c.Generation != 0 && (c.Generation < int(info.Since) || c.Generation > int(wire.Newest)) {
		return fmt.Errorf("generation %d: want %d to %d", c.Generation, info.Since, wire.Newest)
	}
	for _, check := range []func() error{c.checkSize, c.checkDevices, c.checkNaming, c.checkPlan, c.checkSurvive} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) accel() (vmm.Accel, error) {
	switch c.Accel {
	case "":
		return vmm.Auto, nil
	case "kvm":
		return vmm.KVM, nil
	case "tcg":
		return vmm.TCG, nil
	}
	return vmm.Auto, fmt.Errorf("accelerator %q: want kvm or tcg", c.Accel)
}

// words returns the configuration for the kernel command line.
func (c Config) words() (words []string, err error) {
	if len(c.Debug) > 0 {
		words = append(words, bootenv.Word(bootenv.Debug, strings.Join(c.Debug, bootenv.Part)))
	}
	words = append(words, c.namingWords()...)
	if c.Configuration == ByEnvironment {
		b := *c.bootstrap()
		b.DefaultEnv = nil // They are passed like all other variables.
		said, err := bootenv.Encode(&b)
		if err != nil {
			return nil, fmt.Errorf("configuration by environment: %w", err)
		}
		words = slices.Concat(words, said, c.Env)
	}
	return append(words, c.hooks.ExtraWords...), nil
}

// bootstrap returns the configuration as a message.
func (c Config) bootstrap() *wire.Bootstrap {
	if c.hooks.Bootstrap != nil {
		return c.hooks.Bootstrap
	}
	b := &wire.Bootstrap{
		Hostname:   optional(c.Hostname),
		User:       optional(PlainUser(c.User)),
		DefaultCwd: optional(c.Dir),
		Rlimits:    wire.RlimitsOf(c.Limits),

		StoredCredit: true, // Clients of one machine must not wait for each other's commands.
	}
	if c.Restricted {
		b.SecurityProfile = wire.ProfileRestricted
	}
	b.DefaultEnv = variables(c.Env)
	if c.Init != "" {
		b.HandoffInit = &wire.HandoffInit{
			Cmd: c.Init, Args: c.InitArgs, Cwd: optional(c.InitDir), Env: variables(c.InitEnv),
		}
	}
	c.mounts(b)
	return b
}

func variables(entries []string) (all []wire.EnvVar) {
	for _, entry := range entries {
		key, value, _ := strings.Cut(entry, "=")
		all = append(all, wire.EnvVar{Key: key, Value: value})
	}
	return all
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
