"""doc/ and the code say the same: made pages, vectors, settings, links, names of files."""

import ast
import fnmatch
import importlib.machinery
import importlib.util
import json
import re
import shutil
import subprocess

import pytest

from sparky_server import TREE, Refused, wait_for

DOC = TREE / 'doc'
PAGES = sorted([*TREE.glob('*.md'), *DOC.glob('*.md')])
USER = '6f0b7f8e-1c55-4d0a-9d31-0f3f0c6f7a11'


def load_generate():
    loader = importlib.machinery.SourceFileLoader('generate', str(DOC / 'generate'))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('generate', loader))
    loader.exec_module(module)
    return module


generate = load_generate()


def code(page, language):
    return re.findall(rf'^```{language}\n(.*?)^```$', (DOC / page).read_text(), re.M | re.S)


# ---- pages that are made

def test_errors_are_those_of_the_code():
    text = (DOC / 'errors.md').read_text()
    assert text == generate.errors_page(text), 'run doc/generate'


def test_settings_are_those_of_the_server(server):
    """In both directions: settings_page refuses a heading too many and one too few."""
    text = (DOC / 'settings.md').read_text()
    assert text == generate.settings_page(text, server), 'run doc/generate'


def test_reference_is_that_of_the_server(server):
    assert (DOC / 'reference.md').read_text() == generate.reference_page(server), 'run doc/generate'


def test_a_setting_too_many_or_too_few_is_found(server):
    text = (DOC / 'settings.md').read_text()
    with pytest.raises(AssertionError, match='what is no setting: sparky.nonsense'):
        generate.settings_page(text + '\n### sparky.nonsense\n', server)
    with pytest.raises(AssertionError, match='does not tell of sparky.cache_ttl'):
        generate.settings_page(text.replace('### sparky.cache_ttl\n', ''), server)


# ---- the cache key, by anybody

def vectors():
    rows = re.findall(r'^\| `([a-z-]+)` \| `(\{.*\})` \| (\d+) \| `([0-9a-f]{64})` \|$', (DOC / 'cache.md').read_text(), re.M)
    assert len(rows) >= 3
    return [(tool, parameters, int(revision), key) for tool, parameters, revision, key in rows]


HASH = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'


@pytest.mark.parametrize('tool, parameters, revision, key', vectors())
def test_vectors_by_the_server(server, tool, parameters, revision, key):
    assert HASH in (DOC / 'cache.md').read_text() and USER in (DOC / 'cache.md').read_text()
    assert server.value('SELECT sparky.cache_key(%s, %s, %s, %s::jsonb, %s)', (USER, tool, HASH, parameters, revision)) == key


@pytest.mark.parametrize('tool, parameters, revision, key', [v for v in vectors() if '1e21' not in v[1]])
def test_vectors_by_the_python_of_the_page(tool, parameters, revision, key):
    recipe = {}
    exec(code('cache.md', 'python')[0], recipe)
    assert recipe['cache_key'](USER, tool, HASH, json.loads(parameters), revision) == key


@pytest.mark.parametrize('tool, parameters, revision, key', [v for v in vectors() if '1e21' not in v[1]])
def test_vectors_by_the_sql_of_the_page(server, tool, parameters, revision, key):
    statement = code('cache.md', 'sql')[0].rstrip().rstrip(';')
    sql = f'PREPARE recipe(text, text, text, jsonb, int) AS {statement};'
    sql += f"EXECUTE recipe('{USER.upper()}', '{tool}', '{HASH}', '{parameters}', {revision});"
    assert server.psql(sql) == key


@pytest.mark.skipif(shutil.which('node') is None, reason='no node here')
@pytest.mark.parametrize('tool, parameters, revision, key', vectors())
def test_vectors_by_the_javascript_of_the_page(tmp_path, tool, parameters, revision, key):
    program = tmp_path / 'key.mjs'
    program.write_text(code('cache.md', 'js')[0] + f'\nconsole.log(cacheKey({json.dumps(USER.upper())}, {json.dumps(tool)}, '
                       f'{json.dumps(HASH)}, JSON.parse({json.dumps(parameters)}), {revision}))\n')
    assert subprocess.check_output(['node', program], text=True).strip() == key


# ---- what the pages promise of the code

def test_every_public_function_has_its_section(server):
    functions = {row[0] for row in server.query("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND EXISTS"
                                                " (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid WHERE d.objid = pg_proc.oid"
                                                " AND d.deptype = 'e' AND e.extname = 'sparky')")}
    assert set(re.findall(r'^### (\w+)$', (DOC / 'api.md').read_text(), re.M)) == functions


def test_signatures_in_the_api_page(server):
    """Names and order of the arguments as psql prints them."""
    text = (DOC / 'api.md').read_text()
    for name, arguments in server.query("SELECT proname, array_to_string(proargnames[1:pronargs], ', ') FROM pg_proc"
                                        " WHERE pronamespace = 'public'::regnamespace AND proname IN (SELECT regexp_replace(unnest(%s), '', ''))",
                                        (re.findall(r'^### (\w+)$', text, re.M),)):
        forms = re.findall(rf'`{name}\((.*?)\)`', re.search(rf'^### {name}\n\n(.*)$', text, re.M)[1])
        unnamed = {'upload_image': 'bytea', 'paymob_webhooks': 'json'}
        assert (arguments or unnamed.get(name, '')) in [', '.join(a.split()[0] for a in re.split(r', ', form) if a) for form in forms], name


