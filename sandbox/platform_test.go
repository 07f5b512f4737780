package sandbox

import (
	"debug/elf"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmm"
)

var (
	native  = vmm.Architectures()[0]
	foreign = vmm.Architectures()[1]
)

func TestCheckPlatform(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, ""},
		{Config{Platform: HostPlatform, Accel: AccelKVM}, ""},
		{Config{Platform: string(foreign)}, ""},
		{Config{Platform: "linux/" + string(foreign), Accel: AccelTCG}, ""},
		{Config{Platform: "linux/" + string(foreign), Accel: AccelKVM}, "accelerator kvm: it runs machines for " + HostPlatform + " here"},
		{Config{Platform: "linux/riscv64"}, "no machine has such a processor"},
		{Config{Platform: "windows/amd64"}, "machines run linux"},
	} {
		if err := tt.cfg.checkPlatform(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.cfg.Platform, err, tt.want)
		}
	}
	if p, err := ParsePlatform("aarch64/v8"); err == nil {
		t.Errorf("a system aarch64: %s", p)
	}
	if p, err := ParsePlatform("linux/aarch64/v8"); err != nil || p != "linux/arm64" {
		t.Errorf("got %s, %v", p, err)
	}
}

// A kernel with larger pages than an image's blocks mounts it only since Linux 6.4.
func TestCheckPages(t *testing.T) {
	disks := make([]vmm.Disk, 1)
	for _, tt := range []struct {
		k     image.Kernel
		disks []vmm.Disk
		fits  bool
	}{
		{image.Kernel{PageSize: 4096, Release: "6.1.0"}, disks, true},
		{image.Kernel{PageSize: 65536, Release: "6.1.0"}, nil, true},
		{image.Kernel{PageSize: 65536, Release: "6.12.1"}, disks, true},
		{image.Kernel{PageSize: 16384, Release: "6.1.0"}, disks, false},
	} {
		err := checkPages(tt.k, tt.disks)
		if (err == nil) != tt.fits || err != nil && !strings.Contains(err.Error(), "pages of 16 KiB") {
			t.Errorf("%+v: %v", tt.k, err)
		}
	}
}

// An agent for another processor is refused before a kernel fails to start it.
func TestCheckProgram(t *testing.T) {
	head := make([]byte, 64)
	copy(head, elf.ELFMAG)
	head[elf.EI_CLASS], head[elf.EI_DATA], head[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	head[16], head[20] = byte(elf.ET_EXEC), 1
	head[18] = byte(programs[native])
	if err := checkProgram(head, native); err != nil {
		t.Error(err)
	}
	if err := checkProgram(head, foreign); err == nil || !strings.Contains(err.Error(), "the machine is for "+string(foreign)) {
		t.Errorf("got %v", err)
	}
	if err := checkProgram([]byte("#!/bin/sh\n"), foreign); err != nil {
		t.Error(err)
	}
}
