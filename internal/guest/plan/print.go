package plan

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// String prints the plan: a line for the source, a line for each step, and a line for
// the defaults of commands. The text is stable, so that it can be compared. It leaves
// out the values of environment variables other than PATH: they may be secrets, and the
// text goes to consoles.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plan %s generation %d\n", p.Source, p.Generation)
	for _, s := range p.Steps {
		b.WriteString(s.String())
		b.WriteByte('\n')
	}
	b.WriteString(p.Commands.String())
	b.WriteByte('\n')
	return b.String()
}

// String prints one line. It shows the names of the variables, and PATH's value.
func (c Commands) String() string {
	words := []string{"commands", "user=" + orWord(c.User, "none"), "cwd=" + quote(c.Cwd)}
	if c.Restricted {
		words = append(words, "restricted")
	}
	return strings.Join(append(words, "env", envNames(c.Env)), " ")
}

// envNames prints the names of an environment, and the value of PATH.
func envNames(env []string) string {
	names := make([]string, len(env))
	for i, e := range env {
		key, _, _ := strings.Cut(e, "=")
		if names[i] = quote(key); key == "PATH" {
			names[i] = quote(e)
		}
	}
	return "[" + strings.Join(names, " ") + "]"
}

// String prints "environment" or "bootstrap".
func (s Source) String() string {
	switch s {
	case Environment:
		return "environment"
	case Bootstrap:
		return "bootstrap"
	}
	return "source" + strconv.Itoa(int(s))
}

// Name implements [Step].
func (Limits) Name() string { return "limits" }

// String implements [Step].
func (s Limits) String() string { return s.Name() + " " + joined(s.Limits, " ") }

// Name implements [Step].
func (Mounts) Name() string { return "mounts" }

// String implements [Step].
func (s Mounts) String() string {
	return s.Name() + " " + joined(s.List, "; ") + "; " + joined(s.Links, "; ")
}

// Name implements [Step].
func (Share) Name() string { return "share" }

// String implements [Step].
func (s Share) String() string { return s.Name() + " " + s.Mount.String() }

// Name implements [Step].
func (BlockRoot) Name() string { return "block-root" }

// String implements [Step].
func (s BlockRoot) String() string {
	if s.DiskImage != nil {
		return s.Name() + " disk-image " + s.DiskImage.String()
	}
	return s.Name() + " oci " + s.OCI.String()
}

// String prints the three mounts, and the directories between the last two.
func (o *OCI) String() string {
	parts := []string{o.Lower.String(), o.Upper.String()}
	if o.Metrics {
		parts = append(parts, "metrics "+o.Upper.Target)
	}
	return strings.Join(append(parts, "mkdir "+strings.Join(o.Dirs, " "), o.Overlay.String()), "; ")
}

// Name implements [Step].
func (Handshake) Name() string { return "handshake" }

// String implements [Step].
func (s Handshake) String() string { return s.Name() + " user=" + orWord(s.User, "none") }

// Name implements [Step].
func (DirMount) Name() string { return "dir-mount" }

// String implements [Step].
func (s DirMount) String() string { return s.Name() + " " + s.Mount.String() }

// Name implements [Step].
func (FileMount) Name() string { return "file-mount" }

// String implements [Step].
func (s FileMount) String() string {
	return strings.Join([]string{s.Name(), quote(s.Tag), quote(s.Filename), quote(s.Path), s.Flags.String()}, " ")
}

// Name implements [Step].
func (DiskMount) Name() string { return "disk-mount" }

// String implements [Step].
func (s DiskMount) String() string {
	return strings.Join([]string{s.Name(), quote(s.ID), quote(s.Path), orWord(s.Type, "probe"), s.Flags.String()}, " ")
}

// Name implements [Step].
func (TmpfsMount) Name() string { return "tmpfs-mount" }

// String implements [Step].
func (s TmpfsMount) String() string { return s.Name() + " " + s.Mount.String() }

// Name implements [Step].
func (Hostname) Name() string { return "hostname" }

// String implements [Step].
func (s Hostname) String() string { return s.Name() + " " + quote(s.Host) }

// Name implements [Step].
func (HostsFile) Name() string { return "hosts" }

// String implements [Step].
func (s HostsFile) String() string { return s.Name() + " " + strconv.Quote(s.Content) }

// Name implements [Step].
func (TempDirs) Name() string { return "temp-dirs" }

// String implements [Step].
func (s TempDirs) String() string { return s.Name() + " " + strings.Join(s.Paths, " ") }

// Name implements [Step].
func (Loopback) Name() string { return "loopback" }

// String implements [Step].
func (s Loopback) String() string { return s.Name() }

// Name implements [Step].
func (Interface) Name() string { return "interface" }

// String implements [Step].
func (s Interface) String() string {
	return fmt.Sprintf("%s %s mac=%s mtu=%d ipv4=%s ipv6=%s", s.Name(), quote(s.Device), s.MAC, s.MTU, s.IPv4, s.IPv6)
}

// Name implements [Step].
func (Resolver) Name() string { return "resolver" }

// String implements [Step].
func (s Resolver) String() string { return s.Name() + " " + strconv.Quote(s.Content) }

// Name implements [Step].
func (Trust) Name() string { return "trust" }

// String implements [Step].
func (s Trust) String() string { return s.Name() }

// Name implements [Step].
func (ProfileBlock) Name() string { return "profile" }

// String implements [Step].
func (s ProfileBlock) String() string { return s.Name() }

// Name implements [Step].
func (RunDirs) Name() string { return "run-dirs" }

// String implements [Step].
func (s RunDirs) String() string { return s.Name() + " " + strings.Join(s.Paths, " ") }

// Name implements [Step].
func (Seal) Name() string { return "seal" }

// String implements [Step].
func (s Seal) String() string { return s.Name() }

// Name implements [Step].
func (Handover) Name() string { return "handover" }

// String implements [Step]. As in a plan, the values of variables are left out.
func (s Handover) String() string {
	args := make([]string, len(s.Args))
	for i, a := range s.Args {
		args[i] = quote(a)
	}
	return fmt.Sprintf("%s %s [%s] cwd=%s env %s",
		s.Name(), quote(s.Init), strings.Join(args, " "), orWord(s.Cwd, "none"), envNames(s.Env))
}

// orWord quotes s, or returns the bare word when s is empty.
func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return quote(s)
}

// joined prints the elements of a list with sep between them.
func joined[T fmt.Stringer](list []T, sep string) string {
	words := make([]string, len(list))
	for i, e := range list {
		words[i] = e.String()
	}
	return strings.Join(words, sep)
}

// quote returns s unchanged if it cannot be misread, and as a Go string otherwise. So
// each step has one line whatever names it contains, and no name looks like one of the
// words for an absent value.
func quote(s string) string {
	plain := s != "" && s != "none" && s != "probe" && !strings.ContainsFunc(s, func(r rune) bool {
		return r == '"' || r == '\\' || r == ';' || r == unicode.ReplacementChar || !unicode.IsGraphic(r) || unicode.IsSpace(r)
	})
	if plain {
		return s
	}
	return strconv.Quote(s)
}
