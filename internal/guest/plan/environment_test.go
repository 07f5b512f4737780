package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// rejected requires that err is an *Error for field, with value, whose rule
// contains rule.
func rejected(t *testing.T, p *Plan, err error, source Source, field, value, rule string) {
	t.Helper()
	if p != nil {
		t.Errorf("there is a plan beside the error:\n%s", p)
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want an *Error", err)
	}
	if e.Source != source || e.Field != field || e.Value != value || !strings.Contains(e.Rule, rule) {
		t.Errorf("got %v %s: %q: %s\nwant %v %s: %q: ...%s...", e.Source, e.Field, e.Value, e.Rule, source, field, value, rule)
	}
}

// TestEnvironmentRejects has every rejected form of docs/BOOT.md section 4. An
// empty value means that the error shows the whole value of the variable, and
// "part" that it shows an empty part of it.
//
//holds:boot 4: each rejected form ends the boot before its first step, with its phase on the console
func TestEnvironmentRejects(t *testing.T) {
	const net = "iface=eth0,mac=02:6d:73:00:2a:02"
	long := strings.Repeat("x", 256)
	for _, c := range []struct{ field, input, value, rule string }{
		{"MSB_BLOCK_ROOT", "device=/dev/vda", "", "must have a kind"},
		{"MSB_BLOCK_ROOT", "kind=,device=/dev/vda", "", "must have a kind"},
		{"MSB_BLOCK_ROOT", "kind=nfs", "", "must have a kind"},
		{"MSB_BLOCK_ROOT", "kind=Disk-Image,device=/dev/vda", "", "must have a kind"},
		{"MSB_BLOCK_ROOT", "kind=disk-image,kind=disk-image,device=/dev/vda", "kind=disk-image", "twice"},
		{"MSB_BLOCK_ROOT", "kind=disk-image,device=/dev/vda,device=/dev/vda", "device=/dev/vda", "twice"},
		{"MSB_BLOCK_ROOT", "kind=disk-image", "", "device must be an absolute path"},
		{"MSB_BLOCK_ROOT", "kind=disk-image,device=", "", "device must be an absolute path"},
		{"MSB_BLOCK_ROOT", "kind=disk-image,device=vda", "", "device must be an absolute path"},
		{"MSB_BLOCK_ROOT", "kind=oci-erofs,upper=/b,upper_fstype=ext4", "", "lower must be an absolute path"},
		{"MSB_BLOCK_ROOT", "kind=oci-erofs,lower=/a,upper_fstype=ext4", "", "upper must be an absolute path"},
		{"MSB_BLOCK_ROOT", "kind=oci-erofs,lower=/a,upper=tmpfs,upper_fstype=ext4", "", "upper must be an absolute path"},
		{"MSB_BLOCK_ROOT", "kind=oci-erofs,lower=/a,upper=/b", "", "upper_fstype must not be empty"},
		{"MSB_BLOCK_ROOT", "kind=oci-erofs,lower=/a,upper=/b,upper_fstype=", "", "upper_fstype must not be empty"},
		{"MSB_BLOCK_ROOT", "kind=disk-image,device=/dev/vda,", "part", "key=value"},
		{"MSB_BLOCK_ROOT", "kind=disk-image,device=/dev/vda,ro", "ro", "key=value"},
		{"MSB_BLOCK_ROOT", "kind=disk-image,device=/dev/vda,size=1", "size=1", "known key"},
		{"MSB_BLOCK_ROOT", "kind=disk-image,device=/dev/vda,lower=/a", "", "keys of its kind"},
		{"MSB_BLOCK_ROOT", "kind=oci-erofs,lower=/a,upper=/b,upper_fstype=ext4,fstype=ext4", "", "keys of its kind"},
		{"MSB_BLOCK_ROOT", "vda", "", "key=value"},
		{"MSB_BLOCK_ROOT", "/dev/vda,ro", "/dev/vda", "key=value"},

		{"MSB_DIR_MOUNTS", "data", "", "tag:path[:options]"},
		{"MSB_DIR_MOUNTS", "a:/a;data", "data", "tag:path[:options]"},
		{"MSB_DIR_MOUNTS", ":/data", "", "tag or id must not be empty"},
		{"MSB_DIR_MOUNTS", "t:", "", "path must be an absolute path"},
		{"MSB_DIR_MOUNTS", "t:data", "", "path must be an absolute path"},
		{"MSB_DIR_MOUNTS", "t:/", "", "root directory"},
		{"MSB_DIR_MOUNTS", "t://.", "", "root directory"},
		{"MSB_DIR_MOUNTS", "t:/a/../b", "", `".." component`},
		{"MSB_DIR_MOUNTS", "t:/..", "", `".." component`},
		{"MSB_DIR_MOUNTS", "t:/proc", "", "/proc, /sys, /dev (except /dev/shm) or /.msb"},
		{"MSB_DIR_MOUNTS", "t:/sys/fs/x", "", "/proc, /sys, /dev (except /dev/shm) or /.msb"},
		{"MSB_DIR_MOUNTS", "t://dev/", "", "/proc, /sys, /dev (except /dev/shm) or /.msb"},
		{"MSB_DIR_MOUNTS", "t:/./.msb/tls", "", "/proc, /sys, /dev (except /dev/shm) or /.msb"},
		{"MSB_DIR_MOUNTS", "t:/" + long, "", "component of more than 255 bytes"},
		{"MSB_DIR_MOUNTS", "t:" + strings.Repeat("/xxx", 1024), "", "longer than 4095 bytes"},
		{"MSB_DIR_MOUNTS", "t:/data:ro,ro", "", "twice"},
		{"MSB_DIR_MOUNTS", "t:/data:ro,rw", "", "twice"},
		{"MSB_DIR_MOUNTS", "t:/data:rw,rw", "", "twice"},
		{"MSB_DIR_MOUNTS", "t:/data:noexec,ro,noexec", "", "twice"},
		{"MSB_DIR_MOUNTS", "t:/data:nosuid,nosuid", "", "twice"},
		{"MSB_DIR_MOUNTS", "t:/data:nodev, nodev", "", "twice"},
		{"MSB_DIR_MOUNTS", "t:/data:suid", "", "not supported"},
		{"MSB_DIR_MOUNTS", "t:/data:exec", "", "not supported"},
		{"MSB_DIR_MOUNTS", "t:/data:dev", "", "not supported"},
		{"MSB_DIR_MOUNTS", "t:/data:sync", "", "not known"},
		{"MSB_DIR_MOUNTS", "t:/data:RO", "", "not known"},
		{"MSB_DIR_MOUNTS", "t:/data:ro=1", "", "not known"},
		{"MSB_DIR_MOUNTS", "t:/data:uid=1", "", "not known"},
		{"MSB_DIR_MOUNTS", "t:/data:ro:nodev", "", "not known"},
		{"MSB_DIR_MOUNTS", "t:/data:fstype=ext4", "", "not valid for a directory mount"},
		{"MSB_DIR_MOUNTS", "t:/data:size=1", "", "not valid for a directory mount"},
		{"MSB_DIR_MOUNTS", "t:/data:mode=1", "", "not valid for a directory mount"},
		{"MSB_DIR_MOUNTS", strings.Repeat("t:/d;", 4096) + "t:/e", "t:/e", "more than 4096 mounts"},

		{"MSB_FILE_MOUNTS", "fm:/etc/x", "", "tag:filename:path[:options]"},
		{"MSB_FILE_MOUNTS", ":f:/x", "", "tag or id must not be empty"},
		{"MSB_FILE_MOUNTS", "../t:f:/x", "", "tag or id must be one path component"},
		{"MSB_FILE_MOUNTS", "..:f:/x", "", "tag or id must be one path component"},
		{"MSB_FILE_MOUNTS", "t::/x", "", "filename must not be empty"},
		{"MSB_FILE_MOUNTS", "t:a/b:/x", "", "filename must be one path component"},
		{"MSB_FILE_MOUNTS", "t:.:/x", "", "filename must be one path component"},
		{"MSB_FILE_MOUNTS", "t:..:/x", "", "filename must be one path component"},
		{"MSB_FILE_MOUNTS", "t:" + long + ":/x", "", "filename must not have a component of more than 255"},
		{"MSB_FILE_MOUNTS", "t:f:x", "", "path must be an absolute path"},
		{"MSB_FILE_MOUNTS", "t:f:", "", "path must be an absolute path"},
		{"MSB_FILE_MOUNTS", "t:f:/x:suid", "", "not supported"},
		{"MSB_FILE_MOUNTS", "t:f:/x:fstype=ext4", "", "not valid for a file mount"},
		{"MSB_FILE_MOUNTS", "t:f:/x:size=4", "", "not valid for a file mount"},

		{"MSB_DISK_MOUNTS", "id", "", "id:path[:options]"},
		{"MSB_DISK_MOUNTS", ":/x", "", "tag or id must not be empty"},
		{"MSB_DISK_MOUNTS", "a/b:/x", "", "tag or id must be one path component"},
		{"MSB_DISK_MOUNTS", "a23456789012345678901:/x", "", "tag or id must not be longer than 20 bytes"},
		{"MSB_DISK_MOUNTS", "id:x", "", "path must be an absolute path"},
		{"MSB_DISK_MOUNTS", "id:/x:noload", "", "not known"},
		{"MSB_DISK_MOUNTS", "id:/x:fstype=", "", "must not be empty"},
		{"MSB_DISK_MOUNTS", "id:/x:fstype=ext4,fstype=ext4", "", "twice"},
		{"MSB_DISK_MOUNTS", "id:/x:fstype=a=b", "", "file system type without"},
		{"MSB_DISK_MOUNTS", "id:/x:fstype=a:b", "", "file system type without"},
		{"MSB_DISK_MOUNTS", "id:/x:size=1", "", "not valid for a disk mount"},
		{"MSB_DISK_MOUNTS", "id:/x:mode=1", "", "not valid for a disk mount"},

		{"MSB_TMPFS", ":size=1", "", "path must be an absolute path"},
		{"MSB_TMPFS", "tmp", "", "path must be an absolute path"},
		{"MSB_TMPFS", "/tmp,size=1", "", "path[:options]"},
		{"MSB_TMPFS", "/tmp:size=", "", "must not be empty"},
		{"MSB_TMPFS", "/tmp:size=x", "", "unsigned number of 32 bits"},
		{"MSB_TMPFS", "/tmp:size=-1", "", "unsigned number of 32 bits"},
		{"MSB_TMPFS", "/tmp:size=4294967296", "", "unsigned number of 32 bits"},
		{"MSB_TMPFS", "/tmp:size=1_0", "", "unsigned number of 32 bits"},
		{"MSB_TMPFS", "/tmp:size=1M", "", "unsigned number of 32 bits"},
		{"MSB_TMPFS", "/tmp:size= 1", "", "unsigned number of 32 bits"},
		{"MSB_TMPFS", "/tmp:size=1,size=1", "", "twice"},
		{"MSB_TMPFS", "/tmp:mode=8", "", "unsigned number of 32 bits"},
		{"MSB_TMPFS", "/tmp:mode=", "", "must not be empty"},
		{"MSB_TMPFS", "/tmp:mode=40000000000", "", "unsigned number of 32 bits"},
		{"MSB_TMPFS", "/tmp:mode=1,mode=1", "", "twice"},
		{"MSB_TMPFS", "/tmp:fstype=ext4", "", "not valid for a tmpfs mount"},
		{"MSB_TMPFS", "/tmp:size", "", "not known"},

		{"AGENTD_SHARE", "virtiofs", "", "must be tmpfs or absent"},

		{"MSB_HOSTNAME", strings.Repeat("h", 65), "", "longer than 64 bytes"},
		{"MSB_HOSTNAME", "a\n1.2.3.4 b", "", "control characters"},
		{"MSB_HOSTNAME", "a\x00b", "", "NUL"},
		{"MSB_HOSTNAME", "a\x7fb", "", "control characters"},
		{"MSB_HOST_ALIAS", "a\nb", "", "control characters"},
		{"MSB_HOST_ALIAS", "a\rb", "", "control characters"},

		{"MSB_NET", "mac=02:6d:73:00:2a:02", "", "iface must not be empty"},
		{"MSB_NET", "iface=eth0", "", "must have a mac"},
		{"MSB_NET", "iface=,mac=02:6d:73:00:2a:02", "iface=", "must not be empty"},
		{"MSB_NET", "iface=abcdefghijklmnop,mac=02:6d:73:00:2a:02", "iface=abcdefghijklmnop", "at most 15 bytes"},
		{"MSB_NET", "iface=a/b,mac=02:6d:73:00:2a:02", "iface=a/b", "without '/'"},
		{"MSB_NET", "iface=a b,mac=02:6d:73:00:2a:02", "iface=a b", "without '/'"},
		{"MSB_NET", "iface=..,mac=02:6d:73:00:2a:02", "iface=..", "'..'"},
		{"MSB_NET", "iface=a\x01,mac=02:6d:73:00:2a:02", "iface=a\x01", "control characters"},
		{"MSB_NET", net + ",", "part", "key=value"},
		{"MSB_NET", net + ",,mtu=1500", "part", "key=value"},
		{"MSB_NET", net + ",up", "up", "key=value"},
		{"MSB_NET", net + ",speed=1", "speed=1", "known key"},
		{"MSB_NET", net + ", mtu=1500", " mtu=1500", "known key"},
		{"MSB_NET", "iface=eth0,mac=02:6d:73:00:2a", "mac=02:6d:73:00:2a", "six octets"},
		{"MSB_NET", "iface=eth0,mac=02:6d:73:00:2a:02:01", "mac=02:6d:73:00:2a:02:01", "six octets"},
		{"MSB_NET", "iface=eth0,mac=02:6d:73:00:2a:100", "mac=02:6d:73:00:2a:100", "six octets"},
		{"MSB_NET", "iface=eth0,mac=02:6d:73:00:2a:g", "mac=02:6d:73:00:2a:g", "six octets"},
		{"MSB_NET", "iface=eth0,mac=02:6d:73:00:2a:", "mac=02:6d:73:00:2a:", "six octets"},
		{"MSB_NET", net + ",mtu=65536", "mtu=65536", "16 bits"},
		{"MSB_NET", net + ",mtu=", "mtu=", "16 bits"},
		{"MSB_NET", net + ",mtu=0", "mtu=0", "at least 68"},
		{"MSB_NET", net + ",mtu=67", "mtu=67", "at least 68"},

		{"MSB_NET_IPV4", "gw=10.0.0.1", "", "must have an addr"},
		{"MSB_NET_IPV4", "addr=10.0.0.2/24", "", "must have a gw"},
		{"MSB_NET_IPV4", "addr=10.0.0.2,gw=10.0.0.1", "addr=10.0.0.2", "prefix length up to 32"},
		{"MSB_NET_IPV4", "addr=10.0.0.2/33,gw=10.0.0.1", "addr=10.0.0.2/33", "prefix length up to 32"},
		{"MSB_NET_IPV4", "addr=10.0.0.2/256,gw=10.0.0.1", "addr=10.0.0.2/256", "prefix length up to 32"},
		{"MSB_NET_IPV4", "addr=10.0.0.2/,gw=10.0.0.1", "addr=10.0.0.2/", "prefix length up to 32"},
		{"MSB_NET_IPV4", "addr=10.0.0.2/2/4,gw=10.0.0.1", "addr=10.0.0.2/2/4", "prefix length up to 32"},
		{"MSB_NET_IPV4", "addr=10.0.0.02/24,gw=10.0.0.1", "addr=10.0.0.02/24", "IPv4 address"},
		{"MSB_NET_IPV4", "addr=fd::2/24,gw=10.0.0.1", "addr=fd::2/24", "IPv4 address"},
		{"MSB_NET_IPV4", "addr=10.0.0.2/24,gw=10.0.0", "gw=10.0.0", "IPv4 address"},
		{"MSB_NET_IPV4", "addr=10.0.0.2/24,gw=10.0.0.1,dns=", "dns=", "IPv4 address"},
		{"MSB_NET_IPV4", "addr=10.0.0.2/24,gw=10.0.0.1,", "part", "key=value"},
		{"MSB_NET_IPV4", "addr=10.0.0.2/24,gw=10.0.0.1,ntp=10.0.0.1", "ntp=10.0.0.1", "known key"},

		{"MSB_NET_IPV6", "gw=fd::1", "", "must have an addr"},
		{"MSB_NET_IPV6", "addr=fd::2/64", "", "must have a gw"},
		{"MSB_NET_IPV6", "addr=fd::2,gw=fd::1", "addr=fd::2", "prefix length up to 128"},
		{"MSB_NET_IPV6", "addr=fd::2/129,gw=fd::1", "addr=fd::2/129", "prefix length up to 128"},
		{"MSB_NET_IPV6", "addr=fd::2/256,gw=fd::1", "addr=fd::2/256", "prefix length up to 128"},
		{"MSB_NET_IPV6", "addr=10.0.0.2/24,gw=fd::1", "addr=10.0.0.2/24", "IPv6 address"},
		{"MSB_NET_IPV6", "addr=fe80::2%eth0/64,gw=fd::1", "addr=fe80::2%eth0/64", "without a zone"},
		{"MSB_NET_IPV6", "addr=fd::2/64,gw=fe80::1%eth0", "gw=fe80::1%eth0", "without a zone"},
		{"MSB_NET_IPV6", "addr=fd::2/64,gw=fd::1,", "part", "key=value"},
		{"MSB_NET_IPV6", "addr=fd::2/64,gw=fd::1,up=1", "up=1", "known key"},

		{"MSB_RLIMITS", "nofile", "", "resource=soft[:hard]"},
		{"MSB_RLIMITS", "nofile=", "", "unsigned number"},
		{"MSB_RLIMITS", "nofile=1:", "", "unsigned number"},
		{"MSB_RLIMITS", "nofile=1:2:3", "", "unsigned number"},
		{"MSB_RLIMITS", "nofile=unlimited", "", "unsigned number"},
		{"MSB_RLIMITS", "nofile=18446744073709551616", "", "unsigned number"},
		{"MSB_RLIMITS", "nofile=2:1", "", "soft limit"},
		{"MSB_RLIMITS", "files=1", "", "resource that Linux limits"},
		{"MSB_RLIMITS", "core=0; nofile=1", " nofile=1", "resource that Linux limits"},
		{"MSB_RLIMITS", "nofile=1;nofile=1", "nofile=1", "twice"},
		{"MSB_RLIMITS", "nofile=1;NoFile=1", "NoFile=1", "twice"},

		{"MSB_SECURITY_PROFILE", "Restricted", "", "default or restricted"},
		{"MSB_SECURITY_PROFILE", "none", "", "default or restricted"},

		{"MSB_HANDOFF_INIT", "sbin/init", "", "absolute path or"},
		{"MSB_HANDOFF_INIT", " /sbin/init", "", "absolute path or"},
		{"MSB_HANDOFF_INIT", "Auto", "", "absolute path or"},

		{"MSB_USER", ":1000", "", "a user before the colon"},
		{"MSB_USER", "1000:", "", "a group after the colon"},
		{"MSB_USER", "root: ", "root:", "a group after the colon"},
	} {
		t.Run(c.field+"/"+showValue(c.input), func(t *testing.T) {
			p, err := FromEnvironment([]string{c.field + "=" + c.input})
			value := c.value
			switch value {
			case "part":
				value = ""
			case "":
				value = c.input
			}
			rejected(t, p, err, Environment, c.field, value, c.rule)
		})
	}
}

