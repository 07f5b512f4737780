package plan

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/wire/bootenv"
)

// parseUint parses an unsigned number of at most bits bits. It accepts one leading plus
// sign, as the number parser of the hosts that write these values does.
func parseUint(s string, base, bits int) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "+"), base, bits)
	return n, err == nil
}

const (
	rulePart       = "must have parts of the form key=value, joined by commas"
	ruleUnknownKey = "must be a known key"
)

// eachPair calls set for the key=value parts of a comma list, in order. It stops at the
// first rule that set returns.
func eachPair(value string, set func(key, value string) (rule string)) *Error {
	for part := range strings.SplitSeq(value, bootenv.Part) {
		k, v, ok := strings.Cut(part, "=")
		if !ok {
			return reject(part, rulePart)
		}
		if rule := set(k, v); rule != "" {
			return reject(part, rule)
		}
	}
	return nil
}

const (
	ruleKind     = "must have a kind, disk-image or oci-erofs"
	ruleKindKeys = "must have only keys of its kind"
)

// parseBlockRoot also accepts a device's path without a kind: hosts send it if they
// found no kind, and it can mean only a disk image.
func parseBlockRoot(c *config, value string) *Error {
	if strings.HasPrefix(value, "/") && !strings.ContainsAny(value, ",=") {
		c.root = diskImage(value, "")
		return nil
	}
	keys := make(map[string]string)
	if e := eachPair(value, func(k, v string) string { return addRootKey(keys, k, v) }); e != nil {
		return e
	}
	switch keys["kind"] {
	case bootenv.KindDiskImage:
		c.root = diskImage(keys["device"], keys["fstype"])
		return checkRootKeys(value, keys, []string{"device"}, []string{"kind", "fstype"})
	case bootenv.KindOCIErofs:
		c.root = ociRoot(keys["lower"], Mount{Source: keys["upper"], Type: keys["upper_fstype"]}, false)
		return checkRootKeys(value, keys, []string{"lower", "upper"}, []string{"kind", "upper_fstype"})
	}
	return reject(value, ruleKind)
}

func addRootKey(keys map[string]string, k, v string) (rule string) {
	if _, twice := keys[k]; twice {
		return ruleTwice
	}
	keys[k] = v
	switch k {
	case "kind", "device", "fstype", "lower", "upper", "upper_fstype":
		return ""
	}
	return ruleUnknownKey
}

// checkRootKeys checks that the paths are devices, and that no other keys than those in
// paths and others are given. An upper must name its file system; an image need not.
func checkRootKeys(value string, keys map[string]string, paths, others []string) *Error {
	for _, p := range paths {
		if rule := checkAbsolute(keys[p]); rule != "" {
			return reject(value, p+" "+rule)
		}
	}
	if keys["kind"] == bootenv.KindOCIErofs && keys["upper_fstype"] == "" {
		return reject(value, "upper_fstype "+ruleEmpty)
	}
	known := 0
	for _, k := range append(paths, others...) {
		if _, given := keys[k]; given {
			known++
		}
	}
	return rejectIf(value, when(known < len(keys), ruleKindKeys))
}

// defaultMTU is Ethernet's MTU.
const defaultMTU = 1500

const (
	ruleMAC       = "must have a mac of six octets in hexadecimal"
	ruleMTUNumber = "must have an mtu that fits 16 bits"
)

func parseNet(c *config, value string) *Error {
	d := &Interface{MTU: defaultMTU}
	mac := false
	e := eachPair(value, func(k, v string) (rule string) {
		switch k {
		case "iface":
			d.Device = v
			return checkDevice(v)
		case "mac":
			mac = true
			d.MAC, rule = parseMAC(v)
			return rule
		case "mtu":
			n, ok := parseUint(v, 10, 16)
			d.MTU = uint16(n)
			return firstRule(when(!ok, ruleMTUNumber), checkMTU(d.MTU))
		}
		return ruleUnknownKey
	})
	if e != nil {
		return e
	}
	c.device = d
	return rejectIf(value, firstRule(when(d.Device == "", "iface "+ruleEmpty), when(!mac, ruleMAC)))
}

func parseMAC(s string) (mac MAC, rule string) {
	octets := strings.Split(s, ":")
	if len(octets) != len(mac) {
		return MAC{}, ruleMAC
	}
	for i, o := range octets {
		n, ok := parseUint(o, 16, 8)
		if !ok {
			return MAC{}, ruleMAC
		}
		mac[i] = byte(n)
	}
	return mac, ""
}

func parseIPv4(c *config, value string) *Error {
	return parseAddress(&c.ipv4, value, netip.Addr.Is4, rulesIPv4)
}

func parseIPv6(c *config, value string) *Error {
	return parseAddress(&c.ipv6, value, netip.Addr.Is6, rulesIPv6)
}

// familyRules are the rules whose text names the address family.
type familyRules struct{ address, prefix string }

var (
	rulesIPv4 = familyRules{"must be an IPv4 address", "must have a prefix length up to 32"}
	rulesIPv6 = familyRules{"must be an IPv6 address without a zone", "must have a prefix length up to 128"}
)

const (
	ruleAddress = "must have an addr"
	ruleGateway = "must have a gw"
)

// parseAddress parses the variable of one address family.
func parseAddress(a *Address, value string, is func(netip.Addr) bool, rules familyRules) *Error {
	e := eachPair(value, func(k, v string) (rule string) {
		switch k {
		case "addr":
			a.Prefix, rule = parsePrefix(v, is, rules)
		case "gw":
			a.Gateway, rule = parseIP(v, is, rules)
		case "dns":
			a.DNS, rule = parseIP(v, is, rules)
		default:
			return ruleUnknownKey
		}
		return rule
	})
	if e != nil {
		return e
	}
	return rejectIf(value, firstRule(
		when(!a.Prefix.IsValid(), ruleAddress), when(!a.Gateway.IsValid(), ruleGateway)))
}

func parseIP(s string, is func(netip.Addr) bool, rules familyRules) (addr netip.Addr, rule string) {
	addr, err := netip.ParseAddr(s)
	if err != nil || !is(addr) || addr.Zone() != "" {
		return netip.Addr{}, rules.address
	}
	return addr, ""
}

func parsePrefix(s string, is func(netip.Addr) bool, rules familyRules) (prefix netip.Prefix, rule string) {
	host, length, _ := strings.Cut(s, "/")
	addr, rule := parseIP(host, is, rules)
	if rule != "" {
		return netip.Prefix{}, rule
	}
	bits, ok := parseUint(length, 10, 8)
	if !ok || int(bits) > addr.BitLen() {
		return netip.Prefix{}, rules.prefix
	}
	return netip.PrefixFrom(addr, int(bits)), ""
}
