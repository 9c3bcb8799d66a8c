"""supabase-js and the page's client code, run: part of `make check`, and `make check-postgrest`.

POSTGREST=/path/to/postgrest runs them against it.  Without, they run against the
stand-in of gateway.py, which says PostgREST's SQL but is not PostgREST: then
supabase-js, the functions and the rights are tested, and PostgREST's own reading
of requests is not.  Auth and Realtime are stand-ins always; Storage, Paymob and
Gemini are played by test/emulator.
"""

import contextlib
import json
import pathlib
import queue
import re
import subprocess
import threading

import pytest
from client_page import module, snippets
from emulator import send_callbacks
from photos import png
from sparky_server import wait_for

SECONDS = 120               # a loaded machine is slow; nothing waits longer than it must
# Behind the second piece of "Be told": both channels are joined, somebody else's picture is made, then one of the page's own.
LISTENING = """
while (supabase.getChannels().length < 2 || supabase.getChannels().some(channel => channel.state !== 'joined')) await new Promise(done => setTimeout(done, 20))
await step('listening')
console.log('OWN JOB ' + (await process('vintage', path)).job_id)
await step('told')
"""
AFTER_ORDER = "await step('ordered')\n"
STORED = """
console.log('STORED ' + JSON.stringify({ path: stored.path, ...await process('cartoon', stored.path) }))
"""
END = "globalThis.process.exit(0)\n"


class Page:
    """A module in node; what it writes, line by line, and what the test does at its steps."""

    def __init__(self, directory, code, environment):
        script = directory / 'page.mjs'
        script.write_text(code)
        self.process = subprocess.Popen(['node', script], env=environment, cwd=directory, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines = []
        self.steps = queue.Queue()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip('\n'))
            if line.startswith('STEP '):
                self.steps.put(line.split()[1])
        self.steps.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.reader.join(20)
        self.process.stdin.close()
        self.process.stdout.close()

    def run(self, **steps):
        """Until it has ended; steps: what is done at each."""
        while True:
            name = self.steps.get(timeout=SECONDS)
            if name is None:
                break
            steps.pop(name)()
            self.process.stdin.write('\n')
            self.process.stdin.flush()
        assert self.process.wait(20) == 0 and not steps, self.said()

    def said(self):
        return '\n'.join(self.lines)

    def wait_said(self, pattern):
        return wait_for(lambda: re.search(pattern, self.said(), re.M), SECONDS, f'{pattern} in\n{self.said()}')


@pytest.mark.parametrize('script, tests', [('client', 8), ('realtime', 7)])
def test_supabase_js(world, client, script, tests):
    done = subprocess.run(['node', '--test', client / f'{script}.test.mjs'], env=world.environment, cwd=client, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and f'# pass {tests}' in done.stdout.replace('ℹ', '#'), done.stdout[-6000:] + done.stderr


def test_the_page_runs(world, client):
    """All of doc/client.md in one module, as it stands there; without Supabase Storage, less what needs it."""
    server, user, other = world.server, world.users['page@example.com'], world.users['other@example.com']
    between = {'realtime 2': LISTENING, 'checkout 1': AFTER_ORDER, '': (STORED if world.photos_in_storage else '') + END}
    others = {}

    def listening():
        """What the page must not hear of, and then what everybody hears."""
        with server.client(other) as api:
            others['job'] = api.process('vintage', api.upload(png(77001))['path'], wait_seconds=0)['job_id']
            assert api.finish(others['job'], SECONDS)['status'] == 'succeeded'
        server.value("SELECT sparky.adjust_credits(%s, 5, 'a present')", (other,), user='postgres')
        server.query("UPDATE public.tools SET sort_order = sort_order + 1 WHERE id = 'retouch'", user='postgres')

    def told():
        """In the order of the commits, so what was somebody else's would have come before."""
        job = page.wait_said(r'^OWN JOB (\S+)$')[1]
        page.wait_said(rf'^{job} generating$')
        page.wait_said(rf'^{job} succeeded$')
        page.wait_said(rf'^{job} succeeded \d+$')
        page.wait_said('^read tools again$')

    def ordered():
        """Paymob takes the money, and its callback comes by the gateway."""
        page.wait_said('^SENT TO http')
        order, = server.row('SELECT intention_order_id FROM public.orders WHERE user_id = %s', (user,))
        event = world.emulator.pay(order)
        assert send_callbacks(world.gateway.url + '/rest/v1/rpc/paymob_webhooks', [event]) == [200]
        wait_for(lambda: server.row("SELECT 1 FROM public.orders WHERE user_id = %s AND status = 'paid'", (user,)), SECONDS, 'the order to be paid')
        page.wait_said(rf"^{server.value('SELECT credits FROM public.users WHERE id = %s', (user,))} 1$")

    with Page(client, module(snippets(), () if world.photos_in_storage else ('storage',), between), world.environment) as page:
        page.run(listening=listening, told=told, ordered=ordered)
        said = page.said()
    assert '10 credits, plan free' in said
    assert '1 used, 9 left' in said and re.search('^SHOWN http', said, re.M), said
    assert re.search(r'^image/\w+ \d+$', said, re.M), said
    assert others['job'] not in said and str(other) not in said
    assert server.value("SELECT count(*) FROM public.generations WHERE user_id = %s AND image_url IS NOT NULL AND tool_id = 'hairstyle-changer'", (user,)) == 0
    if world.photos_in_storage:
        what_storage_has(world, page)


def what_storage_has(world, page):
    """The page's own upload is the file as it was, under the user's name, and is processed; the link that its client made is one of the gateway's."""
    storage = world.server.storage
    stored = json.loads(page.wait_said('^STORED (.*)$')[1])
    row = storage.row('user_uploads/' + stored['path'])
    assert storage.get('user_uploads/' + stored['path']) == pathlib.Path(world.environment['PHOTOS'].split(':')[2]).read_bytes()
    assert row['owner_id'] == str(world.users['page@example.com']) and row['metadata']['mimetype'] == 'image/png', row
    assert stored['status'] == 'succeeded'
    assert len(re.findall(f'^SHOWN {world.gateway.url}/storage/v1/object/sign/generations/', page.said(), re.M)) == 2, page.said()
