package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// ownTemplates gives the test a cache that has all of the user's but the templates. It is
// on the same file system, because what is made moves from one part to the others.
func ownTemplates(t *testing.T) (dir string) {
	t.Helper()
	cache, err := image.Open("")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(cache.Path())
	if err != nil {
		t.Fatal(err)
	}
	dir, err = os.MkdirTemp(filepath.Dir(cache.Path()), "templates-of-a-test-") //nolint:usetesting // That is on another file system.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, e := range entries {
		if e.Name() == "templates" || e.Name() == "tmp" {
			continue
		}
		if err := os.Symlink(filepath.Join(cache.Path(), e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(image.CacheVariable, dir)
	return dir
}

// warm is a machine that may start from a template, of the agent under test.
func warm(t *testing.T, kernel string) sandbox.Config {
	t.Helper()
	agent, err := agentFile()
	if err != nil {
		t.Fatal(err)
	}
	return sandbox.Config{Kernel: kernel, Agent: agent, MemoryMiB: 256, Accel: "tcg", Warm: sandbox.WarmTry}
}

func startWarm(t *testing.T, cfg sandbox.Config) *sandbox.Machine {
	t.Helper()
	m, err := sandbox.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, m) })
	return m
}

func output(t *testing.T, m *sandbox.Machine, script string) string {
	t.Helper()
	out, err := m.Client().Command("sh", "-c", script).Output()
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSpace(string(out))
}

// Machines from one template have nothing of its in common that they must not have.
func TestTwins(t *testing.T) {
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			ownTemplates(t)
			const numbers = "head -c 32 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid"
			seen := map[string]bool{}
			for range 3 {
				start := time.Now()
				cfg := warm(t, kernel)
				cfg.Hostname = "twin"
				m := startWarm(t, cfg)
				if why := m.Cold(); why != nil {
					t.Fatal(why)
				}
				for line := range strings.Lines(output(t, m, numbers)) {
					if seen[line] {
						t.Errorf("two machines have %q", line)
					}
					seen[line] = true
				}
				// A file of the boot is no older than the boot: the clock was set before it.
				for _, clock := range []string{"date +%s", "stat -c %Y /etc/hostname"} {
					now, err := strconv.ParseInt(output(t, m, clock), 10, 64)
					if off := time.Since(time.Unix(now, 0)); err != nil || off < -2*time.Second || off > time.Since(start)+2*time.Second {
						t.Errorf("%s is %v behind, %v", clock, off, err)
					}
				}
			}
			if len(seen) != 12 {
				t.Errorf("%d numbers, want 12", len(seen))
			}
		})
	}
}

// prompt is the time from a start to the first command's answer in which a kernel has not
// renewed its generator by itself: a young one does so each second
// (CRNG_RESEED_START_INTERVAL of Linux's drivers/char/random.c).
const prompt = 700 * time.Millisecond

// Without a host's bytes they have the same numbers: the test above can fail.
func TestTwinsThatAreNotFresh(t *testing.T) {
	ownTemplates(t)
	cfg := warm(t, kernelWithoutModules(t)) // Debian's renews its generator now and then at that age.
	const pairs = 8
	inTime := 0
	for range pairs {
		first, quick := numbersOf(t, cfg, nil)
		second, alsoQuick := numbersOf(t, cfg, nil)
		if first == second {
			if third, _ := numbersOf(t, cfg, sandbox.Fresh()); first == third {
				t.Error("a fresh machine has the numbers of the others")
			}
			return
		}
		if quick && alsoQuick {
			inTime++
		}
	}
	// Interrupts feed the generator too, and no two runs have them at the same moments.
	t.Skipf("%d pairs of machines had different numbers, %d of them within %v: this host's noise renews the generator by itself", pairs, inTime, prompt)
}

// numbersOf are the first random numbers that a machine gives, and whether it was quick.
func numbersOf(t *testing.T, cfg sandbox.Config, fresh *wire.Fresh) (numbers string, quick bool) {
	t.Helper()
	start := time.Now()
	c, end, err := sandbox.StartTwin(t.Context(), cfg, fresh)
	check(t, err)
	out, err := c.Command("head", "-c", "32", "/dev/urandom").Output()
	quick = time.Since(start) < prompt
	check(t, errors.Join(err, end()))
	return string(out), quick
}

