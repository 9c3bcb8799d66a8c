"""Clean-up beside the traffic, and what it leaves alone."""

import os
import threading
import time
import uuid

import pytest
from background import Background
from conftest import assert_ledger
from sparky_server import wait_for

ROWS = int(os.environ.get('SPARKY_CLEANUP_ROWS', 1000000))
BLOCKED_MS = 100


class Locks(threading.Thread):
    """Watches for sessions that wait for a lock that one session holds, and for how long."""

    def __init__(self, server, holder):
        super().__init__(daemon=True)
        self.connection, self.holder, self.stop, self.longest = server.connect(), holder, threading.Event(), 0.0
        self.start()

    def run(self):
        with self.connection.cursor() as cursor:
            while not self.stop.wait(0.005):
                cursor.execute("SELECT extract(epoch FROM clock_timestamp() - waitstart) * 1000 FROM pg_locks"
                               " WHERE NOT granted AND waitstart IS NOT NULL AND %s = ANY (pg_blocking_pids(pid))", (self.holder,))
                for waited, in cursor.fetchall():
                    self.longest = max(self.longest, float(waited))

    def end(self):
        self.stop.set()
        self.join()
        self.connection.close()


def test_many_expired_rows_beside_hits_and_settlements(server, emulator, make_user):
    server.query("INSERT INTO cache.kv_store (key, value, expires_at) SELECT md5('old' || n), '{\"generation_id\": 1, \"image_path\": \"generations/x/y.png\"}',"
                 f" now() - interval '1 hour' - n * interval '1 ms' FROM generate_series(1, {ROWS}) n")
    server.query("INSERT INTO cache.kv_store (key, value, expires_at) SELECT 'fresh' || n, '{}', now() + interval '1 hour' FROM generate_series(1, 1000) n")
    users = [make_user(credits=100000, plan=3) for _ in range(2)]
    server.query('UPDATE public.plans SET max_daily_credits = 1000000 WHERE id = 3')
    hit_path, settle_path = users[0].photo(), users[1].photo()
    assert users[0].api.process('vintage', hit_path)['status'] == 'succeeded'
    done, errors, hits, settled = threading.Event(), [], [], []

    def work(act, times):
        try:
            while not done.is_set():
                began = time.monotonic()
                act()
                times.append(time.monotonic() - began)
        except Exception as error:          # shown by the assertion below
            errors.append(error)

    def hit():
        assert users[0].api.process('vintage', hit_path)['cached'] is True

    def settle():
        assert users[1].api.process('cartoon', settle_path, refresh=True)['status'] == 'succeeded'

    cleaner = server.connect()
    watch = Locks(server, cleaner.info.backend_pid)
    threads = [threading.Thread(target=work, args=(act, times)) for act, times in ((hit, hits), (settle, settled))]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        began = time.monotonic()
        cleaner.cursor().execute('CALL sparky.cleanup_cache()')
        took = time.monotonic() - began
    finally:
        done.set()
        cleaner.close()
        for thread in threads:
            thread.join()
        watch.end()
    assert errors == []
    assert server.value("SELECT count(*) FROM cache.kv_store WHERE expires_at < now()") == 0
    assert len(server.query("DELETE FROM cache.kv_store WHERE key LIKE 'fresh%' RETURNING key")) == 1000
    assert len(hits) > 3 and len(settled) > 3, (took, len(hits), len(settled))
    assert watch.longest < BLOCKED_MS, watch.longest
    assert_ledger(server)
    print(f'{ROWS} rows in {took:.1f} s; {len(hits)} hits, {len(settled)} settlements; longest wait for a lock {watch.longest:.0f} ms')


