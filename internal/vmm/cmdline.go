package vmm

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	// lineStock is COMMAND_LINE_SIZE of x86 (2048) less the final NUL; the kernel
	// cuts the rest off without a word.
	lineStock = 2047

	// lineReference is the same limit of the reference kernel, which raises it to
	// hold a configuration (boot section 2).
	lineReference = 16<<10 - 1

	// lineDevice is what QEMU appends for each virtio slot in use when there is no
	// ACPI: " virtio_mmio.device=512@0xfeb00e00:12", 37 bytes, rounded up.
	lineDevice = 40
)

// clearAtAllocation has the guest clear each page when it allocates it. Under TCG
// QEMU translates a guest's code once, and does not see virtiofsd write another
// program's code to the same memory: a guest would run the translation of one program
// at the place of another. It does see the guest's own stores, and throws the old
// translation away before the page is filled anew. Debian's kernels do it without
// being told; a word of the user's that follows takes it back.
const clearAtAllocation = "init_on_alloc=1"

// A guest under emulation must not judge its timers by a moment: where the host takes
// the processor away in it, the guest is wrong about them for its whole life.
const (
	// trustTimer has the kernel take the interval timer's interrupt as connected, as
	// Linux does by itself under KVM. It counts ticks for 62 ms otherwise, four times
	// in different ways, and panics before there is a console if some were lost each
	// time (check_timer in arch/x86/kernel/apic/io_apic.c).
	trustTimer = "no_timer_check"

	// trustCounter keeps the time by the time stamp counter. Linux does not believe
	// that the counters of several possible processors agree, which QEMU's do, and
	// keeps the time by interrupts instead: wrong by what the host held up the
	// measurement of their rate, and standing still without them.
	trustCounter = "tsc=reliable"
)

// baseWords are those that the machine's own shape demands.
//
// A restart has to reach QEMU as a reset. The board has no keyboard controller,
// for whose answer the kernel would wait 1.3 s, so it is a triple fault (t).
// panic=-1 restarts at once, so that a dead guest is a dead machine. quiet keeps
// a slow console from slowing the boot; a later loglevel= overrides it.
func (m Machine) baseWords() []string {
	console := "console=hvc0"
	if m.Console == Serial {
		console = "console=ttyS0"
	}
	words := []string{"reboot=t", "panic=-1", console, "quiet"}
	if m.Accel != KVM { // KVM tells its guests better.
		words = append(words, m.clockWords()...)
		if len(m.Shares) > 0 {
			words = append(words, clearAtAllocation)
		}
	}
	return words
}

// clockWords tell an emulated guest what it would measure.
func (m Machine) clockWords() []string {
	words := []string{trustTimer}
	if m.TSCkHz > 0 {
		words = append(words, "tsc_early_khz="+strconv.Itoa(m.TSCkHz))
		if m.TSCSteady {
			words = append(words, trustCounter)
		}
	}
	return words
}

// cmdline is the kernel command line less what QEMU appends to it.
func (m Machine) cmdline() string {
	words := m.baseWords()
	for _, w := range m.Cmdline {
		words = append(words, quoteWord(w))
	}
	return strings.Join(words, " ")
}

// quoteWord writes one word so that the kernel's next_arg (lib/cmdline.c) reads
// it back as it was. It has quotes and no escapes: a word that holds a quote
// cannot be written at all, see checkWord.
func quoteWord(w string) string {
	if !strings.Contains(w, " ") {
		return w
	}
	if key, value, ok := strings.Cut(w, "="); ok {
		return key + `="` + value + `"`
	}
	return `"` + w + `"`
}

func (m Machine) checkCmdline() error {
	for _, w := range m.Cmdline {
		if err := checkWord(w); err != nil {
			return fmt.Errorf("kernel command line: word %q: %w", w, err)
		}
	}
	if !m.ACPI && slices.Contains(m.Cmdline, "--") {
		// QEMU appends the devices behind it, and the kernel would hand them to init.
		return errors.New(`kernel command line: word "--": it needs ACPI, or the kernel does not see its devices`)
	}
	line, limit := len(m.cmdline()), lineStock
	if !m.ACPI {
		line += lineDevice * (slotsOwn + len(m.Shares) + len(m.Disks))
		limit = lineReference
	}
	if line > limit {
		return fmt.Errorf("kernel command line: %d bytes: the kernel reads %d", line, limit)
	}
	return nil
}

// unitSeparator joins the words of a list (boot section 4); to the kernel it is a
// byte as any other.
const unitSeparator = "\x1f"

func checkWord(w string) error {
	key, _, isPair := strings.Cut(w, "=")
	switch {
	case w == "":
		return errors.New("it is empty")
	case !printable(strings.ReplaceAll(w, unitSeparator, " ")):
		return errors.New("it holds a byte that is not printable ASCII")
	case strings.Contains(w, `"`):
		return errors.New("it holds a quote, and the kernel has no way to escape one")
	case isPair && key == "":
		return errors.New("it has no key")
	case isPair && strings.Contains(key, " "):
		return errors.New("its key holds a space")
	}
	return nil
}
