"""Identical requests at once: one call, one charge, every caller the result, whatever becomes of any of them."""

import os
import socket
import time

import psycopg2
import pytest
from background import Background, together
from conftest import without_link
from sparky_server import Refused, wait_for

MANY = 50
CONF = ['sparky.max_waiting_calls = 200', 'sparky.max_waiting_calls_per_user = 200', "sparky.accept_timeout = '20s'"]


@pytest.fixture
def sessions(user):
    """A maker of further sessions of the user."""
    made = []

    def make():
        made.append(user.another_session())
        return made[-1]
    yield make
    for session in made:
        session.close()


def waiting(server, function='process_image'):
    """Sessions inside one of our functions that sleep."""
    return server.value("SELECT count(*)::int FROM pg_stat_activity WHERE usename = 'authenticator' AND state = 'active'"
                        " AND wait_event_type = 'Extension' AND query LIKE %s", (f'%{function}%',))


def all_together(server, emulator, apis, path):
    """Ask at once; the call is answered when all are waiting for it."""
    for api in apis:
        api.pid()
    emulator.hold()
    callers = Background(together, *[lambda api=api: api.process('cartoon', path) for api in apis])
    wait_for(lambda: waiting(server) == len(apis), 30, 'all to wait')
    emulator.release()
    return callers.result(60)


def test_fifty_at_once(server, emulator, user, sessions):
    path = user.photo()
    results = all_together(server, emulator, [sessions() for _ in range(MANY)], path)
    assert results[0]['status'] == 'succeeded', results[0]
    assert all(without_link(result) == without_link(results[0]) for result in results), results
    assert results[0]['credits_used'] == 1 and results[0]['credits_remaining'] == 9
    assert len(emulator.calls()) == 1
    assert user.count('public.generation_jobs') == 1 and user.count('public.generations') == 1
    user.assert_money(credits=9, usage=1)


def test_fifty_at_once_without_any_delay(server, emulator, user, sessions):
    """Some join, some come when the result is in the cache: still one call, one result."""
    emulator.latency(0)
    path = user.photo()
    results = together(*[lambda api=sessions(): api.process('cartoon', path) for _ in range(MANY)])
    assert {result['status'] for result in results} == {'succeeded'}, results
    assert len({(result['generation_id'], result['image_path']) for result in results}) == 1
    assert all(result['credits_used'] == (0 if result['cached'] else 1) for result in results)
    assert len(emulator.calls()) == 1
    user.assert_money(credits=9, usage=1)


def test_the_last_credit_pays_for_all(server, emulator, user, sessions):
    server.query('UPDATE public.users SET credits = 1 WHERE id = %s', (user.id,))
    results = all_together(server, emulator, [sessions() for _ in range(10)], user.photo())
    assert {result['status'] for result in results} == {'succeeded'}, results
    user.assert_money(credits=0, usage=1)


def test_a_refusal_reaches_all_and_nobody_pays(server, emulator, user, sessions):
    emulator.script({'fault': 'refusal', 'times': 0})
    results = all_together(server, emulator, [sessions() for _ in range(20)], user.photo())
    assert all(without_link(result) == results[0] for result in results), results
    assert results[0]['status'] == 'failed' and results[0]['error']['code'] == 'refused' and results[0]['credits_used'] == 0
    assert len(emulator.calls()) == 1
    user.assert_money(credits=10, usage=0)


def test_refresh_joins_a_job_in_flight(emulator, user, sessions):
    emulator.hold()
    path = user.photo()
    job = user.api.process('cartoon', path, wait_seconds=0)['job_id']
    assert user.api.process('cartoon', path, wait_seconds=0, refresh=True)['job_id'] == job
    emulator.release()
    user.api.finish(job)
    # and a plain request joins a refresh, whose older result it could have had: no, that one is in the cache and free
    emulator.hold()
    fresh = user.api.process('cartoon', path, wait_seconds=0, refresh=True)
    assert user.api.process('cartoon', path)['cached'] is True
    assert user.api.process('cartoon', path, wait_seconds=0, refresh=True)['job_id'] == fresh['job_id']
    emulator.release()
    user.api.finish(fresh['job_id'])
    assert len(emulator.calls()) == 2
    user.assert_money(credits=8, usage=2)


