// Package wire is the contract between a host and a guest.
package wire
