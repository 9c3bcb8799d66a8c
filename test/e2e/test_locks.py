"""The loop never waits for a lock: whoever holds one delays only what needs it, and
nothing is lost or charged twice when he lets go."""

import contextlib
import time

import pytest
from background import Background, photos_called, statuses, submit, wait_ended
from conftest import assert_ledger
from sparky_server import Refused, wait_for

CONF = ["sparky.accept_timeout = '3s'"]


@contextlib.contextmanager
def transaction(server, *statements, user='postgres'):
    """Statements in a transaction that stays open; rolled back at the end unless committed inside."""
    connection = server.connect(user=user, autocommit=False)
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(*(statement if isinstance(statement, tuple) else (statement,)))
        yield connection
    finally:
        connection.rollback()
        connection.close()


@pytest.fixture
def worker(server):
    """The worker must be the same process at the end, and must hold no transaction open."""
    pid = server.worker_pid()
    yield pid
    assert server.worker_pid() == pid
    wait_for(lambda: server.value('SELECT xact_start IS NULL OR now() - xact_start < %s FROM pg_stat_activity WHERE pid = %s', ('1 s', pid)), 20,
             'the worker to end its transaction')


def waits_for_locks(server, pid, seconds=0.4):
    """The share of looks at the worker that find it waiting for a lock."""
    looks = found = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end or looks < 40:
        found += server.value("SELECT coalesce(wait_event_type = 'Lock', false)::int FROM pg_stat_activity WHERE pid = %s", (pid,))
        looks += 1
    return found / looks


# A photo of somebody else's: he who waited for the lock would wait till the end of the test.
QUICKLY = 5.0


def served_quickly(user, path=None, seconds=QUICKLY):
    path = path or user.photo()
    start = time.monotonic()
    result = user.api.process('cartoon', path, refresh=True)
    assert result['status'] == 'succeeded', result
    assert time.monotonic() - start < seconds
    return result


def kept(server, job):
    """The answer is committed and waits for its settlement."""
    return server.value('SELECT count(*) FROM sparky.answers WHERE job_id = %s', (job,)) == 1


def settled_once(server, emulator, user, job, credits=9):
    assert user.api.finish(job, seconds=25)['status'] == 'succeeded'
    user.assert_money(credits=credits, usage=10 - credits)
    assert server.value('SELECT count(*) FROM sparky.answers') == 0
    calls = user.provider_calls(job)
    assert [(call['outcome'], call['charged']) for call in calls] == [('ok', True)]
    photo = server.value('SELECT image_hash FROM public.generation_jobs WHERE id = %s', (job,))
    assert photos_called(emulator)[photo] == 1


# ----------------------------------------------------------------- one user's row

def test_caller_that_holds_his_own_row(server, emulator, worker, user, make_user):
    """He changes his name and asks for a photo in one transaction: refused in time, no deadlock, others are served."""
    path, other = user.photo(), make_user()
    other_path = other.photo()
    client = user.another_session()
    client.call('UPDATE public.users SET username = %s WHERE id = %s', ('me', user.id), commit=False)

    waited = []

    def ask():
        start = time.monotonic()
        try:
            with client.connection.cursor() as cursor:
                cursor.execute("SELECT public.process_image('cartoon', %s)", (path,))
        finally:
            waited.append(time.monotonic() - start)
    caller = Background(ask)
    for _ in range(3):
        served_quickly(other, other_path)
    error = caller.error(20)
    assert error.pgcode in ('PT503', 'PGRST') and 'overloaded' in str(error)
    assert waited[0] < 15
    client.connection.rollback()
    client.close()
    assert user.count('public.generation_jobs') == 0
    served_quickly(user, path)
    user.assert_money(credits=9, usage=1)
    other.assert_money(credits=7, usage=3)


def test_caller_that_lets_go_in_time(server, emulator, worker, user):
    path = user.photo()
    with transaction(server, ('SELECT FROM public.users WHERE id = %s FOR UPDATE', (user.id,))) as holder:
        caller = Background(user.api.process, 'cartoon', path)
        time.sleep(0.5)
        assert not caller.done()
        holder.rollback()
        assert caller.result()['status'] == 'succeeded'
    settled_once(server, emulator, user, server.value('SELECT id::text FROM public.generation_jobs WHERE user_id = %s', (user.id,)))


@pytest.mark.parametrize('row', ['public.users', 'auth.users'])
def test_row_held_while_the_answer_comes(server, emulator, worker, user, make_user, row):
    """The answer is made durable at once; the charge follows when the row is free; nobody else waits."""
    other = make_user()
    other_path = other.photo()
    emulator.hold()
    (_, job), = submit([user], 1)
    emulator.wait_calls(1)
    with transaction(server, (f'SELECT FROM {row} WHERE id = %s FOR UPDATE', (user.id,))):
        emulator.release()
        wait_for(lambda: kept(server, job) or row == 'auth.users', 20, 'the answer to be kept')
        for _ in range(3):
            served_quickly(other, other_path)
        status = user.api.status(job, 1)
        if row == 'public.users':
            assert status['status'] == 'running' and user.credits() == 10 and user.held() == 1
        assert waits_for_locks(server, worker, seconds=1.5) < 0.5
    settled_once(server, emulator, user, job)
    other.assert_money(credits=7, usage=3)


