package life

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentd-go/agentd/shim/internal/host"
)

const (
	// killed is the status of a container whose shim is gone: as by signal 9.
	killed = 137
	// goneTime is for a shim that was killed, and its machine, to be gone.
	goneTime = 10 * time.Second
	// pollTime is between two looks at a cgroup: that of version 1 tells of no end.
	pollTime = 10 * time.Millisecond
)

// Delete is the command "delete": containerd calls it for a container whose shim
// does not answer. It ends what is left of the pod if the container is the pod's
// first, and reports the container as killed.
func Delete(a Args, out io.Writer) error {
	bundle := a.Bundle
	if bundle == "" {
		bundle = "."
	}
	if err := endPod(bundle); err != nil {
		return err
	}
	if err := host.Unmount(filepath.Join(bundle, "rootfs")); err != nil {
		return err
	}
	b, err := proto.Marshal(&task.DeleteResponse{ExitStatus: killed, ExitedAt: timestamppb.Now()})
	if err != nil {
		return err
	}
	_, err = out.Write(b)
	return err
}

func endPod(bundle string) error {
	r, err := readRecord(bundle)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // It joined a pod, or never came so far.
	}
	if err != nil {
		return err
	}
	if err := r.kill(); err != nil {
		return err
	}
	return errors.Join(removePod(r.Dir), removeCgroups(r.Cgroups))
}

func readRecord(dir string) (r record, err error) {
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", recordFile, err)
	}
	return r, nil
}

// kill ends the shim if it is there. QEMU and the file servers end with it.
func (r record) kill() error {
	fd, err := unix.PidfdOpen(r.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("shim %d: %w", r.PID, err)
	}
	defer func() { _ = unix.Close(fd) }()
	// After the open, so that the number cannot change its owner in between.
	if started, err := startTime(r.PID); err != nil || started != r.Started {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill shim %d: %w", r.PID, err)
	}
	// A pidfd reads as ready when its process has ended.
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(goneTime.Milliseconds()))
	if err == nil && n == 0 {
		err = fmt.Errorf("it does not end within %v", goneTime)
	}
	if err != nil {
		return fmt.Errorf("kill shim %d: %w", r.PID, err)
	}
	return nil
}

// startTime is when a process started, in ticks since the boot (proc_pid_stat(5),
// field 22; the name before it may hold anything but ends with the last bracket).
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	const after = 19 // Fields between the name and it.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) <= after {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	return strconv.ParseUint(fields[after], 10, 64)
}

// removePod removes a pod's directory: what it knows by name, and nothing through a
// mount, because what is mounted belongs to others.
func removePod(dir string) error {
	if dir == "" {
		return nil
	}
	for _, name := range []string{"shim.sock", "agent.sock", "console", recordFile, "root", "volumes", "tree"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "machine")); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeCgroups waits for QEMU, which the kernel ends after its shim, to leave them.
func removeCgroups(dirs []string) (err error) {
	for end := time.Now().Add(goneTime); ; <-time.After(pollTime) {
		if err = host.RemoveCgroup(dirs); err == nil || !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
	}
}
