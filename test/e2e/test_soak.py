"""20,000 small jobs, 8,000 where each also fetches its photo from the Storage API: the worker keeps its size and its descriptors, and the books are right."""

import os
import threading
import time

from conftest import ON_STORAGE, User, assert_ledger
from sparky_server import Refused, process_descriptors, process_memory, wait_for

CONNECTIONS = 40
CONF = [f'sparky.max_concurrent_calls = {CONNECTIONS}', 'sparky.max_jobs_per_user = 1000', 'sparky.accept_timeout = 30s', 'sparky.job_deadline = 30min', 'sparky.max_uncharged_calls_per_day = 1000000']
JOBS = int(os.environ.get('SPARKY_SOAK_JOBS', 8000 if ON_STORAGE else 20000))
USERS, MINUTES = 8, 12


def prepare(server):
    """A tool with a number as parameter; plans without a daily cap."""
    server.psql("""
        UPDATE public.plans SET max_daily_credits = 1000000 WHERE id = 3;
        INSERT INTO public.tools (id, name_key, description_key, type, icon_name, parameter_schema)
        VALUES ('numbered', 'n', 'd', 'ANALYSIS', 'i', '{"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false}'),
               ('numbered-image', 'n', 'd', 'FILTER', 'i', '{"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false}');
        INSERT INTO sparky.tool_settings (tool_id, model, prompt, response_schema)
        VALUES ('numbered', 'gemini-3.8-flash', 'Look.', '{"type": "object", "properties": {"shape": {"type": "string"}}, "required": ["shape"]}'),
               ('numbered-image', 'gemini-nano-banana-2.1', 'Change it.', NULL)""")


class Load:
    """Each user sends its part of the numbers; errors are kept."""

    def __init__(self, users, first, last):
        self.errors = []
        self.threads = [threading.Thread(target=self.send, args=(user, range(first + i, last, len(users)))) for i, user in enumerate(users)]
        for thread in self.threads:
            thread.start()

    def send(self, user, numbers):
        try:
            for n in numbers:
                # one in ten makes a picture, one in fifty is asked twice
                call, tool = (user.api.process, 'numbered-image') if n % 10 == 0 else (user.api.analyze, 'numbered')
                for _ in range(2 if n % 50 == 1 else 1):
                    while True:
                        try:
                            call(tool, user.path, {'n': n}, wait_seconds=0)
                            break
                        except Refused as refused:
                            if refused.word != 'too_many_jobs':
                                raise
                            time.sleep(0.05)
        except Exception as error:
            self.errors.append(error)

    def join(self):
        for thread in self.threads:
            thread.join()
        assert self.errors == []


def test_soak(server, emulator):
    prepare(server)
    emulator.latency(5)
    users = [User(server, credits=1000000, plan=3) for _ in range(USERS)]
    for user in users:
        user.path = user.photo()
    worker = server.worker_pid()
    at_start = process_descriptors(worker)
    began = time.monotonic()

    def done():
        return server.value("SELECT count(*) FROM public.generation_jobs WHERE status = 'succeeded'")

    sizes, descriptors, sent = [], [], 0
    for part in range(10):
        upto = JOBS * (part + 1) // 10
        if part == 0:
            emulator.hold()         # as many calls at once as there may be, so that no later part can open more connections than the first
        load = Load(users, sent, upto)
        if part == 0:
            wait_for(lambda: emulator.stats()['in_flight'] == CONNECTIONS, 60, 'all connections to be in use')
            emulator.release()
        load.join()
        sent = upto
        wait_for(lambda: done() >= sent, 300, f'{sent} jobs to end', pause=0.2)
        sizes.append(process_memory(worker))
        descriptors.append(process_descriptors(worker))
        assert time.monotonic() - began < MINUTES * 60
    seconds = time.monotonic() - began

    assert done() == JOBS
    assert emulator.stats()['received'] == JOBS
    assert server.worker_pid() == worker
    # flat: after the first fifth nothing grows but noise
    assert max(sizes[2:]) - min(sizes[1:3]) < 6 * 2**20, [size // 1024 for size in sizes]
    emulator.wait_idle()
    # what is left are connections kept for the next call: no more than there were calls at once, and no more than after the first part
    assert descriptors[-1] <= at_start + emulator.stats()['max_in_flight'] + 10, descriptors
    assert descriptors[-1] <= max(descriptors[:2]) + 4, descriptors
    assert server.value('SELECT sum(credits) FROM public.users') == USERS * 1000000 - JOBS
    assert server.value('SELECT count(*) FROM public.credit_usage') == JOBS
    assert server.value('SELECT count(*) FROM sparky.answers') == 0
    assert_ledger(server)
    for user in users:
        user.api.close()
    print(f'{JOBS} jobs in {seconds:.0f} s; memory {[size // 1024 for size in sizes]} kB')
