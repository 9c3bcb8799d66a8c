"""Workers that end or freeze at the worst moment: inside a settlement, with a submission
in the mailbox, with somebody else's lock in the way (test_crash.py has all the deaths)."""

import contextlib
import os
import signal
import time

import psycopg2
import pytest
from background import Background, photos_called, statuses, submit, wait_ended, wait_until_asleep
from conftest import assert_ledger
from sparky_server import process_alive, wait_for

JOBS = 20


@pytest.fixture
def users(server, make_user):
    return [make_user() for _ in range(4)]


@contextlib.contextmanager
def calling(server, emulator, users):
    """All calls are on the network."""
    emulator.hold()
    jobs = submit(users, JOBS)
    emulator.wait_calls(JOBS)
    yield jobs
    emulator.release()


@contextlib.contextmanager
def settling(server, emulator, users):
    """The settlement's transaction is open: a trigger of the owner makes it slow."""
    emulator.hold()
    jobs = submit(users, JOBS)
    emulator.wait_calls(JOBS)
    server.psql("""CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';
                   CREATE TRIGGER slow AFTER INSERT ON public.credit_ledger FOR EACH ROW
                   WHEN (NEW.kind = 'usage') EXECUTE FUNCTION public.slow()""")
    emulator.release()
    wait_for(lambda: worker_in_trigger(server), 20, 'a settlement')
    yield jobs
    server.wait_ready()
    server.psql('DROP FUNCTION public.slow() CASCADE')


def worker_in_trigger(server):
    return server.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'sparky worker' AND wait_event = 'PgSleep'")


def terminate_worker(server):
    pid = server.worker_pid()
    server.value('SELECT pg_terminate_backend(%s)', (pid,))
    wait_for(lambda: not process_alive(pid), 20, 'the end of the worker')


def terminate_launcher(server):
    pid, worker = server.launcher_pid(), server.worker_pid()
    server.value('SELECT pg_terminate_backend(%s)', (pid,))
    wait_for(lambda: server.process('sparky launcher') not in (None, pid), 20, 'another launcher')
    time.sleep(0.2)
    assert server.worker_pid() == worker and process_alive(worker)      # adopted, not replaced


def kill_worker(server):
    server.crash(server.worker_pid())


def immediate_stop(server):
    server.restart('immediate')


@pytest.mark.parametrize('strike', [terminate_worker, terminate_launcher, kill_worker, immediate_stop], ids=lambda f: f.__name__)
def test_inside_a_settlement(server, emulator, users, files, strike):
    """Twenty answers are half booked in an open transaction: all or nothing of each survives."""
    with settling(server, emulator, users) as jobs:
        hashes = dict(server.query('SELECT id::text, image_hash FROM public.generation_jobs WHERE id = ANY (%s::uuid[])',
                                   ([job for _, job in jobs],)))
        strike(server)
    for user in users:
        user.api.close()
    assert wait_ended(server, jobs, 30) == {'succeeded': JOBS}
    times = photos_called(emulator)
    most = 1 if strike is terminate_launcher else 2
    assert all(1 <= times[hashes[job]] <= most for _, job in jobs), times
    for user in users:
        user.assert_money(credits=5, usage=5)
    assert_everything_in_place(server, files, jobs)


def assert_everything_in_place(server, files, jobs):
    ids = [job for _, job in jobs]
    assert_ledger(server)
    assert server.value('SELECT count(*) FROM sparky.answers') == 0
    # each finished job has one usage row, one generation and one stored file; there is no other file
    results = server.query("""SELECT g.image_url FROM public.generation_jobs j
                                JOIN public.credit_usage c ON c.job_id = j.id
                                JOIN public.generations g ON g.id = c.generation_id AND g.job_id = j.id
                                JOIN storage.objects o ON o.bucket_id || '/' || o.name = g.image_url
                               WHERE j.id = ANY (%s::uuid[])""", (ids,))
    assert len(results) == len(ids) and all(files.get(path) for path, in results)
    assert server.value("""SELECT count(*) FROM storage.objects o WHERE o.bucket_id = 'generations' AND NOT EXISTS
                             (SELECT FROM public.generations g WHERE g.image_url = 'generations/' || o.name)""") == 0
    # exactly one charged call each; what nobody saw the end of is called unknown
    rows = server.query("""SELECT job_id, count(*) FILTER (WHERE charged), count(*) FILTER (WHERE outcome IS NULL),
                                  array_agg(DISTINCT outcome)
                             FROM sparky.provider_calls WHERE job_id = ANY (%s::uuid[]) GROUP BY 1""", (ids,))
    assert len(rows) == len(ids)
    for row in rows:
        assert row[1] == 1 and row[2] == 0 and set(row[3]) <= {'ok', 'unknown'}, row


