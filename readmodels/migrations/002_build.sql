-- Tables of a projection live beside each other: one is built while another serves, and the one replaced is kept up to date
-- for a while. Each is a build of a version, with a checkpoint of its own.

alter table projection.checkpoint
	add column build integer not null default 1,
	add column hold boolean not null default false,       -- not to be switched to until somebody says so
	add column parks boolean not null default false,      -- goes past what it cannot apply; else the build fails there
	add column distrusted boolean not null default false, -- its rows may lack events: the problem stays until it is replaced
	add column events bigint not null default 0,          -- of the log, read since the build began
	add column rate double precision not null default 0,  -- of them per second, lately
	add column started_at timestamptz not null default now(),
	add column served_at timestamptz,                     -- when the view was last pointed at it; null when it never was
	add column drop_at timestamptz,                       -- when the table may go; null while nobody has said so
	add column actor text not null default '',            -- who asked for the build; empty for the projectors themselves
	drop constraint checkpoint_pkey,
	add primary key (name, version, build),
	drop constraint checkpoint_state_check;

-- A state says where in its life a build is; a problem says that it cannot go on there.
update projection.checkpoint set
	served_at = case when state in ('serving', 'halted') then updated_at end,
	drop_at = case when state = 'retired' then now() + interval '1 day' end,
	state = case state when 'rebuilding' then 'building' when 'halted' then 'serving' else state end,
	parks = true;

alter table projection.checkpoint
	alter column state set default 'building',
	add check (state in (
		'building',   -- the log is read into a table without indexes
		'indexing',   -- the indexes are made
		'tailing',    -- what came meanwhile is read
		'verifying',  -- rows are compared with the fold of their events
		'ready',      -- waits for the switch
		'serving',    -- the view points at it
		'standby',    -- did serve, and is kept up to date so that it can again
		'retired'));  -- nobody knows any more how to keep it up to date

-- Fences are drawn from one row of numbers, so that none ever comes twice, not even for a build that was dropped and made again.
create sequence projection.epoch as bigint;
select setval('projection.epoch', coalesce(max(epoch), 0) + 1) from projection.checkpoint;

alter table projection.parked_stream add column build integer not null default 1,
	drop constraint parked_stream_pkey, add primary key (name, version, build, stream);
alter table projection.parked_event add column build integer not null default 1,
	drop constraint parked_event_pkey, add primary key (name, version, build, stream, revision);
alter table projection.parked_audit add column build integer not null default 1;

-- Who works. A beat waits for nobody: checkpoints are locked while rows are stored.
create table projection.owner (
	name text not null,
	version integer not null,
	heartbeat_at timestamptz not null,
	primary key (name, version)
);
alter table projection.checkpoint drop column heartbeat_at;