def test_a_row_that_is_held_stays_for_the_next_time(server):
    server.query("INSERT INTO cache.kv_store (key, value, expires_at) SELECT 'held' || n, '{}', now() - interval '1 day' FROM generate_series(1, 3) n")
    connection = server.connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM cache.kv_store WHERE key = 'held2' FOR UPDATE")
        server.query('CALL sparky.cleanup_cache()')
        assert server.query("SELECT key FROM cache.kv_store WHERE key LIKE 'held%'") == [('held2',)]
    connection.rollback()           # closing alone would let go of the row some time later
    connection.close()
    server.query('CALL sparky.cleanup_cache()')
    assert server.value("SELECT count(*) FROM cache.kv_store WHERE key LIKE 'held%'") == 0


def test_an_expired_row_misses_before_it_is_cleaned(server, emulator, user):
    path = user.photo()
    user.api.process('vintage', path)
    server.query("UPDATE cache.kv_store SET expires_at = now() - interval '1 second' WHERE value ->> 'image_path' LIKE %s", (f'generations/{user.id}/%',))
    assert user.api.process('vintage', path)['cached'] is False
    assert len(emulator.calls()) == 2
    assert user.api.process('vintage', path)['cached'] is True


# ---- history

def age(server, job, days):
    server.query("UPDATE public.generation_jobs SET created_at = created_at - make_interval(days => %s), finished_at = finished_at - make_interval(days => %s)"
                 ' WHERE id = %s', (days, days, job))


def test_request_keys_live_a_day_and_until_their_job_ended(server, emulator, user):
    emulator.hold()
    running = user.api.process('vintage', user.photo(), wait_seconds=0, idempotency_key='running')['job_id']
    server.query("INSERT INTO sparky.request_keys (user_id, key, fingerprint, created_at) VALUES (%s, 'old', 'f', now() - interval '25 hours'),"
                 " (%s, 'young', 'f', now() - interval '23 hours')", (user.id, user.id))
    server.query("UPDATE sparky.request_keys SET created_at = now() - interval '3 days' WHERE key = 'running' AND user_id = %s", (user.id,))

    def keys():
        server.query('CALL sparky.cleanup_history()')
        return sorted(row[0] for row in server.query('SELECT key FROM sparky.request_keys WHERE user_id = %s', (user.id,)))
    assert keys() == ['running', 'young']
    emulator.release()
    user.api.finish(running)
    assert keys() == ['young']


def test_old_jobs_go_and_what_they_made_stays(server, emulator, user):
    path = user.photo()
    old = user.api.process('vintage', path)
    young = user.api.process('cartoon', path)
    cached = user.api.process('retouch', path, {'strength': 'low'})
    for result, days in ((old, 91), (young, 89), (cached, 200)):
        age(server, result['job_id'], days)
    server.query("UPDATE cache.kv_store SET expires_at = now() - interval '1 s' WHERE value ->> 'generation_id' = %s", (str(old['generation_id']),))
    server.query('CALL sparky.cleanup_history()')
    left = {str(row[0]) for row in server.query('SELECT id FROM public.generation_jobs WHERE user_id = %s', (user.id,))}
    assert left == {young['job_id'], cached['job_id']}          # the cache entry needs its job
    assert user.count('public.generations') == 3 and user.count('public.credit_usage') == 3
    user.assert_money(credits=7, usage=3)
    assert user.api.download(old['image_path'])[0]
    assert user.api.rpc('delete_generation', id=old['generation_id']) == {'deleted': True}
    assert server.query("SELECT * FROM sparky.audit()") == []
    # the setting counts
    server.reload('sparky.job_retention = 2d')
    try:
        server.query('CALL sparky.cleanup_history()')
        age(server, young['job_id'], 0)
        server.query("UPDATE cache.kv_store SET expires_at = now() - interval '1 s' WHERE value ->> 'generation_id' = %s", (str(young['generation_id']),))
        server.query('CALL sparky.cleanup_history()')
    finally:
        server.reload('sparky.job_retention = 90d')
    assert {str(row[0]) for row in server.query('SELECT id FROM public.generation_jobs WHERE user_id = %s', (user.id,))} == {cached['job_id']}


