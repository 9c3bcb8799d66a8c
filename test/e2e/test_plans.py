"""Plans decided from periods: what runs when, what each grants once, what a reversal takes back. Time is passed in."""

import datetime
import uuid

import psycopg2
import pytest
from background import together
from conftest import assert_ledger
from sparky_server import Refused

FREE, PRO, PREMIUM = 1, 2, 3
UTC = datetime.timezone.utc
CREDITS = {PRO: 200, PREMIUM: 600}


def at(text):
    return datetime.datetime.fromisoformat(text).replace(tzinfo=UTC)


def days(n, **more):
    return datetime.timedelta(days=n, **more)


class Payer:
    """A user who buys; nothing here waits for a clock."""

    def __init__(self, server, user):
        self.server, self.user, self.id = server, user, user.id

    def order(self, plan, period_days=30):
        return self.server.value("INSERT INTO public.orders (user_id, product_id, kind, plan_id, period_days, amount_cents, currency, merchant_order_id)"
                                 " VALUES (%s, 'p', 'plan', %s, %s, 10000, 'EGP', %s) RETURNING id",
                                 (self.id, plan, period_days, str(uuid.uuid4())))

    def buy(self, plan, when, period_days=30):
        order = self.order(plan, period_days)
        self.pay(order, when)
        return order

    def pay(self, order, when):
        self.server.query('SELECT sparky.buy_plan(%s, %s)', (order, when))

    def reverse(self, order, when, cents=10000):
        self.server.query('SELECT sparky.reverse_plan(%s, %s, %s)', (order, when, f'{order}:{cents}'))

    def restore(self, order, when):
        self.server.query('SELECT sparky.restore_plan(%s, %s)', (order, when))

    def refresh(self, when):
        self.server.query('SELECT sparky.refresh_plans(%s, %s)', (self.id, when))

    def set(self, **columns):
        self.server.query(f"UPDATE public.users SET {', '.join(f'{c} = %s' for c in columns)} WHERE id = %s", (*columns.values(), self.id))

    def no_grant_for_free(self):
        self.server.query("UPDATE sparky.signup_grants SET last_month = '9999-12' WHERE user_id = %s", (self.id,))

    def mirror(self):
        return self.server.row('SELECT plan_id, plan_expires_at FROM public.users WHERE id = %s', (self.id,))

    def plan(self, when):
        """The plan in effect at a time, as acceptance decides it; what is written for it is undone."""
        connection = self.server.connect(autocommit=False)
        try:
            with connection.cursor() as cursor:
                cursor.execute('SELECT sparky.refresh_plans(%s, %s)', (self.id, when))
                cursor.execute('SELECT plan_id FROM public.users WHERE id = %s', (self.id,))
                return cursor.fetchone()[0]
        finally:
            connection.rollback()
            connection.close()

    def plans(self, *moments):
        return [self.plan(when) for when in moments]

    def periods(self):
        return self.server.query("SELECT plan_id, nullif(starts_at, '-infinity'), nullif(ends_at, 'infinity'), granted FROM sparky.plan_periods"
                                 ' WHERE user_id = %s ORDER BY id', (self.id,))

    def periods_text(self):
        """With infinity, which Python has no word for."""
        return self.server.query('SELECT plan_id, starts_at::text, ends_at::text, granted FROM sparky.plan_periods WHERE user_id = %s ORDER BY id', (self.id,))

    def money(self):
        return self.server.row('SELECT credits, debt, allowance FROM public.users WHERE id = %s', (self.id,))

    def ledger(self, *kinds):
        return self.server.query('SELECT kind, delta FROM public.credit_ledger WHERE user_id = %s AND kind = ANY (%s) ORDER BY id', (self.id, list(kinds)))

    def told(self):
        return self.server.value("SELECT count(*)::int FROM public.notifications WHERE user_id = %s AND title_key = 'notification.plan_expired.title'"
                                 " AND message_key = 'notification.plan_expired.message' AND type = 'general'", (self.id,))


@pytest.fixture
def payer(server, make_user):
    """Without credits of any kind, and without the free plan's grant in his way."""
    payer = Payer(server, make_user(credits=0))
    payer.no_grant_for_free()
    yield payer
    assert_ledger(server, payer.id)


# ---- how long a period is, and where it ends

