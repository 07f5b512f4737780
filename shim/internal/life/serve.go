package life

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	containerdlog "github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/shim/internal/host"
	"github.com/agentd-go/agentd/shim/internal/options"
	"github.com/agentd-go/agentd/shim/internal/pod"
	"github.com/agentd-go/agentd/shim/internal/service"
)

// MasterVariable names the directory with the programs of the machine's root, in
// place of the one that is installed beside the shim.
const MasterVariable = "AGENTD_POD_ROOT"

const (
	// listenerFD is where the shim finds the socket that start has opened.
	listenerFD = 3
	// originFD is the mount namespace of containerd.
	originFD = 4
	// networkFD is the network namespace of containerd.
	networkFD = 5
	// rootFD is the root directory of containerd.
	rootFD = 6
	// endTime bounds each part of the end: calls under way, and events.
	endTime = 5 * time.Second
	// answerTime is for the callers to take the last answer and close their connections;
	// containerd does so at once.
	answerTime = time.Second
	// gcPercent lets the heap grow by a fifth only: a shim is small and idle, and a
	// host has hundreds.
	gcPercent = 20
)

// Serve is the shim itself.
func Serve(a Args) error {
	log := openLog()
	debug.SetGCPercent(gcPercent)
	containerdlog.L.Logger.SetOutput(io.Discard) // The library has a line for each wrong frame of a guest.
	l, err := net.FileListener(os.NewFile(listenerFD, "socket"))
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	master, err := findMaster()
	if err != nil {
		return err
	}
	opts, err := options.Read("")
	if err != nil {
		return err
	}
	publisher := service.NewPublisher(a.TTRPC, a.Namespace, log)
	tasks := service.NewTasks(a.Namespace, Version, publisher)
	p := pod.New(pod.Config{
		ID: a.ID, Namespace: a.Namespace, Dir: a.Dir, Master: master, Origin: host.Origin{Mounts: os.NewFile(originFD, "mounts"), Root: os.NewFile(rootFD, "root")}, Network: os.NewFile(networkFD, "network"),
		Options: opts, Log: log, Events: tasks, Charge: func(cgroupsPath string) error { return charge(a.Dir, cgroupsPath) },
	})
	tasks.SetPod(p)
	callers := newConnections()
	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(callers), ttrpc.WithUnaryServerInterceptor(resting(log).intercept))
	if err != nil {
		return err
	}
	tasks.Register(server)
	go func() { _ = server.Serve(context.Background(), l) }() // Until its Shutdown.
	await(tasks.Closed(), log)
	callers.wait(answerTime)
	return end(a, server, publisher, p)
}

// resting gives memory back after each time in which there were calls.
func resting(log func(string, ...any)) rest {
	return newRest(func() {
		if err := host.LetGo(); err != nil {
			log("give memory back: %v", err)
		}
	})
}

// charge moves this process into a cgroup, and notes it where "delete" looks.
func charge(dir, cgroupsPath string) error {
	dirs, err := host.CgroupDirs(cgroupsPath)
	if err != nil {
		return err
	}
	r, err := readRecord(dir)
	if err != nil {
		return err
	}
	r.Cgroups = dirs
	if err := r.write(); err != nil { // First: what is noted and not made can be removed.
		return err
	}
	return host.EnterCgroup(dirs, os.Getpid())
}

// await waits for containerd's word, or a signal that ends the pod too.
func await(closed <-chan struct{}, log func(string, ...any)) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGPIPE)
	select {
	case <-closed:
	case s := <-signals:
		log("%v ends the pod", s)
	}
}

// end leaves nothing. The answer to Shutdown goes out first.
func end(a Args, server *ttrpc.Server, publisher *service.Publisher, p *pod.Pod) error {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	_ = server.Shutdown(ctx) // A call that still waits is cut off.
	err := p.Close()
	publisher.Close(endTime)
	r, failed := readRecord(a.Dir)
	err = errors.Join(err, failed, removePod(a.Dir))
	if failed == nil && len(r.Cgroups) > 0 {
		err = errors.Join(err, leaveCgroups(), host.RemoveCgroup(r.Cgroups))
	}
	return err
}

// leaveCgroups moves this process to the roots of the hierarchies: a cgroup with a
// process in it cannot be removed.
func leaveCgroups() error {
	dirs, err := host.CgroupDirs("/")
	if err != nil {
		return err
	}
	return host.EnterCgroup(dirs, os.Getpid())
}

// findMaster finds the directory with bin and sbin: beside the shim, or where "make
// install-shim" puts it.
func findMaster() (string, error) {
	if dir := os.Getenv(MasterVariable); dir != "" {
		return dir, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	var tried []string
	for _, dir := range []string{"pod", "../lib/agentd/pod"} {
		dir = filepath.Join(filepath.Dir(self), dir)
		if _, err := os.Stat(filepath.Join(dir, "sbin", "agentd-pod")); err == nil {
			return dir, nil
		}
		tried = append(tried, dir)
	}
	return "", fmt.Errorf("no agentd-pod for the machine's root in %s; %s names another directory", strings.Join(tried, " or "), MasterVariable)
}

// openLog opens the fifo that containerd reads the shim's log from. It is open for
// both, and does not wait: without a reader lines are lost, and nothing else is.
func openLog() func(string, ...any) {
	if fd, err := unix.Open("log", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
		_ = unix.Dup3(fd, 1, 0)
		_ = unix.Dup3(fd, 2, 0)
		_ = unix.Close(fd)
	}
	return func(format string, args ...any) {
		line := fmt.Appendf(nil, "time=%q level=info msg=%s\n", time.Now().Format(time.RFC3339Nano), strconv.Quote("agentd-shim: "+fmt.Sprintf(format, args...)))
		_, _ = unix.Write(2, line) // A log that cannot be written stops nobody.
	}
}
