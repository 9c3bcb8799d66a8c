"""Everything that can go wrong with a call, scripted: outcome, number of calls, money, and the worker lives on.

All jobs of the table run side by side, each with a user, a photo and a rule of
its own; each test looks at one of them.
"""

import contextlib
import json
import time

import pytest
from conftest import User, assert_ledger, fresh_photo, sha256
from sparky_server import process_descriptors, process_memory, wait_for

CONF = ['sparky.call_timeout = 6s', 'sparky.max_concurrent_calls = 200', 'sparky.job_deadline = 60s', 'sparky.memory_budget = 512MB',
        'sparky.connect_timeout = 2s']

IMAGE, ANALYSIS = 'cartoon', 'face-shape'
AT_ONCE = 12
GOOD = ('ok', None)
FAILED, REFUSED, TIMEOUT = 'provider_failed', 'refused', 'provider_timeout'


def case(fault, outcome, word, calls=1, times=0, tool=IMAGE, **parameters):
    """times 0: every call of the job meets the fault."""
    extra = '-'.join(str(v)[:24] for v in parameters.values())
    return pytest.param({'fault': fault, 'times': times, **parameters}, tool, outcome, word, calls,
                        id='-'.join(filter(None, (fault, extra, tool if tool != IMAGE else '', f'x{times}' if times else ''))))


