"""A purchase from the button to the credits, against the emulator: its ids are beyond 2^53, its bodies and digests its own."""

import itertools
import json

import pytest
from background import Background
from conftest import User, assert_ledger
from emulator import PAYMOB_HMAC_SECRET, PAYMOB_INTEGRATIONS, PAYMOB_OWNER, Emulator
from paymob_shop import API_KEY, PUBLIC_KEY, SECRET_KEY, order_of, orders_of
from sparky_server import Refused, Server, wait_for

PRODUCT, PRICE, CREDITS = 'credits-60', 9900, 60


@pytest.fixture(scope='module')
def emulator_process():
    with Emulator(latency_ms=5, paymob_secret_key=SECRET_KEY, paymob_api_key=API_KEY) as emulator:
        yield emulator


@pytest.fixture(scope='module')
def server(emulator_process):
    conf = [f"sparky.paymob_base_url = '{emulator_process.url}'", f"sparky.paymob_integration_ids = '{', '.join(map(str, PAYMOB_INTEGRATIONS))}'",
            f"sparky.paymob_owner = '{PAYMOB_OWNER}'", 'sparky.inquiry_delay = 1h', 'sparky.call_timeout = 5s', 'sparky.lease_time = 3s']
    environment = {'PAYMOB_SECRET_KEY': SECRET_KEY, 'PAYMOB_PUBLIC_KEY': PUBLIC_KEY, 'PAYMOB_API_KEY': API_KEY, 'PAYMOB_HMAC_SECRET': PAYMOB_HMAC_SECRET}
    with Server(conf=conf, environment=environment, emulator=emulator_process) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_is_due(server):
    server.query('UPDATE public.orders SET inquire_at = NULL WHERE inquire_at IS NOT NULL')


def buy(user, product=PRODUCT):
    return user.api.rpc('create_checkout', product_id=product)


def deliver(server, event):
    return server.client().call('SELECT public.paymob_webhooks(payload := %s, hmac := %s)', (event['body'], event['hmac']))[0][0]


def ask(server, order):
    server.query('UPDATE public.orders SET inquire_at = now() WHERE id = %s', (order['id'],))


def ended(server, order, seconds=20, **wanted):
    def there():
        row = order_of(server, order['id'])
        return all(row[k] == v for k, v in wanted.items()) and row
    try:
        return wait_for(there, seconds, str(wanted))
    except AssertionError as error:
        raise AssertionError(f"{error} instead of {order_of(server, order['id'])}") from None


def opened(server, user, product=PRODUCT):
    buy(user, product)
    return orders_of(server, user)[-1]


def test_bought(server, emulator, user):
    order = opened(server, user)
    made, = emulator.paymob_orders()
    assert order['intention_order_id'] == made['id'] > 2 ** 53 and order['client_secret'] == made['client_secret']
    paid = emulator.pay(order['intention_order_id'])
    assert deliver(server, paid)['result'] == 'logged' and deliver(server, paid)['result'] == 'duplicate'
    assert ended(server, order, status='paid')['inquire_at'] is None
    assert user.credits() == 10 + CREDITS
    assert_ledger(server, user.id)


def test_a_secret_that_needs_encoding(server, emulator, user):
    emulator.script({'fault': 'odd_secret', 'match': {'service': 'paymob', 'kind': 'intention'}})
    result = buy(user)
    secret, = [made['client_secret'] for made in emulator.paymob_orders()]
    assert result['client_secret'] == secret and secret not in result['checkout_url'] and result['status'] == 'open'


@pytest.mark.parametrize('fault, status', [('bad_request', 502), ('auth_401', 503), ('auth_403', 503), ('not_found', 503), ('rate_limited', 502),
                                           ('internal', 502), ('unavailable', 502), ('deadline', 504), ('echo_key', 503), ('bad_gateway_html', 502),
                                           ('redirect', 502), ('other_status', 502), ('other_amount', 502), ('other_currency', 502),
                                           ('other_reference', 502), ('garbage', 502), ('cut_json', 502), ('huge_body', 502), ('deep_json', 502),
                                           ('reset_before', 502), ('close_before', 502), ('reset_inside', 502), ('short_body', 502), ('not_http', 502)])
def test_faults(server, emulator, user, fault, status):
    """Each ends typed, is not repeated, and leaves nothing payable that we do not know of, or will not ask about."""
    rule = {'fault': fault, 'match': {'service': 'paymob', 'kind': 'intention'}}
    if fault == 'other_status':
        rule['status'] = 200
    emulator.script(rule)
    with pytest.raises(Refused) as caught:
        buy(user)
    assert caught.value.status == status, caught.value
    order, = orders_of(server, user)
    assert (order['status'], order['error_code']) == ('failed', caught.value.word) and order['checkout_url'] is None
    assert len(emulator.calls(service='paymob', kind='intention')) == 1
    for made in emulator.paymob_orders():
        assert order['intention_order_id'] == made['id'] or order['inquire_at'] is not None
    assert SECRET_KEY not in str(caught.value) and SECRET_KEY not in server.log()
    assert buy(user)['status'] == 'open' and user.credits() == 10


