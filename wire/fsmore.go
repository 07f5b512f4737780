package wire

// CallName is what an OpCall or an OpFileCall does. Protocol section 9.9 describes each. They
// share two operations, and not one for each, because the agent's binary has a budget.
type CallName = string

// The calls on paths.
const (
	CallLink        CallName = "link"        // Other is the second name.
	CallGetXattr    CallName = "getxattr"    // Other is the attribute's name.
	CallSetXattr    CallName = "setxattr"    // As CallGetXattr, with Value.
	CallListXattr   CallName = "listxattr"   // Returns names, each with a NUL after it.
	CallRemoveXattr CallName = "removexattr" // As CallGetXattr.
	CallStatFS      CallName = "statfs"      // Returns numbers: see FSNumber.
)

// OpCall makes a call on a path. Its result is a *ResultCall.
type OpCall struct {
	Call          CallName
	Path          string
	FollowSymlink bool // Not for CallLink, which never follows, and CallStatFS, which always does.
	Other         string
	Value         []byte
}

func (o *OpCall) op() (string, value) {
	return "Call", entries{
		required("call", text(&o.Call)),
		required("path", text(&o.Path)),
		required("follow_symlink", truth(&o.FollowSymlink)),
		required("other", text(&o.Other)),
		required("value", data(&o.Value)),
	}
}

// The calls on open files.
const (
	CallSync          CallName = "sync"           // fsync(2).
	CallLockShared    CallName = "lock_shared"    // flock(2).
	CallLockExclusive CallName = "lock_exclusive" // flock(2).
	CallUnlock        CallName = "unlock"
)

// OpFileCall makes a call on an open file. Its result is a *ResultCall.
type OpFileCall struct {
	Call   CallName
	Handle uint64
	Wait   uint32 // How long to wait for a lock, in milliseconds; at most MaxLockWait.
}

func (o *OpFileCall) op() (string, value) {
	return "FileCall", entries{
		required("call", text(&o.Call)),
		required("handle", num(&o.Handle)),
		required("wait", num(&o.Wait)),
	}
}

// MaxLockWait is the longest wait of one OpFileCall in milliseconds. A client that waits
// longer asks again, so a client that gives up leaves no request for long.
const MaxLockWait = 10_000

// ResultCall is the result of OpCall and OpFileCall.
type ResultCall struct {
	Value   []byte   // Of CallGetXattr and CallListXattr.
	Numbers []uint64 // Of CallStatFS.
}

func (r *ResultCall) result() (string, value) {
	return "Call", entries{
		required("value", data(&r.Value)),
		required("numbers", numbers(&r.Numbers)),
	}
}

// A numberList is an array of numbers. Its description needs no allocation.
type numberList struct{ p *[]uint64 }

func numbers(p *[]uint64) value { return numberList{p} }

func (n numberList) list() list[uint64] { return list[uint64]{n.p, num[uint64]} }

func (n numberList) absent() bool      { return len(*n.p) == 0 }
func (n numberList) encode(e *encoder) { n.list().encode(e) }
func (n numberList) decode(d *decoder) { n.list().decode(d) }

// An FSNumber is the place of a number in ResultCall.Numbers of CallStatFS (statfs(2)).
type FSNumber int

// The numbers of a file system.
const (
	FSKind      FSNumber = iota // Its magic number.
	FSBlock                     // The unit of the next three, in bytes.
	FSBlocks                    //
	FSFree                      //
	FSAvailable                 // FSFree without those that only root may use.
	FSFiles                     //
	FSFreeFiles                 //
	FSMaxName                   // Bytes.
	FSReadOnly                  // 1 or 0.
	FSNumbers                   // How many there are.
)

// An ExactNumber is the place of a number in FSEntry.Exact (stat(2)).
type ExactNumber int

// The numbers of a file.
const (
	ExactAtimeNsec ExactNumber = iota // Nanoseconds beside FSEntry.Atime.
	ExactMtimeNsec                    // Nanoseconds beside FSEntry.Mtime.
	ExactCtime                        // Seconds; a negative number is one modulo 2^64.
	ExactCtimeNsec                    //
	ExactDevice                       //
	ExactInode                        //
	ExactLinks                        //
	ExactBlocks                       // Of 512 bytes.
	ExactNumbers                      // How many there are.
)