def test_old_calls_go_after_their_jobs(server, emulator, user):
    result = user.api.process('vintage', user.photo())
    server.query("UPDATE sparky.provider_calls SET started_at = now() - interval '401 days' WHERE job_id = %s", (result['job_id'],))
    server.query("INSERT INTO sparky.provider_calls (job_id, user_id, tool_id, attempt, model, started_at, outcome) SELECT gen_random_uuid(), %s, 'cartoon', 1, 'm',"
                 " now() - n * interval '1 day', 'blocked_output' FROM unnest(ARRAY[399, 402]) n", (user.id,))
    server.query('CALL sparky.cleanup_history()')
    assert server.query('SELECT round(extract(epoch FROM now() - started_at) / 86400)::int FROM sparky.provider_calls WHERE user_id = %s ORDER BY 1', (user.id,)) == [(399,), (401,)]


# ---- files

def objects(server, user):
    """By owner: of embedded storage."""
    return {row[0] for row in server.query("SELECT bucket_id || '/' || name FROM storage.objects WHERE owner_id = %s", (str(user),))}


def test_a_deleted_user_leaves_nothing(server, emulator, user, files):
    path = user.photo()
    picture = user.api.process('vintage', path)
    analysis = user.api.analyze('face-shape', path)
    assert files.paths(user.id) == {path, picture['image_path']}
    keys = [row[0] for row in server.query('SELECT cache_key FROM public.generation_jobs WHERE user_id = %s', (user.id,))]
    assert server.value('SELECT count(*) FROM cache.kv_store WHERE key = ANY (%s)', (keys,)) == 2
    stored = server.value('SELECT count(*) FROM sparky.stored_files')
    server.query('DELETE FROM auth.users WHERE id = %s', (user.id,))
    if server.storage:
        wait_for(lambda: files.paths(user.id) == set(), 30, 'the worker to erase them')
        assert files.get(path) is None and files.get(picture['image_path']) is None
    else:
        assert files.paths(user.id) == set()
        assert server.value('SELECT count(*) FROM sparky.stored_files') == stored - 2
    assert server.value('SELECT count(*) FROM cache.kv_store WHERE key = ANY (%s)', (keys,)) == 0
    assert analysis['status'] == 'succeeded'
    for table in ('public.users', 'public.generations', 'public.generation_jobs', 'sparky.request_keys', 'public.notifications'):
        column = 'id' if table == 'public.users' else 'user_id'
        assert server.value(f'SELECT count(*) FROM {table} WHERE {column} = %s', (user.id,)) == 0
    assert server.query('SELECT * FROM sparky.audit()') == []


def test_a_deletion_that_is_rolled_back_erases_nothing(server, emulator, user, files):
    path = user.photo()
    connection = server.connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute('DELETE FROM auth.users WHERE id = %s', (user.id,))
    connection.rollback()
    connection.close()
    assert files.paths(user.id) == {path}
    assert user.api.download(path)[0]


@pytest.mark.embedded('rows without bytes; test_storage has the orphans of the Storage API')
def test_orphans_are_found_a_day_later(server, emulator, user):
    path = user.photo()
    needed, orphan = user.api.process('vintage', path), user.api.process('cartoon', path)
    server.psql(f"""SET session_replication_role = replica;
        DELETE FROM public.generations WHERE id = {orphan['generation_id']};
        DELETE FROM cache.kv_store WHERE value ->> 'generation_id' = '{orphan['generation_id']}';
        INSERT INTO storage.objects (bucket_id, name, owner_id) VALUES ('user_uploads', '{user.id}/no-bytes.png', '{user.id}'),
            ('generations', 'samples/{uuid.uuid4()}.png', NULL);
        INSERT INTO storage.objects (bucket_id, name, owner_id) VALUES ('user_uploads', '{uuid.uuid4()}/of-nobody.png', '{user.id}');""")
    before = objects(server, user.id)
    server.query('CALL sparky.cleanup_storage()')
    assert objects(server, user.id) == before                               # fresh: it may be on its way
    server.query("UPDATE storage.objects SET updated_at = now() - interval '25 hours' WHERE bucket_id IN ('user_uploads', 'generations')")
    server.query('CALL sparky.cleanup_storage()')
    assert objects(server, user.id) == {path, needed['image_path']}
    assert server.value("SELECT count(*) FROM storage.objects WHERE name LIKE 'samples/%%'") == 1      # not of our making
    assert server.value('SELECT count(*) FROM sparky.erasures') == 0
    server.query('CALL sparky.cleanup_storage()')
    assert objects(server, user.id) == {path, needed['image_path']}
    server.query("DELETE FROM storage.objects WHERE name LIKE 'samples/%%'")


