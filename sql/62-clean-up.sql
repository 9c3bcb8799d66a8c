/*
 * Clean-up: what is old or ended goes, in small commits, beside the traffic.
 *
 * A batch is a function that belongs to the data owner.  It takes at most 1,000
 * rows, leaves those that somebody holds for the next time (SKIP LOCKED), and
 * tells how far it got, so that the next batch does not walk over the dead rows
 * of the ones before.  It reads in the order of the index on their time, whatever
 * the statistics of a table that grew overnight say, and deletes by ctid, which
 * holds because the rows are locked.
 *
 * A procedure repeats a batch and commits after each: it cannot have a pinned
 * search_path (PostgreSQL allows no COMMIT then), so it does nothing but call
 * batches, by qualified names.
 *
 * A batch that may have to wait, for an account that is being deleted, waits
 * 100 ms at most: shorter than deadlock_timeout, so that in a deadlock it is
 * never the user who loses.
 *
 * All of it may run by hand, twice, or never: nothing that touches money waits
 * for it.
 */
CREATE FUNCTION sparky.setting_interval(name text, otherwise interval) RETURNS interval
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	-- a plain number is seconds; the library, once loaded, shows '90d'
	SELECT coalesce(nullif(current_setting(name, true), '')::interval, otherwise)
$$;
COMMENT ON FUNCTION sparky.setting_interval(text, interval) IS
'A sparky setting of time as an interval.

otherwise: where the setting is unknown, because the library is not loaded yet.';

CREATE FUNCTION sparky.remove_cache_entries(since timestamptz) RETURNS timestamptz
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
	WITH gone AS (
		DELETE FROM cache.kv_store gone WHERE gone.ctid = ANY (ARRAY(
			SELECT k.ctid FROM cache.kv_store k
			WHERE k.expires_at >= coalesce(since, '-infinity') AND k.expires_at < now()
			ORDER BY k.expires_at LIMIT 1000
			FOR UPDATE OF k SKIP LOCKED))
		RETURNING gone.expires_at
	)
	SELECT max(gone.expires_at) FROM gone
$$;
COMMENT ON FUNCTION sparky.remove_cache_entries(timestamptz) IS
'Delete up to 1,000 expired cache entries, the oldest that expired at or after since.

NULL: from the beginning. Returns how far it got, NULL when nothing is left.';

CREATE FUNCTION sparky.remove_request_keys(since timestamptz) RETURNS timestamptz
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
	WITH gone AS (
		DELETE FROM sparky.request_keys gone WHERE gone.ctid = ANY (ARRAY(
			SELECT r.ctid FROM sparky.request_keys r
			WHERE r.created_at >= coalesce(since, '-infinity') AND r.created_at < now() - interval '24 hours'
				AND NOT EXISTS (SELECT FROM public.generation_jobs j WHERE j.id = r.job_id AND j.finished_at IS NULL)
			ORDER BY r.created_at LIMIT 1000
			FOR UPDATE OF r SKIP LOCKED))
		RETURNING gone.created_at
	)
	SELECT max(gone.created_at) FROM gone
$$;
COMMENT ON FUNCTION sparky.remove_request_keys(timestamptz) IS
'Delete up to 1,000 idempotency keys older than 24 hours whose job has ended.

since: from that time of use on; NULL: from the beginning. Returns how far it got, NULL when nothing is left.';

CREATE FUNCTION sparky.remove_jobs(since timestamptz) RETURNS timestamptz
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
	WITH gone AS (
		DELETE FROM public.generation_jobs gone WHERE gone.ctid = ANY (ARRAY(
			SELECT j.ctid FROM public.generation_jobs j
			WHERE j.finished_at >= coalesce(since, '-infinity')
				AND j.finished_at < now() - sparky.setting_interval('sparky.job_retention', '90 days')
				AND j.status IN ('succeeded', 'failed', 'cancelled')
				-- a user who deletes a result or a photo finds its cache entry through the job
				AND NOT EXISTS (SELECT FROM cache.kv_store k WHERE k.key = j.cache_key AND k.expires_at >= now())
				AND NOT EXISTS (SELECT FROM sparky.request_keys r WHERE r.user_id = j.user_id AND r.job_id = j.id)
			ORDER BY j.finished_at LIMIT 1000
			FOR UPDATE OF j SKIP LOCKED))
		RETURNING gone.finished_at
	)
	SELECT max(gone.finished_at) FROM gone
