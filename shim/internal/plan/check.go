package plan

import (
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// names are what containerd allows as an id: no path, and no word of another pact.
var names = regexp.MustCompile(`^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$`)

const maxName = 128

// maxHostname is the kernel's bound (__NEW_UTS_LEN).
const maxHostname = 64

func notInHostname(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' }

// CheckID refuses what containerd does not take for the id of a container or a process.
func CheckID(field, id string) error {
	if len(id) > maxName || !names.MatchString(id) {
		return &RefusedError{field, id, "want letters and digits, with single '.', '_' and '-' between them, " + strconv.Itoa(maxName) + " at most"}
	}
	return nil
}

// checkForm refuses values that mean nothing, or something else here than to whoever
// wrote them. It does not look at files.
func checkForm(r Request) error {
	for _, id := range []string{r.ID, r.Pod} {
		if err := CheckID("id", id); err != nil {
			return err
		}
	}
	s := r.Spec
	if len(s.Hostname) > maxHostname || strings.ContainsFunc(s.Hostname, notInHostname) {
		return &RefusedError{"hostname", s.Hostname, "want " + strconv.Itoa(maxHostname) + " bytes at most, without spaces and control characters"}
	}
	if !filepath.IsAbs(s.Process.Cwd) {
		return &RefusedError{"process.cwd", s.Process.Cwd, "want an absolute path"}
	}
	if i := slices.IndexFunc(slices.Concat(s.Process.Args, s.Process.Env), hasZero); i >= 0 {
		return &RefusedError{"process.args and process.env", slices.Concat(s.Process.Args, s.Process.Env)[i], "it holds a zero byte"}
	}
	if s.Root.Path == "" || hasZero(s.Root.Path) {
		return &RefusedError{"root.path", s.Root.Path, "want a path"}
	}
	for _, check := range []func(*specs.Spec) error{checkMounts, checkDevices, checkHooks, checkSysctls} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func hasZero(s string) bool { return strings.ContainsRune(s, 0) }

func checkMounts(s *specs.Spec) error {
	for _, m := range s.Mounts {
		switch {
		case !filepath.IsAbs(m.Destination):
			return &RefusedError{"mounts.destination", m.Destination, "want an absolute path"}
		case hasZero(m.Source + m.Destination + m.Type + strings.Join(m.Options, "")):
			return &RefusedError{"mounts", m.Destination, "it holds a zero byte"}
		case isBind(m) && !filepath.IsAbs(m.Source):
			return &RefusedError{"mounts.source", m.Source, "want an absolute path"}
		}
	}
	return nil
}

// checkDevices takes the numbers as they are: they are the guest's.
func checkDevices(s *specs.Spec) error {
	for _, d := range s.Linux.Devices {
		switch {
		case !filepath.IsAbs(d.Path) || hasZero(d.Path) || path.Clean(d.Path) != d.Path:
			return &RefusedError{"linux.devices.path", d.Path, "want an absolute path without '.' and '..'"}
		case !slices.Contains([]string{"c", "b", "u", "p"}, d.Type):
			return &RefusedError{"linux.devices.type", d.Type, "want c, b, u or p"}
		case d.Type != "p" && (d.Major < 0 || d.Minor < 0):
			return &RefusedError{"linux.devices.major and minor", d.Path, "want no negative number"}
		}
	}
	return nil
}

func checkHooks(s *specs.Spec) error {
	h := s.Hooks
	if h == nil {
		return nil
	}
	for _, kind := range []struct {
		name string
		all  []specs.Hook
	}{
		{"prestart", h.Prestart}, {"createRuntime", h.CreateRuntime}, {"startContainer", h.StartContainer}, //nolint:staticcheck // Deprecated, and still used.
		{"poststart", h.Poststart}, {"poststop", h.Poststop},
	} {
		for _, hook := range kind.all {
			if !filepath.IsAbs(hook.Path) || hasZero(hook.Path) {
				return &RefusedError{"hooks." + kind.name + ".path", hook.Path, "want an absolute path"}
			}
			if hook.Timeout != nil && *hook.Timeout <= 0 {
				return &RefusedError{"hooks." + kind.name + ".timeout", strconv.Itoa(*hook.Timeout), "want seconds, 1 at least"}
			}
		}
	}
	return nil
}

// sysctls are names with dots, or with slashes where a part holds a dot.
var sysctls = regexp.MustCompile(`^[A-Za-z0-9_-]+([./][A-Za-z0-9_@:*-]+)+$`)

func checkSysctls(s *specs.Spec) error {
	for name, value := range s.Linux.Sysctl {
		if !sysctls.MatchString(name) || hasZero(value) {
			return &RefusedError{"linux.sysctl", name, "want a name such as net.core.somaxconn"}
		}
	}
	return nil
}
