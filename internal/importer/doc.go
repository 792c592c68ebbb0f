// Package importer turns rows of files into commands, as a mapping file says.
//
// A mapping names its inputs; for each input it says which commands a row, or a group of rows, stands for, with
// CEL expressions for the values, the conditions, the keys and the business time. Command ids derive from the mapping's
// source and the key, so that importing twice changes nothing and an interrupted import is resumed by starting it again.
// A mapping is checked whole, against the commands' own declarations and the files' headers, before the first row.
package importer
