--
-- Who is signed in: the same answer as auth.uid(), but nobody where that would
-- raise.  Every face asks first.
--
BEGIN;
CREATE FUNCTION pg_temp.try(statement text, claims text = current_setting('request.jwt.claims', true)) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	PERFORM set_config('request.jwt.claims', claims, true);
	EXECUTE statement INTO result;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
INSERT INTO auth.users (id, email) VALUES
	('a0000000-0000-4000-8000-00000000000a', 'a@api-identity.test'), ('b0000000-0000-4000-8000-00000000000b', 'b@api-identity.test');
SET LOCAL ROLE authenticated;

-- unset, empty, malformed: nobody
SELECT pg_temp.try('SELECT my_account()');
SELECT claims, pg_temp.try('SELECT my_account()', claims) AS answer
FROM (VALUES (''), ('{}'), ('{"sub": null}'), ('{"sub": ""}'), ('{"sub": 7}'), ('{"sub": "a0000000"}'),
	('{"sub": "a0000000-0000-4000-8000-00000000000a '' "}'), ('{"sub": "a0000000-0000-4000-8000_00000000000a"}'),
	('{"sub": "g0000000-0000-4000-8000-00000000000a"}'), ('{"role": "service_role"}'), ('no json'), ('[]'), ('{"sub": ')) v(claims);

-- the claims' sub, in any case
SELECT set_config('request.jwt.claims', '{"sub": "A0000000-0000-4000-8000-00000000000A", "role": "authenticated"}', true) IS NOT NULL AS set;
SELECT pg_temp.try('SELECT my_account()');
-- the legacy setting wins, and an empty one does not count
SELECT set_config('request.jwt.claim.sub', 'nobody', true);
SELECT pg_temp.try('SELECT my_account()');
SELECT set_config('request.jwt.claim.sub', '', true);
SELECT pg_temp.try('SELECT my_account()');

-- signed in, but without a profile
SELECT set_config('request.jwt.claim.sub', 'c0000000-0000-4000-8000-00000000000c', true) IS NOT NULL AS set;
SELECT face, pg_temp.try('SELECT ' || face) AS answer FROM (VALUES
	('my_account()'), ('my_usage()'), ('process_image(''cartoon'', ''x'')'), ('analyze_face(''face-shape'', ''x'')'),
	('generation_status(''a0000000-0000-4000-8000-00000000000a'')'), ('cancel_generation(''a0000000-0000-4000-8000-00000000000a'')'),
	('upload_image(''\x00'')'), ('download_image(''x'')'), ('delete_upload(''x'')'), ('delete_generation(1)')) v(face);

-- not signed in: every face, as the role of a request without a token too
SELECT set_config('request.jwt.claim.sub', '', true), set_config('request.jwt.claims', '{"role": "anon"}', true);
SET LOCAL ROLE anon;
SELECT face, pg_temp.try('SELECT ' || face) AS answer FROM (VALUES
	('my_account()'), ('my_usage()'), ('process_image(''cartoon'', ''x'')'), ('analyze_face(''face-shape'', ''x'')'),
	('generation_status(''a0000000-0000-4000-8000-00000000000a'')'), ('cancel_generation(''a0000000-0000-4000-8000-00000000000a'')'),
	('upload_image(''\x00'')'), ('download_image(''x'')'), ('delete_upload(''x'')'), ('delete_generation(1)')) v(face);
ROLLBACK;
