package oci

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// A Platform names the system that an image was built for, in the terms of an image
// index: linux, amd64, v3. The zero value is the platform of our machines.
type Platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
}

// wanted is the platform of our machines.
var wanted = Platform{Architecture: runtime.GOARCH, OS: "linux"}

// levels is the number of amd64's variants, v1 to v4: x86-64 psABI, "Low Level System
// Information".
const levels = 4

// errPlatform says that an image is for another machine.
var errPlatform = errors.New("not for these machines")

// architectures maps the names of uname -m to those of an image index.
var architectures = map[string]string{"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}

// ParsePlatform reads OS/ARCHITECTURE[/VARIANT], or an architecture alone. It refuses
// platforms that machines here cannot run. Level is the highest variant of amd64 that
// they run.
func ParsePlatform(s string, level int) (Platform, error) {
	refuse := func(why string) (Platform, error) {
		return Platform{}, fmt.Errorf("platform %q: %s; possible: %s", s, why, possible(level))
	}
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) == 1 {
		parts = []string{wanted.OS, parts[0]}
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
	switch rank := p.rank(); {
	case !p.runsAs(wanted):
		return refuse("a machine runs on this host's kind of processor, and emulates no other")
	case p.Variant != "" && rank > levels:
		return refuse("no variant of that name")
	case rank > level:
		return refuse(fmt.Sprintf("the machines of this host have v%d at most", level))
	}
	return p, nil
}

// possible lists the platforms that machines can run.
func possible(level int) string {
	all := []string{wanted.String()}
	if wanted.Architecture == "amd64" {
		for n := range level {
			all = append(all, fmt.Sprintf("%s/v%d", wanted, n+1))
		}
	}
	return strings.Join(all, ", ")
}

// runsAs compares platforms without their variants.
func (p Platform) runsAs(q Platform) bool { return p.OS == q.OS && p.Architecture == q.Architecture }

// rank orders variants of amd64 by the processor that they need. No variant means v1;
// an unknown one ranks above all others. Variants of other architectures have no order.
func (p Platform) rank() int {
	switch {
	case p.Variant == "", p.Architecture != "amd64":
		return 1
	case len(p.Variant) == 2 && p.Variant[0] == 'v':
		if n, err := strconv.Atoi(p.Variant[1:]); err == nil && n >= 1 && n <= levels {
			return n
		}
	}
	return levels + 1
}

// String returns OS/ARCHITECTURE[/VARIANT].
func (p Platform) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// Fits reports whether an image with configuration c satisfies a user's request for p.
func (p Platform) Fits(c Config) bool {
	return p.Variant == "" || p.rank() == Platform{Architecture: wanted.Architecture, Variant: c.Variant}.rank()
}

// A Want selects one of several images.
type Want struct {
	// Platform names the highest allowed variant; the zero value allows the best one
	// that machines have.
	Platform Platform
	// Level is the highest variant of amd64 that machines have; 0 is v1.
	Level int
	// Name is a name of the image in an archive or a layout; "" selects all images.
	Name string
	// One requires that exactly one image fits.
	One bool
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
