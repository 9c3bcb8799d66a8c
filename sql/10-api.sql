/*
 * What clients call, through PostgREST's rpc() or psql.  All C, all SECURITY
 * INVOKER: around its own SQL each switches to the data owner, so clients need
 * no right on schema sparky.  The first line of a comment is PostgREST's
 * summary, the rest its description.
 *
 * The functions that wait carry a statement_timeout of their own: PostgREST
 * hoists it over the short one of the role.
 */
CREATE DOMAIN public."*/*" AS bytea;
COMMENT ON DOMAIN public."*/*" IS 'Raw bytes of any media type: PostgREST sends a result of this type as it is.';

CREATE FUNCTION public.process_image(
	tool_id text, original_image_storage_path text, tool_parameters jsonb DEFAULT '{}',
	wait_seconds integer DEFAULT 25, idempotency_key text DEFAULT NULL, refresh boolean DEFAULT false)
RETURNS jsonb LANGUAGE c VOLATILE SET statement_timeout = '60s' AS 'MODULE_PATHNAME', 'sparky_process_image';
COMMENT ON FUNCTION public.process_image(text, text, jsonb, integer, text, boolean) IS
'Change a photo with an image tool.

tool_id: a tool of type TRANSFORMATION or FILTER. original_image_storage_path: user_uploads/<your id>/..., or the part after the bucket; the upload must be committed. tool_parameters: at most 4 kB, as the tool''s parameter_schema says. wait_seconds: how long to wait for the result, 0 to 55, default 25. idempotency_key: 1 to 200 characters; the same key and request give the same job or answer for 24 hours. refresh: do not use a cached result.
Returns job_id, status (queued, running, succeeded, failed, cancelled), cached, generation_id, image_path, image_url (loads for an hour), credits_used, credits_remaining, error {code, message, retry_after}; absent keys are left out. A cached result is free. A job that fails costs nothing.
Errors: PT401 not_signed_in, account_gone; PT402 insufficient_credits; PT403 forbidden, pro_required; PT404 tool_not_found, image_not_found; PT409 idempotency_conflict; PT413 storage_quota; PT422 bad_parameters, wrong_kind; PT429 daily_limit, too_many_jobs, too_many_failures; PT503 not_configured, worker_down, overloaded, spend_limit; 25006 in a read-only transaction.';

CREATE FUNCTION public.analyze_face(
	tool_id text, original_image_storage_path text, tool_parameters jsonb DEFAULT '{}',
	wait_seconds integer DEFAULT 25, idempotency_key text DEFAULT NULL, refresh boolean DEFAULT false)
RETURNS jsonb LANGUAGE c VOLATILE SET statement_timeout = '60s' AS 'MODULE_PATHNAME', 'sparky_analyze_face';
COMMENT ON FUNCTION public.analyze_face(text, text, jsonb, integer, text, boolean) IS
'Analyse the face in a photo.

As process_image, for a tool of type ANALYSIS: the result is the JSON object analysis instead of an image.
Errors: PT401 not_signed_in, account_gone, and the others of process_image.';

CREATE FUNCTION public.generation_status(job_id uuid, wait_seconds integer DEFAULT 0)
RETURNS jsonb LANGUAGE c VOLATILE SET statement_timeout = '60s' AS 'MODULE_PATHNAME', 'sparky_generation_status';
COMMENT ON FUNCTION public.generation_status(uuid, integer) IS
'Tell how a job of yours is doing.

wait_seconds: how long to wait for its end, 0 to 55, default 0. Returns what process_image returns.
Errors: PT401 not_signed_in, account_gone; PT404 job_not_found (also for another user''s job).';

CREATE FUNCTION public.cancel_generation(job_id uuid)
RETURNS jsonb LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_cancel_generation';
COMMENT ON FUNCTION public.cancel_generation(uuid) IS
'Cancel a job of yours whose call has not begun.

Costs nothing; a job that is cancelled already gives the same answer. Everybody who joined the job sees it cancelled. Returns what process_image returns.
Errors: PT401 not_signed_in, account_gone; PT404 job_not_found; PT409 too_late (it is finished, delivered and charged).';

CREATE FUNCTION public.delete_generation(id bigint)
RETURNS jsonb LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_delete_generation';
COMMENT ON FUNCTION public.delete_generation(bigint) IS
'Delete one of your results.

Removes the file, the history row, the job''s result and the cache entries built on it. Returns {"deleted": true}; the charge stays.
Errors: PT401 not_signed_in, account_gone; PT404 image_not_found.';

CREATE FUNCTION public.delete_upload(path text)
RETURNS jsonb LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_delete_upload';
COMMENT ON FUNCTION public.delete_upload(text) IS
'Delete one of your uploaded photos.

path: user_uploads/<your id>/..., or the part after the bucket, at most 500 characters. Returns {"deleted": true}; results made from the photo stay.
Errors: PT401 not_signed_in, account_gone; PT403 forbidden (not your folder); PT404 image_not_found.';

CREATE FUNCTION public.my_account()
RETURNS jsonb LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'sparky_my_account';
COMMENT ON FUNCTION public.my_account() IS
'Tell your balance and plan.

Returns credits (as booked), held (by running jobs), available (what can be spent now, counting a grant that is due), debt, allowance, plan, plan_expires_at, used_today, max_daily_credits, resets_at. Amounts are whole credits; the day is the UTC day.
Errors: PT401 not_signed_in, account_gone.';

CREATE FUNCTION public.my_usage(
	since timestamptz DEFAULT pg_catalog.date_trunc('month', pg_catalog.now(), 'UTC'),
	until timestamptz DEFAULT pg_catalog.now())
RETURNS TABLE (day date, tool_id text, requests bigint, credits bigint)
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'sparky_my_usage';
COMMENT ON FUNCTION public.my_usage(timestamptz, timestamptz) IS
'Sum up what you spent, by day and tool.

since: inclusive, default the start of the UTC month. until: exclusive, default now. Days are UTC days; credits are whole credits charged.
Errors: PT401 not_signed_in, account_gone.';

CREATE FUNCTION public.upload_image(bytea)
RETURNS jsonb LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_upload_image';
COMMENT ON FUNCTION public.upload_image(bytea) IS
'Upload a photo into your own folder.

The body is the file itself, Content-Type application/octet-stream: JPEG, PNG, WebP, HEIC or HEIF, at most sparky.max_image_bytes (7 MB). Returns path, sha256, mime_type, width, height; the same bytes give the same path.
Errors: PT401 not_signed_in, account_gone; PT413 image_too_large, storage_quota; PT415 image_type; PT429 too_many_uploads; PT503 not_configured; 25006 in a read-only transaction.';

CREATE FUNCTION public.download_image(path text, expires bigint DEFAULT NULL, signature text DEFAULT NULL)
RETURNS public."*/*" LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'sparky_download_image';
COMMENT ON FUNCTION public.download_image(text, bigint, text) IS
'Download a photo as raw bytes with its content type.

path: with its bucket, at most 500 characters. Without a signature only the signed-in owner may read; with expires (Unix seconds) and signature from an image_url anyone may, until then.
Errors: PT401 not_signed_in; PT403 forbidden (another user''s folder, an expired or wrong signature); PT404 image_not_found; PT503 not_configured.';