func TestEnvironmentRejectsHandoverEnv(t *testing.T) {
	for value, bad := range map[string]string{"x": "x", "=x": "=x", "a=1\x1fb": "b", "a=1\x1f": "", " ": " "} {
		env := []string{"MSB_HANDOFF_INIT=auto", "MSB_HANDOFF_INIT_ENV=" + value}
		p, err := FromEnvironment(env)
		rejected(t, p, err, Environment, "MSB_HANDOFF_INIT_ENV", bad, "KEY=VALUE")
		mustEnvironment(t, env[1:])
	}
}

func TestEnvironmentRejectsBytes(t *testing.T) {
	for _, v := range variables() {
		env := []string{v.name + "=\xff", "MSB_HANDOFF_INIT=auto"}
		if v.name == "MSB_HANDOFF_INIT" {
			env = env[:1]
		}
		p, err := FromEnvironment(env)
		rejected(t, p, err, Environment, v.name, "\xff", "UTF-8")
		env[0] = v.name + "=/a\x00b"
		p, err = FromEnvironment(env)
		rejected(t, p, err, Environment, v.name, "/a\x00b", "NUL")
	}
	mustEnvironment(t, []string{"MSB_OTHER=\xff", "LANG=\xff"})
}

// TestEnvironmentFirstErrorWins breaks every variable that can be, in reverse,
// and mends them one by one.
func TestEnvironmentFirstErrorWins(t *testing.T) {
	var env []string
	for _, v := range variables() {
		if v.name != "MSB_HANDOFF_INIT_ARGS" && v.name != "MSB_HANDOFF_INIT_ENV" {
			env = append(env, v.name+"=:\n:")
		}
	}
	slices.Reverse(env)
	for ; len(env) > 0; env = env[:len(env)-1] {
		field, _, _ := strings.Cut(env[len(env)-1], "=")
		_, err := FromEnvironment(env)
		var e *Error
		if !errors.As(err, &e) || e.Field != field {
			t.Errorf("%v, want an error of %s", err, field)
		}
	}
}

