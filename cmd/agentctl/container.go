package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

// containerFlags are flags of container tools that a machine can honour by other means.
type containerFlags struct {
	specs      []string // --mount.
	shm        string
	names      []string // --add-host.
	resolver   sandbox.Resolver
	capAdd     []string
	capDrop    []string
	privileged bool
	security   []string // --security-opt.
	cpuset     string
	pids       uint64 // --pids-limit; 0 is none.
}

func (f *containerFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.specs, "mount", nil, "`type=bind|volume|tmpfs,source=...,target=...[,readonly]`: the same as -v and --tmpfs, in another form")
	flags.StringVar(&f.shm, "shm-size", "", "`size` of /dev/shm (default: half of the memory)")
	flags.StringArrayVar(&f.names, "add-host", nil, "a line of /etc/hosts: `NAME:ADDRESS`; the address host-gateway is this host by --network user")
	flags.StringArrayVar(&f.resolver.Servers, "dns", nil, "`address` of a name server")
	flags.StringArrayVar(&f.resolver.Search, "dns-search", nil, "`domain` to search names in")
	flags.StringArrayVar(&f.resolver.Options, "dns-option", nil, "`option` of the resolver, such as ndots:2")
	flags.StringArrayVar(&f.resolver.Options, "dns-opt", nil, "the same")
	flags.StringSliceVar(&f.capAdd, "cap-add", nil, "accepted for compatibility: root's commands have every `capability` anyway")
	flags.StringSliceVar(&f.capDrop, "cap-drop", nil, "refused: see --security")
	flags.BoolVar(&f.privileged, "privileged", false, "accepted for compatibility; commands of root have all privileges in the machine")
	flags.StringArrayVar(&f.security, "security-opt", nil, "accepted for compatibility: seccomp=unconfined, apparmor=unconfined, label=disable")
	flags.StringVar(&f.cpuset, "cpuset-cpus", "", "`processors` of this host to run on, such as 0-2,4")
	flags.BoolFunc("sig-proxy", "accepted for compatibility; signals always go to the command", func(word string) error {
		if on, err := strconv.ParseBool(word); err != nil || !on {
			return &refusedError{"sig-proxy=" + word, "signals go to the command; with -d none do"}
		}
		return nil
	})
	flags.Func("pids-limit", "`number` of processes and threads of the machine's command; 0 and -1 are no limit", func(word string) (err error) {
		f.pids, err = parsePIDs(word)
		return err
	})
	for _, name := range []string{"dns-opt", "cap-drop", "privileged", "security-opt", "sig-proxy"} {
		_ = flags.MarkHidden(name) // Cannot fail: the flag was just defined.
	}
}

// apply adds the values of the flags to cfg, which has the profile already.
func (f *containerFlags) apply(cfg *sandbox.Config) (err error) {
	for _, s := range f.specs {
		if err := applySpec(cfg, s); err != nil {
			return err
		}
	}
	if f.shm != "" {
		const everybody = 0o1777
		shm := sandbox.Tmpfs{Target: "/dev/shm", Mode: everybody, NoSuid: true, NoDev: true}
		if shm.SizeMiB, err = machines.ParseSize(f.shm); err != nil {
			return fmt.Errorf("--shm-size %w", err)
		}
		cfg.Tmpfs = append(cfg.Tmpfs, shm)
	}
	if cfg.Hosts, err = collect(f.names, parseHost); err != nil {
		return err
	}
	cfg.Resolver = f.resolver
	if cfg.Affinity, err = parseProcessors(f.cpuset); err != nil {
		return err
	}
	return f.privileges(cfg.Restricted)
}

func applySpec(cfg *sandbox.Config, text string) error {
	m, err := machines.ParseMountSpec(text)
	switch {
	case err != nil:
		return err
	case m.Tmpfs != nil:
		cfg.Tmpfs = append(cfg.Tmpfs, *m.Tmpfs)
		return nil
	case m.Volume != "":
		store, err := machines.Open("")
		if err != nil {
			return err
		}
		m.Bind.Source = store.VolumePath(m.Volume)
	}
	cfg.Mounts = append(cfg.Mounts, *m.Bind)
	return nil
}