$$;
COMMENT ON FUNCTION sparky.remove_jobs(timestamptz) IS
'Delete up to 1,000 jobs that ended longer ago than sparky.job_retention.

A job whose result is in the cache, or that an idempotency key still names, stays. History and charges do not need it. since: from that end on; NULL: from the beginning. Returns how far it got, NULL when nothing is left.';

CREATE FUNCTION sparky.remove_provider_calls(since timestamptz) RETURNS timestamptz
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
	WITH gone AS (
		DELETE FROM sparky.provider_calls gone WHERE gone.ctid = ANY (ARRAY(
			SELECT c.ctid FROM sparky.provider_calls c
			WHERE c.started_at >= coalesce(since, '-infinity')
				AND c.started_at < now() - sparky.setting_interval('sparky.provider_call_retention', '400 days')
				AND NOT EXISTS (SELECT FROM public.generation_jobs j WHERE j.id = c.job_id)
			ORDER BY c.started_at LIMIT 1000
			FOR UPDATE OF c SKIP LOCKED))
		RETURNING gone.started_at
	)
	SELECT max(gone.started_at) FROM gone
$$;
COMMENT ON FUNCTION sparky.remove_provider_calls(timestamptz) IS
'Delete up to 1,000 provider calls older than sparky.provider_call_retention.

The calls of a job that is still there stay with it. since: from that start on; NULL: from the beginning. Returns how far it got, NULL when nothing is left.';

CREATE FUNCTION sparky.remove_image_hashes(since timestamptz) RETURNS timestamptz
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	WITH gone AS (
		DELETE FROM sparky.image_hashes gone WHERE gone.ctid = ANY (ARRAY(
			SELECT h.ctid FROM sparky.image_hashes h
			WHERE h.noted_at >= coalesce(since, '-infinity') AND h.noted_at < now() - interval '1 day'
				AND NOT EXISTS (SELECT FROM storage.objects o WHERE o.id = h.object_id AND o.version = h.version)
			ORDER BY h.noted_at LIMIT 1000
			FOR UPDATE OF h SKIP LOCKED))
		RETURNING gone.noted_at
	)
	SELECT max(gone.noted_at) FROM gone
$$;
COMMENT ON FUNCTION sparky.remove_image_hashes(timestamptz) IS
'Delete up to 1,000 digests of photos that were deleted or overwritten.

since: from that noting on; NULL: from the beginning. Returns how far it got, NULL when nothing is left.';

CREATE FUNCTION sparky.remove_cron_runs() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- in this order: to_regclass() raises where the schema may not be used
	IF NOT coalesce(has_schema_privilege(to_regnamespace('cron'), 'USAGE'), false) OR to_regclass('cron.job_run_details') IS NULL THEN
		RETURN;
	END IF;
	DELETE FROM cron.job_run_details d
	USING cron.job j, sparky.cron_jobs() ours
	WHERE d.jobid = j.jobid AND j.jobname = ours.name AND j.username = current_user
		AND coalesce(d.end_time, d.start_time) < now() - sparky.setting_interval('sparky.cron_history_retention', '7 days');
END
$$;
COMMENT ON FUNCTION sparky.remove_cron_runs() IS
'Delete pg_cron''s notes on runs of sparky''s own jobs older than sparky.cron_history_retention.

Nothing happens where pg_cron is not in the database.';

CREATE FUNCTION sparky.note_orphans() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	noted	integer;
	ours	boolean := sparky.storage_is_ours();
