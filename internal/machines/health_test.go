package machines

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// What checks say, one after the other: p passes, f fails, x does not come to its end;
// a second passes before each. As containers' tools have it.
func TestHealth(t *testing.T) {
	for _, tt := range []struct {
		check sandbox.Healthcheck
		says  string
		want  string // The status and the streak after each.
	}{
		{sandbox.Healthcheck{}, "pfffp", "healthy0,healthy1,healthy2,unhealthy3,healthy0"},
		{sandbox.Healthcheck{Retries: 1}, "fpx", "unhealthy1,healthy0,unhealthy1"},
		{sandbox.Healthcheck{Retries: 2, StartPeriod: 3 * time.Second}, "ffff", "starting0,starting0,starting1,unhealthy2"},
		{sandbox.Healthcheck{Retries: 2, StartPeriod: time.Hour}, "fpff", "starting0,healthy0,healthy1,unhealthy2"},
	} {
		h, got := Health{Status: HealthStarting}, []string{}
		for i, c := range tt.says {
			word := string(c)
			exit := map[string]*int{"p": new(int), "f": new(1)}[word]
			h.take(&tt.check, exit, word, time.Duration(i+1)*time.Second, time.Unix(int64(i), 0))
			got = append(got, fmt.Sprint(h.Status, h.FailingStreak))
			if h.Output != word || h.Exit != exit {
				t.Errorf("%s: %+v", tt.says, h)
			}
		}
		if strings.Join(got, ",") != tt.want {
			t.Errorf("%s: %v, want %s", tt.says, got, tt.want)
		}
	}
}

// Between checks is the check's own time, and another while the machine starts.
func TestHealthPause(t *testing.T) {
	began := time.Unix(1, 0)
	for _, tt := range []struct {
		check  sandbox.Healthcheck
		passed bool
		after  time.Duration
		want   time.Duration
	}{
		{sandbox.Healthcheck{}, false, 0, healthInterval},
		{sandbox.Healthcheck{Interval: 1, StartInterval: 2}, false, 0, 1},
		{sandbox.Healthcheck{Interval: 1, StartInterval: 2, StartPeriod: 10}, false, 9, 2},
		{sandbox.Healthcheck{Interval: 1, StartInterval: 2, StartPeriod: 10}, false, 10, 1},
		{sandbox.Healthcheck{Interval: 1, StartInterval: 2, StartPeriod: 10}, true, 9, 1},
		{sandbox.Healthcheck{StartPeriod: 10}, false, 9, healthStartInterval},
	} {
		c := &checker{check: &tt.check, began: began, health: Health{passed: tt.passed}}
		if got := c.pause(began.Add(tt.after)); got != tt.want {
			t.Errorf("%+v after %v: %v, want %v", tt.check, tt.after, got, tt.want)
		}
	}
}

func TestCheckHealth(t *testing.T) {
	for _, tt := range []struct {
		check *sandbox.Healthcheck
		want  string // Words of the error; "" for none.
	}{
		{nil, ""},
		{&sandbox.Healthcheck{Test: []string{"CMD", "a"}}, ""},
		{&sandbox.Healthcheck{Test: []string{"CMD-SHELL", "a b"}}, ""},
		{&sandbox.Healthcheck{}, "want CMD"},
		{&sandbox.Healthcheck{Test: []string{"CMD"}}, "want CMD"},
		{&sandbox.Healthcheck{Test: []string{"CMD-SHELL", "a", "b"}}, "want CMD"},
		{&sandbox.Healthcheck{Test: []string{"a"}}, "want CMD"},
		{&sandbox.Healthcheck{Test: []string{"CMD", "a"}, Timeout: -1}, "timeout of -1ns"},
		{&sandbox.Healthcheck{Test: []string{"CMD", "a"}, StartPeriod: 1}, "start period of 1ns"},
		{&sandbox.Healthcheck{Test: []string{"CMD", "a"}, Retries: -1}, "-1 retries"},
	} {
		switch err := CheckHealth(tt.check); {
		case (err == nil) != (tt.want == ""):
			t.Errorf("%+v: %v, want %q", tt.check, err, tt.want)
		case err != nil && !strings.Contains(err.Error(), tt.want):
			t.Errorf("%+v: %v, want %q", tt.check, err, tt.want)
		}
	}
}

// Of a check's output the beginning is kept.
func TestHead(t *testing.T) {
	h := &head{most: 5}
	for _, s := range []string{"", "abc", "def", "ghi"} {
		if n, err := h.Write([]byte(s)); n != len(s) || err != nil {
			t.Error(n, err)
		}
	}
	if string(h.text) != "abcde" {
		t.Errorf("%q", h.text)
	}
}
