-- A position alone does not name an event: a log that was restored from an older copy and has grown since holds other events at
-- the positions that it had before. A checkpoint keeps the id of its event as well, which is compared before it is gone on from.
-- Rows of before have none until they move next.

alter table projection.checkpoint add column event_id text not null default '';
