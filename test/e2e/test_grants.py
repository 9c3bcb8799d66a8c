"""The free plan's monthly grant: once a UTC month, decided from the time that is passed in."""

import uuid

import psycopg2
import pytest
from background import together
from conftest import assert_ledger
from sparky_server import Refused


@pytest.fixture
def account(server, make_user):
    """A user whose last grant was in a given month, with a given balance."""
    def make(month, credits=4, allowance=None, debt=0, **columns):
        user = make_user(**columns)
        server.query('UPDATE sparky.signup_grants SET last_month = %s WHERE user_id = %s', (month, user.id))
        server.query('UPDATE public.users SET credits = %s, debt = %s, allowance = %s WHERE id = %s',
                     (credits, debt, credits if allowance is None else allowance, user.id))
        return user
    return make


def grant(server, user, at):
    return server.value('SELECT sparky.grant_monthly(%s, %s)', (user.id, at))


def state(server, user):
    return server.row('SELECT credits, debt, allowance FROM public.users WHERE id = %s', (user.id,))


def grants(server, user):
    """(reference's month, delta) of the monthly ledger rows."""
    rows = server.query("SELECT reference, delta FROM public.credit_ledger WHERE user_id = %s AND kind = 'monthly' ORDER BY id", (user.id,))
    assert all(reference.startswith(f'{user.id}:') for reference, _ in rows)
    return [(reference.split(':')[1], delta) for reference, delta in rows]


MOMENTS = [
    # last month, the moment, is it due
    ('2026-01', '2026-01-31 23:59:59.999999+00', False),
    ('2026-01', '2026-02-01 00:00:00+00', True),
    ('2026-02', '2026-02-28 23:59:59.999999+00', False),
    ('2026-02', '2026-03-01 00:00:00+00', True),
    ('2028-02', '2028-02-28 23:59:59.999999+00', False),        # a leap year
    ('2028-02', '2028-02-29 00:00:00+00', False),
    ('2028-02', '2028-02-29 23:59:59.999999+00', False),
    ('2028-02', '2028-03-01 00:00:00+00', True),
    ('2100-02', '2100-02-28 23:59:59.999999+00', False),        # not a leap year
    ('2100-02', '2100-03-01 00:00:00+00', True),
    ('2026-12', '2026-12-31 23:59:59.999999+00', False),
    ('2026-12', '2027-01-01 00:00:00+00', True),
    ('2026-09', '2026-10-01 00:00:00+00', True),
    ('2026-04', '2026-05-01 01:59:59+02', False),               # still April in UTC
    ('2026-04', '2026-05-01 02:00:00+02', True),
    ('2026-04', '2026-04-30 19:00:00-05', True),                # May in UTC already
    ('2026-04', '2026-04-30 18:59:59-05', False),
    ('2026-05', '2026-04-30 12:00:00+00', False),               # a clock that went back
    ('2025-12', '2026-11-01 00:00:00+00', True),
]


@pytest.mark.parametrize('zone', ['UTC', 'Pacific/Auckland'])
def test_when_it_is_due(server, zone):
    """The session's time zone changes nothing."""
    connection = server.connect(options=f'-c timezone={zone}')

    def one(sql, *parameters):
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0] if cursor.description else None
    with connection.cursor() as cursor:
        for last, at, due in MOMENTS:
            user = uuid.uuid4()
            one('INSERT INTO auth.users (id, email) VALUES (%s, %s)', user, f'{user.hex}@example.com')
            one('UPDATE public.users SET credits = 4, allowance = 4 WHERE id = %s', user)
            one('UPDATE sparky.signup_grants SET last_month = %s WHERE user_id = %s', last, user)
            month = one("SELECT to_char(%s::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM')", at)
            assert one('SELECT sparky.grant_monthly(%s, %s::timestamptz)', user, at) is due, (last, at)
            assert one('SELECT sparky.grant_monthly(%s, %s::timestamptz)', user, at) is False, (last, at)
            assert one("SELECT array_agg(reference || ' ' || delta) FROM public.credit_ledger WHERE user_id = %s AND kind = 'monthly'",
                       user) == ([f'{user}:{month} 6'] if due else None), (last, at)
            assert one('SELECT credits FROM public.users WHERE id = %s', user) == (10 if due else 4)
            assert one('SELECT last_month FROM sparky.signup_grants WHERE user_id = %s', user) == (month if due else last)
    connection.close()


def test_three_missed_months_are_one(server, account):
    user = account('2026-03')
    assert grant(server, user, '2026-07-15 12:00+00') is True
    assert grants(server, user) == [('2026-07', 6)] and state(server, user) == (10, 0, 10)
    assert [grant(server, user, f'2026-0{month}-15 12:00+00') for month in (4, 5, 6, 7)] == [False] * 4
    assert grant(server, user, '2026-08-01 00:00+00') is True
    assert grants(server, user) == [('2026-07', 6)]             # the allowance is full: nothing to add, but the month is used up
    assert grant(server, user, '2026-08-31 00:00+00') is False
    assert_ledger(server, user.id)


BALANCES = [
    # before: credits, allowance, debt; after: credits, debt, allowance; delta
    ((0, 0, 0), (10, 0, 10), 10),
    ((4, 4, 0), (10, 0, 10), 6),
    ((30, 0, 0), (40, 0, 10), 10),          # bought credits stay beside it
    ((30, 3, 0), (37, 0, 10), 7),
    ((10, 10, 0), (10, 0, 10), 0),
    ((50, 25, 0), (50, 0, 25), 0),          # a paid plan's rest is not cut
    ((0, 0, 4), (6, 0, 6), 10),             # debt is paid first
    ((0, 0, 10), (0, 0, 0), 10),
    ((0, 0, 25), (0, 15, 0), 10),
]


