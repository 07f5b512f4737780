package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/wire"
)

// FromBootstrap returns the plan that the first message on the port describes. From
// environ it takes only the variables that commands inherit, and no configuration.
// Every rejection is an [*Error] whose field is the path inside the message; the first
// one in the order of the message is returned.
func FromBootstrap(b *wire.Bootstrap, environ []string) (*Plan, error) {
	m := message{config: config{source: Bootstrap, generation: bootstrapGeneration, cwd: "/"}}
	m.err = m.host(environ)
	m.read(b, environ)
	if m.err != nil {
		return nil, m.err
	}
	return m.plan(), nil
}

// read reads the message, in its order.
func (m *message) read(b *wire.Bootstrap, environ []string) {
	m.blockRoot(b.BlockRoot)
	m.mountLists(b)
	m.names(b)
	m.network(b.Network)
	m.resourceLimits(b.Rlimits)
	m.defaults(b, environ)
	m.profile(b.SecurityProfile)
	m.handoff(b.HandoffInit)
	m.order()
}

// message is an unfinished configuration, with its first broken rule. The rest of the
// message is read after that too: the size of a frame bounds it, and the methods need
// no branches.
type message struct {
	config
	err *Error
}

// check keeps a broken rule, unless it is "" or an earlier one is kept.
func (m *message) check(field, value, rule string) {
	if rule != "" && m.err == nil {
		m.err = &Error{Source: Bootstrap, Field: field, Value: value, Rule: rule}
	}
}

// text checks an optional value and returns it, "" when the host left it out.
func (m *message) text(field string, value *string, rule func(string) string) string {
	if value == nil {
		return ""
	}
	m.check(field, *value, rule(*value))
	return *value
}

func (m *message) blockRoot(r wire.BlockRoot) {
	switch r := r.(type) {
	case *wire.DiskImage:
		m.check("block_root.device", r.Device, checkAbsolute(r.Device))
		m.root = diskImage(r.Device, m.text("block_root.fstype", r.FSType, checkText))
	case *wire.OCIErofs:
		m.check("block_root.lower", r.Lower, checkAbsolute(r.Lower))
		m.root = ociRoot(r.Lower, m.upper(r.Upper), true)
	}
}

const ruleUpper = "must be a device or a tmpfs"

func (m *message) upper(u wire.Upper) Mount {
	switch u := u.(type) {
	case *wire.UpperDevice:
		m.check("block_root.upper.device", u.Device, checkAbsolute(u.Device))
		m.check("block_root.upper.fstype", u.FSType, checkText(u.FSType))
		return Mount{Source: u.Device, Type: u.FSType}
	case *wire.UpperTmpfs:
		return tmpfsUpper(u.SizeMiB)
	}
	m.check("block_root.upper", "", ruleUpper)
	return Mount{}
}

func (m *message) mountLists(b *wire.Bootstrap) {
	for i, d := range b.DirMounts {
		m.mount("dir_mounts", i, d.GuestPath, d.Flags, userMount{kind: kindDir, source: d.Tag})
	}
	for i, f := range b.FileMounts {
		m.mount("file_mounts", i, f.GuestPath, f.Flags, userMount{kind: kindFile, source: f.Tag, filename: f.Filename})
	}
	for i, d := range b.DiskMounts {
		fstype := m.text(fmt.Sprintf("disk_mounts[%d].fstype", i), d.FSType, checkText)
		m.mount("disk_mounts", i, d.GuestPath, d.Flags, userMount{kind: kindDisk, source: d.ID, fstype: fstype})
	}
	for i, t := range b.TmpfsMounts {
		m.mount("tmpfs_mounts", i, t.Path, t.Flags, userMount{kind: kindTmpfs, sizeMiB: t.SizeMiB, mode: t.Mode})
	}
}

// mount checks and adds one element of a list of mounts.
func (m *message) mount(list string, i int, path string, flags wire.MountFlags, u userMount) {
	element := fmt.Sprintf("%s[%d].", list, i)
	u.field = element + "guest_path"
	source := "tag"
	switch u.kind {
	case kindDisk:
		source = "id"
	case kindTmpfs:
		u.field = element + "path"
	case kindDir, kindFile:
	}
	u.flags = messageFlags(flags)
	u.setPath(path)
	m.check(element+source, u.source, u.checkSource())
	m.check(element+"filename", u.filename, u.checkFilename())
	m.check(u.field, path, firstRule(checkTarget(path), when(len(m.mounts) == maxMounts, ruleMounts)))
	m.mounts = append(m.mounts, u)
}

func messageFlags(f wire.MountFlags) Flags {
	var out Flags
	for _, b := range []struct {
		set  bool
		flag Flags
	}{{f.ReadOnly, ReadOnly}, {f.NoExec, NoExec}, {f.NoSuid, NoSUID}, {f.NoDev, NoDev}} {
		if b.set {
			out |= b.flag
		}
	}
	return out
}

