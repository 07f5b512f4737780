// Package manifests holds the manifests of docs/CONTAINERD.md to Kubernetes' own types
// and rules. It is a module of its own because nothing else needs those.
package manifests

import (
	"os"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// block finds the indented text of the document from a line to the next that is not.
var block = regexp.MustCompile(`(?m)^    apiVersion: node\.k8s\.io/v1\n(    .*\n)+`)

func manifests(t *testing.T) (class nodev1.RuntimeClass, pod corev1.Pod) {
	t.Helper()
	b, err := os.ReadFile("../../../../docs/CONTAINERD.md")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^    `).ReplaceAllString(block.FindString(string(b)), "")
	first, second, ok := strings.Cut(text, "---\n")
	if !ok {
		t.Fatalf("want two manifests in the document, have:\n%s", text)
	}
	for text, into := range map[string]any{first: &class, second: &pod} {
		if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
	return class, pod
}

// Strict decoding refuses unknown fields and wrong types; the rest is what the API's
// server checks of these fields.
func TestManifests(t *testing.T) {
	class, pod := manifests(t)
	if class.APIVersion != "node.k8s.io/v1" || class.Kind != "RuntimeClass" || pod.APIVersion != "v1" || pod.Kind != "Pod" {
		t.Errorf("kinds %s %s and %s %s", class.APIVersion, class.Kind, pod.APIVersion, pod.Kind)
	}
	for field, bad := range map[string][]string{
		"handler":               validation.IsDNS1123Label(class.Handler),
		"name of the class":     validation.IsDNS1123Subdomain(class.Name),
		"name of the pod":       validation.IsDNS1123Subdomain(pod.Name),
		"name of the container": validation.IsDNS1123Label(pod.Spec.Containers[0].Name),
	} {
		if len(bad) > 0 {
			t.Errorf("%s: %v", field, bad)
		}
	}
	if class.Overhead == nil || class.Overhead.PodFixed.Memory().Cmp(resource.MustParse("128Mi")) < 0 {
		t.Errorf("overhead %v is less than the machine's", class.Overhead)
	}
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName != class.Name {
		t.Errorf("the pod is of class %v, want %q", pod.Spec.RuntimeClassName, class.Name)
	}
}
