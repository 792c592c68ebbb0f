-- What processes remember: how far each has turned events into commands. Nothing here can be made again from the log.

create schema if not exists process;

comment on schema process is 'How far processes have turned events into commands.';

-- One row for each process. It begins where its declaration says and never goes back.
create table process.checkpoint (like reactor.checkpoint including all);

-- Who decided that which event has no command, or that a process begins anew.
create table process.decision (like reactor.decision including all);
