package wire

// LimitNames are the resources that Linux limits, as [Rlimit] names them. The
// position of each is its number (asm-generic/resource.h).
func LimitNames() [16]string {
	return [...]string{
		"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock",
		"as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime",
	}
}

// RlimitsOf converts limits of another type that has the fields of [Rlimit].
func RlimitsOf[L ~struct {
	Resource string `json:"resource"`
	Soft     uint64 `json:"soft"`
	Hard     uint64 `json:"hard"`
}](all []L) (l []Rlimit) {
	for _, limit := range all {
		l = append(l, Rlimit(limit))
	}
	return l
}
