package oci

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// Sets are objects with arbitrary values, or lists. An empty check counts as none.
func TestConfigurationOfUse(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Config // Or an error, if Architecture is one's words.
	}{
		{`{}`, Config{}},
		{`{"Volumes": null, "ExposedPorts": null, "Healthcheck": null}`, Config{}},
		{`{"Volumes": {"/b": {}, "/a": null}}`, Config{Volumes: []string{"/a", "/b"}}},
		{`{"ExposedPorts": ["80/tcp", "53/udp"]}`, Config{ExposedPorts: []string{"80/tcp", "53/udp"}}},
		{`{"StopSignal": "SIGRTMIN+3"}`, Config{StopSignal: "SIGRTMIN+3"}},
		{`{"Healthcheck": {"Interval": 5}}`, Config{}},
		{`{"Healthcheck": {"Test": ["NONE"]}}`, Config{Healthcheck: &Healthcheck{Test: []string{"NONE"}}}},
		{
			`{"Healthcheck": {"Test": ["CMD", "a"], "Interval": 1, "Timeout": 2, "StartPeriod": 3, "StartInterval": 4, "Retries": 5}}`,
			Config{Healthcheck: &Healthcheck{[]string{"CMD", "a"}, 1, 2, 3, 4 * time.Nanosecond, 5}},
		},
		{`{"Volumes": "a"}`, Config{Architecture: "Volumes"}},
	} {
		c, err := decode[configuration]([]byte(`{"config": `+tt.text+`}`), "configuration")
		if err != nil {
			if words := tt.want.Architecture; words == "" || !strings.Contains(err.Error(), "configuration: ") {
				t.Errorf("%s: %v", tt.text, err)
			}
			continue
		}
		got := c.public()
		if len(got.Volumes) == 0 {
			got.Volumes = nil
		}
		if len(got.ExposedPorts) == 0 {
			got.ExposedPorts = nil
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.text, got, tt.want)
		}
	}
}
