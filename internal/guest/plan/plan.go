package plan

import "github.com/agentd-go/agentd/wire"

// Source is the source of a configuration.
type Source uint8

// The two sources. A machine has exactly one of them; they are never merged.
const (
	// Environment is the set of MSB_* variables on the kernel command line.
	Environment Source = iota
	// Bootstrap is the first message on the port.
	Bootstrap
)

// The lowest generation of the protocol for each source: a host that configures a
// machine in this way expects at least this generation.
const (
	environmentGeneration wire.Generation = 4
	bootstrapGeneration   wire.Generation = 7
)

// Plan is a decided boot: its steps in order, and the defaults of the machine's
// commands. Every plan has passed all checks of its source.
type Plan struct {
	Source     Source
	Generation wire.Generation // Of the source. The agent answers a newer host in the host's generation.
	Steps      []Step
	Commands   Commands
}

// Commands has the defaults of every command. Its request may change them.
type Commands struct {
	// User is the spec of the default user, for [ResolveUser]; empty for root.
	User string
	// Cwd is the default working directory, always absolute.
	Cwd string
	// Env is the base environment as KEY=VALUE, each key once. It does not contain the
	// machine's configuration.
	Env []string
	// Restricted says that commands run without new privileges and without
	// CAP_SYS_ADMIN.
	Restricted bool
}

// config is a configuration from either source, parsed and checked field by field. The
// zero value is the smallest machine: the given root, no network, no mounts.
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

// plan arranges the steps. The order of the calls is the order of the boot. The root
// must be final before the host learns the user. The host must know the user before the
// user's mounts are made. Steps that write files come after the mounts that may cover
// those files.
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

// addRoot adds the steps up to the handshake.
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
