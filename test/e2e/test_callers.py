"""A caller may be cancelled, time out, disconnect or roll back: an accepted job still
ends, once; a submission that was not accepted leaves nothing."""

import os
import signal
import time

import psycopg2
import pytest
from background import Background, wait_until_asleep
from conftest import assert_ledger
from sparky_server import Refused, wait_for

CONF = ["sparky.accept_timeout = '4s'"]


@pytest.fixture
def stopped_worker(server):
    pid = server.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    yield pid
    os.kill(pid, signal.SIGCONT)


def only_job(server, user):
    rows = server.query('SELECT id::text FROM public.generation_jobs WHERE user_id = %s', (user.id,))
    assert len(rows) == 1
    return rows[0][0]


def ends_once(server, emulator, user, job=None):
    """The job ends by itself, is called once, charged once, and the next request works."""
    job = job or only_job(server, user)
    assert user.api.finish(job)['status'] == 'succeeded'
    emulator.wait_idle()
    assert len(emulator.calls()) == 1
    calls = user.provider_calls()
    assert len(calls) == 1 and calls[0]['outcome'] == 'ok' and calls[0]['charged']
    user.assert_money(credits=9, usage=1)
    assert user.count('public.generations') == 1


def left_nothing(server, emulator, user):
    assert user.count('public.generation_jobs') == 0
    assert user.count('public.generations') == 0
    assert user.count('sparky.request_keys') == 0
    assert emulator.calls() == []
    user.assert_money(credits=10, usage=0)


# ------------------------------------------------------------- accepted, then left

def test_cancelled(server, emulator, user):
    emulator.hold()
    path = user.photo()
    caller = Background(user.api.process, 'cartoon', path)
    emulator.wait_calls(1)
    assert server.value('SELECT pg_cancel_backend(%s)', (user.api.pid(),))
    assert isinstance(caller.error(), psycopg2.errors.QueryCanceled)
    emulator.release()
    ends_once(server, emulator, user)
    assert user.api.process('cartoon', path)['cached'] is True


def test_terminated(server, emulator, user):
    emulator.hold()
    path = user.photo()
    caller = Background(user.api.process, 'cartoon', path)
    emulator.wait_calls(1)
    assert server.value('SELECT pg_terminate_backend(%s)', (user.api.pid(),))
    assert isinstance(caller.error(), psycopg2.OperationalError)
    emulator.release()
    user.api.close()
    ends_once(server, emulator, user)


def test_disconnected(server, emulator, user):
    """The client's socket goes away without a word."""
    emulator.hold()
    path = user.photo()
    connection = psycopg2.connect(host=str(server.dir), port=server.port, dbname='postgres', user='postgres', async_=True)
    finish_io(connection)
    cursor = connection.cursor()
    cursor.execute("SELECT set_config('request.jwt.claims', json_build_object('sub', %s::text, 'role', 'authenticated')::text, false)", (user.id,))
    finish_io(connection)
    cursor.execute("SELECT public.process_image('cartoon', %s)", (path,))
    emulator.wait_calls(1)
    connection.close()
    emulator.release()
    ends_once(server, emulator, user)


def finish_io(connection):
    wait_for(lambda: connection.poll() == psycopg2.extensions.POLL_OK, 20, 'the server to answer')


def test_rolled_back(server, emulator, user):
    path = user.photo()
    result = user.api.process('cartoon', path, commit=False)
    user.api.connection.rollback()
    assert result['status'] == 'succeeded'
    ends_once(server, emulator, user, result['job_id'])
    assert user.api.process('cartoon', path)['cached'] is True


def test_rolled_back_while_running(server, emulator, user):
    emulator.hold()
    result = user.api.process('cartoon', user.photo(), wait_seconds=0, commit=False)
    user.api.connection.rollback()
    emulator.release()
    ends_once(server, emulator, user, result['job_id'])


def test_rolled_back_to_a_savepoint(server, emulator, user):
    """An exception block around the call, in SQL: the job lives on, the slot is free again."""
    path = user.photo()
    other = user.photo()
    server.psql(f"""
        SET request.jwt.claims = '{{"sub": "{user.id}", "role": "authenticated"}}';
        SET ROLE authenticated;
        DO $$
        BEGIN
            BEGIN
                PERFORM public.process_image('cartoon', '{path}', wait_seconds := 0);
                RAISE EXCEPTION 'changed my mind';
            EXCEPTION WHEN raise_exception THEN NULL;
            END;
            PERFORM public.process_image('vintage', '{other}');
        END $$;""")
    wait_for(lambda: user.count('public.generations') == 2, 20, 'both jobs')
    user.assert_money(credits=8, usage=2)
    assert len(emulator.calls()) == 2


