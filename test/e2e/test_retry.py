"""How often, when and how long: retries, pauses, timeouts, the one deadline; and to whom a call may go at all."""

import contextlib
import os
import signal
import socket
import threading
import time

import pytest
from conftest import KEY, User, fresh_photo, sha256
from emulator import Emulator
from sparky_server import Refused, Server, wait_for

CONF = ['sparky.call_timeout = 20s', 'sparky.connect_timeout = 2s', 'sparky.job_deadline = 30s', 'sparky.uploads_per_hour = 1000']


def uploaded(user):
    """A fresh photo: its path and its hash."""
    image = fresh_photo()
    return user.api.upload(image)['path'], sha256(image)


def calls_of(emulator, image):
    return [call for call in emulator.calls() if call['image_sha256'] == image]


@pytest.fixture
def settings(server):
    """Changes conf lines for one test."""
    changed = []

    def change(**lines):
        changed.extend(lines)
        server.reload(*(f"sparky.{name} = '{value}'" for name, value in lines.items()))
    yield change
    if changed:
        before = dict(line.split(' = ') for line in CONF)
        defaults = {'gemini_base_url': f"'{server.gemini_url}'", 'tls_ca_file': "''"}
        server.reload(*(f"sparky.{name} = {before.get('sparky.' + name) or defaults[name]}" for name in changed))


@pytest.fixture(autouse=True)
def own_url(server, emulator_process):
    server.gemini_url = emulator_process.url


@pytest.fixture
def tool(server):
    """Makes a tool; the two that get a 429 have models of their own, so that the pause meets nobody else."""
    def make(name, timeout=None, model='gemini-nano-banana-2.1'):
        server.psql(f"""INSERT INTO public.tools (id, name_key, description_key, type, icon_name) VALUES ('{name}', 'n', 'd', 'FILTER', 'i') ON CONFLICT DO NOTHING;
            INSERT INTO sparky.tool_settings (tool_id, model, prompt, timeout) VALUES ('{name}', '{model}', 'Change it.', {f"'{timeout}'" if timeout else 'NULL'})
            ON CONFLICT (tool_id) DO UPDATE SET timeout = excluded.timeout""")
        return name
    return make


def within_its_deadline(server, job):
    """It ended when its time was up, or before; a sweep comes every second, on a busy machine a little later."""
    late = wait_for(lambda: server.row("SELECT finished_at >= deadline + interval '6 s' FROM public.generation_jobs WHERE id = %s AND finished_at IS NOT NULL", (job,)),
                    20, 'the end to be written')
    return not late[0]


# ---- jitter

def test_retries_are_spread(server, emulator, make_user):
    """Full jitter: between nothing and 1 s before the second call, between nothing and 2 s before the third; never all alike."""
    users = [make_user() for _ in range(12)]
    photos = [uploaded(user) for user in users]
    emulator.script({'fault': 'unavailable', 'times': 0})
    jobs = [user.api.process('cartoon', path, wait_seconds=0)['job_id'] for user, (path, _) in zip(users, photos)]
    for user, job in zip(users, jobs):
        assert user.api.finish(job, 30)['error']['code'] == 'provider_failed'
    first, second = [], []
    for _, image in photos:
        times = [call['time'] for call in calls_of(emulator, image)]
        assert len(times) == 3
        first.append(times[1] - times[0])
        second.append(times[2] - times[1])
    assert max(first) < 1.6 and max(second) < 2.6           # the answer's latency and a busy machine on top
    assert max(first) - min(first) > 0.3 and max(second) - min(second) > 0.5
    assert sum(first) / len(first) > 0.12 and sum(second) / len(second) > 0.24
    for user in users:
        user.assert_money(credits=10, usage=0)


# ---- 429

def test_a_429_with_the_last_try_pauses_the_model_too(server, emulator, make_user, tool):
    """The job has no try left; all the others of that model wait all the same."""
    name = tool('paused', model='gemini-3.1-flash-lite-image')
    last, other = make_user(), make_user()
    (path, image), other_path = uploaded(last), other.photo()
    emulator.script({'fault': 'rate_limited', 'retryDelay': '0.1s', 'times': 2}, {'fault': 'rate_limited', 'retryDelay': '3s', 'times': 1})
    result = last.api.process(name, path)
    assert result['error']['code'] == 'rate_limited' and result['error']['retry_after'] == 3
    third = calls_of(emulator, image)[2]['time']
    assert other.api.process(name, other_path)['status'] == 'succeeded'
    assert emulator.calls()[3]['time'] - third > 2.8
    last.assert_money(credits=10, usage=0)


