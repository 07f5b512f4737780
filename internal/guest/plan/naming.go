package plan

import (
	"net/netip"
	"strings"
	"unicode"

	"github.com/agentd-go/agentd/wire/bootenv"
)

const (
	ruleResolver = "must have the form nameserver=ADDRESS, search=DOMAIN or option=WORD"
	ruleIP       = "must be an IP address without a zone"
	ruleWord     = "must be a word without spaces"
)

// naming is what the two variables say.
type naming struct {
	hosts   []string // Lines of /etc/hosts.
	servers []string
	search  []string
	options []string
}

// read takes the two variables.
func (n *naming) read(environ []string) *Error {
	for _, v := range []struct {
		name string
		set  func(key, value string) string
	}{{bootenv.Hosts, n.host}, {bootenv.Resolver, n.resolver}} {
		value := lookup(environ, v.name)
		if value == "" {
			continue
		}
		if e := eachPair(value, v.set); e != nil {
			e.Field = v.name
			return e
		}
	}
	return nil
}

func (n *naming) host(name, address string) (rule string) {
	n.hosts = append(n.hosts, address+"\t"+name)
	return firstRule(checkWord(name), checkAddress(address))
}

func (n *naming) resolver(key, value string) (rule string) {
	switch key {
	case "nameserver":
		n.servers = append(n.servers, value)
		return checkAddress(value)
	case "search":
		n.search = append(n.search, value)
	case "option":
		n.options = append(n.options, value)
	default:
		return ruleResolver
	}
	return checkWord(value)
}

func checkAddress(s string) string {
	a, err := netip.ParseAddr(s)
	return when(err != nil || a.Zone() != "", ruleIP)
}

// checkWord refuses what would not be one word of a line.
func checkWord(s string) string {
	broken := strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
	return firstRule(checkText(s), when(broken, ruleWord))
}

// text returns the resolver's lines; without name servers of its own, those that the
// network has.
func (n *naming) text(network []string) string {
	servers := n.servers
	if len(servers) == 0 {
		servers = network
	}
	var b strings.Builder
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(n.search) > 0 {
		b.WriteString("search " + strings.Join(n.search, " ") + "\n")
	}
	if len(n.options) > 0 {
		b.WriteString("options " + strings.Join(n.options, " ") + "\n")
	}
	return b.String()
}