@pytest.mark.embedded('an upload to the Storage API is there at once')
def test_the_upload_must_be_committed(server, emulator, user):
    """What the call needs is read by the worker: an upload of the caller's own open transaction is not there."""
    from conftest import fresh_photo
    client = user.another_session()
    path = client.call('SELECT (public.upload_image(%s::bytea))->>%s', (psycopg2.Binary(fresh_photo()), 'path'), commit=False)[0][0]
    with client.connection.cursor() as cursor:
        with pytest.raises(psycopg2.Error) as refused:
            cursor.execute("SELECT public.process_image('cartoon', %s)", (path,))
    assert refused.value.pgcode == 'PT404' and refused.value.diag.message_primary.startswith('image_not_found:')
    client.connection.rollback()
    client.close()
    left_nothing(server, emulator, user)


# -------------------------------------------------------------------- in time

def timed(function, *arguments, **named):
    start = time.monotonic()
    result = function(*arguments, **named)
    return time.monotonic() - start, result


def test_statement_timeouts(server, emulator, make_user):
    """Armed timers of 3 s and 8 s, hoisted and plain, and the caller's own wait: each returns the running job in time.

    A call that overran its timer would have been ended by it with an error; the upper bounds tell the caller's own wait from an untold one of 25 s.
    """
    emulator.hold()
    users = [make_user() for _ in range(5)]
    paths = [user.photo() for user in users]
    for user in users:
        user.api.rpc('my_account')          # connected

    def plain(user, path):
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT set_config('request.jwt.claims', json_build_object('sub', %s::text)::text, false)", (user.id,))
            cursor.execute("SET ROLE authenticated")
            cursor.execute("SET statement_timeout = '3s'")
            cursor.execute("SELECT public.process_image('cartoon', %s, wait_seconds := 55)", (path,))
            return cursor.fetchone()[0]
    runs = [(Background(timed, users[0].api.process, 'cartoon', paths[0], timeout='3s'), 2.0, 15),
            (Background(timed, users[1].api.process, 'cartoon', paths[1], timeout='8s'), 7.0, 15),
            (Background(timed, plain, users[2], paths[2]), 2.0, 15),
            (Background(timed, users[3].api.process, 'cartoon', paths[3], wait_seconds=4), 3.9, 15),
            (Background(timed, users[4].api.process, 'cartoon', paths[4], wait_seconds=-7), 0, 10)]
    jobs = []
    for run, least, most in runs:
        seconds, result = run.result()
        assert least <= seconds <= most, (seconds, least, most)
        assert result['status'] in ('queued', 'running') and 'credits_used' not in result, result
        jobs.append(result['job_id'])
    emulator.release()
    for user, job in zip(users, jobs):
        assert user.api.finish(job)['status'] == 'succeeded'
        user.assert_money(credits=9, usage=1)
    assert len(emulator.calls()) == 5


def test_status_in_time(server, emulator, user):
    emulator.hold()
    job = user.api.process('cartoon', user.photo(), wait_seconds=0)['job_id']
    seconds, status = timed(user.api.status, job, 25, timeout='3s')
    assert 2.0 <= seconds <= 15 and status['status'] == 'running'
    emulator.release()
    ends_once(server, emulator, user, job)


def test_woken_at_once(emulator, user):
    """The end of the wait comes by shared memory, not by the look that a waiting call takes once a second: that would come 0.7 s later, every time."""
    emulator.hold()
    job = user.api.process('cartoon', user.photo(), wait_seconds=0)['job_id']
    emulator.wait_calls(1)
    seconds = []
    for _ in range(10):                     # one that the machine does not delay is enough
        waiting = Background(timed, user.api.status, job, 25)
        time.sleep(0.3)
        start = time.monotonic()
        emulator.release()
        assert waiting.result()[1]['status'] == 'succeeded'
        seconds.append(time.monotonic() - start)
        if seconds[-1] < 0.3:
            break
        emulator.hold()
        job = user.api.process('cartoon', user.photo(), wait_seconds=0)['job_id']
        wait_for(lambda: emulator.stats()['in_flight'] == 1, 20, 'the next call')
    assert min(seconds) < 0.3, seconds


