package plan

import (
	"strings"

	"github.com/agentd-go/agentd/wire/bootenv"
)

// mountForm describes the entries of one mount variable: how many fields stand
// before the options, and how the form is written for errors.
type mountForm struct {
	fields int
	text   string
}

// forms holds the entry form of each kind of mount.
var forms = [...]mountForm{
	kindDir:   {2, "tag:path[:options]"},
	kindFile:  {3, "tag:filename:path[:options]"},
	kindDisk:  {2, "id:path[:options]"},
	kindTmpfs: {1, "path[:options]"},
}

// mountList returns the parser of the variable that lists mounts of kind k.
func mountList(k kind) func(c *config, value string) *Error {
	return func(c *config, value string) *Error {
		for entry := range strings.SplitSeq(value, bootenv.Entry) {
			if entry == "" {
				continue
			}
			m := userMount{kind: k}
			if rule := m.parse(entry); rule != "" {
				return reject(entry, rule)
			}
			if len(c.mounts) == maxMounts {
				return reject(entry, ruleMounts)
			}
			c.mounts = append(c.mounts, m)
		}
		return nil
	}
}

// parse parses one entry. The fields before the options contain no colon, because there
// is no way to quote one. Everything after them is options.
func (m *userMount) parse(entry string) (rule string) {
	form := forms[m.kind]
	parts := strings.SplitN(entry, bootenv.Field, form.fields+1)
	if len(parts) < form.fields || m.kind == kindTmpfs && len(parts) == 1 && strings.Contains(entry, bootenv.Part) {
		return "must have the form " + form.text
	}
	m.setPath(parts[form.fields-1])
	if m.kind != kindTmpfs {
		m.source = parts[0]
	}
	if m.kind == kindFile {
		m.filename = parts[1]
	}
	if rule := m.check(); rule != "" {
		return rule
	}
	if len(parts) > form.fields {
		return m.options(parts[form.fields])
	}
	return ""
}

// check checks the fields before the options, in the order of the entry, and
// names the one that breaks a rule.
func (m *userMount) check() (rule string) {
	return firstRule(
		named("tag or id", m.checkSource()),
		named("filename", m.checkFilename()),
		named("path", checkTarget(m.given)),
	)
}

// named puts the name of a part before a broken rule.
func named(part, rule string) string {
	if rule == "" {
		return ""
	}
	return part + " " + rule
}

const (
	ruleUnsupported = "option is not supported"
	ruleUnknown     = "option is not known"
	ruleNumber      = "option must have an unsigned number of 32 bits"
	ruleFSType      = "option must name a file system type without ',', ';', ':' and '='"
)

// options parses a comma list of mount options in any order. Space around an option and
// empty options are ignored.
func (m *userMount) options(list string) (rule string) {
	given := make(map[string]bool)
	for option := range strings.SplitSeq(list, bootenv.Part) {
		option = strings.TrimSpace(option)
		if option == "" {
			continue
		}
		name, rule := m.option(option)
		if rule == "" && given[name] {
			rule = "option " + ruleTwice
		}
		if rule != "" {
			return rule
		}
		given[name] = true
	}
	return ""
}

// option parses one option. It returns the same name for options that exclude each
// other.
func (m *userMount) option(option string) (name, rule string) {
	if key, value, ok := strings.Cut(option, "="); ok {
		return key, m.setting(key, value)
	}
	switch option {
	case "ro", "rw":
		if option == "ro" {
			m.flags |= ReadOnly
		}
		return "access", ""
	case "noexec":
		m.flags |= NoExec
	case "nosuid":
		m.flags |= NoSUID
	case "nodev":
		m.flags |= NoDev
	case "exec", "suid", "dev":
		return "", ruleUnsupported
	default:
		return "", ruleUnknown
	}
	return option, ""
}

// setting parses an option with a value.
func (m *userMount) setting(key, value string) (rule string) {
	switch {
	case key != "fstype" && key != "size" && key != "mode":
		return ruleUnknown
	case (m.kind == kindDisk) != (key == "fstype") || m.kind != kindDisk && m.kind != kindTmpfs:
		return "option is not valid for a " + m.kind.String() + " mount"
	case value == "":
		return "option " + ruleEmpty
	}
	switch key {
	case "size":
		m.sizeMiB, rule = parseUint32(value, 10)
	case "mode":
		m.mode, rule = parseUint32(value, 8)
	case "fstype":
		m.fstype, rule = value, when(strings.ContainsAny(value, ",;:="), ruleFSType)
	}
	return rule
}

func parseUint32(s string, base int) (n *uint32, rule string) {
	v, ok := parseUint(s, base, 32)
	if !ok {
		return nil, ruleNumber
	}
	u := uint32(v)
	return &u, ""
}
