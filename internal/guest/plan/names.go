package plan

import (
	"fmt"
	"strings"
	"unicode"
)

// maxHostname is the longest name that sethostname(2) takes (__NEW_UTS_LEN).
const maxHostname = 64

const (
	ruleHostname = "must not be longer than 64 bytes"
	ruleMTU      = "must be at least 68, the smallest that IPv4 allows"
	ruleDevice   = "must be at most 15 bytes, without '/', ':' and spaces, and not '.' or '..'"
)

// CheckHostname refuses a host name that a configuration could not have.
func CheckHostname(name string) error {
	rule := checkHostname(name)
	if name == "" {
		rule = "must not be empty"
	}
	if rule != "" {
		return fmt.Errorf("hostname %q: %s", name, rule)
	}
	return nil
}

// checkHostname is the rule for a present hostname. Control characters are
// refused because the name is written into files of lines.
func checkHostname(s string) string {
	return firstRule(checkAlias(s), when(len(s) > maxHostname, ruleHostname))
}

// checkAlias is the rule for a present name of the host. No length limits it:
// it is written to a file only.
func checkAlias(s string) string {
	return firstRule(checkText(s), when(strings.ContainsFunc(s, unicode.IsControl), ruleControl))
}

// checkDevice is the rule of the kernel for names of interfaces (IFNAMSIZ less
// the NUL, and dev_valid_name): no interface can have another one.
func checkDevice(s string) string {
	bad := len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/:") ||
		strings.ContainsFunc(s, unicode.IsSpace)
	return firstRule(checkText(s), when(bad, ruleDevice),
		when(strings.ContainsFunc(s, unicode.IsControl), ruleControl))
}

// checkMTU refuses what the kernel refuses for Ethernet (ETH_MIN_MTU).
func checkMTU(n uint16) string { return when(n < 68, ruleMTU) }

// hosts returns the whole of /etc/hosts.
func (c *config) hosts() string {
	own := ""
	if c.hostname != "" {
		own = " " + c.hostname
	}
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost" + own + "\n")
	b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback" + own + "\n")
	for _, a := range []Address{c.ipv4, c.ipv6} {
		if c.alias != "" && a.Configured() {
			b.WriteString(a.Gateway.String() + "\t" + c.alias + "\n")
		}
	}
	for _, line := range c.naming.hosts {
		b.WriteString(line + "\n")
	}
	b.WriteString("fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	return b.String()
}

// resolver returns the whole of /etc/resolv.conf, or "" when nothing is said of it
// and the file of the image stays. Addresses without an interface do not count.
func (c *config) resolver() string {
	var servers []string
	for _, a := range []Address{c.ipv4, c.ipv6} {
		if c.device != nil && a.Configured() && a.DNS.IsValid() {
			servers = append(servers, a.DNS.String())
		}
	}
	return c.naming.text(servers)
}
