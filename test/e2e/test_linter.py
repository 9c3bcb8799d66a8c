"""The rules of Supabase's database linter that concern sparky, over members of the extension and everything else of ours alike.

The platform's own linter skips what belongs to an extension, and whole schemas;
here nothing is skipped.  Each rule is shown to find a violation that was planted.
"""

import contextlib

import pytest
from sparky_server import Server
from supabase_shape import CONF as SHAPE_CONF, make_server

# Everything of ours: tables and functions of these schemas, policies wherever ours are.
OURS = "('public', 'sparky', 'cache')"
EXPOSED = "('public')"
POLICIES = f"""(SELECT p.oid, p.polname, p.polrelid, p.polcmd, p.polpermissive, p.polroles, c.relnamespace::regnamespace::text AS schema, c.relrowsecurity,
        c.oid::regclass::text AS relation, coalesce(pg_get_expr(p.polqual, p.polrelid), '') AS qual, coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') AS checked,
        CASE p.polroles WHEN '{{0}}' THEN ARRAY['public'] ELSE ARRAY(SELECT r.rolname::text FROM pg_roles r WHERE r.oid = ANY (p.polroles)) END AS roles
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    WHERE c.relnamespace::regnamespace::text IN {OURS} OR p.polname LIKE 'Sparky: %%')"""

# name: (what it finds, as text; what plants a violation; a piece of what is then found)
RULES = {
    '0001_unindexed_foreign_keys': (f"""
        SELECT k.conrelid::regclass || ' ' || k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE k.contype = 'f' AND c.relnamespace::regnamespace::text IN {OURS}
            AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indpred IS NULL
                AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey)""",
        'CREATE TABLE public.planted (id bigint PRIMARY KEY, user_id uuid CONSTRAINT planted_fk REFERENCES auth.users); '
        'CREATE INDEX ON public.planted (id, user_id); ALTER TABLE public.planted ENABLE ROW LEVEL SECURITY', 'planted_fk'),
    '0002_auth_users_exposed': (f"""
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_rewrite w ON w.ev_class = c.oid JOIN pg_depend d ON d.objid = w.oid AND d.classid = 'pg_rewrite'::regclass
        WHERE c.relkind IN ('v', 'm') AND c.relnamespace::regnamespace::text IN {EXPOSED} AND d.refobjid = to_regclass('auth.users')""",
        'CREATE VIEW public.planted WITH (security_invoker) AS SELECT id FROM auth.users', 'planted'),
    '0003_auth_rls_initplan': (f"""
        SELECT relation || ' ' || polname FROM {POLICIES} p
        WHERE regexp_replace(qual || ' ' || checked, '\\(\\s*SELECT (auth\\.(uid|role|jwt|email)\\(\\)|realtime\\.topic\\(\\)|current_setting\\()', '', 'gi')
            ~* '(auth\\.(uid|role|jwt|email)|current_setting)\\('""",
        "CREATE POLICY planted ON public.users FOR DELETE TO authenticated USING (auth.uid() = id)", 'planted'),
    '0004_no_primary_key': (f"""
        SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace::regnamespace::text IN {OURS}
            AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)""",
        'CREATE TABLE public.planted (a int); ALTER TABLE public.planted ENABLE ROW LEVEL SECURITY', 'planted'),
    '0006_multiple_permissive_policies': (f"""
        SELECT relation || ' ' || role || ' ' || command || ': ' || string_agg(polname, ', ')
        FROM {POLICIES} p, unnest(CASE WHEN p.roles = '{{public}}' THEN ARRAY['anon', 'authenticated', 'authenticator', 'dashboard_user', 'service_role'] ELSE p.roles END) role,
            unnest(CASE p.polcmd WHEN '*' THEN ARRAY['r', 'a', 'w', 'd'] ELSE ARRAY[p.polcmd::text] END) command
        WHERE p.polpermissive GROUP BY relation, role, command HAVING count(*) > 1""",
        "CREATE POLICY planted ON public.users FOR ALL USING (false)", 'planted'),
    '0007_policy_exists_rls_disabled': (f'SELECT DISTINCT relation FROM {POLICIES} p WHERE NOT relrowsecurity',
        'ALTER TABLE public.users DISABLE ROW LEVEL SECURITY', 'users'),
    '0008_rls_enabled_no_policy': (f"""
        SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND c.relnamespace::regnamespace::text IN {OURS}
            AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)""",
        'CREATE TABLE public.planted (a int PRIMARY KEY); ALTER TABLE public.planted ENABLE ROW LEVEL SECURITY', 'planted'),
    '0009_duplicate_index': (f"""
        SELECT string_agg(i.indexrelid::regclass::text, ', ') FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        WHERE c.relnamespace::regnamespace::text IN {OURS}
        GROUP BY i.indrelid, i.indkey::text, i.indclass::text, i.indoption::text, coalesce(pg_get_expr(i.indpred, i.indrelid), ''), coalesce(pg_get_expr(i.indexprs, i.indrelid), ''),
            (SELECT relam FROM pg_class x WHERE x.oid = i.indexrelid)
        HAVING count(*) > 1""",
        'CREATE INDEX planted ON public.users (plan_id)', 'planted'),
    '0010_security_definer_view': (f"""
        SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'v' AND c.relnamespace::regnamespace::text IN {OURS}
            AND NOT coalesce(c.reloptions, '{{}}') && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1', 'security_invoker=yes']""",
        'CREATE VIEW public.planted AS SELECT id FROM public.plans', 'planted'),
    # sparky's C functions pin the path around each of their statements; every other must carry it
    '0011_function_search_path_mutable': (f"""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace::regnamespace::text IN {OURS} AND p.prokind = 'f' AND l.lanname <> 'c'
            AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search_path=%%')""",
        "CREATE FUNCTION sparky.planted() RETURNS int LANGUAGE sql AS 'SELECT 1'", 'planted'),
    '0013_rls_disabled_in_public': (f"""
        SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind IN ('r', 'p') AND NOT c.relrowsecurity AND c.relnamespace::regnamespace::text IN {OURS}""",
        'CREATE TABLE public.planted (a int PRIMARY KEY)', 'planted'),
    '0014_extension_in_public': (f"""
        SELECT extname::text FROM pg_extension WHERE extnamespace::regnamespace::text IN {EXPOSED}""",
        'CREATE EXTENSION citext SCHEMA public', 'citext'),
    '0015_rls_references_user_metadata': (f"""
        SELECT relation || ' ' || polname FROM {POLICIES} p WHERE qual || checked ~ 'user_metadata'""",
        "CREATE POLICY planted ON public.users FOR DELETE TO authenticated USING ((SELECT auth.jwt()) -> 'user_metadata' ->> 'admin' = 'true')", 'planted'),
    '0016_materialized_view_in_api': (f"""
        SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'm' AND c.relnamespace::regnamespace::text IN {OURS}""",
        'CREATE MATERIALIZED VIEW public.planted AS SELECT 1 AS a', 'planted'),
    '0018_unsupported_reg_types': (f"""
        SELECT c.oid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace::regnamespace::text IN {OURS} AND a.attnum > 0 AND a.atttypid::regtype::text LIKE 'reg%%'""",
        'CREATE TABLE public.planted (a regproc PRIMARY KEY)', 'planted.a'),
    '0021_fkey_to_auth_unique': (f"""
        SELECT k.conrelid::regclass || ' ' || k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class target ON target.oid = k.confrelid
            JOIN pg_index i ON i.indexrelid = k.conindid
        WHERE k.contype = 'f' AND c.relnamespace::regnamespace::text IN {OURS} AND target.relnamespace::regnamespace::text = 'auth' AND NOT i.indisprimary""",
        'CREATE TABLE public.planted (phone text PRIMARY KEY CONSTRAINT planted_fk REFERENCES auth.users (phone))', 'planted_fk'),
    '0023_sensitive_columns_exposed': (f"""
        SELECT c.oid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relkind IN ('r', 'p', 'v', 'm') AND c.relnamespace::regnamespace::text IN {EXPOSED} AND a.attnum > 0 AND NOT a.attisdropped
            AND a.attname ~ '(password|passwd|secret|token|api_?key|private_key|card|cvv|ssn|iban)'
            AND (NOT c.relrowsecurity OR has_column_privilege('anon', c.oid, a.attnum, 'SELECT') OR has_column_privilege('authenticated', c.oid, a.attnum, 'SELECT'))""",
        'CREATE TABLE public.planted (password text PRIMARY KEY)', 'planted.password'),
    '0024_rls_policy_always_true': (f"""
        SELECT relation || ' ' || polname FROM {POLICIES} p
        WHERE polcmd <> 'r' AND polpermissive AND (btrim(qual, '() ') = 'true' OR btrim(checked, '() ') = 'true') AND roles && ARRAY['public', 'anon', 'authenticated']""",
        "CREATE POLICY planted ON public.notifications FOR INSERT TO authenticated WITH CHECK (true)", 'planted'),
    '0028_0029_security_definer_function_executable': (f"""
        SELECT r.rolname || ' ' || p.oid::regprocedure FROM pg_proc p, pg_roles r
        WHERE p.pronamespace::regnamespace::text IN {OURS} AND p.prosecdef AND r.rolname IN ('anon', 'authenticated') AND has_function_privilege(r.oid, p.oid, 'EXECUTE')""",
        "CREATE FUNCTION public.planted() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT 1'", 'anon planted()'),
}