// TestEnvironmentAccepts has forms that look odd and that hosts may send. The
// want is the line of the step that they make.
func TestEnvironmentAccepts(t *testing.T) {
	const mac = "mac=02:6d:73:00:2a:02"
	for _, c := range []struct{ env, want string }{
		{"MSB_BLOCK_ROOT= /dev/vda\t", "block-root disk-image /dev/vda /newroot probe rw"},
		{"MSB_BLOCK_ROOT=fstype=,device=/dev/vda,kind=disk-image", "block-root disk-image /dev/vda /newroot probe rw"},
		{"MSB_BLOCK_ROOT=kind=disk-image,device=/dev/vda,fstype=xfs", "block-root disk-image /dev/vda /newroot xfs rw"},
		{"MSB_DIR_MOUNTS=;;data:/data:;", "dir-mount data /data virtiofs relatime"},
		{"MSB_DIR_MOUNTS=data:/data:ro,,noexec", "dir-mount data /data virtiofs ro,noexec,relatime"},
		{"MSB_DIR_MOUNTS=data:/data: nodev , rw", "dir-mount data /data virtiofs nodev,relatime"},
		{"MSB_DIR_MOUNTS=data:/data:nosuid", "dir-mount data /data virtiofs nosuid,relatime"},
		{"MSB_DIR_MOUNTS=data://data/./x/", "dir-mount data /data/x virtiofs relatime"},
		{"MSB_DIR_MOUNTS=data:/a..b/...", "dir-mount data /a..b/... virtiofs relatime"},
		{"MSB_DIR_MOUNTS=data:/procedure", "dir-mount data /procedure virtiofs relatime"},
		{"MSB_DIR_MOUNTS=a/b:/data", "dir-mount a/b /data virtiofs relatime"},
		{"MSB_FILE_MOUNTS=fm:a b:/etc/a b", `file-mount fm "a b" "/etc/a b" relatime`},
		{"MSB_DISK_MOUNTS=id:/x:fstype=ext4,ro", "disk-mount id /x ext4 ro,relatime"},
		{"MSB_TMPFS=/tmp", "tmpfs-mount tmpfs /tmp tmpfs relatime mode=1777"},
		{"MSB_TMPFS=/var/tmp/", "tmpfs-mount tmpfs /var/tmp tmpfs relatime mode=1777"},
		{"MSB_TMPFS=/var/tmp/x", "tmpfs-mount tmpfs /var/tmp/x tmpfs relatime mode=755"},
		{"MSB_TMPFS=/tmp:mode=700,size=0", "tmpfs-mount tmpfs /tmp tmpfs relatime size=0,mode=700"},
		{"MSB_TMPFS=/t:mode=+7,size=+4294967295", "tmpfs-mount tmpfs /t tmpfs relatime size=4503599626321920,mode=7"},
		{"MSB_TMPFS=/t:mode=37777777777", "tmpfs-mount tmpfs /t tmpfs relatime mode=7777"},
		{"MSB_NET=iface=x,iface=eth0,mtu=9000," + mac, "interface eth0 mac=02:6d:73:00:2a:02 mtu=9000 ipv4=none ipv6=none"},
		{"MSB_NET=iface=eth0,mac=2:6D:73:0:2a:2,mtu=68", "interface eth0 mac=02:6d:73:00:2a:02 mtu=68 ipv4=none ipv6=none"},
		{"MSB_NET=iface=abcdefghijklmno," + mac, "interface abcdefghijklmno mac=02:6d:73:00:2a:02 mtu=1500 ipv4=none ipv6=none"},
		{"MSB_RLIMITS=;NOFILE=+5;core=0:7;", "limits nofile=5:5 core=0:7"},
		{"MSB_HANDOFF_INIT=/sbin/my init", `handover "/sbin/my init" [] cwd=none env []`},
		{"MSB_USER=\u00a0root \n", "handshake user=root"},
		{"MSB_USER= root : wheel ", `handshake user="root : wheel"`},
		{"MSB_NET_IPV6=addr=::ffff:1.2.3.4/96,gw=fd::1", "loopback"},
		{"MSB_NET_IPV4=addr=1.2.3.4/+30,gw=1.2.3.4", "loopback"},
	} {
		t.Run(c.env, func(t *testing.T) {
			p := mustEnvironment(t, []string{c.env})
			if !strings.Contains(p.String(), "\n"+c.want+"\n") {
				t.Errorf("no line %q in\n%s", c.want, p)
			}
		})
	}
}

