package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// TestSurviveKills kills the supervisors of one machine with SIGKILL at random moments, also
// those that are taking it over, while its command prints numbered lines. Three commands at
// once find it without a supervisor each time. The log must have every line once, and nothing
// may be left at the end.
func TestSurviveKills(t *testing.T) {
	if os.Getenv("AGENTD_LONG") != "1" {
		t.Skip("50 kills take some minutes: AGENTD_LONG=1; the script survive.txt has four each time")
	}
	vmtest.Require(t)
	t.Setenv(sandbox.AgentVariable, vmtest.Agent(t))
	p := newScene(t)
	t.Cleanup(func() { _ = exec.Command("agentctl", "rm", "-f", "m").Run() }) // Of a failed trial.
	start := exec.Command("agentctl", "run", "-d", "--survive", "--name", "m", "-p", "0:80", "--", "sh", "-c",
		"i=0; until [ -e /end ]; do i=$((i+1)); echo line $i; [ $((i%7)) = 0 ] && echo err $i >&2; usleep 1000; done; exit 3")
	if out, err := start.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const kills = 50
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for i := range kills {
		time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
		p.killHolder(t)
		if random.IntN(3) == 0 { // Also the next one, before it serves.
			go func() { _ = exec.Command("agentctl", "ps").Run() }() // It may be killed.
			time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
			p.killHolder(t)
		}
		if err := sideBySide("ps", "exec m true", "inspect m"); err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
	}
	_ = exec.Command("agentctl", "exec", "m", "touch", "/end").Run() // The machine may end first.
	if got := strings.TrimSpace(p.agentctl(t, "wait m")); got != "3" {
		t.Errorf("status %s, want 3", got)
	}
	p.judgeLines(t)
	p.agentctl(t, "rm m")
	p.empty(t)
}

// killHolder kills the process that holds the machine's life: its supervisor, or one that is
// about to be.
func (p *scene) killHolder(t *testing.T) {
	t.Helper()
	const holder = "supervise"
	for _, dir := range p.found("/proc", "[0-9]*") {
		words, _ := os.ReadFile(dir + "/cmdline") // It may have ended.
		env, _ := os.ReadFile(dir + "/environ")
		if !strings.Contains(string(words), "\x00"+holder+"\x00") || !strings.Contains(string(env), p.dir()+"\x00") {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(dir[len("/proc/"):], &pid); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // It may have ended.
		}
	}
}

// sideBySide runs commands of agentctl side by side.
func sideBySide(commands ...string) (err error) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, words := range commands {
		all.Go(func() {
			out, failed := exec.Command("agentctl", strings.Fields(words)...).CombinedOutput()
			if failed != nil {
				mu.Lock()
				err = fmt.Errorf("%s: %w\n%s", words, failed, out)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return err
}

// judgeLines wants every numbered line of both streams once, in order.
func (p *scene) judgeLines(t *testing.T) {
	t.Helper()
	out, err := exec.Command("agentctl", "logs", "m").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	line, other := 0, 0
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		switch lines.Text() {
		case fmt.Sprint("line ", line+1):
			line++
		case fmt.Sprint("err ", other+7):
			other += 7
		default:
			t.Fatalf("after line %d and err %d: %q", line, other, lines.Text())
		}
	}
	if line == 0 || other != line/7*7 {
		t.Errorf("%d lines, errors up to %d", line, other)
	}
	t.Logf("%d lines", line)
}