func (m *message) names(b *wire.Bootstrap) {
	m.hostname = m.text("hostname", b.Hostname, checkHostname)
	m.alias = m.text("host_alias", b.HostAlias, checkAlias)
}

func (m *message) network(n *wire.Network) {
	if n == nil {
		return
	}
	m.check("network.interface", n.Interface, checkDevice(n.Interface))
	m.check("network.mtu", strconv.Itoa(int(n.MTU)), checkMTU(n.MTU))
	m.device = &Interface{Device: n.Interface, MAC: n.MAC, MTU: n.MTU}
	if a := n.IPv4; a != nil {
		m.ipv4 = m.address("network.ipv4", netip.AddrFrom4(a.Address), a.PrefixLen, netip.AddrFrom4(a.Gateway), rulesIPv4)
		if a.DNS != nil {
			m.ipv4.DNS = netip.AddrFrom4(*a.DNS)
		}
	}
	if a := n.IPv6; a != nil {
		m.ipv6 = m.address("network.ipv6", netip.AddrFrom16(a.Address), a.PrefixLen, netip.AddrFrom16(a.Gateway), rulesIPv6)
		if a.DNS != nil {
			m.ipv6.DNS = netip.AddrFrom16(*a.DNS)
		}
	}
}

func (m *message) address(field string, a netip.Addr, bits uint8, gateway netip.Addr, rules familyRules) Address {
	m.check(field+".prefix_len", strconv.Itoa(int(bits)), when(int(bits) > a.BitLen(), rules.prefix))
	return Address{Prefix: netip.PrefixFrom(a, int(bits)), Gateway: gateway}
}

func (m *message) resourceLimits(list []wire.Rlimit) {
	for i, l := range list {
		next, rule := addLimit(m.limits, l.Resource, l.Soft, l.Hard)
		m.check(fmt.Sprintf("rlimits[%d]", i), l.Resource, rule)
		if rule == "" {
			m.limits = next
		}
	}
}

// defaults reads the values that every command starts with. It ignores the inherited
// PATH, which is the kernel's. The image's PATH is in the message, if there is one.
func (m *message) defaults(b *wire.Bootstrap, environ []string) {
	m.user = m.text("user", b.User, func(s string) string { return firstRule(checkText(s), checkUser(s)) })
	if strings.TrimSpace(m.user) == "" {
		m.user = ""
	}
	if cwd := m.text("default_cwd", b.DefaultCwd, checkText); cwd != "" {
		m.cwd = absolute(cwd)
	}
	env, search := newEnv(inherited(environ)), DefaultPath
	for _, e := range m.pairs("default_env", b.DefaultEnv) {
		env.add(e)
		if p, ok := strings.CutPrefix(e, "PATH="); ok {
			search = p
		}
	}
	env.set("PATH", ScriptsPath(search))
	m.env = env.list
}

// absolute makes a path absolute, from the root directory: commands without a working
// directory of their own start there.
func absolute(p string) string {
	if strings.HasPrefix(p, "/") {
		return p
	}
	return "/" + p
}

const ruleEquals = "must not contain '='"

// pairs checks a list of variables and returns it as KEY=VALUE. An error shows only the
// key of a bad value, because values may be secrets.
func (m *message) pairs(field string, vars []wire.EnvVar) []string {
	var out []string
	for i, v := range vars {
		m.check(fmt.Sprintf("%s[%d].key", field, i), v.Key,
			firstRule(checkText(v.Key), when(strings.Contains(v.Key, "="), ruleEquals)))
		m.check(fmt.Sprintf("%s[%d].value", field, i), v.Key, checkNUL(v.Value))
		out = append(out, v.Key+"="+v.Value)
	}
	return out
}

func (m *message) profile(p wire.SecurityProfile) {
	m.restricted = p == wire.ProfileRestricted
	known := p == "" || p == wire.ProfileDefault || m.restricted
	m.check("security_profile", string(p), when(!known, ruleProfile))
}

func (m *message) handoff(h *wire.HandoffInit) {
	if h == nil {
		return
	}
	m.check("handoff_init.cmd", h.Cmd, checkInit(h.Cmd))
	for i, a := range h.Args {
		m.check(fmt.Sprintf("handoff_init.args[%d]", i), a, checkNUL(a))
	}
	m.handover = &Handover{
		Init: h.Cmd,
		Args: slices.Clone(h.Args),
		Cwd:  m.text("handoff_init.cwd", h.Cwd, checkAbsolute),
		Env:  m.pairs("handoff_init.env", h.Env),
	}
}

// order sorts the mounts. It is called last, because it needs paths that are checked.
func (m *message) order() {
	if m.err != nil {
		return
	}
	if bad, rule := sortMounts(m.mounts); bad != nil {
		m.check(bad.field, bad.given, rule)
	}
}
