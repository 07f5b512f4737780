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

// A Configuration is the way in which the guest is told what to bring up.
type Configuration uint8

const (
	// ByBootstrap sends one message over the port (protocol generation 7).
	ByBootstrap Configuration = iota
	// ByEnvironment sets variables on the kernel command line (generation 4).
	ByEnvironment
)

// AutoInit is the Init of a machine that looks for one itself: /sbin/init, or systemd
// where distributions have it.
const AutoInit = "auto"

// Accel chooses what executes the guest.
type Accel string

// What executes a guest.
const (
	AccelAuto Accel = ""    // KVM where it works, and software emulation elsewhere.
	AccelKVM  Accel = "kvm" // The processor's own virtualization.
	AccelTCG  Accel = "tcg" // QEMU's emulation in software, some ten times slower.
)

// DefaultCPUs and DefaultMemoryMiB are the size of a machine whose Config names
// none: enough for a compiler, little enough for dozens of machines on a host.
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

// A Config says what machine to start. The zero value is a small machine. As JSON
// it keeps what it says of the machine, without what it says of this program.
type Config struct {
	Kernel string `json:"kernel,omitempty"` // A name in the cache or a file; "" is the cache's default.
	Root   string `json:"root,omitempty"`   // A directory, shared as it is; "" is a private busybox root.
	// OwnRoot says of Root that nobody else on the host comes by it or writes to it. The
	// guest may then make device nodes and keep extended attributes there, and keeps
	// what it has read under emulation. What is put into it later is seen.
	OwnRoot bool `json:"own_root,omitempty"`
	// Image, in place of Root: a name or ID of the cache, else what [Cache.UseImage] takes.
	// Its user, environment and directory are those of commands that name none; by
	// environment, only its user.
	Image string `json:"image,omitempty"`
	Upper Upper  `json:"upper,omitzero"` // What takes the writes to Image.
	Cache *Cache `json:"-"`              // Of kernels and images; nil is the user's, see [OpenCache].
	Agent string `json:"-"`              // The guest's binary; "" is what FindAgent finds.

	CPUs      int   `json:"cpus,omitempty"`       // 0 is DefaultCPUs.
	MemoryMiB int   `json:"memory_mib,omitempty"` // 0 is DefaultMemoryMiB.
	Accel     Accel `json:"accel,omitempty"`
	// Warm says whether the machine may start from a template. See [Machine.Cold].
	Warm WarmStart `json:"warm,omitempty"`

	Shares []Share `json:"shares,omitempty"` // Directories that the guest is not told to mount.
	Mounts []Mount `json:"mounts,omitempty"`
	Tmpfs  []Tmpfs `json:"tmpfs,omitempty"`
	Disks  []Disk  `json:"disks,omitempty"`

	// Taps are network cards on interfaces of the host, behind the one of Network.
	Taps []Tap `json:"-"`

	// Modules are more modules of the kernel to load, of a kernel that has its own.
	Modules []string `json:"modules,omitempty"`

	// Runtime is the directory that the guest has at /.msb: scripts in scripts/,
	// certificate authorities in tls/ca.pem and tls/host-cas.pem. "" is a private
	// one that holds nothing.
	Runtime string `json:"runtime,omitempty"`

	// Network gives the guest a network card with this host's connections, by QEMU
	// alone. Without it the guest still serves connections to itself: see
	// client.Client.DialContext.
	Network bool `json:"network,omitempty"`
	// ReadOnlyRoot keeps the guest from writing to its root, on the host. A root
	// directory of the caller's must have the mount points. Over an image the agent
	// does it when the machine has booted, and what the boot has written is in memory
	// unless Upper names a disk. A command with CAP_SYS_ADMIN could undo that, for
	// this life of the machine: see Restricted.
	ReadOnlyRoot bool `json:"readonly_root,omitempty"`

	// Hosts are lines of the guest's /etc/hosts, NAME=ADDRESS, and Resolver is what its
	// /etc/resolv.conf says; the word host-gateway is this host by its user network.
	Hosts    []string `json:"hosts,omitempty"`
	Resolver Resolver `json:"resolver,omitzero"`

	Hostname      string         `json:"hostname,omitempty"` // "" leaves the kernel's.
	User          string         `json:"user,omitempty"`     // USER[:GROUP] of commands that name none; "" is root.
	Dir           string         `json:"dir,omitempty"`      // Directory of commands that name none; "" is /.
	Env           []string       `json:"env,omitempty"`
	Limits        []client.Limit `json:"limits,omitempty"`
	Restricted    bool           `json:"restricted,omitempty"` // Commands gain no privileges and lack CAP_SYS_ADMIN.
	Configuration Configuration  `json:"configuration,omitempty"`
	// Generation is that of the protocol in which a machine is configured by message,
	// and so the newest that our agent speaks: 7, or 8 for raw records. 0 is the newest.
	// A machine that names 8 or more has them go by a port of their own, unless it has
	// an Init or a PortSocket.
	Generation int `json:"generation,omitempty"`

	// Socket is the path of a Unix socket on which the running machine serves
	// other clients (client.Connect), 127 at most beside Machine.Client; "" is none.
	// Who can connect can do as root in the guest: only the owner may.
	Socket string `json:"-"`
	// Log is given a line for each client that is disconnected against its will,
	// and why, and for a machine that is started once more (see Start). It must neither
	// block nor use the machine; nil is nobody.
	Log func(line string) `json:"-"`

	// Init is the program that becomes the first process when the machine is up,
	// with the agent beside it: an absolute path in the machine, or AutoInit. ""
	// leaves the agent the first process.
	Init     string   `json:"init,omitempty"`
	InitArgs []string `json:"init_args,omitempty"` // Behind its name.
	InitEnv  []string `json:"init_env,omitempty"`  // KEY=VALUE, over the environment of commands.
	InitDir  string   `json:"init_dir,omitempty"`  // "" is /.

	// PortSocket is the name of a Unix socket for the agent's port: a host that
	// has gone can come back by it to a machine with an Init. "" is a link that
	// ends with the host.
	PortSocket string `json:"-"`

	Console     io.Writer `json:"-"`                      // Is given the guest's console; must not block.
	ConsoleFile string    `json:"console_file,omitempty"` // Takes the console, bounded; "" is none.
	Debug       []string  `json:"debug,omitempty"`        // What the agent prints to the console: "boot", "plan".
	Affinity    []int     `json:"affinity,omitempty"`     // Host CPUs to run on; empty is all.

	// Files is a directory for the machine's private files, made if missing and
	// kept: a machine with the same directory goes on with the private root of the
	// one before. "" is a temporary one, removed with the machine.
	Files string `json:"-"`

	// Keep leaves the private files of a machine that did not boot where they
	// are, so that its command can be repeated by hand.
	Keep bool `json:"keep,omitempty"`

	hooks hooks.Machine // Of tests.
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

// Check refuses what cannot work before anything is made: it looks at the whole of the
// configuration, at the places on this host that it names, and at this host's memory.
func (c Config) Check() error { return c.withDefaults().check() }

func (c Config) check() error {
	if _, err := c.accel(); err != nil {
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
	for _, check := range []func() error{c.checkSize, c.checkDevices, c.checkNaming, c.checkPlan} {
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

// words are the configuration for the kernel command line.
func (c Config) words() (words []string, err error) {
	if len(c.Debug) > 0 {
		words = append(words, bootenv.Word(bootenv.Debug, strings.Join(c.Debug, bootenv.Part)))
	}
	words = append(words, c.namingWords()...)
	if c.Configuration == ByEnvironment {
		b := *c.bootstrap()
		b.DefaultEnv = nil // They are variables like any other.
		said, err := bootenv.Encode(&b)
		if err != nil {
			return nil, fmt.Errorf("configuration by environment: %w", err)
		}
		words = slices.Concat(words, said, c.Env)
	}
	return append(words, c.hooks.ExtraWords...), nil
}

// rlimits says limits in the protocol's words.
func rlimits(all []client.Limit) (l []wire.Rlimit) {
	for _, limit := range all {
		l = append(l, wire.Rlimit(limit))
	}
	return l
}

// bootstrap is the configuration as a message.
func (c Config) bootstrap() *wire.Bootstrap {
	if c.hooks.Bootstrap != nil {
		return c.hooks.Bootstrap
	}
	b := &wire.Bootstrap{
		Hostname:   optional(c.Hostname),
		User:       optional(PlainUser(c.User)),
		DefaultCwd: optional(c.Dir),
		Rlimits:    rlimits(c.Limits),
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
