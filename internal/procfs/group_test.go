package procfs_test

import (
	"reflect"
	"testing"
	"testing/fstest"

	"github.com/agentd-go/agentd/internal/procfs"
)

// What the processes of a command take is added up by its control group, also of those in
// groups below it; other processes are nobody's.
func TestCommands(t *testing.T) {
	t.Parallel()
	const workload = "sys/fs/cgroup/microsandbox-workload/"
	fsys := fstest.MapFS{
		workload + "cgroup.procs":   {Data: nil},
		workload + "1/cgroup.procs": {Data: []byte("20\n21\n")},
		workload + "2/cgroup.procs": {Data: []byte("30\n")},
		workload + "3/cgroup.procs": {Data: nil},
	}
	running := func(pid, parent int, percent float64, rss int64) procfs.Running {
		return procfs.Running{Process: procfs.Process{PID: pid, Parent: parent, RSS: rss, Args: []string{"a"}}, Percent: percent}
	}
	r := procfs.Rates{Processes: []procfs.Running{
		running(1, 0, 5, 5), running(21, 20, 1, 10), running(20, 1, 2, 20), running(30, 1, 50, 1), running(31, 30, 1, 2), running(40, 1, 9, 9),
	}}
	want := []procfs.Command{
		{Group: "2", PID: 30, Args: []string{"a"}, Processes: 2, Percent: 51, RSS: 3},
		{Group: "1", PID: 20, Args: []string{"a"}, Processes: 2, Percent: 3, RSS: 30},
	}
	if got := r.OfCommands(procfs.Groups(fsys)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := r.OfCommands(procfs.Groups(fstest.MapFS{})); len(got) != 0 {
		t.Errorf("without groups: %+v", got)
	}
}