def test_a_pause_ends_with_the_deadline(server, emulator, make_user, tool, settings):
    """Queued behind a pause that is longer than its deadline: it fails then, uncalled, and gives back the hold."""
    settings(job_deadline='3s')
    name = tool('long-paused', model='gemini-3-pro-image')
    first, second = make_user(), make_user()
    paths = first.photo(), second.photo()
    emulator.script({'fault': 'rate_limited', 'retryDelay': '2.5s', 'times': 0})
    job = first.api.process(name, paths[0], wait_seconds=0)['job_id']
    wait_for(lambda: first.provider_calls() and first.provider_calls()[0]['outcome'], 20, 'the first 429')
    waiting = second.api.process(name, paths[1], wait_seconds=0)
    end = second.api.finish(waiting['job_id'])
    assert end['status'] == 'failed' and end['error']['code'] in ('provider_timeout', 'rate_limited')
    assert within_its_deadline(server, waiting['job_id'])
    first.api.finish(job)
    for user in (first, second):
        user.assert_money(credits=10, usage=0)


# ---- timeouts

def test_timeout_of_a_tool(server, emulator, user, tool):
    """Shorter than the setting, and told to the provider with a second to spare."""
    name = tool('impatient', timeout='3 seconds')
    path, image = uploaded(user)
    emulator.script({'fault': 'silence', 'times': 0})
    began = time.monotonic()
    result = user.api.process(name, path)
    assert 2.8 < time.monotonic() - began < 15            # not the 20 s of the setting
    assert result['status'] == 'failed' and result['error']['code'] == 'provider_timeout'
    call, = calls_of(emulator, image)
    assert float(call['server_timeout']) == 2
    assert [c['outcome'] for c in user.provider_calls()] == ['timeout']
    user.assert_money(credits=10, usage=0)


def test_timeout_of_a_tool_longer_than_the_setting(server, emulator, user, tool, settings):
    settings(call_timeout='1s')
    name = tool('patient', timeout='20 seconds')
    emulator.script({'fault': 'slow_ok', 'ms': 2000})
    assert user.api.process(name, user.photo())['status'] == 'succeeded'
    emulator.script({'fault': 'slow_ok', 'ms': 2000})
    assert user.api.process(tool('hasty'), user.photo())['error']['code'] == 'provider_timeout'
    user.assert_money(credits=9, usage=1)


def test_an_answer_just_in_time(emulator, user, tool):
    """A good answer within the time is a good answer, however slowly its bytes come."""
    name = tool('slow', timeout='5 seconds')
    emulator.script({'fault': 'trickle', 'ms': 20, 'count': 50})
    assert user.api.process(name, user.photo())['status'] == 'succeeded'
    user.assert_money(credits=9, usage=1)


# ---- the deadline

def test_one_deadline_for_all_tries(server, emulator, user, settings):
    """Three tries of 1.5 s do not fit into 4 s: the third is not begun, or ends with the deadline."""
    settings(job_deadline='4s')
    path, image = uploaded(user)
    emulator.script({'fault': 'unavailable', 'times': 0, 'delay_ms': 1700})
    result = user.api.finish(user.api.process('cartoon', path, wait_seconds=0)['job_id'])
    assert within_its_deadline(server, result['job_id'])
    assert result['status'] == 'failed' and result['error']['code'] in ('provider_failed', 'provider_timeout')
    calls = calls_of(emulator, image)
    assert len(calls) in (2, 3) and calls[-1]['time'] - calls[0]['time'] < 4
    assert [float(call['server_timeout']) for call in calls] == sorted((float(call['server_timeout']) for call in calls), reverse=True)
    assert float(calls[-1]['server_timeout']) <= 3
    user.assert_money(credits=10, usage=0)


def test_deadline_of_a_silent_call(server, emulator, user, settings):
    settings(job_deadline='2s')
    emulator.script({'fault': 'silence', 'times': 0})
    began = time.monotonic()
    result = user.api.process('cartoon', user.photo())
    assert 1.8 < time.monotonic() - began < 15 and result['error']['code'] == 'provider_timeout'
    user.assert_money(credits=10, usage=0)
    assert user.api.rpc('my_account')['available'] == 10


