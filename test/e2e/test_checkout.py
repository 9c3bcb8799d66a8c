"""create_checkout: from a product to Paymob's page, and every way in which that ends otherwise."""

import json
import threading
import time
import urllib.parse

import psycopg2
import pytest
import paymob_events as events
from background import Background, together
from conftest import User, assert_ledger
from paymob_shop import API_KEY, PUBLIC_KEY, SECRET_KEY, SECRETS, conf, deliver, order_of, orders_of, shop_and_server
from sparky_server import Refused, Server, wait_for

PRODUCT, PRICE, CREDITS = 'credits-60', 9900, 60


@pytest.fixture(scope='module')
def place():
    with shop_and_server('sparky.lease_time = 3s', 'sparky.call_timeout = 5s') as (shop, server):
        yield shop, server


@pytest.fixture
def shop(place):
    place[0].release()
    place[0].reset()
    yield place[0]
    place[0].release()


@pytest.fixture
def server(place):
    return place[1]


def buy(user, product=PRODUCT, **options):
    return user.api.rpc('create_checkout', product_id=product, **options)


def refused(user, product=PRODUCT, **options):
    with pytest.raises(Refused) as caught:
        buy(user, product, **options)
    return caught.value


def the_order(server, user):
    rows = orders_of(server, user)
    assert len(rows) == 1, rows
    return rows[0]


# ---- how it should be

def test_the_happy_way(shop, server, user):
    result = buy(user)
    order = the_order(server, user)
    intention, = shop.calls('intention')
    assert result == {
        'order_id': order['id'], 'merchant_order_id': order['id'], 'product_id': PRODUCT, 'status': 'open', 'amount_cents': PRICE, 'currency': 'EGP',
        'client_secret': order['client_secret'], 'checkout_url': order['checkout_url'], 'expires_at': result['expires_at']}
    assert order['merchant_order_id'] == order['id'] and order['intention_order_id'] in shop.intentions
    assert (order['kind'], order['credits'], order['plan_id'], order['error_code'], order['paid_at']) == ('credits', CREDITS, None, None, None)
    url = urllib.parse.urlsplit(result['checkout_url'])
    assert url.scheme + '://' + url.netloc + url.path == 'https://pay.example.com/unifiedcheckout/'
    assert urllib.parse.parse_qs(url.query, strict_parsing=True) == {'publicKey': [PUBLIC_KEY], 'clientSecret': [result['client_secret']]}
    assert '+' in result['client_secret'] and '+' not in url.query and '/' not in url.query      # both are encoded
    body = intention['body']
    assert intention['headers']['Authorization'] == 'Token ' + SECRET_KEY and SECRET_KEY not in json.dumps(body) + intention['path']
    assert (body['amount'], body['currency'], body['payment_methods'], body['special_reference']) == (PRICE, 'EGP', [events.INTEGRATION], order['id'])
    assert body['items'] == [{'name': PRODUCT, 'amount': PRICE, 'quantity': 1}] and body['expiration'] == 3600
    assert body['billing_data']['email'] == server.value('SELECT email FROM auth.users WHERE id = %s', (user.id,))
    assert body['billing_data']['first_name'] == server.value('SELECT username FROM public.users WHERE id = %s', (user.id,))
    assert body['billing_data']['last_name'] == body['billing_data']['phone_number'] == 'NA'
    assert order['inquire_at'] is not None and user.credits() == 10


def test_over_tls():
    with shop_and_server(tls=True) as (shop, server):
        user = User(server)
        assert buy(user)['status'] == 'open'
        server.reload("sparky.tls_ca_file = ''")                     # nobody that is trusted signed it
        other = User(server)
        assert refused(other).word == 'provider_failed'
        assert the_order(server, other)['status'] == 'failed' and len(shop.calls('intention')) == 1


def test_a_plan(shop, server, user):
    buy(user, 'plan-pro-month')
    order = the_order(server, user)
    assert (order['kind'], order['plan_id'], order['credits'], order['amount_cents'], order['period_days']) == ('plan', 2, None, 14900, 30)


