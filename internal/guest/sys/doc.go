// Package sys is the guest's only door to the kernel: every system call of
// agentd is wrapped here once, with EINTR retried and the operation named in
// the error. It decides nothing: its callers have decided.
//
// # Paths of the guest root
//
// The root file system belongs to whoever made the image. A [Root] resolves
// names beneath one directory and refuses to follow a symbolic link or to leave
// it (openat2, RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS), so a link in the image
// cannot redirect a mount or a write of the agent. Files are opened without
// waiting (O_NONBLOCK) and must be regular: a fifo cannot block the boot.
//
// # Descriptors
//
// Everything that is opened here is close-on-exec, so that a command gets
// nothing but its own three descriptors.
package sys
