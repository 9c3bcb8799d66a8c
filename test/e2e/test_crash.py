"""Processes die, at every stage, with twenty jobs in flight: the right end, at most one charge, no second call after a committed answer.

Stages:
  calling    every call is at the provider, none is answered
  answered   the answers are committed, their settlement is held up by locks
  settling   in the middle of a stream of settlements
"""

import os
import signal
import threading
import time

import psycopg2
import pytest
from background import Background
from conftest import KEY, User, assert_ledger, fresh_photo, sha256
from sparky_server import Refused, Server, process_alive, wait_for

CONF = ['sparky.lease_time = 3s', 'sparky.accept_timeout = 3s', 'restart_after_crash = on']
END = ('succeeded', 'failed', 'cancelled')


class Twenty:
    """Twenty jobs of ten users, each of a photo of its own."""

    def __init__(self, server, emulator):
        self.server, self.emulator = server, emulator
        self.users = [User(server) for _ in range(10)]
        self.photos = {}                                # job -> (user, hash)
        uploads = []
        for user in self.users:
            for _ in range(2):
                image = fresh_photo()
                uploads.append((user, user.api.upload(image)['path'], sha256(image)))
        emulator.hold()
        for user, path, digest in uploads:
            self.photos[user.api.process('cartoon', path, wait_seconds=0)['job_id']] = (user, digest)
        emulator.wait_calls(20)

    def committed_answers(self):
        """Jobs whose answer is in the database, however far they are."""
        return {str(row[0]) for row in self.server.query(
            "SELECT id FROM public.generation_jobs WHERE id = ANY(%s::uuid[]) AND status IN ('answered', 'storing', 'succeeded')"
            " UNION SELECT job_id FROM sparky.answers", (list(self.photos),))}

    def assert_right_end(self, answered=frozenset(), most_calls=2, within=20, began=None):
        """Everything ended within the time, which is far from a deadline; each job was charged as often as it succeeded."""
        began = began or time.monotonic()
        wait_for(lambda: self.server.value("SELECT count(*) FROM public.generation_jobs WHERE id = ANY(%s::uuid[]) AND status IN %s",
                                           (list(self.photos), END)) == 20, within - (time.monotonic() - began), 'all twenty jobs to end')
        calls = {}
        for call in self.emulator.calls():
            calls[call['image_sha256']] = calls.get(call['image_sha256'], 0) + 1
        for job, (user, digest) in self.photos.items():
            row = user.job(job)
            assert row['status'] == 'succeeded', row
            usage = self.server.value('SELECT count(*) FROM public.credit_usage WHERE job_id = %s', (job,))
            history = self.server.value('SELECT count(*) FROM public.generations WHERE job_id = %s', (job,))
            assert (usage, history) == (1, 1), (job, usage, history)
            assert 1 <= calls[digest] <= (1 if job in answered else most_calls), (job, calls[digest], job in answered)
            assert len(user.provider_calls(job)) == calls[digest], user.provider_calls(job)
            assert sum(call['charged'] for call in user.provider_calls(job)) == 1
        for user in self.users:
            user.api.close()
            user.assert_money(credits=8, usage=2)
        assert self.server.value('SELECT count(*) FROM sparky.answers') == 0
        assert_ledger(self.server)


# ---- who dies, and how; each returns after the damage is done

def terminate_worker(server):
    pid = server.worker_pid()
    server.value('SELECT pg_terminate_backend(%s)', (pid,))
    wait_for(lambda: not process_alive(pid))


def terminate_launcher(server):
    worker, launcher = server.worker_pid(), server.launcher_pid()
    server.value('SELECT pg_terminate_backend(%s)', (launcher,))
    wait_for(lambda: not process_alive(launcher))
    wait_for(lambda: server.process('sparky launcher') not in (None, launcher), what='a new launcher')
    assert server.worker_pid() == worker                # it adopted the living one


def terminate_both(server):
    worker, launcher = server.worker_pid(), server.launcher_pid()
    server.query('SELECT pg_terminate_backend(%s), pg_terminate_backend(%s)', (launcher, worker))
    wait_for(lambda: not process_alive(worker) and not process_alive(launcher))


def kill_worker(server):
    server.crash(server.worker_pid())


def kill_launcher(server):
    server.crash(server.launcher_pid())


