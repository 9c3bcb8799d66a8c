"""Fixtures of the end-to-end tests: one server and one emulator a module, a fresh user a test."""

import hashlib
import itertools
import os
import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import photos                                       # noqa: E402
from emulator import Emulator                       # noqa: E402
from sparky_server import Server, wait_for          # noqa: E402
from storage_control import EmbeddedFiles           # noqa: E402

KEY = 'AQ.Zq8-test-key-not-real'
ON_STORAGE = os.environ.get('SPARKY_STORAGE') == 'supabase'
_seeds = itertools.count(1)


def pytest_configure(config):
    config.addinivalue_line('markers', 'embedded(reason): about embedded storage; not run with SPARKY_STORAGE=supabase')


def pytest_collection_modifyitems(items):
    if ON_STORAGE:
        for item in items:
            for marker in item.iter_markers('embedded'):
                item.add_marker(pytest.mark.skip(reason=f'about embedded storage: {marker.args[0]}'))


def pytest_runtest_setup():
    """What is counted by UTC days and months: no test begins in the last minute of a day."""
    left = 86400 - time.time() % 86400
    if left < 60:
        time.sleep(left + 0.1)


@pytest.fixture(scope='module')
def emulator_process():
    with Emulator(latency_ms=20, key=KEY, answer='tiny') as emulator:
        yield emulator


@pytest.fixture(scope='module')
def server(request, emulator_process):
    """A module may set CONF, a list of conf lines, PRELOAD, and SERVER, a dict of further options."""
    with Server(conf=getattr(request.module, 'CONF', ()), preload=getattr(request.module, 'PRELOAD', 'sparky'),
                emulator=emulator_process, key=KEY, **getattr(request.module, 'SERVER', {})) as server:
        yield server


@pytest.fixture
def emulator(emulator_process):
    emulator_process.reset()
    yield emulator_process
    emulator_process.release()
    emulator_process.reset()


@pytest.fixture
def storage(server):
    """The Storage API of a server that has one."""
    server.storage.reset()
    yield server.storage
    server.storage.release()
    server.storage.reset()


@pytest.fixture
def files(server):
    """The photos as somebody beside sparky sees them, wherever they are."""
    return server.storage or EmbeddedFiles(server)


class User:
    """A signed-up user with a client and uploaded photos."""

    def __init__(self, server, db=None, **columns):
        self.server, self.db = server, db
        self.id = server.sign_up(db=db, **columns)
        self.api = server.client(self.id, db=db)

    def another_session(self):
        return self.server.client(self.id, db=self.db)

    def photo(self, seed=None, **options):
        """Upload a fresh little photo; its path."""
        return self.api.upload(fresh_photo(seed, **options))['path']

    def credits(self):
        return self.server.value('SELECT credits FROM public.users WHERE id = %s', (self.id,), db=self.db)

    def held(self):
        return self.server.value("SELECT coalesce(sum(credits_held), 0)::int FROM public.generation_jobs WHERE user_id = %s"
                                 " AND status NOT IN ('succeeded', 'failed', 'cancelled')", (self.id,), db=self.db)

    def count(self, table):
        return self.server.value(f'SELECT count(*)::int FROM {table} WHERE user_id = %s', (self.id,), db=self.db)

    def job(self, job_id):
        """The job's row as a dict."""
        return self.server.value('SELECT to_jsonb(j) FROM public.generation_jobs j WHERE id = %s', (str(job_id),), db=self.db)

    def provider_calls(self, job_id=None):
        return [row[0] for row in self.server.query('SELECT to_jsonb(c) FROM sparky.provider_calls c WHERE user_id = %s'
                                                    ' AND (%s::uuid IS NULL OR job_id = %s::uuid) ORDER BY id',
                                                    (self.id, job_id, job_id), db=self.db)]

    def assert_money(self, credits, usage):
        """The balance, the number of charges, nothing held, and the ledger agrees with all of it."""
        assert self.credits() == credits
        # a job past its deadline reads as failed at once; the worker writes it, and ends the hold, within its next sweep
        wait_for(lambda: self.held() == 0, 20, 'the hold to go')
        assert self.count('public.credit_usage') == usage
        assert_ledger(self.server, self.id, self.db)


def assert_ledger(server, user=None, db=None):
    """credits − debt = sum of the ledger, for one user or all; every charge has exactly one usage and one ledger row (one of 0 has none)."""
    wrong = server.query("""
        SELECT u.id, u.credits, u.debt, (SELECT coalesce(sum(delta), 0) FROM public.credit_ledger l WHERE l.user_id = u.id) AS booked
          FROM public.users u
         WHERE (%s::uuid IS NULL OR u.id = %s::uuid)
           AND u.credits - u.debt <> (SELECT coalesce(sum(delta), 0) FROM public.credit_ledger l WHERE l.user_id = u.id)""", (user, user), db=db)
    assert wrong == []
    wrong = server.query("""
        SELECT coalesce(c.job_id::text, l.reference)
          FROM public.credit_usage c
          FULL JOIN (SELECT * FROM public.credit_ledger WHERE kind = 'usage') l ON l.reference = c.job_id::text
         WHERE (%s::uuid IS NULL OR coalesce(c.user_id, l.user_id) = %s::uuid)
           AND (c.job_id IS NULL OR coalesce(l.delta, 0) <> -c.credits_used)""", (user, user), db=db)
    assert wrong == []


def fresh_photo(seed=None, **options):
    return photos.png(seed or next(_seeds) + os.getpid() * 100003, **options)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def without_link(result):
    """To compare answers: a link is signed for each of them anew, and good for an hour from its own second."""
    return {key: value for key, value in result.items() if key != 'image_url'}


@pytest.fixture
def user(server):
    """A free user with 10 credits."""
    user = User(server)
    yield user
    user.api.close()


@pytest.fixture
def rich(server):
    """A user of the premium plan with plenty of credits, whom no daily cap meets."""
    user = User(server, credits=100000, plan=3)
    yield user
    user.api.close()


@pytest.fixture
def make_user(server):
    made = []

    def make(**columns):
        made.append(User(server, **columns))
        return made[-1]
    yield make
    for user in made:
        user.api.close()
