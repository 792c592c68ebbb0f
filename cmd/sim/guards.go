package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// mutation breaks one guard: a text in one file is replaced by another, after which the test must fail.
type mutation struct {
	guard string // what the product no longer does
	file  string
	old   string // once in the file
	new   string
	test  []string // arguments of go test
}

// patience bounds each test, whose own bounds should end it long before.
const patience = "-timeout=5m"

var simulated = []string{"./cmd/sim", "-run=^TestSimulation$"}

// mutations are the guards of the product that a test must miss when they are gone. A mutation whose text is no longer found
// has to be written anew: TestMutationsApply tells.
var mutations = []mutation{
	{
		"look a command up by its id before deciding", "commands/execute.go",
		"\t\tif e := s.execution(c.id); e != nil {\n\t\t\treturn c.receipt(e, sent)\n\t\t}\n\t\td, err := b.decide(",
		"\t\td, err := b.decide(", simulated,
	},
	{
		"retry an append with the same ids", "commands/patience.go",
		"\t\toutcome := b.store.Append(ctx, id, expected, events)\n",
		"\t\tfor i := range events {\n\t\t\tevents[i].ID = derive(commandSpace, events[i].ID)\n\t\t}\n\t\toutcome := b.store.Append(ctx, id, expected, events)\n",
		simulated,
	},
	{
		"believe a refusal only after reading the tail", "commands/execute.go",
		"if !fresh && (err != nil || len(d.events) == 0) {", "if false {", simulated,
	},
	{
		"the same key with another body is an error", "commands/execute.go",
		"if !c.fingerprint.is(e.fingerprint) {", "if false {", simulated,
	},
	{
		"claim unique values before the append", "commands/reservation.go",
		"\tif c.claims() {\n\t\tfor _, k", "\tif false {\n\t\tfor _, k", simulated,
	},
	{
		"fence the holder before taking its claim over", "commands/reservation.go",
		"\t\tif !fence {\n", "\t\tif true {\n", []string{"./commands"},
	},
	{
		"a fresh claim is not taken over", "commands/reservation.go",
		"now.Sub(r.at) < ClaimTimeout", "now.Sub(r.at) < 0", []string{"./commands"},
	},
	{
		"give a value back once it is given up", "commands/execute.go",
		"\tb.giveBack(ctx, c, d.now, gone)\n", "\t_ = gone\n", []string{"./commands"},
	},
	{
		"ids of events differ between processes", "commands/identity.go",
		"c.fingerprint.keyed, b.process, strconv", "c.fingerprint.keyed, strconv", []string{"./commands", "-run=Repro"},
	},
	{
		"a state is never changed in place", "domain/party/customer/customer.go",
		"slices.DeleteFunc(slices.Clone(c.Tags),", "slices.DeleteFunc(c.Tags,", []string{"./domain/party/customer"},
	},
	{
		"one survivor for each duplicate", "domain/party/customer/customer.go",
		"for _, id := range c.Absorbed {\n\t\tkeys", "for _, id := range c.Absorbed[:0] {\n\t\tkeys", []string{"./commands", "-run=Repro"},
	},
	{
		"merges begun at once form no circle", "commands/reservation.go",
		"if err := cs.vacate(ctx, d, needs); err != nil {", "if err := error(nil); err != nil {\n\t\t\t_ = needs", []string{"./commands", "-run=Repro"},
	},
	{
		"a survivor keeps its duplicate when it is merged itself", "domain/party/customer/customer.go",
		"\tif c.MergedInto != \"\" {\n\t\treturn keys\n", "\tif c.MergedInto != \"\" {\n\t\treturn nil\n", []string{"./commands", "-run=Repro"},
	},
	{
		"a conflict is an answer once the log shows it", "commands/patience.go",
		"err != nil || seen {", "err != nil || seen || true {", []string{"./commands", "-run=Conflict"},
	},
	{
		"whoever is told a conflict waits until the log shows it", "commands/patience.go",
		"if seen, err := moved(); err != nil || seen {", "if _, err := moved(); err != nil || conflict.Actual == expected {", simulated,
	},
	{
		"a conflict that the log does not show is nobody's answer", "commands/patience.go",
		"lost++\n\t\t\tif seen", "if lost++; lost == MaxBlindReads {\n\t\t\t\treturn nil, &domain.ConflictError{Stream: id, Actual: conflict.Actual}\n\t\t\t}\n\t\t\tif seen", simulated,
	},
	{
		"who has lost reads what came between", "commands/execute.go",
		"err := b.refresh(ctx, s)\n\t\t\treturn d.before", "var err error\n\t\t\treturn true || d.before", simulated,
	},
	{
		"whoever loses pauses before the next try", "commands/patience.go",
		"if !b.pause(ctx, lost, longestTurn) {", "if ctx.Err() != nil {", []string{"./commands", "-run=Contention"},
	},
	{
		"a log that is away is waited for", "commands/patience.go",
		"if !b.pause(ctx, try, longestPause) {\n\t\t\treturn nil", "if try == 6 || !b.pause(ctx, try, longestPause) {\n\t\t\treturn nil", []string{"./commands", "-run=ComesBack"},
	},
	{
		"the node's head moves after the sync", "internal/esnode/writer.go",
		"\t\terr := c.err\n\t\tif c.batch != nil", "\t\terr := c.err\n\t\tw.store.head.publish(c.head, c.touched)\n\t\tif c.batch != nil",
		[]string{"./internal/esnode", "-run=FailedSync"},
	},
	{
		"the node shows no stream before the sync", "internal/esnode/read.go",
		"return st, s.head.reach(ctx, st.changed, s.stop)", "return st, nil", []string{"./internal/esnode", "-run=BeforeItsSync"},
	},
	{
		"a failed sync ends the node", "internal/esnode/writer.go",
		"\t\t\t\tw.store.fail(fmt.Errorf(\"sync: %w\", err))\n", "", []string{"./internal/esnode", "-run=FailedSync"},
	},
	{
		"the node refuses a log without its acknowledged end", "internal/esnode/witness.go",
		"if last < promised.position {", "if false {", []string{"./internal/esnode", "-run=OlderCopy"},
	},
	{
		"the node refuses an older copy that has grown", "internal/esnode/witness.go",
		"if promised.id == uuid.Nil {", "if true {", []string{"./internal/esnode", "-run=OlderCopy"},
	},
	{
		"the node's manifest has its name before it is pointed to", "internal/esnode/store.go",
		"manifestFS{opts.fs}", "opts.fs", []string{"./internal/esnode", "-run=ManifestAndPointer"},
	},
	{
		"the node tells a damaged event", "internal/esnode/record.go",
		"if binary.BigEndian.Uint32(value[1:]) != checksum(position, rest) {", "if false {", []string{"./internal/esnode", "-run=ToldOfDamage"},
	},
	{
		"the node ends no read where events are missing", "internal/esnode/read.go",
		"if !ok || positionAt(iter) != position {", "if !ok {\n\t\t\treturn nil\n\t\t}\n\t\tif positionAt(iter) != position {",
		[]string{"./internal/esnode", "-run=MissingEnd"},
	},
	{
		"the node misses an event between offsets", "internal/esnode/read.go",
		"after < before || exact && after != before {", "after < before && !exact {", []string{"./internal/esnode", "-run=MissingEventIsMissed"},
	},
	{
		"positions of a strict node have gaps", "internal/esnode/record.go",
		"return position + uint64(len(value))", "return position + 1", []string{"./internal/esnode", "-run=PositionsThatAreNone"},
	},
	{
		"a strict node that is not ready answers without a code", "internal/esnode/batch_append.go",
		"\t\tresult.Code = int32(codes.OK)", "\t\t_ = busy", []string{"./internal/esnode", "-run=StartingNode"},
	},
	{
		"a strict node tells losers what they expected", "internal/esnode/writer.go",
		"\twrong.actual = wrong.expected\n", "", []string{"./internal/esnode", "-run=LoserIsTold"},
	},
	{
		"the node writes nothing to a disk that is nearly full", "internal/esnode/writer.go",
		"if w.full != nil {", "if false {", []string{"./internal/esnode", "-run=NearlyFull"},
	},
	{
		"the node knows repetitions after a restart", "internal/esnode/writer.go",
		"w.recent.add(e.id, e.place)", "_ = e", []string{"./internal/esnode", "-run=RepeatedAppend"},
	},
	{
		"a search for the head goes on when nobody waits", "internal/eventlog/head.go",
		"context.WithCancel(context.WithoutCancel(ctx))", "context.WithCancel(ctx)", []string{"./internal/eventlog", "-run=SearchForTheHead"},
	},
	{
		"the caller is authorised before anything is looked at", "commands/bus.go",
		"\tif b.authorise != nil {", "\tif false {", []string{"./api", "-run=AuthorisationComes"},
	},
	{
		"events of other tenants do not leave", "domain/caller.go",
		"c.Tenant == \"\" || e.Tenant != c.Tenant || e.Stream.Tenant != c.Tenant", "false", []string{"./api", "-run=TenantsAreApart"},
	},
	{
		"appends expect an exact revision", "internal/eventlog/append.go",
		"return esdb.Revision(revision)", "_ = revision\n\t\treturn esdb.Any{}", []string{"./internal/eventlog"},
	},
	{
		"batched appends expect an exact revision", "internal/eventlog/batch.go",
		"&streams.BatchAppendReq_Options_StreamPosition{StreamPosition: revision}", "&streams.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}}\n\t\t_ = revision", []string{"./internal/eventlog"},
	},
	{
		"the end of a call refuses none of its appends", "internal/eventlog/batch.go",
		"return status.Errorf(codes.Unavailable, \"the call", "return status.Errorf(status.Code(cause), \"the call", []string{"./internal/eventlog"},
	},
	{
		"the same ids with other content are no repetition", "internal/eventlog/append.go",
		"if e.Revision != from+uint64(i) || !same(e, batch[i]) {", "if false {", []string{"./internal/eventlog", "-run=Mismatch"},
	},
	{
		"the last append is compared when it is repeated", "internal/eventlog/append.go",
		"committed.Position.Commit <= newest", "committed.Position.Commit < newest", []string{"./internal/eventlog", "-run=Mismatch"},
	},
	{
		"a history that is cut short is an error", "internal/eventlog/read.go",
		"case errors.Is(err, io.EOF):", "case errors.Is(err, io.EOF), err != nil:", []string{"./internal/eventlog", "-run=CutShort"},
	},
	{
		"a stream deleted while it is read has no short history", "internal/eventlog/read.go",
		"if errors.Is(err, errNotThere) && !begun {", "if _ = begun; errors.Is(err, errNotThere) {", []string{"./internal/eventlog", "-run=DeletedWhile"},
	},
	{
		"an answer without a code is no success", "internal/eventlog/batch.go",
		"return fmt.Errorf(\"%w: code %d, %q\", errNotASuccess, refusal.Code(), refusal.Message())", "return refusal.Err()",
		[]string{"./internal/eventlog", "-run=OutcomesOfBatchedAppends"},
	},
	{
		"an answer without a result is no success", "internal/eventlog/batch.go",
		"return domain.Committed{}, fmt.Errorf(\"%w: it holds neither\", errNotASuccess)", "return domain.Committed{}, nil",
		[]string{"./internal/eventlog", "-run=OutcomesOfBatchedAppends"},
	},
	{
		"a success that does not stand there is none", "internal/eventlog/append.go",
		"case len(stored) < len(batch):", "case false:", []string{"./internal/eventlog", "-run=CountsWhenItStandsThere"},
	},
	{
		"the log is asked for places at which an event stands", "internal/eventlog/place.go",
		"if after.IsZero() || l.marks.before(after) == after {", "if true {", []string{"./internal/eventlog", "-run=AnyNumber"},
	},
	{
		"an event of a mark is looked at", "internal/eventlog/place.go",
		"case m.ID != \"\" && there.ID != m.ID:", "case false:", []string{"./internal/eventlog", "-run=CheckTells"},
	},
	{
		"the newest event of ours is searched for anew in another history", "internal/eventlog/head.go",
		"if there.ID == searched.ID {", "if there.ID != \"\" {", []string{"./internal/eventlog", "-run=HeadIsSearched"},
	},
	{
		"what others write is left out", "internal/eventlog/namespace.go",
		"if !ours || isSystem(raw.Type) || raw.Stream == s.identity {", "if _ = ours; isSystem(raw.Type) || raw.Stream == s.identity {",
		[]string{"./internal/eventlog", "-run=Strangers|SeeNothing"},
	},
	{
		"a log of before takes one tenant alone", "internal/eventlog/namespace.go",
		"if !strings.HasPrefix(name, s.prefix) {", "if false {", []string{"./internal/eventlog", "-run=LogOfBefore"},
	},
	{
		"a subscription does not go on in another log", "internal/eventlog/subscribe.go",
		"case f.identity != id:", "case false:", []string{"./internal/eventlog", "-run=AnotherLog"},
	},
	{
		"a subscription does not go on in an older copy of its log", "internal/eventlog/subscribe.go",
		"return f.log.Check(ctx, f.event)", "return nil", []string{"./internal/eventlog", "-run=OlderCopy"},
	},
	{
		"an event where the log had been searched tells another history", "internal/eventlog/subscribe.go",
		"case f.event.ID != \"\" && f.event.Position.Before(raw.Position):", "case false:", []string{"./internal/eventlog", "-run=NoneStoodBefore"},
	},
	{
		"a subscription goes on behind its last checkpoint", "internal/eventlog/subscribe.go",
		"\t\tf.advance(position)\n\t\treturn f.pass(Message{Checkpoint", "\t\treturn f.pass(Message{Checkpoint", []string{"./internal/eventlog", "-run=Resumes"},
	},
	{
		"a silent subscription is replaced", "internal/eventlog/subscribe.go",
		"if behind && suspect && len(messages) == 0 {", "if suspect && false {", []string{"./internal/eventlog", "-run=SilentSubscription"},
	},
	{
		"an event before another ends the subscription", "internal/bus/intake.go",
		"if !in.last.Before(end) {", "if false {", []string{"./internal/bus"},
	},
	{
		"an event left out ends the subscription", "internal/bus/intake.go",
		"if in.err = in.follows(m.Raw); in.err != nil {", "if false {", []string{"./cmd/sim", "-run=OutOfOrder"},
	},
	{
		"the next batch waits for the acknowledgement", "internal/bus/subscriber.go",
		"\tselect {\n\tcase <-msg.Acked():\n\t\treturn true\n\tcase <-msg.Nacked():\n\t\treturn false\n\tcase <-ctx.Done():\n\t}\n",
		"\tselect {\n\tcase <-msg.Acked():\n\t\treturn true\n\tcase <-msg.Nacked():\n\t\treturn true\n\tcase <-ctx.Done():\n\t}\n",
		[]string{"./internal/bus"},
	},
	{
		"the epoch fences", "projections/runner/apply/apply.go",
		"case c.Epoch != m.Epoch:", "case false:", []string{"./projections/runner", "-run=Epoch"},
	},
	{
		"what is at the checkpoint is not applied again", "projections/runner/apply/plan.go",
		"if !m.Event.Position.Before(item.Raw.Position) {", "if item.Raw.Position.Before(m.Event.Position) {", []string{"./projections/runner", "-run=DeliveredAgain|DependOnDelivery"},
	},
	{
		"a checkpoint that is not as remembered stops the batch", "projections/runner/apply/apply.go",
		"case c.At != m.At, c.Event != m.Event:", "case false:", []string{"./projections/runner", "-run=LostCommits"},
	},
	{
		"a batch is acknowledged after its commit", "projections/runner/lane.go",
		"\t\terr = l.Apply(ctx, batch)\n", "\t\t_ = l.Apply(ctx, batch)\n", []string{"./projections/runner", "-run=DependOnDelivery|UnknownCommit"},
	},
	{
		"only the first event of a stream begins a row", "projections/projection/stream.go",
		"return e.Revision == 0", "return true", []string{"./projections", "-run=Begins"},
	},
	{
		"an event left out of a stream ends the subscription", "internal/bus/intake.go",
		"if !known || raw.Revision == before+1 {", "if !known || raw.Revision > before {", []string{"./internal/bus", "-run=LeavesAnEventOut"},
	},
	{
		"a batch begins where the rows end", "projections/runner/lane.go",
		"if m.At.Before(batch.After) {", "if false {", []string{"./projections/runner", "-run=DoesNotFollow"},
	},
	{
		"rows that may lack an event are not gone on with", "projections/runner/lane.go",
		"err = errors.Join(err, l.distrust(ctx, err))", "_ = l.distrust", []string{"./projections/runner", "-run=Repro"},
	},
	{
		"after a failure the checkpoint is read again", "projections/runner/lane.go",
		"\tl.stale = true\n", "", []string{"./projections/runner", "-run=UnknownCommit"},
	},
	{
		"a full disk of PostgreSQL is no fault of an event", "projections/runner/fault/fault.go",
		"return Transient, \"resources\"", "return Poison, \"resources\"", []string{"./projections/runner", "-run=FailuresThatPass"},
	},
	{
		"later events of a parked stream park behind it", "projections/runner/apply/plan.go",
		"case m.parked[item.Raw.Stream] || opened[item.Raw.Stream]:", "case false:", []string{"./projections/runner", "-run=Poison"},
	},
	{
		"an event of a newer schema halts", "projections/runner/apply/plan.go",
		"case errors.As(item.Err, &newer) && p.member.Matches(item.Raw.Type):", "case false:", []string{"./projections/runner", "-run=NewerEvents"},
	},
	{
		"rows of another log are not built upon", "projections/runner/apply/apply.go",
		"case c.LogID != \"\" && c.LogID != g.LogID:", "case false:", []string{"./projections/runner", "-run=AnotherLog"},
	},
	{
		"the epoch fences followers", "internal/follow/checkpoint.go",
		"where name = $1 and epoch = $2 and (event_commit", "where name = $1 and $2::bigint is not null and (event_commit",
		[]string{"./internal/follow", "-run=TakenForDead"},
	},
	{
		"no rebuild starts a process again", "internal/follow/checkpoint.go",
		"on conflict (name) do update set epoch", "on conflict (name) do update set event_commit = excluded.event_commit, event_prepare = excluded.event_prepare, event_id = excluded.event_id, epoch",
		[]string{"./commands/process", "-run=GoOnWhere"},
	},
	{
		"the key of a process's command names the event", "commands/process/process.go",
		"p.Name, e.ID, strconv", "p.Name, strconv", []string{"./commands/process", "-run=Crashes|KeysName"},
	},
	{
		"the key of a deadline's command names the moment", "commands/deadline/deadline.go",
		"d.Key, at.Format(time.RFC3339Nano)}", "d.Key}", []string{"./commands/deadline", "-run=KeysName"},
	},
	{
		"the decider decides again whether a promise is overdue", "domain/party/customer/deadline.go",
		"case f.Now.Before(p.Due.Overdue()) ||", "case", []string{"./domain/party/customer", "-run=Overdue"},
	},
	{
		"a reactor begins at the end of the log", "internal/follow/checkpoint.go",
		"if f.opts.Start == AtEnd {", "if false {", []string{"./internal/reactor", "-run=HistoryHasNoEffect"},
	},
	{
		"a reactor does not go on in another log", "internal/follow/history.go",
		"if stored != id {", "if false {", []string{"./internal/reactor", "-run=OtherLog"},
	},
	{
		"a reactor does not go on where another event stands", "internal/follow/history.go",
		"return &OtherHistoryError{k, name, event}", "return nil", []string{"./internal/reactor", "-run=RestoredCopy"},
	},
	{
		"rows are not built upon where another event stands", "projections/runner/build/history.go",
		"\t\treturn &OtherHistoryError{projection, event, l.Head}\n", "", []string{"./projections/runner", "-run=SwitchAsks"},
	},
	{
		"a table that is ahead of its lane finds its event", "projections/runner/lane.go",
		"if !found || batch.Items[at].Mark() != m.Event {", "if !found && batch.Items[at].Mark() != m.Event {", []string{"./projections/runner", "-run=EveryMember"},
	},
	{
		"a switch asks the log first", "projections/runner/build/switch.go",
		"if target.Key != admitted {", "if false && target.Key != admitted {", []string{"./projections/runner", "-run=SwitchAsks"},
	},
	{
		"a query waits for a connection within a bound", "readmodels/query/store.go",
		"\tconfig.ConnConfig.Tracer = acquireTimeout{}\n", "", []string{"./api", "-run=ExhaustedPool"},
	},
	{
		"rows are what the events say", "projections/sales/opportunity.go",
		"offer(&r, column.Difference(ev.To.Total, ev.From.Total))", "offer(&r, ev.To.Total)", []string{"./projections", "-run=Oracle"},
	},
}

