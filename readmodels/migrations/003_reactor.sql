-- What reactors and the loop of due jobs remember. Nothing here can be made again from the log.

create schema if not exists reactor;

comment on schema reactor is 'How far effects outside, such as published events, have come.';

-- One row for each reactor. It begins at the end of the log and never goes back.
create table reactor.checkpoint (
	name text primary key,
	log_id text not null,                -- identity of the log that the positions belong to
	commit_position bigint not null,     -- everything up to here has had its effect
	prepare_position bigint not null,
	epoch bigint not null default 0,     -- raised by whoever takes over: older owners can no longer move the row
	problem text not null default '',    -- why the next event has not had its effect yet
	failing_commit bigint,               -- which event that is; null while nothing fails
	failing_prepare bigint,
	failing_since timestamptz,
	begun_at timestamptz not null default now(),
	updated_at timestamptz not null default now(),
	heartbeat_at timestamptz             -- when the owner was last seen working
);

-- Who decided that which event has no effect, or that a reactor begins anew.
create table reactor.decision (
	id bigint generated always as identity primary key,
	at timestamptz not null default now(),
	name text not null,
	action text not null check (action in ('skipped', 'begun')),
	commit_position bigint not null,
	prepare_position bigint not null,
	actor text not null default '',
	reason text not null default ''
);

create index decision_event on reactor.decision (name, commit_position, prepare_position);

-- One row for each job that is done again and again when it is due. Nothing depends on punctuality.
create table reactor.due (
	name text primary key,
	next_at timestamptz not null,
	last_at timestamptz,                 -- when it was last done, well or not
	problem text not null default ''     -- of the last time
);