def test_holder_waits_for_his_own_job(server, emulator, worker, user):
    """Who holds his row and waits for his job in the same transaction gets 'running', not a deadlock."""
    emulator.hold()
    (_, job), = submit([user], 1)
    emulator.wait_calls(1)
    client = user.another_session()
    client.call('UPDATE public.users SET username = %s WHERE id = %s', ('me', user.id), commit=False)
    emulator.release()
    with client.connection.cursor() as cursor:
        cursor.execute('SELECT public.generation_status(%s, 2)', (job,))
        assert cursor.fetchone()[0]['status'] == 'running'
    client.connection.commit()
    client.close()
    settled_once(server, emulator, user, job)


def test_job_row_held(server, emulator, worker, user, make_user):
    other = make_user()
    other_path = other.photo()
    emulator.hold()
    (_, job), = submit([user], 1)
    emulator.wait_calls(1)
    with transaction(server, ('SELECT FROM public.generation_jobs WHERE id = %s FOR UPDATE', (job,))):
        emulator.release()
        for _ in range(3):
            served_quickly(other, other_path)
        assert user.api.status(job)['status'] == 'running'
    settled_once(server, emulator, user, job)


# ------------------------------------------------------------- an account that goes

@pytest.mark.parametrize('end', ['commit', 'rollback'])
def test_account_being_deleted(server, emulator, worker, user, make_user, files, end):
    other = make_user()
    other_path = other.photo()
    path = user.photo()
    with user.another_session() as session:
        session.rpc('my_account')
        emulator.hold()
        (_, job), = submit([user], 1)
        emulator.wait_calls(1)
        with transaction(server, ('DELETE FROM auth.users WHERE id = %s', (user.id,))) as deletion:
            emulator.release()
            newcomer = Background(session.process, 'vintage', path)
            for _ in range(3):
                served_quickly(other, other_path)
            error = newcomer.error(20)
            assert isinstance(error, Refused) and (error.status, error.word) == (503, 'overloaded'), error
            assert user.api.status(job)['status'] == 'running'
            if end == 'commit':
                deletion.commit()
    if end == 'rollback':
        settled_once(server, emulator, user, job)
        return
    wait_for(lambda: 'not' not in statuses(server, [(user, job)]) and emulator.stats()['in_flight'] == 0, 20, 'the end')
    time.sleep(0.5)
    assert user.count('public.generation_jobs') == 0 and user.count('public.generations') == 0
    wait_for(lambda: files.paths(user.id) == set(), 20, 'the files to go')
    assert server.value('SELECT count(*) FROM sparky.stored_files f WHERE NOT EXISTS (SELECT FROM storage.objects o WHERE o.id = f.object_id)') == 0
    assert server.value("SELECT count(*) FROM public.credit_ledger WHERE user_id = %s AND kind = 'usage'", (user.id,)) == 0
    assert server.value('SELECT count(*) FROM sparky.answers') == 0
    with pytest.raises(Refused) as refused:
        user.api.process('cartoon', path)
    assert (refused.value.status, refused.value.word) == (401, 'account_gone')


# --------------------------------------------------------------------- whole tables

TABLES = ['auth.users', 'public.users', 'public.generation_jobs', 'public.generations', 'public.credit_usage', 'public.credit_ledger',
          'public.tools', 'storage.objects', 'storage.buckets', 'sparky.stored_files', 'sparky.answers', 'sparky.provider_calls',
          'sparky.tool_settings', 'cache.kv_store']


@pytest.mark.parametrize('table', TABLES)
def test_table_locked(server, emulator, worker, make_user, table):
    """Answers come while an operator holds a whole table: all are settled when he is done, each called and charged once."""
    users = [make_user(), make_user()]
    emulator.hold()
    jobs = submit(users, 6)
    emulator.wait_calls(6)
    with transaction(server, f'LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE'):
        emulator.release()
        emulator.wait_idle()
        time.sleep(0.2)
        assert waits_for_locks(server, worker) < 0.5
    assert wait_ended(server, jobs, 20) == {'succeeded': 6}
    assert photos_called(emulator) and set(photos_called(emulator).values()) == {1} and len(emulator.calls()) == 6
    for user in users:
        user.assert_money(credits=7, usage=3)
        assert [call['outcome'] for call in user.provider_calls()] == ['ok'] * 3 and all(call['charged'] for call in user.provider_calls())
    assert server.value('SELECT count(*) FROM sparky.answers') == 0


