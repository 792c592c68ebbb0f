-- Who may read which tenants by SQL. A login reads the tenants that are granted to it; one that has no row of its own reads those
-- of the row named public, which is the first tenant that this installation has served.
create table projection.reader (
	login name not null, -- as session_user says it, or public, which no role can be called
	tenant text not null,
	granted_at timestamptz not null default now(),
	granted_by text not null default '',
	primary key (login, tenant)
);

-- What the session may read. It goes by the login and not by the current role, which whoever is a member of another can change. It
-- runs with the rights of its owner: readers do not see who else reads what.
create function projection.reader_tenants() returns text[]
	language sql stable parallel safe security definer set search_path = pg_catalog, pg_temp as $$
	select coalesce(
		array_agg(tenant) filter (where login = session_user),
		array_agg(tenant) filter (where login = 'public'),
		array['main'])
	from projection.reader where login in (session_user, 'public')
$$;

-- guard lets a view show each reader the rows of its own tenants. The policy stands on the table, so that it holds whatever else a
-- query does: what it filters by, how it joins, which functions it calls. The table's owner, who writes it and serves the API, is
-- not subject to policies, and queries of the API are planned as without. Whoever may read the view may read the table, and names
-- it through the view alone: its schema is closed.
create function projection.guard(shown regclass, base regclass) returns void
	language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
	reader record;
begin
	if not (select relrowsecurity from pg_class where oid = base) then
		execute format('alter table %s enable row level security', base);
		execute format('create policy tenant on %s for select using (tenant = any ((select projection.reader_tenants())::text[]))', base);
	end if;
	execute format('alter view %s set (security_invoker = true)', shown);
	for reader in
		select a.grantee from pg_class c, aclexplode(c.relacl) a
		where c.oid = shown and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
	loop
		execute format('grant select on %s to %s', base, case reader.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(reader.grantee)) end);
	end loop;
end
$$;
revoke execute on function projection.guard(regclass, regclass) from public;

-- The views that there are already.
select projection.guard(v.oid, t.oid)
from pg_class v
join pg_namespace vn on vn.oid = v.relnamespace and vn.nspname = 'rapport'
join pg_rewrite w on w.ev_class = v.oid
join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass and d.deptype = 'n' and d.refobjid <> v.oid
join pg_class t on t.oid = d.refobjid and t.relkind = 'r'
join pg_namespace tn on tn.oid = t.relnamespace and tn.nspname = 'projection'
where v.relkind = 'v' and exists (select from pg_attribute where attrelid = t.oid and attname = 'tenant' and not attisdropped)
group by v.oid, t.oid;