def test_every_text_of_the_buyer_arrives(shop, server):
    user = User(server, phone='+201001234567', email='o"\\x@example.com')
    server.query("UPDATE public.users SET username = %s WHERE id = %s", ('عمر "Ö" \\ \t', user.id))
    buy(user)
    billing = shop.calls('intention')[0]['body']['billing_data']
    assert (billing['first_name'], billing['email'], billing['phone_number']) == ('عمر "Ö" \\ \t', 'o"\\x@example.com', '+201001234567')


def test_paid(shop, server, user):
    order = buy(user)
    paymob_order = the_order(server, user)['intention_order_id']
    assert deliver(server, events.transaction(paymob_order, PRICE))['result'] == 'logged'
    assert the_order(server, user)['status'] == 'paid' and user.credits() == 10 + CREDITS
    assert buy(user)['order_id'] != order['order_id']                # what is paid is not sold twice
    assert_ledger(server, user.id)


# ---- the same again

def test_the_open_order_is_given_again(shop, server, user):
    first = buy(user)
    assert buy(user) == first and len(shop.calls('intention')) == 1
    assert user.another_session().rpc('create_checkout', product_id=PRODUCT) == first
    assert buy(user, 'credits-20')['order_id'] != first['order_id']  # another product is another order
    other = User(server)
    assert buy(other)['order_id'] != first['order_id']


@pytest.mark.parametrize('change', [
    "UPDATE public.orders SET created_at = now() - interval '31 minutes' WHERE user_id = %s",
    "UPDATE public.orders SET amount_cents = amount_cents + 1 WHERE user_id = %s",
    "UPDATE public.orders SET currency = 'USD' WHERE user_id = %s",
    "UPDATE public.orders SET credits = credits - 1 WHERE user_id = %s",
    "UPDATE public.orders SET status = 'failed' WHERE user_id = %s",
])
def test_what_is_not_given_again(shop, server, user, change):
    first = buy(user)
    server.query(change, (user.id,))
    second = buy(user)
    assert second['order_id'] != first['order_id'] and second['client_secret'] != first['client_secret'] and second['amount_cents'] == PRICE


def test_a_link_that_was_tried_is_not_given_again(shop, server, user):
    first = buy(user)
    deliver(server, events.pending(the_order(server, user)['intention_order_id'], PRICE))
    assert buy(user) == first                                        # the buyer is at his bank's page
    deliver(server, events.declined(the_order(server, user)['intention_order_id'], PRICE))
    assert buy(user)['order_id'] != first['order_id']


def test_the_price_is_the_servers(shop, server, user):
    server.query("INSERT INTO public.products (id, kind, credits, amount_cents) VALUES ('changing', 'credits', 5, 1000) ON CONFLICT (id) DO UPDATE SET amount_cents = 1000")
    shop.hold('intention')
    call = Background(buy, user, 'changing')
    shop.wait_calls('intention', 1)
    server.query("UPDATE public.products SET amount_cents = 1, credits = 5000 WHERE id = 'changing'")
    shop.release()
    assert call.result()['amount_cents'] == 1000
    order = the_order(server, user)
    assert (order['amount_cents'], order['credits']) == (1000, 5)
    second = buy(user, 'changing')
    assert second['amount_cents'] == 1 and second['order_id'] != order['id']
    # and the first one still gives what it was sold for
    deliver(server, events.transaction(order['intention_order_id'], 1000))
    assert user.credits() == 15


def test_ten_an_hour(shop, server, user):
    for n in range(10):
        buy(user)
        server.query("UPDATE public.orders SET created_at = created_at - interval '31 minutes' WHERE user_id = %s AND created_at > now() - interval '30 minutes'", (user.id,))
    error = refused(user)
    assert (error.status, error.word) == (429, 'too_many_checkouts')
    assert 27 * 60 <= int(error.retry_after) <= 29 * 60 + 1
    assert len(shop.calls('intention')) == 10
    server.query("UPDATE public.orders SET created_at = created_at - interval '29 minutes' WHERE id = (SELECT id FROM public.orders WHERE user_id = %s ORDER BY created_at LIMIT 1)", (user.id,))
    buy(user)
    assert refused(user, 'credits-20').word == 'too_many_checkouts'
    buy(User(server))