def start_three(server, emulator, user, sessions):
    """A leader and two who joined, all waiting for a call that is held."""
    emulator.hold()
    path = user.photo()
    apis = [sessions() for _ in range(3)]
    pids = [api.pid() for api in apis]
    callers = []
    for number, api in enumerate(apis):
        callers.append(Background(api.process, 'cartoon', path))
        wait_for(lambda: waiting(server) == number + 1, 20, 'a caller that waits')
    emulator.wait_calls(1)
    return apis, pids, callers


@pytest.mark.parametrize('who', [0, 1], ids=['leader', 'joiner'])
@pytest.mark.parametrize('how', ['cancel', 'terminate', 'hang up'])
def test_one_who_cancels_or_leaves_changes_nothing(server, emulator, user, sessions, who, how):
    apis, pids, callers = start_three(server, emulator, user, sessions)
    if how == 'cancel':
        server.query('SELECT pg_cancel_backend(%s)', (pids[who],))
    elif how == 'terminate':
        server.query('SELECT pg_terminate_backend(%s)', (pids[who],))
    else:
        with socket.socket(fileno=os.dup(apis[who].connection.fileno())) as client:
            client.shutdown(socket.SHUT_RDWR)
    with pytest.raises((psycopg2.Error, OSError)):
        callers[who].result(10)
    emulator.release()
    results = [caller.result() for number, caller in enumerate(callers) if number != who]
    assert results[0]['status'] == 'succeeded' and without_link(results[0]) == without_link(results[1])
    assert len(emulator.calls()) == 1
    assert user.api.status(results[0]['job_id'])['status'] == 'succeeded'
    user.assert_money(credits=9, usage=1)


def test_a_joiner_whose_time_is_up(server, emulator, user, sessions):
    emulator.hold()
    path = user.photo()
    leader = Background(sessions().process, 'cartoon', path)
    emulator.wait_calls(1)
    began = time.monotonic()
    result = sessions().process('cartoon', path, wait_seconds=1)
    assert result['status'] == 'running' and 0.9 < time.monotonic() - began < 15      # not the 25 s of an untold wait
    result = sessions().process('cartoon', path, timeout='2s')      # the statement's own timer: an answer, not an error
    assert result['status'] == 'running'
    emulator.release()
    assert leader.result()['job_id'] == result['job_id']
    user.assert_money(credits=9, usage=1)


def test_joining_between_answer_and_settlement(server, emulator, user, sessions):
    """The user's row is locked by somebody: the answer is safe, but not settled yet."""
    emulator.hold()
    path = user.photo()
    job = user.api.process('cartoon', path, wait_seconds=0)['job_id']
    emulator.wait_calls(1)
    holder = server.connect(autocommit=False)
    try:
        holder.cursor().execute('SELECT 1 FROM public.users WHERE id = %s FOR UPDATE', (user.id,))
        emulator.release()
        wait_for(lambda: user.job(job)['status'] in ('answered', 'storing'), 20, 'the answer to be kept')
        assert server.value('SELECT count(*) FROM sparky.answers WHERE job_id = %s', (job,)) == 1
        joiners = [Background(sessions().process, 'cartoon', path, idempotency_key=f'late {n}', refresh=bool(n % 2)) for n in range(4)]
        wait_for(lambda: waiting(server) == 4, 20, 'the joiners to wait')
        assert user.count('public.credit_usage') == 0 and user.api.status(job)['status'] == 'running'
    finally:
        holder.rollback()
        holder.close()
    results = [joiner.result() for joiner in joiners]
    assert {result['job_id'] for result in results} == {job} and {result['status'] for result in results} == {'succeeded'}
    assert server.value('SELECT count(*) FROM sparky.answers') == 0
    assert len(emulator.calls()) == 1
    call, = user.provider_calls()
    assert call['charged'] is True
    user.assert_money(credits=9, usage=1)


