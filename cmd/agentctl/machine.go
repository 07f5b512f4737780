package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/agentd-go/agentd/sandbox"
)

// machineFlags are the flags of every command that starts a machine.
type machineFlags struct {
	sandbox.Config
	timeout time.Duration
	memory  string
	accel   string
	by      string
	upper   string
	size    string // Of the upper.
}

func (f *machineFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.Root, "root", "", "directory that becomes the machine's root, shared as it is (default: a private root with busybox)")
	flags.StringVar(&f.Image, "image", "", "image that becomes the machine's root: a name or ID from 'agentctl image ls', a file, a directory, or a reference to a registry")
	flags.StringVar(&f.upper, "upper", "", "what takes the writes to the image: the file of a disk, made if it is missing, or tmpfs (default: a disk that goes away with the machine)")
	flags.StringVar(&f.size, "upper-size", "", "size of a disk that is made, or the most that tmpfs takes (default: 8g, or half of the memory)")
	flags.StringVar(&f.Kernel, "kernel", "", "kernel to boot: a name from 'agentctl kernel ls' or a file (default: the newest imported distribution kernel)")
	flags.IntVar(&f.CPUs, "cpus", sandbox.DefaultCPUs, "number of processors")
	flags.StringVarP(&f.memory, "memory", "m", fmt.Sprint(sandbox.DefaultMemoryMiB, "m"), "memory, with suffix m or g")
	flags.StringVar(&f.Hostname, "hostname", "machine", "host name of the machine")
	flags.StringVar(&f.accel, "accel", "", "what executes the machine: kvm or tcg (default: kvm where it works)")
	flags.StringVar(&f.by, "configure-by", "bootstrap", "how the machine is told what to be: bootstrap or environment")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the command and the machine after this long, for example 30s")
	flags.StringVar(&f.ConsoleFile, "console", "", "file that takes the machine's console")
	flags.BoolVar(&f.Keep, "keep", false, "keep the files of a machine that does not boot, to repeat it by hand")
	// Everything behind the first word that is no flag is the command's.
	flags.SetInterspersed(false)
}

// config checks the flags and returns what they describe.
func (f *machineFlags) config() (sandbox.Config, error) {
	cfg := f.Config
	cfg.Accel = sandbox.Accel(f.accel)
	if cfg.CPUs < 1 {
		return cfg, fmt.Errorf("--cpus %d: want at least 1", cfg.CPUs)
	}
	var err error
	if cfg.MemoryMiB, err = parseSize("memory", f.memory); err != nil {
		return cfg, err
	}
	if cfg.Upper, err = f.parseUpper(); err != nil {
		return cfg, err
	}
	switch f.by {
	case "bootstrap":
		cfg.Configuration = sandbox.ByBootstrap
	case "environment":
		cfg.Configuration = sandbox.ByEnvironment
	default:
		return cfg, fmt.Errorf("--configure-by %s: want bootstrap or environment", f.by)
	}
	return cfg, nil
}

// units are the suffixes of a size, in MiB; a size without one is in bytes, as
// containers' tools have it.
var units = []struct {
	suffix string
	mib    float64
}{{"g", 1 << 10}, {"m", 1}, {"k", 1. / (1 << 10)}, {"b", 1. / (1 << 20)}, {"", 1. / (1 << 20)}}

// parseUpper reads --upper and --upper-size. A file that is called tmpfs has to be
// named ./tmpfs.
func (f *machineFlags) parseUpper() (u sandbox.Upper, err error) {
	if u.Tmpfs = f.upper == "tmpfs"; !u.Tmpfs {
		u.Disk = f.upper
	}
	if f.size != "" {
		u.SizeMiB, err = parseSize("upper-size", f.size)
	}
	return u, err
}

// parseSize reads the size of a flag, as 512m or 2g. It rounds down to whole MiB.
func parseSize(flag, s string) (mib int, err error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(strings.ToLower(s), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 40)
		if mib = int(float64(n) * u.mib); err == nil && mib > 0 {
			return mib, nil
		}
		break
	}
	return 0, fmt.Errorf("--%s %s: want a size such as 512m or 2g", flag, s)
}

// environment completes entries without a value from our own environment.
func environment(entries []string) ([]string, error) {
	var all []string
	for _, e := range entries {
		key, _, ok := strings.Cut(e, "=")
		if key == "" {
			return nil, fmt.Errorf("--env %q: want KEY=VALUE or KEY", e)
		}
		if !ok {
			value, set := os.LookupEnv(key)
			if !set {
				continue // As containers' tools have it: what is not set here is not set there.
			}
			e = key + "=" + value
		}
		all = append(all, e)
	}
	return all, nil
}
