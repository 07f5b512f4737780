package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

// describe makes the record of all flags. It creates no files.
func (f *creator) describe() (r machines.Record, err error) {
	cfg, err := f.config()
	if err != nil {
		return r, err
	}
	env, err := f.environment()
	if err != nil {
		return r, err
	}
	if cfg.Platform, err = f.image.machine(); err != nil {
		return r, err
	}
	cfg.User = f.user
	if cfg.Configuration != sandbox.ByEnvironment { // The kernel command line has little room for them.
		cfg.Env, cfg.Dir = env, f.dir
	}
	if r, err = f.record(cfg); err != nil {
		return r, err
	}
	if err := f.life.apply(&r); err != nil {
		return r, err
	}
	if f.pids > 0 && cfg.Init != "" {
		return r, fmt.Errorf("--pids-limit %d: the machine's init %s owns its control groups; let it bound the command", f.pids, cfg.Init)
	}
	r.Timeout, r.Socket, r.PIDs = f.timeout, f.Socket, f.pids
	return r, fix(&r)
}

// check refuses flags that must fail, before an image is imported or anything is made.
func (f *creator) check() error {
	r, err := f.describe()
	if err != nil {
		return err
	}
	store, err := machines.Open("")
	if err != nil {
		return err
	}
	if _, err := f.image.options(f.accel, r.Config.Image != ""); err != nil {
		return err
	}
	if err := f.use.check(r.Config.Image != ""); err != nil {
		return err
	}
	if r.Name != "" {
		if err := store.Free(r.Name); err != nil {
			return advise(err)
		}
	}
	if _, err := os.Lstat(f.idFile); f.idFile != "" && err == nil {
		return fmt.Errorf("--cidfile %s: it is there already; remove it if its machine is not needed", f.idFile)
	}
	for i, m := range r.Config.Mounts {
		if name, ok := store.VolumeOf(m.Source); ok {
			if _, err := store.Volume(name); errors.Is(err, machines.ErrNoVolume) {
				r.Config.Mounts[i].Source = store.Dir() // Any existing directory passes the check; the volume's is made later.
			}
		}
	}
	return r.Config.Check()
}

// checkUse refuses, before anything is made, flags and arguments of run that exclude
// each other.
func (r *runner) checkUse(args []string) error {
	switch {
	case r.entrypoint != nil && r.Image == "":
		return errors.New("--entrypoint without an image: there is no entry point to replace; the command follows the flags")
	case len(args) == 0 && r.Image == "" && !r.detach:
		return errors.New("run: no command; with -d a machine can be without one")
	}
	if r.detach { // Clients that attach bring a terminal.
		return r.check()
	}
	return errors.Join(r.checkTerminal(), r.check())
}

// writeID writes the machine's name to the file of --cidfile. If that fails, it removes
// the machine.
func (f *creator) writeID(ctx context.Context, m *machines.Machine) error {
	if f.idFile == "" {
		return nil
	}
	const readable = 0o644
	file, err := os.OpenFile(f.idFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, readable)
	if err == nil {
		_, err = file.WriteString(m.Name())
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("--cidfile: %w", err), m.Remove(context.WithoutCancel(ctx)))
	}
	return nil
}