def test_two_at_once_make_one_order(shop, server, user):
    sessions = [user.another_session() for _ in range(8)]
    for session in sessions:
        session.pid()
    shop.hold('intention')
    release = threading.Timer(1, shop.release)
    release.start()
    results = together(*[lambda s=s: s.rpc('create_checkout', product_id=PRODUCT) for s in sessions])
    assert all(r == results[0] for r in results) and results[0]['status'] == 'open', results
    assert len(shop.calls('intention')) == 1 and len(orders_of(server, user)) == 1
    for session in sessions:
        session.close()


def test_the_second_after_a_failure_makes_its_own(shop, server, user):
    """Who waited for another's checkout that fails is not told its error: he gets a fresh one."""
    other = user.another_session()
    shop.hold('intention')
    shop.spoil('intention', status=500, body={'detail': 'oops'})
    first = Background(refused, user)
    shop.wait_calls('intention', 1)
    second = Background(other.rpc, 'create_checkout', product_id=PRODUCT)
    time.sleep(0.3)
    shop.release()
    assert first.result().word == 'provider_failed'
    assert second.result()['status'] == 'open'
    assert sorted(o['status'] for o in orders_of(server, user)) == ['failed', 'open']
    other.close()


# ---- refusals before any call

def test_refusals_in_their_order(shop, server, user, make_user):
    with pytest.raises(Refused) as caught:
        server.client().rpc('create_checkout', product_id=PRODUCT)
    assert caught.value.word == 'not_signed_in'
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        buy(user, 'no such product', method='GET')
    for product in ('no such product', '', 'x' * 5000, 'credits-60 '):
        error = refused(user, product)
        assert (error.status, error.word) == (404, 'product_not_found'), product
    assert refused(user, None).word == 'bad_parameters'
    server.query("INSERT INTO public.products (id, kind, credits, amount_cents, is_active) VALUES ('gone', 'credits', 5, 1000, false) ON CONFLICT DO NOTHING")
    assert refused(user, 'gone').word == 'product_not_found'
    assert shop.calls('intention') == [] and orders_of(server, user) == []


def test_no_downgrade(shop, server, user):
    buy(user, 'plan-premium-month')
    deliver(server, events.transaction(the_order(server, user)['intention_order_id'], 34900))
    error = refused(user, 'plan-pro-month')
    assert (error.status, error.word) == (409, 'plan_downgrade')
    assert buy(user, 'plan-premium-month')['status'] == 'open'       # the same again, and credits, are sold
    assert buy(user)['status'] == 'open'


def test_a_product_withdrawn_on_the_way(shop, server, user):
    """Between the check and the worker's transaction."""
    server.query("INSERT INTO public.products (id, kind, credits, amount_cents) VALUES ('fleeting', 'credits', 5, 1000) ON CONFLICT (id) DO UPDATE SET is_active = true")
    blocker = server.connect(autocommit=False)
    blocker.cursor().execute('SELECT FROM public.users WHERE id = %s FOR UPDATE', (user.id,))
    call = Background(refused, user, 'fleeting')
    time.sleep(0.5)
    server.query("UPDATE public.products SET is_active = false WHERE id = 'fleeting'")
    blocker.rollback()
    assert call.result().word == 'product_not_found' and orders_of(server, user) == []
    blocker.close()


@pytest.mark.parametrize('missing', [('sparky.paymob_secret_key', {'PAYMOB_SECRET_KEY': ''}, []), ('sparky.paymob_public_key', {'PAYMOB_PUBLIC_KEY': ' '}, []),
                                     ('sparky.paymob_integration_ids', {}, ["sparky.paymob_integration_ids = ''"]),
                                     ('sparky.paymob_owner', {}, ["sparky.paymob_owner = ''"])], ids=lambda m: m[0])
def test_not_configured(shop, missing):
    name, environment, lines = missing
    with Server(conf=conf(shop, *lines), environment={**SECRETS, **environment}) as server:
        error = refused(User(server))
        assert (error.status, error.word, error.detail) == (503, 'not_configured', f'Not set: {name}.')
        assert not any(secret in str(error) for secret in SECRETS.values())
        assert f'{name} is not set' in server.value('SELECT sparky.health()')['problems']
        assert shop.calls('intention') == []


