"""Asking Paymob what became of an order: lost callbacks, refunds to confirm, orders that nobody knows the end of."""

import time

import pytest
import paymob_events as events
from conftest import User, assert_ledger
from paymob_shop import API_KEY, SECRETS, conf, deliver, order_of, orders_of, shop_and_server
from sparky_server import Refused, Server, wait_for

PRODUCT, PRICE, CREDITS = 'credits-60', 9900, 60


@pytest.fixture(scope='module')
def place():
    with shop_and_server('sparky.lease_time = 3s', 'sparky.call_timeout = 3s', 'sparky.inquiry_delay = 1h') as (shop, server):
        yield shop, server


@pytest.fixture
def shop(place):
    shop, server = place
    shop.release()
    server.query("UPDATE public.orders SET inquire_at = NULL WHERE inquire_at IS NOT NULL")
    shop.reset()
    yield shop
    shop.release()


@pytest.fixture
def server(place):
    return place[1]


class Purchase:
    def __init__(self, server, shop, product=PRODUCT):
        self.server, self.user = server, User(server)
        self.id = self.user.api.rpc('create_checkout', product_id=product)['order_id']
        self.paymob_order = self.row()['intention_order_id']
        self.amount = self.row()['amount_cents']

    def row(self):
        return order_of(self.server, self.id)

    def ask(self):
        """Make it due now."""
        self.server.query('UPDATE public.orders SET inquire_at = now() WHERE id = %s', (self.id,))

    def wait(self, seconds=20, **wanted):
        def there():
            row = self.row()
            return all(row[k] == v for k, v in wanted.items()) and row
        try:
            return wait_for(there, seconds, str(wanted))
        except AssertionError as error:
            raise AssertionError(f'{error} instead of {self.row()}') from None

    def events(self):
        return [row[0] for row in self.server.query('SELECT to_jsonb(e) FROM public.payment_events e WHERE paymob_order_id = %s ORDER BY id', (self.paymob_order,))]


def test_the_first_question_comes_by_itself(shop, server):
    server.reload('sparky.inquiry_delay = 1s')
    try:
        purchase = Purchase(server, shop)
        call, = shop.wait_calls('inquiry', 1)
        assert call['body']['order_id'] == purchase.paymob_order
        assert len(shop.calls('token')) <= 1 and API_KEY not in str(call)
        assert purchase.row()['status'] == 'open'
        shop.wait_calls('inquiry', 2)                                # after twice the delay
        row = wait_for(lambda: (row := purchase.row())['inquiries'] >= 2 and row, 20, 'both to be counted')
        assert row['status'] == 'open'
    finally:
        server.reload('sparky.inquiry_delay = 1h')


def test_pauses_double_and_end(shop, server):
    purchase = Purchase(server, shop)
    pauses = []
    for n in range(14):
        purchase.ask()
        row = purchase.wait(inquiries=n + 1)
        pauses.append(server.value('SELECT round(extract(epoch FROM inquire_at - now()) / 3600)::int FROM public.orders WHERE id = %s', (purchase.id,)))
    assert pauses == [2, 4, 8, 16] + [24] * 9 + [None]
    assert row['status'] == 'open' and row['inquire_at'] is None
    assert server.value('SELECT sparky.reconcile_payments()') == 0
    assert server.value('SELECT sparky.reconcile_payments(true)') >= 1   # an operator may start anew
    assert purchase.wait(inquiries=1)['inquire_at'] is not None


def test_a_lost_callback(shop, server):
    """Paid, and nobody told us: fulfilled once; the late callback is a duplicate."""
    purchase = Purchase(server, shop)
    paid = shop.know(events.transaction(purchase.paymob_order, PRICE))
    purchase.ask()
    row = purchase.wait(status='paid')
    assert purchase.user.credits() == 10 + CREDITS and row['inquire_at'] is None and row['paid_at']
    assert deliver(server, paid)['result'] == 'duplicate'
    assert purchase.user.credits() == 10 + CREDITS
    event, = purchase.events()
    assert (event['source'], event['outcome'], event['deliveries'], event['confirmed']) == ('inquiry', 'fulfilled', 2, True)
    assert_ledger(server, purchase.user.id)


def test_callback_and_inquiry_at_once(shop, server):
    for _ in range(5):
        purchase = Purchase(server, shop)
        paid = shop.know(events.transaction(purchase.paymob_order, PRICE))
        shop.hold('inquiry')
        purchase.ask()
        shop.wait_calls('inquiry', 1)
        shop.release()
        deliver(server, paid)
        purchase.wait(status='paid', inquire_at=None)
        wait_for(lambda: purchase.events()[0]['confirmed'], 20, 'the inquiry to be recorded')
        assert purchase.user.credits() == 10 + CREDITS and len(purchase.events()) == 1
        assert_ledger(server, purchase.user.id)
        shop.reset()


