// Package domain is the kernel that every aggregate, command handler and projection shares: events and their envelope,
// deciders, identifiers, money, and the kinds of error. It does no I/O, reads no clock and makes no randomness.
package domain
