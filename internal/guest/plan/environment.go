package plan

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/bootenv"
)

// variable is one configuration variable: its name and its parser.
type variable struct {
	name string
	// raw values are words for another program. Space in them is kept.
	raw   bool
	parse func(c *config, value string) *Error
}

// variables returns the known variables in the order in which they are parsed. The two
// variables with the handover's arguments and environment follow the handover, because
// they need it. The security profile also applies to the mounts before it, so mounts
// become steps after all variables are parsed.
func variables() []variable {
	return []variable{
		{name: bootenv.BlockRoot, parse: parseBlockRoot},
		{name: bootenv.DirMounts, parse: mountList(kindDir)},
		{name: bootenv.FileMounts, parse: mountList(kindFile)},
		{name: bootenv.DiskMounts, parse: mountList(kindDisk)},
		{name: bootenv.Tmpfs, parse: mountList(kindTmpfs)},
		{name: bootenv.Hostname, parse: parseHostname},
		{name: bootenv.HostAlias, parse: parseAlias},
		{name: bootenv.Net, parse: parseNet},
		{name: bootenv.NetIPv4, parse: parseIPv4},
		{name: bootenv.NetIPv6, parse: parseIPv6},
		{name: bootenv.Rlimits, parse: parseLimits},
		{name: bootenv.SecurityProfile, parse: parseProfile},
		{name: bootenv.HandoffInit, raw: true, parse: parseHandover},
		{name: bootenv.HandoffInitArgs, raw: true, parse: parseHandoverArgs},
		{name: bootenv.HandoffInitEnv, raw: true, parse: parseHandoverEnv},
		{name: bootenv.User, parse: parseUser},
	}
}

// Configured reports whether environ holds any configuration variable with a
// value. A machine with one is configured by [FromEnvironment] and must not
// wait for a message; a machine without is configured by [FromBootstrap].
func Configured(environ []string) bool {
	return slices.ContainsFunc(variables(), func(v variable) bool {
		return strings.TrimSpace(lookup(environ, v.name)) != ""
	})
}

// lookup returns the value of a variable, or "" if it is absent. If there are several,
// the last one is used, as in the environment that the kernel builds.
func lookup(environ []string, name string) string {
	for _, e := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// FromEnvironment returns the plan that the variables of environ describe. Every
// rejection is an [*Error] with the variable as its field; the first in the
// order of the variables is returned.
func FromEnvironment(environ []string) (*Plan, error) {
	c := config{
		source: Environment, generation: environmentGeneration,
		cwd: "/", env: inherited(environ),
	}
	if rejected := c.host(environ); rejected != nil {
		return nil, rejected
	}
	for _, v := range variables() {
		if e := v.apply(&c, lookup(environ, v.name)); e != nil {
			e.Source, e.Field = Environment, v.name
			return nil, e
		}
	}
	return c.plan(), nil
}

// apply trims a value, unless it is raw, and checks and parses it. An empty value means
// the same as no variable.
func (v variable) apply(c *config, value string) *Error {
	if !v.raw {
		value = strings.TrimSpace(value)
	}
	if value == "" {
		return nil
	}
	if rule := firstRule(when(!utf8.ValidString(value), ruleUTF8), checkNUL(value)); rule != "" {
		return reject(value, rule)
	}
	return v.parse(c, value)
}

// reject returns a rejection whose field is still empty.
func reject(value, rule string) *Error { return &Error{Value: value, Rule: rule} }

// rejectIf returns a rejection unless rule is "".
func rejectIf(value, rule string) *Error {
	if rule == "" {
		return nil
	}
	return reject(value, rule)
}

func parseHostname(c *config, value string) *Error {
	c.hostname = value
	return rejectIf(value, checkHostname(value))
}

func parseAlias(c *config, value string) *Error {
	c.alias = value
	return rejectIf(value, checkAlias(value))
}

func parseUser(c *config, value string) *Error {
	c.user = value
	return rejectIf(value, checkUser(value))
}

const ruleProfile = "must be default or restricted"

func parseProfile(c *config, value string) *Error {
	c.restricted = value == string(wire.ProfileRestricted)
	return rejectIf(value, when(!c.restricted && value != string(wire.ProfileDefault), ruleProfile))
}

const (
	ruleLimitForm   = "must have the form resource=soft[:hard]"
	ruleLimitNumber = "must be an unsigned number"
)

func parseLimits(c *config, value string) *Error {
	for entry := range strings.SplitSeq(value, bootenv.Entry) {
		if entry == "" {
			continue
		}
		if rule := parseLimit(c, entry); rule != "" {
			return reject(entry, rule)
		}
	}
	return nil
}

// parseLimit adds the limit of one entry. Without a hard value, the soft value is used
// for both.
func parseLimit(c *config, entry string) (rule string) {
	name, values, ok := strings.Cut(entry, "=")
	if !ok {
		return ruleLimitForm
	}
	first, second, both := strings.Cut(values, bootenv.Field)
	if !both {
		second = first
	}
	soft, softOK := parseUint(first, 10, 64)
	hard, hardOK := parseUint(second, 10, 64)
	if !softOK || !hardOK {
		return ruleLimitNumber
	}
	c.limits, rule = addLimit(c.limits, name, soft, hard)
	return rule
}

const (
	ruleInit = `must be an absolute path or "auto"`
	rulePair = "must have the form KEY=VALUE with a key"
)

// parseHandover keeps space around a path, but refuses a path of only space.
func parseHandover(c *config, value string) *Error {
	if strings.TrimSpace(value) == "" {
		return nil
	}
	c.handover = &Handover{Init: value}
	return rejectIf(value, checkInit(value))
}

func checkInit(s string) string {
	return firstRule(checkNUL(s), when(s != AutoInit && !strings.HasPrefix(s, "/"), ruleInit))
}

func parseHandoverArgs(c *config, value string) *Error {
	if c.handover != nil {
		c.handover.Args = strings.Split(value, bootenv.Unit)
	}
	return nil
}

func parseHandoverEnv(c *config, value string) *Error {
	if c.handover == nil {
		return nil
	}
	for entry := range strings.SplitSeq(value, bootenv.Unit) {
		if strings.Index(entry, "=") < 1 {
			return reject(entry, rulePair)
		}
		c.handover.Env = append(c.handover.Env, entry)
	}
	return nil
}
