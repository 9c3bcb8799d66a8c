/*
 * Delta 1, tables of schema sparky.  No client role has any right on them;
 * service_role may edit tool_settings, nothing else.
 */
CREATE FUNCTION sparky.delta_1_internals() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	REVOKE ALL ON SCHEMA sparky FROM PUBLIC, anon, authenticated, service_role;
	GRANT USAGE ON SCHEMA sparky TO service_role;

	CREATE TABLE sparky.schema_version (
		version		integer PRIMARY KEY,
		applied_at	timestamptz NOT NULL DEFAULT now()
	);
	PERFORM sparky.close_internal_table('sparky.schema_version');
	COMMENT ON TABLE sparky.schema_version IS 'The deltas of install() that this database has had';
	COMMENT ON COLUMN sparky.schema_version.version IS 'Number of the delta';
	COMMENT ON COLUMN sparky.schema_version.applied_at IS 'When it was applied';

	CREATE TABLE sparky.instance (
		singleton			boolean PRIMARY KEY DEFAULT true CONSTRAINT instance_singleton_check CHECK (singleton),
		system_identifier	bigint NOT NULL,
		database_oid		oid NOT NULL,
		download_key		bytea NOT NULL CONSTRAINT instance_download_key_check CHECK (octet_length(download_key) = 32),
		address_key			bytea NOT NULL CONSTRAINT instance_address_key_check CHECK (octet_length(address_key) = 32),
		created_at			timestamptz NOT NULL DEFAULT now()
	);
	PERFORM sparky.close_internal_table('sparky.instance');
	COMMENT ON TABLE sparky.instance IS 'Which database this is: a copy sees that it is one. The one table that holds secrets';
	COMMENT ON COLUMN sparky.instance.singleton IS 'True: one row only';
	COMMENT ON COLUMN sparky.instance.system_identifier IS 'The cluster that the data last ran in';
	COMMENT ON COLUMN sparky.instance.database_oid IS 'The database that the data last ran in';
	COMMENT ON COLUMN sparky.instance.download_key IS 'Signs download links, 32 random bytes; new with each identity';
	COMMENT ON COLUMN sparky.instance.address_key IS 'Keys the digests of e-mail addresses, 32 random bytes; kept for ever';
	COMMENT ON COLUMN sparky.instance.created_at IS 'When this identity was taken';

	CREATE SEQUENCE sparky.incarnations;
	REVOKE ALL ON SEQUENCE sparky.incarnations FROM PUBLIC, anon, authenticated, service_role;
	COMMENT ON SEQUENCE sparky.incarnations IS 'Numbers the lives of the worker';

	CREATE TABLE sparky.tool_settings (
		tool_id				text PRIMARY KEY REFERENCES public.tools (id) ON DELETE CASCADE,
		model				text NOT NULL CONSTRAINT tool_settings_model_check CHECK (model ~ '^[a-z0-9.-]{1,80}$'),
		prompt				text NOT NULL,
		system_instruction	text,
		response_schema		jsonb CONSTRAINT tool_settings_response_schema_check CHECK (jsonb_typeof(response_schema) = 'object'),
		generation_config	jsonb NOT NULL DEFAULT '{}' CONSTRAINT tool_settings_generation_config_check CHECK (jsonb_typeof(generation_config) = 'object'),
		cache_ttl			interval CONSTRAINT tool_settings_cache_ttl_check CHECK (cache_ttl >= interval '0'),
		timeout				interval CONSTRAINT tool_settings_timeout_check CHECK (timeout >= interval '1 second'),
		revision			integer NOT NULL DEFAULT 1
	);
	PERFORM sparky.close_internal_table('sparky.tool_settings');
	GRANT SELECT, INSERT, UPDATE, DELETE ON sparky.tool_settings TO service_role;
	COMMENT ON TABLE sparky.tool_settings IS 'The server''s side of a tool: how the model is asked';
	COMMENT ON COLUMN sparky.tool_settings.tool_id IS 'The tool';
	COMMENT ON COLUMN sparky.tool_settings.model IS 'Gemini model id';
	COMMENT ON COLUMN sparky.tool_settings.prompt IS 'Prompt with {name} for each parameter; a part in [[ ]] is left out when a parameter in it was not sent';
	COMMENT ON COLUMN sparky.tool_settings.system_instruction IS 'System instruction, or NULL';
	COMMENT ON COLUMN sparky.tool_settings.response_schema IS 'JSON Schema that an analysis must satisfy; sent as responseJsonSchema';
	COMMENT ON COLUMN sparky.tool_settings.generation_config IS 'Merged into the request''s generationConfig';
	COMMENT ON COLUMN sparky.tool_settings.cache_ttl IS 'How long results are reused; NULL: sparky.cache_ttl';
	COMMENT ON COLUMN sparky.tool_settings.timeout IS 'Longest wait for the model, at least 1 second; NULL: sparky.call_timeout';
	COMMENT ON COLUMN sparky.tool_settings.revision IS 'Part of the cache key; triggers raise it when the answers would change';

	CREATE TABLE sparky.answers (
		job_id		uuid PRIMARY KEY REFERENCES public.generation_jobs (id) ON DELETE CASCADE,
		mime_type	text,
		bytes		bytea,
		width		integer,
		height		integer,
		sha256		text,
		analysis	jsonb,
		answered_at	timestamptz NOT NULL DEFAULT now()
	);
	ALTER TABLE sparky.answers ALTER COLUMN bytes SET STORAGE EXTERNAL;
	PERFORM sparky.close_internal_table('sparky.answers');
	COMMENT ON TABLE sparky.answers IS 'Good answers of the model that are not stored yet: a call is never made again for them';
	COMMENT ON COLUMN sparky.answers.job_id IS 'The job';
	COMMENT ON COLUMN sparky.answers.mime_type IS 'Media type as the bytes show it';
	COMMENT ON COLUMN sparky.answers.bytes IS 'The image';
	COMMENT ON COLUMN sparky.answers.width IS 'Pixels';
	COMMENT ON COLUMN sparky.answers.height IS 'Pixels';
	COMMENT ON COLUMN sparky.answers.sha256 IS 'Lower-case hex digest of bytes';
	COMMENT ON COLUMN sparky.answers.analysis IS 'The analysis, for a tool of type ANALYSIS';
	COMMENT ON COLUMN sparky.answers.answered_at IS 'When the answer was committed';

	CREATE TABLE sparky.provider_calls (
		id				bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
		job_id			uuid NOT NULL,
		user_id			uuid NOT NULL,
		tool_id			text NOT NULL,
		attempt			integer NOT NULL,
		provider		text NOT NULL DEFAULT 'gemini',
		model			text NOT NULL,
		started_at		timestamptz NOT NULL,
		finished_at		timestamptz,
		outcome			text,
		charged			boolean NOT NULL DEFAULT false,
		http_status		integer,
		finish_reason	text,
		message			text,
		model_version	text,
		response_id		text,
		usage			jsonb,
		retry_after		double precision,
		bytes_sent		bigint,
		bytes_received	bigint
	);
	CREATE INDEX provider_calls_user_id_started_at_idx ON sparky.provider_calls (user_id, started_at);
	CREATE INDEX provider_calls_started_at_idx ON sparky.provider_calls (started_at);
	CREATE INDEX provider_calls_job_id_idx ON sparky.provider_calls (job_id);
	PERFORM sparky.close_internal_table('sparky.provider_calls');
	COMMENT ON INDEX sparky.provider_calls_user_id_started_at_idx IS 'For the daily limit of a user';
	COMMENT ON INDEX sparky.provider_calls_started_at_idx IS 'For the daily limit of the database';
	COMMENT ON INDEX sparky.provider_calls_job_id_idx IS 'The calls of a job';
	COMMENT ON TABLE sparky.provider_calls IS 'Every call of a model, also those that nobody paid for; no foreign keys: it outlives jobs and accounts';
	COMMENT ON COLUMN sparky.provider_calls.id IS 'The call';
	COMMENT ON COLUMN sparky.provider_calls.job_id IS 'For which job';
	COMMENT ON COLUMN sparky.provider_calls.user_id IS 'For whom';
	COMMENT ON COLUMN sparky.provider_calls.tool_id IS 'With which tool';
	COMMENT ON COLUMN sparky.provider_calls.attempt IS 'The job''s attempt';
	COMMENT ON COLUMN sparky.provider_calls.provider IS 'Who was called';
	COMMENT ON COLUMN sparky.provider_calls.model IS 'Model asked for';
	COMMENT ON COLUMN sparky.provider_calls.started_at IS 'Committed before the call began';
	COMMENT ON COLUMN sparky.provider_calls.finished_at IS 'When its outcome was written';
	COMMENT ON COLUMN sparky.provider_calls.outcome IS 'How it ended; NULL: under way, or lost with its worker';
	COMMENT ON COLUMN sparky.provider_calls.charged IS 'Did the user pay for it?';
	COMMENT ON COLUMN sparky.provider_calls.http_status IS 'HTTP status';
	COMMENT ON COLUMN sparky.provider_calls.finish_reason IS 'finishReason or blockReason';
	COMMENT ON COLUMN sparky.provider_calls.message IS 'finishMessage or error.message, at most 500 bytes, secrets removed';
	COMMENT ON COLUMN sparky.provider_calls.model_version IS 'Model that answered';
	COMMENT ON COLUMN sparky.provider_calls.response_id IS 'The provider''s id of the answer';
	COMMENT ON COLUMN sparky.provider_calls.usage IS 'usageMetadata: tokens';
	COMMENT ON COLUMN sparky.provider_calls.retry_after IS 'Seconds the provider asked us to wait';
	COMMENT ON COLUMN sparky.provider_calls.bytes_sent IS 'Size of the request body';
	COMMENT ON COLUMN sparky.provider_calls.bytes_received IS 'Size of the response body';

	CREATE TABLE sparky.image_hashes (
		object_id	uuid,
		version		text,
		sha256		text NOT NULL,
		mime_type	text,
		size		bigint,
		noted_at	timestamptz NOT NULL DEFAULT now(),
		PRIMARY KEY (object_id, version)
	);
	PERFORM sparky.close_internal_table('sparky.image_hashes');
	COMMENT ON TABLE sparky.image_hashes IS 'Digests of photos whose bytes are outside, by object version';
	COMMENT ON COLUMN sparky.image_hashes.object_id IS 'storage.objects.id';
	COMMENT ON COLUMN sparky.image_hashes.version IS 'storage.objects.version';
	COMMENT ON COLUMN sparky.image_hashes.sha256 IS 'Lower-case hex digest of the bytes';
	COMMENT ON COLUMN sparky.image_hashes.mime_type IS 'Media type as the bytes show it';
	COMMENT ON COLUMN sparky.image_hashes.size IS 'Bytes';
	COMMENT ON COLUMN sparky.image_hashes.noted_at IS 'When they were fetched';

	CREATE TABLE sparky.request_keys (
		user_id		uuid REFERENCES auth.users (id) ON DELETE CASCADE,
		key			text CONSTRAINT request_keys_key_check CHECK (char_length(key) BETWEEN 1 AND 200),
		fingerprint	text NOT NULL,
		job_id		uuid,
		result		jsonb,
		created_at	timestamptz NOT NULL DEFAULT now(),
		PRIMARY KEY (user_id, key)
	);
	CREATE INDEX request_keys_created_at_idx ON sparky.request_keys (created_at);
	PERFORM sparky.close_internal_table('sparky.request_keys');
	COMMENT ON INDEX sparky.request_keys_created_at_idx IS 'For the clean-up';
	COMMENT ON TABLE sparky.request_keys IS 'Idempotency keys of the last 24 hours';
	COMMENT ON COLUMN sparky.request_keys.user_id IS 'Whose key';
	COMMENT ON COLUMN sparky.request_keys.key IS 'As sent, 1 to 200 characters';
	COMMENT ON COLUMN sparky.request_keys.fingerprint IS 'Digest of the request: another request with this key is refused';
	COMMENT ON COLUMN sparky.request_keys.job_id IS 'The job it led to; NULL for a cached result';
	COMMENT ON COLUMN sparky.request_keys.result IS 'The answer given, for a cached result';
	COMMENT ON COLUMN sparky.request_keys.created_at IS 'When it was first used';

	CREATE TABLE sparky.stored_files (
		object_id	uuid PRIMARY KEY,
		bytes		bytea NOT NULL,
		sha256		text NOT NULL,
		mime_type	text NOT NULL,
		size		integer NOT NULL,
		width		integer NOT NULL,
		height		integer NOT NULL,
		created_at	timestamptz NOT NULL DEFAULT now()
	);
	ALTER TABLE sparky.stored_files ALTER COLUMN bytes SET STORAGE EXTERNAL;
	IF sparky.storage_is_ours() THEN
		ALTER TABLE sparky.stored_files ADD CONSTRAINT stored_files_object_id_fkey
			FOREIGN KEY (object_id) REFERENCES storage.objects (id) ON DELETE CASCADE;
	END IF;
	PERFORM sparky.close_internal_table('sparky.stored_files');
	COMMENT ON TABLE sparky.stored_files IS 'The bytes of photos, on embedded storage';
	COMMENT ON COLUMN sparky.stored_files.object_id IS 'storage.objects.id';
	COMMENT ON COLUMN sparky.stored_files.bytes IS 'The file';
	COMMENT ON COLUMN sparky.stored_files.sha256 IS 'Lower-case hex digest of bytes';
	COMMENT ON COLUMN sparky.stored_files.mime_type IS 'Media type as the bytes show it';
	COMMENT ON COLUMN sparky.stored_files.size IS 'Bytes';
	COMMENT ON COLUMN sparky.stored_files.width IS 'Pixels';
	COMMENT ON COLUMN sparky.stored_files.height IS 'Pixels';
	COMMENT ON COLUMN sparky.stored_files.created_at IS 'When it was written';

	CREATE TABLE sparky.erasures (
		id			bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
		bucket_id	text NOT NULL,
		name		text NOT NULL,
		user_id		uuid,
		created_at	timestamptz NOT NULL DEFAULT now(),
		attempts	integer NOT NULL DEFAULT 0,
		last_error	text,
		CONSTRAINT erasures_bucket_id_name_key UNIQUE (bucket_id, name)
	);
	CREATE INDEX erasures_user_id_idx ON sparky.erasures (user_id);
	PERFORM sparky.close_internal_table('sparky.erasures');
	COMMENT ON INDEX sparky.erasures_user_id_idx IS 'What is still to be erased of a user';
	COMMENT ON TABLE sparky.erasures IS 'Objects still to be deleted from storage';
	COMMENT ON COLUMN sparky.erasures.id IS 'The task';
	COMMENT ON COLUMN sparky.erasures.bucket_id IS 'Bucket';
	COMMENT ON COLUMN sparky.erasures.name IS 'Path in the bucket';
	COMMENT ON COLUMN sparky.erasures.user_id IS 'Whose it was; the account may be gone';
	COMMENT ON COLUMN sparky.erasures.created_at IS 'When it was asked for';
	COMMENT ON COLUMN sparky.erasures.attempts IS 'Tries so far';
	COMMENT ON COLUMN sparky.erasures.last_error IS 'Why the last one failed';

	CREATE TABLE sparky.signup_grants (
		user_id		uuid PRIMARY KEY,
		granted_at	timestamptz NOT NULL DEFAULT now(),
		last_month	text NOT NULL CONSTRAINT signup_grants_last_month_check CHECK (last_month ~ '^\d{4}-\d{2}$')
	);
	PERFORM sparky.close_internal_table('sparky.signup_grants');
	COMMENT ON TABLE sparky.signup_grants IS 'Who has had the sign-up credits; outlives the account';
	COMMENT ON COLUMN sparky.signup_grants.user_id IS 'The account; no foreign key';
	COMMENT ON COLUMN sparky.signup_grants.granted_at IS 'When';
	COMMENT ON COLUMN sparky.signup_grants.last_month IS 'UTC month, YYYY-MM, of the last free grant: one a month';
END
$$;
COMMENT ON FUNCTION sparky.delta_1_internals() IS
'Delta 1: the tables of schema sparky.

Called by install() only.';
