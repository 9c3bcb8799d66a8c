"""The demonstration: what a newcomer sees first.

Everything goes the way a client of PostgREST goes (Client in
test/e2e/sparky_server.py); only the sign-up is a plain INSERT into auth.users,
as an auth server makes it.  What it shows it has just read from the database.
"""

import contextlib
import html
import json
import os
import pathlib
import shutil
import signal
import sys
import textwrap
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / 'test/e2e'))
import photos                                       # noqa: E402
from emulator import Emulator                       # noqa: E402
from sparky_server import Refused, Root, Server, process_alive, wait_for    # noqa: E402

OUT = HERE / 'out'
KEY = os.environ.get('GEMINI_API_KEY')
TOOL = os.environ.get('TOOL') or 'cartoon'
EXTENSIONS = {'image/jpeg': 'jpg', 'image/png': 'png', 'image/webp': 'webp', 'image/heic': 'heic', 'image/heif': 'heif'}

BOLD, DIM, GREEN, PLAIN = ('\033[1m', '\033[2m', '\033[32m', '\033[0m') if sys.stdout.isatty() else ('', '', '', '')
_steps = iter(range(1, 100))


def say(text, note=''):
    print(f'{GREEN}{next(_steps):>3}{PLAIN}  {text:<66} {DIM}{note}{PLAIN}'.rstrip(), flush=True)


def more(text):
    for line in text.splitlines():
        print(f'     {DIM}{line}{PLAIN}', flush=True)


def took(began):
    seconds = time.monotonic() - began
    return f'{seconds:.1f} s' if seconds >= 1 else f'{seconds * 1000:.0f} ms'


def credits(number):
    return 'free' if number == 0 else '1 credit' if number == 1 else f'{number} credits'


def choose_photo():
    """Bytes and a name: PHOTO, else a real photograph, else a drawn picture."""
    given = os.environ.get('PHOTO')
    if given:
        path = pathlib.Path(given)
        return path.read_bytes(), path.name
    photo = photos.real_photo()
    if photo:
        return photo, 'surfer.jpg'
    return photos.png(3, 384, 384), 'a drawn picture (no photograph could be fetched; PHOTO=FILE sets one)'


def show(result):
    if result['status'] != 'succeeded':
        raise SystemExit(f'\nThe job did not succeed:\n{json.dumps(result, indent=2)}')
    return f"{credits(result['credits_used'])}, {result['credits_remaining']} left"


def finish(client, result):
    """A call waits up to 25 seconds; a slow model takes longer."""
    while result['status'] in ('queued', 'running'):
        result = client.status(result['job_id'], wait_seconds=25)
    return result


def page(before, after, steps, analysis, name, tool, served):
    """before and after side by side, in one small file beside the pictures."""
    rows = ''.join(f'<tr><td>{html.escape(a)}<td>{html.escape(b)}<td>{html.escape(c)}</tr>' for a, b, c in steps)
    return f'''<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>sparky: before and after</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fafaf8 }}
  .pair {{ display: flex; gap: 1rem; flex-wrap: wrap }} figure {{ flex: 1 1 20rem; margin: 0 }}
  img {{ width: 100%; border-radius: 8px; display: block }} figcaption {{ color: #666; margin: .4rem 0 1rem }}
  table {{ border-collapse: collapse; width: 100% }} td {{ border-bottom: 1px solid #ddd; padding: .4rem .8rem .4rem 0 }} td + td {{ white-space: nowrap; color: #555 }}
  pre {{ background: #fff; border: 1px solid #e4e4e0; border-radius: 8px; padding: 1rem; overflow: auto }}
</style>
<h1>sparky</h1>
<div class="pair">
  <figure><img src="{before}" alt="the uploaded photo"><figcaption>before: {html.escape(name)}</figcaption></figure>
  <figure><img src="{after}" alt="the result"><figcaption>after: {html.escape(tool)}, by {html.escape(served)}</figcaption></figure>
</div>
<table>{rows}</table>
<h2>One analysis</h2>
<pre>{html.escape(json.dumps(analysis, indent=2, ensure_ascii=False))}</pre>
'''