@pytest.mark.parametrize('before, after, delta', BALANCES)
def test_what_it_comes_to(server, account, before, after, delta):
    credits, allowance, debt = before
    user = account('2026-01', credits=credits, allowance=allowance, debt=debt)
    assert grant(server, user, '2026-02-10 00:00+00') is True
    assert state(server, user) == after
    assert grants(server, user) == ([('2026-02', delta)] if delta else [])
    if delta:
        assert server.value("SELECT balance_after FROM public.credit_ledger WHERE user_id = %s AND kind = 'monthly'", (user.id,)) == after[0] - after[1]
    assert_ledger(server, user.id)


@pytest.mark.parametrize('plan, expires, due', [
    (1, None, True), (2, None, False), (3, None, False),
    (2, '2026-02-10 00:00:00.000001+00', False), (2, '2026-02-10 00:00:00+00', True), (3, '2025-02-10 00:00+00', True),
    (1, '2026-05-10 00:00:00+00', True)])
def test_only_while_plan_1_is_the_effective_one(server, account, plan, expires, due):
    user = account('2026-01')
    server.query('UPDATE public.users SET plan_id = %s, plan_expires_at = %s WHERE id = %s', (plan, expires, user.id))
    assert grant(server, user, '2026-02-10 00:00:00+00') is due


@pytest.mark.parametrize('columns', [{'email_confirmed_at': None}, {'is_anonymous': True}])
def test_never_without_a_sign_up_grant(server, emulator, make_user, columns):
    user = make_user(**columns)
    assert state(server, user) == (0, 0, 0)
    for at in ('2027-01-01 00:00+00', '2036-01-01 00:00+00'):
        assert grant(server, user, at) is False
    assert state(server, user) == (0, 0, 0) and user.count('public.credit_ledger') == 0


def test_nobody_and_nothing(server):
    assert server.value("SELECT sparky.grant_monthly('00000000-0000-0000-0000-000000000001', now())") is False
    assert server.value("SELECT sparky.grant_monthly(NULL, now())") is None
    assert server.value("SELECT sparky.grant_monthly('00000000-0000-0000-0000-000000000001', NULL)") is None


def test_concurrently(server, account):
    """Many at once: one of them grants."""
    for _ in range(3):
        user = account('2026-01')
        results = together(*[lambda: grant(server, user, '2026-02-10 00:00+00') for _ in range(8)])
        assert sorted(results, key=str) == [False] * 7 + [True], results
        assert grants(server, user) == [('2026-02', 6)] and state(server, user) == (10, 0, 10)
    assert_ledger(server)


def test_for_clients_it_does_not_exist(server, user):
    with pytest.raises(psycopg2.Error) as caught:
        user.api.call('SELECT sparky.grant_monthly(%s, now())', (user.id,))
    assert caught.value.pgcode == '42501'


# ---- at acceptance

def this_month(server):
    return server.value("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')")


def test_at_the_first_request_of_a_month(server, emulator, account):
    user = account('2026-01', credits=0)
    seen = user.api.rpc('my_account')
    assert (seen['credits'], seen['available']) == (0, 10)              # counted before it is booked
    assert grants(server, user) == []
    result = user.api.process('cartoon', user.photo())
    assert result['status'] == 'succeeded' and result['credits_remaining'] == 9
    assert user.api.process('vintage', user.photo())['credits_remaining'] == 8
    assert grants(server, user) == [(this_month(server), 10)]
    seen = user.api.rpc('my_account')
    assert (seen['credits'], seen['available'], seen['allowance']) == (8, 8, 8)
    user.assert_money(credits=8, usage=2)


def test_many_first_requests_at_once(server, emulator, account):
    user = account('2026-01', credits=2)
    paths = [user.photo() for _ in range(6)]
    apis = [user.another_session() for _ in paths]
    results = together(*[lambda api=api, path=path: api.process('cartoon', path, wait_seconds=0) for api, path in zip(apis, paths)],
                       lambda: server.value('SELECT sparky.grant_monthly(%s)', (user.id,)))
    for result in results[:-1]:
        assert user.api.finish(result['job_id'])['status'] == 'succeeded', result
    assert grants(server, user) == [(this_month(server), 8)]
    user.assert_money(credits=4, usage=6)


def test_an_attempt_that_is_refused_has_granted_all_the_same(server, emulator, account):
    """The day is used up, the month is not."""
    user = account('2026-01', credits=1)
    server.query("INSERT INTO public.credit_usage (user_id, tool_id, credits_used) VALUES (%s, 'cartoon', 10)", (user.id,))
    with pytest.raises(Refused) as refused:
        user.api.process('cartoon', user.photo())
    assert refused.value.word == 'daily_limit'
    assert grants(server, user) == [(this_month(server), 9)] and state(server, user) == (10, 0, 10)


def test_a_payer_gets_none_and_later_one(server, emulator, account):
    user = account('2026-01', credits=3)
    server.query("UPDATE public.users SET plan_id = 2, plan_expires_at = now() + interval '1 hour' WHERE id = %s", (user.id,))
    assert user.api.process('cartoon', user.photo())['credits_remaining'] == 2
    assert grants(server, user) == []
    server.query('UPDATE public.users SET plan_expires_at = now() WHERE id = %s', (user.id,))
    assert user.api.process('cartoon', user.photo())['credits_remaining'] == 9
    assert grants(server, user) == [(this_month(server), 8)]
    user.assert_money(credits=9, usage=2)
