-- The catalogue: what is seeded, and who is told when it changes.
\set tests 58
\ir setup.psql

-- seeds
SELECT set_eq('TABLE public.plans', $$VALUES (1::bigint, 'free', 10, 10), (2, 'pro', 200, 50), (3, 'premium', 600, 150)$$, 'plans');
SELECT results_eq($$INSERT INTO public.plans (name, monthly_credits, max_daily_credits) VALUES ('team', 1, 1) RETURNING id$$, 'VALUES (4::bigint)', 'the sequence goes on after them');
DELETE FROM public.plans WHERE id = 4;
SELECT set_eq($$SELECT id, type::text, credits, coalesce((SELECT string_agg(k || CASE WHEN parameter_schema -> 'required' ? k THEN '' ELSE '?' END, ' ' ORDER BY k)
		FROM jsonb_object_keys(parameter_schema -> 'properties') k), '') FROM public.tools WHERE is_active$$, $$VALUES
	('hairstyle-changer', 'TRANSFORMATION', 1, 'hair_color? hairstyle_id'), ('hair-color', 'TRANSFORMATION', 1, 'color'), ('skin-tone', 'TRANSFORMATION', 1, 'color'),
	('background', 'TRANSFORMATION', 1, 'background'), ('retouch', 'FILTER', 1, 'strength'), ('cartoon', 'FILTER', 1, ''), ('vintage', 'FILTER', 1, ''),
	('face-shape', 'ANALYSIS', 1, ''), ('skin-analysis', 'ANALYSIS', 1, ''), ('color-season', 'ANALYSIS', 1, '')$$, 'tools and their parameters');
SELECT set_eq($$SELECT t.id, p.key, coalesce(p.value ->> 'x-values', CASE WHEN p.value ? 'enum' THEN 'enum' END) FROM public.tools t, jsonb_each(t.parameter_schema -> 'properties') p$$, $$VALUES
	('hairstyle-changer', 'hairstyle_id', 'hairstyles.id'), ('hairstyle-changer', 'hair_color', 'hair_colors.hex_code'), ('hair-color', 'color', 'hair_colors.hex_code'),
	('skin-tone', 'color', 'skin_colors.hex_code'), ('background', 'background', 'enum'), ('retouch', 'strength', 'enum')$$, 'every parameter is one of a list');