def test_waiting_caller_does_not_notice_the_launcher(server, emulator, user):
    emulator.hold()
    path = user.photo()
    caller = Background(user.api.process, 'cartoon', path, wait_seconds=25)
    emulator.wait_calls(1)
    terminate_launcher(server)
    emulator.release()
    assert caller.result(15)['status'] == 'succeeded'
    user.assert_money(credits=9, usage=1)
    assert len(emulator.calls()) == 1


def test_cancelled_worker_goes_on(server, emulator, users):
    """pg_cancel_backend finds nothing to cancel: neither the worker nor its calls are lost."""
    pid = server.worker_pid()
    with calling(server, emulator, users) as jobs:
        for _ in range(5):
            assert server.value('SELECT pg_cancel_backend(%s)', (pid,))
            time.sleep(0.05)
    assert wait_ended(server, jobs) == {'succeeded': JOBS}
    assert server.worker_pid() == pid and len(emulator.calls()) == JOBS


def test_submission_outlives_the_worker(server, emulator, user):
    """Posted to a worker that dies before it looks: the next one accepts it."""
    path = user.photo()
    pid = server.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    caller = Background(user.api.process, 'cartoon', path)
    wait_until_asleep(server, user.api.pid())
    server.value('SELECT pg_terminate_backend(%s)', (pid,))
    os.kill(pid, signal.SIGCONT)
    assert caller.result(15)['status'] == 'succeeded'
    assert server.worker_pid() != pid
    user.assert_money(credits=9, usage=1)
    assert len(emulator.calls()) == 1


# ----------------------------------------------------------------------- frozen workers

@pytest.fixture
def short_lease(server):
    server.reload("sparky.lease_time = '3s'")
    yield
    server.reload("sparky.lease_time = '30s'")


def books(server):
    return [server.query(sql) for sql in (
        'SELECT * FROM public.credit_ledger ORDER BY id', 'SELECT * FROM public.credit_usage ORDER BY id',
        'SELECT * FROM public.generations ORDER BY id', 'SELECT id, credits, debt FROM public.users ORDER BY id',
        'SELECT to_jsonb(j) FROM public.generation_jobs j ORDER BY id', 'SELECT to_jsonb(c) FROM sparky.provider_calls c ORDER BY id',
        'SELECT id, version FROM storage.objects ORDER BY id')]


@pytest.mark.parametrize('stage', [calling, settling], ids=lambda f: f.__name__)
def test_frozen_worker(server, emulator, users, files, short_lease, stage):
    """Its replacement takes the jobs; when it thaws, with its answers in its sockets, nothing changes twice."""
    first = server.worker_pid()
    with stage(server, emulator, users) as jobs:
        os.kill(first, signal.SIGSTOP)
        try:
            wait_for(lambda: server.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sparky worker' AND pid <> %s", (first,)),
                     20, 'a replacement')
            if stage is calling:
                emulator.wait_calls(2 * JOBS, 20)
                emulator.release()
                assert wait_ended(server, jobs, 30) == {'succeeded': JOBS}
                before = books(server)
        finally:
            os.kill(first, signal.SIGCONT)
        wait_for(lambda: not process_alive(first), 20, 'the replaced worker to leave')
    assert wait_ended(server, jobs, 30) == {'succeeded': JOBS}
    if stage is calling:
        time.sleep(0.3)
        assert books(server) == before
    assert set(photos_called(emulator).values()) <= {1, 2}
    for user in users:
        user.assert_money(credits=5, usage=5)
    assert_everything_in_place(server, files, jobs)


def test_frozen_worker_with_a_submission(server, emulator, user, short_lease):
    """The replacement serves who has posted to the frozen one."""
    path = user.photo()
    first = server.worker_pid()
    os.kill(first, signal.SIGSTOP)
    try:
        assert user.api.process('cartoon', path)['status'] == 'succeeded'
    finally:
        os.kill(first, signal.SIGCONT)
    wait_for(lambda: not process_alive(first), 20, 'the replaced worker to leave')
    time.sleep(0.3)
    user.assert_money(credits=9, usage=1)
    assert len(emulator.calls()) == 1