@pytest.mark.parametrize('table', ['public.users', 'public.generation_jobs'])
def test_submission_during_a_lock(server, emulator, worker, user, table):
    """Accepted when the lock goes within sparky.accept_timeout, else refused and nothing is left."""
    path = user.photo()
    with transaction(server, f'LOCK TABLE {table} IN SHARE MODE') as holder:
        caller = Background(user.api.process, 'cartoon', path)
        time.sleep(0.7)
        assert not caller.done()
        holder.rollback()
        assert caller.result()['status'] == 'succeeded'
    user.assert_money(credits=9, usage=1)
    with transaction(server, f'LOCK TABLE {table} IN SHARE MODE'):
        with pytest.raises(Refused) as refused:
            user.api.process('cartoon', path, refresh=True)
        assert (refused.value.status, refused.value.word) == (503, 'overloaded')
    time.sleep(0.3)
    user.assert_money(credits=9, usage=1)
    assert user.count('public.generation_jobs') == 1 and len(emulator.calls()) == 1


@pytest.mark.parametrize('table', ['public.generations', 'storage.objects', 'cache.kv_store'])
def test_new_jobs_go_on_while_the_settlement_is_locked_out(server, emulator, worker, make_user, table):
    """A lock that only the settlement meets: new jobs are accepted and called, their answers kept."""
    users = [make_user(), make_user()]
    paths = [user.photo() for user in users]
    with transaction(server, f'LOCK TABLE {table} IN SHARE MODE'):
        jobs = [(user, user.api.process(tool, path, wait_seconds=0)['job_id'])
                for user, path in zip(users, paths) for tool in ('cartoon', 'vintage')]
        wait_for(lambda: all(kept(server, job) for _, job in jobs), 20, 'the answers to be kept')
        assert set(statuses(server, jobs)) <= {'answered', 'storing'}
        assert [user.held() for user in users] == [2, 2]
    assert wait_ended(server, jobs, 20) == {'succeeded': 4}
    for user in users:
        user.assert_money(credits=8, usage=2)
    assert len(emulator.calls()) == 4


def test_catalogue_locked(server, emulator, worker, user):
    """Somebody locks the catalogue that the loop looks into with each sweep: the calls under way go on."""
    emulator.hold()
    jobs = submit([user], 2)
    emulator.wait_calls(2)
    with transaction(server, 'LOCK TABLE pg_catalog.pg_extension IN ACCESS EXCLUSIVE MODE'):
        time.sleep(2.2)     # two sweeps
    emulator.release()
    assert wait_ended(server, jobs) == {'succeeded': 2}
    assert len(emulator.calls()) == 2
    user.assert_money(credits=8, usage=2)


def test_lock_longer_than_the_lease(server, emulator, worker, user):
    """The answer is in hand while nothing can be written: no second call is made for it when the lease runs out."""
    server.query("UPDATE sparky.tool_settings SET timeout = '1 s' WHERE tool_id = 'vintage'")
    server.reload("sparky.lease_time = '1s'")
    try:
        for _ in range(3):
            (_, job), = submit([user], 1, tool='vintage')
            emulator.wait_calls(1)
            with transaction(server, 'LOCK TABLE public.generation_jobs IN ACCESS EXCLUSIVE MODE'):
                time.sleep(2.6)
            assert user.api.finish(job)['status'] == 'succeeded'
            assert set(photos_called(emulator).values()) == {1}
            emulator.reset()
            emulator.latency(200)
    finally:
        server.reload("sparky.lease_time = '30s'")
        server.query("UPDATE sparky.tool_settings SET timeout = NULL WHERE tool_id = 'vintage'")
    user.assert_money(credits=7, usage=3)


# ------------------------------------------------------------- triggers of the owner

@contextlib.contextmanager
def owner_trigger(server, table, event, user, body="RAISE EXCEPTION 'the owner says no'", when='BEFORE'):
    server.psql(f"""
        CREATE FUNCTION public.owner_says_no() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.user_id = '{user.id}' THEN {body}; END IF; RETURN NEW; END $$;
        CREATE TRIGGER owner_says_no {when} {event} ON {table} FOR EACH ROW EXECUTE FUNCTION public.owner_says_no();""")
    try:
        yield
    finally:
        server.psql('DROP FUNCTION public.owner_says_no() CASCADE')


