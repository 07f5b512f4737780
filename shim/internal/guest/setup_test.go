package guest

import "testing"

// A name has its dots or its slashes, as sysctl(8) reads it.
func TestSysctlFile(t *testing.T) {
	for name, want := range map[string]string{
		"net.core.somaxconn":              "net/core/somaxconn",
		"net/ipv4/conf/eth0.1/forwarding": "net/ipv4/conf/eth0.1/forwarding",
		"net.ipv4.conf.eth0/1.forwarding": "net/ipv4/conf/eth0.1/forwarding",
		"kernel":                          "kernel",
		"net/../kernel/core_pattern":      "net/../kernel/core_pattern",
		"kernel.shmmax":                   "kernel/shmmax",
	} {
		if got := sysctlFile(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if err := writeSysctl("net/../../x", "1"); err == nil {
		t.Error("a name led out of /proc/sys")
	}
	for name, want := range map[string]bool{"kernel.shmmax": true, "kernel/msgmni": true, "fs.mqueue.msg_max": true, "net.core.somaxconn": false, "kernel.panic": false} {
		if ofHolder(name) != want {
			t.Errorf("%s is of the holder: %v", name, !want)
		}
	}
}
