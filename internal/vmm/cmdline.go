package vmm

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	// lineStock is COMMAND_LINE_SIZE of x86 and arm64 (2048) less the final NUL; the
	// kernel cuts the rest off silently.
	lineStock = 2047

	// lineReference is the same limit of the reference kernel, which raises it to
	// hold a configuration (boot section 2).
	lineReference = 16<<10 - 1

	// lineDevice is what QEMU appends for each virtio slot in use when there is no
	// ACPI: " virtio_mmio.device=512@0xfeb00e00:12", 37 bytes, rounded up.
	lineDevice = 40
)

// clearAtAllocation makes the guest clear each page when it allocates it. Under TCG
// QEMU translates a guest's code once. It does not notice when virtiofsd writes another
// program's code to the same memory, and would run the old translation. QEMU does
// notice the guest's own stores, so a cleared page loses its old translation. Debian's
// kernels clear pages by default. A later word of the user overrides this one.
const clearAtAllocation = "init_on_alloc=1"

// A guest under emulation must not test its timers for a short moment. If the host
// takes the processor away in that moment, the guest misjudges its timers for its whole
// life.
const (
	// trustTimer makes the kernel trust that the interval timer's interrupt is
	// connected, as Linux does under KVM. Otherwise it counts ticks for 62 ms, four
	// times in different ways. If ticks are lost each time, it panics before it has a
	// console (check_timer in arch/x86/kernel/apic/io_apic.c).
	trustTimer = "no_timer_check"

	// trustCounter makes the kernel keep time by the time stamp counter. QEMU's
	// counters agree on all processors, but Linux does not trust that if several
	// processors are possible. It would keep time by interrupts: their measured rate is
	// wrong if the host delays the measurement, and time stands still without them.
	trustCounter = "tsc=reliable"
)

// baseWords are the kernel's words that every machine of this kind needs.
//
// A restart must reach QEMU as a reset. On x86-64 the kernel would wait 1.3 s for a
// keyboard controller, which the board lacks, so it uses a triple fault (reboot=t).
// panic=-1 restarts at once, so that a panic ends the machine. quiet keeps a slow console from
// slowing the boot; a later loglevel= overrides it.
func (m Machine) baseWords() []string {
	b := m.board()
	console := "console=hvc0"
	if m.Console == Serial {
		console = "console=" + b.serial
	}
	words := append(slices.Clone(b.words), "panic=-1", console, "quiet")
	if m.Accel != KVM { // Under KVM a guest learns this from KVM.
		words = append(words, b.emulated(m)...)
		if len(m.Shares) > 0 {
			words = append(words, clearAtAllocation)
		}
	}
	return words
}

// clockWords tell an emulated x86-64 guest the values that it would otherwise measure.
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

// cmdline returns the kernel command line without the words that QEMU appends.
func (m Machine) cmdline() string {
	words := m.baseWords()
	for _, w := range m.Cmdline {
		words = append(words, quoteWord(w))
	}
	return strings.Join(words, " ")
}

// quoteWord quotes one word for the kernel's next_arg (lib/cmdline.c). The kernel knows
// quotes but no escapes, so checkWord refuses a word that holds a quote.
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
	appended := !m.ACPI && !m.board().ownTree
	if appended && slices.Contains(m.Cmdline, "--") {
		// QEMU appends its words for the devices at the end. After "--" the kernel
		// would pass them to init.
		return errors.New(`kernel command line: word "--": it needs ACPI, or the kernel does not see its devices`)
	}
	line, limit := len(m.cmdline()), lineStock
	if appended {
		line += lineDevice * (slotsOwn + len(m.Shares) + len(m.Disks))
	}
	if !m.ACPI {
		limit = lineReference
	}
	if line > limit {
		return fmt.Errorf("kernel command line: %d bytes: the kernel reads %d", line, limit)
	}
	return nil
}

// unitSeparator joins the words of a list (boot section 4). The kernel treats it like
// any other byte.
const unitSeparator = "\x1f"

func checkWord(w string) error {
	key, _, isPair := strings.Cut(w, "=")
	switch {
	case w == "":
		return errors.New("it is empty")
	case !printableASCII(strings.ReplaceAll(w, unitSeparator, " ")):
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
