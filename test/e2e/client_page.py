"""The code on doc/client.md: its pieces, and the module they make together."""

import itertools
import re

from sparky_server import TREE

PAGE = TREE / 'doc/client.md'
# What the page says is the app's own, and what a browser has and Debian's node has not.
PRELUDE = """
import { webcrypto } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { WebSocket } from 'ws'
const { SUPABASE_URL, SUPABASE_ANON_KEY, PAGE_EMAIL: email, PHOTOS } = globalThis.process.env
globalThis.crypto ??= webcrypto
globalThis.WebSocket ??= WebSocket
const password = 'secret'
const file = new Blob([readFileSync(PHOTOS.split(':')[2])], { type: 'image/png' })
const show = address => console.log('SHOWN ' + address)
const window = { location: { assign: address => console.log('SENT TO ' + address) } }
// between two pieces: the test does what happens outside of the page, and answers with a line
const answers = createInterface({ input: globalThis.process.stdin })[Symbol.asyncIterator]()
const step = async name => { console.log('STEP ' + name); await answers.next() }
"""


def snippets():
    """(what it needs beside PostgREST, or '', and the code) of each piece."""
    return re.findall(r'^```js ?(\w*)\n(.*?)^```$', PAGE.read_text(), re.M | re.S)


def module(pieces, without=(), between=None):
    """One module of the pieces as they stand there, less those that need what is not there.
    between: code of a test to be put behind a piece, by what it needs and its number among those: {'realtime 2': …}; '' ends the module."""
    numbers, code = {}, []
    for needs, piece in pieces:
        if needs in without:
            continue
        count = numbers.setdefault(needs, itertools.count(1))
        code += [piece, (between or {}).get(f'{needs} {next(count)}', '')]
    lines = '\n'.join(code).splitlines()
    imports = [line for line in lines if line.startswith('import ')]
    body = [line for line in lines if not line.startswith('import ')]
    return '\n'.join(imports) + '\n' + PRELUDE + '\n'.join(body) + '\n' + (between or {}).get('', '')