BEGIN
	-- Only paths of the form that we write: an operator's own folders stay. Where the bytes are outside, so does every
	-- folder but those of accounts that were ours: buckets of these names may have other users, and rows there always have files.
	INSERT INTO sparky.erasures (bucket_id, name, user_id, created_at)
	SELECT o.bucket_id, o.name, o.uid::uuid, clock_timestamp()
	FROM (
		SELECT s.id, s.bucket_id, s.name, split_part(s.name, '/', 1) AS uid,
			CASE WHEN s.bucket_id = 'generations' THEN substring(s.name FROM '^[^/]+/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[a-z]+$') END AS job
		FROM storage.objects s
		WHERE s.bucket_id IN ('user_uploads', 'generations') AND s.name ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/'
			AND coalesce(s.updated_at, s.created_at, '-infinity') < now() - interval '1 day'
	) o
	WHERE (NOT EXISTS (SELECT FROM auth.users a WHERE a.id = o.uid::uuid)
				AND (ours OR EXISTS (SELECT FROM public.credit_ledger l WHERE l.user_id = o.uid::uuid))
			OR ours AND NOT EXISTS (SELECT FROM sparky.stored_files f WHERE f.object_id = o.id)
			OR o.job IS NOT NULL AND NOT EXISTS (SELECT FROM public.generations g WHERE g.job_id = o.job::uuid)
				AND NOT EXISTS (SELECT FROM public.generation_jobs j WHERE j.id = o.job::uuid AND j.finished_at IS NULL)
				AND (ours OR EXISTS (SELECT FROM public.users u WHERE u.id = o.uid::uuid)
					OR EXISTS (SELECT FROM public.credit_ledger l WHERE l.user_id = o.uid::uuid)))
		AND NOT EXISTS (SELECT FROM sparky.erasures e WHERE e.bucket_id = o.bucket_id AND e.name = o.name)
	LIMIT 1000
	ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS noted = ROW_COUNT;
	RETURN noted;
END
$$;
COMMENT ON FUNCTION sparky.note_orphans() IS
'Note up to 1,000 files that nothing needs any more for erasure: of accounts that are gone, results without a history row, on embedded storage rows without a file.

Only what has not been written for a day and, behind the Storage API, only in folders of accounts that are or were sparky''s. Returns how many were noted.';