TABLE = [
    # HTTP errors
    case('unavailable', 'overloaded', FAILED, calls=3), case('unavailable', 'ok', None, calls=2, times=1), case('unavailable', 'ok', None, calls=3, times=2),
    case('internal', 'upstream', FAILED, calls=3), case('internal', 'ok', None, calls=2, times=1),
    case('bad_gateway_html', 'overloaded', FAILED, calls=3), case('bad_gateway_html', 'ok', None, calls=2, times=1),
    case('deadline', 'upstream_timeout', TIMEOUT),
    case('bad_request', 'bad_request', FAILED), case('failed_precondition', None, FAILED), case('key_invalid', 'auth', FAILED),
    case('auth_401', 'auth', FAILED), case('auth_403', 'auth', FAILED), case('billing', 'billing', FAILED), case('not_found', 'model_gone', FAILED),
    case('cancelled', 'network', FAILED, calls=2), case('redirect', 'redirect', FAILED), case('redirect', 'redirect', FAILED, status=307),
    case('redirect', 'redirect', FAILED, url='https://example.com/'), case('error_200', None, FAILED, calls=None),
    # the connection
    case('reset_before', 'network', FAILED, calls=2), case('reset_before', 'ok', None, calls=2, times=1),
    case('close_before', 'network', FAILED, calls=2), case('close_before', 'ok', None, calls=2, times=1),
    case('reset_inside', 'network', FAILED, calls=2), case('reset_inside', 'ok', None, calls=2, times=1),
    case('short_body', 'network', FAILED, calls=2), case('short_body', 'ok', None, calls=2, times=1),
    case('not_http', None, FAILED, calls=None), case('headers_flood', None, FAILED, calls=None),
    case('silence', 'timeout', TIMEOUT), case('trickle', 'timeout', TIMEOUT), case('slow_ok', 'ok', None, ms=2500), case('slow_ok', 'timeout', TIMEOUT, ms=30000),
    # bodies that are too much
    case('huge_body', 'too_large', FAILED), case('huge_body', 'too_large', FAILED, where='image'), case('gzip_bomb', None, FAILED),
    case('deep_json', 'invalid_output', FAILED), case('duplicate_keys', 'invalid_output', FAILED), case('cut_json', 'invalid_output', FAILED),
    # the model says no
    *[case('blocked_prompt', 'blocked_prompt', REFUSED, reason=reason) for reason in ('SAFETY', 'OTHER', 'BLOCKLIST', 'PROHIBITED_CONTENT', 'IMAGE_SAFETY', 'NEW_REASON')],
    *[case('refusal', 'blocked_output', REFUSED, finish=finish) for finish in
      ('SAFETY', 'IMAGE_SAFETY', 'PROHIBITED_CONTENT', 'IMAGE_PROHIBITED_CONTENT', 'BLOCKLIST', 'SPII', 'RECITATION', 'IMAGE_RECITATION')],
    *[case('refusal', 'no_image', FAILED, finish=finish) for finish in ('NO_IMAGE', 'IMAGE_OTHER', 'OTHER', 'LANGUAGE', 'SOMETHING_NEW')],
    case('refusal', 'invalid_output', FAILED, finish='MALFORMED_RESPONSE'),
    case('refusal', 'truncated', FAILED, finish='CONTINUATION'),
    case('refusal_empty_content', 'blocked_output', REFUSED), case('refusal_empty_content', 'no_image', FAILED, finish='NO_IMAGE'),
    case('no_candidates', 'no_image', FAILED), case('empty_stop', 'no_image', FAILED), case('text_only', 'no_image', FAILED),
    case('max_tokens', 'truncated', FAILED), case('unknown_finish', 'no_image', FAILED), case('no_finish', None, FAILED),
    # pictures
    case('wrong_type', 'ok', None), case('two_images', 'ok', None), case('thought_only', 'ok', None), case('nul_text', 'ok', None), case('lone_surrogate', 'ok', None),
    case('not_an_image', 'invalid_output', FAILED), case('not_an_image', 'no_image', FAILED, declared='text/plain'),
    case('bad_base64', 'invalid_output', FAILED), case('truncated_image', 'invalid_output', FAILED),
    case('ok', 'ok', None, format='jpeg'), case('ok', 'ok', None, thoughts=True), case('ok', 'ok', None, bytes=3000000), case('ok', 'ok', None, model_version='another-model'),
    case('echo_key', 'auth', FAILED),
    # analysis
    case('analysis_split', 'ok', None, tool=ANALYSIS), case('analysis_cut', 'truncated', FAILED, tool=ANALYSIS),
    case('analysis_cut', 'invalid_output', FAILED, tool=ANALYSIS, finish='STOP'), case('bad_schema', 'invalid_output', FAILED, tool=ANALYSIS),
    case('bad_schema', 'invalid_output', FAILED, tool=ANALYSIS, text='no JSON at all'), case('bad_schema', 'invalid_output', FAILED, tool=ANALYSIS, text='{}'),
    case('analysis_nul', 'ok', None, tool=ANALYSIS), case('lone_surrogate', 'ok', None, tool=ANALYSIS),     # replaced by U+FFFD
    case('refusal', 'blocked_output', REFUSED, tool=ANALYSIS, finish='SAFETY'), case('empty_stop', None, FAILED, tool=ANALYSIS),
    case('blocked_prompt', 'blocked_prompt', REFUSED, tool=ANALYSIS), case('unavailable', 'overloaded', FAILED, calls=3, tool=ANALYSIS),
    case('silence', 'timeout', TIMEOUT, tool=ANALYSIS), case('huge_body', 'too_large', FAILED, tool=ANALYSIS),
]


class Run:
    """The whole table at once."""

    def __init__(self, server, emulator):
        self.worker = server.worker_pid()
        self.descriptors = process_descriptors(self.worker)
        self.users, self.jobs, rules = {}, {}, []
        images = {}
        for parameter in TABLE:
            rule, tool, *_ = parameter.values
            self.users[parameter.id] = user = User(server)
            images[parameter.id] = image = fresh_photo()
            rules.append({**rule, 'match': {'image_sha256': sha256(image)}})
        emulator.script(*rules)
        server.query('UPDATE sparky.tool_settings SET timeout = NULL')      # so that sparky.call_timeout counts
        server.reload(f'sparky.max_concurrent_calls = {AT_ONCE}')           # as many connections may be kept for the next call
        for parameter in TABLE:
            user, tool = self.users[parameter.id], parameter.values[1]
            call = user.api.analyze if tool == ANALYSIS else user.api.process
            self.jobs[parameter.id] = call(tool, user.api.upload(images[parameter.id])['path'], wait_seconds=0)['job_id']
        self.ends = {}
        end = time.monotonic() + 90
        while len(self.ends) < len(self.jobs) and time.monotonic() < end:
            for name, job in self.jobs.items():
                if name not in self.ends and self.users[name].job(job)['status'] in ('succeeded', 'failed', 'cancelled'):
                    self.ends[name] = self.users[name].api.status(job)
            time.sleep(0.2)
        server.reload('sparky.max_concurrent_calls = 200')
        self.calls = emulator.calls()
        self.hashes = {name: sha256(image) for name, image in images.items()}
        for user in self.users.values():
            user.api.close()