func kernelWithoutModules(t *testing.T) string {
	t.Helper()
	kernels(t)
	all, err := allKernels()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		if !k.Modules {
			return k.Name
		}
	}
	t.Skip("no kernel without modules is in the cache")
	return ""
}

// A template that is not good is given up with a word, and the machine boots. The
// next start does not try again.
func TestBadTemplates(t *testing.T) {
	all := kernels(t)
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"memory deleted":                  {func(dir string) error { return os.Remove(filepath.Join(dir, "mem")) }, "no such file"},
		"memory cut":                      {func(dir string) error { return os.Truncate(filepath.Join(dir, "mem"), 1<<20) }, "not the file that was made"},
		"state cut":                       {func(dir string) error { return os.Truncate(filepath.Join(dir, "state"), 100) }, "state: 100 bytes"},
		"memory of zeros, well described": {zeroMemory, "has not said a word"},
	} {
		t.Run(name, func(t *testing.T) {
			ownTemplates(t)
			cfg := warm(t, all[0])
			first := startWarm(t, cfg)
			check(t, first.Cold())
			stop(t, first) // It has the memory mapped.
			dir, err := sandbox.TemplateDir(t.Context(), cfg)
			check(t, err)
			check(t, c.spoil(dir))
			m := startWarm(t, cfg)
			why, fault := errors.AsType[*sandbox.TemplateError](m.Cold())
			if !fault || !strings.Contains(why.Error(), c.want) {
				t.Errorf("the reason is %v, want %q", m.Cold(), c.want)
			}
			if got := output(t, m, "echo works"); got != "works" {
				t.Errorf("the machine says %q", got)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("the template is still there")
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// zeroMemory has the guest's memory be another, and the manifest say so.
func zeroMemory(dir string) error {
	mem, path := filepath.Join(dir, "mem"), filepath.Join(dir, "manifest.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var m map[string]any
	if err := errors.Join(json.Unmarshal(b, &m), os.Truncate(mem, 0), os.Truncate(mem, 256<<20)); err != nil {
		return err
	}
	info, err := os.Stat(mem)
	if err != nil {
		return err
	}
	file, ok := m["memory"].(map[string]any)
	if !ok {
		return fmt.Errorf("the manifest has no memory: %s", b)
	}
	file["modified"] = info.ModTime()
	if b, err = json.Marshal(m); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// QEMU takes a state of another processor, and the guest is mute. The key keeps that
// from happening; here the program itself is another at the second start.
func TestMuteTemplate(t *testing.T) {
	all := kernels(t)
	ownTemplates(t)
	qemu, err := vmm.FindQEMU("")
	check(t, err)
	wrapper := filepath.Join(t.TempDir(), "qemu")
	script := "#!/bin/bash\ncase \" $* \" in *\" -incoming \"*) set -- \"${@/#max/qemu64}\";; esac\nexec " + qemu + " \"$@\"\n"
	check(t, os.WriteFile(wrapper, []byte(script), 0o700))
	t.Setenv(vmm.EnvQEMU, wrapper)
	start := time.Now()
	m := startWarm(t, warm(t, all[0]))
	why, fault := errors.AsType[*sandbox.TemplateError](m.Cold())
	if !fault || !strings.Contains(why.Error(), "has not said a word") {
		t.Errorf("the reason is %v", m.Cold())
	}
	if got := output(t, m, "echo works"); got != "works" {
		t.Errorf("the machine says %q after %v", got, time.Since(start))
	}
	second := startWarm(t, warm(t, all[0]))
	if _, fault := errors.AsType[*sandbox.TemplateError](second.Cold()); fault || second.Cold() == nil {
		t.Errorf("the second start says %v, want a reason that is no news", second.Cold())
	}
}

// Two machines do not write to one disk, whichever way they start.
func TestOneWriter(t *testing.T) {
	all := kernels(t)
	ownTemplates(t)
	files := t.TempDir()
	cfg := warm(t, all[0])
	cfg.Files = files
	m := startWarm(t, cfg)
	check(t, m.Cold())
	for name, way := range map[string]sandbox.WarmStart{"warm": sandbox.WarmTry, "cold": sandbox.WarmNone} {
		cfg.Warm = way
		if other, err := sandbox.Start(t.Context(), cfg); err == nil {
			t.Errorf("%s: a second machine has the disk", name)
			stop(t, other)
		} else if want := filepath.Join(files, "upper") + ": another machine or program has it open"; !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	stop(t, m)
	cold := startWarm(t, cfg) // The last way is any.
	cfg.Warm = sandbox.WarmTry
	if _, err := sandbox.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "has it open") {
		t.Errorf("beside one that has booted (%v): %v", cold.Cold(), err)
	}
}

// An upper that has grown beyond a template's disks is looked at anew, and the next machine
// has its own size again.
func TestUpperBeyondTemplate(t *testing.T) {
	all := kernels(t)
	ownTemplates(t)
	cfg := warm(t, all[0])
	check(t, startWarm(t, cfg).Cold())
	cfg.Files = t.TempDir()
	m := startWarm(t, cfg)
	check(t, m.Cold())
	stop(t, m)
	const grown = 65 << 30
	check(t, os.Truncate(filepath.Join(cfg.Files, "upper"), grown))
	m = startWarm(t, cfg)
	check(t, m.Cold())
	const sizes, sectors = "cat /sys/block/vd*/size", grown / 512
	if got := output(t, m, sizes); !slices.Contains(strings.Fields(got), strconv.Itoa(sectors)) {
		t.Errorf("sizes of disks %q, want one of %d", got, sectors)
	}
	m = startWarm(t, warm(t, all[0]))
	check(t, m.Cold())
	if got := output(t, m, sizes); slices.Contains(strings.Fields(got), strconv.Itoa(sectors)) {
		t.Errorf("sizes of disks of another machine %q", got)
	}
}

// What a machine has written is there in its next life, however that starts.
func TestLivesOfBothKinds(t *testing.T) {
	all := kernels(t)
	ownTemplates(t)
	for _, first := range []sandbox.WarmStart{sandbox.WarmTry, sandbox.WarmNone} {
		cfg := warm(t, all[0])
		cfg.Files, cfg.Warm = t.TempDir(), first
		m := startWarm(t, cfg)
		output(t, m, "echo kept >/root/x; sync")
		check(t, m.Close())
		for _, next := range []sandbox.WarmStart{sandbox.WarmNone, sandbox.WarmTry} {
			cfg.Warm = next
			m := startWarm(t, cfg)
			if got := output(t, m, "cat /root/x"); got != "kept" {
				t.Errorf("first %q, then %q: %q (%v)", first, next, got, m.Cold())
			}
			check(t, m.Close())
		}
	}
}

// Many machines start at once: one makes the template, the others do not wait for it,
// and all work.
func TestManyFirstStarts(t *testing.T) {
	all := kernels(t)
	ownTemplates(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	warmOnes := 0
	for range 3 {
		cfg := warm(t, all[0])
		wg.Go(func() {
			m, err := sandbox.Start(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = m.Close() }()
			if _, fault := errors.AsType[*sandbox.TemplateError](m.Cold()); fault {
				t.Error(m.Cold())
			}
			if out, err := m.Client().Command("echo", "works").Output(); err != nil || string(out) != "works\n" {
				t.Errorf("%q, %v", out, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if m.Cold() == nil {
				warmOnes++
			}
		})
	}
	wg.Wait()
	if warmOnes == 0 {
		t.Error("nobody has made a template")
	}
}

// An interrupted start is no failure of the template's.
func TestInterruptedMaker(t *testing.T) {
	all := kernels(t)
	dir := ownTemplates(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if m, err := sandbox.Start(ctx, warm(t, all[0])); err == nil {
		stop(t, m)
	}
	left, err := filepath.Glob(filepath.Join(dir, "templates", "*.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func hooked(m hooks.Machine) sandbox.Config { return hooks.With(sandbox.Config{}, m) }

func TestWhyCold(t *testing.T) {
	for want, cfg := range map[string]sandbox.Config{
		"not wanted":                {Warm: sandbox.WarmNone},
		"another agent":             hooked(hooks.Machine{Foreign: true}),
		"by environment":            {Configuration: sandbox.ByEnvironment},
		"a message of the caller's": hooked(hooks.Machine{Bootstrap: &wire.Bootstrap{}}),
		"an older generation":       {Generation: 7},
		"shared directories":        {Mounts: []sandbox.Mount{{}}},
		"a network card":            hooked(hooks.Machine{Card: true}),
		"an init":                   {Init: "/sbin/init"},
		"a port that others use":    hooked(hooks.Machine{Port: func(c net.Conn) net.Conn { return c }}),
		"words of its own":          {Hosts: []string{"a=1.2.3.4"}},
		"modules":                   {Modules: []string{"loop"}},
	} {
		if want != "not wanted" {
			cfg.Warm = sandbox.WarmTry
		}
		if err := cfg.WhyCold(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
	fine := sandbox.Config{
		Warm: sandbox.WarmTry, Disks: []sandbox.Disk{{}}, Network: true, Hostname: "h", Env: []string{"A=1"}, Upper: sandbox.Upper{Tmpfs: true}, Socket: "/s", ReadOnlyRoot: true,
	}
	if err := fine.WhyCold(); err != nil {
		t.Error(err)
	}
	if fine.Warm = sandbox.WarmAuto; fine.WhyCold() != nil {
		t.Errorf("a machine does not start from a template by itself: %v", fine.WhyCold())
	}
	if err := (sandbox.Config{Warm: "hot"}).Check(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", "hot")) {
		t.Errorf("warm start hot: %v", err)
	}
}

// Where nobody expects a template no line says that there is none: with KVM, unless it was
// asked for.
func TestColdIsNews(t *testing.T) {
	t.Parallel()
	earlier := t.TempDir() // Has the root directory of an earlier life.
	check(t, os.Mkdir(filepath.Join(earlier, "root"), 0o700))
	shares := []sandbox.Mount{{}}
	for _, c := range []struct {
		name  string
		cfg   sandbox.Config
		accel vmm.Accel
		dir   string
		says  string // "" is none: the machine may start from a template.
		news  bool
	}{
		{"default", sandbox.Config{}, vmm.TCG, "", "", false},
		{"default, KVM", sandbox.Config{}, vmm.KVM, "", "only when they are asked for", false},
		{"asked for, KVM", sandbox.Config{Warm: sandbox.WarmTry}, vmm.KVM, "", "", false},
		{"shares", sandbox.Config{Mounts: shares}, vmm.TCG, "", "shared directories", true},
		{"shares, KVM", sandbox.Config{Mounts: shares}, vmm.KVM, "", "only when they are asked for", false},
		{"shares, asked for, KVM", sandbox.Config{Mounts: shares, Warm: sandbox.WarmTry}, vmm.KVM, "", "shared directories", true},
		{"shares, not wanted", sandbox.Config{Mounts: shares, Warm: sandbox.WarmNone}, vmm.TCG, "", "not wanted", false},
		{"not wanted, KVM", sandbox.Config{Warm: sandbox.WarmNone}, vmm.KVM, "", "not wanted", false},
		{"earlier root", sandbox.Config{}, vmm.TCG, earlier, "earlier life", false},
		{"earlier root, asked for", sandbox.Config{Warm: sandbox.WarmTry}, vmm.TCG, earlier, "earlier life", true},
		{"earlier root, KVM", sandbox.Config{}, vmm.KVM, earlier, "only when they are asked for", false},
	} {
		dir := c.dir
		if dir == "" {
			dir = t.TempDir()
		}
		err := c.cfg.ColdWith(c.accel, dir)
		_, news := errors.AsType[*sandbox.TemplateError](err)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) || news != c.news {
			t.Errorf("%s: %v (news %v), want %q (news %v)", c.name, err, news, c.says, c.news)
		}
	}
}