def plain(server):
    server.psql('CREATE EXTENSION sparky')


def supabase(server):
    make_server(server, cron=False)
    server.psql('CREATE EXTENSION sparky', user='postgres')


def embedded(server):
    make_server(server, storage=False, cron=False)
    server.psql('CREATE EXTENSION sparky', user='postgres')


@pytest.fixture(scope='module', params=[plain, supabase, embedded], ids=['plain', 'supabase', 'supabase-embedded'])
def server(request):
    options = {} if request.param is plain else {'superuser': 'supabase_admin'}
    with Server(conf=["sparky.databases = ''"], extension=False, prepare=request.param, **options) as server:
        yield server


def found(cursor, rule):
    cursor.execute(RULES[rule][0].replace('%%', '%'))
    return sorted(row[0] for row in cursor.fetchall())


@contextlib.contextmanager
def rolled_back(server):
    connection = server.connect(autocommit=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute('SET LOCAL search_path = public')        # expressions are printed with auth.uid(), not uid()
            yield cursor
    finally:
        connection.rollback()
        connection.close()


@pytest.mark.parametrize('rule', RULES)
def test_rule(server, rule):
    with rolled_back(server) as cursor:
        assert found(cursor, rule) == []
        cursor.execute(RULES[rule][1])
        after = found(cursor, rule)
        assert any(RULES[rule][2] in subject for subject in after), after


def test_our_policies_name_their_roles(server):
    """A policy without TO is evaluated for everybody."""
    with rolled_back(server) as cursor:
        cursor.execute(f"SELECT relation || ' ' || polname FROM {POLICIES} p WHERE roles = '{{public}}'".replace('%%', '%'))
        assert cursor.fetchall() == []


def test_buckets_are_private(server):
    assert server.query("SELECT id FROM storage.buckets WHERE public") == []
