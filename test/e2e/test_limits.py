"""What one user, and all of them together, may spend: decided under the user's lock, at acceptance."""

import time

import photos
import psycopg2
import pytest
from background import Background, together
from conftest import assert_ledger, fresh_photo
from sparky_server import Refused, wait_for

SETTINGS = {'max_jobs_per_user': 16, 'max_uncharged_calls_per_day': 20, 'max_provider_calls_per_day': 0,
            'max_stored_bytes_per_user': 209715200, 'accept_timeout': "'5s'", 'job_deadline': "'10min'"}


@pytest.fixture
def settings(server):
    """Change sparky.* settings for one test."""
    def change(**values):
        server.reload(*[f'sparky.{name} = {value}' for name, value in values.items()])
    yield change
    change(**SETTINGS)


def refused(call, *arguments, **named):
    with pytest.raises(Refused) as caught:
        call(*arguments, **named)
    return caught.value


def words(results):
    return sorted(result.word for result in results if isinstance(result, Refused))


def many(user, number, photos_given=None, **arguments):
    """That many different requests at once, each in a session of its own; none waits for its result."""
    paths = photos_given or [user.photo() for _ in range(number)]
    apis = [user.another_session() for _ in paths]
    for api in apis:
        api.pid()
    results = together(*[lambda api=api, path=path: api.process('cartoon', path, wait_seconds=0, **arguments) for api, path in zip(apis, paths)])
    for api in apis:
        api.close()
    unexpected = [result for result in results if not isinstance(result, (dict, Refused))]
    assert unexpected == []
    return [result for result in results if isinstance(result, dict)], results


def finish_all(user, jobs):
    for job in jobs:
        assert user.api.finish(job['job_id'])['status'] == 'succeeded'


# ---- credits and the day

def test_ten_a_day_of_forty_at_once(server, emulator, make_user):
    """100 credits, 10 a day: exactly 10 of 40 are accepted, whatever the order."""
    user = make_user(credits=100)
    emulator.hold()
    accepted, results = many(user, 40)
    assert len(accepted) == 10 and words(results) == ['daily_limit'] * 30
    error = next(result for result in results if isinstance(result, Refused))
    assert error.status == 429 and 0 < int(error.retry_after) <= 86400
    assert user.held() == 10 and user.count('public.generation_jobs') == 10
    emulator.release()
    finish_all(user, accepted)
    assert refused(user.api.process, 'cartoon', user.photo()).word == 'daily_limit'
    assert len(emulator.calls()) == 10
    user.assert_money(credits=90, usage=10)
    assert user.api.rpc('my_account')['used_today'] == 10


def test_a_job_that_ends_without_charge_gives_its_place_back(server, emulator, make_user):
    user = make_user(credits=100)
    emulator.script({'fault': 'refusal', 'times': 3})
    for _ in range(3):
        assert user.api.process('cartoon', user.photo())['status'] == 'failed'
    emulator.hold()
    accepted, results = many(user, 12)
    assert len(accepted) == 10 and words(results) == ['daily_limit'] * 2
    emulator.release()
    finish_all(user, accepted)


def test_usage_counts_on_its_utc_day(server, emulator, make_user):
    """What was charged before this midnight does not count, to the microsecond."""
    user = make_user(credits=100)
    for _ in range(3):
        user.api.process('cartoon', user.photo())
    midnight = server.value("SELECT date_trunc('day', now(), 'UTC')")
    server.query('UPDATE public.credit_usage SET created_at = %s WHERE id IN (SELECT id FROM public.credit_usage WHERE user_id = %s LIMIT 1)',
                 (midnight, user.id))
    assert user.api.rpc('my_account')['used_today'] == 3
    server.query("UPDATE public.credit_usage SET created_at = %s::timestamptz - interval '1 microsecond' WHERE user_id = %s", (midnight, user.id))
    assert user.api.rpc('my_account')['used_today'] == 0
    emulator.hold()
    accepted, results = many(user, 11)
    assert len(accepted) == 10 and words(results) == ['daily_limit']
    emulator.release()
    finish_all(user, accepted)


def test_no_more_than_the_balance(server, emulator, make_user):
    user = make_user(credits=3)
    emulator.hold()
    accepted, results = many(user, 9)
    assert len(accepted) == 3 and words(results) == ['insufficient_credits'] * 6
    assert all(result.status == 402 for result in results if isinstance(result, Refused))
    emulator.release()
    finish_all(user, accepted)
    user.assert_money(credits=0, usage=3)
    assert refused(user.api.process, 'cartoon', user.photo()).word == 'insufficient_credits'