def main():
    photo, name = choose_photo()
    print(f'\n{BOLD}sparky: one photo, from CREATE EXTENSION to a finished picture{PLAIN}\n')

    began = time.monotonic()
    root = Root.get()
    say('sparky is built and installed into a private copy of PostgreSQL', took(began))

    emulator = None if KEY else Emulator(latency_ms=1500, key='demo-key', answer='picture', outlive=bool(os.environ.get('KEEP')))
    began = time.monotonic()
    with_cron = next(pathlib.Path(root.bin).parent.glob('lib/pg_cron.so'), None) is not None
    server = Server(preload='pg_cron,sparky' if with_cron else 'sparky', emulator=emulator, key=KEY or 'demo-key', extension=False,
                    conf=["cron.database_name = 'postgres'"] if with_cron else [])
    if with_cron:
        server.psql('CREATE EXTENSION pg_cron')
    server.install()
    version = server.value('SHOW server_version').split()[0]
    say(f"PostgreSQL {version} with {'pg_cron and ' if with_cron else ''}sparky {server.value('SELECT sparky.version()')}, CREATE EXTENSION sparky", took(began))
    served = 'the Gemini API' if KEY else "the emulator (visibly, not well)"
    say('Pictures come from the Gemini API (GEMINI_API_KEY is set)' if KEY else
        'Pictures come from an emulator; set GEMINI_API_KEY for the real ones')

    user = server.sign_up('nora@example.com', raw_user_meta_data='{"username": "Nora"}')
    client = server.client(user)
    account = client.rpc('my_account')
    say(f"Nora signs up: {account['available']} credits, plan {plan_name(account)}")

    began = time.monotonic()
    upload = client.upload(photo)
    say(f"She uploads {name}, {len(photo) // 1024} kB, {upload['width']} x {upload['height']}", took(began))
    more(f"{upload['path']}\nsha256 {upload['sha256']}")

    steps, began = [], time.monotonic()
    result = finish(client, client.process(TOOL, upload['path']))
    say(f'{TOOL}: a new picture, {show(result)}', took(began))
    more(result['image_path'])
    steps.append((f'{TOOL}: a new picture', show(result), took(began)))

    began = time.monotonic()
    again = client.process(TOOL, upload['path'])
    say(f"the same again: {'from the cache' if again['cached'] else 'NOT from the cache'}, {show(again)}", took(began))
    steps.append(('the same request again, from the cache', show(again), took(began)))
    assert again['cached'] and again['image_path'] == result['image_path']

    began = time.monotonic()
    analysis = finish(client, client.analyze('skin-analysis', upload['path']))
    say(f'skin-analysis: JSON that fits its schema, {show(analysis)}', took(began))
    more(json.dumps(analysis['analysis'], indent=2, ensure_ascii=False))
    steps.append(('skin-analysis', show(analysis), took(began)))

    calls = server.query('SELECT tool_id, model, outcome, bytes_sent, bytes_received FROM sparky.provider_calls ORDER BY id')
    say(f'What it cost us: {len(calls)} calls')
    more('\n'.join(f'{tool:<14} {model}, {outcome}, {sent // 1024} kB up, {received // 1024} kB down' for tool, model, outcome, sent, received in calls))
    ledger = server.query('SELECT kind, delta, balance_after FROM public.credit_ledger WHERE user_id = %s ORDER BY id', (user,))
    say('What it cost her: the ledger')
    more('\n'.join(f'{kind:<8} {delta:+4d}  -> {balance}' for kind, delta, balance in ledger))

    picture, headers = client.download(result['image_path'])
    kind = next((v for h in headers for k, v in h.items() if k.lower() == 'content-type'), '').split(';')[0]
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    before, after = f"before.{EXTENSIONS.get(upload['mime_type'], 'bin')}", f"after.{EXTENSIONS.get(kind, 'bin')}"
    (OUT / before).write_bytes(photo)
    (OUT / after).write_bytes(picture)
    (OUT / 'index.html').write_text(page(before, after, steps, analysis['analysis'], name, TOOL, served))
    say(f'Look: {BOLD}{(OUT / "index.html").relative_to(pathlib.Path.cwd()) if OUT.is_relative_to(pathlib.Path.cwd()) else OUT / "index.html"}{PLAIN}')
    more(f'beside it {before} and {after}')

    if os.environ.get('KEEP'):
        keep(root, server, emulator, user)
    print()


def plan_name(account):
    plan = account['plan']
    return plan['name'] if isinstance(plan, dict) else plan


def keep(root, server, emulator, user):
    """Leave all of it running; write down what stop() needs."""
    (root.dir / 'kept.json').write_text(json.dumps({
        'bin': str(root.bin), 'data': str(server.data), 'dir': str(root.dir),
        'emulator': emulator and emulator.process.pid, 'emulator_dir': emulator and str(emulator.keep())}))
    root.keep()
    claims = json.dumps({'sub': str(user), 'role': 'authenticated'})
    print(textwrap.dedent(f'''
        The server is left running. To look around, and to be Nora:

            psql -h {server.dir} -p {server.port} -U postgres
            SET request.jwt.claims = '{claims}';  SET ROLE authenticated;  SELECT my_account();

        To end and remove it:  demo/demo stop {root.dir}'''))


def stop(directory):
    """End what KEEP=1 left, by the pids and paths it wrote down."""
    kept = json.loads((pathlib.Path(directory) / 'kept.json').read_text())
    command = [f"{kept['bin']}/pg_ctl", '-D', kept['data'], '-m', 'fast', '-w', 'stop']
    if os.geteuid() == 0:
        command = ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups', *command]
    os.chdir('/')
    os.spawnvp(os.P_WAIT, command[0], command)
    pid = kept['emulator']
    if pid and process_alive(pid) and os.path.basename(os.readlink(f'/proc/{pid}/exe')).startswith('emulator'):
        os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not process_alive(pid), 10)
    for path in (kept['emulator_dir'], kept['dir']):
        if path:
            shutil.rmtree(path, ignore_errors=True)


if __name__ == '__main__':
    if sys.argv[1:2] == ['stop']:
        stop(sys.argv[2])
    else:
        try:
            main()
        except Refused as refused:
            raise SystemExit(f'\nsparky said no: {refused}')
