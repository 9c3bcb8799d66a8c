"""Idempotency keys: a client may repeat itself, over lost connections and restarts, without a second job."""

import psycopg2
import pytest
from background import Background, together
from conftest import without_link
from sparky_server import Refused, wait_for

CONF = ['sparky.max_waiting_calls = 100', 'sparky.max_waiting_calls_per_user = 100']


def refused(call, *arguments, **named):
    with pytest.raises(Refused) as caught:
        call(*arguments, **named)
    return caught.value


def assert_conflict(call, *arguments, **named):
    error = refused(call, *arguments, **named)
    assert (error.status, error.word) == (409, 'idempotency_conflict')


def age(server, user, interval):
    server.query('UPDATE sparky.request_keys SET created_at = created_at - %s::interval WHERE user_id = %s', (interval, user.id))


def test_a_hundred_times_over_reconnects_and_a_restart(server, emulator, user):
    path = user.photo()
    key = 'k' * 199 + 'ü'
    first = user.api.process('cartoon', path, idempotency_key=key, refresh=True)
    assert first['status'] == 'succeeded'
    for number in range(100):
        if number % 5 == 0:
            user.api.close()
        if number == 50:
            server.restart()
            server.worker_pid()
        again = user.api.process('cartoon', path, idempotency_key=key, refresh=True)
        assert without_link(again) == without_link(first)
    assert len(emulator.calls()) == 1 and user.count('sparky.request_keys') == 1
    user.assert_money(credits=9, usage=1)


def test_a_repeat_after_the_answer_was_lost(server, emulator, user):
    """The case that keys are for: the client lost its connection while it waited."""
    path = user.photo()
    emulator.hold()
    lost = user.another_session()
    pid = lost.pid()
    caller = Background(lost.process, 'cartoon', path, idempotency_key='lost')
    emulator.wait_calls(1)
    server.query('SELECT pg_terminate_backend(%s)', (pid,))
    with pytest.raises(psycopg2.Error):
        caller.result()
    repeat = Background(user.api.process, 'cartoon', path, idempotency_key='lost')
    emulator.release()
    assert repeat.result()['status'] == 'succeeded'
    assert len(emulator.calls()) == 1
    user.assert_money(credits=9, usage=1)


def test_two_first_uses_at_once(server, emulator, user):
    apis = [user.another_session() for _ in range(4)]
    for number in range(8):
        path = user.photo()
        results = together(*[lambda api=api: api.process('cartoon', path, idempotency_key=f'pair {number}', wait_seconds=0) for api in apis])
        assert len({result['job_id'] for result in results}) == 1, results
        user.api.finish(results[0]['job_id'])
    assert len(emulator.calls()) == 8
    user.assert_money(credits=2, usage=8)


def test_two_different_first_uses_at_once(server, emulator, rich):
    """One of them has the key; the other is told so and costs nothing."""
    apis = [rich.another_session() for _ in range(2)]
    for number in range(8):
        paths = [rich.photo(), rich.photo()]
        results = together(*[lambda api=api, path=path: api.process('cartoon', path, idempotency_key=f'race {number}', wait_seconds=0)
                             for api, path in zip(apis, paths)])
        jobs = [result for result in results if isinstance(result, dict)]
        errors = [result for result in results if isinstance(result, Refused)]
        assert len(jobs) == 1 and len(errors) == 1 and errors[0].word == 'idempotency_conflict', results
        rich.api.finish(jobs[0]['job_id'])
    assert len(emulator.calls()) == 8
    rich.assert_money(credits=100000 - 8, usage=8)


def test_another_request_is_a_conflict(server, emulator, user):
    path = user.photo()
    color = server.value('SELECT hex_code FROM public.hair_colors ORDER BY hex_code LIMIT 1')
    job = user.api.process('hair-color', path, {'color': color}, idempotency_key='k')['job_id']
    assert user.api.process('hair-color', path.removeprefix('user_uploads/'), {'color': color}, idempotency_key='k')['job_id'] == job
    assert user.api.process('hair-color', path, {'color': color}, idempotency_key='k', wait_seconds=0)['job_id'] == job
    other = server.value('SELECT hex_code FROM public.hair_colors ORDER BY hex_code DESC LIMIT 1')
    for change in ({'parameters': {'color': other}}, {'tool': 'cartoon', 'parameters': {}}, {'path': user.photo()}, {'refresh': True}):
        request = {'tool': 'hair-color', 'path': path, 'parameters': {'color': color}, 'idempotency_key': 'k', **change}
        assert_conflict(user.api.process, **request)
    assert_conflict(user.api.analyze, 'hair-color', path, {'color': color}, idempotency_key='k')
    assert len(emulator.calls()) == 1


