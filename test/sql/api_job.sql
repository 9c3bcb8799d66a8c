--
-- generation_status, cancel_generation, delete_generation on jobs of every state.
-- No job here is ever committed, so no worker sees one.
--
BEGIN;
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	EXECUTE statement INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
\set ana '''a0000000-0000-4000-8000-00000000000a'''
INSERT INTO auth.users (id, email) VALUES (:ana, 'a@api-job.test'), ('b0000000-0000-4000-8000-00000000000b', 'b@api-job.test');
INSERT INTO public.tools (id, name_key, description_key, type, icon_name) VALUES ('test-filter', 'n', 'd', 'FILTER', 'i'), ('test-face', 'n', 'd', 'ANALYSIS', 'i');
INSERT INTO public.generation_jobs (id, user_id, tool_id, kind, source_path, tool_revision, image_hash, cache_key, status, credits_held, deadline, error_code, retry_after, result)
SELECT format('a0000000-0000-4000-8000-%s', lpad(n::text, 12, '0'))::uuid, :ana, 'test-filter', 'image', 's', 1, 'h', 'key ' || n, status, held,
	clock_timestamp() + CASE WHEN late THEN interval '-1 second' ELSE interval '1 hour' END, error, retry_after, result::jsonb
FROM (VALUES
	(1, 'queued', 1, false, NULL, NULL::int, NULL), (2, 'fetching', 1, false, NULL, NULL, NULL), (3, 'generating', 1, false, NULL, NULL, NULL),
	(4, 'answered', 1, true, NULL, NULL, NULL), (5, 'storing', 1, true, NULL, NULL, NULL),
	(6, 'queued', 1, true, NULL, NULL, NULL), (7, 'fetching', 1, true, NULL, NULL, NULL), (8, 'generating', 1, true, NULL, NULL, NULL),
	(9, 'succeeded', 1, true, NULL, NULL, '{"generation_id": 2000000041, "image_path": "generations/a0000000-0000-4000-8000-00000000000a/j.png", "credits_used": 1}'),
	(10, 'succeeded', 2, false, NULL, NULL, '{"generation_id": 2000000042, "analysis": {"shape": "oval", "notes": ["é", 1.50]}, "credits_used": 2}'),
	(11, 'failed', 0, false, 'refused', NULL, NULL), (12, 'failed', 0, true, 'rate_limited', 30, NULL), (13, 'failed', 0, true, 'provider_timeout', NULL, NULL),
	(14, 'failed', 0, true, 'a word of a later version', NULL, NULL), (15, 'cancelled', 0, true, NULL, NULL, NULL))
	v(n, status, held, late, error, retry_after, result);
SET LOCAL ROLE authenticated;
SET LOCAL request.jwt.claims = '{"sub": "a0000000-0000-4000-8000-00000000000a", "role": "authenticated"}';

-- Each state as its user sees it; a hold counts until its deadline, or when the answer is safe.
SELECT right(id::text, 2) AS job, status, generation_status(id) - 'job_id' - 'image_url' AS seen FROM public.generation_jobs ORDER BY id;
SELECT bool_and(generation_status(id) ->> 'job_id' = id::text) AS named FROM public.generation_jobs;
SELECT my_account() ->> 'held' AS held;
-- an ended job is not waited for, a running one as long as asked
SELECT clock_timestamp() AS began \gset
SELECT count(generation_status(id, 10)) AS answers, clock_timestamp() - :'began' < interval '5 seconds' AS at_once FROM public.generation_jobs WHERE status IN ('failed', 'succeeded');
SELECT generation_status('a0000000-0000-4000-8000-000000000001', 1) ->> 'status' AS status;

-- Cancelled is what has not begun; once more is the same answer.
SELECT right(id::text, 2) AS job, status, pg_temp.try(format('SELECT cancel_generation(%L) - ''job_id''', id)) AS answer FROM public.generation_jobs ORDER BY id;
SELECT cancel_generation('a0000000-0000-4000-8000-000000000001') ->> 'status' AS again;
RESET ROLE;
SELECT right(id::text, 2) AS job, status, credits_held, finished_at IS NOT NULL AS finished FROM public.generation_jobs WHERE user_id = :ana AND status = 'cancelled' ORDER BY id;
SET LOCAL ROLE authenticated;

