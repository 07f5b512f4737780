package plan

import (
	"errors"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire"
)

func TestNaming(t *testing.T) {
	network := &wire.Network{Interface: "eth0", MTU: 1500, IPv4: &wire.IPv4{PrefixLen: 24, DNS: &[4]byte{10, 0, 2, 3}}}
	for _, tt := range []struct {
		words    string
		network  *wire.Network
		resolver string
	}{
		{"", nil, ""},
		{"", network, "nameserver 10.0.2.3\n"},
		{"AGENTD_RESOLVER=search=a.org,search=b,option=ndots:2", network, "nameserver 10.0.2.3\nsearch a.org b\noptions ndots:2\n"},
		{"AGENTD_RESOLVER=nameserver=1.1.1.1,nameserver=2606:4700::1111", network, "nameserver 1.1.1.1\nnameserver 2606:4700::1111\n"},
		{"AGENTD_RESOLVER=nameserver=1.1.1.1", nil, "nameserver 1.1.1.1\n"},
	} {
		p, err := FromBootstrap(&wire.Bootstrap{Network: tt.network}, []string{tt.words})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, s := range p.Steps {
			if r, ok := s.(Resolver); ok {
				got = r.Content
			}
		}
		if got != tt.resolver {
			t.Errorf("%s: %q, want %q", tt.words, got, tt.resolver)
		}
	}
	p, err := FromEnvironment([]string{"MSB_HOSTNAME=m", "AGENTD_HOSTS=db=10.0.0.5,db6=fd00::5"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Steps {
		if h, ok := s.(HostsFile); ok && !strings.Contains(h.Content, "\n10.0.0.5\tdb\nfd00::5\tdb6\nfe00::") {
			t.Errorf("hosts %q", h.Content)
		}
	}
	for _, word := range []string{
		"AGENTD_HOSTS=db", "AGENTD_HOSTS==1.1.1.1", "AGENTD_HOSTS=db=x", "AGENTD_HOSTS=a b=1.1.1.1", "AGENTD_HOSTS=a=fe80::1%eth0", "AGENTD_HOSTS=,",
		"AGENTD_RESOLVER=nameserver=x", "AGENTD_RESOLVER=search=", "AGENTD_RESOLVER=search=a\nb", "AGENTD_RESOLVER=magic=1",
	} {
		_, err := FromBootstrap(&wire.Bootstrap{}, []string{word})
		if e, ok := errors.AsType[*Error](err); !ok || !strings.HasPrefix(word, e.Field) {
			t.Errorf("%q: %v", word, err)
		}
	}
}
