/*
 * Credits: what the scheduled tidying calls beside the worker.
 */
CREATE FUNCTION sparky.grant_monthly(user_id uuid, at timestamptz DEFAULT pg_catalog.now())
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_grant_monthly';
COMMENT ON FUNCTION sparky.grant_monthly(uuid, timestamptz) IS
'Give a user the free plan''s grant of a UTC month, if it is due.

at: the moment whose month and effective plan count. What an acceptance does by itself: nobody has to call this. Tops the allowance up to plan 1''s monthly credits, once a month, only while plan 1 is the effective plan and only for an account that had the sign-up credits; missed months are not made up for.
Returns true if the month was granted now, whatever the amount; false if it was not due; NULL for a NULL argument.';
