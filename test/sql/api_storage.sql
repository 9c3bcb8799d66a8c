--
-- upload_image, download_image, delete_upload on embedded storage.
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
CREATE FUNCTION pg_temp.padded(key bytea, pad int) RETURNS bytea LANGUAGE sql AS $$
	SELECT string_agg(decode(lpad(to_hex(CASE WHEN i < length(key) THEN get_byte(key, i) ELSE 0 END # pad), 2, '0'), 'hex'), '' ORDER BY i)
	FROM generate_series(0, 63) i
$$;
-- HMAC-SHA256 by the book, for the links
CREATE FUNCTION pg_temp.signature(path text, expires bigint) RETURNS text LANGUAGE sql AS $$
	SELECT encode(sha256(pg_temp.padded(download_key, 92) || sha256(pg_temp.padded(download_key, 54) || convert_to(path || E'\n' || expires, 'UTF8'))), 'hex')
	FROM sparky.instance
$$;
INSERT INTO auth.users (id, email) VALUES
	('a0000000-0000-4000-8000-00000000000a', 'a@api-storage.test'), ('b0000000-0000-4000-8000-00000000000b', 'b@api-storage.test');
-- a PNG image of 2 x 1 pixels, and the same with its end cut off
\set png '''\\x89504e470d0a1a0a0000000d49484452000000020000000108020000007b40e8dd0000000b49444154789c636000030000070001b286acf40000000049454e44ae426082'''
\set cut '''\\x89504e470d0a1a0a0000000d49484452000000020000000108020000007b40e8dd0000000b49444154789c636000030000070001b286acf4'''
SET LOCAL ROLE authenticated;
SET LOCAL request.jwt.claims = '{"sub": "a0000000-0000-4000-8000-00000000000a", "role": "authenticated"}';

-- An upload is named by its content: twice is once.
SELECT jsonb_pretty(upload_image(:png));
SELECT upload_image(:png) = upload_image(:png) AS same;
SELECT upload_image(:png) ->> 'path' AS path \gset
SELECT upload_image(:png) ->> 'sha256' = encode(sha256(:png), 'hex') AS hash_of_the_bytes;
RESET ROLE;
SELECT o.bucket_id, o.owner_id, o.metadata - 'lastModified' AS metadata, f.bytes = :png AS bytes, f.mime_type, f.size, f.width, f.height
FROM storage.objects o JOIN sparky.stored_files f ON f.object_id = o.id WHERE o.owner_id = 'a0000000-0000-4000-8000-00000000000a';
SET LOCAL ROLE authenticated;

-- What is no sound image is refused, and why is told.
SELECT pg_temp.try(format('SELECT upload_image(%L)', bytes)) FROM (VALUES (NULL), ('\x'::bytea), ('\x474946383961'), (:cut)) v(bytes);
SELECT pg_temp.try(format('SELECT upload_image(%s)', 'decode(repeat(''89504e470d0a1a0a'', 1000000), ''hex'')'));

-- The owner downloads by his JWT, with the headers for a browser.
SELECT download_image(:'path') = :png AS bytes, download_image(substr(:'path', 14)) = :png AS without_bucket;
SELECT jsonb_array_elements(current_setting('response.headers')::jsonb);

-- Nobody else does, and nobody learns what is there.
SET LOCAL request.jwt.claims = '{"sub": "b0000000-0000-4000-8000-00000000000b", "role": "authenticated"}';
SELECT pg_temp.try(format('SELECT download_image(%L)', :'path')) AS theirs,
	pg_temp.try('SELECT download_image(''user_uploads/a0000000-0000-4000-8000-00000000000a/none.png'')') AS theirs_missing,
	pg_temp.try('SELECT download_image(''generations/b0000000-0000-4000-8000-00000000000b/none.png'')') AS own_missing;
SELECT pg_temp.try(format('SELECT delete_upload(%L)', :'path')) AS theirs;

-- Paths that are not plainly a name in one's own folder.
SELECT left(path, 80) AS path, pg_temp.try(format('SELECT download_image(%L)', path)) AS answer FROM (VALUES
	(''), ('x.png'), ('/'), ('user_uploads/'), ('user_uploads/b0000000-0000-4000-8000-00000000000b'), ('user_uploads/b0000000-0000-4000-8000-00000000000b/'),
	('b0000000-0000-4000-8000-00000000000b/'), ('b0000000-0000-4000-8000-00000000000bb/x.png'), ('B0000000-0000-4000-8000-00000000000B/x.png'),
	('/b0000000-0000-4000-8000-00000000000b/x.png'), ('avatars/b0000000-0000-4000-8000-00000000000b/x.png'),
	('b0000000-0000-4000-8000-00000000000b/../a0000000-0000-4000-8000-00000000000a/x.png'), ('b0000000-0000-4000-8000-00000000000b/./x.png'),
	('b0000000-0000-4000-8000-00000000000b//x.png'), ('b0000000-0000-4000-8000-00000000000b/..'), ('b0000000-0000-4000-8000-00000000000b/a\b.png'),
	('b0000000-0000-4000-8000-00000000000b/a%2Fb.png'), ('b0000000-0000-4000-8000-00000000000b/%2e%2e/b.png'), (E'b0000000-0000-4000-8000-00000000000b/a\tb.png'),
	(E'b0000000-0000-4000-8000-00000000000b/a\u0085b.png'),
	('b0000000-0000-4000-8000-00000000000b/..x/100%é ok.png'), (repeat('x', 501))) v(path);
SELECT pg_temp.try('SELECT download_image(NULL)'), pg_temp.try('SELECT delete_upload(NULL)');

-- A live link opens the photo without sign-in; nothing else does.
RESET ROLE;
SELECT (extract(epoch FROM clock_timestamp())::bigint + 100) AS later, (extract(epoch FROM clock_timestamp())::bigint - 1) AS before \gset
SELECT pg_temp.signature(:'path', :later) AS good, pg_temp.signature(:'path', :before) AS old \gset
SET LOCAL ROLE anon;
SET LOCAL request.jwt.claims = '{"role": "anon"}';
SELECT download_image(:'path', :later, :'good') = :png AS live;
SELECT pg_temp.try(format('SELECT download_image(%L, %L, %L)', path, expires, signature)) FROM (VALUES
	(:'path', :later + 1, :'good'), (:'path', :before, :'old'), (:'path' || 'x', :later, :'good'), (:'path', :later, upper(:'good')),
	(:'path', :later, ''), (:'path', NULL, :'good'), (:'path', :later, NULL), (:'path', NULL, NULL)) v(path, expires, signature);

-- Nothing is written in a read-only transaction.
SET LOCAL ROLE authenticated;
SET LOCAL request.jwt.claims = '{"sub": "a0000000-0000-4000-8000-00000000000a", "role": "authenticated"}';
SAVEPOINT writing;
SET TRANSACTION READ ONLY;
SELECT pg_temp.try(format('SELECT upload_image(%L)', :png)), pg_temp.try(format('SELECT delete_upload(%L)', :'path')), pg_temp.try('SELECT delete_generation(1)');
SELECT download_image(:'path') = :png AS reads;
ROLLBACK TO writing;

-- Deleted is deleted: object, bytes, and what the cache made of it.
RESET ROLE;
INSERT INTO generation_jobs (id, user_id, tool_id, kind, status, source_path, tool_revision, image_hash, cache_key, credits_held, deadline) VALUES
	('a0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-00000000000a', 'cartoon', 'image', 'succeeded', :'path', 1, encode(sha256(:png), 'hex'), 'key 1', 1, now()),
	('a0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-00000000000a', 'cartoon', 'image', 'succeeded', 'user_uploads/a0000000-0000-4000-8000-00000000000a/same-bytes.png', 1, encode(sha256(:png), 'hex'), 'key 2', 1, now()),
	('a0000000-0000-4000-8000-000000000003', 'a0000000-0000-4000-8000-00000000000a', 'cartoon', 'image', 'succeeded', 'user_uploads/a0000000-0000-4000-8000-00000000000a/other.png', 1, 'another hash', 'key 3', 1, now()),
	('b0000000-0000-4000-8000-000000000004', 'b0000000-0000-4000-8000-00000000000b', 'cartoon', 'image', 'succeeded', 'user_uploads/b0000000-0000-4000-8000-00000000000b/same.png', 1, encode(sha256(:png), 'hex'), 'key 4', 1, now());
INSERT INTO cache.kv_store (key, value, expires_at) SELECT 'key ' || i, '{}', now() + interval '1 hour' FROM generate_series(1, 4) i;
SET LOCAL ROLE authenticated;
SELECT delete_upload(:'path');
SELECT pg_temp.try(format('SELECT delete_upload(%L)', :'path')) AS again, pg_temp.try(format('SELECT download_image(%L)', :'path')) AS download;
SELECT pg_temp.try('SELECT delete_upload(''generations/a0000000-0000-4000-8000-00000000000a/x.png'')') AS no_upload;
RESET ROLE;
SELECT key FROM cache.kv_store WHERE key LIKE 'key _' ORDER BY key;
SELECT count(*) FROM storage.objects WHERE owner_id = 'a0000000-0000-4000-8000-00000000000a';
SELECT count(*) FROM sparky.stored_files WHERE bytes = :png;

-- Sixty uploads an hour; what is there already is no upload.
SET LOCAL ROLE authenticated;
SELECT upload_image(:png) ->> 'path' = :'path' AS back;
RESET ROLE;
WITH o AS (INSERT INTO storage.objects (bucket_id, name, owner_id, version)
	SELECT 'user_uploads', 'a0000000-0000-4000-8000-00000000000a/' || i, 'a0000000-0000-4000-8000-00000000000a', 'v'
	FROM generate_series(1, current_setting('sparky.uploads_per_hour')::int - 1) i RETURNING id)
INSERT INTO sparky.stored_files (object_id, bytes, sha256, mime_type, size, width, height)
SELECT id, '\x00', 'filler', 'image/png', 1, 1, 1 FROM o;
SET LOCAL ROLE authenticated;
\set jpeg '''\\xffd8ffe000104a46494600010100000100010000ffdb004300080606070605080707070909080a0c140d0c0b0b0c1912130f141d1a1f1e1d1a1c1c20242e2720222c231c1c2837292c30313434341f27393d38323c2e333432ffc0000b080001000101011100ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b5100002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffda0008010100003f00fbd3ffd9'''
SELECT pg_temp.try(format('SELECT upload_image(%L)', :jpeg)) AS one_more, upload_image(:png) ->> 'path' = :'path' AS same_again;
-- Under PostgREST a 429 says when to come back.
SET LOCAL request.method = 'POST';
SELECT pg_temp.try(format('SELECT upload_image(%L)', :jpeg)) AS one_more;
CREATE FUNCTION pg_temp.envelope(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
	EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN regexp_replace(detail, '35[0-9][0-9]|3600', 'about an hour');
END $$;
SELECT pg_temp.envelope(format('SELECT upload_image(%L)', :jpeg));
SET LOCAL request.method = '';
-- An hour later there is room again, until the quota.
RESET ROLE;
UPDATE sparky.stored_files SET created_at = created_at - interval '1 hour' WHERE sha256 = 'filler';
SET LOCAL ROLE authenticated;
SELECT upload_image(:jpeg) - 'sha256' - 'path' AS jpeg;
RESET ROLE;
DELETE FROM storage.objects o USING sparky.stored_files f WHERE f.object_id = o.id AND f.mime_type = 'image/jpeg';
-- one byte less than the photo needs is left
UPDATE sparky.stored_files f SET size = pg_size_bytes(current_setting('sparky.max_stored_bytes_per_user')) - length(:jpeg::bytea) - length(:png::bytea)
	- (SELECT count(*) FROM sparky.stored_files WHERE sha256 = 'filler') + 2
FROM storage.objects o WHERE o.id = f.object_id AND o.name = 'a0000000-0000-4000-8000-00000000000a/1';
SET LOCAL ROLE authenticated;
SELECT pg_temp.try(format('SELECT upload_image(%L)', :jpeg)) AS a_byte_short;
RESET ROLE;
UPDATE sparky.stored_files f SET size = f.size - 1 FROM storage.objects o WHERE o.id = f.object_id AND o.name = 'a0000000-0000-4000-8000-00000000000a/1';
SET LOCAL ROLE authenticated;
SELECT upload_image(:jpeg) ->> 'mime_type' AS fits;
ROLLBACK;
