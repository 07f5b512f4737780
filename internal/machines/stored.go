package machines

import (
	"fmt"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
)

// A storedRecord is a [Record] as its file has it, in recordFormat. A name here outlives
// the names of package sandbox: a field is renamed or given another meaning only with a
// new format, and added with a zero value that older records mean.
type storedRecord struct {
	Format  int       `json:"format"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`

	Passing bool              `json:"passing,omitempty"`
	Command []string          `json:"command,omitempty"`
	Timeout time.Duration     `json:"timeout_ns,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Ports   []Port            `json:"ports,omitempty"`
	Socket  string            `json:"socket,omitempty"`
	PIDs    uint64            `json:"pids_limit,omitempty"`

	Restart     RestartPolicy        `json:"restart,omitempty"`
	StopSignal  string               `json:"stop_signal,omitempty"`
	StopTimeout *time.Duration       `json:"stop_timeout_ns,omitempty"`
	Health      *sandbox.Healthcheck `json:"healthcheck,omitempty"`

	Config storedConfig `json:"config"`
}

// A storedConfig is what of a [sandbox.Config] belongs to the machine. The rest belongs
// to the program that starts it: see [Machine.config].
type storedConfig struct {
	Platform      string                `json:"platform,omitempty"`
	Kernel        string                `json:"kernel,omitempty"`
	Root          string                `json:"root,omitempty"`
	OwnRoot       bool                  `json:"own_root,omitempty"`
	Image         string                `json:"image,omitempty"`
	Upper         sandbox.Upper         `json:"upper,omitzero"`
	CPUs          int                   `json:"cpus,omitempty"`
	MemoryMiB     int                   `json:"memory_mib,omitempty"`
	Accel         sandbox.Accel         `json:"accel,omitempty"`
	Warm          sandbox.WarmStart     `json:"warm,omitempty"`
	Shares        []sandbox.Share       `json:"shares,omitempty"`
	Mounts        []sandbox.Mount       `json:"mounts,omitempty"`
	Tmpfs         []sandbox.Tmpfs       `json:"tmpfs,omitempty"`
	Disks         []sandbox.Disk        `json:"disks,omitempty"`
	Modules       []string              `json:"modules,omitempty"`
	Runtime       string                `json:"runtime,omitempty"`
	Network       bool                  `json:"network,omitempty"`
	ReadOnlyRoot  bool                  `json:"readonly_root,omitempty"`
	Hosts         []string              `json:"hosts,omitempty"`
	Resolver      sandbox.Resolver      `json:"resolver,omitzero"`
	Hostname      string                `json:"hostname,omitempty"`
	User          string                `json:"user,omitempty"`
	Dir           string                `json:"dir,omitempty"`
	Env           []string              `json:"env,omitempty"`
	Limits        []client.Limit        `json:"limits,omitempty"`
	Restricted    bool                  `json:"restricted,omitempty"`
	Configuration sandbox.Configuration `json:"configuration,omitempty"`
	Generation    int                   `json:"generation,omitempty"`
	Init          string                `json:"init,omitempty"`
	InitArgs      []string              `json:"init_args,omitempty"`
	InitEnv       []string              `json:"init_env,omitempty"`
	InitDir       string                `json:"init_dir,omitempty"`
	ConsoleFile   string                `json:"console_file,omitempty"`
	Debug         []string              `json:"debug,omitempty"`
	Affinity      []int                 `json:"affinity,omitempty"`
	Keep          bool                  `json:"keep,omitempty"`
}

func storeRecord(r Record) storedRecord {
	return storedRecord{
		Format: r.Format, Name: r.Name, Created: r.Created,
		Passing: r.Passing, Command: r.Command, Timeout: r.Timeout, Labels: r.Labels, Ports: r.Ports, Socket: r.Socket, PIDs: r.PIDs,
		Restart: r.Restart, StopSignal: r.StopSignal, StopTimeout: r.StopTimeout, Health: r.Health,
		Config: storeConfig(r.Config),
	}
}

// record refuses another format than ours.
func (s *storedRecord) record() (Record, error) {
	if s.Format != recordFormat {
		return Record{}, fmt.Errorf("its record has format %d, and this agentctl knows %d", s.Format, recordFormat)
	}
	return Record{
		Format: s.Format, Name: s.Name, Created: s.Created,
		Passing: s.Passing, Command: s.Command, Timeout: s.Timeout, Labels: s.Labels, Ports: s.Ports, Socket: s.Socket, PIDs: s.PIDs,
		Restart: s.Restart, StopSignal: s.StopSignal, StopTimeout: s.StopTimeout, Health: s.Health,
		Config: s.Config.config(),
	}, nil
}

func storeConfig(c sandbox.Config) storedConfig {
	return storedConfig{
		Platform: c.Platform, Kernel: c.Kernel, Root: c.Root, OwnRoot: c.OwnRoot, Image: c.Image, Upper: c.Upper, CPUs: c.CPUs,
		MemoryMiB: c.MemoryMiB, Accel: c.Accel, Warm: c.Warm, Shares: c.Shares, Mounts: c.Mounts, Tmpfs: c.Tmpfs,
		Disks: c.Disks, Modules: c.Modules, Runtime: c.Runtime, Network: c.Network, ReadOnlyRoot: c.ReadOnlyRoot,
		Hosts: c.Hosts, Resolver: c.Resolver, Hostname: c.Hostname, User: c.User, Dir: c.Dir, Env: c.Env,
		Limits: c.Limits, Restricted: c.Restricted, Configuration: c.Configuration, Generation: c.Generation,
		Init: c.Init, InitArgs: c.InitArgs, InitEnv: c.InitEnv, InitDir: c.InitDir, ConsoleFile: c.ConsoleFile,
		Debug: c.Debug, Affinity: c.Affinity, Keep: c.Keep,
	}
}

func (s *storedConfig) config() sandbox.Config {
	return sandbox.Config{
		Platform: s.Platform, Kernel: s.Kernel, Root: s.Root, OwnRoot: s.OwnRoot, Image: s.Image, Upper: s.Upper, CPUs: s.CPUs,
		MemoryMiB: s.MemoryMiB, Accel: s.Accel, Warm: s.Warm, Shares: s.Shares, Mounts: s.Mounts, Tmpfs: s.Tmpfs,
		Disks: s.Disks, Modules: s.Modules, Runtime: s.Runtime, Network: s.Network, ReadOnlyRoot: s.ReadOnlyRoot,
		Hosts: s.Hosts, Resolver: s.Resolver, Hostname: s.Hostname, User: s.User, Dir: s.Dir, Env: s.Env,
		Limits: s.Limits, Restricted: s.Restricted, Configuration: s.Configuration, Generation: s.Generation,
		Init: s.Init, InitArgs: s.InitArgs, InitEnv: s.InitEnv, InitDir: s.InitDir, ConsoleFile: s.ConsoleFile,
		Debug: s.Debug, Affinity: s.Affinity, Keep: s.Keep,
	}
}
