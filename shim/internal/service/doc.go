// Package service speaks containerd's services for one pod: the task service in its
// versions 2 and 3, which have the same messages, and the events that go back.
package service
