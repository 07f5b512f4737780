package vmm

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

func TestChooseAccel(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "/dev/kvm", Err: syscall.EACCES}
	const intel, amd = "processor\t: 0\nflags\t\t: fpu vmx sse\n", "flags\t\t: fpu svm\n"
	for _, c := range []struct {
		name    string
		open    error
		cpuinfo string
		want    Accel
		reason  string
	}{
		{"intel", nil, intel, KVM, "KVM"},
		{"amd", nil, amd, KVM, "KVM"},
		{"denied", errors.Join(denied, nil), intel, TCG, `(/dev/kvm: permission denied; the group kvm may open it: sudo usermod --append --groups kvm "$USER", then log in again); using software`},
		{"missing", &fs.PathError{Op: "open", Path: "/dev/kvm", Err: syscall.ENOENT}, intel, TCG, "(/dev/kvm: no such file or directory); using software emulation, which is slower"},
		{"device without the flag", nil, "flags\t\t: fpu sse\n", TCG, "neither vmx nor svm"},
		{"the flag's name elsewhere", nil, "model name\t: vmx svm\nflags\t\t: xvmx\nvmx flags\t: x\n", TCG, "neither vmx nor svm"},
		{"no cpuinfo", nil, "", TCG, "neither vmx nor svm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, reason := boards[AMD64].chooseAccel(c.open, c.cpuinfo, "kvm")
			if got != c.want || !strings.Contains(reason, c.reason) || strings.Contains(reason, "\n") {
				t.Errorf("got %v, %q", got, reason)
			}
		})
	}
}

func TestSteady(t *testing.T) {
	for flags, want := range map[string]bool{
		"constant_tsc nonstop_tsc": true,
		"constant_tsc":             false,
		"nonstop_tsc":              false,
	} {
		if got := steady("flags\t\t: tsc " + flags + "\n"); got != want {
			t.Errorf("%q: got %v", flags, got)
		}
	}
	if steady("") {
		t.Error("a counter of which nothing is known")
	}
}

func TestExplicitAccelStays(t *testing.T) {
	for _, a := range []Accel{KVM, TCG} {
		if m := (Machine{Accel: a}).resolve(); m.Accel != a {
			t.Errorf("%v became %v", a, m.Accel)
		}
	}
}

func TestNoGroupForKVM(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: kvmDevice, Err: syscall.EACCES}
	if _, reason := boards[AMD64].chooseAccel(denied, "", ""); !strings.Contains(reason, "chgrp kvm /dev/kvm") {
		t.Errorf("got %q", reason)
	}
}