@pytest.mark.parametrize('start', ['2026-01-31 00:00:00', '2028-02-29 12:00:00', '2027-12-31 23:59:59.999999', '2026-03-28 22:30:00', '2026-10-25 00:00:00'])
@pytest.mark.parametrize('zone', ['UTC', 'Europe/Berlin', 'America/New_York'])
def test_thirty_days_are_720_hours(server, payer, start, zone):
    """Whatever the month, the leap year, and the summer time of the session that books."""
    begin = at(start)
    order = payer.order(PRO)
    connection = server.connect(options=f'-c timezone={zone}')
    with connection.cursor() as cursor:
        cursor.execute('SELECT sparky.buy_plan(%s, %s)', (order, begin))
    connection.close()
    end = begin + datetime.timedelta(hours=720)
    assert payer.periods() == [(PRO, begin, end, 200)] and payer.mirror() == (PRO, end)
    assert payer.plans(begin, end - datetime.timedelta(microseconds=1), end) == [PRO, PRO, FREE]
    assert payer.plan(begin - datetime.timedelta(microseconds=1)) == FREE


def test_a_length_beyond_all_time_has_no_end(payer):
    payer.buy(PRO, at('2026-01-01'), period_days=2**31 - 1)
    assert payer.mirror() == (PRO, None) and payer.money() == (200, 0, 200)


# ---- renewals

def test_renewals_are_chained(payer):
    begin = at('2026-01-31 10:00')
    for bought in (0, 3, 3):
        payer.buy(PRO, begin + days(bought))
    assert payer.periods() == [(PRO, begin, begin + days(30), 200), (PRO, begin + days(30), begin + days(60), None), (PRO, begin + days(60), begin + days(90), None)]
    assert payer.mirror() == (PRO, begin + days(30)) and payer.money() == (200, 0, 200)
    assert payer.plans(begin + days(45), begin + days(89, hours=23), begin + days(90)) == [PRO, PRO, FREE]
    payer.set(credits=50)                                               # 150 of the allowance were used
    payer.refresh(begin + days(30))
    assert payer.mirror() == (PRO, begin + days(60)) and payer.money() == (200, 0, 200)
    payer.refresh(begin + days(60))                                     # nothing was used: nothing is added
    assert payer.money() == (200, 0, 200)
    assert [granted for *_, granted in payer.periods()] == [200, 150, 0]
    assert payer.ledger('period') == [('period', 200), ('period', 150)] and payer.told() == 0


@pytest.mark.parametrize('late', [datetime.timedelta(seconds=-1), datetime.timedelta(microseconds=-1), datetime.timedelta(0)])
def test_buying_on_the_last_second_loses_nothing(payer, late):
    """Before the end it is queued, at the end it starts: without a gap either way."""
    begin = at('2027-12-31 23:59:59')
    payer.buy(PRO, begin)
    end = begin + days(30)
    payer.buy(PRO, end + late)
    assert payer.periods()[1][1:3] == (end, end + days(30))
    assert payer.plans(end - days(0, microseconds=1), end, end + days(30, microseconds=-1), end + days(30)) == [PRO, PRO, PRO, FREE]


def test_buying_after_the_end_starts_then(payer):
    payer.buy(PRO, at('2026-01-01'))
    payer.buy(PRO, at('2026-06-01'))
    assert payer.periods()[1][1:] == (at('2026-06-01'), at('2026-07-01'), 0)       # the allowance was still full
    assert payer.mirror() == (PRO, at('2026-07-01'))


def test_one_order_one_period(payer):
    order = payer.order(PRO)
    for when in ('2026-01-01', '2026-01-01', '2026-01-20', '2026-05-01'):
        payer.pay(order, at(when))
    assert payer.periods() == [(PRO, at('2026-01-01'), at('2026-01-31'), 200)] and payer.money() == (200, 0, 200)


def test_one_order_many_times_at_once(server, payer):
    order = payer.order(PREMIUM)
    together(*[lambda: payer.pay(order, at('2026-01-01')) for _ in range(8)])
    assert len(payer.periods()) == 1 and payer.money() == (600, 0, 600)


def test_many_orders_at_once_are_chained(payer):
    orders = [payer.order(PRO) for _ in range(6)]
    together(*[lambda order=order: payer.pay(order, at('2026-01-01')) for order in orders])
    starts = sorted(period[1] for period in payer.periods())
    assert starts == [at('2026-01-01') + days(30 * n) for n in range(6)]
    assert payer.ledger('period') == [('period', 200)]