def test_a_known_key_answers_before_anything_else_is_looked_at(server, emulator, user):
    """Even when tool, photo and credits are gone by now."""
    path = user.photo()
    first = user.api.process('vintage', path, idempotency_key='k', refresh=True)
    server.query('UPDATE public.users SET credits = 0 WHERE id = %s', (user.id,))
    server.query("UPDATE public.tools SET is_active = false WHERE id = 'vintage'")
    try:
        user.api.rpc('delete_upload', path=path)
        assert user.api.process('vintage', path, idempotency_key='k', refresh=True)['job_id'] == first['job_id']
        assert refused(user.api.process, 'vintage', path, idempotency_key='another').word == 'tool_not_found'
    finally:
        server.query("UPDATE public.tools SET is_active = true WHERE id = 'vintage'")


def test_keys_of_two_users_are_two_keys(emulator, user, make_user):
    other = make_user()
    mine = user.api.process('cartoon', user.photo(), idempotency_key='same')
    theirs = other.api.process('cartoon', other.photo(), idempotency_key='same')
    assert mine['job_id'] != theirs['job_id']


def test_a_failed_job_replays(emulator, user):
    path = user.photo()
    emulator.script({'fault': 'refusal', 'times': 1})
    failed = user.api.process('cartoon', path, idempotency_key='k')
    assert failed['status'] == 'failed' and failed['error']['code'] == 'refused'
    for _ in range(3):
        assert user.api.process('cartoon', path, idempotency_key='k') == failed
    assert len(emulator.calls()) == 1
    assert user.api.process('cartoon', path, idempotency_key='k2')['status'] == 'succeeded'
    user.assert_money(credits=9, usage=1)


def test_a_refused_request_keeps_no_key(server, emulator, user):
    """What was not accepted can be repeated with the same key once the reason is gone."""
    path = user.photo()
    server.query('UPDATE public.users SET credits = 0 WHERE id = %s', (user.id,))
    assert refused(user.api.process, 'cartoon', path, idempotency_key='k').word == 'insufficient_credits'
    server.query('UPDATE public.users SET credits = 5 WHERE id = %s', (user.id,))
    assert user.api.process('cartoon', path, idempotency_key='k')['status'] == 'succeeded'


def test_a_joiner_has_his_key_too(emulator, user):
    path = user.photo()
    emulator.hold()
    job = user.api.process('cartoon', path, idempotency_key='leader', wait_seconds=0)['job_id']
    assert user.api.process('cartoon', path, idempotency_key='joiner', wait_seconds=0)['job_id'] == job
    emulator.release()
    user.api.finish(job)
    for key in ('leader', 'joiner'):
        assert user.api.process('cartoon', path, idempotency_key=key)['job_id'] == job
    assert_conflict(user.api.process, 'vintage', path, idempotency_key='joiner')
    user.assert_money(credits=9, usage=1)


def test_the_key_of_a_hit(server, emulator, user):
    path = user.photo()
    first = user.api.process('cartoon', path)
    hit = user.api.process('cartoon', path, idempotency_key='hit')
    assert hit['cached'] is True and hit['generation_id'] == first['generation_id']
    server.query('DELETE FROM cache.kv_store')
    assert without_link(user.api.process('cartoon', path, idempotency_key='hit')) == without_link(hit)          # the answer of the key, not of the cache
    assert_conflict(user.api.process, 'vintage', path, idempotency_key='hit')
    assert len(emulator.calls()) == 1
    user.assert_money(credits=9, usage=1)


