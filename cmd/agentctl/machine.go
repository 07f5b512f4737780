package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

// machineFlags are the flags of every command that starts a machine. The parsed
// values are in Config once config has been called.
type machineFlags struct {
	sandbox.Config
	containerFlags
	timeout time.Duration
	memory  string
	accel   string
	by      string
	upper   string
	size    string // The upper's size.
	network string
	profile string
	mounts  []string
	tmpfs   []string
	disks   []string
	limits  []string

	cold, warm bool
}

func (f *machineFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.Root, "root", "", "`directory` that becomes the machine's root, shared as it is (default: a private root with busybox)")
	flags.StringVar(&f.Image, "image", "", "image that becomes the machine's root: a name or ID from 'agentctl image ls', a file, a directory, or a reference to a registry")
	flags.StringVar(&f.upper, "upper", "", "where writes to the image go: the file of a disk, made if it is missing, or tmpfs (default: a disk that is removed with the machine)")
	flags.StringVar(&f.size, "upper-size", "", "size of a new disk, or limit of the tmpfs (default: 8g, or half of the memory)")
	flags.StringVar(&f.Kernel, "kernel", "", "kernel to boot: a `name` from 'agentctl kernel ls' or a file (default: the newest imported distribution kernel)")
	flags.IntVar(&f.CPUs, "cpus", sandbox.DefaultCPUs, "`number` of processors")
	flags.StringVarP(&f.memory, "memory", "m", fmt.Sprint(sandbox.DefaultMemoryMiB, "m"), "memory, such as 512m or 1.5g; a number without a unit is in bytes")
	flags.StringVarP(&f.Hostname, "hostname", "h", "", "host `name` of the machine (default: the machine's name)")
	flags.StringVar(&f.Init, "init", "", "`program` that becomes the first process, with the agent beside it: a path in the machine, or auto or systemd to look for it")
	flags.StringVar(&f.accel, "accel", "", "accelerator that executes the machine: kvm or tcg (default: kvm if it works)")
	flags.BoolVar(&f.cold, "cold", false, "boot the machine, not from a template")
	flags.BoolVar(&f.warm, "warm", false, "start the machine from a template, which is made if it is missing; emulated machines do so by themselves where they can")
	flags.StringVar(&f.by, "configure-by", "bootstrap", "how the machine receives its configuration: bootstrap or environment")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the machine after this long, for example 30s")
	flags.StringVar(&f.ConsoleFile, "console", "", "`file` that receives the machine's console")
	flags.BoolVar(&f.Keep, "keep", false, "keep the files of a machine that does not boot, to repeat it by hand")
	flags.StringArrayVarP(&f.mounts, "volume", "v", nil, "show a directory or file of this host, or a volume: `HOST:GUEST[:ro,suid]`, NAME:GUEST[:ro]")
	flags.StringArrayVar(&f.tmpfs, "tmpfs", nil, "mount memory: `PATH[:size=64m,mode=1777,ro,noexec,nosuid,nodev]`")
	flags.StringArrayVar(&f.disks, "disk", nil, "attach a disk image: `FILE[:PATH][:ro,format=qcow2,fstype=ext4]`")
	flags.StringVar(&f.network, "network", "none", "network card: none, or user for this host's connections")
	flags.StringVar(&f.network, "net", "none", "the same")
	_ = flags.MarkHidden("net") // Cannot fail: the flag was just defined.
	flags.StringArrayVar(&f.limits, "ulimit", nil, "limit of every command: `NAME=SOFT[:HARD]`")
	flags.BoolVar(&f.ReadOnlyRoot, "read-only", false, "the machine cannot write to its root")
	flags.StringVar(&f.profile, "security", "default", "privileges of commands: default or restricted")
	flags.Bool("help", false, "help for this command") // Without -h, which is the host name's.
	f.containerFlags.register(flags)
	refuseFlags(flags, refusals...)
	// All words after the first one that is no flag belong to the command.
	flags.SetInterspersed(false)
}

