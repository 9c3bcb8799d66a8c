"""Run the suites, two at a time, count single tests, close with one line.

A suite is a name and a function that returns what to run and how to read it.
Every suite that needs a server gets its own, from one private root that is
made once (SPARKY_PGROOT hands it to the pytest processes).  The long ones start
first, so that the two lanes end together.
"""

import concurrent.futures
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / 'test/e2e'))
from sparky_server import Root, Server, build_lock                   # noqa: E402

OUT = TREE / 'test/out'
LANES = int(os.environ.get('SPARKY_TEST_LANES', 2))
MINUTES = 20                    # a suite that takes longer hangs
FIRST = ('test_soak', 'test_payments', 'test_storage', 'test_crash', 'test_faults', 'test_checkout', 'test_fuzz', 'test_databases', 'test_install', 'test_dump', 'test_client')


# ---- reading what a program says: (passed, failed, skipped)

def count_tap(text):
    """Top-level TAP lines: of a test program, and of prove -v, which copies them through."""
    passed = failed = skipped = 0
    for line in text.splitlines():
        found = re.match(r'(not )?ok \d+(.*)', line)
        if not found:
            continue
        if re.search(r'# skip', found[2], re.I):
            skipped += 1
        elif found[1] and not re.search(r'# todo', found[2], re.I):
            failed += 1
        else:
            passed += 1
    return passed, failed, skipped


def count_pytest(text):
    last = [line for line in text.splitlines() if re.search(r'\d+ (passed|failed|error|skipped)', line)][-1:]
    number = {word: int(n) for n, word in re.findall(r'(\d+) (passed|failed|error|skipped)', last[0])} if last else {}
    return number.get('passed', 0), number.get('failed', 0) + number.get('error', 0), number.get('skipped', 0)


def count_regress(text):
    """pg_regress and pg_isolation_regress, in the words of PostgreSQL 15 and the TAP of 16 and later."""
    if re.search(r'^(# )?(not )?ok \d+', text, re.M):
        return count_tap(text)
    return len(re.findall(r'\.\.\. ok\b', text)), len(re.findall(r'\.\.\. FAILED', text)), 0


# ---- the suites

class Context:
    """What a running suite may use; its servers go with it."""

    def __init__(self, log):
        self.log, self.stack = log, contextlib.ExitStack()

    def server(self, **options):
        return self.stack.enter_context(Server(**options))

    def run(self, command, environment=None, cwd=TREE):
        """Output goes to the suite's log; its end by time is a failure."""
        env = {**os.environ, 'SPARKY_PGROOT': str(Root.get().bin), 'LC_ALL': 'C.UTF-8', **(environment or {})}
        start = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, 'a') as out:
            process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                       cwd=cwd, env=env, start_new_session=True)
            try:
                process.wait(MINUTES * 60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGTERM)
                time.sleep(5)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                out.write(f'\nended after {MINUTES} minutes\n')
        with open(self.log, errors='replace') as f:
            f.seek(start)
            return process.returncode, f.read()


def libpq(server, db='postgres'):
    return {'PGHOST': str(server.dir), 'PGPORT': str(server.port), 'PGUSER': 'postgres', 'PGDATABASE': db,
            'PATH': f"{server.root.bin}:{os.environ.get('PATH', '/usr/bin:/bin')}"}


def rules(context):
    return count_tap, context.run([TREE / 'test/rules'])


def unit(context):
    return count_tap, context.run(['prove', '-v', TREE / 'test/unit/t'])


def fuzz(context):
    """A minute of libFuzzer over the reader of Paymob's callbacks; a crash, a leak of a promise or a hang ends make with an error."""
    status, text = context.run(['make', '-s', '-C', TREE / 'test/unit', 'fuzz-paymob', 'FUZZ_SECONDS=60'])
    runs = re.search(r'stat::number_of_executed_units:\s*(\d+)', text)
    survived = status == 0 and runs is not None and int(runs[1]) > 0
    with open(context.log, 'a') as out:
        print('ok' if survived else 'not ok', '1 - callbacks of Paymob,', runs[1] if runs else 'no', 'bodies', file=out)
    return (lambda text: (int(survived), int(not survived), 0)), (0 if survived else 1, text)