-- Another user's job is no job.
SET LOCAL request.jwt.claims = '{"sub": "b0000000-0000-4000-8000-00000000000b", "role": "authenticated"}';
SELECT pg_temp.try('SELECT generation_status(''a0000000-0000-4000-8000-000000000003'')'), pg_temp.try('SELECT cancel_generation(''a0000000-0000-4000-8000-000000000003'')'),
	pg_temp.try('SELECT generation_status(''f0000000-0000-4000-8000-000000000003'')');
SELECT pg_temp.try('SELECT generation_status(NULL)'), pg_temp.try('SELECT cancel_generation(NULL)');
SET LOCAL request.jwt.claims = '{"sub": "a0000000-0000-4000-8000-00000000000a", "role": "authenticated"}';
SAVEPOINT reading;
SET TRANSACTION READ ONLY;
SELECT pg_temp.try('SELECT cancel_generation(''a0000000-0000-4000-8000-000000000003'')'), generation_status('a0000000-0000-4000-8000-000000000003') ->> 'status' AS status;
ROLLBACK TO reading;

-- delete_generation takes back every copy: file, row, job's result, cache entry, key of a hit.
RESET ROLE;
INSERT INTO public.generations (id, user_id, tool_id, image_url, job_id, analysis) VALUES
	(2000000041, :ana, 'test-filter', 'generations/a0000000-0000-4000-8000-00000000000a/j.png', 'a0000000-0000-4000-8000-000000000009', NULL),
	(2000000042, :ana, 'test-face', NULL, 'a0000000-0000-4000-8000-000000000010', '{"shape": "oval"}'),
	(2000000043, 'b0000000-0000-4000-8000-00000000000b', 'test-face', NULL, NULL, '{"shape": "round"}');
WITH o AS (INSERT INTO storage.objects (bucket_id, name, owner_id, version) VALUES ('generations', :ana || '/j.png', :ana, 'v') RETURNING id)
INSERT INTO sparky.stored_files (object_id, bytes, sha256, mime_type, size, width, height) SELECT id, '\x00', 'h', 'image/png', 1, 1, 1 FROM o;
INSERT INTO cache.kv_store (key, value, expires_at) VALUES
	('key 9', '{"generation_id": 2000000041, "image_path": "generations/a0000000-0000-4000-8000-00000000000a/j.png"}', now() + interval '1 hour'),
	('key 10', '{"generation_id": 77, "analysis": {}}', now() + interval '1 hour');	-- replaced by a later one
INSERT INTO sparky.request_keys (user_id, key, fingerprint, result) VALUES
	(:ana, 'k', 'f', '{"generation_id": 2000000041, "image_path": "generations/a0000000-0000-4000-8000-00000000000a/j.png"}'), (:ana, 'l', 'f', '{"generation_id": 7, "image_path": "p"}');
SET LOCAL ROLE authenticated;
SELECT pg_temp.try('SELECT delete_generation(2000000043)') AS theirs, pg_temp.try('SELECT delete_generation(-1)') AS none, pg_temp.try('SELECT delete_generation(NULL)') AS no_id;
SELECT delete_generation(2000000041), delete_generation(2000000042), pg_temp.try('SELECT delete_generation(2000000041)') AS again;
SELECT generation_status('a0000000-0000-4000-8000-000000000009') - 'job_id' AS image, generation_status('a0000000-0000-4000-8000-000000000010') - 'job_id' AS analysis;
RESET ROLE;
SELECT id FROM public.generations WHERE id IN (2000000041, 2000000042, 2000000043) ORDER BY id;
SELECT count(*) AS files FROM storage.objects WHERE owner_id = :ana;
SELECT key FROM cache.kv_store WHERE key IN ('key 9', 'key 10');
SELECT key, result FROM sparky.request_keys WHERE user_id = :ana ORDER BY key;
ROLLBACK;
