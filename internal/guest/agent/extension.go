package agent

import "slices"

// extensions are the vendor extensions that this agent has (protocol section 7.9), sorted.
var extensions = []string{}

// announced is the value of Ready.Extensions.
func announced() []string { return slices.Clone(extensions) }
