package life

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/agentd-go/agentd/shim/internal/host"
	"github.com/agentd-go/agentd/shim/internal/pod"
)

// RunVariable names the directory for pods in place of RunDir, for a containerd
// with directories of its own.
const (
	RunVariable = "AGENTD_SHIM_RUN"
	RunDir      = "/run/agentd-shim"
)

// taskVersion is the newest version of the task service that we speak.
const taskVersion = 3

// dialTime is for a shim that lives to take a connection.
const dialTime = 5 * time.Second

// groups are the annotations by which a container names its pod's first one.
var groups = []string{"io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"}

// A record is what the pod's directory and the bundle of its first container say of
// the pod. Agentctl reads it too (its package internal/pods).
type record struct {
	ID, Namespace string
	Created       time.Time
	PID           int
	Started       uint64 // Field 22 of /proc/PID/stat: tells a later owner of the number apart.
	Dir           string
	Cgroups       []string
}

const recordFile = "agentd-pod.json"

// Start is the command "start", in the directory of a bundle: it starts a pod's shim
// or finds the one that runs, and writes its address.
func Start(a Args, in io.Reader, out io.Writer) error {
	how, err := a.readParams(in)
	if err != nil {
		return err
	}
	if err := a.check(); err != nil {
		return err
	}
	spec, err := pod.ReadSpec(".")
	if errors.Is(err, fs.ErrNotExist) {
		spec, err = &specs.Spec{}, nil
	}
	if err != nil {
		return err
	}
	group, err := groupOf(spec, a.ID)
	if err != nil {
		return err
	}
	dir := podDir(a, group)
	if !lives(dir) {
		if group != a.ID {
			return fmt.Errorf("container %s: the shim of its pod %s does not answer", a.ID, group)
		}
		if err := launch(a, spec, dir); err != nil {
			return err
		}
	}
	address := "unix://" + socket(dir)
	if err := os.WriteFile("address", []byte(address), 0o600); err != nil {
		return err
	}
	return answer(out, how, address)
}

// groupOf is the id of the container's pod: its own if no annotation names another.
func groupOf(spec *specs.Spec, id string) (string, error) {
	for _, name := range groups {
		if group := spec.Annotations[name]; group != "" {
			return group, checkName("annotation "+name, group)
		}
	}
	return id, nil
}

// podDir is short: a socket's path has 107 bytes at most (unix(7)).
func podDir(a Args, group string) string {
	base := os.Getenv(RunVariable)
	if base == "" {
		base = RunDir
	}
	sum := sha256.Sum256([]byte(a.Address + "\x00" + a.Namespace + "\x00" + group))
	return filepath.Join(base, hex.EncodeToString(sum[:16]))
}

func socket(dir string) string { return filepath.Join(dir, "shim.sock") }

func lives(dir string) bool {
	dialer := net.Dialer{Timeout: dialTime}
	c, err := dialer.DialContext(context.Background(), "unix", socket(dir))
	if err != nil {
		return false
	}
	return c.Close() == nil
}

func answer(out io.Writer, how way, address string) (err error) {
	var b []byte
	switch how {
	case byAddress:
		b = []byte(address)
	case byMessage:
		b, err = proto.Marshal(&bootapi.BootstrapResult{Version: taskVersion, Address: address, Protocol: "ttrpc"})
	case byJSON:
		b, err = json.Marshal(map[string]any{"version": taskVersion, "address": address, "protocol": "ttrpc"})
	}
	if err != nil {
		return err
	}
	_, err = out.Write(b)
	return err
}

// launch starts the shim of a new pod.
func launch(a Args, spec *specs.Spec, dir string) (err error) {
	if err := removePod(dir); err != nil { // Of a shim that was killed.
		return err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // The guest's users pass it.
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket(dir), Net: "unix"})
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var cgroups []string
	if spec.Linux != nil {
		if cgroups, err = host.CgroupDirs(spec.Linux.CgroupsPath); err != nil {
			return err
		}
	}
	origin, err := host.OpenOrigin()
	if err != nil {
		return err
	}
	defer origin.Close()
	network, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = network.Close() }()
	cmd, err := command(a, dir, f, origin.Mounts, network, origin.Root)
	if err != nil {
		return err
	}
	if err := inNamespaces(spec, cmd.Start); err != nil {
		return errors.Join(fmt.Errorf("start the shim: %w", err), removePod(dir))
	}
	err = errors.Join(host.EnterCgroup(cgroups, cmd.Process.Pid), writeRecord(record{ID: a.ID, Namespace: a.Namespace, PID: cmd.Process.Pid, Dir: dir, Cgroups: cgroups}))
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return errors.Join(err, removePod(dir), host.RemoveCgroup(cgroups))
	}
	return cmd.Process.Release()
}

// command is the shim itself, in a process group of its own.
func command(a Args, dir string, files ...*os.File) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	words := []string{"-namespace", a.Namespace, "-id", a.ID, "-address", a.Address, "-dir", dir}
	if a.Debug {
		words = append(words, "-debug")
	}
	cmd := exec.CommandContext(context.Background(), self, words...)
	cmd.Env = append(os.Environ(), "TTRPC_ADDRESS="+a.TTRPC)
	if os.Getenv("HOME") == "" {
		cmd.Env = append(cmd.Env, "HOME=/root") // The cache of kernels is found by it.
	}
	cmd.ExtraFiles = files // In the order of listenerFD, originFD, networkFD and rootFD.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// inNamespaces calls f on a thread that is in the pod's network namespace and in a
// new mount namespace, and a child that f starts with it. The thread ends there.
func inNamespaces(spec *specs.Spec, f func() error) error {
	return host.OnThread(func() error {
		if err := enter(spec); err != nil {
			return err
		}
		return f()
	})
}

func enter(spec *specs.Spec) error {
	if err := enterNetwork(spec); err != nil {
		return err
	}
	return host.OwnMounts()
}

// enterNetwork enters the namespace that the container names, or makes one for a
// container that wants one of its own. A container that names none is refused when
// it is created, where containerd shows the reason.
func enterNetwork(spec *specs.Spec) error {
	if spec.Linux == nil {
		return nil
	}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type != specs.NetworkNamespace {
			continue
		}
		if ns.Path == "" {
			return unix.Unshare(unix.CLONE_NEWNET)
		}
		f, err := os.Open(ns.Path)
		if err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
		defer func() { _ = f.Close() }()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace %s: %w", ns.Path, err)
		}
	}
	return nil
}

// writeRecord completes a record and writes it.
func writeRecord(r record) (err error) {
	if r.Started, err = startTime(r.PID); err != nil {
		return err
	}
	r.Created = time.Now().Round(0)
	return errors.Join(r.write(), os.WriteFile("shim.pid", []byte(strconv.Itoa(r.PID)), 0o600))
}

// write writes it in the pod's directory, and in the bundle that this process is in.
func (r record) write() error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(r.Dir, recordFile), b, 0o600), os.WriteFile(recordFile, b, 0o600))
}
