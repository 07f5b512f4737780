package machines

import (
	"fmt"
	"reflect"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
)

// A storedRecord is a [Record] as its file has it, in recordFormat. A name here outlives
// the names of package sandbox: a field is renamed or given another meaning only with a
// new format, and added with a zero value that older records mean.
type storedRecord struct {
	Record

	Config storedConfig `json:"config"` // In place of the record's own.
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

func storeRecord(r Record) (s storedRecord) {
	s.Record = r
	copyFields(&s.Config, &r.Config)
	return s
}

// record refuses another format than ours.
func (s *storedRecord) record() (Record, error) {
	if s.Format != recordFormat {
		return Record{}, fmt.Errorf("its record has format %d, and this agentctl knows %d", s.Format, recordFormat)
	}
	r := s.Record
	copyFields(&r.Config, &s.Config)
	return r, nil
}

// copyFields copies the fields of a storedConfig from one configuration to another.
func copyFields(to, from any) {
	a, b := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	for f := range reflect.TypeFor[storedConfig]().Fields() {
		a.FieldByName(f.Name).Set(b.FieldByName(f.Name))
	}
}
