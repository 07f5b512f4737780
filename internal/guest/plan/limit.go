package plan

import (
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/wire"
)

// Resource is the number of a resource limit as Linux counts them on every
// architecture that this program is built for (asm-generic/resource.h).
type Resource uint8

// resources holds the name of each number: the position is the number.
var resources = wire.LimitNames()

// ParseResource returns the resource called name, in upper or lower case. The second
// result is false for a name that Linux does not have.
func ParseResource(name string) (Resource, bool) {
	name = strings.ToLower(name)
	for i, r := range resources {
		if r == name {
			return Resource(i), true
		}
	}
	return 0, false
}

// String returns the lower-case name.
func (r Resource) String() string {
	if int(r) < len(resources) {
		return resources[r]
	}
	return "resource" + strconv.Itoa(int(r))
}

// Infinity is the value that means no limit (RLIM64_INFINITY). Configurations write it
// as a number.
const Infinity = ^uint64(0)

// Limit is one resource limit. Soft is never above Hard in a plan.
type Limit struct {
	Resource   Resource
	Soft, Hard uint64
}

// String prints name=soft:hard.
func (l Limit) String() string {
	return l.Resource.String() + "=" + limitValue(l.Soft) + ":" + limitValue(l.Hard)
}

func limitValue(n uint64) string {
	if n == Infinity {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

const (
	ruleResource = "must be a resource that Linux limits"
	ruleSoft     = "soft limit must not be above the hard limit"
	ruleLimited  = "resource must not be limited twice, in whatever case it is written"
)

// addLimit appends a checked limit, or returns the broken rule. The same name in upper
// and lower case is a duplicate, because both would set the same limit.
func addLimit(list []Limit, name string, soft, hard uint64) (out []Limit, rule string) {
	r, ok := ParseResource(name)
	if !ok {
		return nil, ruleResource
	}
	if soft > hard {
		return nil, ruleSoft
	}
	for _, l := range list {
		if l.Resource == r {
			return nil, ruleLimited
		}
	}
	return append(list, Limit{Resource: r, Soft: soft, Hard: hard}), ""
}