@pytest.mark.parametrize('fault', ['reset_before', 'short_body'])
def test_paid_though_the_answer_was_lost(server, emulator, user, fault):
    emulator.script({'fault': fault, 'processed': True, 'match': {'service': 'paymob', 'kind': 'intention'}})
    with pytest.raises(Refused):
        buy(user)
    order, = orders_of(server, user)
    paid = emulator.pay(reference=order['merchant_order_id'])
    assert deliver(server, paid)['result'] == 'unmatched' and user.credits() == 10
    ask(server, order)
    assert ended(server, order, status='paid')['intention_order_id'] == paid['order']
    assert user.credits() == 10 + CREDITS
    assert_ledger(server, user.id)


def test_the_callback_was_lost(server, emulator, user):
    order = opened(server, user)
    declined = emulator.pay(order['intention_order_id'], 'decline')
    ask(server, order)
    wait_for(lambda: server.value('SELECT count(*) FROM public.payment_events WHERE transaction_id = %s', (declined['transaction'],)), 20, 'the decline')
    assert order_of(server, order['id'])['status'] == 'open'
    paid = emulator.pay(order['intention_order_id'])
    ask(server, order)
    ended(server, order, status='paid')
    assert user.credits() == 10 + CREDITS
    assert deliver(server, paid)['result'] == 'duplicate' and deliver(server, declined)['result'] == 'duplicate'
    assert user.credits() == 10 + CREDITS
    assert_ledger(server, user.id)


@pytest.mark.parametrize('form, flag', itertools.product(['parent', 'child'], ['first', 'last']))
def test_two_partial_refunds(server, emulator, user, form, flag):
    """However Paymob tells of them: each part is booked once, and only what Paymob confirmed."""
    order = opened(server, user)
    paid = emulator.pay(order['intention_order_id'])
    deliver(server, paid)
    for part, left in ((PRICE // 3, 40), (PRICE // 3, 20)):
        refund = emulator.refund(paid['transaction'], part, form, flag)
        deliver(server, refund)
        ask(server, order)
        wait_for(lambda: user.credits() == 10 + left, 20, f'{10 + left} credits')
        deliver(server, refund)
    rest = emulator.refund(paid['transaction'], None, form, flag)
    deliver(server, rest)
    ask(server, order)
    ended(server, order, status='refunded', refunded_cents=PRICE, inquire_at=None)
    assert user.credits() == 10
    assert_ledger(server, user.id)


@pytest.mark.parametrize('held', ['intention', 'inquiry'])
def test_kill_9(server, emulator, user, held):
    """The server crashes with the call on its way: one intention for one order, and in the end the right credits."""
    if held == 'inquiry':
        order = opened(server, user)
        emulator.pay(order['intention_order_id'])
    emulator.hold()
    if held == 'inquiry':
        ask(server, order)
        wait_for(lambda: emulator.calls(service='paymob', kind='inquiry') or emulator.calls(service='paymob', kind='token'), 20, 'a question')
    else:
        call = Background(buy, user)
        wait_for(lambda: emulator.calls(service='paymob', kind='intention'), 20, 'the intention')
    server.crash(server.worker_pid())
    server.worker_pid()
    emulator.release()
    if held == 'intention':
        assert call.error() is not None
        order, = orders_of(server, user)
        emulator.pay(reference=order['merchant_order_id'])
    user.api.close()
    ask(server, order)
    ended(server, order, 20, status='paid')
    assert user.credits() == 10 + CREDITS and len(emulator.calls(service='paymob', kind='intention')) == 1
    assert_ledger(server, user.id)


def test_no_key_in_any_call(server, emulator, user):
    """The secret key goes in one header of one kind of call, and the emulator was content with every request."""
    order = opened(server, user)
    emulator.pay(order['intention_order_id'])
    ask(server, order)
    ended(server, order, status='paid')
    for event in emulator.log():
        assert SECRET_KEY not in json.dumps(event) and API_KEY not in json.dumps(event)
        assert event.get('status') == 401 or not event.get('refused'), event       # a reset of the emulator forgets tokens
    assert {call['kind']: call['authorization'] for call in emulator.calls(service='paymob')}.items() >= {'intention': 'Token', 'inquiry': 'Bearer'}.items()


def test_the_money_agrees(server):
    assert_ledger(server)
    assert server.query('SELECT * FROM sparky.audit()') == []
    assert User is not None
