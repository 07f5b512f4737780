package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	drivers = "/sys/bus/virtio/drivers"
	// lateness is shorter than the agent's wait for a device (5 s), and longer than the
	// agent needs to look for one on a busy host.
	lateness = 3 * time.Second
)

// delay unbinds the devices from their drivers and starts the process that binds them
// again. It mounts /sys, where the agent will find it.
func delay(names []string) error {
	err := os.MkdirAll("/sys", 0o755)
	if err == nil {
		err = syscall.Mount("sysfs", "/sys", "sysfs", syscall.MS_NODEV|syscall.MS_NOEXEC|syscall.MS_NOSUID, "")
	}
	if err != nil && !errors.Is(err, syscall.EBUSY) {
		return err
	}
	var orders []string // Pairs of a bind file and a device.
	for _, name := range names {
		devices, err := filepath.Glob(filepath.Join(drivers, name, "virtio*"))
		if err != nil {
			return err
		}
		for _, device := range devices {
			device = filepath.Base(device)
			if err := os.WriteFile(filepath.Join(drivers, name, "unbind"), []byte(device), 0); err != nil {
				return err
			}
			orders = append(orders, name, device)
		}
	}
	_, err = syscall.ForkExec(os.Args[0], append([]string{os.Args[0], binder}, orders...), &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
	return err
}

// bind binds the devices again. It opens the files first, because the root may change
// meanwhile.
func bind() error {
	root, err := os.OpenRoot(drivers)
	if err != nil {
		return err
	}
	<-time.After(lateness)
	for orders := os.Args[2:]; len(orders) > 1; orders = orders[2:] {
		f, err := root.OpenFile(filepath.Join(orders[0], "bind"), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(orders[1])
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return err
		}
	}
	os.Exit(0)
	return nil
}