def kill_backend(server):
    connection = server.connect()
    server.crash(connection.info.backend_pid)


def immediate_stop(server):
    server.stop('immediate')
    server.start()


def kill_postmaster(server):
    server.kill_postmaster()
    server.start()


DEATHS = [terminate_worker, terminate_launcher, terminate_both, kill_worker, kill_launcher, kill_backend, immediate_stop, kill_postmaster]
GENTLE = (terminate_launcher,)                          # the worker lives on: no call is ever lost


@pytest.fixture
def twenty(server, emulator):
    return Twenty(server, emulator)


@pytest.mark.parametrize('death', DEATHS, ids=lambda f: f.__name__)
def test_while_calling(server, emulator, twenty, death):
    death(server)
    began = time.monotonic()
    if death not in GENTLE:
        emulator.wait_calls(40)                         # each is tried once more
    emulator.release()
    twenty.assert_right_end(most_calls=1 if death in GENTLE else 2, began=began)


@pytest.mark.parametrize('death', DEATHS, ids=lambda f: f.__name__)
def test_after_the_answer(server, emulator, twenty, death):
    """All users' rows are locked, so the answers are committed and cannot be settled; then somebody dies."""
    holder = server.connect(autocommit=False)
    with holder.cursor() as cursor:
        cursor.execute('SELECT 1 FROM public.users WHERE id = ANY(%s) FOR UPDATE', ([user.id for user in twenty.users],))
    emulator.release()
    wait_for(lambda: len(twenty.committed_answers()) == 20, what='the answers to be committed')
    death(server)
    began = time.monotonic()
    try:
        holder.rollback()
    except psycopg2.Error:
        pass                                            # the holder died with the server
    holder.close()
    twenty.assert_right_end(answered=set(twenty.photos), began=began)
    assert len(emulator.calls()) == 20


@pytest.mark.parametrize('delay_ms', [0, 5, 20, 60])
@pytest.mark.parametrize('death', [terminate_worker, kill_worker, kill_backend, immediate_stop], ids=lambda f: f.__name__)
def test_while_settling(server, emulator, twenty, death, delay_ms):
    """Death comes somewhere in the middle of twenty settlements."""
    emulator.release()
    time.sleep(delay_ms / 1000)
    emulator.hold()                                     # what is called again is not answered before we have looked
    death(server)
    began = time.monotonic()
    answered = twenty.committed_answers()
    emulator.release()
    twenty.assert_right_end(answered=answered, began=began)


def test_waiting_callers_survive_the_worker(server, emulator, user):
    """pg_terminate_backend of worker and launcher: the session goes on and gets its result."""
    path = user.photo()
    user.api.pid()
    emulator.hold()
    call = Background(user.api.process, 'cartoon', path, wait_seconds=25)
    emulator.wait_calls(1)
    terminate_both(server)
    emulator.wait_calls(2)
    emulator.release()
    assert call.result()['status'] == 'succeeded'
    assert [c['outcome'] for c in user.provider_calls()] == ['unknown', 'ok']
    user.assert_money(credits=9, usage=1)