def test_the_price_is_the_tools(server, emulator, make_user):
    user = make_user(credits=5)
    server.query("UPDATE public.tools SET credits = 3 WHERE id = 'vintage'")
    try:
        result = user.api.process('vintage', user.photo())
        assert result['credits_used'] == 3 and result['credits_remaining'] == 2
        assert refused(user.api.process, 'vintage', user.photo()).word == 'insufficient_credits'
        server.query("UPDATE public.tools SET credits = 0 WHERE id = 'vintage'")
        assert user.api.process('vintage', user.photo())['credits_used'] == 0
    finally:
        server.query("UPDATE public.tools SET credits = 1 WHERE id = 'vintage'")
    user.assert_money(credits=2, usage=2)


def test_a_debt_stops_spending(server, emulator, make_user):
    user = make_user(credits=0)
    server.query('UPDATE public.users SET debt = 2 WHERE id = %s', (user.id,))
    assert refused(user.api.process, 'cartoon', user.photo()).word == 'insufficient_credits'
    account = user.api.rpc('my_account')
    assert (account['credits'], account['debt'], account['available']) == (0, 2, 0)
    assert_ledger(server, user.id)


def test_a_plan_that_ended_is_the_free_plan(server, emulator, make_user):
    """From the timestamp alone, without any scheduled job."""
    user = make_user(credits=100, plan=2)
    assert user.api.rpc('my_account')['max_daily_credits'] == 50
    style = server.value('SELECT id FROM public.hairstyles WHERE is_pro LIMIT 1')
    assert user.api.process('hairstyle-changer', user.photo(), {'hairstyle_id': style})['status'] == 'succeeded'
    server.query('UPDATE public.users SET plan_expires_at = now() WHERE id = %s', (user.id,))
    assert user.api.rpc('my_account')['max_daily_credits'] == 10
    assert refused(user.api.process, 'hairstyle-changer', user.photo(), {'hairstyle_id': style}).word == 'pro_required'
    emulator.hold()
    accepted, results = many(user, 12)
    assert len(accepted) == 9 and words(results) == ['daily_limit'] * 3
    emulator.release()
    finish_all(user, accepted)


# ---- jobs, waiting calls, storage

def test_sixteen_jobs_at_once(server, emulator, rich):
    emulator.hold()
    accepted, results = many(rich, 20)
    assert len(accepted) == 16 and words(results) == ['too_many_jobs'] * 4
    assert all(int(result.retry_after) > 0 and result.status == 429 for result in results if isinstance(result, Refused))
    emulator.release()
    finish_all(rich, accepted)
    assert rich.api.process('cartoon', rich.photo())['status'] == 'succeeded'


def test_waiting_calls_of_a_user_and_of_all(server, emulator, make_user):
    """Past the caps a call returns at once with its job; who leaves makes room."""
    users = [make_user() for _ in range(4)]
    emulator.hold()

    def wait(user, seconds=50):
        path = user.photo()
        return Background(user.another_session().process, 'cartoon', path, wait_seconds=seconds)

    def remain(backgrounds, number):
        wait_for(lambda: sum(not background.done() for background in backgrounds) == number, 20, f'{number} of {len(backgrounds)} calls to wait')
        time.sleep(0.3)
        assert sum(not background.done() for background in backgrounds) == number
    own = [wait(users[0]) for _ in range(3)]
    remain(own, 2)                                                      # two of one user
    others = [wait(user) for user in users[1:3] for _ in range(2)]
    remain(own + others, 6)                                             # six in all
    last = users[3].another_session()
    began = time.monotonic()
    result = last.process('cartoon', users[3].photo(), wait_seconds=20)
    assert result['status'] in ('queued', 'running')
    assert last.status(result['job_id'], wait_seconds=20)['status'] in ('queued', 'running') and time.monotonic() - began < 10
    leaver = server.value("SELECT pid FROM pg_stat_activity WHERE usename = 'authenticator' AND state = 'active' AND query LIKE '%%process_image%%'"
                          " AND wait_event_type = 'Extension' LIMIT 1", ())
    server.query('SELECT pg_terminate_backend(%s)', (leaver,))
    wait_for(lambda: not server.value('SELECT count(*) FROM pg_stat_activity WHERE pid = %s', (leaver,)), 20, 'the session to be gone')
    waiter = Background(last.status, result['job_id'], wait_seconds=20)
    remain([waiter], 1)
    emulator.release()
    assert waiter.result()['status'] == 'succeeded'
    ended = []
    for background in own + others:
        try:
            ended.append(background.result()['status'])
        except psycopg2.Error:
            ended.append('left')
    assert sorted(ended) in [['left', 'queued'] + ['succeeded'] * 5, ['left', 'running'] + ['succeeded'] * 5]