def test_health_is_quiet_when_nothing_is_sold(shop, server):
    assert server.value('SELECT sparky.health()')['problems'] == []
    with Server(environment={}) as other:
        assert other.value('SELECT sparky.health()')['problems'] == []
        other.reload("sparky.paymob_integration_ids = '12,x'", "sparky.paymob_owner = 'me'")
        problems = other.value('SELECT sparky.health()')['problems']
        assert {'sparky.paymob_secret_key is not set', 'sparky.paymob_integration_ids is no comma-separated list of integers',
                'sparky.paymob_owner is no integer'} <= set(problems)


# ---- Paymob says something else

def change(**fields):
    return lambda answer: {**answer, **fields}


def detail(**fields):
    return lambda answer: {**answer, 'intention_detail': {**answer['intention_detail'], **fields}}


BAD = {
    '400': (dict(status=400, body={'integration_id': ['no']}), 502),
    '401': (dict(status=401, body={'detail': 'no'}), 503),
    '403': (dict(status=403, body={'detail': 'no'}), 503),
    '404': (dict(status=404, body={'detail': 'Integration ID does not exist.'}), 503),
    '406': (dict(status=406, body={'detail': 'sum'}), 502),
    '429': (dict(status=429, body={'detail': 'slow down'}), 502),
    '500': (dict(status=500, body='<html>oops'), 502),
    '502': (dict(status=502, body='<html>oops'), 502),
    '504': (dict(status=504, body='<html>oops'), 504),
    '302': (dict(status=302, body=''), 502),
    '200 for 201': (dict(status=200), 502),
    '204 for 201': (dict(status=204, body=''), 502),
    'no JSON': (dict(body='<html>'), 502),
    'empty': (dict(body=''), 502),
    'an array': (dict(body=[1]), 502),
    'cut': (dict(raw=b'{"id":"pi_1","intention_order_id":12,"client_sec'), 502),
    'another amount': (dict(change=detail(amount=PRICE * 10)), 502),
    'amount as text': (dict(change=detail(amount=str(PRICE))), 502),
    'amount as float': (dict(change=detail(amount=float(PRICE))), 502),
    'another currency': (dict(change=detail(currency='USD')), 502),
    'another reference': (dict(change=change(special_reference='other')), 502),
    'no reference': (dict(change=change(special_reference=None)), 502),
    'no order id': (dict(change=change(intention_order_id=None)), 502),
    'order id as text': (dict(change=change(intention_order_id='217503999')), 502),
    'negative order id': (dict(change=change(intention_order_id=-5)), 502),
    'huge order id': (dict(raw=b'{"intention_order_id":99999999999999999999999}'), 502),
    'no client secret': (dict(change=change(client_secret='')), 502),
    'unprintable client secret': (dict(change=change(client_secret='a\x00b')), 502),
    'client secret with line breaks': (dict(change=change(client_secret='a\r\nb')), 502),
    'reset': (dict(reset=True), 502),
    'too large': (dict(change=change(extras='x' * 3_000_000)), 502),
}
WITH_ORDER = {'another amount', 'amount as text', 'amount as float', 'another currency', 'another reference', 'no reference', 'no client secret',
              'unprintable client secret', 'client secret with line breaks'}
NOTHING_THERE = {'400', '401', '403', '404', '406', '429'}


@pytest.mark.parametrize('name', BAD)
def test_bad_answers(shop, server, user, name):
    fault, status = BAD[name]
    shop.spoil('intention', **fault)
    error = refused(user)
    assert error.status == status, error
    order = the_order(server, user)
    assert order['id'] in error.detail
    assert (order['status'], order['error_code'], order['client_secret'], order['checkout_url']) == ('failed', error.word, None, None)
    assert (order['intention_order_id'] is not None) == (name in WITH_ORDER)
    assert (order['inquire_at'] is None) == (name in NOTHING_THERE)   # asked about later, wherever it may exist
    assert len(shop.calls('intention')) == 1                         # and never repeated
    second = buy(user)
    assert second['status'] == 'open' and second['merchant_order_id'] != order['merchant_order_id'] and user.credits() == 10


def test_an_answer_for_another_amount_cannot_be_cashed(shop, server, user):
    """Its order id is known, so the event is no stranger's, and pays nothing."""
    shop.spoil('intention', change=detail(amount=1))
    refused(user)
    order = the_order(server, user)
    assert deliver(server, events.transaction(order['intention_order_id'], 1))['status'] == 200
    assert server.value('SELECT outcome FROM public.payment_events WHERE paymob_order_id = %s', (order['intention_order_id'],)) == 'mismatch'
    assert user.credits() == 10 and the_order(server, user)['status'] == 'failed'