@pytest.fixture(scope='module')
def run(server, emulator_process):
    emulator_process.reset()
    return Run(server, emulator_process)


@pytest.mark.parametrize('rule, tool, outcome, word, calls', TABLE)
def test_fault(run, request, rule, tool, outcome, word, calls):
    name = request.node.callspec.id
    user, job = run.users[name], run.jobs[name]
    assert name in run.ends, f'still {user.job(job)}'
    end = run.ends[name]
    recorded = user.provider_calls(job)
    received = [c for c in run.calls if c['image_sha256'] == run.hashes[name]]
    if outcome is not None:
        assert recorded[-1]['outcome'] == outcome, recorded[-1]
    if calls is not None:
        assert len(received) == calls, [c['outcome'] for c in recorded]
    assert len(recorded) == len(received) <= 3
    assert all(c['finished_at'] and c['outcome'] for c in recorded)
    if word is None:
        assert end['status'] == 'succeeded' and end['credits_used'] == 1, end
        assert [c['charged'] for c in recorded] == [False] * (len(recorded) - 1) + [True]
        user.assert_money(credits=9, usage=1)
    else:
        assert end['status'] == 'failed' and end['error']['code'] == word, end
        assert end['error']['message'] and 'generation_id' not in end and 'image_path' not in end
        assert end.get('credits_used', 0) == 0
        assert not any(c['charged'] for c in recorded)
        user.assert_money(credits=10, usage=0)
        assert user.count('public.generations') == 0


def test_the_worker_lived(server, run):
    assert server.worker_pid() == run.worker
    log = server.log()
    assert 'PANIC' not in log and 'terminated by signal' not in log and 'FATAL' not in log
    assert server.value('SELECT count(*) FROM sparky.answers') == 0
    assert_ledger(server)


def test_no_descriptor_and_no_memory_is_left(server, run):
    wait_for(lambda: process_descriptors(run.worker) <= run.descriptors + AT_ONCE, 20, 'the descriptors to be closed')
    assert process_memory(run.worker) < 120 * 2**20


def test_text_that_postgresql_refuses_is_replaced(run):
    for name in ('analysis_nul-face-shape', 'lone_surrogate-face-shape'):
        assert '\ufffd' in json.dumps(run.ends[name]['analysis'], ensure_ascii=False)


def test_the_key_is_not_in_what_was_kept(server, run):
    import conftest
    for table in ('sparky.provider_calls', 'public.generation_jobs'):
        assert server.value(f"SELECT count(*) FROM {table} t WHERE t::text LIKE %s", (f'%{conftest.KEY}%',)) == 0


def test_a_hit_never_comes_from_a_failure(run, server, emulator):
    """The next request for a photo that failed is a new, good one."""
    for name in ('text_only', 'bad_base64', 'silence', 'gzip_bomb'):
        user = run.users[name]
        path = server.value('SELECT source_path FROM public.generation_jobs WHERE id = %s', (run.jobs[name],))
        result = user.api.process(IMAGE, path)
        assert result['cached'] is False and result['status'] == 'succeeded', (name, result)
        user.assert_money(credits=9, usage=1)


# ---- a 429 pauses its model: none of these uses the model of the other tests, and the longest pause comes last

@contextlib.contextmanager
def model(server, tool, name):
    before = server.value('SELECT model FROM sparky.tool_settings WHERE tool_id = %s', (tool,))
    server.query('UPDATE sparky.tool_settings SET model = %s WHERE tool_id = %s', (name, tool))
    yield
    server.query('UPDATE sparky.tool_settings SET model = %s WHERE tool_id = %s', (before, tool))


