package main

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// The tests of a package pass in a machine, and see its directory there.
func TestTestExec(t *testing.T) {
	vmtest.Require(t)
	cmd := exec.Command("go", "test", "-count=1", "-exec", "agentctl testexec", "../../internal/transfer", "-run", "TestTree", "-v")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", sandbox.AgentVariable+"="+vmtest.Agent(t), "AGENTCTL_STATE="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestTree") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The machine of a test binary has the kind of processor that the binary is for.
func TestPlatformOfTest(t *testing.T) {
	program := filepath.Join(t.TempDir(), "x.test")
	for machine, want := range map[elf.Machine]string{
		elf.EM_X86_64: "linux/amd64", elf.EM_AARCH64: "linux/arm64", elf.EM_MIPS: "", elf.EM_NONE: "",
	} {
		head := make([]byte, 64)
		if machine != elf.EM_NONE { // Otherwise it is no program.
			copy(head, elf.ELFMAG+"\x02\x01\x01")
			binary.LittleEndian.PutUint16(head[16:], uint16(elf.ET_EXEC))
			binary.LittleEndian.PutUint16(head[18:], uint16(machine))
			binary.LittleEndian.PutUint32(head[20:], 1)
		}
		if err := os.WriteFile(program, head, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := platformOf(program); got != want {
			t.Errorf("%v: %q, want %q", machine, got, want)
		}
	}
}