// TestEnvironmentBlankIsAbsent compares with the plan of no variable at all.
func TestEnvironmentBlankIsAbsent(t *testing.T) {
	want := mustEnvironment(t, nil).String()
	for _, v := range variables() {
		for _, blank := range []string{"", " ", "\t\n\u2003"} {
			if got := mustEnvironment(t, []string{v.name + "=" + blank}).String(); got != want {
				t.Errorf("%s=%q changes the plan to\n%s", v.name, blank, got)
			}
		}
	}
}

func TestEnvironmentHandoverLists(t *testing.T) {
	for _, c := range []struct {
		args, env         string
		wantArgs, wantEnv []string
	}{
		{"", "", nil, nil},
		{"a b", "A=b c", []string{"a b"}, []string{"A=b c"}},
		{"a\x1f\x1fb\x1f", "A=\x1fB==", []string{"a", "", "b", ""}, []string{"A=", "B=="}},
		{" ", "A= ", []string{" "}, []string{"A= "}},
	} {
		h := find[Handover](t, mustEnvironment(t, []string{
			"MSB_HANDOFF_INIT=auto", "MSB_HANDOFF_INIT_ARGS=" + c.args, "MSB_HANDOFF_INIT_ENV=" + c.env,
		}))
		if !slices.Equal(h.Args, c.wantArgs) || !slices.Equal(h.Env, c.wantEnv) {
			t.Errorf("%q %q: args %q, env %q", c.args, c.env, h.Args, h.Env)
		}
	}
}

