package main

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

// imageUse are flags about an image's settings other than its command.
type imageUse struct {
	health healthFlags
	all    bool // --publish-all.
}

func (f *imageUse) register(flags *pflag.FlagSet) {
	f.health.register(flags)
	flags.BoolVarP(&f.all, "publish-all", "P", false, "forward a free port of this host to each TCP port that the image exposes; 'agentctl port' shows them")
}

func (f *imageUse) check(image bool) error {
	if f.all && !image {
		return errors.New("-P without an image: it publishes the ports that an image exposes; -p publishes a port")
	}
	return f.health.check()
}

// apply adds the settings of the flags and of the image, which may be nil, to the
// record. The notes name settings of the image that the machine does not honour.
func (f *imageUse) apply(r *machines.Record, image *sandbox.Image) (notes []string, err error) {
	var c sandbox.ImageConfig
	if image != nil {
		c = image.Config
	}
	if r.StopSignal == "" && c.StopSignal != "" {
		if _, err := machines.ParseSignal(c.StopSignal); err != nil {
			notes = append(notes, fmt.Sprintf("the image's stop %v; TERM is used, or --stop-signal", err))
		} else {
			r.StopSignal = c.StopSignal
		}
	}
	notes = append(notes, volumeNotes(r, c.Volumes)...)
	if f.all {
		notes = append(notes, publish(r, c.ExposedPorts)...)
	}
	note, err := f.health.apply(r, c.Healthcheck)
	if note != "" {
		notes = append(notes, note)
	}
	return notes, err
}

// publish forwards a free port of the host to each exposed port that is not published
// yet.
func publish(r *machines.Record, exposed []string) (notes []string) {
	led := map[string]bool{}
	for _, p := range r.Ports {
		led[p.Guest+p.Protocol] = true
	}
	for _, text := range exposed {
		all, err := machines.ParsePorts(text)
		if err != nil || strings.Contains(text, ":") {
			notes = append(notes, fmt.Sprintf("-P leaves out what the image exposes as %q: want PORT, PORT/tcp or PORT/udp", text))
			continue
		}
		for _, p := range all {
			if !led[p.Guest+p.Protocol] {
				r.Ports = append(r.Ports, p)
			}
			led[p.Guest+p.Protocol] = true
		}
	}
	return notes
}

// volumeNotes tell what happens to data in an image's volumes. A machine that is
// removed at its end gets none: its data would vanish from an anonymous volume too.
func volumeNotes(r *machines.Record, volumes []string) (notes []string) {
	for _, v := range volumes {
		switch where := path.Join("/", v); {
		case isMounted(r.Config, where):
		case r.Config.ReadOnlyRoot:
			notes = append(notes, fmt.Sprintf("%s is a volume of the image, and cannot be written to with --read-only: -v NAME:%s or --tmpfs %s makes it possible", where, where, where))
		case !r.Passing:
			notes = append(notes, fmt.Sprintf("%s is a volume of the image: what is written there is on the machine's own disk and goes with it; -v NAME:%s keeps it", where, where))
		}
	}
	return notes
}

// isMounted reports whether a mount other than the root covers a path.
func isMounted(cfg sandbox.Config, where string) bool {
	var targets []string
	for _, m := range cfg.Mounts {
		targets = append(targets, m.Target)
	}
	for _, t := range cfg.Tmpfs {
		targets = append(targets, t.Target)
	}
	for _, d := range cfg.Disks {
		targets = append(targets, d.Target)
	}
	return slices.ContainsFunc(targets, func(t string) bool {
		return t != "" && (path.Clean(t) == where || strings.HasPrefix(where, path.Clean(t)+"/"))
	})
}
