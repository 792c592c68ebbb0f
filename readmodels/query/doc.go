// Package query is the kernel of the read models: a Store that answers from the views of schema rapport as they stand or as
// of a moment of the past, resources that can be listed, filtered and sorted, and records with their parts. The folders
// beside it declare the resources and records of each area.
//
// Queries read the stable views, never a versioned table, and every answer names the position of the log that it reflects.
package query