def test_a_user_who_is_deleted_in_mid_job(server, emulator, user, sessions):
    apis, _, callers = start_three(server, emulator, user, sessions)
    job = server.value('SELECT id FROM public.generation_jobs WHERE user_id = %s', (user.id,))
    files = server.value('SELECT count(*) FROM sparky.stored_files')
    server.query('DELETE FROM auth.users WHERE id = %s', (user.id,))
    emulator.release()
    for caller in callers:
        with pytest.raises(Refused) as refused:
            caller.result()
        assert (refused.value.status, refused.value.word) == (401, 'account_gone')
    emulator.wait_idle()
    wait_for(lambda: server.value('SELECT outcome FROM sparky.provider_calls WHERE job_id = %s', (job,)), 20, 'the call to be noted')
    assert server.value("SELECT count(*) FROM storage.objects WHERE name LIKE %s AND bucket_id = 'generations'", (f'%{job}%',)) == 0
    assert server.value('SELECT count(*) FROM sparky.stored_files') <= files
    for table in ('generations', 'credit_usage', 'generation_jobs'):
        assert user.count('public.' + table) == 0
    assert server.value('SELECT charged FROM sparky.provider_calls WHERE job_id = %s', (job,)) is False
    assert server.value("SELECT count(*) FROM public.credit_ledger WHERE user_id = %s AND kind = 'usage'", (user.id,)) == 0
    assert server.value('SELECT count(*) FROM cache.kv_store WHERE value::text LIKE %s', (f'%{job}%',)) == 0
    for api in apis[:2]:
        with pytest.raises(Refused) as refused:
            api.status(job)
        assert refused.value.word == 'account_gone'


def test_a_deletion_that_is_rolled_back(server, emulator, user, sessions):
    """While nobody knows whether the account goes, the answer waits; then it is delivered and charged."""
    _, _, callers = start_three(server, emulator, user, sessions)
    deleter = server.connect(autocommit=False)
    try:
        deleter.cursor().execute('DELETE FROM auth.users WHERE id = %s', (user.id,))
        emulator.release()
        emulator.wait_idle()
        time.sleep(0.5)
        assert all(not caller.done() for caller in callers) and user.count('public.credit_usage') == 0
    finally:
        deleter.rollback()
        deleter.close()
    results = [caller.result() for caller in callers]
    assert {result['status'] for result in results} == {'succeeded'}
    assert len(emulator.calls()) == 1
    user.assert_money(credits=9, usage=1)


def test_one_for_each_user_goes_on_while_another_users_row_is_locked(server, emulator, user, make_user):
    """A postponed settlement postpones nobody else."""
    other = make_user()
    mine, theirs = user.photo(), other.photo()
    emulator.hold()
    job = user.api.process('cartoon', mine, wait_seconds=0)['job_id']
    emulator.wait_calls(1)
    holder = server.connect(autocommit=False)
    try:
        holder.cursor().execute('SELECT 1 FROM public.users WHERE id = %s FOR UPDATE', (user.id,))
        emulator.release()
        assert other.api.process('cartoon', theirs)['status'] == 'succeeded'
        assert user.api.status(job)['status'] == 'running'
    finally:
        holder.rollback()
        holder.close()
    assert user.api.finish(job)['status'] == 'succeeded'


def test_a_job_past_its_deadline_is_nobodys(server, emulator, user, sessions):
    """Who asks again gets a job of his own; the dead one holds nothing."""
    emulator.hold()
    path = user.photo()
    dead = user.api.process('cartoon', path, wait_seconds=0)['job_id']
    emulator.wait_calls(1)
    server.query("UPDATE public.generation_jobs SET deadline = now() - interval '1 second' WHERE id = %s", (dead,))
    assert user.api.status(dead)['error']['code'] == 'provider_timeout'
    living = user.api.process('cartoon', path, wait_seconds=0)
    assert living['job_id'] != dead and user.job(dead)['status'] == 'failed' and user.held() == 1
    emulator.wait_calls(2)
    emulator.release()
    assert user.api.finish(living['job_id'])['status'] == 'succeeded'
    assert user.api.status(dead)['status'] == 'failed'
    user.assert_money(credits=9, usage=1)
