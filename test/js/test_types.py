"""The types that `supabase gen types typescript` makes of sparky's schema, made by its generator and read by the compiler."""

import subprocess

import pytest
from postgrest_call import functions

# Called with fetch, for their bytes: the generator leaves out what takes an unnamed bytea, and has no type for a domain named */*.
BYTES = {'upload_image', 'download_image'}
SAMPLES = {'text': "''", 'uuid': "''", 'timestamp with time zone': "''", 'integer': '1', 'bigint': '1', 'boolean': 'true', 'jsonb': '{}'}
OLDEST_NODE = (20, 19)              # of the generator's formatter
pytestmark = pytest.mark.parametrize('world', ['embedded'], indirect=True)          # the schema is the same in both
RULES = """
type Functions = Database['public']['Functions']
type Rows = { [T in keyof Database['public']['Tables']]: Database['public']['Tables'][T]['Row'] }
type Same<A, B> = [A] extends [B] ? [B] extends [A] ? true : false : false
type Known<T> = unknown extends T ? false : true
type Unknown<T> = { [K in keyof T]: unknown extends T[K] ? K : never }[keyof T]
"""


@pytest.fixture(scope='module')
def types(world, client):
    """database.types.ts, made of the world's database as its owner sees it."""
    version = subprocess.run(['node', '--version'], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(map(int, version.lstrip('v').split('.')[:2])) < OLDEST_NODE:
        pytest.skip(f'the generator of types needs Node {OLDEST_NODE[0]}.{OLDEST_NODE[1]}, this is {version}')
    done = subprocess.run(['node', 'types.mjs'], cwd=client, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
                          env={**world.environment, 'PG_CONNECTION': f'postgres://postgres@127.0.0.1:{world.server.port}/postgres'})
    assert done.returncode == 0 and not done.stderr, done.stderr
    (client / 'database.types.ts').write_text(done.stdout)
    return done.stdout


def compiled(client, name, code):
    """What the compiler says of a module beside the types; nothing, if it is content."""
    (client / name).write_text(code)
    done = subprocess.run(['node', 'node_modules/typescript/bin/tsc', '--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--lib', 'es2022,dom',
                           '--module', 'nodenext', name], cwd=client, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert (done.returncode == 0) == (done.stdout == ''), done.stdout + done.stderr
    return done.stdout


def test_functions_and_tables(world, client, types):
    """Every function with its arguments and a result, every table with its columns, and nothing unknown."""
    lines = ["import type { Database } from './database.types.js'", RULES]
    for number, f in enumerate(functions(world.server)):
        if f.name in BYTES or f.unnamed():
            continue
        given = {name: SAMPLES[type] for name, type in zip(f.names, f.types)}
        for arguments in (given, dict(list(given.items())[:f.required])):
            lines.append(f"({{ {', '.join(f'{k}: {v}' for k, v in arguments.items())} }}) satisfies Functions['{f.name}']['Args']")
        lines.append(f"const f{number}: Known<Functions['{f.name}']['Returns']> = true")
    tables = dict(world.server.query("SELECT c.relname::text, array_agg(attname::text) FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid"
                                     " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped GROUP BY 1"))
    for table, columns in tables.items():
        lines.append(f"const {table}: [Same<keyof Rows['{table}'], {' | '.join(map(repr, columns))}>, Same<Unknown<Rows['{table}']>, never>] = [true, true]")
    lines.append(f"const all: Same<keyof Rows, {' | '.join(map(repr, tables))}> = true")
    assert len(tables) >= 16 and sum('satisfies' in line for line in lines) >= 18
    assert compiled(client, 'surface.ts', ';\n'.join(lines) + '\n') == ''
    assert types.count('unknown') == 1 and 'download_image' in types        # and that one is no client's to read: see BYTES


def test_a_client_compiles(client, types):
    text = (client / 'client.ts').read_text()
    assert compiled(client, 'client.ts', text) == ''
    assert text.count('@ts-expect-error') == 5              # where there is no error the compiler says so