def test_an_order_id_that_is_anothers(shop, server, user):
    victim = User(server)
    buy(victim)
    taken = the_order(server, victim)
    shop.spoil('intention', change=change(intention_order_id=taken['intention_order_id']))
    assert refused(user).word == 'provider_failed'
    assert the_order(server, user)['intention_order_id'] is None and the_order(server, victim) == taken


def test_nobody_listens(shop, server, user):
    server.reload("sparky.paymob_base_url = 'http://127.0.0.1:9'")
    try:
        assert refused(user).word == 'provider_failed'
        order = the_order(server, user)
        assert (order['status'], order['inquire_at']) == ('failed', None)
    finally:
        server.reload(f"sparky.paymob_base_url = '{shop.url}'")


@pytest.mark.parametrize('url', ['http://192.0.2.1', 'ftp://127.0.0.1', 'nonsense', 'https://user@host', ''])
def test_a_base_url_that_is_not_allowed(shop, server, user, url):
    server.reload(f"sparky.paymob_base_url = '{url}'")
    try:
        assert refused(user).word == 'not_configured'
        assert all(o['status'] == 'failed' and o['inquire_at'] is None for o in orders_of(server, user))
    finally:
        server.reload(f"sparky.paymob_base_url = '{shop.url}'")


# ---- time

def test_paymob_is_silent(shop, server, user):
    server.reload('sparky.call_timeout = 1s')
    try:
        shop.spoil('intention', silence=True)
        began = time.monotonic()
        error = refused(user)
        assert (error.status, error.word) == (504, 'provider_timeout') and time.monotonic() - began < 15
        order = wait_for(lambda: (lambda o: o['status'] == 'failed' and o)(the_order(server, user)), 20, 'the order to fail')
        assert order['error_code'] == 'provider_timeout' and order['inquire_at'] is not None
        assert len(shop.calls('intention')) == 1
        assert buy(user)['status'] == 'open'
    finally:
        server.reload('sparky.call_timeout = 5s')


def test_the_statement_ends_first(shop, server, user):
    shop.hold('intention')
    began = time.monotonic()
    error = refused(user, timeout='1500ms')                          # an answer: later than that, it would have been a cancelled statement
    assert (error.status, error.word) == (504, 'provider_timeout') and time.monotonic() - began > 0.5
    order = the_order(server, user)
    assert order['status'] == 'created' and order['id'] in error.detail
    shop.release()
    wait_for(lambda: the_order(server, user)['status'] == 'open', 20, 'the order to be finished')
    assert buy(user)['order_id'] == order['id'] and len(shop.calls('intention')) == 1


def test_a_caller_who_leaves(shop, server, user):
    shop.hold('intention')
    call = Background(buy, user)
    shop.wait_calls('intention', 1)
    server.value('SELECT pg_terminate_backend(%s)', (user.api.pid(),))
    assert isinstance(call.error(), psycopg2.Error)
    shop.release()
    order = wait_for(lambda: (lambda o: o['status'] == 'open' and o)(the_order(server, user)), 20, 'the order to be finished')
    assert user.another_session().rpc('create_checkout', product_id=PRODUCT)['order_id'] == order['id']


def test_a_caller_who_rolls_back(shop, server, user):
    """What was accepted stays: a payable order that we do not know of would be worse."""
    assert buy(user, commit=False)['status'] == 'open'
    user.api.connection.rollback()
    assert the_order(server, user)['status'] == 'open' and buy(user)['order_id'] == the_order(server, user)['id']


def test_a_repeatable_read_caller_sees_it(shop, server, user):
    assert buy(user, isolation='REPEATABLE READ')['status'] == 'open'


# ---- races with callbacks and locks

def test_the_event_comes_before_the_answer(shop, server, user):
    """Paymob knows the order before we do: its event is kept, and pays when the answer is in."""
    shop.hold('intention')
    ids = shop.orders
    call = Background(buy, user)
    shop.wait_calls('intention', 1)
    paymob_order = next(ids)
    shop.orders = iter([paymob_order, *range(paymob_order + 1, paymob_order + 1000)])
    assert deliver(server, events.transaction(paymob_order, PRICE))['result'] == 'unmatched'
    assert user.credits() == 10
    shop.release()
    assert call.result()['status'] == 'paid'
    assert user.credits() == 10 + CREDITS and the_order(server, user)['status'] == 'paid'
    assert_ledger(server, user.id)


