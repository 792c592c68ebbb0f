-- What is kept of a reactor names its events too, as checkpoints of projections do since the migration before.

-- A reactor begins where the log ended, behind which there may be nothing of ours, so that how far it has looked need not be the
-- place of an event. Of rows of before nothing better is known.
alter table reactor.checkpoint
	add column event_commit bigint,              -- the last event that has had its effect
	add column event_prepare bigint,
	add column event_id text not null default '',
	add column failing_id text not null default '';
update reactor.checkpoint set event_commit = commit_position, event_prepare = prepare_position;
alter table reactor.checkpoint
	alter column event_commit set not null,
	alter column event_prepare set not null;

alter table reactor.decision add column event_id text not null default '';
