// Package boots holds the tests of the boot on real machines: what hosts ask for,
// on roots and devices of every kind, by both configurations and on each kernel;
// images that want something else; and what happens when a step fails.
package boots