def test_owner_trigger_that_refuses_a_settlement(server, emulator, worker, user, make_user):
    """His answer waits, kept; the others of the same batch are settled; without the trigger it is settled too, once."""
    others = [make_user(), make_user()]
    emulator.hold()
    bad, good = submit([user], 2), submit(others, 8)
    emulator.wait_calls(10)
    with owner_trigger(server, 'public.credit_usage', 'INSERT', user):
        emulator.release()
        assert wait_ended(server, good, 20) == {'succeeded': 8}
        wait_for(lambda: all(kept(server, job) for _, job in bad), 20, 'the answers to be kept')
        served_quickly(others[0])
        user.api.status(bad[0][1], 1)
        assert user.credits() == 10 and user.held() == 2
    assert wait_ended(server, bad, 20) == {'succeeded': 2}
    user.assert_money(credits=8, usage=2)
    assert set(photos_called(emulator).values()) == {1} and len(emulator.calls()) == 11


def test_owner_trigger_that_raises_only_at_commit(server, emulator, worker, user, make_user):
    other = make_user()
    emulator.hold()
    bad, good = submit([user], 1), submit([other], 3)
    emulator.wait_calls(4)
    server.psql(f"""
        CREATE FUNCTION public.owner_says_no() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.user_id = '{user.id}' THEN RAISE EXCEPTION 'too late'; END IF; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER owner_says_no AFTER INSERT ON public.generations DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION public.owner_says_no();""")
    try:
        emulator.release()
        assert wait_ended(server, good, 20) == {'succeeded': 3}
        wait_for(lambda: kept(server, bad[0][1]), 20, 'the answer to be kept')
    finally:
        server.psql('DROP FUNCTION public.owner_says_no() CASCADE')
    assert wait_ended(server, bad, 20) == {'succeeded': 1}
    user.assert_money(credits=9, usage=1)
    other.assert_money(credits=7, usage=3)


def test_owner_trigger_that_refuses_acceptance(server, emulator, worker, user, make_user):
    """He gets a typed error, the others of the same batch are accepted."""
    others = [make_user() for _ in range(5)]
    paths = [one.photo() for one in (user, *others)]
    for one in others:
        one.api.pid()
    with owner_trigger(server, 'public.generation_jobs', 'INSERT', user):
        runs = [Background(one.api.process, 'cartoon', path) for one, path in zip((user, *others), paths)]
        error = runs[0].error()
        assert isinstance(error, Refused) and error.status == 503, error
        assert [run.result()['status'] for run in runs[1:]] == ['succeeded'] * 5
    user.assert_money(credits=10, usage=0)
    assert user.count('public.generation_jobs') == 0
    served_quickly(user, paths[0])


def test_owner_trigger_that_refuses_the_call(server, emulator, worker, user, make_user):
    """A job whose claim cannot be written is no reason to stop for the others, nor for the worker to die; no hold outlives it."""
    other = make_user()
    with owner_trigger(server, 'sparky.provider_calls', 'INSERT', user):
        bad = submit([user], 2)
        served_quickly(other)
        assert wait_ended(server, bad, 20) == {'failed': 2}
    assert {user.job(job)['error_code'] for _, job in bad} == {'provider_failed'}
    user.assert_money(credits=10, usage=0)
    assert len(emulator.calls()) == 1


def test_owner_trigger_that_refuses_every_end(server, emulator, worker, user, make_user):
    """A row that nobody can write stops neither the deadline of others, nor their calls, nor the worker."""
    server.query("UPDATE sparky.tool_settings SET model = 'gemini-3-pro-image' WHERE tool_id = 'vintage'")
    other = make_user()
    emulator.hold()
    (_, answered), = submit([user], 1)
    emulator.wait_calls(1)
    emulator.script({'fault': 'rate_limited', 'retryDelay': '30s', 'times': 2, 'match': {'model': 'gemini-3-pro-image'}})
    with owner_trigger(server, 'public.generation_jobs', 'UPDATE', user, body="""
            IF NEW.status <> 'generating' THEN RAISE EXCEPTION 'the owner says no'; END IF"""):
        emulator.release()
        emulator.wait_idle()
        for _ in range(2):
            served_quickly(other)
        server.psql('ALTER TABLE public.generation_jobs DISABLE TRIGGER owner_says_no')
        waiting = submit([user, other], 2, tool='vintage')
        wait_for(lambda: statuses(server, waiting) == ['queued'] * 2 and emulator.calls(model='gemini-3-pro-image'), 20, 'the pause')
        time.sleep(0.2)
        server.query("UPDATE public.generation_jobs SET deadline = now() + interval '3 s' WHERE status = 'queued'")
        server.psql('ALTER TABLE public.generation_jobs ENABLE TRIGGER owner_says_no')
        wait_for(lambda: other.job(waiting[1][1])['status'] == 'failed', 20, 'the deadline of another')
        assert user.job(waiting[0][1])['status'] == 'queued'
        assert user.api.status(waiting[0][1])['status'] == 'failed'     # past its deadline, written or not
    assert wait_ended(server, waiting, 20) == {'failed': 2}
    assert other.job(waiting[1][1])['error_code'] == 'provider_timeout'
    settled_once(server, emulator, user, answered)
    assert_ledger(server)