def unit_http(context):
    return count_tap, context.run(['make', '-s', '-C', TREE / 'test/unit/http', 'check'])


def emulator_self(context):
    return count_pytest, context.run(['make', '-s', '-C', TREE / 'test/emulator', 'check'])


def regress_program(kind):
    found = sorted(pathlib.Path(subprocess.check_output([os.environ.get('PG_CONFIG', 'pg_config'), '--pgxs'], text=True).strip())
                   .parent.parent.glob(f'test/*/{kind}'))
    if not found:
        raise RuntimeError(f'{kind} is not part of this PostgreSQL')
    return found[0]


def regress(context):
    server = context.server(extension=False)
    tests = sorted(path.stem for path in (TREE / 'test/sql').glob('*.sql'))
    return count_regress, context.run(
        [regress_program('pg_regress'), '--inputdir=test', f'--outputdir={OUT}/regress', f'--bindir={server.root.bin}',
         f'--host={server.dir}', f'--port={server.port}', '--user=postgres', '--dbname=regression', '--load-extension=sparky', *tests], libpq(server))


def isolation(context):
    from emulator import Emulator
    emulator = context.stack.enter_context(Emulator(answer='tiny', key='test-key-Zq8'))
    server = context.server(extension=False, emulator=emulator)
    tests = sorted(path.stem for path in (TREE / 'test/isolation/specs').glob('*.spec'))
    return count_regress, context.run(
        [regress_program('pg_isolation_regress'), '--inputdir=test/isolation', f'--outputdir={OUT}/isolation', f'--bindir={server.root.bin}',
         f'--host={server.dir}', f'--port={server.port}', '--user=postgres', '--dbname=isolation', '--load-extension=sparky', *tests], libpq(server))


def pgtap(context):
    server = context.server(extension=False)
    server.psql('CREATE DATABASE pgtap')
    # default privileges that hand everything to the client roles, as on Supabase, are in force while sparky is installed
    server.psql('''CREATE ROLE anon NOLOGIN; CREATE ROLE authenticated NOLOGIN; CREATE ROLE service_role NOLOGIN BYPASSRLS;
        ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated, service_role;
        ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
        ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
        CREATE EXTENSION sparky; CREATE EXTENSION pgtap;''', db='pgtap')
    tests = sorted((TREE / 'test/pgtap').glob('*.sql'))
    return count_tap, context.run(['pg_prove', '--verbose', *tests], libpq(server, 'pgtap'))


def e2e(path):
    def run(context):
        return count_pytest, context.run([sys.executable, '-m', 'pytest', '-q', path.name], cwd=path.parent)
    return run


def client(context):
    """supabase-js and the snippets of doc/client.md. What npm cannot install is skipped, with the reason on a line of its own."""
    status, text = context.run([sys.executable, '-m', 'pytest', '-q', '.'], cwd=TREE / 'test/js')
    for reason in sorted(set(re.findall(r'^SKIPPED \[\d+\] \S+ (.*)', text, re.M))):
        with print_lock:
            print('     client, skipped:', reason, flush=True)
    return count_pytest, (status, text)


# What runs a second time with the photos behind a Storage API: all that touches photos or results, but for
#   databases     one server knows one Storage API, and that serves one database
#   dump          of a dump that leaves the bytes out, restored, test_supabase tells; here the photos are in it
#   payments      money alone; test_plans has jobs beside it
#   vault         Gemini's key; test_supabase_storage has both keys there
#   supabase, supabase_storage, storage, storage_emulator, linter, install     have Storage's tables, or its API, of themselves
# No photo comes near checkout, client_page, cron, doc, inquiry, payments_property, proxy, purchase, sign_up, upgrade.
ON_STORAGE = ('test_photo', 'test_cache', 'test_single_flight', 'test_idempotency', 'test_credits', 'test_callers', 'test_crash', 'test_faults', 'test_retry',
              'test_limits', 'test_locks', 'test_garbage', 'test_bad_input', 'test_paths', 'test_leaks', 'test_secrets', 'test_cleanup', 'test_workers',
              'test_soak', 'test_audit', 'test_realtime', 'test_broadcast', 'test_postgrest', 'test_readme', 'test_grants', 'test_plans')