def test_past_its_deadline_it_reads_as_failed_without_a_worker(server, emulator, user, settings):
    """Nobody lives to write it down: it holds nothing all the same, and the caller is told."""
    settings(job_deadline='5s')
    emulator.hold()
    job = user.api.process('cartoon', user.photo(), wait_seconds=0)['job_id']
    emulator.wait_calls(1)
    worker = server.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    try:
        assert user.api.rpc('my_account')['held'] == 1
        end = wait_for(lambda: (s := user.api.status(job))['status'] == 'failed' and s, 20, 'the job to read as failed')
        assert end['error']['code'] == 'provider_timeout' and end['credits_used'] == 0 and end['credits_remaining'] == 10
        account = user.api.rpc('my_account')
        assert (account['held'], account['available']) == (0, 10)
        assert user.job(job)['status'] == 'generating'          # as it was left
    finally:
        os.kill(worker, signal.SIGCONT)
    emulator.release()                                          # a good answer, too late
    wait_for(lambda: user.job(job)['status'] == 'failed', 20, 'the late job to be ended')
    user.assert_money(credits=10, usage=0)
    assert server.worker_pid() == worker


@pytest.mark.embedded('behind the Storage API the answer is kept in time, and charged when it is delivered')
def test_a_settlement_that_outlasts_the_deadline(server, emulator, user, settings):
    """The answer comes in time, and its settlement is too slow: who is told that the job failed is not charged for it afterwards."""
    server.psql("""CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3.2); RETURN NULL; END';
        CREATE TRIGGER slow AFTER INSERT ON public.credit_ledger FOR EACH ROW WHEN (NEW.kind = 'usage') EXECUTE FUNCTION public.slow()""")
    try:
        settings(job_deadline='3s')
        result = user.api.process('cartoon', user.photo())
        assert (result['status'], result['error']['code'], result['credits_used']) == ('failed', 'provider_timeout', 0)
        wait_for(lambda: user.job(result['job_id'])['status'] not in ('generating', 'answered', 'storing'), 10, 'the end of the job')
        assert user.api.status(result['job_id'])['status'] == 'failed'
        user.assert_money(credits=10, usage=0)
        assert [(call['outcome'], call['charged']) for call in user.provider_calls()] == [('ok', False)]
    finally:
        server.psql('DROP FUNCTION public.slow() CASCADE')


# ---- where a call may go

