"""Calls that run beside the test: in threads, each with a connection of its own."""

import concurrent.futures
import threading

from sparky_server import wait_for


class Background:
    """Runs a function in a thread of its own; result() raises what it raised."""

    def __init__(self, function, *arguments, **named):
        self.future = concurrent.futures.Future()

        def run():
            try:
                self.future.set_result(function(*arguments, **named))
            except BaseException as error:      # handed to whoever asks for the result
                self.future.set_exception(error)
        threading.Thread(target=run, daemon=True).start()

    def done(self):
        return self.future.done()

    def result(self, seconds=30):
        return self.future.result(seconds)

    def error(self, seconds=30):
        return self.future.exception(seconds)


def together(*calls):
    """Run functions in threads that start at once; their results, or what they raised, in order."""
    barrier = threading.Barrier(len(calls))
    results = [None] * len(calls)

    def run(number, call):
        barrier.wait()
        try:
            results[number] = call()
        except BaseException as error:              # part of what is compared
            results[number] = error
    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), 'a call does not come back'
    return results


def wait_until_asleep(server, pid, db=None):
    """Until a backend waits on its latch inside one of our functions."""
    wait_for(lambda: server.value("SELECT wait_event_type = 'Extension' AND state = 'active' FROM pg_stat_activity WHERE pid = %s", (pid,)),
             20, f'backend {pid} to wait')


def submit(users, number, tool='cartoon'):
    """Start number jobs, the users in turn, and wait for none of them; [(user, job_id)]."""
    jobs = []
    for i in range(number):
        user = users[i % len(users)]
        started = user.api.process(tool, user.photo(), wait_seconds=0)
        jobs.append((user, started['job_id']))
    return jobs


def statuses(server, jobs, db=None):
    """The jobs' states as the table has them, sorted."""
    return sorted(row[0] for row in server.query('SELECT status FROM public.generation_jobs WHERE id = ANY (%s::uuid[])',
                                                 ([job for _, job in jobs],), db=db))


def wait_ended(server, jobs, seconds=20, db=None):
    """Until every job has ended; a dict of how many ended how."""
    def ended():
        rows = server.query('SELECT status, count(*)::int FROM public.generation_jobs WHERE id = ANY (%s::uuid[]) GROUP BY 1',
                            ([job for _, job in jobs],), db=db)
        count = dict(rows)
        return count if set(count) <= {'succeeded', 'failed', 'cancelled'} else None
    try:
        return wait_for(ended, seconds, 'the jobs to end')
    except AssertionError as error:
        raise AssertionError(f'{error}: {statuses(server, jobs, db)}') from None


def photos_called(emulator):
    """How often each photo was sent: {sha256: times}."""
    count = {}
    for call in emulator.calls():
        count[call['image_sha256']] = count.get(call['image_sha256'], 0) + 1
    return count