SELECT is(parameter_schema #>> '{properties,strength,enum}', '["low", "medium", "high"]', 'strengths') FROM public.tools WHERE id = 'retouch';
SELECT is_empty($$SELECT id FROM public.tools WHERE parameter_schema -> 'additionalProperties' IS DISTINCT FROM 'false'$$, 'unknown parameters are refused');
SELECT is_empty($$SELECT t.id FROM public.tools t LEFT JOIN sparky.tool_settings s ON s.tool_id = t.id WHERE s.prompt IS NULL OR char_length(s.prompt) < 100$$, 'every tool has a prompt');

-- prompts: {name} is a parameter, optional ones stand in [[ ]]
CREATE VIEW tap.slots AS
	SELECT s.tool_id, m[1] AS name, s.prompt ~ ('\[\[[^\]]*\{' || m[1] || '\}[^\]]*\]\]') AS optional
	FROM sparky.tool_settings s, regexp_matches(s.prompt, '\{([^{}]*)\}', 'g') m;
SELECT set_eq('SELECT tool_id, name, optional FROM slots', $$
	SELECT t.id, k, NOT coalesce(t.parameter_schema -> 'required' ? k, false) FROM public.tools t, jsonb_object_keys(t.parameter_schema -> 'properties') k$$,
	'prompts use every parameter, and no other; an optional one in brackets');
SELECT is_empty($$SELECT tool_id FROM sparky.tool_settings WHERE regexp_replace(prompt, '\[\[[^][{}]*(\{[a-z_]+\}[^][{}]*)*\]\]|\{[a-z_]+\}', '', 'g') ~ '[][{}]'$$, 'no stray brackets');
SELECT set_eq($$SELECT t.type = 'ANALYSIS' AS analysis, s.model, s.response_schema IS NOT NULL AS has_schema, s.generation_config::text FROM public.tools t JOIN sparky.tool_settings s ON s.tool_id = t.id$$, $$VALUES
	(false, 'gemini-nano-banana-2.1', false, '{"imageConfig": {"imageSize": "1K"}}'), (true, 'gemini-3.5-flash-lite', true, '{}'), (true, 'gemini-3.8-flash', true, '{}')$$, 'models');
-- keywords that the provider and our own check both know
SELECT is_empty($$
	WITH RECURSIVE schemas(tool_id, s) AS (
		SELECT tool_id, response_schema FROM sparky.tool_settings WHERE response_schema IS NOT NULL
		UNION ALL
		SELECT tool_id, c FROM schemas, LATERAL (SELECT value FROM jsonb_each(CASE WHEN s ? 'properties' THEN s -> 'properties' ELSE '{}' END)
			UNION ALL SELECT s -> 'items' WHERE s ? 'items') n(c))
	SELECT tool_id, k FROM schemas, jsonb_object_keys(s) k
	WHERE k NOT IN ('type', 'title', 'description', 'enum', 'items', 'minItems', 'maxItems', 'minimum', 'maximum', 'anyOf', 'properties', 'additionalProperties', 'required')
		OR NOT s ? 'type'$$, 'response schemas use supported keywords');
SELECT is_empty($$SELECT tool_id, r FROM sparky.tool_settings, jsonb_array_elements_text(response_schema -> 'required') r WHERE NOT response_schema -> 'properties' ? r$$, 'what is required is described');

SELECT cmp_ok(count(*)::integer, '>=', 24, 'hairstyles') FROM public.hairstyles;
SELECT cmp_ok(count(*)::integer, '>=', 8, gender || ', pro: ' || is_pro) FROM public.hairstyles WHERE NOT is_pro GROUP BY gender, is_pro;
SELECT cmp_ok(count(*)::integer, '>=', 3, gender || ', pro: ' || is_pro) FROM public.hairstyles WHERE is_pro GROUP BY gender, is_pro;
SELECT is((SELECT count(DISTINCT (gender, is_pro)) FROM public.hairstyles), 4::bigint, 'both genders, free and pro');
SELECT is_empty($$SELECT hex_code FROM public.hair_colors WHERE hex_code !~ '^#[0-9a-f]{6}$' UNION ALL SELECT hex_code FROM public.skin_colors WHERE hex_code !~ '^#[0-9a-f]{6}$'$$, 'colours');
SELECT cmp_ok((SELECT count(*)::integer FROM public.hair_colors), '>=', 12, 'hair colours');
SELECT cmp_ok((SELECT count(*)::integer FROM public.skin_colors), '>=', 8, 'skin tones');
SELECT set_eq('SELECT DISTINCT kind FROM public.products WHERE is_active', ARRAY['plan', 'credits'], 'products of both kinds');

-- seed() again
CREATE FUNCTION tap.catalogue() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT p::text FROM public.plans p UNION ALL SELECT t::text FROM public.tools t UNION ALL SELECT s::text FROM sparky.tool_settings s
	UNION ALL SELECT h::text FROM public.hairstyles h UNION ALL SELECT c::text FROM public.hair_colors c UNION ALL SELECT k::text FROM public.skin_colors k
	UNION ALL SELECT p::text FROM public.products p UNION ALL SELECT v::text FROM public.config_versions v
$$;
CREATE FUNCTION tap.revision_of(name text) RETURNS bigint LANGUAGE sql AS $$SELECT v.revision FROM public.config_versions v WHERE v.name = revision_of.name$$;
CREATE TEMPORARY TABLE shipped AS SELECT catalogue() AS line;
SELECT sparky.seed();
SELECT sparky.seed(NULL);
SELECT sparky.seed(true);
SELECT set_eq('SELECT catalogue()', 'TABLE shipped', 'a repeated seed(), with overwrite too, changes nothing, revisions neither');
UPDATE public.tools SET credits = 3, is_active = false WHERE id = 'cartoon';
UPDATE sparky.tool_settings SET prompt = 'mine' WHERE tool_id = 'cartoon';
DELETE FROM public.hairstyles WHERE id = 'm-locs';
UPDATE public.plans SET name = 'Pro!' WHERE id = 2;
INSERT INTO public.tools (id, name_key, description_key, type, icon_name) VALUES ('own', '', '', 'FILTER', '');
SELECT sparky.seed();
SELECT results_eq($$SELECT credits, is_active, prompt, (SELECT name FROM public.plans WHERE id = 2), EXISTS (SELECT FROM public.hairstyles WHERE id = 'm-locs')
	FROM public.tools t JOIN sparky.tool_settings s ON s.tool_id = t.id WHERE t.id = 'cartoon'$$, $$VALUES (3, false, 'mine', 'Pro!', true)$$, 'seed() adds what is missing and changes nothing');
SELECT sparky.seed(true);
SELECT results_eq($$SELECT credits, is_active, prompt <> 'mine', (SELECT name FROM public.plans WHERE id = 2), EXISTS (SELECT FROM public.tools WHERE id = 'own')
	FROM public.tools t JOIN sparky.tool_settings s ON s.tool_id = t.id WHERE t.id = 'cartoon'$$, $$VALUES (1, true, true, 'pro', true)$$, 'seed(true) puts shipped rows back, own ones stay');

-- config_versions
CREATE FUNCTION tap.raises(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMPORARY TABLE v ON COMMIT DROP AS TABLE public.config_versions;
	CREATE TEMPORARY TABLE r ON COMMIT DROP AS SELECT tool_id, revision FROM sparky.tool_settings;
	EXECUTE statement;
	RETURN QUERY SELECT n.name || coalesce(nullif('+' || n.revision - v.revision, '+1'), '') FROM public.config_versions n JOIN v USING (name) WHERE n.revision <> v.revision
		UNION ALL SELECT n.tool_id || coalesce(nullif('+' || n.revision - r.revision, '+1'), '') FROM sparky.tool_settings n JOIN r USING (tool_id) WHERE n.revision <> r.revision;
	DROP TABLE v, r;
END
$$;
SELECT set_eq(format('SELECT raises(%L)', s), raised::text[], s) FROM (VALUES
	('UPDATE public.tools SET sort_order = sort_order + 1', '{tools}'),
	('UPDATE public.tools SET sort_order = sort_order', '{}'),
	('UPDATE public.tools SET sort_order = 0 WHERE false', '{}'),
	('INSERT INTO public.hair_colors (hex_code) VALUES (''#123456''), (''#654321'')', '{hair_colors}'),
	('INSERT INTO public.hair_colors (hex_code) VALUES (''#123456'') ON CONFLICT DO NOTHING', '{}'),
	('DELETE FROM public.hair_colors WHERE hex_code = ''#nothing''', '{}'),
	('UPDATE public.products SET amount_cents = 1 WHERE id = ''credits-20''', '{products}'),
	('UPDATE public.plans SET max_daily_credits = 11 WHERE id = 1', '{plans}'),
	('UPDATE public.tools SET is_active = false WHERE id = ''vintage''', '{tools}'),
	('DELETE FROM public.products WHERE id = ''credits-20''', '{products}'),
	('TRUNCATE public.products', '{products}'),
	-- and the revisions of tools, where a prompt would change
	('UPDATE public.hairstyles SET name = ''very short crop'' WHERE id = ''m-buzz-cut''', '{hairstyles,hairstyle-changer}'),
	('UPDATE public.hairstyles SET is_pro = true, image_url = ''x'', category = ''y'' WHERE id = ''m-buzz-cut''', '{hairstyles}'),
	('INSERT INTO public.hairstyles (id, name, image_url, gender, category) VALUES (''n'', ''new'', '''', ''male'', '''')', '{hairstyles}'),
	('DELETE FROM public.hairstyles WHERE id = ''n''', '{hairstyles,hairstyle-changer}'),
	('UPDATE public.skin_colors SET name = ''snow'' WHERE hex_code = ''#f9e4d4''', '{skin_colors,skin-tone}'),
	('UPDATE public.skin_colors SET sort_order = 99 WHERE hex_code = ''#f9e4d4''', '{skin_colors}'),
	('UPDATE public.hair_colors SET hex_code = ''#000001'' WHERE hex_code = ''#0b0b0d''', '{hair_colors,hair-color,hairstyle-changer}'),
	('UPDATE sparky.tool_settings SET prompt = prompt || ''.'' WHERE tool_id = ''cartoon''', '{cartoon}'),
	('UPDATE sparky.tool_settings SET model = ''m'' WHERE tool_id = ''cartoon''', '{cartoon}'),
	('UPDATE sparky.tool_settings SET system_instruction = NULL WHERE tool_id = ''cartoon''', '{cartoon}'),
	('UPDATE sparky.tool_settings SET response_schema = ''{}'' WHERE tool_id = ''face-shape''', '{face-shape}'),
	('UPDATE sparky.tool_settings SET generation_config = ''{"seed": 1}'' WHERE tool_id = ''cartoon''', '{cartoon}'),
	('UPDATE sparky.tool_settings SET timeout = ''9 seconds'', cache_ttl = ''1 hour'' WHERE tool_id = ''cartoon''', '{}'),
	('UPDATE sparky.tool_settings SET prompt = ''p'', revision = revision + 5 WHERE tool_id = ''cartoon''', '{cartoon+5}'),
	('UPDATE sparky.tool_settings SET prompt = ''q'', revision = 1 WHERE tool_id = ''cartoon''', '{cartoon}')
) c(s, raised);
-- the service role may edit the catalogue, and the triggers do their work for it
CREATE TEMPORARY TABLE noted AS SELECT revision_of('hairstyles') AS revision;
SELECT is(attempt('service_role', NULL, 'UPDATE public.hairstyles SET name = ''new name'' WHERE id = ''m-quiff'''), '1 rows', 'the service role edits');
SELECT cmp_ok(revision_of('hairstyles'), '>', (SELECT revision FROM noted), 'and the revision was raised');

-- repair() after the triggers were gone: clients and cache are told that anything may have changed
CREATE TEMPORARY TABLE versions AS TABLE public.config_versions;
CREATE TEMPORARY TABLE revisions AS SELECT tool_id, revision FROM sparky.tool_settings;
DROP TRIGGER sparky_config_update ON public.tools;
DROP TRIGGER sparky_wording_delete ON public.hairstyles;
SELECT is(sparky.missing_objects(), ARRAY['trigger sparky_wording_delete on public.hairstyles', 'trigger sparky_config_update on public.tools'], 'two triggers gone');
SELECT is(sparky.repair(), '{}', 'repair() puts them back');
SELECT is(sparky.missing_objects(), '{}', 'there they are');
SELECT set_eq('SELECT name FROM (TABLE public.config_versions EXCEPT TABLE versions) x', ARRAY['tools'], 'the table''s revision is raised');
SELECT is_empty('SELECT tool_id, revision FROM sparky.tool_settings INTERSECT TABLE revisions', 'and every tool''s');

SELECT * FROM finish();
ROLLBACK;
