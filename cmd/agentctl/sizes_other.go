//go:build !unix

package main

import "os"

// notifySizes sends nothing: no signal tells of a change of the terminal's size.
func notifySizes(chan<- os.Signal) {}