# ------------------------------------------------------------------ jobs that kill workers

def keep_answer(server, emulator, user):
    """A job whose answer is committed while somebody holds the user's row; (job, holder)."""
    emulator.hold()
    (_, job), = submit([user], 1)
    emulator.wait_calls(1)
    holder = hold_row(server, user)
    emulator.release()
    wait_for(lambda: server.value('SELECT count(*) FROM sparky.answers WHERE job_id = %s', (job,)), 20, 'the answer to be kept')
    return job, holder


def hold_row(server, user):
    def locked():
        holder = server.connect(autocommit=False)
        try:
            holder.cursor().execute('SELECT FROM public.users WHERE id = %s FOR UPDATE', (user.id,))
            return holder
        except psycopg2.Error:
            holder.close()
            return None
    return wait_for(locked, 20, 'the lock')


def hold_unclaimed(server, job):
    """The job's row locked while its answer waits, so that it stays unclaimed; None while the worker has it."""
    holder = server.connect(autocommit=False)
    with holder.cursor() as cursor:
        cursor.execute("SELECT FROM public.generation_jobs WHERE id = %s AND status = 'answered' FOR UPDATE SKIP LOCKED", (job,))
        if cursor.rowcount == 1:
            return holder
    holder.close()
    return None


def test_third_lost_claim_ends_the_job(server, emulator, user):
    """A settlement that never returns takes three workers with it, not more."""
    job, holder = keep_answer(server, emulator, user)
    server.psql(f"""
        CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN NULL; END';
        CREATE TRIGGER never AFTER INSERT ON public.credit_ledger FOR EACH ROW
        WHEN (NEW.kind = 'usage' AND NEW.user_id = '{user.id}') EXECUTE FUNCTION public.never()""")
    try:
        holder.rollback()
        for _ in range(3):
            pid = wait_for(lambda: worker_in_trigger(server), 25, 'the settlement')
            server.value('SELECT pg_terminate_backend(%s)', (pid,))
            wait_for(lambda: not process_alive(pid), 20, 'the end of the worker')
        status = user.api.finish(job, 25)
        assert status['status'] == 'failed' and status['error']['code'] == 'provider_failed' and status['credits_used'] == 0
    finally:
        holder.close()
        server.psql('DROP FUNCTION public.never() CASCADE')
    assert len(emulator.calls()) == 1
    assert server.value('SELECT count(*) FROM sparky.answers') == 0
    user.assert_money(credits=10, usage=0)
    assert user.api.process('cartoon', user.photo())['status'] == 'succeeded'


def test_waiting_for_a_lock_is_no_lost_claim(server, emulator, user):
    """An answer that only waits for somebody's lock survives any number of workers."""
    job, holder = keep_answer(server, emulator, user)
    pid = server.worker_pid()
    for _ in range(4):
        # let it be tried, ever less often, and strike just after a try: the next is far away
        time.sleep(0.5)
        unclaimed = wait_for(lambda: hold_unclaimed(server, job), 20, 'the claim to be handed back')
        server.value('SELECT pg_terminate_backend(%s)', (pid,))
        wait_for(lambda: not process_alive(pid), 20, 'the end of the worker')
        unclaimed.close()
        pid = server.worker_pid(seconds=25)
    assert user.job(job)['lost_claims'] == 0
    holder.rollback()
    holder.close()
    assert user.api.finish(job, 20)['status'] == 'succeeded'
    user.assert_money(credits=9, usage=1)
    assert len(emulator.calls()) == 1
    assert statuses(server, [(user, job)]) == ['succeeded']


def test_commits_stay_durable(server, emulator, user):
    """synchronous_commit is switched off while the worker runs: what it commits is on disk all the same."""
    server.psql("""CREATE TABLE public.seen (value text);
                   CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
                   CREATE TRIGGER look AFTER INSERT OR UPDATE ON public.generation_jobs FOR EACH ROW EXECUTE FUNCTION public.look()""")
    try:
        server.reload('synchronous_commit = off')
        assert user.api.process('vintage', user.photo())['status'] == 'succeeded'
        assert server.query('SELECT DISTINCT value FROM public.seen') == [('local',)]
    finally:
        server.psql('DROP FUNCTION public.look() CASCADE; DROP TABLE public.seen')
        server.reload('synchronous_commit = on')
