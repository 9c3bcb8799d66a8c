/*
 * pg_cron: when the clean-up runs.
 *
 * Jobs belong to the data owner: pg_cron runs a job as whoever scheduled it, and
 * these functions are his, so a superuser who installs leaves no superuser jobs.
 * What an operator has changed (another time, another command under our name)
 * stays as he wants it.
 */
CREATE FUNCTION sparky.cron_jobs(OUT name text, OUT schedule text, OUT command text) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	VALUES ('cleanup-cache', '0 3 * * *', 'CALL sparky.cleanup_cache()'),
		('cleanup-history', '20 3 * * *', 'CALL sparky.cleanup_history()'),
		('cleanup-storage', '40 3 * * *', 'CALL sparky.cleanup_storage()'),
		('cleanup-erasures', '*/15 * * * *', 'CALL sparky.cleanup_erasures()'),
		('cleanup-plans', '5 * * * *', 'CALL sparky.cleanup_plans()'),
		('cleanup-jobs', '*/5 * * * *', 'CALL sparky.cleanup_jobs()'),
		('reconcile-payments', '*/5 * * * *', 'SELECT sparky.reconcile_payments()')
$$;
COMMENT ON FUNCTION sparky.cron_jobs() IS
'The scheduled work of sparky: name, time (cron syntax, in pg_cron''s time zone) and command.

Where there is no pg_cron, let any scheduler run the commands as the data owner.';

CREATE FUNCTION sparky.cron_is_here() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') AND to_regclass('cron.job') IS NOT NULL
$$;
COMMENT ON FUNCTION sparky.cron_is_here() IS
'Is pg_cron in this database?

It can be in one database of a server only, the one that cron.database_name names.';

CREATE FUNCTION sparky.schedule_jobs() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	job		record;
	added	integer := 0;
BEGIN
	IF NOT sparky.cron_is_here() THEN
		RAISE NOTICE 'sparky: pg_cron is not in this database, so nothing is scheduled'
			USING HINT = 'CREATE EXTENSION pg_cron, then SELECT sparky.schedule_jobs(); or let another scheduler run what SELECT * FROM sparky.cron_jobs() lists.';
		RETURN 0;
	END IF;
	FOR job IN
		SELECT ours.* FROM sparky.cron_jobs() ours
		WHERE NOT EXISTS (SELECT FROM cron.job j WHERE j.jobname = ours.name AND j.username = current_user)
	LOOP
		PERFORM cron.schedule(job.name, job.schedule, job.command);
		added := added + 1;
	END LOOP;
	RETURN added;
END
$$;
COMMENT ON FUNCTION sparky.schedule_jobs() IS
'Schedule the clean-up with pg_cron, as jobs of the data owner.

Jobs that are there already stay as they are. Returns how many were added; where pg_cron is not in this database a NOTICE says so.
Errors: 42501 when the data owner has no USAGE on schema cron.';

CREATE FUNCTION sparky.unschedule_jobs() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	job		record;
	removed	integer := 0;
BEGIN
	IF NOT sparky.cron_is_here() THEN
		RETURN 0;
	END IF;
	FOR job IN
		SELECT j.jobid FROM cron.job j JOIN sparky.cron_jobs() ours ON ours.name = j.jobname AND ours.command = j.command
		WHERE j.username = current_user
	LOOP
		PERFORM cron.unschedule(job.jobid);
		removed := removed + 1;
	END LOOP;
	RETURN removed;
END
$$;
COMMENT ON FUNCTION sparky.unschedule_jobs() IS
'Take sparky''s jobs out of pg_cron, before sparky is removed for good.

Jobs whose command an operator changed stay. Returns how many were removed.';

CREATE FUNCTION sparky.make_cron_jobs() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	quiet	text := current_setting('client_min_messages');
BEGIN
	-- CREATE EXTENSION raises this to warning; that nothing is scheduled is worth a notice all the same.
	PERFORM set_config('client_min_messages', CASE quiet WHEN 'warning' THEN 'notice' ELSE quiet END, true);
	PERFORM sparky.schedule_jobs();
	PERFORM set_config('client_min_messages', quiet, true);
EXCEPTION WHEN insufficient_privilege THEN
	RETURN NEXT format('nothing was scheduled with pg_cron (%s): GRANT USAGE ON SCHEMA cron TO %I, then SELECT sparky.schedule_jobs()',
		SQLERRM, sparky.data_owner());
END
$$;
COMMENT ON FUNCTION sparky.make_cron_jobs() IS
'schedule_jobs() as a step of install(): a lack of rights is a note, not an error.

Returns notes.';
