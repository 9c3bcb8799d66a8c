/*
 * What sparky relies on, by name: one list for refusing to adopt foreign
 * objects, for the worker that idles while a restore is under way, and for
 * repair() and health().
 */
CREATE FUNCTION sparky.objects(OUT version integer, OUT kind text, OUT relation text, OUT name text)
RETURNS SETOF record LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	-- kind, the relation it stands on (or its schema), names
	SELECT o.version, o.kind, o.relation, n.name
	FROM (VALUES
		(1, 'type', 'public', 'tool_type gender'),
		(1, 'table', 'public', 'plans tools hairstyles hair_colors skin_colors products config_versions
			users credit_ledger notifications payments generations credit_usage generation_jobs'),
		(1, 'table', 'cache', 'kv_store'),
		(1, 'table', 'sparky', 'schema_version instance tool_settings answers provider_calls image_hashes
			request_keys stored_files erasures signup_grants'),
		(1, 'sequence', 'sparky', 'incarnations'),

		(1, 'constraint', 'public.plans', 'plans_pkey plans_name_key plans_monthly_credits_check plans_max_daily_credits_check'),
		(1, 'constraint', 'public.tools', 'tools_pkey tools_credits_check tools_parameter_schema_check'),
		(1, 'constraint', 'public.hairstyles', 'hairstyles_pkey hairstyles_name_check'),
		(1, 'constraint', 'public.hair_colors', 'hair_colors_pkey hair_colors_hex_code_check'),
		(1, 'constraint', 'public.skin_colors', 'skin_colors_pkey skin_colors_name_check'),
		(1, 'constraint', 'public.products', 'products_pkey products_plan_id_fkey products_kind_check products_credits_check
			products_period_days_check products_amount_cents_check products_currency_check products_what_check'),
		(1, 'constraint', 'public.config_versions', 'config_versions_pkey'),
		(1, 'constraint', 'public.users', 'users_pkey users_id_fkey users_plan_id_fkey users_username_check users_credits_check
			users_notification_preferences_check users_allowance_check users_debt_check users_credits_or_debt_check'),
		(1, 'constraint', 'public.credit_ledger', 'credit_ledger_pkey credit_ledger_kind_check credit_ledger_kind_reference_key'),
		(1, 'constraint', 'public.notifications', 'notifications_pkey notifications_user_id_fkey'),
		(1, 'constraint', 'public.payments', 'payments_pkey payments_user_id_fkey payments_paymob_order_id_key'),
		(1, 'constraint', 'public.generations', 'generations_pkey generations_user_id_fkey generations_tool_id_fkey generations_job_id_key'),
		(1, 'constraint', 'public.credit_usage', 'credit_usage_pkey credit_usage_user_id_fkey credit_usage_tool_id_fkey credit_usage_job_id_key'),
		(1, 'constraint', 'public.generation_jobs', 'generation_jobs_pkey generation_jobs_user_id_fkey generation_jobs_tool_id_fkey
			generation_jobs_kind_check generation_jobs_status_check generation_jobs_credits_held_check'),
		(1, 'constraint', 'cache.kv_store', 'kv_store_pkey'),
		(1, 'constraint', 'sparky.schema_version', 'schema_version_pkey'),
		(1, 'constraint', 'sparky.instance', 'instance_pkey instance_singleton_check instance_download_key_check instance_address_key_check'),
		(1, 'constraint', 'sparky.tool_settings', 'tool_settings_pkey tool_settings_tool_id_fkey tool_settings_model_check
			tool_settings_response_schema_check tool_settings_generation_config_check tool_settings_cache_ttl_check tool_settings_timeout_check'),
		(1, 'constraint', 'sparky.answers', 'answers_pkey answers_job_id_fkey'),
		(1, 'constraint', 'sparky.provider_calls', 'provider_calls_pkey'),
		(1, 'constraint', 'sparky.image_hashes', 'image_hashes_pkey'),
		(1, 'constraint', 'sparky.request_keys', 'request_keys_pkey request_keys_user_id_fkey request_keys_key_check'),
		(1, 'constraint', 'sparky.stored_files', 'stored_files_pkey'),
		(1, 'constraint', 'sparky.erasures', 'erasures_pkey erasures_bucket_id_name_key'),
		(1, 'constraint', 'sparky.signup_grants', 'signup_grants_pkey signup_grants_last_month_check'),

		(1, 'index', 'public', 'products_plan_id_idx users_plan_id_idx credit_ledger_user_id_created_at_idx
			notifications_user_id_created_at_idx payments_user_id_created_at_idx
			generations_user_id_created_at_idx generations_tool_id_idx credit_usage_user_id_created_at_idx credit_usage_tool_id_idx
			generation_jobs_active_cache_key_idx generation_jobs_run_after_idx generation_jobs_incarnation_idx
			generation_jobs_user_id_created_at_idx generation_jobs_tool_id_idx generation_jobs_finished_at_idx'),
		(1, 'index', 'cache', 'kv_store_expires_at_idx'),
		(1, 'index', 'sparky', 'provider_calls_user_id_started_at_idx provider_calls_started_at_idx provider_calls_job_id_idx
			request_keys_created_at_idx erasures_user_id_idx'),

		(2, 'table', 'public', 'orders payment_events'),
		(2, 'table', 'sparky', 'refused_callbacks plan_periods'),
		(2, 'sequence', 'sparky', 'refused_callback_slots'),
		(2, 'constraint', 'public.orders', 'orders_pkey orders_user_id_fkey orders_plan_id_fkey orders_kind_check orders_credits_check orders_period_days_check
			orders_amount_cents_check orders_merchant_order_id_key orders_intention_order_id_key orders_status_check
			orders_refunded_cents_check orders_what_check'),
		(2, 'constraint', 'public.payments', 'payments_order_id_fkey payments_transaction_id_key'),
		(2, 'constraint', 'public.payment_events', 'payment_events_pkey payment_events_order_id_fkey payment_events_source_check
			payment_events_transaction_id_state_key'),
		(2, 'constraint', 'sparky.refused_callbacks', 'refused_callbacks_pkey refused_callbacks_slot_check'),
		(2, 'constraint', 'sparky.plan_periods', 'plan_periods_pkey plan_periods_user_id_fkey plan_periods_plan_id_fkey
			plan_periods_order_id_fkey plan_periods_order_id_key plan_periods_ends_at_check'),
		(2, 'constraint', 'sparky.signup_grants', 'signup_grants_address_digest_key'),
		(2, 'index', 'public', 'orders_user_id_created_at_idx orders_plan_id_idx orders_inquire_at_idx payments_order_id_idx credit_ledger_refund_idx
			payment_events_paymob_order_id_idx payment_events_order_id_idx payment_events_review_idx'),
		(2, 'index', 'sparky', 'refused_callbacks_received_at_idx plan_periods_user_id_ends_at_idx plan_periods_plan_id_idx
			plan_periods_ungranted_idx')
	) o(version, kind, relation, names), regexp_split_to_table(o.names, '\s+') n(name)
	UNION ALL
	SELECT t.version, 'trigger', t.relation, t.name FROM sparky.triggers() t
	-- only where the bytes are ours
	UNION ALL
	SELECT 1, s.kind, s.relation, s.name
	FROM (VALUES ('constraint', 'sparky.stored_files', 'stored_files_object_id_fkey'),
		('index', 'storage', 'bucketid_objname'), ('index', 'storage', 'objects_owner_id_idx')) s(kind, relation, name)
	WHERE sparky.storage_is_ours()
$$;
COMMENT ON FUNCTION sparky.objects() IS
'Every table, type, sequence, constraint, index and trigger that sparky relies on.

version: the delta of install() that makes it; kind: type, table, sequence, constraint, index or trigger; relation: the table of a constraint or trigger, else the schema.';

CREATE FUNCTION sparky.storage_is_ours() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT EXISTS (
		SELECT FROM pg_class c JOIN pg_namespace n ON n.nspname = 'sparky' AND n.nspowner = c.relowner
		WHERE c.oid = to_regclass('storage.objects'))
$$;
COMMENT ON FUNCTION sparky.storage_is_ours() IS
'Is storage.objects our stand-in?

It is when the data owner owns it; Supabase''s belongs to a role of its own.';

CREATE FUNCTION sparky.object_exists(kind text, relation text, name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE kind
		WHEN 'type' THEN to_regtype(format('%I.%I', relation, name)) IS NOT NULL
		WHEN 'constraint' THEN EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = to_regclass(relation) AND c.conname = name AND c.convalidated)
		WHEN 'trigger' THEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = to_regclass(relation) AND t.tgname = name AND t.tgenabled <> 'D')
		WHEN 'index' THEN EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = to_regclass(format('%I.%I', relation, name)) AND i.indisvalid)
		ELSE to_regclass(format('%I.%I', relation, name)) IS NOT NULL END
$$;
COMMENT ON FUNCTION sparky.object_exists(text, text, text) IS
'Does an object of sparky.objects() exist and work?

False also for a trigger that is disabled, an index that is not valid, a constraint that is not validated.';

CREATE FUNCTION sparky.missing_objects() RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(array_agg(format(CASE WHEN o.kind IN ('constraint', 'trigger') THEN '%1$s %3$s on %2$s' ELSE '%1$s %2$s.%3$s' END,
			o.kind, o.relation, o.name) ORDER BY o.kind, o.relation, o.name), '{}')
	FROM sparky.objects() o
	WHERE NOT sparky.object_exists(o.kind, o.relation, o.name)
$$;
COMMENT ON FUNCTION sparky.missing_objects() IS
'What sparky relies on and is not there, by name; empty when all is well.

While a dump is being restored it is not empty, and the worker waits.';