# ---- higher and lower

def test_an_upgrade_starts_now_and_the_lower_runs_on(payer):
    begin = at('2026-01-01')
    payer.buy(PRO, begin)
    payer.set(credits=120)
    payer.buy(PREMIUM, begin + days(20), period_days=5)
    assert payer.periods() == [(PRO, begin, begin + days(30), 200), (PREMIUM, begin + days(20), begin + days(25), 480)]
    assert payer.money() == (600, 0, 600) and payer.mirror() == (PREMIUM, begin + days(25))
    assert payer.plans(begin + days(19), begin + days(20), begin + days(25), begin + days(30)) == [PRO, PREMIUM, PRO, FREE]
    payer.refresh(begin + days(25))                                     # back to the lower one, which grants nothing again
    assert payer.mirror() == (PRO, begin + days(30)) and payer.money() == (600, 0, 600) and payer.told() == 1
    payer.refresh(begin + days(30))
    assert payer.mirror() == (FREE, None) and payer.told() == 2


def test_a_downgrade_waits_for_the_higher_one(server, payer):
    begin = at('2026-01-01')
    payer.buy(PREMIUM, begin)
    payer.buy(PREMIUM, begin)
    payer.buy(PRO, begin + days(10))
    assert payer.periods()[2] == (PRO, begin + days(60), begin + days(90), None)
    assert payer.plans(begin + days(59), begin + days(60), begin + days(90)) == [PREMIUM, PRO, FREE]
    payer.set(credits=10)
    payer.refresh(begin + days(100))                                    # both were over before anybody looked: both grant, in order
    assert [granted for *_, granted in payer.periods()] == [600, 590, 0]
    assert payer.money() == (600, 0, 600) and payer.mirror() == (FREE, None) and payer.told() == 1


def test_equal_plans_are_ordered_by_daily_credits_then_id(server, make_user):
    payer = Payer(server, make_user(credits=0))
    payer.no_grant_for_free()
    made = [server.value("INSERT INTO public.plans (name, monthly_credits, max_daily_credits) VALUES (%s, 70, %s) RETURNING id", (f'twin {n}', daily))
            for n, daily in enumerate((9, 8, 9))]
    for plan in made:
        payer.buy(plan, at('2026-01-01'))
    assert payer.plan(at('2026-01-02')) == made[2]                      # 9 a day, the later id
    assert [start for _, start, *_ in payer.periods()] == [at('2026-01-01'), at('2026-01-31'), at('2026-01-01')]


# ---- the free plan beside

def test_three_missed_months_and_a_plan_between(server, make_user):
    """A period's grant and the month's, in order; months without a visit are not made up."""
    payer = Payer(server, make_user(credits=3))
    server.query("UPDATE sparky.signup_grants SET last_month = '2025-10' WHERE user_id = %s", (payer.id,))
    payer.buy(PRO, at('2025-12-31 23:59:59'))
    assert payer.money() == (200, 0, 200)
    payer.set(credits=4)
    payer.refresh(at('2026-01-30 23:59:58'))                            # pro runs: no free grant
    assert payer.money() == (4, 0, 4)
    payer.refresh(at('2026-01-30 23:59:59'))                            # ended: January's grant, and only that
    assert payer.money() == (10, 0, 10) and payer.ledger('monthly') == [('monthly', 6)]
    payer.set(credits=0)
    payer.refresh(at('2026-01-31 23:59:59.999999'))
    assert payer.money() == (0, 0, 0)
    payer.refresh(at('2026-02-01 00:00'))
    payer.refresh(at('2026-02-28 12:00'))
    assert payer.money() == (10, 0, 10) and payer.ledger('monthly') == [('monthly', 6), ('monthly', 10)]
    assert_ledger(server, payer.id)


def test_a_late_grant_leaves_nothing_for_the_month(server, make_user):
    """Three periods that nobody looked at while they ran: each grants, and fills what the month would have."""
    payer = Payer(server, make_user(credits=0))
    server.query("UPDATE sparky.signup_grants SET last_month = '2026-01' WHERE user_id = %s", (payer.id,))
    payer.buy(PRO, at('2026-01-10'))
    payer.buy(PRO, at('2026-01-10'))
    payer.set(credits=0)
    payer.refresh(at('2026-05-05'))
    assert payer.ledger('period', 'monthly') == [('period', 200), ('period', 200)] and payer.money() == (200, 0, 200)
    assert server.value('SELECT last_month FROM sparky.signup_grants WHERE user_id = %s', (payer.id,)) == '2026-05'
    assert_ledger(server, payer.id)


