/*
 * Secrets in Supabase Vault: the third place where a key may be, after setting
 * and environment.
 */
CREATE FUNCTION sparky.vault_secrets(names text[], OUT name text, OUT secret text, OUT problem text) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- Whoever may make a schema could make one of this name: only a superuser's or our own is Vault.
	IF NOT EXISTS (
		SELECT FROM pg_class c
			JOIN pg_namespace n ON n.oid = c.relnamespace
			JOIN pg_roles view_owner ON view_owner.oid = c.relowner
			JOIN pg_roles schema_owner ON schema_owner.oid = n.nspowner
		WHERE n.nspname = 'vault' AND c.relname = 'decrypted_secrets'
			AND (view_owner.rolsuper OR view_owner.rolname = sparky.data_owner())
			AND (schema_owner.rolsuper OR schema_owner.rolname = sparky.data_owner())
			AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))
	THEN
		RETURN;
	END IF;
	RETURN QUERY EXECUTE 'SELECT s.name, s.decrypted_secret, NULL::text FROM vault.decrypted_secrets s WHERE s.name = ANY ($1) AND s.decrypted_secret IS NOT NULL'
		USING names;
EXCEPTION WHEN OTHERS THEN
	name := NULL;
	secret := NULL;
	problem := SQLSTATE;	-- not the message: it may quote what it choked on
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION sparky.vault_secrets(text[]) IS
'The secrets of these names in Supabase Vault, for the data owner.

No rows where there is no vault, or one that he may not read; a row with only problem, the SQLSTATE, where it cannot be read. Never raises. For the server''s own processes: they call it when neither setting nor environment has a key.';
