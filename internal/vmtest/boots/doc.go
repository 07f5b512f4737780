// Package boots holds the tests of the boot on real machines: the configurations of
// hosts on all kinds of roots and devices, by message and by variables, on each kernel;
// hostile images; and failing steps.
package boots