def test_rate_limit_with_retry_info_is_honoured(server, emulator, user):
    with model(server, 'vintage', 'gemini-3-pro-image'):
        emulator.script({'fault': 'rate_limited', 'retryDelay': '1.500000001s', 'times': 1})
        result = user.api.process('vintage', user.photo())
    first, second = emulator.calls()
    assert result['status'] == 'succeeded' and 1.45 < second['time'] - first['time'] < 20
    assert [c['outcome'] for c in user.provider_calls()] == ['rate_limited', 'ok']
    assert abs(user.provider_calls()[0]['retry_after'] - 1.5) < 0.01
    user.assert_money(credits=9, usage=1)


def test_rate_limit_pauses_the_model_for_all(server, emulator, user, make_user):
    """Another user's job of that model waits too; of another model it does not."""
    other = make_user()
    with model(server, 'vintage', 'gemini-3.1-flash-lite-image'):
        emulator.script({'fault': 'rate_limited', 'retryDelay': '2s', 'times': 1})
        paths = user.photo(), other.photo(), other.photo()
        user.api.process('vintage', paths[0], wait_seconds=0)
        wait_for(lambda: len(user.provider_calls()) and user.provider_calls()[0]['outcome'])
        paused = other.api.process('vintage', paths[1], wait_seconds=0)
        assert other.api.process('cartoon', paths[2])['status'] == 'succeeded'
        assert other.api.finish(paused['job_id'])['status'] == 'succeeded'
        wait_for(lambda: user.held() == 0)
    refused, *later = [c['time'] for c in emulator.calls(model='gemini-3.1-flash-lite-image')]
    assert len(later) == 2 and min(later) - refused > 1.9
    assert [c['time'] < min(later) for c in emulator.calls() if c['model'] != 'gemini-3.1-flash-lite-image'] == [True]


def test_rate_limit_for_ever(server, emulator, user):
    with model(server, 'vintage', 'gemini-3-pro-image'):
        emulator.script({'fault': 'rate_limited', 'retryDelay': '0.2s', 'times': 0})
        result = user.api.finish(user.api.process('vintage', user.photo())['job_id'], seconds=30)
    assert result['status'] == 'failed' and result['error']['code'] == 'rate_limited'
    assert len(emulator.calls()) == 3
    user.assert_money(credits=10, usage=0)


def test_rate_limit_without_retry_info(server, emulator, user):
    with model(server, 'vintage', 'gemini-3-pro-image'):
        emulator.script({'fault': 'rate_limited_bare', 'times': 1})
        assert user.api.process('vintage', user.photo())['status'] == 'succeeded'
    assert len(emulator.calls()) == 2


def test_daily_quota_is_not_retried(server, emulator, user):
    with model(server, 'vintage', 'gemini-3-pro-image'):
        emulator.script({'fault': 'quota_day', 'times': 0})
        result = user.api.process('vintage', user.photo())
    assert result['status'] == 'failed' and result['error']['code'] == 'rate_limited'
    assert len(emulator.calls()) == 1
    call, = user.provider_calls()
    assert call['outcome'] == 'quota_day'
    user.assert_money(credits=10, usage=0)


def test_rate_limit_beyond_the_deadline_fails_now(server, emulator, user):
    """The wait does not fit: told at once, with the time to come back."""
    with model(server, 'vintage', 'gemini-3.1-flash-lite-image'):
        emulator.script({'fault': 'rate_limited', 'retryDelay': '300s', 'times': 0})
        result = user.api.process('vintage', user.photo())              # not 'queued', as a call that had to wait would tell
    assert result['status'] == 'failed' and result['error']['code'] == 'rate_limited' and 299 <= result['error']['retry_after'] <= 301
    assert len(emulator.calls()) == 1


# ---- many at once