# ---- debt, and what was bought

def test_a_grant_pays_debt_first(payer):
    payer.set(credits=0, debt=150)
    payer.buy(PRO, at('2026-01-01'))
    assert payer.money() == (50, 0, 50)
    payer.set(credits=0, debt=700)
    payer.buy(PREMIUM, at('2026-01-02'))
    assert payer.money() == (0, 100, 0) and payer.ledger('period') == [('period', 200), ('period', 600)]


def test_bought_credits_stay_beside_a_grant(payer):
    payer.set(credits=1000)
    payer.buy(PRO, at('2026-01-01'))
    assert payer.money() == (1200, 0, 200)


# ---- reversals

def test_a_running_period_is_reversed(payer):
    payer.set(credits=30)
    order = payer.buy(PRO, at('2026-01-01'))
    for _ in range(3):                                                  # once is once
        payer.reverse(order, at('2026-01-11'))
    assert payer.periods() == [(PRO, at('2026-01-01'), at('2026-01-11'), 200)]
    assert payer.money() == (30, 0, 0) and payer.mirror() == (FREE, None) and payer.told() == 0
    assert payer.ledger('period', 'clawback') == [('period', 200), ('clawback', -200)]
    payer.pay(order, at('2026-01-12'))                                  # the paid event once more
    assert payer.money() == (30, 0, 0) and payer.mirror() == (FREE, None)


def test_a_reversal_after_spending_makes_debt(server, emulator, payer):
    """Allowance first, then credits, the rest is owed; who owes spends nothing; a purchase and a grant pay it."""
    payer.set(credits=30)
    order = payer.buy(PRO, at('2026-01-01'))
    payer.set(credits=90)                                               # 140 spent, the allowance is 90 at most
    assert payer.money() == (90, 0, 90)
    payer.reverse(order, at('2026-01-02'), cents=9999)
    payer.reverse(order, at('2026-01-03'), cents=10000)                 # a void after a refund: nothing more
    assert payer.money() == (0, 110, 0)
    assert payer.user.api.rpc('my_account')['available'] == 0
    with pytest.raises(Refused) as refused:
        payer.user.api.process('cartoon', payer.user.photo())
    assert refused.value.word == 'insufficient_credits'
    server.query("SELECT sparky.book(%s, 100, 'purchase', %s, 0)", (payer.id, str(uuid.uuid4())))
    assert payer.money() == (0, 10, 0)
    payer.buy(PRO, at('2026-01-05'))
    assert payer.money() == (190, 0, 190)


def test_a_waiting_period_is_reversed(payer):
    payer.buy(PRO, at('2026-01-01'))
    second = payer.buy(PRO, at('2026-01-02'))
    payer.buy(PRO, at('2026-01-03'))
    payer.reverse(second, at('2026-01-04'))
    assert payer.money() == (200, 0, 200) and payer.ledger('clawback') == []
    assert payer.periods()[2][1:] == (at('2026-01-31'), at('2026-03-02'), None)     # moved into its place
    assert payer.plans(at('2026-03-01'), at('2026-03-02')) == [PRO, FREE]
    payer.refresh(at('2027-01-01'))
    assert [granted for *_, granted in payer.periods()] == [200, None, 0]


def test_what_waited_begins_when_the_running_one_is_reversed(payer):
    first = payer.buy(PRO, at('2026-01-01'))
    payer.buy(PRO, at('2026-01-02'))
    payer.set(credits=150)
    payer.reverse(first, at('2026-01-10'))
    assert payer.periods()[1] == (PRO, at('2026-01-10'), at('2026-02-09'), 200)
    assert payer.money() == (150, 0, 150) and payer.mirror() == (PRO, at('2026-02-09'))     # -50, of which 200 paid the debt first
    assert payer.ledger('period', 'clawback') == [('period', 200), ('clawback', -200), ('period', 200)]


def test_a_lower_one_moves_up_too_but_not_over_its_own(payer):
    premium = payer.buy(PREMIUM, at('2026-01-01'))
    payer.buy(PRO, at('2026-01-02'))
    payer.buy(PRO, at('2026-01-02'))
    payer.reverse(premium, at('2026-01-11'))
    assert [period[1:3] for period in payer.periods()[1:]] == [(at('2026-01-11'), at('2026-02-10')), (at('2026-02-10'), at('2026-03-12'))]
    assert payer.money() == (200, 0, 200) and payer.mirror() == (PRO, at('2026-02-10')) and payer.told() == 0


