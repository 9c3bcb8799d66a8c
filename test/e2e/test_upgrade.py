"""From an older version to this one: the same as a fresh installation, with the data kept."""

import gzip
import re

import pytest

from sparky_server import Server, TREE, wait_for

OLD = '0.1.0'

# What a database is, as one can see it; both ends must agree line by line.
SHAPE = """
    SELECT 'relation ' || c.oid::regclass || ' ' || c.relkind::text || ' ' || c.relrowsecurity || ' ' || pg_get_userbyid(c.relowner)
           || ' ' || coalesce((SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(c.relacl) a), '-')
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname IN ('public', 'sparky', 'cache') AND c.relkind IN ('r', 'S', 'i', 'v')
    UNION ALL
    SELECT 'column ' || a.attrelid::regclass || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull
           || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '-') || ' ' || a.attstorage::text
           || ' ' || coalesce(array_to_string(a.attacl, ','), '-') || ' ' || coalesce(col_description(a.attrelid, a.attnum), '-')
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
     WHERE n.nspname IN ('public', 'sparky', 'cache') AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(o.oid)
      FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace
     WHERE n.nspname IN ('public', 'sparky', 'cache') AND conrelid <> 0
    UNION ALL
    SELECT 'index ' || pg_get_indexdef(i.indexrelid)
      FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname IN ('public', 'sparky', 'cache')
    UNION ALL
    SELECT 'trigger ' || pg_get_triggerdef(t.oid) FROM pg_trigger t WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'policy ' || polrelid::regclass || ' ' || polname || ' ' || polcmd::text || ' ' || polroles::text
           || ' ' || coalesce(pg_get_expr(polqual, polrelid), '-') || ' ' || coalesce(pg_get_expr(polwithcheck, polrelid), '-')
      FROM pg_policy
    UNION ALL
    SELECT 'function ' || p.oid::regprocedure || ' ' || pg_get_userbyid(p.proowner) || ' ' || p.prosecdef || ' ' || p.provolatile::text
           || ' ' || coalesce(array_to_string(p.proconfig, ','), '-') || ' ' || coalesce((SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(p.proacl) a), '-')
           || ' ' || md5(p.prosrc) || ' ' || coalesce(obj_description(p.oid, 'pg_proc'), '-')
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname = 'sparky' OR EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                                            WHERE d.objid = p.oid AND d.deptype = 'e' AND e.extname = 'sparky')
    UNION ALL
    SELECT 'published ' || pubname || ' ' || schemaname || '.' || tablename FROM pg_publication_tables
    UNION ALL
    SELECT 'member ' || pg_describe_object(d.classid, d.objid, d.objsubid)
      FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid WHERE d.deptype = 'e' AND e.extname = 'sparky'
    ORDER BY 1"""


@pytest.fixture(scope='module')
def server():
    with Server(extension=False) as server:
        if server.value('SHOW server_version_num', db='postgres') >= '170000':
            pytest.skip(f'{OLD} cannot be created from PostgreSQL 17 on: there is nothing to bring forward')
        folder = next(server.root.bin.parents[3].glob('**/extension/sparky.control')).parent
        (folder / f'sparky--{OLD}.sql').write_bytes(gzip.decompress((TREE / f'test/upgrade/sparky--{OLD}.sql.gz').read_bytes()))
        yield server


def shape(server, db):
    return [row[0] for row in server.query(SHAPE, db=db)]


def test_upgraded_is_fresh(server):
    server.query('CREATE DATABASE fresh')
    server.query('CREATE DATABASE upgraded')
    server.psql('CREATE EXTENSION sparky', db='fresh')
    server.psql(f"CREATE EXTENSION sparky VERSION '{OLD}'", db='upgraded')
    user = server.sign_up(db='upgraded')
    pro = server.sign_up(db='upgraded')
    server.query("UPDATE public.users SET plan_id = 2, plan_expires_at = now() + interval '10 days' WHERE id = %s", (pro,), db='upgraded')
    server.psql('ALTER EXTENSION sparky UPDATE', db='upgraded')
    assert shape(server, 'upgraded') == shape(server, 'fresh')
    # what there was is there, and means the same
    assert server.value('SELECT credits FROM public.users WHERE id = %s', (user,), db='upgraded') == 10
    assert server.query('SELECT plan_id, granted, ends_at > now() FROM sparky.plan_periods WHERE user_id = %s', (pro,), db='upgraded') == [(2, 0, True)]
    assert server.value('SELECT array_agg(version ORDER BY version) FROM sparky.schema_version', db='upgraded') \
        == server.value('SELECT array_agg(version ORDER BY version) FROM sparky.schema_version', db='fresh')
    assert server.query('SELECT * FROM sparky.audit()', db='upgraded') == []
    assert server.query('SELECT * FROM sparky.audit()', db='fresh') == []


def test_new_library_waits_for_the_update(server):
    """Between the new library and the update: nothing is lost, the operator is told, and it goes on by itself."""
    server.query('CREATE DATABASE between')
    server.psql(f"CREATE EXTENSION sparky VERSION '{OLD}'", db='between')
    server.sign_up(db='between')
    wait_for(lambda: any('ALTER EXTENSION sparky UPDATE' in line for line in server.value('SELECT sparky.health()', db='between')['problems']), 30, 'health to tell')
    server.psql('ALTER EXTENSION sparky UPDATE', db='between')
    wait_for(lambda: not any('ALTER EXTENSION' in line for line in server.value('SELECT sparky.health()', db='between')['problems']), 30, 'the worker to go on')


def test_the_library_knows_its_schema(server):
    """instance.c's number is the newest delta."""
    source = (TREE / 'src/instance.c').read_text()
    server.query('CREATE DATABASE numbers')
    server.psql('CREATE EXTENSION sparky', db='numbers')
    assert int(re.search(r'SPARKY_SCHEMA_VERSION (\d+)', source)[1]) == server.value('SELECT sparky.latest_version()', db='numbers')
