"""Money under concurrency: what a balance allows is accepted, nothing more, and nothing is lost."""

import collections
import threading

import pytest
from conftest import User, assert_ledger
from sparky_server import Refused, wait_for

CONF = ['sparky.uploads_per_hour = 100000', 'sparky.accept_timeout = 20s']


def at_once(calls):
    """Run the functions in a thread each, started together; their results or Refused, in order."""
    barrier = threading.Barrier(len(calls))
    results = [None] * len(calls)

    def run(i):
        barrier.wait()
        try:
            results[i] = calls[i]()
        except Refused as refused:
            results[i] = refused
        except Exception as error:              # shown by the assertion that follows
            results[i] = error
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Watcher:
    """A session that reads the balance again and again and keeps the lowest values."""

    def __init__(self, server, user):
        self.stop, self.lowest, self.looks = threading.Event(), {'credits': 10**9, 'available': 10**9}, 0
        self.server, self.user = server, user
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        connection = self.server.connect()
        with connection.cursor() as cursor:
            while not self.stop.is_set():
                cursor.execute("""SELECT credits, credits - debt - (SELECT coalesce(sum(credits_held), 0) FROM public.generation_jobs j
                    WHERE j.user_id = u.id AND status NOT IN ('succeeded', 'failed', 'cancelled')) FROM public.users u WHERE id = %s""", (self.user.id,))
                credits, available = cursor.fetchone()
                self.lowest['credits'] = min(self.lowest['credits'], credits)
                self.lowest['available'] = min(self.lowest['available'], available)
                self.looks += 1
        connection.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def numbered_tool(server):
    """A tool with a number as its parameter: as many different requests as wanted."""
    server.psql("""INSERT INTO public.tools (id, name_key, description_key, type, icon_name, parameter_schema)
        VALUES ('numbered', 'n', 'd', 'FILTER', 'i', '{"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false}')
        ON CONFLICT DO NOTHING;
        INSERT INTO sparky.tool_settings (tool_id, model, prompt) VALUES ('numbered', 'gemini-nano-banana-2.1', 'Change it.') ON CONFLICT DO NOTHING""")
    return 'numbered'


def test_one_credit_sixty_four_sessions(server, emulator, make_user):
    tool = numbered_tool(server)
    user = make_user(credits=1)
    path = user.photo()
    sessions = [user.another_session() for _ in range(64)]
    for session in sessions:
        session.pid()                       # connected before the start
    emulator.hold()
    with Watcher(server, user) as watcher:
        results = at_once([lambda s=s, n=n: s.process(tool, path, {'n': n}, wait_seconds=0) for n, s in enumerate(sessions)])
        emulator.wait_calls(1)
        emulator.release()
        accepted = [r for r in results if isinstance(r, dict)]
        assert len(accepted) == 1, collections.Counter(map(str, results))
        user.api.finish(accepted[0]['job_id'])
    refused = [r for r in results if isinstance(r, Refused)]
    assert [(r.status, r.word, r.message) for r in refused] == [(402, 'insufficient_credits', refused[0].message)] * 63
    assert len(emulator.calls()) == 1
    assert watcher.lowest == {'credits': 0, 'available': 0} and watcher.looks > 10
    user.assert_money(credits=0, usage=1)
    for session in sessions:
        session.close()


def test_sixty_four_users_at_once(server, emulator, make_user):
    """The other way round: nobody is in anybody's way."""
    users = [make_user() for _ in range(64)]
    paths = [user.photo() for user in users]
    results = at_once([lambda u=u, p=p: u.api.process('cartoon', p, wait_seconds=0) for u, p in zip(users, paths)])
    assert [r for r in results if not isinstance(r, dict)] == []
    for user, result in zip(users, results):
        assert user.api.finish(result['job_id'])['status'] == 'succeeded'
    assert len(emulator.calls()) == 64
    assert all(user.credits() == 9 for user in users)
    assert_ledger(server)


def test_identical_requests_share_one_call_and_one_charge(emulator, user):
    path = user.photo()
    sessions = [user.another_session() for _ in range(16)]
    for session in sessions:
        session.pid()
    emulator.hold()
    results = at_once([lambda s=s: s.process('cartoon', path, wait_seconds=0) for s in sessions])
    assert [r for r in results if not isinstance(r, dict)] == []
    jobs = {r['job_id'] for r in results}
    assert len(jobs) == 1
    emulator.release()
    ends = [s.finish(jobs.copy().pop()) for s in sessions]
    assert all(end['credits_used'] == 1 and end['image_path'] == ends[0]['image_path'] for end in ends)
    assert len(emulator.calls()) == 1
    user.assert_money(credits=9, usage=1)
    for session in sessions:
        session.close()