// config checks the flags and returns the configuration.
func (f *machineFlags) config() (cfg sandbox.Config, err error) {
	cfg = f.Config
	cfg.Accel = sandbox.Accel(f.accel)
	if cfg.Init == "systemd" {
		cfg.Init = sandbox.AutoInit
	}
	if cfg.Init != "" && cfg.Init != sandbox.AutoInit && !strings.HasPrefix(cfg.Init, "/") {
		return cfg, fmt.Errorf("--init %s: want an absolute path in the machine, auto or systemd; without the flag agentd is the init, which adopts and reaps orphans", cfg.Init)
	}
	if cfg.CPUs < 1 {
		return cfg, fmt.Errorf("--cpus %d: want at least 1", cfg.CPUs)
	}
	if cfg.MemoryMiB, err = machines.ParseSize(f.memory); err != nil {
		return cfg, fmt.Errorf("--memory %w", err)
	}
	if cfg.Upper, err = f.parseUpper(); err != nil {
		return cfg, err
	}
	if cfg.Configuration, err = choice("configure-by", f.by, map[string]sandbox.Configuration{
		"bootstrap": sandbox.ByBootstrap, "environment": sandbox.ByEnvironment,
	}); err != nil {
		return cfg, err
	}
	cfg.Warm = f.warmStart()
	if cfg.Network, err = parseNetwork(f.network); err != nil {
		return cfg, err
	}
	if cfg.Restricted, err = choice("security", f.profile, map[string]bool{"default": false, "restricted": true}); err != nil {
		return cfg, err
	}
	if err = f.devices(&cfg); err != nil {
		return cfg, err
	}
	return cfg, f.apply(&cfg)
}

// warmStart is what --cold and --warm ask for, which are not given together.
func (f *machineFlags) warmStart() sandbox.WarmStart {
	switch {
	case f.cold:
		return sandbox.WarmNone
	case f.warm:
		return sandbox.WarmTry
	}
	return sandbox.WarmAuto
}

// parseUpper reads --upper and --upper-size. A file with the name tmpfs must be written
// as ./tmpfs.
func (f *machineFlags) parseUpper() (u sandbox.Upper, err error) {
	if u.Tmpfs = f.upper == "tmpfs"; !u.Tmpfs {
		u.Disk = f.upper
	}
	if f.size == "" {
		return u, nil
	}
	if u.SizeMiB, err = machines.ParseSize(f.size); err != nil {
		return u, fmt.Errorf("--upper-size %w", err)
	}
	return u, nil
}

// devices parses the flags that may be repeated.
func (f *machineFlags) devices(cfg *sandbox.Config) (err error) {
	if cfg.Mounts, err = collect(f.mounts, parseVolume); err != nil {
		return err
	}
	if cfg.Tmpfs, err = collect(f.tmpfs, machines.ParseTmpfs); err != nil {
		return err
	}
	if cfg.Disks, err = collect(f.disks, machines.ParseDisk); err != nil {
		return err
	}
	cfg.Limits, err = collect(f.limits, machines.ParseLimit)
	return err
}

// collect returns what do makes of each word, until the first error.
func collect[T any](words []string, do func(string) (T, error)) (all []T, err error) {
	for _, w := range words {
		v, err := do(w)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// parseLabels returns nil for no labels.
func parseLabels(texts []string) (labels map[string]string, err error) {
	for _, l := range texts {
		key, value, err := machines.ParseLabel(l)
		if err != nil {
			return nil, err
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = value
	}
	return labels, nil
}

// parsePorts reads ports and ranges of them.
func parsePorts(texts []string) ([]machines.Port, error) {
	all, err := collect(texts, machines.ParsePorts)
	return slices.Concat(all...), err
}

// choice returns the value that a flag's word stands for.
func choice[T any](flag, word string, of map[string]T) (T, error) {
	v, ok := of[word]
	if !ok {
		return v, fmt.Errorf("--%s %s: want one of %s", flag, word, sortedKeys(of))
	}
	return v, nil
}

// nameFlags are the flags of a machine in the store.
type nameFlags struct {
	name    string
	labels  []string
	ports   []string
	env     []string
	envFile []string
	idFile  string
}

func (f *nameFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVarP(&f.labels, "label", "l", nil, "label the machine: `KEY=VALUE`")
	flags.StringArrayVarP(&f.ports, "publish", "p", nil, "forward a port of this host into the machine: `[[ADDRESS:]PORT:]PORT[/udp]`; each PORT may be a range")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "set `KEY=VALUE` for commands; KEY alone takes the value from here")
	flags.StringArrayVar(&f.envFile, "env-file", nil, "`file` of such entries, one a line")
	flags.StringVar(&f.idFile, "cidfile", "", "`file` to which the machine's name is written; it must not exist")
}

// environment returns the entries of files and then of flags, so that flags take
// precedence.
func (f *nameFlags) environment() ([]string, error) {
	return environmentOf(f.envFile, f.env)
}

func environmentOf(files, flags []string) ([]string, error) {
	var entries []string
	for _, file := range files {
		more, err := machines.EnvironmentFile(file)
		if err != nil {
			return nil, err
		}
		entries = append(entries, more...)
	}
	return machines.Environment(append(entries, flags...))
}

// record describes the machine.
func (f *nameFlags) record(cfg sandbox.Config) (r machines.Record, err error) {
	r = machines.Record{Name: f.name, Config: cfg}
	if r.Labels, err = parseLabels(f.labels); err != nil {
		return r, err
	}
	r.Ports, err = parsePorts(f.ports)
	return r, err
}
