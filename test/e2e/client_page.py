"""The code on doc/client.md: its pieces, and the module they make together."""

import re

from sparky_server import TREE

PAGE = TREE / 'doc/client.md'
PRELUDE = """
import { webcrypto } from 'node:crypto'
import { readFileSync } from 'node:fs'
const { SUPABASE_URL, SUPABASE_ANON_KEY, PAGE_EMAIL: email, PHOTOS } = globalThis.process.env
globalThis.crypto ??= webcrypto
const password = 'secret'
const file = new Blob([readFileSync(PHOTOS.split(':')[2])], { type: 'image/png' })
const show = address => console.log('SHOWN ' + address)
"""


def snippets():
    """(what it needs beside PostgREST, or '', and the code) of each piece."""
    return re.findall(r'^```js ?(\w*)\n(.*?)^```$', PAGE.read_text(), re.M | re.S)


def module(pieces, run=False):
    """One module of all pieces; to run: of those that need nothing else."""
    chosen = [code for needs, code in pieces if not run or not needs]
    imports = [line for code in chosen for line in code.splitlines() if line.startswith('import ')]
    body = '\n'.join(line for code in chosen for line in code.splitlines() if not line.startswith('import '))
    end = '\nglobalThis.process.exit(0)\n' if run else ''
    return '\n'.join(imports) + '\n' + PRELUDE + body + end