def test_a_period_that_is_over_is_reversed(payer):
    order = payer.buy(PRO, at('2026-01-01'))
    payer.buy(PRO, at('2026-01-02'))
    payer.refresh(at('2026-02-05'))
    payer.reverse(order, at('2026-02-06'))
    assert [period[1:3] for period in payer.periods()] == [(at('2026-01-01'), at('2026-01-31')), (at('2026-01-31'), at('2026-03-02'))]
    assert payer.money() == (0, 0, 0) and payer.mirror() == (PRO, at('2026-03-02'))


def test_one_that_was_never_looked_at_grants_nothing_after_its_reversal(server, payer):
    """Its grant was due and not booked: nothing is given, nothing taken back."""
    payer.buy(PRO, at('2026-01-01'))
    second = payer.buy(PRO, at('2026-01-02'))
    payer.reverse(second, at('2026-02-15'))
    payer.refresh(at('2026-02-16'))
    assert payer.money() == (200, 0, 200) and payer.ledger('period', 'clawback') == [('period', 200)]
    assert payer.plan(at('2026-02-14')) == FREE


def test_an_order_without_a_period_and_one_without_a_buyer(server, payer):
    payer.reverse(payer.order(PRO), at('2026-01-01'))
    payer.reverse(uuid.uuid4(), at('2026-01-01'))
    payer.pay(uuid.uuid4(), at('2026-01-01'))
    order = payer.order(PRO)
    server.query('UPDATE public.orders SET user_id = NULL WHERE id = %s', (order,))
    payer.pay(order, at('2026-01-01'))
    assert payer.periods() == [] and payer.money() == (0, 0, 0)


def test_a_reversed_order_that_stands_after_all(server, payer):
    """Another payment of it came: a whole period from then on, and what was taken back. As often as it happens."""
    payer.set(credits=30)
    order = payer.buy(PRO, at('2026-01-01'))
    payer.restore(order, at('2026-01-02'))                              # not reversed: nothing to restore
    payer.reverse(order, at('2026-01-11'))
    for _ in range(2):
        payer.restore(order, at('2026-01-20'))
    assert payer.periods() == [(PRO, at('2026-01-20'), at('2026-02-19'), 200)]
    assert payer.money() == (230, 0, 200) and payer.mirror() == (PRO, at('2026-02-19'))
    payer.reverse(order, at('2026-01-21'))
    assert payer.money() == (30, 0, 0) and payer.mirror() == (FREE, None)
    payer.restore(order, at('2026-01-22'))
    assert payer.money() == (230, 0, 200)
    assert payer.ledger('period', 'clawback') == [('period', 200), ('clawback', -200), ('clawback', 200), ('clawback', -200), ('clawback', 200)]


def test_restored_before_it_ever_granted(payer):
    payer.buy(PRO, at('2026-01-01'))
    order = payer.buy(PRO, at('2026-01-02'))
    payer.reverse(order, at('2026-01-03'))
    payer.restore(order, at('2026-01-04'))
    assert payer.periods()[1][1:] == (at('2026-01-31'), at('2026-03-02'), None) and payer.money() == (200, 0, 200)
    payer.set(credits=0)
    payer.refresh(at('2026-02-01'))
    assert payer.money() == (200, 0, 200) and payer.ledger('clawback') == []


def test_a_caller_in_repeatable_read_sees_what_came_before_his_lock(server, payer):
    order = payer.order(PRO)
    connection = server.connect(autocommit=False)
    connection.set_session(isolation_level='REPEATABLE READ')
    with connection.cursor() as cursor:
        cursor.execute('SELECT 1')                                      # his snapshot
        payer.pay(order, at('2026-01-01'))
        cursor.execute('SELECT sparky.buy_plan(%s, %s)', (order, at('2026-01-02')))
        cursor.execute('SELECT sparky.reverse_plan(%s, %s, %s)', (order, at('2026-01-03'), f'{order}:10000'))
    connection.commit()
    connection.close()
    assert payer.periods() == [(PRO, at('2026-01-01'), at('2026-01-03'), 200)]
    assert payer.money() == (0, 0, 0) and payer.ledger('period', 'clawback') == [('period', 200), ('clawback', -200)]


