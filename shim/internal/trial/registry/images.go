package main

import (
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// An image is what is pushed under its names.
type image struct {
	names  []string
	layers []v1.Layer
	config v1.Config
}

const (
	endToEnd = "e2e-test-images/"
	staging  = "k8s-staging-cri-tools/"
)

// pushAll makes the images and pushes them to a registry without TLS.
func pushAll(registry, programs string) error {
	all, err := images(programs)
	if err != nil {
		return err
	}
	for _, i := range all {
		made, err := i.make()
		if err != nil {
			return fmt.Errorf("image %s: %w", i.names[0], err)
		}
		for _, n := range i.names {
			ref, err := name.ParseReference(registry+"/"+n, name.Insecure)
			if err != nil {
				return err
			}
			if err := remote.Write(ref, made); err != nil {
				return fmt.Errorf("image %s: %w", n, err)
			}
		}
	}
	return nil
}

func (i image) make() (v1.Image, error) {
	made, err := mutate.AppendLayers(empty.Image, i.layers...)
	if err != nil {
		return nil, err
	}
	file, err := made.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Config = "amd64", "linux", i.config
	file.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if len(file.Config.Cmd)+len(file.Config.Entrypoint) == 0 {
		file.Config.Cmd = []string{"sh"}
	}
	return mutate.ConfigFile(made, file)
}

// images are those that the suites name. Images that differ have another layer each.
func images(programs string) ([]image, error) {
	binary, err := os.ReadFile(programs)
	if err != nil {
		return nil, err
	}
	base, err := busybox()
	if err != nil {
		return nil, err
	}
	const setID = 0o4755
	web := layerOf(directory("var/run"), file("usr/sbin/nginx", binary, executable))
	mark := func(word string) v1.Layer { return layerOf(file("image", []byte(word), plain)) }
	pause := layerOf(file("pause", binary, executable))
	httpd := v1.Config{Cmd: []string{"sh", "-c", "echo httpd; exec httpd -f -p 80 -h /www"}}
	all := []image{
		{[]string{"pause:3.9"}, []v1.Layer{pause}, v1.Config{Entrypoint: []string{"/pause"}}},
		{[]string{"pause:3.10"}, []v1.Layer{pause, mark("pause:3.10")}, v1.Config{Entrypoint: []string{"/pause"}}},
		{[]string{"containerd/busybox:1.28", "containerd/busybox:1.36", endToEnd + "busybox:1.29-2"}, []v1.Layer{base}, v1.Config{}},
		{[]string{endToEnd + "nginx:1.14-2"}, []v1.Layer{base, web}, v1.Config{Cmd: []string{"/usr/sbin/nginx", "80"}}},
		{[]string{staging + "hostnet-nginx-amd64:latest"}, []v1.Layer{base, web}, v1.Config{Cmd: []string{"/usr/sbin/nginx", "12003"}}},
		{[]string{endToEnd + "httpd:2.4.39-4"}, []v1.Layer{base}, httpd},
		{[]string{endToEnd + "nonewprivs:1.3"}, []v1.Layer{base, layerOf(file("setuid", binary, setID))}, v1.Config{Entrypoint: []string{"/setuid"}}},
		{[]string{staging + "test-image-tags:1", staging + "test-image-tags:2", staging + "test-image-tags:3"}, []v1.Layer{base, mark("tags")}, v1.Config{}},
		{[]string{staging + "test-image-tag:test", staging + "test-image-tag:all"}, []v1.Layer{base, mark("tag")}, v1.Config{}},
	}
	for _, word := range []string{"1", "2", "3", "latest", "digest"} {
		all = append(all, image{[]string{staging + "test-image-" + word + ":latest"}, []v1.Layer{base, mark(word)}, v1.Config{}})
	}
	for word, user := range map[string]string{
		"user-uid": "1002", "user-username": "www-data", "user-uid-group": "1003:1004",
		"user-username-group": "www-data:1004", "predefined-group": "1000",
	} {
		all = append(all, image{[]string{staging + "test-image-" + word + ":latest"}, []v1.Layer{base}, v1.Config{User: user}})
	}
	return all, nil
}
