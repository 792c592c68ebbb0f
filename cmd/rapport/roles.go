package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What a process of `rapport serve` may do.
const (
	roleAPI       = "api"       // answers commands and queries
	roleProjector = "projector" // keeps the read models up to date
	roleReactor   = "reactor"   // publishes events, as --publish says
	roleProcess   = "process"   // turns events into commands
	roleTimer     = "timer"     // wakes what is due by commands, and does housekeeping
)

// does reports whether this process has a role.
func (s serveCommand) does(role string) bool { return slices.Contains(s.Roles, role) }

// commands reports whether this process submits commands, for which it needs the installation's secret.
func (s serveCommand) commands() bool {
	return s.does(roleAPI) || s.does(roleProcess) || s.does(roleTimer)
}

// join finds out whether the server that runs on the data directory leaves room for this process, which then uses its
// stores. It returns the process id of that server, 0 when none runs.
func (s serveCommand) join() (host int, err error) {
	r, err := s.running()
	if errors.Is(err, errNotRunning) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, role := range s.Roles {
		if slices.Contains(r.Roles, role) {
			return 0, fmt.Errorf("a server runs on %s already: process %d at %s, with the roles %s", s.Data, r.PID, r.API, strings.Join(r.Roles, ","))
		}
	}
	return r.PID, nil
}

// hostCheck is how often a process that uses the stores of another looks whether that one still runs.
const hostCheck = time.Second

// errHostEnded says that the server whose stores this process used runs no more.
var errHostEnded = errors.New("the server whose stores this process used has ended")

// watchHost returns errHostEnded when the server that owns the stores has ended, also when another one has begun since, and
// nil when ctx has ended.
func (s serveCommand) watchHost(ctx context.Context, host int) error {
	tick := time.NewTicker(hostCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if r, err := s.running(); errors.Is(err, errNotRunning) || err == nil && r.PID != host {
			return errHostEnded
		}
	}
}