def test_no_credits(emulator, make_user):
    user = make_user(credits=0)
    with pytest.raises(Refused) as refused:
        user.api.process('cartoon', user.photo())
    assert (refused.value.status, refused.value.word) == (402, 'insufficient_credits')
    assert emulator.calls() == [] and user.count('public.generation_jobs') == 0


def test_a_hit_needs_no_credits(server, emulator, make_user):
    user = make_user(credits=1)
    path = user.photo()
    user.api.process('cartoon', path)
    assert user.credits() == 0
    assert user.api.process('cartoon', path)['cached'] is True


def test_a_hold_is_not_available(emulator, make_user):
    user = make_user(credits=2)
    emulator.hold()
    for tool in ('cartoon', 'vintage'):
        user.api.process(tool, user.photo(), wait_seconds=0)
    with pytest.raises(Refused) as refused:
        user.api.process('cartoon', user.photo(), wait_seconds=0)
    assert refused.value.status == 402 and user.held() == 2 and user.credits() == 2
    emulator.wait_calls(2)
    emulator.release()
    wait_for(lambda: user.held() == 0)
    user.assert_money(credits=0, usage=2)


def test_price_of_a_tool(server, emulator, user):
    server.query("UPDATE public.tools SET credits = 3 WHERE id = 'retouch'")
    result = user.api.process('retouch', user.photo(), {'strength': 'low'})
    assert result['credits_used'] == 3 and result['credits_remaining'] == 7
    server.query("UPDATE public.tools SET credits = 1 WHERE id = 'retouch'")
    assert server.value('SELECT credits_used FROM public.credit_usage WHERE user_id = %s', (user.id,)) == 3
    user.assert_money(credits=7, usage=1)


def test_daily_limit(server, emulator, make_user):
    """The free plan spends 10 a day, whatever the balance; Retry-After leads to midnight UTC."""
    user = make_user(credits=100)
    tool, path = numbered_tool(server), user.photo()
    for n in range(10):
        user.api.process(tool, path, {'n': n}, wait_seconds=0)
    with pytest.raises(Refused) as refused:
        user.api.process(tool, path, {'n': 11}, wait_seconds=0)
    assert (refused.value.status, refused.value.word) == (429, 'daily_limit')
    assert refused.value.error.pgcode == 'PGRST' and 0 < int(refused.value.retry_after) <= 86400
    wait_for(lambda: user.held() == 0)
    user.assert_money(credits=90, usage=10)


def test_too_many_jobs(server, emulator, rich):
    tool, path = numbered_tool(server), rich.photo()
    emulator.hold()
    for n in range(16):
        rich.api.process(tool, path, {'n': n}, wait_seconds=0)
    with pytest.raises(Refused) as refused:
        rich.api.process(tool, path, {'n': 17}, wait_seconds=0)
    assert (refused.value.status, refused.value.word) == (429, 'too_many_jobs')
    emulator.release()
    wait_for(lambda: rich.held() == 0)
    rich.api.process(tool, path, {'n': 17})


def test_too_many_failures(emulator, rich):
    """Twenty refusals a day are enough of our money; a success costs nothing of that."""
    emulator.script({'fault': 'refusal', 'times': 0, 'match': {'kind': 'image'}})
    jobs = [rich.api.process('cartoon', rich.photo(), wait_seconds=0)['job_id'] for _ in range(10)]
    for job in jobs:
        assert rich.api.finish(job)['error']['code'] == 'refused'
    jobs = [rich.api.process('cartoon', rich.photo(), wait_seconds=0)['job_id'] for _ in range(10)]
    for job in jobs:
        assert rich.api.finish(job)['error']['code'] == 'refused'
    with pytest.raises(Refused) as refused:
        rich.api.process('cartoon', rich.photo(), wait_seconds=0)
    assert (refused.value.status, refused.value.word) == (429, 'too_many_failures')
    assert len(emulator.calls()) == 20
    rich.assert_money(credits=100000, usage=0)


def test_nobody_else_was_charged(server):
    assert_ledger(server)
    assert server.query('SELECT id FROM public.users WHERE credits < 0') == []
    assert User is not None
