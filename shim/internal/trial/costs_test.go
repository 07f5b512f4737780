package trial

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var rounds = flag.Int("rounds", 9, "containers that TestCosts starts by each way")

// TestCosts prints what a pod costs: where its memory on the host is while it rests, and
// the time of a second container beside that of one by runc, by turns.
func TestCosts(t *testing.T) {
	if os.Getenv("AGENTD_LONG") != "1" {
		t.Skip("a measurement: AGENTD_LONG=1 takes it")
	}
	h := newHost(t)
	h.run(t, "first")
	h.run(t, "other")
	t.Run("memory", func(t *testing.T) { memoryAtRest(t, h) })
	t.Run("time", func(t *testing.T) { secondContainer(t, h) })
}

// restful is longer than the shim waits for a call before it gives memory back.
const restful = 6 * time.Second

// The parts of a process's memory. What is of files can be used by all pods, and the kernel
// can take it back.
const (
	translated = "translated code"
	guests     = "the guest's memory" // Which is not beside it.
	ofFiles    = "of files"
	ofItsOwn   = "of its own"
)

// memoryAtRest counts proportional set sizes (PSS), while two pods rest: what one of them
// costs.
func memoryAtRest(t *testing.T, h *host) {
	t.Helper()
	<-time.After(restful)
	sums := map[string]int{}
	for _, name := range []string{"containerd-shim", "qemu-system-x86", "virtiofsd"} {
		pids := podMembers(t, h, "first", name)
		if len(pids) == 0 {
			t.Fatalf("no %s runs", name)
		}
		for _, pid := range pids {
			for part, kib := range memoryOf(t, pid) {
				sums[name+", "+part] += kib
			}
		}
	}
	all := 0
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		t.Logf("%-40s %6.1f MiB", name, float64(sums[name])/1024)
		if !strings.HasSuffix(name, guests) {
			all += sums[name]
		}
	}
	t.Logf("%-40s %6.1f MiB", "all, without the guest's", float64(all)/1024)
}

// memoryOf is the PSS of a process by part, in KiB (proc_pid_smaps(5)).
func memoryOf(t *testing.T, pid int) map[string]int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	parts, mapping := map[string]int{}, ""
	pss := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(strings.Fields(line)[0], ":") {
			mapping = line
			continue
		}
		var anonymous, n int
		if _, err := fmt.Sscanf(line, "Pss: %d kB", &n); err == nil {
			pss = n
		}
		if _, err := fmt.Sscanf(line, "Anonymous: %d kB", &anonymous); err != nil {
			continue
		}
		switch {
		case strings.Contains(mapping, "memory-backend"):
			parts[guests] += pss
		case strings.Contains(mapping, " rwxp "):
			parts[translated] += pss
		default: // Anonymous pages are shared by nobody.
			parts[ofItsOwn] += min(anonymous, pss)
			parts[ofFiles] += max(pss-anonymous, 0)
		}
	}
	return parts
}

func secondContainer(t *testing.T, h *host) {
	t.Helper()
	var ours, runcs, alone []time.Duration
	for i := range *rounds {
		alone = append(alone, timed(t, h, "version"))
		runcs = append(runcs, timed(t, h, "run", "--rm", "--runtime", "io.containerd.runc.v2", image, fmt.Sprintf("runc%d", i), "true"))
		ours = append(ours, timed(t, h, "run", "--rm", "--runtime", runtimeName, "--annotation", groupAnnotation+"=first", image, fmt.Sprintf("second%d", i), "true"))
	}
	t.Logf("ctr alone %v, ctr run with runc %v, a second container in a pod %v: %.2f of runc's", median(alone), median(runcs), median(ours), float64(median(ours))/float64(median(runcs)))
}

const groupAnnotation = "io.kubernetes.cri.sandbox-id"

func timed(t *testing.T, h *host, words ...string) time.Duration {
	t.Helper()
	start := time.Now()
	h.must(t, words...)
	return time.Since(start)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2].Round(time.Millisecond)
}