def test_the_storage_quota_counts_at_acceptance_not_at_settlement(server, emulator, settings, user):
    before = user.api.upload(photos.big_png(1, 4096))['path']
    emulator.hold()
    job = user.api.process('cartoon', before, wait_seconds=0)
    emulator.wait_calls(1)
    settings(max_stored_bytes_per_user=2048)
    error = refused(user.api.process, 'vintage', before)
    assert (error.status, error.word) == (413, 'storage_quota')
    assert refused(user.api.upload, fresh_photo()).word == 'storage_quota'
    emulator.release()
    assert user.api.finish(job['job_id'])['status'] == 'succeeded'
    assert user.api.process('cartoon', before)['cached'] is True        # what is there is free
    settings(max_stored_bytes_per_user=1024 * 1024)
    assert user.api.process('vintage', before)['status'] == 'succeeded'
    user.assert_money(credits=8, usage=2)


# ---- our cost

@pytest.mark.parametrize('fault', ['refusal', 'blocked_prompt', 'text_only', 'bad_request'])
def test_who_is_refused_again_and_again(server, emulator, settings, user, fault):
    settings(max_uncharged_calls_per_day=3)
    emulator.script({'fault': fault, 'times': 0})
    for _ in range(3):
        assert user.api.process('cartoon', user.photo())['status'] == 'failed'
    error = refused(user.api.process, 'cartoon', user.photo())
    assert (error.status, error.word) == (429, 'too_many_failures') and int(error.retry_after) > 0
    assert len(emulator.calls()) == 3
    emulator.reset()
    assert refused(user.api.process, 'cartoon', user.photo()).word == 'too_many_failures'      # a good day elsewhere does not help
    server.query("UPDATE sparky.provider_calls SET started_at = date_trunc('day', now(), 'UTC') - interval '1 microsecond' WHERE user_id = %s", (user.id,))
    assert user.api.process('cartoon', user.photo())['status'] == 'succeeded'                  # the next UTC day does
    user.assert_money(credits=9, usage=1)


@pytest.mark.parametrize('fault', ['auth_401', 'auth_403', 'key_invalid', 'billing', 'not_found', 'not_an_image', 'quota_day'])
def test_our_own_trouble_does_not_count(server, emulator, settings, user, fault):
    settings(max_uncharged_calls_per_day=2)
    emulator.script({'fault': fault, 'times': 0})
    for _ in range(4):
        assert user.api.process('cartoon', user.photo())['status'] == 'failed'
    assert len(emulator.calls()) == 4
    emulator.reset()
    assert user.api.process('cartoon', user.photo())['status'] == 'succeeded'


def test_a_paid_call_does_not_count(server, emulator, settings, user):
    settings(max_uncharged_calls_per_day=1)
    for _ in range(3):
        assert user.api.process('cartoon', user.photo())['status'] == 'succeeded'


def test_who_cancels_again_and_again(server, emulator, settings, user):
    """A cancelled job had no call and costs nothing; but it kept the worker busy, and so it counts."""
    settings(max_uncharged_calls_per_day=3)
    server.query("UPDATE sparky.tool_settings SET model = 'gemini-3-pro-image' WHERE tool_id = 'retouch'")
    emulator.script({'fault': 'rate_limited', 'retryDelay': '6s', 'times': 1})
    first = user.api.process('retouch', user.photo(), {'strength': 'low'}, wait_seconds=0)
    emulator.wait_calls(1)
    wait_for(lambda: user.job(first['job_id'])['status'] == 'queued', 20, 'the job to be queued again')
    for _ in range(3):
        job = user.api.process('retouch', user.photo(), {'strength': 'low'}, wait_seconds=0)
        assert user.api.rpc('cancel_generation', job_id=job['job_id'])['status'] == 'cancelled'
        assert user.api.rpc('cancel_generation', job_id=job['job_id'])['status'] == 'cancelled'      # the same one, again
    error = refused(user.api.process, 'retouch', user.photo(), {'strength': 'low'})
    assert (error.status, error.word) == (429, 'too_many_failures') and int(error.retry_after) > 0
    assert user.api.finish(first['job_id'])['status'] == 'succeeded'
    assert len(emulator.calls()) == 2
    server.query("UPDATE public.generation_jobs SET created_at = created_at - interval '1 day' WHERE user_id = %s", (user.id,))
    assert user.api.process('cartoon', user.photo())['status'] == 'succeeded'                  # the next UTC day
    user.assert_money(credits=8, usage=2)


