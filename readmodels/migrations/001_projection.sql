-- What the projectors keep beside the tables of the projections, which they make themselves from the declarations.

create schema if not exists projection;
create schema if not exists rapport;

comment on schema projection is 'Tables of the projectors. Their names carry versions; query the views in schema rapport.';
comment on schema rapport is 'The read models: stable views for queries.';

-- One row for each projection and version. The transaction that changes rows of a projection moves its checkpoint.
create table projection.checkpoint (
	name text not null,
	version integer not null,
	state text not null default 'rebuilding'
		check (state in ('serving', 'rebuilding', 'halted', 'retired')),
	problem text not null default '',           -- why it is halted
	log_id text,                                -- identity of the log that the rows come from; null before the first
	commit_position bigint not null default 0,  -- everything up to here is in the rows
	prepare_position bigint not null default 0,
	event_commit bigint not null default 0,     -- the last event up to here: positions may move without events
	event_prepare bigint not null default 0,
	event_recorded_at timestamptz,
	epoch bigint not null default 0,            -- raised by whoever takes over: older owners can no longer write
	generation bigint not null default 0,       -- raised by whoever changes rows beside the owner: the owner reads again
	definition text not null,                   -- digest of the table's shape
	updated_at timestamptz not null default now(),
	heartbeat_at timestamptz,                   -- when the owner was last seen working
	primary key (name, version)
);

-- A stream that a projection could not digest. Its later events wait behind the first; other streams go on.
create table projection.parked_stream (
	name text not null,
	version integer not null,
	stream text not null,
	error text not null,
	stack text not null default '',
	parked_at timestamptz not null default now(),
	primary key (name, version, stream)
);

create table projection.parked_event (
	name text not null,
	version integer not null,
	stream text not null,
	revision bigint not null,
	commit_position bigint not null,
	prepare_position bigint not null,
	event_id text not null,
	event_type text not null,
	data bytea not null,
	metadata bytea not null,
	parked_at timestamptz not null default now(),
	primary key (name, version, stream, revision)
);

-- Who emptied which park.
create table projection.parked_audit (
	id bigint generated always as identity primary key,
	at timestamptz not null default now(),
	name text not null,
	version integer not null,
	stream text not null,
	action text not null check (action in ('retried', 'discarded', 'rebuilt')),
	first_revision bigint not null,
	last_revision bigint not null,
	events bigint not null,
	actor text not null default '',
	reason text not null default ''
);

-- A role for analysts. Roles belong to the whole server and need a privilege to be made: without it the views are
-- granted by hand.
do $$
begin
	create role rapport_reader nologin;
exception when duplicate_object or unique_violation or insufficient_privilege then
	null;
end
$$;

do $$
begin
	if exists (select from pg_roles where rolname = 'rapport_reader') then
		grant usage on schema rapport to rapport_reader;
		alter default privileges in schema rapport grant select on tables to rapport_reader;
	end if;
exception when insufficient_privilege then
	null;
end
$$;
