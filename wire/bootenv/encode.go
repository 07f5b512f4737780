package bootenv

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/agentd-go/agentd/wire"
)

// An Error is a part of a configuration that variables cannot express.
type Error struct {
	Field string // In the message, such as "dir_mounts[0].tag".
	Value string
	Rule  string
}

// Error returns a line for people.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %q: %s", e.Field, e.Value, e.Rule)
}

const (
	ruleNoVariable = "cannot be said by a variable"
	ruleSpace      = "must not begin or end with a space in a variable"
)

// Encode returns the variables of a configuration, each as NAME=value. It refuses, with
// an [*Error], a value that no variable can express. The agent checks whether the
// values can be used. The security profile is always among the variables, so that the
// agent waits for no message.
//
// Encode does not write the environment of commands. Commands inherit the other
// variables that a host puts on the command line.
func Encode(b *wire.Bootstrap) ([]string, error) {
	var e encoder
	e.refuse("default_cwd", b.DefaultCwd != nil)
	e.refuse("default_env", b.DefaultEnv != nil)
	e.refuse("fresh", b.Fresh != nil) // A machine from a template has the command line of its template.
	profile := cmp.Or(b.SecurityProfile, wire.ProfileDefault)
	e.word(SecurityProfile, e.text("security_profile", string(profile)))
	e.word(Hostname, e.text("hostname", deref(b.Hostname)))
	e.word(HostAlias, e.text("host_alias", deref(b.HostAlias)))
	e.word(User, e.text("user", deref(b.User)))
	e.limits(b.Rlimits)
	e.handoff(b.HandoffInit)
	e.blockRoot(b.BlockRoot)
	e.mounts(b)
	e.network(b.Network)
	if e.err != nil {
		return nil, e.err
	}
	return e.words, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// An encoder collects variables, and keeps the first error.
type encoder struct {
	words []string
	err   error
}

// word adds a variable. An empty value means the same as no variable, and adds none.
func (e *encoder) word(name, value string) {
	if value != "" {
		e.words = append(e.words, Word(name, value))
	}
}

func (e *encoder) fail(field, value, rule string) {
	if e.err == nil {
		e.err = &Error{field, value, rule}
	}
}

func (e *encoder) refuse(field string, given bool) {
	if given {
		e.fail(field, "", ruleNoVariable)
	}
}

// text checks that a value survives in a form with the given separators.
func (e *encoder) text(field, value string, separators ...string) string {
	if strings.TrimSpace(value) != value {
		e.fail(field, value, ruleSpace)
	}
	e.utf8(field, value)
	for _, s := range separators {
		if strings.Contains(value, s) {
			e.fail(field, value, fmt.Sprintf("must not contain %q in a variable", s))
		}
	}
	return value
}

// utf8 refuses text that is not UTF-8, as messages do.
func (e *encoder) utf8(field, value string) {
	if !utf8.ValidString(value) {
		e.fail(field, value, "must be UTF-8")
	}
}

func (e *encoder) blockRoot(r wire.BlockRoot) {
	switch r := r.(type) {
	case nil:
	case *wire.DiskImage:
		words := []string{"kind=" + KindDiskImage, "device=" + e.text("block_root.device", r.Device, Part)}
		if r.FSType != nil {
			words = append(words, "fstype="+e.text("block_root.fstype", *r.FSType, Part))
		}
		e.word(BlockRoot, strings.Join(words, Part))
	case *wire.OCIErofs:
		upper, ok := r.Upper.(*wire.UpperDevice)
		if !ok {
			e.refuse("block_root.upper", true) // No variable expresses an upper in memory.
			return
		}
		e.word(BlockRoot, strings.Join([]string{
			"kind=" + KindOCIErofs,
			"lower=" + e.text("block_root.lower", r.Lower, Part),
			"upper=" + e.text("block_root.upper.device", upper.Device, Part),
			"upper_fstype=" + e.text("block_root.upper.fstype", upper.FSType, Part),
		}, Part))
	}
}

func (e *encoder) mounts(b *wire.Bootstrap) {
	e.list(DirMounts, "dir_mounts", len(b.DirMounts), func(i int) ([]string, []string) {
		m := b.DirMounts[i]
		return []string{m.Tag, m.GuestPath}, options(m.Flags)
	})
	e.list(FileMounts, "file_mounts", len(b.FileMounts), func(i int) ([]string, []string) {
		m := b.FileMounts[i]
		return []string{m.Tag, m.Filename, m.GuestPath}, options(m.Flags)
	})
	e.list(DiskMounts, "disk_mounts", len(b.DiskMounts), func(i int) ([]string, []string) {
		m := b.DiskMounts[i]
		o := options(m.Flags)
		if m.FSType != nil {
			o = append(o, "fstype="+e.text(fmt.Sprintf("disk_mounts[%d].fstype", i), *m.FSType, Entry, Field, Part, "="))
		}
		return []string{m.ID, m.GuestPath}, o
	})
	e.list(Tmpfs, "tmpfs_mounts", len(b.TmpfsMounts), func(i int) ([]string, []string) {
		m := b.TmpfsMounts[i]
		o := append(options(m.Flags), number("size", m.SizeMiB, 10)...)
		// A comma in the path would look like the one before the options.
		return []string{e.text(fmt.Sprintf("tmpfs_mounts[%d].path", i), m.Path, Part)}, append(o, number("mode", m.Mode, 8)...)
	})
}

// list adds the variable of one list of mounts.
func (e *encoder) list(name, field string, n int, entry func(i int) (fields, options []string)) {
	entries := make([]string, n)
	for i := range n {
		fields, options := entry(i)
		for _, f := range fields {
			e.text(fmt.Sprintf("%s[%d]", field, i), f, Entry, Field)
		}
		if len(options) > 0 {
			fields = append(fields, strings.Join(options, Part))
		}
		entries[i] = strings.Join(fields, Field)
	}
	e.word(name, strings.Join(entries, Entry))
}

func options(f wire.MountFlags) (words []string) {
	for _, o := range []struct {
		set  bool
		word string
	}{{f.ReadOnly, "ro"}, {f.NoExec, "noexec"}, {f.NoSuid, "nosuid"}, {f.NoDev, "nodev"}} {
		if o.set {
			words = append(words, o.word)
		}
	}
	return words
}

func number(key string, n *uint32, base int) []string {
	if n == nil {
		return nil
	}
	return []string{key + "=" + strconv.FormatUint(uint64(*n), base)}
}

func (e *encoder) network(n *wire.Network) {
	if n == nil {
		return
	}
	m := n.MAC
	e.word(Net, fmt.Sprintf("iface=%s,mac=%02x:%02x:%02x:%02x:%02x:%02x,mtu=%d",
		e.text("network.interface", n.Interface, Part), m[0], m[1], m[2], m[3], m[4], m[5], n.MTU))
	if a := n.IPv4; a != nil {
		var dns netip.Addr
		if a.DNS != nil {
			dns = netip.AddrFrom4(*a.DNS)
		}
		e.address(NetIPv4, netip.AddrFrom4(a.Address), a.PrefixLen, netip.AddrFrom4(a.Gateway), dns)
	}
	if a := n.IPv6; a != nil {
		var dns netip.Addr
		if a.DNS != nil {
			dns = netip.AddrFrom16(*a.DNS)
		}
		e.address(NetIPv6, netip.AddrFrom16(a.Address), a.PrefixLen, netip.AddrFrom16(a.Gateway), dns)
	}
}

func (e *encoder) address(name string, a netip.Addr, bits uint8, gateway, dns netip.Addr) {
	value := fmt.Sprintf("addr=%s/%d,gw=%s", a, bits, gateway)
	if dns.IsValid() {
		value += ",dns=" + dns.String()
	}
	e.word(name, value)
}

func (e *encoder) limits(list []wire.Rlimit) {
	entries := make([]string, len(list))
	for i, l := range list {
		name := e.text(fmt.Sprintf("rlimits[%d].resource", i), l.Resource, Entry, "=")
		entries[i] = fmt.Sprintf("%s=%d:%d", name, l.Soft, l.Hard)
	}
	e.word(Rlimits, strings.Join(entries, Entry))
}

func (e *encoder) handoff(h *wire.HandoffInit) {
	if h == nil {
		return
	}
	e.refuse("handoff_init.cwd", h.Cwd != nil)
	if strings.TrimSpace(h.Cmd) == "" {
		e.fail("handoff_init.cmd", h.Cmd, ruleNoVariable)
	}
	e.utf8("handoff_init.cmd", h.Cmd)
	e.word(HandoffInit, h.Cmd)
	e.units(HandoffInitArgs, "handoff_init.args", h.Args)
	env := make([]string, len(h.Env))
	for i, v := range h.Env {
		env[i] = Word(v.Key, v.Value)
	}
	e.units(HandoffInitEnv, "handoff_init.env", env)
}

// units adds a list of the init's arguments or variables. Space in them is kept,
// because it may matter to the init.
func (e *encoder) units(name, field string, list []string) {
	for i, s := range list {
		e.utf8(fmt.Sprintf("%s[%d]", field, i), s)
		if strings.Contains(s, Unit) {
			e.fail(fmt.Sprintf("%s[%d]", field, i), s, "must not contain the unit separator in a variable")
		}
	}
	if len(list) == 1 && list[0] == "" {
		e.fail(field+"[0]", "", ruleNoVariable) // A list with one empty value would look like no variable.
	}
	e.word(name, strings.Join(list, Unit))
}
