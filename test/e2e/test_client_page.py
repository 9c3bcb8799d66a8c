"""doc/client.md, read by node: each piece alone and all together. They are run by the suite client (test/js)."""

import re
import shutil
import subprocess

import pytest
from client_page import PAGE, module, snippets
from sparky_server import TREE

pytestmark = pytest.mark.skipif(shutil.which('node') is None, reason='node is not here')


def check(tmp_path, code):
    script = tmp_path / 'piece.mjs'
    script.write_text(code)
    return subprocess.run(['node', '--check', script], capture_output=True, text=True, timeout=60)


def test_every_piece_is_marked_as_what_it_needs():
    kinds = [needs for needs, _ in snippets()]
    assert len(kinds) >= 12 and set(kinds) == {'', 'storage', 'realtime', 'checkout'}
    assert len(kinds) == len(re.findall(r'^```js', PAGE.read_text(), re.M))


def test_pieces_parse(tmp_path):
    for needs, code in snippets():
        done = check(tmp_path, code)
        assert done.returncode == 0, code + done.stderr
    done = check(tmp_path, module(snippets()))
    assert done.returncode == 0, done.stderr
    assert check(tmp_path, 'const a = ;').returncode != 0


def test_it_names_functions_and_columns_that_exist():
    sql = '\n'.join(p.read_text() for p in (TREE / 'sql').glob('[0-9]*.sql'))
    text = PAGE.read_text()
    for function in re.findall(r"(?:ask|rpc)\('(\w+)'", text) + re.findall(r'/rpc/(\w+)', text):
        assert f'FUNCTION public.{function}(' in sql, function
    for table in re.findall(r"from\('(\w+)'\)\.select|table: '(\w+)'", text):
        assert f"TABLE public.{''.join(table)} (" in sql, table


def test_the_other_client_code_parses(tmp_path):
    for script in (TREE / 'test/js').glob('*.test.mjs'):
        assert check(tmp_path, script.read_text()).returncode == 0, script