def test_fifty_in_flight_hold_no_snapshot(server, emulator, make_user):
    """While calls are out, the worker has no transaction, no snapshot, no lock."""
    server.query("UPDATE sparky.tool_settings SET timeout = '60 s' WHERE tool_id = 'cartoon'")
    users = [make_user() for _ in range(50)]
    paths = [user.photo() for user in users]
    emulator.hold()
    jobs = [user.api.process('cartoon', path, wait_seconds=0)['job_id'] for user, path in zip(users, paths)]
    emulator.wait_calls(50)
    wait_for(lambda: emulator.stats()['in_flight'] == 50)
    looks = 0
    begin = time.monotonic()
    while time.monotonic() < begin + 2 or (looks < 10 and time.monotonic() < begin + 30):
        xmin, xid, state = server.row("SELECT backend_xmin, backend_xid, state FROM pg_stat_activity WHERE backend_type = 'sparky worker'")
        if state == 'idle':
            looks += 1
            assert (xmin, xid) == (None, None)
        time.sleep(0.05)
    assert looks >= 10
    text = server.value("SELECT query FROM pg_stat_activity WHERE backend_type = 'sparky worker'")
    assert '50' in text and server.value("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE backend_type = 'sparky worker'") == 0
    emulator.release()
    for user, job in zip(users, jobs):
        assert user.api.finish(job)['status'] == 'succeeded'
        user.assert_money(credits=9, usage=1)
    assert len(emulator.calls()) == 50
    server.query("UPDATE sparky.tool_settings SET timeout = NULL WHERE tool_id = 'cartoon'")


def test_a_slow_one_keeps_nobody_waiting(server, emulator, make_user):
    """No batches: each result is there when its own call ended."""
    server.query("UPDATE sparky.tool_settings SET timeout = '60 s' WHERE tool_id = 'cartoon'")
    slow, quick = make_user(), make_user()
    image = fresh_photo()
    emulator.script({'fault': 'slow_ok', 'ms': 6000, 'match': {'image_sha256': sha256(image)}})
    slow_path = slow.api.upload(image)['path']
    job = slow.api.process('cartoon', slow_path, wait_seconds=0)['job_id']
    for _ in range(5):
        assert quick.api.process('cartoon', quick.photo())['status'] == 'succeeded'
    assert slow.api.status(job)['status'] == 'running'
    assert slow.api.finish(job)['status'] == 'succeeded'
    server.query("UPDATE sparky.tool_settings SET timeout = NULL WHERE tool_id = 'cartoon'")


def test_no_more_than_allowed_in_flight(server, emulator, make_user):
    server.reload('sparky.max_concurrent_calls = 5')
    try:
        users = [make_user() for _ in range(12)]
        emulator.latency(150)
        jobs = [user.api.process('cartoon', user.photo(), wait_seconds=0)['job_id'] for user in users]
        for user, job in zip(users, jobs):
            assert user.api.finish(job)['status'] == 'succeeded'
        assert emulator.stats()['max_in_flight'] <= 5 and len(emulator.calls()) == 12
    finally:
        server.reload('sparky.max_concurrent_calls = 200')


def test_no_key(server, emulator):
    """A second server without a key: the setting is named, its value of course not; nothing is held."""
    from sparky_server import Refused, Server
    with Server(conf=CONF, emulator=emulator, key=None) as bare:
        user = User(bare)
        try:
            result = user.api.process('cartoon', user.photo())
            assert result['status'] == 'failed' and result['error']['code'] == 'not_configured', result
        except Refused as refused:
            assert (refused.status, refused.word) == (503, 'not_configured')
            assert 'gemini_api_key' in json.dumps([refused.detail, refused.hint]).lower()
        user.assert_money(credits=10, usage=0)
        assert emulator.calls() == [] and 'gemini_api_key' in bare.value('SELECT sparky.health()::text').lower()


def test_dead_address(server, emulator, make_user):
    """Nobody listens: nothing was spent, three tries, then the truth."""
    user = make_user()
    server.reload("sparky.gemini_base_url = 'http://127.0.0.1:9'")
    try:
        result = user.api.finish(user.api.process('cartoon', user.photo())['job_id'], 30)
    finally:
        server.reload(f"sparky.gemini_base_url = '{emulator.url}'")
    assert result['status'] == 'failed' and result['error']['code'] == 'provider_failed'
    assert [c['outcome'] for c in user.provider_calls()] == ['connect'] * 3
    user.assert_money(credits=10, usage=0)
    assert user.api.process('cartoon', user.photo())['status'] == 'succeeded'
