package oci

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
)

// A Platform names the system that an image was built for, in the terms of an image
// index: linux, amd64, v3. The zero value is the platform of our machines.
type Platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
}

// machineOS is the system of all machines.
const machineOS = "linux"

// native is the architecture of machines for which no other is asked: this host's.
var native = runtime.GOARCH

// variants are the variants of each architecture that machines have, in ascending order
// of what they demand of the processor. For amd64 they are those of the x86-64 psABI,
// "Low Level System Information".
var variants = map[string][]string{"amd64": {"v1", "v2", "v3", "v4"}, "arm64": {"v8"}}

// Levels returns the number of variants of an architecture that machines of this host
// run, beginning with the first; 0 if they run none.
type Levels func(architecture string) int

// errPlatform says that an image is for another machine.
var errPlatform = errors.New("not for these machines")

// architectures maps the names of uname -m to those of an image index.
var architectures = map[string]string{"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}

// ParsePlatform reads OS/ARCHITECTURE[/VARIANT], or an architecture alone. It refuses
// platforms that machines here cannot run.
func ParsePlatform(s string, levels Levels) (Platform, error) {
	refuse := func(why string) (Platform, error) {
		return Platform{}, fmt.Errorf("platform %q: %s; possible: %s", s, why, possible(levels))
	}
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) == 1 {
		parts = []string{machineOS, parts[0]}
	}
	if len(parts) > 3 || slices.Contains(parts, "") {
		return refuse("want OS/ARCHITECTURE[/VARIANT]")
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if name, ok := architectures[p.Architecture]; ok {
		p.Architecture = name
	}
	if len(parts) > 2 {
		p.Variant = parts[2]
	}
	all := variants[p.Architecture]
	switch rank := p.rank(); {
	case p.OS != machineOS:
		return refuse("machines run linux")
	case len(all) == 0:
		return refuse("no machine has such a processor")
	case p.Variant != "" && rank > len(all):
		return refuse("no variant of that name")
	case rank > levels(p.Architecture):
		return refuse(fmt.Sprintf("the machines of this host have %s at most", all[max(levels(p.Architecture), 1)-1]))
	}
	return p, nil
}

// possible lists the platforms that machines can run, this host's first.
func possible(levels Levels) string {
	var all []string
	for _, a := range append([]string{native}, slices.Sorted(maps.Keys(variants))...) {
		p := Platform{OS: machineOS, Architecture: a}
		if slices.Contains(all, p.String()) || levels(a) == 0 {
			continue
		}
		all = append(all, p.String())
		for _, p.Variant = range variants[a][:min(levels(a), len(variants[a]))] {
			all = append(all, p.String())
		}
	}
	return strings.Join(all, ", ")
}

// runsAs compares platforms without their variants.
func (p Platform) runsAs(q Platform) bool { return p.OS == q.OS && p.Architecture == q.Architecture }

// rank orders the variants of an architecture. No variant means the first; an unknown one
// ranks above all others.
func (p Platform) rank() int {
	all := variants[p.Architecture]
	if p.Variant == "" {
		return 1
	}
	if at := slices.Index(all, p.Variant); at >= 0 {
		return at + 1
	}
	return len(all) + 1
}

// String returns OS/ARCHITECTURE[/VARIANT].
func (p Platform) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// Fits reports whether an image with configuration c satisfies the request. An image
// without an architecture fits every machine.
func (w Want) Fits(c Config) bool {
	if c.Architecture != "" && c.Architecture != w.Machine().Architecture {
		return false
	}
	has := Platform{Architecture: w.Machine().Architecture, Variant: c.Variant}
	return w.Platform.Variant == "" || w.Platform.rank() == has.rank()
}

// A Want selects one of several images.
type Want struct {
	// Platform names the architecture, and the highest allowed variant. Without a variant
	// the best one that machines have is allowed; without an architecture it is this
	// host's.
	Platform Platform
	// Level is the number of the architecture's variants that machines run; 0 means 1.
	Level int
	// Name is a name of the image in an archive or a layout; "" selects all images.
	Name string
	// One requires that exactly one image fits.
	One bool
}

// Machine returns the platform of the machine, without a variant.
func (w Want) Machine() Platform {
	return Platform{OS: machineOS, Architecture: cmp.Or(w.Platform.Architecture, native)}
}

// Asked returns the platform that images must be for.
func (w Want) Asked() Platform {
	p := w.Machine()
	p.Variant = w.Platform.Variant
	return p
}

// top returns the highest allowed variant.
func (w Want) top() int {
	if w.Platform.Variant != "" {
		return w.Platform.rank()
	}
	return max(w.Level, 1)
}

// choose returns the manifest that fits: the best variant that machines have, else the
// lowest one; of equal ones the first. It considers manifests without a platform only
// if no other fits; their configuration then decides.
func (w Want) choose(all []descriptor) (descriptor, error) {
	var fit, unnamed []descriptor
	wanted := w.Machine()
	var have []string
	for _, d := range all {
		switch {
		case d.Platform == nil:
			unnamed = append(unnamed, d)
		case d.Platform.runsAs(wanted):
			fit = append(fit, d)
		}
		if d.Platform != nil && len(have) < maxListed {
			have = append(have, d.Platform.String())
		}
	}
	if len(fit) > 0 {
		return w.best(fit, have)
	}
	if len(unnamed) == 0 {
		return descriptor{}, fmt.Errorf("no image for %s in the index; it has %s: %w", wanted, strings.Join(have, ", "), errPlatform)
	}
	if !sameDigest(unnamed) {
		return descriptor{}, fmt.Errorf("%d images for %s in the index: name one", len(unnamed), wanted)
	}
	return unnamed[0], nil
}

// best chooses among the variants.
func (w Want) best(fit []descriptor, have []string) (descriptor, error) {
	byRank := func(a, b descriptor) int { return a.Platform.rank() - b.Platform.rank() }
	runnable := slices.DeleteFunc(slices.Clone(fit), func(d descriptor) bool { return d.Platform.rank() > w.top() })
	switch {
	case len(runnable) > 0:
		return slices.MaxFunc(runnable, byRank), nil
	case w.Platform.Variant != "":
		return descriptor{}, fmt.Errorf("no image for %s in the index; it has %s: %w", w.Platform, strings.Join(have, ", "), errPlatform)
	}
	return slices.MinFunc(fit, byRank), nil
}

// maxListed bounds the platforms and names in an error.
const maxListed = 20

func sameDigest(all []descriptor) bool {
	return !slices.ContainsFunc(all, func(d descriptor) bool { return d.Digest != all[0].Digest })
}
