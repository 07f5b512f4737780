package host

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// charged are the controllers of cgroup 1 by which a host accounts for a pod. Others
// need settings of their own before a process may enter.
var charged = []string{"cpu", "cpuacct", "memory", "pids", "blkio"}

// CgroupDirs are the directories of a cgroup, one for each hierarchy that counts.
// What the host calls it is the path of config.json, in either form.
func CgroupDirs(cgroupsPath string) ([]string, error) {
	if cgroupsPath == "" {
		return nil, nil
	}
	name := cgroupName(cgroupsPath)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return cgroupDirs(string(mounts), name), nil
}

// cgroupName turns systemd's SLICE:PREFIX:NAME into the path that it makes of it.
func cgroupName(p string) string {
	parts := strings.Split(p, ":")
	if len(parts) != 3 {
		return path.Join("/", p)
	}
	slice := strings.TrimSuffix(parts[0], ".slice")
	dir, words := "/", strings.Split(slice, "-")
	for i := range words {
		if slice != "" {
			dir = path.Join(dir, strings.Join(words[:i+1], "-")+".slice")
		}
	}
	return path.Join(dir, parts[1]+"-"+parts[2]+".scope")
}

// cgroupDirs reads the hierarchies from mountinfo (proc_pid_mountinfo(5)).
func cgroupDirs(mountinfo, name string) (dirs []string) {
	var unified string
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		dir := filepath.Join(left[4], name)
		switch right[0] {
		case "cgroup2":
			unified = dir
		case "cgroup":
			options := strings.Split(right[2], ",")
			if slices.ContainsFunc(charged, func(c string) bool { return slices.Contains(options, c) }) && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	if len(dirs) == 0 && unified != "" {
		return []string{unified}
	}
	return dirs
}

// EnterCgroup moves a process into the directories, which are made.
func EnterCgroup(dirs []string, pid int) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // As all cgroups.
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil { //nolint:gosec // A file of the kernel.
			return fmt.Errorf("enter the cgroup: %w", err)
		}
	}
	return nil
}

// RemoveCgroup removes the directories, when no process is left in them.
func RemoveCgroup(dirs []string) (err error) {
	for _, dir := range dirs {
		if failed := unix.Rmdir(dir); failed != nil && !errors.Is(failed, unix.ENOENT) {
			err = errors.Join(err, &os.PathError{Op: "rmdir", Path: dir, Err: failed})
		}
	}
	return err
}
