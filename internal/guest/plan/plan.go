package plan

import "github.com/agentd-go/agentd/wire"

// Source is where a configuration came from.
type Source uint8

// The two sources. A machine has exactly one of them; they are never merged.
const (
	// Environment is the set of MSB_* variables on the kernel command line.
	Environment Source = iota
	// Bootstrap is the first message on the port.
	Bootstrap
)

// The generation of the protocol that each source speaks at least: a host that
// sends the one expects the other.
const (
	environmentGeneration wire.Generation = 4
	bootstrapGeneration   wire.Generation = 7
)

// Plan is a boot, decided: what to do, in which order, and what the commands of
// the machine start from. A plan that exists passed every check of its source.
type Plan struct {
	Source     Source
	Generation wire.Generation // Of the source; a newer host is spoken to in its own.
	Steps      []Step
	Commands   Commands
}

// Commands is what every command starts from, before its own request.
type Commands struct {
	// User is the spec of the default user, for [ResolveUser]; empty for root.
	User string
	// Cwd is the default working directory, always absolute.
	Cwd string
	// Env is the base environment as KEY=VALUE, each key once. It is free of
	// the configuration of the machine.
	Env []string
	// Restricted says that commands run without new privileges and without
	// CAP_SYS_ADMIN.
	Restricted bool
}

// config is what both sources say, parsed and checked field by field. The zero
// value is the smallest machine: the given root, no network, no mounts.
type config struct {
	source     Source
	generation wire.Generation
	share      Share
	root       *BlockRoot
	sealed     bool
	naming     naming
	mounts     []userMount // by kind, in the order of the source
	hostname   string
	alias      string
	device     *Interface // without addresses
	ipv4, ipv6 Address
	limits     []Limit
	user       string
	cwd        string
	env        []string
	restricted bool
	handover   *Handover
}

// plan arranges the steps. The order of the calls is the order of the boot: the
// root has to be final before the host may learn the user, the user be known
// before anything of the user's is mounted, and everything that writes files
// come after the mounts that may lie over them.
func (c *config) plan() *Plan {
	p := &Plan{Source: c.source, Generation: c.generation, Commands: c.commands()}
	p.addRoot(c)
	p.addMounts(c)
	p.Steps = append(p.Steps, TempDirs{Paths: []string{"/tmp", "/var/tmp"}}, Loopback{})
	p.addNetwork(c)
	p.Steps = append(p.Steps, Trust{}, ProfileBlock{}, RunDirs{Paths: []string{"/run", "/run/microsandbox"}})
	if c.sealed {
		p.Steps = append(p.Steps, Seal{})
	}
	if c.handover != nil {
		p.Steps = append(p.Steps, *c.handover)
	}
	return p
}

// addRoot adds everything up to the word of the host.
func (p *Plan) addRoot(c *config) {
	if len(c.limits) > 0 {
		p.Steps = append(p.Steps, Limits{Limits: c.limits})
	}
	p.Steps = append(p.Steps, essential(), c.share)
	if c.root != nil {
		p.Steps = append(p.Steps, *c.root)
	}
	p.Steps = append(p.Steps, Handshake{User: c.user})
}

// addMounts adds the mounts of the user and the two files about names. With the
// environment tmpfs mounts come after those files, as hosts of that generation
// expect; the message sorts all mounts, so the files come after them.
func (p *Plan) addMounts(c *config) {
	var late []Step
	for _, m := range c.mounts {
		s := m.step(c.restricted)
		if c.source == Environment && m.kind == kindTmpfs {
			late = append(late, s)
			continue
		}
		p.Steps = append(p.Steps, s)
	}
	if c.hostname != "" {
		p.Steps = append(p.Steps, Hostname{Host: c.hostname})
	}
	p.Steps = append(p.Steps, HostsFile{Content: c.hosts()})
	p.Steps = append(p.Steps, late...)
}

// addNetwork adds the interface, if there is one, and the resolver. Addresses without
// an interface would have nothing to belong to; of those only the gateways are used,
// as hosts.
func (p *Plan) addNetwork(c *config) {
	if c.device != nil {
		d := *c.device
		d.IPv4, d.IPv6 = c.ipv4, c.ipv6
		p.Steps = append(p.Steps, d)
	}
	if content := c.resolver(); content != "" {
		p.Steps = append(p.Steps, Resolver{Content: content})
	}
}

func (c *config) commands() Commands {
	return Commands{User: c.user, Cwd: c.cwd, Env: c.env, Restricted: c.restricted}
}
