package suite

// differences are the behaviours in which ours is not like a published agent, by
// version and name, and why.
var differences = map[string]map[string]string{
	"0.5.5":  {},
	"0.6.14": {},
}