def test_locks_only_postpone(shop, server, user):
    """Somebody holds the order's row, or the table, when the answer comes: it is stored when they let go, and nobody else waits."""
    shop.hold('intention')
    call = Background(buy, user)
    shop.wait_calls('intention', 1)
    blocker = server.connect(autocommit=False)
    blocker.cursor().execute('SELECT FROM public.orders WHERE user_id = %s FOR UPDATE', (user.id,))
    shop.release()
    other = User(server)
    assert buy(other)['status'] == 'open' and not call.done()
    blocker.rollback()
    assert call.result()['status'] == 'open'
    blocker.cursor().execute('LOCK TABLE public.orders IN ACCESS EXCLUSIVE MODE')
    third = Background(buy, User(server))
    time.sleep(0.4)
    assert not third.done()
    blocker.rollback()
    assert third.result()['status'] == 'open'
    blocker.close()


def test_the_account_goes_in_between(shop, server):
    user = User(server)
    shop.hold('intention')
    call = Background(refused, user)
    shop.wait_calls('intention', 1)
    order = the_order(server, user)
    server.query('DELETE FROM auth.users WHERE id = %s', (user.id,))
    shop.release()
    ended = wait_for(lambda: (lambda o: o['status'] == 'open' and o)(order_of(server, order['id'])), 20, 'the order to be finished')
    assert ended['user_id'] is None and ended['intention_order_id']
    call.future.exception(10)                                        # whatever he is told, he is told it


# ---- death

def terminate(server):
    pid = server.worker_pid()
    server.value('SELECT pg_terminate_backend(%s)', (pid,))
    wait_for(lambda: server.process('sparky worker') not in (None, pid), 15, 'a new worker')


def kill(server):
    server.crash(server.worker_pid())
    server.worker_pid()


def test_the_worker_dies_in_mid_call(shop, server, user):
    shop.hold('intention')
    call = Background(refused, user)
    shop.wait_calls('intention', 1)
    terminate(server)
    error = call.result()
    assert error.word == 'provider_failed'
    order = the_order(server, user)
    assert (order['status'], order['error_code'], order['intention_order_id']) == ('failed', 'provider_failed', None) and order['inquire_at']
    shop.release()
    time.sleep(0.5)
    assert len(shop.calls('intention')) == 1                         # one row, one call
    assert buy(user)['merchant_order_id'] != order['id']


def test_the_server_crashes_in_mid_call(shop, server, user):
    """No caller is left who would ask again: the next checkout, or the sweep, ends it."""
    other = User(server)
    shop.hold('intention')
    calls = [Background(buy, user), Background(buy, other)]
    shop.wait_calls('intention', 2)
    kill(server)
    assert all(isinstance(call.error(), psycopg2.Error) for call in calls)
    shop.release()
    assert the_order(server, user)['status'] == 'created'
    user.api.close()
    assert buy(user)['status'] == 'open'                             # at once: it does not wait for the dead
    assert sorted(o['status'] for o in orders_of(server, user)) == ['failed', 'open']
    server.query("UPDATE public.orders SET inquire_at = now() WHERE user_id = %s", (other.id,))
    wait_for(lambda: the_order(server, other)['status'] == 'failed', 20, 'the sweep')
    assert the_order(server, other)['error_code'] == 'provider_failed'
    other.api.close()
    assert len(shop.calls('intention')) == 3


def test_the_worker_dies_before_it_can_store(shop, server, user):
    """The answer is in its memory, and a lock keeps it from the table."""
    shop.hold('intention')
    call = Background(refused, user)
    shop.wait_calls('intention', 1)
    blocker = server.connect(autocommit=False)
    blocker.cursor().execute('SELECT FROM public.orders WHERE user_id = %s FOR UPDATE', (user.id,))
    shop.release()
    wait_for(lambda: shop.intentions, 20, 'the intention')
    time.sleep(0.5)
    terminate(server)
    blocker.rollback()
    assert call.result().word == 'provider_failed'
    order = the_order(server, user)
    assert order['status'] == 'failed' and order['inquire_at'] and len(shop.calls('intention')) == 1
    blocker.close()


