// Command registry serves the images that critest and containerd's client tests pull,
// to a host without a network: names of public images, made of the host's static
// busybox and of the programs in the directory programs.
//
//	registry PROGRAMS CERTIFICATE
//
// PROGRAMS is their static binary. It listens on 127.0.0.1, without TLS on port 5000 and
// with it on 443; it writes the certificate that it made for that to a file, and then
// prints "ready". It ends by a signal.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	if len(os.Args) != 3 { //nolint:mnd // The words of the usage.
		fmt.Fprintln(os.Stderr, "usage: registry PROGRAMS CERTIFICATE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(programs, certificate string) error {
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if err := fill(handler, programs); err != nil {
		return err
	}
	secrets, err := makeCertificate(certificate)
	if err != nil {
		return err
	}
	// Both are open before the word that they are.
	plain, err := net.Listen("tcp", "127.0.0.1:5000") //nolint:noctx // Listening does not wait.
	if err != nil {
		return err
	}
	secret, err := net.Listen("tcp", "127.0.0.1:443") //nolint:noctx // Listening does not wait.
	if err != nil {
		return errors.Join(err, plain.Close())
	}
	server := &http.Server{Handler: handler, TLSConfig: secrets, ReadHeaderTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(plain) }()
	go func() { failed <- server.ServeTLS(secret, "", "") }()
	fmt.Println("ready")
	return <-failed
}

// fill pushes the images, as any client does.
func fill(handler http.Handler, programs string) error {
	server := httptest.NewServer(handler)
	defer server.Close()
	return pushAll(server.Listener.Addr().String(), programs)
}