def on_storage(path):
    def run(context):
        return count_pytest, context.run([sys.executable, '-m', 'pytest', '-q', path.name], {'SPARKY_STORAGE': 'supabase'}, path.parent)
    return run


def all_suites():
    suites = {}
    if (TREE / 'test/rules').exists():
        suites['rules'] = rules
    suites['unit'] = unit
    suites['fuzz'] = fuzz
    if (TREE / 'test/unit/http/Makefile').exists():
        suites['unit-http'] = unit_http
    suites['emulator'] = emulator_self
    suites['client'] = client
    for name, pattern, function in (('regress', 'sql/*.sql', regress), ('pgtap', 'pgtap/*.sql', pgtap), ('isolation', 'isolation/specs/*.spec', isolation)):
        if list((TREE / 'test').glob(pattern)):
            suites[name] = function
    for path in sorted((TREE / 'test/e2e').glob('test_*.py')):
        suites['e2e/' + path.stem[5:]] = e2e(path)
        if path.stem in ON_STORAGE:
            suites['storage/' + path.stem[5:]] = on_storage(path)
    return suites


# ---- running them

print_lock = threading.Lock()


def run_suite(name, function):
    log = OUT / (name.replace('/', '-') + '.log')
    log.unlink(missing_ok=True)
    context = Context(log)
    began = time.monotonic()
    try:
        with context.stack:
            read, (status, text) = function(context)
        passed, failed, skipped = read(text)
        if status != 0 and failed == 0:
            failed = 1                      # it ended badly without naming a test
        if status == 0 and passed + skipped == 0:
            failed = 1                      # nothing ran: not a success
    except Exception as error:
        passed, failed, skipped = 0, 1, 0
        with open(log, 'a') as out:
            out.write(f'{type(error).__name__}: {error}\n')
    with print_lock:
        more = f', {skipped} skipped' if skipped else ''
        print(f"{'FAIL' if failed else 'ok':4} {name:20} {passed:5} passed, {failed} failed{more}  ({time.monotonic() - began:.0f} s)", flush=True)
        if failed:
            lines = log.read_text(errors='replace').splitlines()
            print('\n'.join('     ' + line for line in lines[-25:]), flush=True)
            print(f'     the whole of it: {log.relative_to(TREE)}', flush=True)
    return passed, failed


def main():
    wanted = sys.argv[1:]
    suites = all_suites()
    if wanted == ['-l']:
        print('\n'.join(suites))
        return 0
    chosen = {name: f for name, f in suites.items() if not wanted or any(name.startswith(w) for w in wanted)}
    if not chosen:
        print(f'no suite is named {" ".join(wanted)}; there are: {" ".join(suites)}')
        return 2
    (OUT / 'regress').mkdir(parents=True, exist_ok=True)
    (OUT / 'isolation').mkdir(parents=True, exist_ok=True)
    try:
        Root.get()                          # builds and installs into the private root
    except RuntimeError as error:
        print(error, '\n0 passed, 1 failed', sep='')
        return 1
    with build_lock():
        subprocess.run(['make', '-s', '-C', TREE / 'test/emulator', 'emulator'], check=False)
    order = sorted(chosen, key=lambda name: (not any(first[5:] in name for first in FIRST), name))
    with concurrent.futures.ThreadPoolExecutor(LANES) as lanes:
        results = list(lanes.map(lambda name: run_suite(name, chosen[name]), order))
    passed, failed = (sum(column) for column in zip(*results))
    print(f'{passed} passed, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