var errText = errors.New("the text to replace is not there exactly once")

// apply returns the file's content with the guard broken.
func (m mutation) apply(root string) (path string, before, after []byte, err error) {
	path = filepath.Join(root, filepath.FromSlash(m.file))
	if before, err = os.ReadFile(path); err != nil {
		return "", nil, nil, err
	}
	if bytes.Count(before, []byte(m.old)) != 1 {
		return "", nil, nil, fmt.Errorf("%s: %w:\n%s", m.file, errText, m.old)
	}
	return path, before, bytes.Replace(before, []byte(m.old), []byte(m.new), 1), nil
}

// verdict is what became of a test whose guard was broken.
type verdict string

const (
	noticed  verdict = "noticed"
	hung     verdict = "HUNG" // it did not end within patience: a busy machine proves nothing
	survived verdict = "SURVIVED"
)

// try breaks the guard in a tree, runs the test, mends the guard, and says what the test made of it. A mutation that does not
// compile proves nothing and is an error.
func (m mutation) try(ctx context.Context, dir string) (v verdict, err error) {
	path, before, after, err := m.apply(dir)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(path, after, 0o644); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.WriteFile(path, before, 0o644)) }()
	build := exec.CommandContext(ctx, "go", "vet", "./"+filepath.ToSlash(filepath.Dir(m.file)))
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the mutation does not compile: %w\n%s", err, out)
	}
	test := exec.CommandContext(ctx, "go", append([]string{"test", "-count=1", "-failfast", patience}, m.test...)...)
	test.Dir = dir
	out, err := test.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.As(err, &exit):
		if strings.Contains(string(out), "panic: test timed out") {
			return hung, nil
		}
		if strings.Contains(string(out), "[build failed]") || strings.Contains(string(out), "[setup failed]") {
			return "", fmt.Errorf("the test does not compile:\n%s", out)
		}
		return noticed, nil
	}
	return survived, err
}
