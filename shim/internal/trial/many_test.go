package trial

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

var (
	pods = flag.Int("pods", 200, "pods that TestManyPods makes")
	seed = flag.Uint64("seed", 1, "seed of what TestManyPods kills")
)

// victims are what is killed in a tenth of the pods, by turns.
var victims = []string{"containerd-shim", "qemu-system-x86", "virtiofsd"}

// atOnce is how many pods are under way together.
const atOnce = 3

// TestManyPods makes, kills and deletes pods, and kills a part of every tenth.
// Containerd is started anew in the middle of it. The end of newHost looks for what
// is left. It takes some 15 minutes for 200 pods in software emulation.
func TestManyPods(t *testing.T) {
	if os.Getenv("AGENTD_LONG") != "1" {
		t.Skip("a long trial: AGENTD_LONG=1 runs it")
	}
	h := newHost(t)
	m := &many{h: h, rng: rand.New(rand.NewPCG(*seed, 0))}
	before := leftovers(t)
	half := *pods / 2
	m.make(t, 0, half)
	h.run(t, "survivor")
	h.stop(t)
	h.start(t)
	if got := h.exec(t, "survivor", "echo", "still"); got != "still" {
		t.Errorf("after a restart of containerd: %q", got)
	}
	m.make(t, half, *pods)
	h.must(t, "task", "rm", "-f", "survivor")
	h.must(t, "container", "rm", "survivor")
	h.until(t, "nothing of the pods is left", func() bool { return len(h.left(t)) == 0 && leftovers(t) == before })
	if after := leftovers(t); after != before {
		t.Errorf("namespaces' names, links and cgroups before and after:\n%s\n%s", before, after)
	}
	t.Logf("%d pods, of which %d lost a part, seed %d", *pods, m.killed.Load(), *seed)
}

// leftovers are traces of pods outside their directories.
func leftovers(t *testing.T) string {
	t.Helper()
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Name())
	}
	netns, _ := os.ReadDir("/run/netns") // It need not be there.
	return fmt.Sprintf("links %v, %d namespaces with names", names, len(netns))
}

type many struct {
	h      *host
	killed atomic.Int64
	mu     sync.Mutex
	rng    *rand.Rand
}

func (m *many) make(t *testing.T, from, to int) {
	t.Helper()
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i := from; i < to; i++ {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			m.pod(t, i)
		})
	}
	all.Wait()
}

// pod is one life. In every tenth a part is killed: at once after the start, or
// while the pod starts.
func (m *many) pod(t *testing.T, i int) {
	t.Helper()
	id := fmt.Sprintf("p%d", i)
	victim := ""
	if i%10 == 0 {
		victim = victims[i/10%len(victims)]
	}
	if victim != "" && m.chance() {
		m.killWhileStarting(t, id, victim)
	} else {
		m.killAfterStart(t, id, victim)
	}
	_, _ = m.h.ctr(t, "task", "kill", "-s", "SIGKILL", id) // It may have ended.
	m.h.until(t, id+" is deleted", func() bool {
		_, _ = m.h.ctr(t, "task", "rm", "-f", id)
		_, _ = m.h.ctr(t, "container", "rm", id)
		out, err := m.h.ctr(t, "container", "ls", "-q")
		return err == nil && !strings.Contains("\n"+out, "\n"+id+"\n")
	})
}

func (m *many) chance() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(2) == 0
}

func (m *many) killAfterStart(t *testing.T, id, victim string) {
	t.Helper()
	m.h.run(t, id)
	if victim == "" {
		if got := m.h.exec(t, id, "echo", id); got != id {
			t.Errorf("%s says %q", id, got)
		}
		return
	}
	m.kill(t, id, victim)
	m.h.until(t, "the task of "+id+" without its "+victim+" has ended", func() bool {
		return !strings.Contains(taskLine(m.h.must(t, "task", "ls"), id), "RUNNING")
	})
}

// killWhileStarting needs no outcome of the start: containerd tells of a failure, or
// the part was killed too late.
func (m *many) killWhileStarting(t *testing.T, id, victim string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = m.h.ctr(t, "run", "-d", "--runtime", runtimeName, image, id, "sleep", "1000")
	}()
	m.h.until(t, "a "+victim+" of "+id, func() bool { return len(podMembers(t, m.h, id, victim)) > 0 })
	m.kill(t, id, victim)
	<-done
}

func (m *many) kill(t *testing.T, id, victim string) {
	t.Helper()
	pids := podMembers(t, m.h, id, victim)
	if len(pids) == 0 {
		t.Errorf("no %s of %s runs", victim, id)
		return
	}
	if err := syscall.Kill(pids[len(pids)-1], syscall.SIGKILL); err != nil {
		t.Errorf("kill %s of %s: %v", victim, id, err)
	}
	m.killed.Add(1)
}

// taskLine is the line of "ctr task ls" about one task.
func taskLine(text, id string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, id+" ") {
			return line
		}
	}
	return ""
}

// podMembers are the processes with a name that belong to a pod: its shim, whose
// arguments name the pod, and those of the shim's session.
func podMembers(t *testing.T, h *host, id, name string) (pids []int) {
	t.Helper()
	session := ""
	for _, pid := range members(t, h, "containerd-shim") {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // It may have ended.
		if strings.Contains(string(line), "\x00-id\x00"+id+"\x00") && strings.Contains(string(line), "\x00-dir\x00") {
			session = sessionOf(pid)
		}
	}
	for _, pid := range members(t, h, name) {
		if session != "" && sessionOf(pid) == session {
			pids = append(pids, pid)
		}
	}
	return pids
}

func sessionOf(pid int) string {
	const session = 6
	return statField(pid, session)
}

// statField is a field of /proc/PID/stat by its number in proc(5), after the name, which
// is the second; "" for a process that has ended.
func statField(pid, number int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	if fields := strings.Fields(rest); len(fields) > number-3 {
		return fields[number-3]
	}
	return ""
}
