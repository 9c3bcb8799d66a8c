/*
 * C functions of schema sparky: for the data owner, our own triggers and tests.
 */
CREATE FUNCTION sparky.cache_key(
	user_id uuid, tool_id text, original_image_hash text, tool_parameters jsonb, tool_revision integer DEFAULT 1)
RETURNS text LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'sparky_cache_key';
COMMENT ON FUNCTION sparky.cache_key(uuid, text, text, jsonb, integer) IS
'The cache key of a request: lower-case hex SHA-256, 64 characters.

Over the RFC 8785 form of [user_id, tool_id, original_image_hash, tool_parameters, tool_revision]; original_image_hash is the lower-case hex SHA-256 of the photo''s bytes. NULL tool_parameters count as {}; any other NULL gives NULL.';

CREATE FUNCTION sparky.version()
RETURNS text LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'sparky_version';
COMMENT ON FUNCTION sparky.version() IS
'The version of the loaded library.

health() reports one that differs from the installed SQL.';

CREATE FUNCTION sparky.booking()
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_booking';
COMMENT ON FUNCTION sparky.booking() IS
'True while sparky''s own code moves money.

The triggers on public.users that record hand edits keep quiet then.';

CREATE FUNCTION sparky.book(user_id uuid, delta integer, kind text, reference text, allowance integer)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_book';
COMMENT ON FUNCTION sparky.book(uuid, integer, text, text, integer) IS
'Move credits of a user and write the ledger row, in one step.

delta: whole credits, negative to take. kind and reference: as in public.credit_ledger, unique together. allowance: by how much the part that came from a plan changes.
Errors: 23505 for a movement that is booked already.';

CREATE FUNCTION sparky.health()
RETURNS jsonb LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_health';
COMMENT ON FUNCTION sparky.health() IS
'Is everything in order? For operators and monitors.

Tells whether the worker lives, the age of the oldest queued job in seconds, what is in flight, and errors of configuration, each by name.';

CREATE FUNCTION sparky.confined(step text)
RETURNS text[] LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_confined';
COMMENT ON FUNCTION sparky.confined(text) IS
'Run a step of the installation as the data owner, and leave nothing of his behind that would run as somebody else.

step: install or repair_data. Called by the extension script; a deferred trigger that the data owner adds cannot wait for the commit. Returns the step''s notes.
Errors: 22023 for another step; 42501 when a trigger would wait for the commit.';
