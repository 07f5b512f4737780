package machines

import "syscall"

// ownSession makes a process the leader of a session.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func closeOnExec(fd int) { syscall.CloseOnExec(fd) }

// kill kills a process, which may have ended already.
func kill(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }
