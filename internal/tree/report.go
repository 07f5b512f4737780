package tree

import "io/fs"

// MaxDepth is how many directories deep a tree may be. Each takes a descriptor.
const MaxDepth = 512

// maxProblems bounds the problems that a report has; the others are counted.
const maxProblems = 10

// A Report says what was packed or unpacked.
type Report struct {
	Entries  uint64          // Members, directories included.
	Bytes    uint64          // Of contents, without holes.
	Problems []*fs.PathError // Members that were left out, or are incomplete; the first ones.
	More     uint64          // How many more there were.
}

// Problem adds a problem with a member.
func (r *Report) Problem(op, name string, err error) {
	if len(r.Problems) == maxProblems {
		r.More++
		return
	}
	r.Problems = append(r.Problems, &fs.PathError{Op: op, Path: name, Err: err})
}