def test_submission_meets_a_dying_worker(server, emulator, make_user):
    """Requests while the worker is ended again and again: each is accepted once or refused with nothing held."""
    users = [make_user() for _ in range(8)]
    paths = [user.photo() for user in users]
    outcomes = []

    def run(user, path):
        for tool in ('cartoon', 'vintage', 'cartoon', 'vintage'):
            try:
                outcomes.append(user.api.process(tool, path, wait_seconds=0, refresh=True)['status'])
            except Refused as refused:
                assert refused.word in ('worker_down', 'overloaded'), refused
                outcomes.append(refused.word)
            time.sleep(0.3)
    threads = [threading.Thread(target=run, args=pair) for pair in zip(users, paths)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        terminate_worker(server)
        time.sleep(0.2)
    for thread in threads:
        thread.join()
    assert len(outcomes) == 32
    wait_for(lambda: all(user.held() == 0 for user in users), 15, 'every job to end')
    for user in users:
        jobs = server.query('SELECT status FROM public.generation_jobs WHERE user_id = %s', (user.id,))
        succeeded = sum(status == 'succeeded' for status, in jobs)
        assert user.credits() == 10 - succeeded and user.count('public.credit_usage') == succeeded
    assert_ledger(server)


def test_second_unknown_call_ends_the_job(server, emulator, user):
    """The worker dies twice while calling: nobody pays a third time, and the user pays nothing."""
    emulator.hold()
    job = user.api.process('cartoon', user.photo(), wait_seconds=0)['job_id']
    emulator.wait_calls(1)
    terminate_worker(server)
    emulator.wait_calls(2)
    terminate_worker(server)
    end = user.api.finish(job)
    assert end['status'] == 'failed' and end['error']['code'] == 'provider_failed'
    emulator.release()
    time.sleep(1)
    assert len(emulator.calls()) == 2
    assert [c['outcome'] for c in user.provider_calls()] == ['unknown', 'unknown']
    user.assert_money(credits=10, usage=0)


def test_frozen_past_its_lease(server, emulator, user, make_user):
    """SIGSTOP: the launcher's replacement takes the job; the first thaws and changes nothing."""
    other = make_user()
    emulator.hold()
    job = user.api.process('cartoon', user.photo(), wait_seconds=0)['job_id']
    emulator.wait_calls(1)
    frozen = server.worker_pid()
    os.kill(frozen, signal.SIGSTOP)
    try:
        replacement = wait_for(lambda: server.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'sparky worker' AND pid <> %s", (frozen,)),
                               20, 'a replacement')
        emulator.wait_calls(2, 20)
        emulator.release()
        assert user.api.finish(job)['status'] == 'succeeded'
        assert other.api.process('cartoon', other.photo())['status'] == 'succeeded'
        user.assert_money(credits=9, usage=1)
    finally:
        os.kill(frozen, signal.SIGCONT)
    wait_for(lambda: not process_alive(frozen), what='the thawed worker to go')
    time.sleep(0.5)
    user.assert_money(credits=9, usage=1)
    assert user.count('public.generations') == 1 and len(emulator.calls()) == 3
    assert server.worker_pid() == replacement
    assert [c['charged'] for c in user.provider_calls()] == [False, True]


def test_frozen_within_its_lease(server, emulator, user):
    """A short stop changes nothing: the same worker goes on."""
    emulator.hold()
    job = user.api.process('cartoon', user.photo(), wait_seconds=0)['job_id']
    emulator.wait_calls(1)
    worker = server.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    time.sleep(1)
    os.kill(worker, signal.SIGCONT)
    emulator.release()
    assert user.api.finish(job)['status'] == 'succeeded'
    assert server.worker_pid() == worker and len(emulator.calls()) == 1
    user.assert_money(credits=9, usage=1)


def test_deadline_passes_while_no_worker_lives(emulator):
    """A past-deadline job reads as failed and holds nothing, whoever lives to write it."""
    with Server(conf=['sparky.job_deadline = 3s', 'sparky.lease_time = 60s'], emulator=emulator, key=KEY) as server:
        user = User(server)
        emulator.hold()
        job = user.api.process('cartoon', user.photo(), wait_seconds=0)['job_id']
        emulator.wait_calls(1)
        stopped = server.worker_pid(), server.launcher_pid()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        emulator.release()                              # the answer comes, and nobody takes it in time
        assert user.api.status(job)['status'] == 'running' and user.api.rpc('my_account')['held'] == 1
        time.sleep(3.5)
        status = user.api.status(job, wait_seconds=5)
        assert status['status'] == 'failed' and status['error']['code'] == 'provider_timeout'
        account = user.api.rpc('my_account')
        assert (account['held'], account['available']) == (0, 10)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: user.job(job)['status'] == 'failed', 15, 'the worker to write it')
        assert user.api.status(job)['error']['code'] == 'provider_timeout'
        user.assert_money(credits=10, usage=0)
        user.api.close()


def test_fast_stop_and_start(server, emulator, twenty):
    """An orderly restart with calls out: as after a crash, and it does not take long."""
    began = time.monotonic()
    server.stop('fast')
    assert time.monotonic() - began < 15
    server.start()
    began = time.monotonic()
    emulator.release()
    twenty.assert_right_end(began=began)


def test_log_has_no_surprises(server):
    log = server.log()
    assert 'PANIC' not in log and 'TRAP:' not in log and 'signal 11' not in log and 'signal 6' not in log
