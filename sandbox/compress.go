//go:build ignore

// Compress writes the file IN, compressed by zstd, to OUT. The same bytes give the same
// bytes: one encoder, which is this module's and not this host's.
package main

import (
	"log"
	"os"

	"github.com/klauspost/compress/zstd"
)

func main() {
	log.SetFlags(0)
	b, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(os.Args[2], e.EncodeAll(b, nil), 0o644); err != nil {
		log.Fatal(err)
	}
}
