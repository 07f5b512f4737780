package sandbox

import "strings"

// PlainUser is USER[:GROUP] as containers' tools read it (moby/sys/user, GetExecUser),
// in the form that an agent takes, which has no empty parts: "1000:" is 1000 with its
// own group, ":0" is root with that group, and ":" is "". The host converts it, because
// all hosts follow the protocol's rule for users.
func PlainUser(spec string) string {
	user, group, _ := strings.Cut(spec, ":")
	switch {
	case user == "" && group == "":
		return spec
	case group == "":
		return user
	case user == "":
		return "0:" + group
	}
	return spec
}
