package wire

// LimitNames are the resources that Linux limits, as [Rlimit] names them. The
// position of each is its number (asm-generic/resource.h).
func LimitNames() [16]string {
	return [...]string{
		"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock",
		"as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime",
	}
}
