// Package cri reads what Kubernetes' CRI says of a pod: containerd hands it to a shim
// that makes pods itself, as an option of CreateSandbox. It touches nothing.
package cri

import (
	"fmt"
	"strings"

	"github.com/agentd-go/agentd/shim/internal/raw"
)

// TypeURL is of the option. Its numbers are those of api.proto in k8s.io/cri-api,
// package runtime.v1.
const TypeURL = "runtime.v1.PodSandboxConfig"

// A Pod is what of a pod's configuration a machine needs.
type Pod struct {
	Hostname     string
	DNS          *DNS // nil is the host's.
	Annotations  map[string]string
	CgroupParent string
	Sysctls      map[string]string
	Limits       Limits
}

// A DNS is the pod's resolv.conf.
type DNS struct{ Servers, Searches, Options []string }

// Limits are the sums of the limits of the pod's containers; 0 is none.
type Limits struct{ CPUPeriod, CPUQuota, MemoryBytes int64 }

// A RefusedError names a part of the configuration that is not offered.
type RefusedError struct{ Field, Value, Reason string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("pod: %s %q: %s", e.Field, e.Value, e.Reason)
}

// The numbers of the fields.
const (
	podHostname, podDNS, podAnnotations, podLinux = 2, 4, 7, 8

	linuxCgroupParent, linuxSecurity, linuxSysctls, linuxResources = 1, 2, 3, 5

	securityNamespaces = 1

	namespacesNetwork, namespacesPid, namespacesIpc, namespacesUser = 1, 2, 3, 5

	userMode = 1

	dnsServers, dnsSearches, dnsOptions = 1, 2, 3

	resourcesPeriod, resourcesQuota, resourcesMemory = 1, 2, 4
)

// The values of NamespaceMode.
const (
	modePod  = 0
	modeNode = 2
)

// Parse reads a PodSandboxConfig. The error is a [*RefusedError] for what no machine
// can give.
func Parse(b []byte) (Pod, error) {
	m, err := raw.Parse(b)
	if err != nil {
		return Pod{}, fmt.Errorf("pod: %w", err)
	}
	p := Pod{Hostname: m.Text(podHostname)}
	if err := checkWords("hostname", p.Hostname); err != nil {
		return p, err
	}
	if p.Annotations, err = m.Map(podAnnotations); err != nil {
		return p, fmt.Errorf("pod: annotations: %w", err)
	}
	if m.Has(podDNS) {
		if p.DNS, err = parseDNS(m); err != nil {
			return p, err
		}
	}
	linux, err := m.Message(podLinux)
	if err != nil {
		return p, fmt.Errorf("pod: linux: %w", err)
	}
	return p, p.parseLinux(linux)
}

func parseDNS(pod raw.Message) (*DNS, error) {
	m, err := pod.Message(podDNS)
	if err != nil {
		return nil, fmt.Errorf("pod: dns_config: %w", err)
	}
	d := &DNS{m.Texts(dnsServers), m.Texts(dnsSearches), m.Texts(dnsOptions)}
	for field, words := range map[string][]string{"servers": d.Servers, "searches": d.Searches, "options": d.Options} {
		if err := checkWords("dns_config."+field, words...); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// checkWords refuses what would be more than one word of a file with lines of words.
func checkWords(field string, words ...string) error {
	for _, w := range words {
		if strings.ContainsAny(w, " \t\r\n\x00") {
			return &RefusedError{field, w, "want one word"}
		}
	}
	return nil
}

func (p *Pod) parseLinux(m raw.Message) (err error) {
	p.CgroupParent = m.Text(linuxCgroupParent)
	if strings.ContainsRune(p.CgroupParent, 0) {
		return &RefusedError{"linux.cgroup_parent", p.CgroupParent, "it holds a zero byte"}
	}
	if p.Sysctls, err = m.Map(linuxSysctls); err != nil {
		return fmt.Errorf("pod: linux.sysctls: %w", err)
	}
	limits, err := m.Message(linuxResources)
	if err != nil {
		return fmt.Errorf("pod: linux.resources: %w", err)
	}
	p.Limits = Limits{limits.Number(resourcesPeriod), limits.Number(resourcesQuota), limits.Number(resourcesMemory)}
	security, err := m.Message(linuxSecurity)
	if err != nil {
		return fmt.Errorf("pod: linux.security_context: %w", err)
	}
	namespaces, err := security.Message(securityNamespaces)
	if err != nil {
		return fmt.Errorf("pod: linux.security_context.namespace_options: %w", err)
	}
	return checkNamespaces(namespaces)
}

// checkNamespaces refuses the host's. A pid namespace may be the pod's or each
// container's own: the containers say it again.
func checkNamespaces(m raw.Message) error {
	const field = "linux.security_context.namespace_options."
	for name, number := range map[string]int64{
		"network": m.Number(namespacesNetwork), "pid": m.Number(namespacesPid), "ipc": m.Number(namespacesIpc),
	} {
		if number == modeNode {
			return &RefusedError{field + name, "NODE", "it asks for the host's; a machine has its own"}
		}
	}
	if !m.Has(namespacesUser) {
		return nil
	}
	user, err := m.Message(namespacesUser)
	if err == nil && user.Number(userMode) == modePod {
		err = &RefusedError{field + "userns_options", "POD", "user namespaces are not offered: the machine stands in their place"}
	}
	return err
}