# ---- replay

def test_a_replay_on_an_empty_ledger_comes_to_the_same(server, payer):
    """The periods and what they granted stand; the ledger is written anew from the orders."""
    orders = [payer.buy(PRO, at('2026-01-01')), payer.buy(PRO, at('2026-01-05'))]
    payer.refresh(at('2026-02-01'))
    orders.append(payer.buy(PREMIUM, at('2026-02-02')))
    payer.reverse(orders[2], at('2026-02-03'))
    before = (payer.money()[:2], payer.mirror(), payer.periods(), sorted(payer.ledger('period', 'clawback')))
    connection = server.connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute('DELETE FROM public.credit_ledger WHERE user_id = %s', (payer.id,))
        cursor.execute('UPDATE public.users SET credits = 0, debt = 0, allowance = 0 WHERE id = %s', (payer.id,))
    connection.commit()
    connection.close()
    for _ in range(2):
        for order in orders:
            payer.pay(order, at('2026-02-04'))
        payer.reverse(orders[2], at('2026-02-04'))
    assert (payer.money()[:2], payer.mirror(), payer.periods(), sorted(payer.ledger('period', 'clawback'))) == before


# ---- the owner's own hand

def test_a_plan_set_by_hand_has_no_end_and_no_grant(payer):
    payer.set(plan_id=PREMIUM)
    (plan, _, end, granted), = payer.periods_text()
    assert (plan, end, granted) == (PREMIUM, 'infinity', 0)
    assert payer.mirror() == (PREMIUM, None) and payer.money() == (0, 0, 0)
    assert payer.plans(at('2026-01-01'), at('2099-01-01')) == [PREMIUM, PREMIUM]


def test_an_end_set_by_hand(payer):
    soon = datetime.datetime.now(UTC) + days(10)
    payer.set(plan_id=PRO, plan_expires_at=soon)
    assert payer.plans(soon - days(1), soon) == [PRO, FREE]
    payer.set(plan_expires_at=soon + days(5))
    assert payer.plans(soon, soon + days(5)) == [PRO, FREE]
    payer.set(plan_expires_at=soon - days(5))
    assert payer.plans(soon - days(6), soon - days(5)) == [PRO, FREE]
    payer.set(plan_expires_at=None)
    assert payer.plan(soon + days(1000)) == PRO
    payer.set(plan_expires_at=datetime.datetime.now(UTC) - days(1))
    assert payer.plan(datetime.datetime.now(UTC)) == FREE


def test_plan_1_by_hand_ends_what_was_paid_too(server, payer):
    now = server.value('SELECT now()')
    payer.buy(PRO, now - days(1))
    payer.buy(PRO, now - days(1))
    payer.buy(PREMIUM, now)
    payer.set(plan_id=FREE, plan_expires_at=None)
    later = server.value('SELECT now()')
    assert payer.plans(later, now + days(35), now + days(70)) == [FREE, FREE, FREE]
    payer.refresh(now + days(100))
    assert payer.ledger('period') == [('period', 200), ('period', 400)] and payer.told() == 0


def test_a_lower_plan_by_hand_ends_the_higher_one(server, payer):
    now = server.value('SELECT now()')
    payer.buy(PREMIUM, now - days(1))
    payer.set(plan_id=PRO, plan_expires_at=now + days(3))
    assert payer.plans(server.value('SELECT now()'), now + days(2), now + days(4)) == [PRO, PRO, FREE]


def test_a_gift_by_hand_lets_the_paid_one_below_run_on(server, payer):
    now = server.value('SELECT now()')
    payer.buy(PRO, now - days(1))
    payer.set(plan_id=PREMIUM, plan_expires_at=now + days(3))
    assert payer.plans(now + days(2), now + days(4), now + days(30)) == [PREMIUM, PRO, FREE]
    payer.refresh(now + days(4))
    assert payer.mirror() == (PRO, now + days(29))


def test_shortened_by_hand_what_waits_moves_up(server, payer):
    now = server.value('SELECT now()')
    payer.buy(PRO, now - days(1))
    payer.buy(PRO, now - days(1))
    payer.set(plan_expires_at=now + days(1))
    assert [period[1:3] for period in payer.periods()] == [(now - days(1), now + days(1)), (now + days(1), now + days(31))]