class Listener:
    """A port that notes who comes; it passes the bytes on to another port, or hangs up."""

    def __init__(self, address='127.0.0.1', forward=None):
        self.socket = socket.create_server((address, 0))
        self.port = self.socket.getsockname()[1]
        self.forward, self.received = forward, []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.received.append(connection.getpeername())
            if self.forward:
                onward = socket.create_connection(('127.0.0.1', self.forward))
                for pair in ((connection, onward), (onward, connection)):
                    threading.Thread(target=self.pump, args=pair, daemon=True).start()
            else:
                connection.close()

    @staticmethod
    def pump(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


@pytest.mark.parametrize('status', [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(emulator, user, status):
    """The key does not travel to another address."""
    with Listener() as listener:
        for url in (f'http://127.0.0.1:{listener.port}/', f'//127.0.0.1:{listener.port}/x', emulator.url + '/v1beta/models/x:generateContent'):
            emulator.reset()
            emulator.script({'fault': 'redirect', 'status': status, 'url': url, 'times': 0})
            assert user.api.process('cartoon', user.photo())['error']['code'] == 'provider_failed'
            assert len(emulator.calls()) == 1
        assert listener.received == []
    assert {call['outcome'] for call in user.provider_calls()} == {'redirect'}
    user.assert_money(credits=10, usage=0)


@pytest.mark.parametrize('url', ['http://192.0.2.1:{port}', 'http://localhost.example.com:{port}', 'ftp://127.0.0.1:{port}', 'file:///etc/passwd', 'gopher://127.0.0.1:{port}',
                                 'http://user:password@127.0.0.1:{port}', 'http://127.0.0.1.nip.io:{port}', 'not a url', 'http://', 'http://127.0.0.1:{port}\r\nX-Evil: 1'])
def test_an_address_that_is_not_allowed(server, emulator, user, settings, url):
    """Https, or plain http on this very machine; else nothing is sent and the operator's trouble is named as such."""
    with Listener() as listener:
        settings(gemini_base_url=url.format(port=listener.port).replace('\r', '\\r').replace('\n', '\\n'))
        try:
            result = user.api.process('cartoon', user.photo())
            assert result['status'] == 'failed' and result['error']['code'] == 'not_configured', result
        except Refused as refused:
            assert (refused.status, refused.word) == (503, 'not_configured')
        assert listener.received == []
    user.assert_money(credits=10, usage=0)


def test_proxies_of_the_environment_are_not_used(emulator):
    with Listener() as listener:
        proxy = f'http://127.0.0.1:{listener.port}'
        with Server(emulator=emulator, key=KEY, environment={name: proxy for name in ('http_proxy', 'https_proxy', 'all_proxy', 'HTTPS_PROXY', 'ALL_PROXY')}) as server:
            user = User(server)
            assert user.api.process('cartoon', user.photo())['status'] == 'succeeded'
            user.api.close()
        assert listener.received == []


# ---- https

@pytest.fixture(scope='module')
def secure():
    """An emulator behind TLS and a server that trusts its authority."""
    with Emulator(latency_ms=20, key=KEY, answer='tiny', tls=True) as emulator:
        with Server(conf=[*CONF, f"sparky.tls_ca_file = '{emulator.tls_ca}'"], emulator=emulator, key=KEY) as server:
            yield server, emulator


def test_https(secure):
    """Good calls, several at once and one after another, and a failure within."""
    server, emulator = secure
    emulator.reset()
    users = [User(server) for _ in range(4)]
    jobs = [user.api.process('cartoon', user.photo(), wait_seconds=0)['job_id'] for user in users]
    for user, job in zip(users, jobs):
        assert user.api.finish(job)['status'] == 'succeeded'
        assert user.api.analyze('face-shape', user.photo())['status'] == 'succeeded'
        user.assert_money(credits=8, usage=2)
        user.api.close()
    assert len(emulator.calls()) == 8
    for fault, code, calls in (('unavailable', 'provider_failed', 3), ('reset_inside', 'provider_failed', 2), ('refusal', 'refused', 1)):
        emulator.reset()
        emulator.script({'fault': fault, 'times': 0})
        user = User(server)
        assert user.api.process('cartoon', user.photo())['error']['code'] == code, fault
        assert len(emulator.calls()) == calls, fault
        user.assert_money(credits=10, usage=0)
        user.api.close()
    emulator.reset()


@pytest.mark.parametrize('whose', ['another', 'the system', 'no file'])
def test_a_foreign_authority_is_refused(secure, whose):
    """Nothing is sent to a server that cannot prove who it is; with the right authority the same job works again."""
    server, emulator = secure
    emulator.reset()
    user = User(server)
    paths = user.photo(), user.photo()
    foreign = {'another': emulator.other_ca, 'the system': '', 'no file': '/nonexistent/ca.pem'}[whose]
    worker = server.worker_pid()
    server.reload(f"sparky.tls_ca_file = '{foreign}'")
    try:
        result = user.api.finish(user.api.process('cartoon', paths[0], wait_seconds=0)['job_id'], 30)
    finally:
        server.reload(f"sparky.tls_ca_file = '{emulator.tls_ca}'")
    assert result['status'] == 'failed' and result['error']['code'] == 'provider_failed'
    assert emulator.calls() == []
    calls = user.provider_calls()
    assert calls and all(call['outcome'] == 'connect' and not call['charged'] for call in calls)
    assert all(call['message'] for call in calls)
    user.assert_money(credits=10, usage=0)
    assert user.api.process('cartoon', paths[1])['status'] == 'succeeded'
    assert server.worker_pid() == worker
    user.api.close()


def test_a_certificate_of_another_name(secure):
    """The right authority, but not this host: 127.0.0.2 leads to the server of 127.0.0.1."""
    server, emulator = secure
    emulator.reset()
    user = User(server)
    path = user.photo()
    with Listener('127.0.0.2', forward=emulator.port) as relay:
        server.reload(f"sparky.gemini_base_url = 'https://127.0.0.2:{relay.port}'")
        try:
            result = user.api.finish(user.api.process('cartoon', path, wait_seconds=0)['job_id'], 30)
        finally:
            server.reload(f"sparky.gemini_base_url = '{emulator.url}'")
        assert relay.received
    assert result['status'] == 'failed' and emulator.calls() == []
    user.assert_money(credits=10, usage=0)
    user.api.close()


def test_the_worker_lived(server):
    log = server.log()
    assert 'PANIC' not in log and 'terminated by signal' not in log and 'FATAL' not in log
