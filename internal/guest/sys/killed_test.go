package sys

import "testing"

// The kernel's log names the victims of the memory killer; lines of programs do not count.
func TestVictim(t *testing.T) {
	t.Parallel()
	const line = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/w/7,task_memcg="
	for record, want := range map[string]Victim{
		"6,500,12345,-;" + line + "/w/7,task=tail,pid=61,uid=0\n SUBSYSTEM=x\n":   {61, "tail"},
		"4,500,12345,-;" + line + "/w/7/below,task=a,pid=1,b,pid=62,uid=1000\n":   {62, "a,pid=1,b"},
		"6,500,12345,-;" + line + "/w/71,task=tail,pid=61,uid=0\n":                {}, // Another group.
		"14,500,12345,-;" + line + "/w/7,task=tail,pid=61,uid=0\n":                {}, // Written by a program.
		"6,500,12345,-;oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/w/7,pid=1": {},
		"6,500,12345,-;oom-kill:":                           {},
		"6,500,12345,-;" + line + "/w/7,pid=3,task=x,uid=0": {},
		"":             {},
		"6;usb 1-1: x": {},
	} {
		if got, ok := victim(record, "/w/7"); got != want || ok != (want.PID > 0) {
			t.Errorf("%q: %+v, %v, want %+v", record, got, ok, want)
		}
	}
}
