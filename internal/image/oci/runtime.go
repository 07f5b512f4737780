package oci

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// A Healthcheck is the command that says whether what an image runs is well. Durations
// and retries of zero are the defaults of containers' tools.
type Healthcheck struct {
	// Test is NONE; or CMD and a command's words; or CMD-SHELL and a line for a shell.
	Test          []string      `json:"test"`
	Interval      time.Duration `json:"interval_ns,omitempty"` // From the end of a check to the next.
	Timeout       time.Duration `json:"timeout_ns,omitempty"`
	StartPeriod   time.Duration `json:"start_period_ns,omitempty"`   // In which failures do not count.
	StartInterval time.Duration `json:"start_interval_ns,omitempty"` // In place of Interval meanwhile.
	Retries       int           `json:"retries,omitempty"`           // Failures one after the other that make it unhealthy.
}

// A healthcheck is a Healthcheck in a configuration, by Docker's names.
type healthcheck struct {
	Test          words         `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"` // Nanoseconds, as the others.
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// public is nil for a check that says nothing.
func (h *healthcheck) public() *Healthcheck {
	if h == nil || len(h.Test) == 0 {
		return nil
	}
	return &Healthcheck{h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}
}

func (h *Healthcheck) document() *healthcheck {
	if h == nil {
		return nil
	}
	return &healthcheck{h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}
}

// keys are a set: an object with empty values in a configuration, as Go's maps are
// written. A list is taken too.
type keys []string

func (k *keys) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(k))
	}
	var set map[string]json.RawMessage
	err := json.Unmarshal(b, &set)
	*k = slices.Sorted(maps.Keys(set))
	return err
}

func (k keys) MarshalJSON() ([]byte, error) {
	set := map[string]struct{}{}
	for _, key := range k {
		set[key] = struct{}{}
	}
	return json.Marshal(set)
}