def test_error_words_in_the_pages_exist():
    words = {line.split('|')[3].strip(' `') for line in generate.outcome_tables()['words'][2:]}
    for page in ('api.md', 'storage.md', 'operating.md', 'errors.md', 'tools.md'):
        told = set(re.findall(r'`(?:PT)?[45]\d\d (\w+)`', (DOC / page).read_text()))
        assert told <= words, (page, told - words)


def test_the_layers_name_every_source_file():
    text = (DOC / 'architecture.md').read_text()
    layers = text[text.index('## The C code'):]
    named = set(re.findall(r'`(\w+\.[ch])`', layers))
    files = {path.name for path in (TREE / 'src').glob('*.c')}
    assert files <= named, f'not in architecture.md: {sorted(files - named)}'
    assert {n for n in named if not (TREE / 'src' / n).exists()} == set()


def test_the_layers_are_those_of_the_rules():
    rules = (TREE / 'test/rules').read_text()
    rows = ast.literal_eval(re.search(r'^ROWS = (\{.*?^\})', rules, re.M | re.S)[1])
    text = (DOC / 'architecture.md').read_text()
    told = {}
    for row, files in re.findall(r'^\| (\d) \| ((?:`\w+\.[ch]` ?)+)\|', text[text.index('## The C code'):], re.M):
        told.update({name: int(row) for name in re.findall(r'`(\w+)\.[ch]`', files)})
    for name, row in told.items():
        assert any(fnmatch.fnmatch(name, pattern) for pattern in rows[row].split()), f'{name} is not of row {row}'


def test_job_states_are_those_of_the_table(server):
    check = server.value("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'generation_jobs_status_check'")
    rows = re.findall(r'^\| `(\w+)` \|', re.search(r'## Job states\n(.*?)\n## ', (DOC / 'architecture.md').read_text(), re.S)[1], re.M)
    assert sorted(rows) == sorted(re.findall(r"'(\w+)'", check))


def first_column(page, heading):
    section = re.search(rf'^#+ {heading}\n(.*?)(?=^#+ |\Z)', (DOC / page).read_text(), re.M | re.S)[1]
    cells = re.findall(r'^\| (`.*?) \|', section, re.M)
    return [name for cell in cells for name in re.findall(r'`([\w-]+)`', cell)]


def test_keys_of_health(server):
    wait_for(lambda: server.value('SELECT sparky.health()')['worker_ready'], 15, 'the worker')
    assert sorted(first_column('operating.md', r'Is all well\?')) == sorted(server.value('SELECT sparky.health()'))


def test_keys_of_my_account(user):
    assert sorted(first_column('api.md', 'my_account')) == sorted(user.api.rpc('my_account'))


def test_keys_of_a_result(user, emulator):
    told = first_column('api.md', 'process_image')
    assert set(user.api.process('cartoon', user.photo())) <= set(told)


def test_scheduled_jobs(server):
    assert first_column('operating.md', 'Clean-up') == [row[0] for row in server.query('SELECT name FROM sparky.cron_jobs()')]


def test_shipped_tools(server):
    told = set(first_column('tools.md', 'Tools'))
    assert told == {row[0] for row in server.query('SELECT id FROM public.tools')} - {'sketch'}      # another test's


def test_the_tool_of_ones_own(server, user, emulator):
    """The lines of tools.md make a tool that works."""
    server.psql(code('tools.md', 'sql')[0])
    try:
        result = user.api.process('sketch', user.photo(), {'paper': 'white'})
        assert result['status'] == 'succeeded'
        with pytest.raises(Refused, match='bad_parameters'):
            user.api.process('sketch', user.photo(), {'paper': 'black'})
    finally:
        server.psql("UPDATE public.tools SET is_active = false WHERE id = 'sketch'")


def test_the_account_of_the_deployment_page(server):
    server.psql(code('deployment.md', 'sql')[0])
    assert server.row("SELECT u.username, u.credits FROM public.users u JOIN auth.users a USING (id) WHERE a.email = 'nora@example.com'") == ('Nora', 10)


def test_an_owner_who_is_no_superuser(server):
    """The lines of security.md, in a database of their own."""
    lines = re.search(r'create the schema.s owner before the data:\n\n((?:    .*\n)+)', (DOC / 'security.md').read_text())[1]
    server.psql('CREATE DATABASE owned')
    try:
        server.psql(lines.replace('    ', ''), db='owned')
        assert server.value('SELECT sparky.data_owner()', db='owned') == 'app'
        assert server.value("SELECT tableowner FROM pg_tables WHERE tablename = 'generation_jobs'", db='owned') == 'app'
        wait_for(lambda: server.value('SELECT sparky.health()', db='owned')['ok'], 15, 'a worker that is the owner')
        assert server.value("SELECT usename FROM pg_stat_activity WHERE backend_type = 'sparky worker' AND datname = 'owned'") == 'app'
    finally:
        server.psql('DROP DATABASE owned')
        server.psql('DROP ROLE app')


def anchors(path):
    seen = []
    for heading in re.findall(r'^#+ (.*)$', re.sub(r'^```.*?^```$', '', path.read_text(), flags=re.M | re.S), re.M):
        seen.append(re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-'))
    return seen


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if target.startswith(('http://', 'https://')):
            continue
        name, _, anchor = target.partition('#')
        path = (page.parent / name) if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_named_files_exist(page):
    for name in re.findall(r'`((?:src|sql|seeds|test|doc|demo)/[\w./-]+)`', page.read_text()):
        assert (TREE / name).exists() or name.startswith('demo/out'), name


def test_pages_point_to_each_other():
    """Every page of doc/ is reached from the README."""
    readme = (TREE / 'README.md').read_text()
    for path in DOC.glob('*.md'):
        assert f'doc/{path.name}' in readme, path.name