# ---- the breaker

def calls_today(server):
    return server.value("SELECT count(*) FROM sparky.provider_calls WHERE started_at >= date_trunc('day', now(), 'UTC')")


def test_the_sixth_call_of_the_day_is_refused(server, emulator, settings, make_user):
    users = [make_user() for _ in range(3)]
    settings(max_provider_calls_per_day=calls_today(server) + 5)
    emulator.hold()
    apis = [user.another_session() for user in users for _ in range(4)]
    paths = [user.photo() for user in users for _ in range(4)]
    results = together(*[lambda api=api, path=path: api.process('cartoon', path, wait_seconds=0) for api, path in zip(apis, paths)])
    accepted = [result for result in results if isinstance(result, dict)]
    assert len(accepted) == 5 and words(results) == ['spend_limit'] * 7
    assert all(result.status == 503 for result in results if isinstance(result, Refused))
    emulator.release()
    emulator.wait_calls(5)
    wait_for(lambda: server.value("SELECT count(*) FROM public.generation_jobs WHERE status = 'generating'") == 0, 20, 'the jobs to end')
    error = refused(users[0].api.process, 'cartoon', users[0].photo())
    assert (error.status, error.word) == (503, 'spend_limit')
    assert users[0].held() == 0 and len(emulator.calls()) == 5
    settings(max_provider_calls_per_day=calls_today(server) + 1)
    assert users[0].api.process('cartoon', users[0].photo())['status'] == 'succeeded'
    assert refused(users[1].api.process, 'cartoon', users[1].photo()).word == 'spend_limit'


def test_repeats_count_too(server, emulator, settings, user):
    """A job whose first call was turned away does not get a second one past the limit."""
    settings(max_provider_calls_per_day=calls_today(server) + 1)
    emulator.script({'fault': 'unavailable', 'times': 1})
    result = user.api.process('cartoon', user.photo())
    assert result['status'] == 'failed' and len(emulator.calls()) == 1, result
    user.assert_money(credits=10, usage=0)


def test_a_hit_is_free_of_the_breaker(server, emulator, settings, user):
    path = user.photo()
    user.api.process('cartoon', path)
    settings(max_provider_calls_per_day=1)
    assert user.api.process('cartoon', path)['cached'] is True


@pytest.mark.parametrize('limit', [0, 1000000], ids=['no breaker', 'breaker'])
def test_what_cannot_be_read_accepts_nothing(server, emulator, settings, user, limit):
    """Fails closed: without the record of calls there is no call."""
    settings(max_provider_calls_per_day=limit)
    path, worker = user.photo(), server.worker_pid()
    server.query('ALTER TABLE sparky.provider_calls RENAME TO provider_calls_away')
    try:
        assert refused(user.api.process, 'cartoon', path).status == 503
        assert user.count('public.generation_jobs') == 0 and user.held() == 0
    finally:
        server.query('ALTER TABLE sparky.provider_calls_away RENAME TO provider_calls')
    assert emulator.calls() == []
    settings(accept_timeout="'700ms'")
    holder = server.connect(autocommit=False)
    try:
        holder.cursor().execute('LOCK TABLE sparky.provider_calls')
        error = refused(user.api.process, 'cartoon', path)
        assert (error.status, error.word) == (503, 'overloaded') and user.count('public.generation_jobs') == 0
    finally:
        holder.rollback()
        holder.close()
    settings(accept_timeout=SETTINGS['accept_timeout'])
    assert user.api.process('cartoon', path)['status'] == 'succeeded'
    assert server.worker_pid() == worker
    user.assert_money(credits=9, usage=1)


def test_everything_booked_agrees(server):
    """After all of the above."""
    assert_ledger(server)
    assert server.value("SELECT count(*) FROM public.generation_jobs WHERE status NOT IN ('succeeded', 'failed', 'cancelled')") == 0
    assert server.value("SELECT coalesce(sum(credits_held), 0) FROM public.generation_jobs WHERE status IN ('failed', 'cancelled')") == 0