// TestEnvironmentStacksTargets: hosts of this generation may name a target twice,
// and the later mount lies over the earlier one.
func TestEnvironmentStacksTargets(t *testing.T) {
	p := mustEnvironment(t, []string{"MSB_DIR_MOUNTS=a:/x;b:/x", "MSB_FILE_MOUNTS=f:n:/x"})
	if names := stepNames(p); !strings.Contains(names, "2*dir-mount file-mount") {
		t.Errorf("steps are %s", names)
	}
}

func TestErrorText(t *testing.T) {
	_, err := FromEnvironment([]string{"MSB_TMPFS=/ok;c\tache:size=1"})
	const want = `MSB_TMPFS: "c\tache:size=1": path must be an absolute path`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	for _, n := range []int{127, 128, 129, 130, 131} {
		e := &Error{Field: "f", Value: strings.Repeat("x", n-1) + "€" + strings.Repeat("y", 5000), Rule: "r"}
		if text := e.Error(); len(text) > 150 || strings.Contains(text, `\x`) || !strings.Contains(text, `"...: r`) {
			t.Errorf("%d: %s", n, text)
		}
	}
	if text := (&Error{Value: strings.Repeat("\xff", 5000)}).Error(); len(text) > 1000 {
		t.Errorf("an error of %d bytes", len(text))
	}
}
