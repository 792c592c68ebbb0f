// Package readmodels holds the rows that projections write and the queries that read them. Queries read the stable views
// of schema rapport, never a versioned table, and every answer names the position of the log that it reflects.
//
// A customer that was merged into another keeps its rows: nothing is rewritten. Queries about one customer resolve the
// survivor first and then include the rows of everything that was merged into it, directly or in steps. Lists do not:
// they show rows as they stand, and mergedInto tells.
package readmodels