def test_waiting_places(server, emulator, make_user):
    """At most 2 calls of one user and 6 in all wait; the others come back at once with the running job."""
    emulator.hold()
    users = [make_user() for _ in range(4)]
    jobs = [user.api.process('cartoon', user.photo(), wait_seconds=0)['job_id'] for user in users]
    clients = [user.another_session() for user in users for _ in range(2)]
    waiting = []
    for i in range(6):                      # two sessions each of three users
        clients[i].pid()
        waiting.append(Background(clients[i].status, jobs[i // 2], 25))
    for client in clients[:6]:
        wait_until_asleep(server, client.pid())
    for client, job in ((users[0].api, jobs[0]), (clients[6], jobs[3])):
        seconds, status = timed(client.status, job, 25)
        assert seconds < 10 and status['status'] == 'running'
    emulator.release()
    assert [call.result()['status'] for call in waiting] == ['succeeded'] * 6
    for client in clients:
        client.close()
    emulator.hold()                         # the places are free again
    job = users[0].api.process('vintage', users[0].photo(), wait_seconds=0)['job_id']
    assert timed(users[0].api.status, job, 1)[0] > 0.9


def test_the_other_caller_of_a_shared_job(server, emulator, user):
    emulator.hold()
    path = user.photo()
    first = Background(user.api.process, 'cartoon', path)
    emulator.wait_calls(1)
    with user.another_session() as session:
        session.pid()
        second = Background(session.process, 'cartoon', path)
        wait_until_asleep(server, session.pid())
        server.value('SELECT pg_cancel_backend(%s)', (user.api.pid(),))
        assert isinstance(first.error(), psycopg2.errors.QueryCanceled)
        emulator.release()
        result = second.result()
        assert result['status'] == 'succeeded' and result['credits_used'] == 1
    ends_once(server, emulator, user, result['job_id'])


# --------------------------------------------------------- withdrawn before acceptance

@pytest.mark.embedded('uploads while the worker is stopped')
def test_withdrawn(server, emulator, make_user, stopped_worker):
    """Cancelled, disconnected, timed out while the worker does not listen: nothing is left."""
    cancelled, terminated, overdue, short = users = [make_user() for _ in range(4)]
    paths = [user.photo() for user in users]
    pids = [user.api.pid() for user in users]
    runs = [Background(user.api.process, 'cartoon', path, idempotency_key='k') for user, path in list(zip(users, paths))[:3]]
    runs.append(Background(timed, short.api.process, 'cartoon', paths[3], timeout='1100ms'))
    for pid in pids[:3]:
        wait_until_asleep(server, pid)
    server.value('SELECT pg_cancel_backend(%s)', (pids[0],))
    server.value('SELECT pg_terminate_backend(%s)', (pids[1],))
    assert isinstance(runs[0].error(), psycopg2.errors.QueryCanceled)
    assert isinstance(runs[1].error(), psycopg2.OperationalError)
    for run in runs[2:]:
        error = run.error()
        assert isinstance(error, Refused) and (error.status, error.word) == (503, 'overloaded'), error
    os.kill(stopped_worker, signal.SIGCONT)
    terminated.api.close()
    time.sleep(0.5)
    for user in users:
        left_nothing(server, emulator, user)
    assert server.worker_pid() == stopped_worker
    for user, path in zip(users, paths):
        assert user.api.process('cartoon', path)['status'] == 'succeeded'
        user.assert_money(credits=9, usage=1)


@pytest.mark.embedded('uploads while the worker is stopped')
def test_withdrawn_then_asked_again(server, emulator, user, stopped_worker):
    """The same session asks again while the worker still sleeps: only the second request counts."""
    first, second = user.photo(), user.photo()
    caller = Background(user.api.process, 'cartoon', first)
    wait_until_asleep(server, user.api.pid())
    server.value('SELECT pg_cancel_backend(%s)', (user.api.pid(),))
    assert isinstance(caller.error(), psycopg2.errors.QueryCanceled)
    caller = Background(user.api.process, 'vintage', second)
    wait_until_asleep(server, user.api.pid())
    os.kill(stopped_worker, signal.SIGCONT)
    result = caller.result()
    assert result['status'] == 'succeeded'
    ends_once(server, emulator, user, result['job_id'])
    assert user.job(result['job_id'])['tool_id'] == 'vintage'


@pytest.mark.embedded('uploads while the worker is stopped')
def test_a_slow_worker_within_the_time(server, emulator, user, stopped_worker):
    caller = Background(user.api.process, 'cartoon', user.photo())
    time.sleep(0.8)
    os.kill(stopped_worker, signal.SIGCONT)
    assert caller.result()['status'] == 'succeeded'
    ends_once(server, emulator, user)


# ------------------------------------------------------------- snapshots and forms

@pytest.mark.parametrize('isolation', ['REPEATABLE READ', 'SERIALIZABLE'])
def test_old_snapshots_see_the_result(server, emulator, user, isolation):
    path = user.photo()
    result = user.api.process('cartoon', path, isolation=isolation)
    assert result['status'] == 'succeeded' and result['credits_used'] == 1 and result['credits_remaining'] == 9
    emulator.hold()
    job = user.api.process('vintage', path, isolation=isolation, wait_seconds=0)
    waiting = Background(user.api.status, job['job_id'], 25, isolation=isolation)
    time.sleep(0.3)
    emulator.release()
    assert waiting.result()['status'] == 'succeeded'
    user.assert_money(credits=8, usage=2)


def test_repeatable_read_in_one_transaction(server, emulator, user):
    """The transaction's own snapshot is older than the job; the functions tell of it all the same."""
    path = user.photo()
    client = user.another_session()
    client.call('SELECT count(*) FROM public.generation_jobs', isolation='REPEATABLE READ', commit=False)
    with client.connection.cursor() as cursor:
        cursor.execute("SELECT public.process_image('cartoon', %s)", (path,))
        result = cursor.fetchone()[0]
        assert result['status'] == 'succeeded'
        cursor.execute('SELECT public.generation_status(%s)', (result['job_id'],))
        assert cursor.fetchone()[0]['status'] == 'succeeded'
        cursor.execute('SELECT count(*) FROM public.generation_jobs')
        assert cursor.fetchone()[0] == 0
        cursor.execute("SELECT public.process_image('cartoon', %s)", (path,))
        assert cursor.fetchone()[0]['cached'] is True
    client.connection.commit()
    client.close()
    ends_once(server, emulator, user, result['job_id'])


def test_postgrest_cte(server, emulator, user):
    """One statement, as PostgREST writes it: the call inside a CTE, read outside of it."""
    path = user.photo()
    rows = user.api.call("""
        WITH pgrst_source AS (
            SELECT pgrst_call.pgrst_scalar
              FROM (SELECT '{"tool_id": "cartoon", "original_image_storage_path": "%s"}'::json AS json_data) pgrst_payload,
                   LATERAL (SELECT * FROM json_to_record(pgrst_payload.json_data)
                            AS _("tool_id" text, "original_image_storage_path" text) LIMIT 1) pgrst_body,
                   LATERAL (SELECT "public"."process_image"("tool_id" := pgrst_body."tool_id",
                                "original_image_storage_path" := pgrst_body."original_image_storage_path") pgrst_scalar) pgrst_call)
        SELECT null::bigint AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total,
               coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null') AS body,
               nullif(current_setting('response.headers', true), '') AS response_headers,
               nullif(current_setting('response.status', true), '') AS response_status, '' AS response_inserted
          FROM (SELECT * FROM pgrst_source) _postgrest_t""" % path)
    assert rows[0][1] == 1 and rows[0][2]['status'] == 'succeeded' and rows[0][2]['credits_used'] == 1
    ends_once(server, emulator, user, rows[0][2]['job_id'])


def test_get_submits_nothing(server, emulator, user):
    """A read-only transaction: a free hit and the state of a job, but no new job."""
    path = user.photo()
    with pytest.raises(psycopg2.Error) as refused:
        user.api.process('cartoon', path, method='GET')
    assert refused.value.pgcode == '25006'
    left_nothing(server, emulator, user)
    job = user.api.process('cartoon', path)['job_id']
    assert user.api.process('cartoon', path, method='GET')['cached'] is True
    assert user.api.status(job, 5, method='GET')['status'] == 'succeeded'
    assert_ledger(server, user.id)
