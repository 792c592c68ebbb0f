// The harness: one seeded simulation of everything between a client and a row, under faults.
//
// Three processes with the real command bus work on one log in memory (log_test.go), which decides as EventStoreDB does and
// speaks the real codec. Clients (client_test.go) submit commands of every aggregate, made up from their declarations
// (generate_test.go), repeat them by their keys, reuse keys with other bodies, and go away. The scheduler (schedule_test.go)
// decides by the seed alone whose call to the log goes on, and spoils some: answers are lost, appends never arrive or arrive
// late, the log goes away, processes end and begin again, clocks jump. With every second seed the log has the manner of a real
// engine (strict_test.go): what is decided is shown late or lost with the leader, and losers are told too little. When a run
// is over, everything that must be true is checked: what clients were told (history_test.go), the log, states, rules and
// read models (check_test.go, delivery_test.go).
package main