def test_a_purchase_does_not_wait_for_a_plan_without_an_end(payer):
    payer.set(plan_id=PREMIUM)
    payer.buy(PRO, at('2026-01-01'))
    assert payer.periods()[1] == (PRO, at('2026-01-01'), at('2026-01-31'), 200)
    assert payer.money() == (200, 0, 200) and payer.plan(at('2026-01-02')) == PREMIUM


def test_who_tidies_by_hand_ends_no_paid_period(server, payer):
    """The row says that the plan has ended, the next one runs already: setting plan 1 is not a statement on that."""
    now = server.value('SELECT now()')
    payer.buy(PRO, now - days(31))
    payer.buy(PRO, now - days(30))
    assert payer.mirror() == (PRO, now - days(1))
    server.query('UPDATE public.users SET plan_id = 1, plan_expires_at = NULL WHERE plan_expires_at < now() AND id = %s', (payer.id,))
    assert payer.mirror() == (PRO, now + days(29)) and payer.ledger('period') == [('period', 200)]


def test_a_profile_made_anew_keeps_what_was_paid(server, payer):
    now = server.value('SELECT now()')
    payer.buy(PRO, now)
    server.query('DELETE FROM public.users WHERE id = %s', (payer.id,))
    assert server.value('SELECT sparky.repair()') == []
    assert payer.mirror() == (PRO, now + days(30)) and payer.money()[:2] == (200, 0)
    payer.set(plan_id=PREMIUM, plan_expires_at=None)                    # what was only written in the row goes with it
    server.query('DELETE FROM public.users WHERE id = %s', (payer.id,))
    assert server.value('SELECT sparky.repair()') == []
    assert payer.mirror() == (PRO, now + days(30))


def test_repair_makes_up_for_edits_without_the_trigger(server, make_user):
    now = server.value('SELECT now()')
    users = [Payer(server, make_user(credits=0)) for _ in range(3)]
    users[0].buy(PRO, now)
    connection = server.connect()
    with connection.cursor() as cursor:
        cursor.execute('DROP TRIGGER sparky_users_plan_update ON public.users')
        cursor.execute('UPDATE public.users SET plan_id = 1, plan_expires_at = NULL WHERE id = %s', (users[0].id,))
        cursor.execute('UPDATE public.users SET plan_id = 3 WHERE id = %s', (users[1].id,))
        cursor.execute('SELECT user_id FROM sparky.plans_out_of_step()')
        # other tests have been in other times
        assert {row[0] for row in cursor.fetchall()} & {payer.id for payer in users} == {users[0].id, users[1].id}
        cursor.execute('SELECT sparky.repair()')
        assert cursor.fetchone() == ([],)
        cursor.execute('SELECT user_id FROM sparky.plans_out_of_step()')
        assert cursor.fetchall() == []              # by now() the row is right again for everybody
    connection.close()
    later = now + days(1)
    assert [payer.plan(later) for payer in users] == [FREE, PREMIUM, FREE]


def test_nobody_and_nothing(server):
    for call in ('refresh_plans(NULL, now())', "refresh_plans(gen_random_uuid(), NULL)", 'refresh_plans(gen_random_uuid(), now())', 'buy_plan(NULL, now())',
                 'reverse_plan(gen_random_uuid(), now(), NULL)', 'restore_plan(NULL, NULL)'):
        server.value(f'SELECT sparky.{call}')
    with pytest.raises(psycopg2.Error) as caught:
        server.value('SELECT sparky.put_plan(gen_random_uuid(), NULL, NULL, now())')
    assert caught.value.pgcode == '22004'


def test_clients_cannot(server, user):
    for call in ("sparky.refresh_plans('{0}', now())", "sparky.put_plan('{0}', 3, NULL, now())", "sparky.buy_plan('{0}', now())",
                 "sparky.reverse_plan('{0}', now(), 'x')", "sparky.restore_plan('{0}', now())"):
        with pytest.raises(psycopg2.Error) as caught:
            user.api.call('SELECT ' + call.format(user.id))
        assert caught.value.pgcode == '42501'
    with pytest.raises(psycopg2.Error) as caught:
        user.api.call('SELECT * FROM sparky.plan_periods')
    assert caught.value.pgcode == '42501'


# ---- at acceptance, by the server's own clock