@pytest.mark.embedded('erases by SQL; test_storage has an API that refuses')
def test_what_cannot_be_erased_is_kept_with_the_reason(server, emulator, user):
    paths = [user.photo() for _ in range(3)]
    server.psql("""CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$""")
    server.query("INSERT INTO sparky.erasures (bucket_id, name, user_id) SELECT split_part(p, '/', 1), substr(p, 14), %s FROM unnest(%s) p", (user.id, paths))
    server.psql(f"""CREATE TRIGGER refuse BEFORE DELETE ON storage.objects FOR EACH ROW WHEN (OLD.name = '{paths[1][13:]}') EXECUTE FUNCTION public.refuse()""")
    try:
        for tries in (1, 2):
            server.query('CALL sparky.cleanup_erasures()')
            assert objects(server, user.id) == {paths[1]}
            assert server.query('SELECT name, attempts, last_error FROM sparky.erasures') == [(paths[1][13:], tries, 'not this one')]
    finally:
        server.psql('DROP TRIGGER refuse ON storage.objects')
    server.query('CALL sparky.cleanup_erasures()')
    assert objects(server, user.id) == set() and server.value('SELECT count(*) FROM sparky.erasures') == 0


# ---- plans and jobs

def test_an_expired_plan_ends_and_is_told(server, make_user):
    ended, runs, free = make_user(plan=2), make_user(plan=2), make_user()
    server.query("UPDATE public.users SET plan_expires_at = now() - interval '1 minute', notification_preferences = '{\"generalAlerts\": false}' WHERE id = %s", (ended.id,))
    server.query("UPDATE public.users SET plan_expires_at = now() + interval '1 minute' WHERE id = %s", (runs.id,))
    for _ in range(2):
        server.query('CALL sparky.cleanup_plans()')
    plans = dict(server.query('SELECT id, plan_id FROM public.users WHERE id = ANY (%s)', ([ended.id, runs.id, free.id],)))
    assert plans == {ended.id: 1, runs.id: 2, free.id: 1}
    told = server.query('SELECT user_id, type, title_key FROM public.notifications WHERE user_id = ANY (%s)', ([ended.id, runs.id, free.id],))
    assert told == [(ended.id, 'general', 'notification.plan_expired.title')]      # plan notices do not ask for preferences