CREATE FUNCTION sparky.erase_files(after_id bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	task	record;
	reached	bigint;
BEGIN
	IF NOT sparky.storage_is_ours() THEN
		RETURN NULL;
	END IF;
	-- 50: each has a subtransaction, and more than 64 of them cost all readers.
	FOR task IN
		SELECT e.id, e.bucket_id, e.name FROM sparky.erasures e
		WHERE e.id > coalesce(after_id, 0) ORDER BY e.id LIMIT 50
		FOR UPDATE SKIP LOCKED
	LOOP
		reached := task.id;
		BEGIN
			DELETE FROM storage.objects o WHERE o.bucket_id = task.bucket_id AND o.name = task.name;
			DELETE FROM sparky.erasures e WHERE e.id = task.id;
		EXCEPTION WHEN OTHERS THEN
			UPDATE sparky.erasures e SET attempts = e.attempts + 1, last_error = left(SQLERRM, 500) WHERE e.id = task.id;
		END;
	END LOOP;
	RETURN reached;
END
$$;
COMMENT ON FUNCTION sparky.erase_files(bigint) IS
'Erase up to 50 of the files noted in sparky.erasures, after the task after_id.

On embedded storage only: behind the Storage API the worker erases them, as they are noted. NULL: from the first. One that cannot be erased keeps its row with the reason, and is tried again by the next run. Returns how far it got, NULL when nothing is left.';

CREATE FUNCTION sparky.end_plans() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
	due		uuid;
	done	integer := 0;
BEGIN
	FOR due IN
		SELECT u.id FROM public.users u
		WHERE u.plan_expires_at <= now() OR u.id IN (SELECT p.user_id FROM sparky.plan_periods p
			WHERE p.starts_at <= now() AND p.granted IS NULL AND p.reversed_at IS NULL)
		LIMIT 200 FOR NO KEY UPDATE OF u SKIP LOCKED
	LOOP
		PERFORM sparky.refresh_plans(due, now());
		done := done + 1;
	END LOOP;
	RETURN done;
END
$$;
COMMENT ON FUNCTION sparky.end_plans() IS
'Bring up to 200 users in step whose plan has ended or whose next has begun: users.plan_id, the grant, the notification.

What they may spend does not wait for this: it is decided from the periods. Returns how many.';

CREATE FUNCTION sparky.end_jobs() RETURNS integer
LANGUAGE c VOLATILE SET lock_timeout = '100ms' AS 'MODULE_PATHNAME', 'sparky_end_jobs';
COMMENT ON FUNCTION sparky.end_jobs() IS
'End up to 50 jobs that are past their deadline, or whose answer storage has refused for longer than sparky.storage_deadline.

The worker does so itself; this is for when none lives. Nobody is charged. Returns how many.';

CREATE FUNCTION sparky.on_auth_user_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	BEGIN
		IF sparky.storage_is_ours() THEN
			DELETE FROM storage.objects o WHERE o.owner_id = OLD.id::text AND o.bucket_id IN ('user_uploads', 'generations');
		ELSE
			-- by folder: a service key's uploads, results above all, have no owner_id there
			INSERT INTO sparky.erasures (bucket_id, name, user_id, created_at)
			SELECT o.bucket_id, o.name, OLD.id, clock_timestamp() FROM storage.objects o
			WHERE o.bucket_id IN ('user_uploads', 'generations')
				AND (o.owner_id = OLD.id::text OR (o.name COLLATE "C" >= OLD.id || '/' AND o.name COLLATE "C" < OLD.id || '0'))
			-- a note from before the file was written anew is no note of this file
			ON CONFLICT (bucket_id, name) DO UPDATE SET created_at = excluded.created_at, attempts = 0, last_error = NULL;
		END IF;
	EXCEPTION WHEN OTHERS THEN
		RAISE WARNING 'sparky did not erase the files of user %: %', OLD.id, SQLERRM USING HINT = 'CALL sparky.cleanup_storage() finds them a day later.';
	END;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION sparky.on_auth_user_deleted() IS
'Trigger: an account was deleted, its photos go with it.

On embedded storage in the same commit; else they are noted in sparky.erasures. Never raises: what fails is a WARNING.';

CREATE FUNCTION sparky.on_jobs_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM cache.kv_store k USING old_rows j
	WHERE k.key = j.cache_key AND k.value ->> 'generation_id' = j.result ->> 'generation_id';
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION sparky.on_jobs_deleted() IS
'Trigger: a cache entry goes with the job that made it.

So that nothing of a deleted account stays in the cache.';

CREATE FUNCTION sparky.reconcile_payments(everything boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
	due	integer;
BEGIN
	IF reconcile_payments.everything THEN
		WITH asked AS (
			SELECT o.id FROM public.orders o
			WHERE o.inquire_at IS NOT NULL OR o.status = 'open' AND o.created_at > now() - interval '30 days'
			FOR NO KEY UPDATE SKIP LOCKED
		)
		UPDATE public.orders o SET inquire_at = CASE o.status WHEN 'created' THEN o.inquire_at ELSE now() END, inquiries = 0
		FROM asked WHERE o.id = asked.id;
	END IF;
	-- What the worker does itself; this is for when none lives. Its time is not changed, so Paymob is asked what became of it.
	WITH left_over AS (
		SELECT o.id FROM public.orders o WHERE o.inquire_at <= now() AND o.status = 'created'
		FOR NO KEY UPDATE SKIP LOCKED
	)
	UPDATE public.orders o SET status = 'failed', error_code = 'provider_failed' FROM left_over WHERE o.id = left_over.id;
	SELECT count(*) INTO due FROM public.orders o WHERE o.inquire_at <= now();
	RETURN due;
END
$$;
COMMENT ON FUNCTION sparky.reconcile_payments(boolean) IS
'Have Paymob asked about orders whose callback did not come, and end checkouts that a dead worker left.

The worker asks by itself, when an order''s time has come: sparky.inquiry_delay after its checkout, then in doubling pauses, 14 times. everything: ask now about every order that is waiting for that, and about all open ones of the last 30 days, as after days without callbacks. Returns how many are due: the worker sees to them within seconds, eight at a time.';

CREATE PROCEDURE sparky.cleanup_cache() LANGUAGE plpgsql AS $$
DECLARE
	reached	pg_catalog.timestamptz;
BEGIN
	LOOP
		reached := sparky.remove_cache_entries(reached);
		COMMIT;
		EXIT WHEN reached IS NULL;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE sparky.cleanup_cache() IS
'Delete expired results from cache.kv_store, 1,000 rows a commit.

The daily job cleanup-cache. Errors: 2D000 inside a transaction block.';

CREATE PROCEDURE sparky.cleanup_history() LANGUAGE plpgsql AS $$
DECLARE
	reached	pg_catalog.timestamptz;
BEGIN
	LOOP
		reached := sparky.remove_request_keys(reached);
		COMMIT;
		EXIT WHEN reached IS NULL;
	END LOOP;
	LOOP
		reached := sparky.remove_jobs(reached);
		COMMIT;
		EXIT WHEN reached IS NULL;
	END LOOP;
	LOOP
		reached := sparky.remove_provider_calls(reached);
		COMMIT;
		EXIT WHEN reached IS NULL;
	END LOOP;
	LOOP
		reached := sparky.remove_image_hashes(reached);
		COMMIT;
		EXIT WHEN reached IS NULL;
	END LOOP;
	PERFORM sparky.remove_cron_runs();
END
$$;
COMMENT ON PROCEDURE sparky.cleanup_history() IS
'Delete idempotency keys after 24 hours, and jobs, provider calls and pg_cron''s notes after their retention settings.

The daily job cleanup-history. Errors: 2D000 inside a transaction block.';

CREATE PROCEDURE sparky.cleanup_erasures() LANGUAGE plpgsql AS $$
DECLARE
	reached	pg_catalog.int8;
BEGIN
	LOOP
		reached := sparky.erase_files(reached);
		COMMIT;
		EXIT WHEN reached IS NULL;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE sparky.cleanup_erasures() IS
'Erase the files that are noted in sparky.erasures, 50 a commit.

The job cleanup-erasures, every 15 minutes; for embedded storage, since behind the Storage API the worker does it by itself. Errors: 2D000 inside a transaction block.';

CREATE PROCEDURE sparky.cleanup_storage() LANGUAGE plpgsql AS $$
DECLARE
	noted	pg_catalog.int4;
BEGIN
	LOOP
		noted := sparky.note_orphans();
		COMMIT;
		EXIT WHEN noted OPERATOR(pg_catalog.=) 0;
	END LOOP;
	CALL sparky.cleanup_erasures();
END
$$;
COMMENT ON PROCEDURE sparky.cleanup_storage() IS
'Find files that nothing needs any more and erase them.

The daily job cleanup-storage. Behind the Storage API it notes them, and the worker erases them. Errors: 2D000 inside a transaction block.';

CREATE PROCEDURE sparky.cleanup_plans() LANGUAGE plpgsql AS $$
DECLARE
	ended	pg_catalog.int4;
BEGIN
	LOOP
		ended := sparky.end_plans();
		COMMIT;
		EXIT WHEN ended OPERATOR(pg_catalog.=) 0;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE sparky.cleanup_plans() IS
'Bring users in step whose plan has ended or whose next has begun, 200 a commit, and notify them.

The hourly job cleanup-plans. Errors: 2D000 inside a transaction block.';

CREATE PROCEDURE sparky.cleanup_jobs() LANGUAGE plpgsql AS $$
DECLARE
	ended	pg_catalog.int4;
BEGIN
	LOOP
		ended := sparky.end_jobs();
		COMMIT;
		EXIT WHEN ended OPERATOR(pg_catalog.=) 0;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE sparky.cleanup_jobs() IS
'End jobs that are past their deadline, 50 a commit.

The job cleanup-jobs, every 5 minutes, for when no worker lives. Errors: 2D000 inside a transaction block.';
