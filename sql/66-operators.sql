/*
 * What operators do and ask: credits by hand, notifications, figures.
 *
 * For the data owner and superusers.  What writes runs as the data owner,
 * whoever calls it.
 */
CREATE FUNCTION sparky.adjust_credits(user_id uuid, delta integer, reason text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key		text := gen_random_uuid()::text;
	account	record;
BEGIN
	IF adjust_credits.user_id IS NULL OR coalesce(adjust_credits.delta, 0) = 0 THEN
		RAISE EXCEPTION 'an adjustment needs a user and a delta other than 0' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF coalesce(char_length(btrim(adjust_credits.reason)), 0) NOT BETWEEN 1 AND 500 THEN
		RAISE EXCEPTION 'an adjustment needs a reason of 1 to 500 characters' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM FROM public.users u WHERE u.id = adjust_credits.user_id FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no user %', adjust_credits.user_id USING ERRCODE = 'no_data_found';
	END IF;
	PERFORM sparky.book(adjust_credits.user_id, adjust_credits.delta, 'adjustment', key, 0);
	UPDATE public.credit_ledger l SET note = btrim(adjust_credits.reason) WHERE l.kind = 'adjustment' AND l.reference = key;
	SELECT u.credits, u.debt, u.allowance INTO account FROM public.users u WHERE u.id = adjust_credits.user_id;
	RETURN jsonb_build_object('user_id', adjust_credits.user_id, 'delta', adjust_credits.delta, 'reason', btrim(adjust_credits.reason),
		'reference', key, 'credits', account.credits, 'debt', account.debt, 'allowance', account.allowance);
END
$$;
COMMENT ON FUNCTION sparky.adjust_credits(uuid, integer, text) IS
'Give a user credits, or take some, with a reason.

delta: whole credits, negative to take; what the balance does not cover becomes debt. reason: 1 to 500 characters, kept in credit_ledger.note, where the user can read it. Returns user_id, delta, reason, reference (of the ledger row), credits, debt, allowance.
Errors: 22023 for a delta of 0 or no reason; P0002 when there is no such user.';

CREATE FUNCTION sparky.notify(type text, title_key text, message_key text, user_ids uuid[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	preference	text := CASE notify.type WHEN 'offer' THEN 'promotions' WHEN 'feature' THEN 'featureUpdates' WHEN 'general' THEN 'generalAlerts' END;
	told		bigint;
BEGIN
	IF preference IS NULL THEN
		RAISE EXCEPTION 'a notification is of type offer, feature or general' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF coalesce(notify.title_key, '') = '' OR coalesce(notify.message_key, '') = '' THEN
		RAISE EXCEPTION 'a notification needs the keys of its title and message' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	INSERT INTO public.notifications (user_id, type, title_key, message_key)
	SELECT u.id, notify.type, notify.title_key, notify.message_key FROM public.users u
	WHERE (notify.user_ids IS NULL OR u.id = ANY (notify.user_ids))
		-- missing, or no boolean: yes
		AND u.notification_preferences -> preference IS DISTINCT FROM 'false'::jsonb;
	GET DIAGNOSTICS told = ROW_COUNT;
	RETURN told;
END
$$;
COMMENT ON FUNCTION sparky.notify(text, text, text, uuid[]) IS
'Send a notification to users who want to hear of such things.

type: offer (preference promotions), feature (featureUpdates) or general (generalAlerts). title_key, message_key: i18n keys. user_ids: NULL means everybody; ids of nobody are passed over. Returns how many were sent.
Errors: 22023 for another type or an empty key.';

CREATE FUNCTION sparky.counters() RETURNS jsonb
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_counters';
COMMENT ON FUNCTION sparky.counters() IS
'How many requests were hits, joins, new jobs, repeats and refusals since the server started.

Counted in shared memory, since a hit writes nothing: since, hits, joined, accepted, repeated, refused, storage_errors (exchanges with the Storage API that went wrong). A restart or a crash begins anew. NULL where the library is not preloaded or no worker has served this database.';

CREATE FUNCTION sparky.spread(seconds double precision[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT jsonb_build_object('count', count(*),
		'p50', round(percentile_cont(0.5) WITHIN GROUP (ORDER BY s)::numeric, 3),
		'p95', round(percentile_cont(0.95) WITHIN GROUP (ORDER BY s)::numeric, 3),
		'max', round(max(s)::numeric, 3))
	FROM unnest(seconds) s WHERE s IS NOT NULL
$$;
COMMENT ON FUNCTION sparky.spread(double precision[]) IS
'Count, median, 95th percentile and maximum of some times.

seconds: NULL elements are left out; figures are rounded to milliseconds.';

CREATE FUNCTION sparky.stats() RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	WITH
	counted AS (SELECT sparky.counters() AS c),
	jobs AS (
		SELECT j.*, c.first_call, c.last_answer FROM public.generation_jobs j
			LEFT JOIN LATERAL (SELECT min(p.started_at) AS first_call, max(p.finished_at) AS last_answer
				FROM sparky.provider_calls p WHERE p.job_id = j.id) c ON true
		WHERE j.finished_at >= now() - interval '24 hours'
	),
	calls AS (SELECT * FROM sparky.provider_calls p WHERE p.started_at >= now() - interval '24 hours'),
	models AS (
		SELECT jsonb_object_agg(m.model, to_jsonb(m) - 'model') AS by_model FROM (
			SELECT p.model, count(*) AS calls, count(*) FILTER (WHERE p.charged) AS charged,
				coalesce(sum((p.usage ->> 'promptTokenCount')::numeric) FILTER (WHERE jsonb_typeof(p.usage -> 'promptTokenCount') = 'number'), 0) AS prompt_tokens,
				coalesce(sum((p.usage ->> 'candidatesTokenCount')::numeric) FILTER (WHERE jsonb_typeof(p.usage -> 'candidatesTokenCount') = 'number'), 0) AS candidates_tokens,
				coalesce(sum((p.usage ->> 'totalTokenCount')::numeric) FILTER (WHERE jsonb_typeof(p.usage -> 'totalTokenCount') = 'number'), 0) AS total_tokens,
				coalesce(sum((p.usage ->> 'totalTokenCount')::numeric) FILTER (WHERE NOT p.charged AND jsonb_typeof(p.usage -> 'totalTokenCount') = 'number'), 0) AS uncharged_tokens
			FROM calls p GROUP BY p.model) m
	)
	SELECT jsonb_build_object(
		'requests', counted.c || jsonb_build_object(
			'total', (c ->> 'hits')::bigint + (c ->> 'joined')::bigint + (c ->> 'accepted')::bigint + (c ->> 'repeated')::bigint + (c ->> 'refused')::bigint,
			-- of the requests that wanted a result and could have one
			'hit_rate', round((c ->> 'hits')::numeric / nullif((c ->> 'hits')::bigint + (c ->> 'joined')::bigint + (c ->> 'accepted')::bigint, 0), 4),
			'join_rate', round((c ->> 'joined')::numeric / nullif((c ->> 'hits')::bigint + (c ->> 'joined')::bigint + (c ->> 'accepted')::bigint, 0), 4)),
		'window_hours', 24,
		'jobs', (SELECT jsonb_build_object('ended', count(*), 'succeeded', count(*) FILTER (WHERE status = 'succeeded'),
				'failed', count(*) FILTER (WHERE status = 'failed'), 'cancelled', count(*) FILTER (WHERE status = 'cancelled'),
				'retried', count(*) FILTER (WHERE retries > 0), 'claims_lost', coalesce(sum(lost_claims), 0)) FROM jobs)
			|| jsonb_build_object('active', (SELECT count(*) FROM public.generation_jobs j
				WHERE j.status IN ('queued', 'fetching', 'generating', 'answered', 'storing'))),
		'errors', (SELECT coalesce(jsonb_object_agg(e.error_code, e.n), '{}') FROM (
			SELECT coalesce(error_code, 'unknown') AS error_code, count(*) AS n FROM jobs WHERE status = 'failed' GROUP BY 1) e),
		'outcomes', (SELECT coalesce(jsonb_object_agg(o.outcome, o.n), '{}') FROM (
			SELECT coalesce(outcome, 'under_way') AS outcome, count(*) AS n FROM calls GROUP BY 1) o),
		'storage', jsonb_build_object('answers_waiting', (SELECT count(*) FROM sparky.answers),
			'erasures_waiting', (SELECT count(*) FROM sparky.erasures), 'errors', coalesce((c ->> 'storage_errors')::bigint, 0)),
		'latency_seconds', jsonb_build_object(
			'queue', (SELECT sparky.spread(array_agg(extract(epoch FROM started_at - created_at)::double precision)) FROM jobs WHERE started_at IS NOT NULL),
			'call', (SELECT sparky.spread(array_agg(extract(epoch FROM finished_at - started_at)::double precision)) FROM calls WHERE outcome = 'ok'),
			'settle', (SELECT sparky.spread(array_agg(extract(epoch FROM greatest(finished_at, last_answer) - last_answer)::double precision)) FROM jobs
				WHERE status = 'succeeded' AND last_answer IS NOT NULL),
			'total', (SELECT sparky.spread(array_agg(extract(epoch FROM finished_at - created_at)::double precision)) FROM jobs WHERE status = 'succeeded')),
		'provider', (SELECT jsonb_build_object('calls', count(*), 'charged', count(*) FILTER (WHERE charged),
				'bytes_sent', coalesce(sum(bytes_sent), 0), 'bytes_received', coalesce(sum(bytes_received), 0)) FROM calls)
			|| jsonb_build_object('models', coalesce(models.by_model, '{}')),
		'credits_charged', (SELECT coalesce(sum(l.delta), 0) * -1 FROM public.credit_ledger l
			WHERE l.kind = 'usage' AND l.created_at >= now() - interval '24 hours'))
	FROM counted, models
$$;
COMMENT ON FUNCTION sparky.stats() IS
'Figures of the service: requests and hit rate since the server started, and the last 24 hours of jobs and provider calls.

requests: counters() with total, hit_rate, join_rate, or null where they are not kept. jobs, errors (by error code of failed jobs), outcomes (of provider calls). latency_seconds by step: queue (acceptance to claim), call (calls that were answered well), settle (answer to charge), total; each with count, p50, p95, max. storage: answers_waiting for their place, erasures_waiting, errors since the server started. provider: calls, charged, bytes, and tokens by model, uncharged_tokens being what we paid for and nobody else did. credits_charged.';