def test_no_worker(shop):
    with Server(conf=conf(shop, "sparky.databases = ''", 'sparky.accept_timeout = 300ms'), environment=SECRETS, extension=False) as server:
        server.psql('CREATE EXTENSION sparky; CREATE ROLE authenticator NOINHERIT LOGIN; GRANT anon, authenticated, service_role TO authenticator')
        user = User(server)
        assert refused(user).word == 'worker_down' and orders_of(server, user) == []
        # what a dead worker left ends by the scheduled job, without any worker
        server.query("INSERT INTO public.orders (user_id, product_id, kind, credits, period_days, amount_cents, currency, merchant_order_id, inquire_at)"
                     " VALUES (%s, 'x', 'credits', 1, 30, 100, 'EGP', 'left', now() - interval '1 second'),"
                     " (%s, 'x', 'credits', 1, 30, 100, 'EGP', 'under way', now() + interval '1 minute')", (user.id, user.id))
        for _ in range(2):
            assert server.value('SELECT sparky.reconcile_payments()') == 1
            assert {o['merchant_order_id']: (o['status'], o['error_code']) for o in orders_of(server, user)} == {
                'left': ('failed', 'provider_failed'), 'under way': ('created', None)}


# ---- who sees what

def test_what_clients_see(shop, server, user):
    order = buy(user)
    rows = user.api.call('SELECT id, status, amount_cents, currency, checkout_url, merchant_order_id FROM public.orders')
    assert [str(row[0]) for row in rows] == [order['order_id']]
    other = User(server)
    assert other.api.call('SELECT id FROM public.orders') == []
    for column in ('client_secret', 'inquire_at', 'inquiries', '*'):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            user.api.call(f'SELECT {column} FROM public.orders')
    for sql in ("UPDATE public.orders SET status = 'paid'", 'DELETE FROM public.orders', "INSERT INTO public.orders (product_id) VALUES ('x')",
                'SELECT sparky.reconcile_payments()'):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            user.api.call(sql)


def test_secrets_are_nowhere():
    """Not in the log at debug2, nor in a table, an error, an activity line; what the buyer told neither, in the log."""
    logging = ['log_statement = all', 'log_min_messages = debug2', 'log_min_error_statement = debug5', 'log_parameter_max_length = -1',
               'log_parameter_max_length_on_error = -1', 'log_error_verbosity = verbose', 'sparky.inquiry_delay = 1s']
    with shop_and_server(*logging) as (shop, server):
        told = []
        user = User(server, email='very.private@example.com', phone='+20100777123')
        signed_up = server.log().count('very.private')               # that was the test's own INSERT
        told.append(str(buy(user, 'credits-20')))
        secret = the_order(server, user)['client_secret']
        for fault in (dict(status=401, body={'detail': f'bad key {SECRET_KEY}'}), dict(status=400, body={'billing_data': {'email': ['very.private@example.com']}}),
                      dict(status=500, body=f'<html>Token {SECRET_KEY}'), dict(body={'detail': SECRET_KEY}), dict(reset=True)):
            shop.spoil('intention', **fault)
            told.append(str(refused(user)))
            server.query('DELETE FROM public.orders WHERE user_id = %s', (user.id,))
        shop.spoil('token', status=403, body={'detail': f'{API_KEY} is not good'})
        buy(user)
        shop.wait_calls('inquiry', 1, 20)
        server.value('SELECT sparky.reconcile_payments(true)')
        shop.wait_calls('inquiry', 2, 20)
        token = next(iter(shop.tokens))
        told.append(server.value('SELECT sparky.health()::text'))
        told.append(str(server.query('SELECT query, application_name FROM pg_stat_activity')))
        told.append(server.run('pg_dump', '--data-only', '--inserts').stdout)
        for name in (SECRET_KEY, API_KEY, token, events.SECRET):
            assert name not in server.log() and not any(name in text for text in told), name
        assert secret not in server.log()
        assert server.log().count('very.private') == signed_up and '+20100777123' in server.log()
        assert 'about the buyer' in server.log()


def test_the_ledger_agrees(server):
    assert_ledger(server)
    assert server.query('SELECT * FROM sparky.audit()') == []