def test_declined_then_paid(shop, server):
    """A declined try does not end the asking."""
    purchase = Purchase(server, shop)
    deliver(server, events.declined(purchase.paymob_order, PRICE))
    assert purchase.row()['inquire_at'] is not None
    shop.know(events.transaction(purchase.paymob_order, PRICE))
    purchase.ask()
    purchase.wait(status='paid')
    assert purchase.user.credits() == 10 + CREDITS


def test_what_pays_nothing(shop, server):
    """An inquiry is believed no more than a callback: amount, integration and owner are compared."""
    for fields in ({'amount_cents': 1}, {'currency': 'USD'}, {'integration_id': 1}, {'owner': 1}, {'success': False}, {'is_auth': True}):
        purchase = Purchase(server, shop)
        shop.know(events.transaction(purchase.paymob_order, PRICE).but(**fields))
        purchase.ask()
        wait_for(purchase.events, 20, f'an event with {fields}')
        assert purchase.row()['status'] == 'open' and purchase.user.credits() == 10, fields


def test_a_partial_refund_is_confirmed(shop, server):
    purchase = Purchase(server, shop)
    paid = shop.know(events.transaction(purchase.paymob_order, PRICE))
    deliver(server, paid)
    refund = events.refund(purchase.paymob_order, PRICE, paid.obj['id'], PRICE // 3)
    shop.transactions[purchase.paymob_order] = [refund.obj]
    deliver(server, refund)
    row = purchase.wait(refunded_cents=PRICE // 3)
    assert row['inquire_at'] is None
    assert purchase.user.credits() == 10 + CREDITS - 20
    assert shop.calls('inquiry')[-1]['path'] == f"/api/acceptance/transactions/{paid.obj['id']}"
    assert_ledger(server, purchase.user.id)


def test_a_forged_refund_is_not(shop, server):
    """The total is not signed: who raised it in a genuine body gets nothing booked."""
    purchase = Purchase(server, shop)
    paid = shop.know(events.transaction(purchase.paymob_order, PRICE))
    deliver(server, paid)
    forged = events.transaction(purchase.paymob_order, PRICE, paid.obj['id'], is_refunded=True, refunded_amount_cents=PRICE // 2)
    deliver(server, forged)
    shop.wait_calls('inquiry', 1)
    purchase.wait(inquiries=1)
    time.sleep(0.3)
    assert purchase.row()['refunded_cents'] == 0 and purchase.user.credits() == 10 + CREDITS


def test_paid_and_refunded_in_part_and_never_told(shop, server):
    """Paymob's last transaction is the refund's: the payment that it belongs to is asked for as well."""
    purchase = Purchase(server, shop)
    parent = events.transaction(purchase.paymob_order, PRICE, refunded_amount_cents=PRICE // 3)
    child = events.refund_child(purchase.paymob_order, PRICE // 3, parent.obj['id'])
    shop.know(parent)
    shop.know(child)
    purchase.ask()
    purchase.wait(status='paid', refunded_cents=PRICE // 3)
    assert purchase.user.credits() == 10 + CREDITS - 20 and len(purchase.events()) == 2
    assert [call['path'].rsplit('/', 1)[1] for call in shop.calls('inquiry')] == ['transaction_inquiry', str(parent.obj['id'])]
    assert_ledger(server, purchase.user.id)


def test_only_the_refunded_payment_is_known(shop, server):
    """The callback of the payment was lost, and its transaction is flagged as refunded since: the part that was kept is delivered."""
    purchase = Purchase(server, shop)
    refunded = shop.know(events.refund(purchase.paymob_order, PRICE, None, PRICE // 3))
    deliver(server, refunded)
    purchase.ask()
    purchase.wait(status='paid', refunded_cents=PRICE // 3)
    assert purchase.user.credits() == 10 + CREDITS - 20
    # and the payment itself, late
    deliver(server, events.transaction(purchase.paymob_order, PRICE, refunded.obj['id']))
    assert purchase.user.credits() == 10 + CREDITS - 20
    assert_ledger(server, purchase.user.id)


def test_paid_and_given_back_and_never_told(shop, server):
    purchase = Purchase(server, shop)
    parent = events.refund(purchase.paymob_order, PRICE, None, PRICE)
    shop.know(parent)
    shop.know(events.refund_child(purchase.paymob_order, PRICE, parent.obj['id']))
    purchase.ask()
    wait_for(lambda: len(purchase.events()) == 2, 20, 'both to be recorded')
    assert purchase.user.credits() == 10
    assert server.value('SELECT status FROM public.payments WHERE paymob_order_id = %s', (purchase.paymob_order,)) == 'REFUNDED'
    assert_ledger(server, purchase.user.id)


# ---- orders whose making nobody knows the end of

def test_asked_by_reference(shop, server):
    """The answer with Paymob's id was lost; the buyer can have no link, but should money have come all the same, it counts."""
    user = User(server)
    shop.spoil('intention', reset=True)
    with pytest.raises(Refused):
        user.api.rpc('create_checkout', product_id=PRODUCT)
    order, = orders_of(server, user)
    paymob_order, = shop.intentions
    assert order['status'] == 'failed' and order['intention_order_id'] is None
    shop.know(events.transaction(paymob_order, PRICE).but(order={'merchant_order_id': order['merchant_order_id']}))
    server.query('UPDATE public.orders SET inquire_at = now() WHERE id = %s', (order['id'],))
    wait_for(lambda: order_of(server, order['id'])['status'] == 'paid', 20, 'the order to be paid')
    assert order_of(server, order['id'])['intention_order_id'] == paymob_order
    assert shop.calls('inquiry')[0]['body']['merchant_order_id'] == order['merchant_order_id']
    assert user.credits() == 10 + CREDITS
    assert_ledger(server, user.id)


def test_asked_by_reference_after_the_callback(shop, server):
    """The callback came first and matched nothing."""
    user = User(server)
    shop.spoil('intention', reset=True)
    with pytest.raises(Refused):
        user.api.rpc('create_checkout', product_id=PRODUCT)
    order, = orders_of(server, user)
    paymob_order, = shop.intentions
    paid = shop.know(events.transaction(paymob_order, PRICE).but(order={'merchant_order_id': order['merchant_order_id']}))
    assert deliver(server, paid)['result'] == 'unmatched'
    server.query('UPDATE public.orders SET inquire_at = now() WHERE id = %s', (order['id'],))
    wait_for(lambda: order_of(server, order['id'])['status'] == 'paid', 20, 'the order to be paid')
    assert user.credits() == 10 + CREDITS


def test_the_answer_is_about_another(shop, server):
    victim, thief = Purchase(server, shop), Purchase(server, shop)
    shop.know(events.transaction(victim.paymob_order, PRICE))
    shop.spoil('inquiry', status=200, body=shop.transactions[victim.paymob_order][0])
    thief.ask()
    thief.wait(inquiries=1)
    time.sleep(0.3)
    assert thief.row()['status'] == victim.row()['status'] == 'open' and victim.events() == []


# ---- tokens and trouble

@pytest.mark.parametrize('fault', [dict(status=500, body='oops'), dict(status=429, body='{}'), dict(reset=True), dict(silence=True), dict(body='no json', status=200),
                                   dict(body='{}', status=200), dict(body='[]', status=200), dict(status=404)], ids=str)
def test_trouble_is_asked_again_later(shop, server, fault):
    purchase = Purchase(server, shop)
    shop.know(events.transaction(purchase.paymob_order, PRICE))
    shop.spoil('inquiry', **fault)
    purchase.ask()
    row = purchase.wait(inquiries=1)
    assert row['status'] == 'open' and row['inquire_at'] is not None and len(shop.calls('inquiry')) <= 1
    shop.wait_calls('inquiry', 1)
    # one at a time: the next is due at once, and asked when the first has ended
    purchase.ask()
    purchase.wait(status='paid')
    assert len(shop.calls('inquiry')) == 2


def test_one_token_serves_many(shop, server):
    purchases = [Purchase(server, shop) for _ in range(6)]
    for purchase in purchases:
        shop.know(events.transaction(purchase.paymob_order, PRICE))
    before = len(shop.calls('token'))
    server.query('UPDATE public.orders SET inquire_at = now() WHERE id = ANY (%s::uuid[])', ([p.id for p in purchases],))
    for purchase in purchases:
        purchase.wait(status='paid')
    assert len(shop.calls('token')) - before <= 1 and len(shop.calls('inquiry')) >= 6


def test_a_token_that_is_refused_is_replaced(shop, server):
    first = Purchase(server, shop)
    first.ask()
    first.wait(inquiries=1)
    wait_for(lambda: [call for call in shop.calls('inquiry') if call.get('answered')], 20, 'an inquiry')
    shop.tokens.clear()                                              # Paymob forgets it
    before = len(shop.calls('token'))
    shop.know(events.transaction(first.paymob_order, PRICE))
    first.ask()
    first.wait(status='paid')
    assert len(shop.calls('token')) == before + 1


def test_no_loop_when_every_token_is_refused(shop, server):
    purchase = Purchase(server, shop)
    shop.spoil('inquiry', times=-1, status=401, body={'detail': 'no'})
    purchase.ask()
    purchase.wait(inquiries=1)
    shop.wait_calls('inquiry', 1)
    time.sleep(2.5)                                                  # two more sweeps
    assert len(shop.calls('inquiry')) <= 2 and len(shop.calls('token')) <= 2


def test_a_wrong_api_key(shop, server):
    shop.spoil('token', times=-1, status=403, body={'detail': f'{API_KEY} is wrong'})
    shop.spoil('inquiry', times=-1, status=401, body={'detail': 'no'})
    purchase = Purchase(server, shop)
    purchase.ask()
    purchase.wait(inquiries=1)
    shop.wait_calls('token', 1)
    time.sleep(1.5)
    assert len(shop.calls('token')) == 1 and purchase.row()['status'] == 'open'
    assert 'gave no token' in server.log() and API_KEY not in server.log()


def test_without_an_api_key(shop):
    """Nothing is asked; health() says so; a checkout that a dead worker left ends all the same."""
    environment = {k: v for k, v in SECRETS.items() if k != 'PAYMOB_API_KEY'}
    with Server(conf=conf(shop, 'sparky.inquiry_delay = 1s'), environment=environment) as server:
        purchase = Purchase(server, shop)
        assert 'sparky.paymob_api_key is not set' in server.value('SELECT sparky.health()')['problems']
        server.query("UPDATE public.orders SET status = 'created', checkout_url = NULL, inquire_at = now() WHERE id = %s", (purchase.id,))
        purchase.wait(status='failed', error_code='provider_failed', inquiries=0)
        time.sleep(1.5)
        assert shop.calls('token') == shop.calls('inquiry') == []


# ---- once

def test_run_twice(shop, server):
    """By hand, twice and beside the worker: one payment."""
    purchase = Purchase(server, shop)
    # Those of earlier tests are too old to be asked about: their questions would go on into the next test.
    server.query("UPDATE public.orders SET created_at = created_at - interval '31 days' WHERE id <> %s", (purchase.id,))
    shop.know(events.transaction(purchase.paymob_order, PRICE))
    for _ in range(2):
        server.value('SELECT sparky.reconcile_payments(true)')
        purchase.wait(status='paid')
    assert purchase.user.credits() == 10 + CREDITS and purchase.row()['inquire_at'] is None
    assert_ledger(server)


def test_a_restart_forgets_nothing(shop, server):
    """The worker dies with a question on its way: it is asked again at its next time, not in a loop."""
    purchase = Purchase(server, shop)
    shop.know(events.transaction(purchase.paymob_order, PRICE))
    shop.hold('inquiry')
    purchase.ask()
    shop.wait_calls('inquiry', 1)
    pid = server.worker_pid()
    server.value('SELECT pg_terminate_backend(%s)', (pid,))
    wait_for(lambda: server.process('sparky worker') not in (None, pid), 15, 'a new worker')
    shop.release()
    row = purchase.row()
    assert row['status'] == 'open' and row['inquiries'] == 1 and row['inquire_at'] is not None
    time.sleep(1.5)
    assert len(shop.calls('inquiry')) == 1
    purchase.ask()
    purchase.wait(status='paid')
    assert purchase.user.credits() == 10 + CREDITS


def test_a_held_row_waits_alone(shop, server):
    held, free = Purchase(server, shop), Purchase(server, shop)
    for purchase in (held, free):
        shop.know(events.transaction(purchase.paymob_order, PRICE))
    blocker = server.connect(autocommit=False)
    blocker.cursor().execute('SELECT FROM public.orders WHERE id = %s FOR UPDATE', (held.id,))
    server.connect().cursor().execute('SELECT 1')
    held_ask = "UPDATE public.orders SET inquire_at = now() WHERE id = %s"
    blocker.cursor().execute(held_ask, (held.id,))
    free.ask()
    free.wait(status='paid')
    assert held.row()['status'] == 'open'
    blocker.commit()
    held.wait(status='paid')
    blocker.close()


def test_the_money_agrees(server):
    assert_ledger(server)
    assert server.query('SELECT * FROM sparky.audit()') == []
