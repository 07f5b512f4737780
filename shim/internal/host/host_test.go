package host

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCgroupDirs(t *testing.T) {
	const (
		one = "30 20 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup none rw,cpu,cpuacct\n" +
			"31 20 0:27 / /sys/fs/cgroup/freezer rw - cgroup none rw,freezer\n" +
			"32 20 0:28 / /sys/fs/cgroup/memory rw - cgroup none rw,memory\n" +
			"33 20 0:29 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n"
		two = "33 20 0:29 / /sys/fs/cgroup rw shared:4 - cgroup2 none rw\n"
	)
	for _, c := range []struct {
		mounts, name string
		want         []string
	}{
		{one, "/k8s.io/a", []string{"/sys/fs/cgroup/cpu,cpuacct/k8s.io/a", "/sys/fs/cgroup/memory/k8s.io/a"}},
		{two, "/k8s.io/a", []string{"/sys/fs/cgroup/k8s.io/a"}},
		{"garbage\n", "/a", nil},
	} {
		if got := cgroupDirs(c.mounts, c.name); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestCgroupName(t *testing.T) {
	for path, want := range map[string]string{
		"/k8s.io/a": "/k8s.io/a",
		"a/../../b": "/b",
		"kubepods-besteffort-podx.slice:cri-containerd:id": "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podx.slice/cri-containerd-id.scope",
	} {
		if got := cgroupName(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestParseOptions(t *testing.T) {
	set, data := parseOptions([]string{"ro", "rbind", "nosuid", "lowerdir=/a:/b", "rw", "index=off"})
	if set != unix.MS_BIND|unix.MS_REC|unix.MS_NOSUID || data != "lowerdir=/a:/b,index=off" {
		t.Errorf("flags %x, data %q", set, data)
	}
}