def test_overdue_jobs_end_without_a_worker(server, user):
    """Rows that no worker looks at: their states are written behind its back, all in one transaction with the call."""
    connection = server.connect(autocommit=False)
    with connection.cursor() as cursor:
        def job(status, deadline, answered=None):
            name = uuid.uuid4()
            cursor.execute("INSERT INTO public.generation_jobs (id, user_id, tool_id, kind, status, source_path, tool_revision, image_hash, cache_key, credits_held,"
                           " deadline, incarnation, lease_until) VALUES (%s, %s, 'cartoon', 'image', %s, 'p', 1, 'h', %s, 1, now() + %s::interval,"
                           " CASE WHEN %s IN ('generating', 'storing') THEN 1 END, CASE WHEN %s = 'generating' THEN now() END)",
                           (name, user.id, status, str(name), deadline, status, status))
            if answered:
                cursor.execute('INSERT INTO sparky.answers (job_id, answered_at) VALUES (%s, now() - %s::interval)', (name, answered))
            return name
        late = [job('queued', '-1 min'), job('generating', '-1 min')]
        refused = [job('answered', '-2 days', '25 hours'), job('storing', '-2 days', '25 hours')]
        fine = [job('queued', '1 min'), job('generating', '1 min'), job('answered', '-1 hour', '1 hour')]
        cursor.execute("INSERT INTO sparky.provider_calls (job_id, user_id, tool_id, attempt, model, started_at) VALUES (%s, %s, 'cartoon', 1, 'm', now())", (late[1], user.id))
        cursor.execute('SELECT sparky.end_jobs()')
        assert cursor.fetchone()[0] == 4
        cursor.execute('SELECT sparky.end_jobs()')
        assert cursor.fetchone()[0] == 0
        cursor.execute('SELECT id, status, error_code, credits_held, lease_until IS NULL, finished_at IS NOT NULL FROM public.generation_jobs WHERE user_id = %s', (user.id,))
        rows = {row[0]: row[1:] for row in cursor.fetchall()}
        assert [rows[j] for j in late] == [('failed', 'provider_timeout', 0, True, True)] * 2
        assert [rows[j] for j in refused] == [('failed', 'provider_failed', 0, True, True)] * 2
        assert {rows[j][2] for j in fine} == {1}
        cursor.execute('SELECT outcome FROM sparky.provider_calls WHERE job_id = %s', (late[1],))
        assert cursor.fetchone() == ('unknown',)
        cursor.execute('SELECT count(*) FROM sparky.answers WHERE job_id = ANY (%s)', (refused,))
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT count(*) FROM public.notifications WHERE user_id = %s AND title_key = 'notification.generation_failed.title'", (user.id,))
        assert cursor.fetchone() == (4,)
    connection.rollback()
    connection.close()


def test_an_answer_that_comes_while_overdue_jobs_are_looked_for(server):
    """end_jobs() has seen a job without an answer, and meets it with one: it stays. A policy of the owner's makes the look
    slow; he may not log in, so no worker has a part in it."""
    server.psql('CREATE ROLE keeper NOLOGIN; CREATE DATABASE looked')
    try:
        server.psql("CREATE SCHEMA sparky AUTHORIZATION keeper; GRANT CREATE ON SCHEMA public TO keeper; SET sparky.install = 'full'; CREATE EXTENSION sparky", db='looked')
        user, job = server.sign_up(db='looked'), uuid.uuid4()
        server.query("INSERT INTO public.generation_jobs (id, user_id, tool_id, kind, status, source_path, tool_revision, image_hash, cache_key, credits_held,"
                     " deadline, incarnation, lease_until) VALUES (%s, %s, 'cartoon', 'image', 'generating', 'p', 1, 'h', 'k', 1, now() - interval '1 s',"
                     " 1, now() + interval '1 hour')", (job, user), db='looked')
        server.psql("""CREATE FUNCTION public.slowly() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN true; END';
            CREATE POLICY slowly ON public.generation_jobs TO keeper USING (public.slowly());
            ALTER TABLE public.generation_jobs FORCE ROW LEVEL SECURITY""", db='looked')
        caller = Background(server.value, 'SELECT sparky.end_jobs()', db='looked')
        wait_for(lambda: server.value("SELECT 1 FROM pg_stat_activity WHERE datname = 'looked' AND wait_event = 'PgSleep'"), 10, 'the look')
        server.psql(f"""BEGIN; INSERT INTO sparky.answers (job_id) VALUES ('{job}');
            UPDATE public.generation_jobs SET status = 'answered', incarnation = NULL, lease_until = NULL WHERE id = '{job}'; COMMIT""", db='looked')
        assert caller.result() == 0
        assert server.row('SELECT status, (SELECT count(*) FROM sparky.answers a WHERE a.job_id = j.id) FROM public.generation_jobs j', db='looked') == ('answered', 1)
    finally:
        server.psql('DROP DATABASE looked (FORCE)')
        server.psql('DROP ROLE keeper')
