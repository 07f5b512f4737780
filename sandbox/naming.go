package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agentd-go/agentd/wire/bootenv"
)

// A Resolver is the content of the guest's /etc/resolv.conf (resolv.conf(5)). Without
// servers the network's are used. If it is empty, the file is not changed.
type Resolver struct {
	Servers []string `json:"servers,omitempty"` // Addresses.
	Search  []string `json:"search,omitempty"`  // Domains.
	Options []string `json:"options,omitempty"`
}

const (
	// HostGateway stands for this host's address in the guest, in Config.Hosts.
	HostGateway = "host-gateway"
	// userGateway is this host's address on QEMU's user network; see userNetwork.
	userGateway = "10.0.2.2"
)

// namingWords returns the words for the agent.
func (c Config) namingWords() (words []string) {
	if len(c.Hosts) > 0 {
		hosts := strings.Join(c.Hosts, ",")
		if c.Network {
			hosts = strings.ReplaceAll(hosts, "="+HostGateway, "="+userGateway)
		}
		words = append(words, bootenv.Word(bootenv.Hosts, hosts))
	}
	var lines []string
	for _, kind := range []struct {
		key    string
		values []string
	}{{"nameserver", c.Resolver.Servers}, {"search", c.Resolver.Search}, {"option", c.Resolver.Options}} {
		for _, v := range kind.values {
			lines = append(lines, kind.key+"="+v)
		}
	}
	if len(lines) > 0 {
		words = append(words, bootenv.Word(bootenv.Resolver, strings.Join(lines, bootenv.Part)))
	}
	return words
}

// checkNaming refuses settings that the rest of the configuration excludes. It also
// refuses commas, which the agent would take for the end of a value.
func (c Config) checkNaming() error {
	said := slices.Concat(c.Hosts, c.Resolver.Servers, c.Resolver.Search, c.Resolver.Options)
	for _, s := range said {
		if strings.Contains(s, ",") {
			return fmt.Errorf("name %q: want it without a comma", s)
		}
		if strings.HasSuffix(s, "="+HostGateway) && !c.Network {
			return fmt.Errorf("host %q: a machine without a network card reaches no host", s)
		}
	}
	if len(said) > 0 && c.hooks.Foreign {
		return errors.New("hosts and a resolver: only our own agent can have them")
	}
	return nil
}
