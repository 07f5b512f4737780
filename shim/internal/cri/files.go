package cri

import "strings"

// Files are the files of /etc that the containers of a pod share, by their names. The
// host's are what a pod has that says nothing else.
func (p Pod) Files(hostname, hosts, resolv string) map[string]string {
	name := p.Hostname
	if name == "" {
		name = hostname
	}
	if p.DNS != nil {
		resolv = p.DNS.file()
	}
	return map[string]string{"hostname": name + "\n", "hosts": hosts, "resolv.conf": resolv}
}

// file is a resolv.conf (resolv.conf(5)).
func (d *DNS) file() string {
	var lines strings.Builder
	if len(d.Searches) > 0 {
		lines.WriteString("search " + strings.Join(d.Searches, " ") + "\n")
	}
	for _, s := range d.Servers {
		lines.WriteString("nameserver " + s + "\n")
	}
	if len(d.Options) > 0 {
		lines.WriteString("options " + strings.Join(d.Options, " ") + "\n")
	}
	return lines.String()
}
