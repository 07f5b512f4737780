// Package options has the settings of the shim: from its file, changed for one pod by
// annotations.
package options

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// File is where the settings are if containerd's configuration names no other.
const File = "/etc/agentd/shim.toml"

// Prefix begins the annotations of a pod that change a setting for it.
const Prefix = "io.agentd."

// Options are the settings. Each has a name in the file, and with Prefix as an
// annotation.
type Options struct {
	Kernel      string `toml:"kernel"`       // A name in the cache of kernels or a file; "" is the newest.
	CPUs        int    `toml:"cpus"`         // Of a pod that has no limit.
	MemoryMiB   int    `toml:"memory_mib"`   // Of a pod that has no limit.
	OverheadMiB int    `toml:"overhead_mib"` // Beside that: the guest's kernel and our programs.
	// Modules are more modules of the guest's kernel to load, "bridge" for example.
	Modules []string `toml:"modules"`
	Accel   string   `toml:"accel"`   // "kvm", "tcg", or "" for KVM where it works.
	Console bool     `toml:"console"` // The guest's console goes to the shim's log.
}

// The bounds. A guest needs 128 MiB beside its containers to start at all; the most
// is what a mistake in units would ask for.
const (
	minMemory, maxMemory     = 32, 4 << 20
	minOverhead, maxOverhead = 64, 64 << 10
	maxCPUs                  = 255
)

// Default is what holds without a file.
func Default() Options { return Options{CPUs: 1, MemoryMiB: 512, OverheadMiB: 128} }

// Read reads the settings from a file, File if it is "". That one may be missing.
func Read(name string) (Options, error) {
	o := Default()
	given := name != ""
	if !given {
		name = File
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && !given {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	return o, o.parse(name, string(b))
}

func (o *Options) parse(name, text string) error {
	meta, err := toml.Decode(text, o)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return fmt.Errorf("%s: setting %q: unknown", name, unknown[0].String())
	}
	if err := o.check(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Annotate changes the settings by a pod's annotations. One with Prefix that names no
// setting is refused: a slip of the pen would go unseen.
func (o *Options) Annotate(annotations map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		setting, ok := strings.CutPrefix(name, Prefix)
		if !ok {
			continue
		}
		err := o.set(setting, annotations[name])
		if err == nil {
			err = o.check()
		}
		if err != nil {
			return fmt.Errorf("annotation %s %q: %w", name, annotations[name], err)
		}
	}
	return nil
}

func (o *Options) set(setting, value string) (err error) {
	switch setting {
	case "kernel":
		o.Kernel = value
	case "accel":
		o.Accel = value
	case "cpus":
		o.CPUs, err = number(value)
	case "memory-mib":
		o.MemoryMiB, err = number(value)
	case "overhead-mib":
		o.OverheadMiB, err = number(value)
	default:
		return errors.New("no such setting: want cpus, memory-mib, overhead-mib, accel or kernel")
	}
	return err
}

func number(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0, errors.New("want a number")
	}
	return n, nil
}

func (o *Options) check() error {
	for _, f := range []struct {
		name      string
		value     int
		low, high int
	}{
		{"cpus", o.CPUs, 1, maxCPUs},
		{"memory_mib", o.MemoryMiB, minMemory, maxMemory},
		{"overhead_mib", o.OverheadMiB, minOverhead, maxOverhead},
	} {
		if f.value < f.low || f.value > f.high {
			return fmt.Errorf("setting %s %d: want %d to %d", f.name, f.value, f.low, f.high)
		}
	}
	switch o.Accel {
	case "", "kvm", "tcg":
		return nil
	}
	return fmt.Errorf("setting accel %q: want kvm or tcg", o.Accel)
}
