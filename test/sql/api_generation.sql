--
-- process_image and analyze_face as far as no worker is needed: the checks in
-- their order, cache hits, idempotency keys.  Nothing is committed.
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
CREATE FUNCTION pg_temp.detail(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
	EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || detail;
END $$;
-- without what differs from server to server
CREATE FUNCTION pg_temp.shown(result jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE WHEN result ? 'generation_id' THEN jsonb_set(result, '{generation_id}', '"some"') ELSE result END - 'image_url'
$$;
\set ana '''a0000000-0000-4000-8000-00000000000a'''
\set claims '''{"sub": "a0000000-0000-4000-8000-00000000000a", "role": "authenticated"}'''
\set png '''\\x89504e470d0a1a0a0000000d49484452000000020000000108020000007b40e8dd0000000b49444154789c636000030000070001b286acf40000000049454e44ae426082'''
INSERT INTO auth.users (id, email) VALUES (:ana, 'a@api-generation.test');
INSERT INTO public.tools (id, name_key, description_key, type, icon_name, is_active, parameter_schema) VALUES
	('test-filter', 'n', 'd', 'FILTER', 'i', true, '{"type": "object", "properties": {}}'),
	('test-bare', 'n', 'd', 'FILTER', 'i', true, NULL),
	('test-off', 'n', 'd', 'FILTER', 'i', false, NULL),
	('test-face', 'n', 'd', 'ANALYSIS', 'i', true, NULL),
	('test-unset', 'n', 'd', 'FILTER', 'i', true, NULL),
	('test-hair', 'n', 'd', 'TRANSFORMATION', 'i', true, '{"type": "object", "required": ["style"], "properties": {
		"style": {"type": "string", "x-values": "hairstyles.id"}, "color": {"type": "string", "x-values": "hair_colors.hex_code"},
		"strength": {"type": "string", "enum": ["low", "high"]}}}');
INSERT INTO sparky.tool_settings (tool_id, model, prompt)
	SELECT id, 'model-1', 'Change it.' FROM public.tools WHERE id LIKE 'test-%' AND id <> 'test-unset';
INSERT INTO public.hairstyles (id, name, image_url, gender, is_pro, category) VALUES
	('test-bob', 'Bob', '', 'female', false, 'c'), ('test-vip', 'Vip', '', 'female', true, 'c');
INSERT INTO public.hair_colors (hex_code) VALUES ('#00000t');
SET LOCAL ROLE authenticated;
SET LOCAL request.jwt.claims = :claims;
SELECT upload_image(:png) ->> 'path' AS path, upload_image(:png) ->> 'sha256' AS hash \gset

-- Arguments have limits, each told in its turn.
SELECT pg_temp.detail('SELECT process_image(NULL, ''x'')'), pg_temp.detail('SELECT process_image(''test-filter'', NULL)');
SELECT pg_temp.detail(format('SELECT process_image(''test-filter'', %L)', repeat('é', 501))),
	pg_temp.try(format('SELECT process_image(''test-filter'', %L)', repeat('é', 500))) AS fits;
SELECT pg_temp.detail(format('SELECT process_image(''test-filter'', ''x'', %L)', parameters))
	FROM (VALUES ('[]'), ('null'), ('"x"'), (json_build_object('k', repeat('x', 4090))::text)) v(parameters);
SELECT pg_temp.try(format('SELECT process_image(''none'', %L)', repeat('x', 501))) AS no_tool, pg_temp.try('SELECT process_image(''none'', ''x'', ''[]'')') AS no_tool,
	pg_temp.try('SELECT process_image(''test-face'', NULL, ''[]'')') AS wrong_kind, pg_temp.detail('SELECT process_image(''test-filter'', NULL, ''[]'')');
SELECT pg_temp.detail(format('SELECT process_image(''test-filter'', ''x'', idempotency_key => %L)', key)) FROM (VALUES (''), (repeat('é', 201))) v(key);

-- Tool, kind, parameters, path, object: each before the next.
SELECT left(tool, 20) AS tool, pg_temp.try(format('SELECT process_image(%L, %L, %L)', tool, path, parameters)) AS answer FROM (VALUES
	('none', '../x', '{"p": 1}'), ('test-off', '../x', '{"p": 1}'), ('', '../x', '{"p": 1}'), (repeat('x', 1000), '../x', '{"p": 1}'),
	('test-face', '../x', '{"p": 1}'), ('test-unset', '../x', '{"p": 1}'),
	('test-bare', '../x', '{"p": 1}'), ('test-filter', '../x', '{"p": 1}'), ('test-filter', '../x', '{"p": 1e400}'),
	('test-hair', '../x', '{}'), ('test-hair', '../x', '{"style": "none"}'), ('test-hair', '../x', '{"style": 1}'),
	('test-hair', '../x', '{"style": "test-bob", "color": "#ffffft"}'), ('test-hair', '../x', '{"style": "test-bob", "strength": "medium"}'),
	('test-hair', '../x', '{"style": "test-vip", "color": "none"}'), ('test-hair', '../x', '{"style": "test-vip", "color": "#00000t"}'),
	('test-hair', '../x', '{"style": "test-bob", "color": "#00000t", "strength": "low"}'),
	('test-filter', 'user_uploads/b0000000-0000-4000-8000-00000000000b/x.png', '{}'), ('test-filter', 'generations/a0000000-0000-4000-8000-00000000000a/x.png', '{}'),
	('test-filter', 'a0000000-0000-4000-8000-00000000000a/none.png', '{}'), ('test-bare', 'user_uploads/a0000000-0000-4000-8000-00000000000a/none.png', NULL)) v(tool, path, parameters);
SELECT pg_temp.try('SELECT analyze_face(''test-filter'', ''../x'')'), pg_temp.try('SELECT analyze_face(''test-face'', ''../x'')');
SELECT pg_temp.detail(format('SELECT process_image(''test-hair'', ''x'', %L)', parameters))
	FROM (VALUES ('{"style": "none"}'), ('{"style": "test-vip"}'), ('{"style": "test-bob", "more": 1}')) v(parameters);
-- a row in storage.objects without bytes is no photo
RESET ROLE;
INSERT INTO storage.objects (bucket_id, name, owner_id, version) VALUES ('user_uploads', 'a0000000-0000-4000-8000-00000000000a/hollow.png', :ana, 'v');
SET LOCAL ROLE authenticated;
SELECT pg_temp.try('SELECT process_image(''test-filter'', ''a0000000-0000-4000-8000-00000000000a/hollow.png'')');
-- a plan opens the pro hairstyles, and closes them when it ends
RESET ROLE;
UPDATE public.users SET plan_id = 2, plan_expires_at = now() + interval '1 hour' WHERE id = :ana;
SET LOCAL ROLE authenticated;
SELECT pg_temp.try('SELECT process_image(''test-hair'', ''../x'', ''{"style": "test-vip"}'')') AS paid;
RESET ROLE;
UPDATE public.users SET plan_expires_at = now() - interval '1 second' WHERE id = :ana;
SET LOCAL ROLE authenticated;
SELECT pg_temp.try('SELECT process_image(''test-hair'', ''../x'', ''{"style": "test-vip"}'')') AS ended;
RESET ROLE;
UPDATE public.users SET plan_id = 1, plan_expires_at = NULL WHERE id = :ana;

-- A hit costs nothing, needs no worker and no write.
INSERT INTO public.generations (user_id, tool_id, image_url) VALUES (:ana, 'test-filter', 'generations/' || :ana || '/result.png') RETURNING id AS image \gset
INSERT INTO public.generations (user_id, tool_id, analysis) VALUES (:ana, 'test-face', '{"shape": "oval"}') RETURNING id AS analysis \gset
WITH o AS (INSERT INTO storage.objects (bucket_id, name, owner_id, version) VALUES ('generations', :ana || '/result.png', :ana, 'v') RETURNING id)
INSERT INTO sparky.stored_files (object_id, bytes, sha256, mime_type, size, width, height) SELECT id, :png, :'hash', 'image/png', 69, 2, 1 FROM o;
INSERT INTO cache.kv_store (key, value, expires_at) VALUES
	(sparky.cache_key(:ana, 'test-filter', :'hash', '{}'), jsonb_build_object('generation_id', :image, 'image_path', 'generations/' || :ana || '/result.png'), now() + interval '1 hour'),
	(sparky.cache_key(:ana, 'test-face', :'hash', '{}'), jsonb_build_object('generation_id', :analysis, 'analysis', '{"shape": "oval"}'::jsonb), now() + interval '1 hour');
SET LOCAL ROLE authenticated;
SAVEPOINT reading;
SET TRANSACTION READ ONLY;
SELECT pg_temp.shown(process_image('test-filter', :'path'));
SELECT pg_temp.shown(analyze_face('test-face', substr(:'path', 14), NULL, NULL, 'a key that is not kept', NULL));
SELECT (process_image('test-filter', :'path') ->> 'generation_id')::bigint = :image AS the_original;
-- without one there is nothing to do in a read-only transaction
SELECT pg_temp.try(format('SELECT process_image(''test-bare'', %L)', :'path')), pg_temp.try(format('SELECT process_image(''test-filter'', %L, refresh => true)', :'path'));
ROLLBACK TO reading;
SELECT (my_account() ->> 'available')::int AS still_ten;
RESET ROLE;
SELECT count(*) AS keys FROM sparky.request_keys WHERE user_id = :ana;

-- Idempotency: the same key is the same answer, and another request with it a conflict.
SET LOCAL ROLE authenticated;
SELECT process_image('test-filter', :'path', '{}', 0, 'key 1') = process_image('test-filter', substr(:'path', 14), NULL, 55, 'key 1', false) AS same;
SELECT pg_temp.try(format('SELECT %s(%L, %L, %L, 0, ''key 1'', %L)', face, tool, path, parameters, refresh)) FROM (VALUES
	('process_image', 'test-filter', :'path', '{}', true), ('process_image', 'test-filter', :'path', '{"p": 1}', false),
	('process_image', 'test-bare', :'path', '{}', false), ('process_image', 'test-filter', :'path' || 'x', '{}', false),
	('analyze_face', 'test-filter', :'path', '{}', false)) v(face, tool, path, parameters, refresh);
RESET ROLE;
SELECT key, fingerprint = encode(sha256(convert_to(format('["process_image","%s","test-filter",{},false]', :'path'), 'UTF8')), 'hex') AS fingerprint,
	job_id, result - 'generation_id' AS result FROM sparky.request_keys WHERE user_id = :ana;
-- a known key answers before anything else is looked at, a failed job's too
UPDATE public.tools SET is_active = false WHERE id = 'test-filter';
INSERT INTO public.generation_jobs (id, user_id, tool_id, kind, status, source_path, tool_revision, image_hash, cache_key, credits_held, deadline, error_code, retry_after) VALUES
	('a0000000-0000-4000-8000-000000000001', :ana, 'test-filter', 'image', 'failed', :'path', 1, :'hash', 'c', 0, now(), 'rate_limited', 7);
INSERT INTO sparky.request_keys (user_id, key, fingerprint, job_id)
	SELECT user_id, 'key 2', fingerprint, 'a0000000-0000-4000-8000-000000000001' FROM sparky.request_keys WHERE user_id = :ana;
SET LOCAL ROLE authenticated;
SELECT pg_temp.shown(process_image('test-filter', :'path', idempotency_key => 'key 1'));
SELECT pg_temp.shown(process_image('test-filter', :'path', idempotency_key => 'key 2'));
-- somebody else's key is his own
RESET ROLE;
UPDATE public.tools SET is_active = true WHERE id = 'test-filter';
INSERT INTO auth.users (id, email) VALUES ('b0000000-0000-4000-8000-00000000000b', 'b@api-generation.test');
SET LOCAL ROLE authenticated;
SET LOCAL request.jwt.claims = '{"sub": "b0000000-0000-4000-8000-00000000000b", "role": "authenticated"}';
SELECT pg_temp.try(format('SELECT process_image(''test-filter'', %L, idempotency_key => ''key 1'')', :'path'));

-- A broken entry is a miss: expired, of another revision, without its object, of another shape.
SET LOCAL request.jwt.claims = :claims;
RESET ROLE;
CREATE FUNCTION pg_temp.missed(path text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
	SET LOCAL ROLE authenticated;
	SET TRANSACTION READ ONLY;
	answer := pg_temp.try(format('SELECT process_image(''test-filter'', %L)', path));
	RAISE EXCEPTION 'seen' USING DETAIL = answer;
EXCEPTION WHEN raise_exception THEN
	GET STACKED DIAGNOSTICS answer = PG_EXCEPTION_DETAIL;
	RETURN CASE WHEN answer LIKE '25006%' THEN 'missed' ELSE 'hit' END;
END $$;
SELECT pg_temp.missed(:'path');
SAVEPOINT whole;
UPDATE cache.kv_store SET expires_at = clock_timestamp() WHERE value ->> 'generation_id' = :'image';
SELECT pg_temp.missed(:'path') AS expired;
ROLLBACK TO whole;
UPDATE sparky.tool_settings SET prompt = 'Change it more.' WHERE tool_id = 'test-filter';
SELECT pg_temp.missed(:'path') AS revised;
ROLLBACK TO whole;
DELETE FROM storage.objects WHERE name = :ana || '/result.png';
SELECT pg_temp.missed(:'path') AS gone;
ROLLBACK TO whole;
SELECT pg_temp.missed(:'path') AS whole_again;
CREATE FUNCTION pg_temp.missed_with(entry jsonb, path text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	UPDATE cache.kv_store SET value = entry WHERE key = (SELECT sparky.cache_key('a0000000-0000-4000-8000-00000000000a', 'test-filter', split_part(split_part(path, '/', 3), '.', 1), '{}'));
	ASSERT FOUND;
	RETURN pg_temp.missed(path);
END $$;
SELECT value, pg_temp.missed_with(value::jsonb, :'path') FROM (VALUES ('[]'), ('{}'), ('7'), ('{"generation_id": "x", "image_path": "y"}'), ('{"generation_id": 1}'),
	('{"image_path": "generations/a0000000-0000-4000-8000-00000000000a/result.png"}'),
	('{"generation_id": 1, "image_path": 7}'), ('{"generation_id": 99999999999999999999, "analysis": {}}')) v(value);
ROLLBACK;