def test_my_account_counts_what_is_due_and_writes_nothing(server, emulator, payer):
    """Two periods that began, one after the other, and debt: as the acceptance that follows books it."""
    now = server.value('SELECT now()')
    payer.buy(PRO, now - days(100))
    payer.buy(PRO, now - days(99))
    payer.buy(PREMIUM, now - days(60), period_days=1)
    payer.set(credits=0, debt=70)
    order = payer.order(PRO)
    server.query('INSERT INTO sparky.plan_periods (user_id, plan_id, order_id, starts_at, ends_at) VALUES (%s, 2, %s, %s, %s)',
                 (payer.id, order, now - days(1), now + days(29)))
    seen = payer.user.api.rpc('my_account')
    assert (seen['credits'], seen['debt'], seen['available'], seen['plan'], seen['max_daily_credits']) == (0, 70, 130, 'pro', 50)
    assert datetime.datetime.fromisoformat(seen['plan_expires_at']) == now + days(29)
    assert payer.money() == (0, 70, 0) and payer.mirror() != (PRO, now + days(29))
    assert payer.user.api.process('cartoon', payer.user.photo())['credits_remaining'] == 129
    assert payer.money() == (129, 0, 129) and payer.mirror() == (PRO, now + days(29))


def test_nobody_stays_pro_for_ever(server, emulator, make_user):
    """Without any scheduled job: after the end plan 1's cap counts, and the user is told once."""
    payer = Payer(server, make_user(credits=100))
    payer.no_grant_for_free()
    now = server.value('SELECT now()')
    payer.buy(PRO, now - days(30))
    assert payer.mirror() == (PRO, now)
    assert payer.user.api.rpc('my_account')['max_daily_credits'] == 10
    server.query("INSERT INTO public.credit_usage (user_id, tool_id, credits_used) VALUES (%s, 'cartoon', 10)", (payer.id,))
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            payer.user.api.process('cartoon', payer.user.photo())
        assert refused.value.word == 'daily_limit'
    assert payer.mirror() == (FREE, None) and payer.told() == 1


def test_nobody_loses_a_grant(server, emulator, payer):
    """The period that waited began, and nothing ran that could have noticed: the request that comes finds its credits."""
    now = server.value('SELECT now()')
    payer.buy(PRO, now - days(31))
    payer.buy(PRO, now - days(31))
    payer.set(credits=0)
    assert payer.user.api.rpc('my_account')['available'] == 200
    assert payer.user.api.process('cartoon', payer.user.photo())['credits_remaining'] == 199
    assert payer.mirror() == (PRO, now + days(29)) and payer.told() == 0


def test_cleanup_brings_rows_in_step(server, make_user):
    now = server.value('SELECT now()')
    ended, goes_on, falls, waits = [Payer(server, make_user(credits=0)) for _ in range(4)]
    for payer in (ended, goes_on, falls, waits):
        payer.no_grant_for_free()
        payer.buy(PRO, now - days(31) if payer is not falls else now - days(5))
    goes_on.buy(PRO, now - days(30))
    falls.buy(PREMIUM, now - days(3), period_days=2)
    waits.buy(PREMIUM, now - days(1), period_days=10)
    waits.buy(PRO, now - days(1))
    goes_on.set(credits=20)
    for _ in range(2):
        server.query('CALL sparky.cleanup_plans()')
    assert ended.mirror() == (FREE, None) and ended.told() == 1
    assert goes_on.mirror() == (PRO, now + days(29)) and goes_on.told() == 0 and goes_on.money() == (200, 0, 200)
    assert falls.mirror() == (PRO, now + days(25)) and falls.told() == 1
    assert waits.mirror() == (PREMIUM, now + days(9)) and waits.told() == 0
    assert server.value('SELECT sparky.end_plans()') == 0


def test_cleanup_waits_for_nobody(server, make_user):
    """A user whose row is held is left for the next time."""
    now = server.value('SELECT now()')
    payer, other = Payer(server, make_user()), Payer(server, make_user())
    for one in (payer, other):
        one.buy(PRO, now - days(31))
    holder = server.connect(autocommit=False)
    with holder.cursor() as cursor:
        cursor.execute('SELECT FROM public.users WHERE id = %s FOR UPDATE', (payer.id,))
        server.query('CALL sparky.cleanup_plans()')
        assert (payer.mirror()[0], other.mirror()[0]) == (PRO, FREE)
    holder.rollback()
    holder.close()
    server.query('CALL sparky.cleanup_plans()')
    assert payer.mirror() == (FREE, None)
