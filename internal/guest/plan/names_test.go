package plan

import (
	"slices"
	"strings"
	"testing"
)

// TestHostsFile holds every combination of hostname, alias and families to the
// bytes that hosts expect.
func TestHostsFile(t *testing.T) {
	const (
		v4   = "MSB_NET_IPV4=addr=172.16.0.170/30,gw=172.16.0.169"
		v6   = "MSB_NET_IPV6=addr=FD42:6d73:62:2a:0:0:0:2/64,gw=fd42:6d73:0062:2a:0:0:0:1"
		tail = "fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
		anon = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
		own  = "127.0.0.1\tlocalhost web-1\n::1\tlocalhost ip6-localhost ip6-loopback web-1\n"
	)
	for _, c := range []struct {
		name string
		env  []string
		want string
	}{
		{"nothing", nil, anon + tail},
		{"addresses without an alias", []string{v4, v6}, anon + tail},
		{"alias without addresses", []string{"MSB_HOST_ALIAS=host"}, anon + tail},
		{"hostname", []string{"MSB_HOSTNAME=web-1"}, own + tail},
		{"alias, IPv4", []string{"MSB_HOST_ALIAS=host", v4}, anon + "172.16.0.169\thost\n" + tail},
		{"alias, IPv6", []string{"MSB_HOST_ALIAS=host", v6}, anon + "fd42:6d73:62:2a::1\thost\n" + tail},
		{
			"all",
			[]string{"MSB_HOSTNAME=web-1", "MSB_HOST_ALIAS=host", v4, v6},
			own + "172.16.0.169\thost\nfd42:6d73:62:2a::1\thost\n" + tail,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := find[HostsFile](t, mustEnvironment(t, c.env))
			if got.Content != c.want {
				t.Errorf("got\n%s\nwant\n%s", got.Content, c.want)
			}
		})
	}
}

//holds:boot 17: no server: the resolver's file is left
func TestResolver(t *testing.T) {
	const net = "MSB_NET=iface=eth0,mac=02:6d:73:00:2a:02"
	for _, c := range []struct {
		env  []string
		want string
	}{
		{[]string{net, "MSB_NET_IPV4=addr=10.0.0.2/24,gw=10.0.0.1,dns=10.0.0.3"}, "nameserver 10.0.0.3\n"},
		{[]string{net, "MSB_NET_IPV6=addr=fd::2/64,gw=fd::1,dns=fd::3"}, "nameserver fd::3\n"},
		{
			[]string{net, "MSB_NET_IPV4=addr=10.0.0.2/24,gw=10.0.0.1,dns=10.0.0.3", "MSB_NET_IPV6=addr=fd::2/64,gw=fd::1,dns=fd::3"},
			"nameserver 10.0.0.3\nnameserver fd::3\n",
		},
		{[]string{net, "MSB_NET_IPV4=addr=10.0.0.2/24,gw=10.0.0.1"}, ""},
		{[]string{net}, ""},
		{[]string{"MSB_NET_IPV4=addr=10.0.0.2/24,gw=10.0.0.1,dns=10.0.0.3"}, ""},
	} {
		var content string
		for _, s := range mustEnvironment(t, c.env).Steps {
			if r, ok := s.(Resolver); ok {
				content = r.Content
			}
		}
		if content != c.want {
			t.Errorf("%q: %q, want %q", c.env, content, c.want)
		}
	}
}

func mustEnvironment(t *testing.T, env []string) *Plan {
	t.Helper()
	p, err := FromEnvironment(env)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// find returns the one step of type S.
func find[S Step](t *testing.T, p *Plan) S {
	t.Helper()
	i := slices.IndexFunc(p.Steps, func(s Step) bool { _, ok := s.(S); return ok })
	if i < 0 {
		t.Fatalf("the plan has no such step:\n%s", p)
	}
	s, ok := p.Steps[i].(S)
	if !ok {
		t.Fatal("unreachable")
	}
	return s
}

func TestHostnameLength(t *testing.T) {
	mustEnvironment(t, []string{"MSB_HOSTNAME=" + strings.Repeat("h", 64)})
	mustEnvironment(t, []string{"MSB_HOST_ALIAS=" + strings.Repeat("h", 65)})
}
