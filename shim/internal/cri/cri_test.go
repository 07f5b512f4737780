package cri_test

import (
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/agentd-go/agentd/shim/internal/cri"
	"github.com/agentd-go/agentd/shim/internal/raw"
)

func entry(key, value string) []byte { return raw.AppendText(raw.AppendText(nil, 1, key), 2, value) }

// linux is a LinuxPodSandboxConfig with one namespace option.
func linux(option protowire.Number, mode uint64) []byte {
	return raw.AppendText(nil, 8, raw.AppendText(nil, 2, raw.AppendText(nil, 1, raw.AppendNumber(nil, option, mode))))
}

func TestParse(t *testing.T) {
	limits := raw.AppendNumber(raw.AppendNumber(raw.AppendNumber(nil, 1, 100000), 2, 150000), 4, 1<<30)
	within := raw.AppendText(raw.AppendText(nil, 1, "/kubepods/pod1"), 3, entry("net.core.somaxconn", "77"))
	b := raw.AppendText(raw.AppendText(nil, 2, "web"), 4, raw.AppendText(raw.AppendText(raw.AppendText(nil, 1, "192.0.2.1"), 2, "a.example"), 3, "ndots:5"))
	b = raw.AppendText(raw.AppendText(b, 7, entry("io.agentd.cpus", "2")), 8, raw.AppendText(within, 5, limits))
	p, err := cri.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	want := cri.Pod{
		Hostname: "web", DNS: &cri.DNS{Servers: []string{"192.0.2.1"}, Searches: []string{"a.example"}, Options: []string{"ndots:5"}},
		Annotations: map[string]string{"io.agentd.cpus": "2"}, CgroupParent: "/kubepods/pod1",
		Sysctls: map[string]string{"net.core.somaxconn": "77"}, Limits: cri.Limits{CPUPeriod: 100000, CPUQuota: 150000, MemoryBytes: 1 << 30},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("%+v", p)
	}
	files := p.Files("host", "127.0.0.1 localhost\n", "of the host")
	if files["resolv.conf"] != "search a.example\nnameserver 192.0.2.1\noptions ndots:5\n" || files["hostname"] != "web\n" || files["hosts"] != "127.0.0.1 localhost\n" {
		t.Errorf("%q", files)
	}
	if files := (cri.Pod{}).Files("host", "", "of the host"); files["hostname"] != "host\n" || files["resolv.conf"] != "of the host" {
		t.Errorf("%q", files)
	}
}

// What is the host's, and what would write more into a file than a word, is refused by
// name.
func TestRefusals(t *testing.T) {
	for want, b := range map[string][]byte{
		"":                       linux(2, 1),
		`network "NODE"`:         linux(1, 2),
		`pid "NODE"`:             linux(2, 2),
		`ipc "NODE"`:             linux(3, 2),
		`userns_options "POD"`:   raw.AppendText(nil, 8, raw.AppendText(nil, 2, raw.AppendText(nil, 1, raw.AppendText(nil, 5, raw.AppendText(nil, 2, "\x08\x01"))))),
		`hostname "a b"`:         raw.AppendText(nil, 2, "a b"),
		"dns_config.servers":     raw.AppendText(nil, 4, raw.AppendText(nil, 1, "1.1.1.1\nnameserver 2.2.2.2")),
		"linux.cgroup_parent":    raw.AppendText(nil, 8, raw.AppendText(nil, 1, "a\x00b")),
		"field 8":                raw.AppendText(nil, 8, "\xff"),
		"linux.security_context": raw.AppendText(nil, 8, raw.AppendText(nil, 2, "\xff")),
	} {
		if _, err := cri.Parse(b); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(linux(1, 2))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = cri.Parse(b) })
}