// parseVolume reads HOST:GUEST[:ro], or NAME:GUEST[:ro] of a volume. It refuses a word
// that could be both.
func parseVolume(s string) (m sandbox.Mount, err error) {
	name, rest, ok := strings.Cut(s, ":")
	if !ok || !machines.IsVolumeName(name) {
		if !ok && strings.HasPrefix(s, "/") {
			return m, fmt.Errorf("volume %q: a volume needs a name here: NAME:%s; without a name the data is written to the machine's own disk", s, s)
		}
		return machines.ParseMount(s)
	}
	store, err := machines.Open("")
	if err != nil {
		return m, err
	}
	if _, err := store.Volume(name); err != nil {
		if !errors.Is(err, machines.ErrNoVolume) {
			return m, err
		}
		if _, err := os.Lstat(name); err == nil {
			return m, fmt.Errorf("volume %q: this directory has a file %s, and no volume has the name: write ./%s for the file, or run 'agentctl volume create %s' first", s, name, name, name)
		}
	}
	return machines.ParseMount(store.VolumePath(name) + ":" + rest)
}

// parseNetwork reads the value of --network.
func parseNetwork(word string) (card bool, err error) {
	switch word {
	case "none":
		return false, nil
	case "user", "bridge", "default":
		return true, nil
	case "host":
		return false, errors.New("--network host: a machine has a network of its own; --network user reaches what this host reaches, this host at 10.0.2.2, and -p forwards ports into the machine")
	}
	return false, fmt.Errorf("--network %s: want none, or user (bridge and default are the same) for this host's connections; %s", word, noNetwork)
}

// parseHost reads NAME:ADDRESS or NAME=ADDRESS.
func parseHost(s string) (string, error) {
	i := strings.IndexAny(s, "=:")
	if i < 1 || i == len(s)-1 {
		return "", fmt.Errorf("--add-host %q: want NAME:ADDRESS", s)
	}
	return s[:i] + "=" + strings.TrimSuffix(strings.TrimPrefix(s[i+1:], "["), "]"), nil
}

// parseProcessors reads a list of numbers and ranges in the form of cpuset(7).
func parseProcessors(s string) (all []int, err error) {
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, both := strings.Cut(part, "-")
		if !both {
			last = first
		}
		from, bad := strconv.ParseUint(first, 10, 16)
		to, worse := strconv.ParseUint(last, 10, 16)
		if bad != nil || worse != nil || from > to {
			return nil, fmt.Errorf("--cpuset-cpus %q: want numbers and ranges, such as 0-2,4", s)
		}
		for n := from; n <= to; n++ {
			all = append(all, int(n))
		}
	}
	return all, nil
}

// capabilities are the capabilities of Linux (capabilities(7)).
var capabilities = strings.Fields(`ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
	DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN
	NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE
	SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM`)

// privileges refuses flags that ask for something else than the machine has: root's
// commands have all privileges in their own kernel, and only the restricted profile
// takes some away.
func (f *containerFlags) privileges(restricted bool) error {
	for _, name := range append(slices.Clone(f.capAdd), f.capDrop...) {
		if !slices.Contains(capabilities, strings.TrimPrefix(strings.ToUpper(name), "CAP_")) {
			return fmt.Errorf("capability %q: Linux has no capability of that name", name)
		}
	}
	for _, name := range f.capAdd {
		short := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if restricted && (short == "SYS_ADMIN" || short == "ALL") {
			return fmt.Errorf("--cap-add %s: --security restricted takes CAP_SYS_ADMIN away", name)
		}
	}
	switch {
	case len(f.capDrop) > 0:
		return fmt.Errorf("--cap-drop %s: capabilities hold only in the machine's own kernel; --security restricted takes CAP_SYS_ADMIN away and lets no command gain privileges, and with -u USER a command has none", f.capDrop[0])
	case f.privileged && restricted:
		return errors.New("--privileged: --security restricted takes privileges away")
	}
	for _, o := range f.security {
		if !slices.Contains([]string{"seccomp=unconfined", "apparmor=unconfined", "label=disable", "label:disable", "systempaths=unconfined"}, o) {
			return fmt.Errorf("--security-opt %s: --security restricted has no-new-privileges, and takes CAP_SYS_ADMIN away; nothing else confines commands in a machine", o)
		}
	}
	return nil
}
