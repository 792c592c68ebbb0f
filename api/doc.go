// Package api serves Rapport over HTTP: typed routes for every command and read model, the event feed, and the documents
// that describe them. Routes of commands follow from the declarations of the aggregates; every error, of whatever origin,
// leaves through one function as an RFC 9457 problem.
package api

//go:generate go test . -run ProblemsPage -update