def test_first_uses_of_a_hits_key_at_once(emulator, user):
    path, other = user.photo(), user.photo()
    for photo in (path, other):
        user.api.process('cartoon', photo)
    apis = [user.another_session() for _ in range(6)]
    results = together(*[lambda api=api, n=n: api.process('cartoon', (path, other)[n % 2], idempotency_key='hit') for n, api in enumerate(apis)])
    hits = [result for result in results if isinstance(result, dict)]
    assert len(hits) == 3 and len({hit['generation_id'] for hit in hits}) == 1
    assert {result.word for result in results if isinstance(result, Refused)} == {'idempotency_conflict'}


def test_a_read_only_hit_notes_no_key(emulator, user):
    path = user.photo()
    user.api.process('cartoon', path)
    assert user.api.process('cartoon', path, idempotency_key='get', method='GET')['cached'] is True
    assert user.count('sparky.request_keys') == 0


def test_a_read_only_transaction_submits_nothing(emulator, user):
    path = user.photo()
    with pytest.raises(psycopg2.Error) as caught:
        user.api.process('cartoon', path, method='GET')
    assert caught.value.pgcode == '25006'
    assert emulator.calls() == [] and user.count('public.generation_jobs') == 0


@pytest.mark.parametrize('kind', ['job', 'failed', 'hit'])
def test_a_key_is_kept_for_24_hours(server, emulator, user, kind):
    path, other = user.photo(), user.photo()
    if kind == 'failed':
        emulator.script({'fault': 'refusal', 'times': 1})
    if kind == 'hit':
        user.api.process('cartoon', path)
    first = user.api.process('cartoon', path, idempotency_key='k')
    age(server, user, '23 hours 59 minutes')
    again = user.api.process('cartoon', path, idempotency_key='k')
    assert without_link(again) == without_link(first) and again['cached'] is (kind == 'hit')
    assert_conflict(user.api.process, 'vintage', path, idempotency_key='k')
    # then it is free, clean-up or not: for a job, and for a hit
    age(server, user, '1 minute')
    new = user.api.process('vintage', other, idempotency_key='k')
    assert new['status'] == 'succeeded' and new['cached'] is False and new['generation_id'] != first.get('generation_id')
    assert user.api.process('vintage', other, idempotency_key='k')['job_id'] == new['job_id']
    age(server, user, '24 hours')
    hit = user.api.process('vintage', other, idempotency_key='k')
    assert hit['cached'] is True
    assert without_link(user.api.process('vintage', other, idempotency_key='k')) == without_link(hit)
    assert_conflict(user.api.process, 'cartoon', path, idempotency_key='k')
    assert user.count('sparky.request_keys') == 1


def test_a_key_is_kept_until_its_job_has_ended(server, emulator, user):
    emulator.hold()
    path = user.photo()
    job = user.api.process('cartoon', path, idempotency_key='k', wait_seconds=0)['job_id']
    emulator.wait_calls(1)
    age(server, user, '3 days')
    assert user.api.process('cartoon', path, idempotency_key='k', wait_seconds=0)['job_id'] == job
    assert_conflict(user.api.process, 'vintage', path, idempotency_key='k')
    emulator.release()
    user.api.finish(job)
    assert user.api.process('vintage', path, idempotency_key='k')['job_id'] != job


def test_a_rolled_back_caller_has_had_his_job(server, emulator, user):
    """Acceptance is the worker's commit: the caller's own transaction does not undo it."""
    path = user.photo()
    connection = server.connect(user='authenticator', autocommit=False)
    try:
        with connection.cursor() as cursor:
            client = user.another_session()
            client.connection = connection
            client.begin(cursor)
            cursor.execute("SELECT public.process_image('cartoon', %s, idempotency_key := 'gone')", (path,))
            job = cursor.fetchone()[0]['job_id']
        connection.rollback()
    finally:
        connection.close()
    assert user.api.process('cartoon', path, idempotency_key='gone')['job_id'] == job
    wait_for(lambda: user.credits() == 9, 20, 'the charge')
    assert len(emulator.calls()) == 1


@pytest.mark.parametrize('key', ['', 'x' * 201, 'ü' * 201], ids=['empty', 'long', 'long in bytes'])
def test_a_key_has_1_to_200_characters(emulator, user, key):
    assert refused(user.api.process, 'cartoon', user.photo(), idempotency_key=key).word == 'bad_parameters'
