"""From a callback to credits: what is signed counts, once, in any order; and nothing else does."""

import itertools
import json
import random
import threading
import uuid

import psycopg2
import pytest
from conftest import assert_ledger
from paymob_events import (INTEGRATION, OWNER, SECRET, Event, declined, new_id, pending, refund, refund_child, sign, signed_text, transaction,
                           void)
from sparky_server import Refused, Server, wait_for

SECOND = 'second-secret-of-a-rotation'
CONF = [f"sparky.paymob_hmac_secret = '{SECRET}, {SECOND}'", f"sparky.paymob_integration_ids = '{INTEGRATION}, 4097559'",
        f"sparky.paymob_owner = '{OWNER}'", 'sparky.inquiry_delay = 1d', 'sparky.uploads_per_hour = 100000']
AMOUNT, CREDITS = 25000, 100


class Order:
    """A row of public.orders that waits for its payment."""

    def __init__(self, server, user, amount=AMOUNT, credits=CREDITS, plan=None, currency='EGP', known=True, days=30):
        self.server, self.user, self.amount, self.paymob = server, user, amount, new_id(217503000)
        self.id = server.value(
            "INSERT INTO public.orders (user_id, product_id, kind, plan_id, credits, period_days, amount_cents, currency, merchant_order_id,"
            " intention_order_id, status, inquire_at) VALUES (%s, 'p', %s, %s, %s, %s, %s, %s, %s, %s, 'open', now() + interval '1 hour') RETURNING id",
            (user.id if user else None, 'plan' if plan else 'credits', plan, None if plan else credits, days, amount, currency, f'sparky-{uuid.uuid4()}',
             self.paymob if known else None))
        self.transaction = new_id()

    def row(self):
        return self.server.value('SELECT to_jsonb(o) FROM public.orders o WHERE id = %s', (self.id,))

    def events(self):
        return [row[0] for row in self.server.query("SELECT to_jsonb(e) - 'body' - 'payload' FROM public.payment_events e"
                                                    ' WHERE paymob_order_id = %s ORDER BY id', (self.paymob,))]

    def outcomes(self):
        return [e['outcome'] for e in self.events()]

    def payment(self):
        return self.server.value('SELECT to_jsonb(p) FROM public.payments p WHERE paymob_order_id = %s', (self.paymob,))

    def ledger(self):
        return [tuple(row) for row in self.server.query("SELECT kind, delta FROM public.credit_ledger WHERE user_id = %s AND kind <> 'signup'"
                                                        " AND kind <> 'adjustment' ORDER BY id", (self.user.id,))]

    def paid(self, **fields):
        return transaction(self.paymob, self.amount, self.transaction).but(**fields)

    def pending(self):
        return pending(self.paymob, self.amount, self.transaction)

    def declined(self, id=None):
        return declined(self.paymob, self.amount, id)

    def void(self):
        return void(self.paymob, self.amount, self.transaction)

    def refund(self, total):
        return refund(self.paymob, self.amount, self.transaction, total)


def post(server, event=None, body=None, digest=None, role='anon', headers=None, **options):
    """As PostgREST calls the form with the header: the answer's status and body."""
    client = server.client(role=role)
    try:
        client._connect()
        with client.connection.cursor() as cursor:
            client.begin(cursor, path='/rpc/paymob_webhooks', **options)
            if headers is None:
                headers = {'x-paymob-hmac': digest if digest is not None else event.digest}
            cursor.execute("SELECT set_config('request.headers', %s, true)", (json.dumps(headers),))
            cursor.execute("WITH pgrst_source AS (SELECT public.paymob_webhooks(%s::json) AS s) SELECT s::text, current_setting('response.status', true)"
                           ' FROM pgrst_source', (body if body is not None else event.body,))
            row = cursor.fetchone()
        client.connection.commit()
    except psycopg2.Error as error:
        if error.pgcode and (error.pgcode.startswith('PT') or error.pgcode == 'PGRST'):
            raise Refused(error) from error
        raise
    finally:
        client.close()
    answer = json.loads(row[0])
    assert int(row[1]) == answer['status'] and set(answer) == {'status', 'result'}
    return answer['status'], answer['result']


def send(server, event, digest=None):
    """The form for plain SQL."""
    answer = server.value('SELECT public.paymob_webhooks(%s, %s)', (event.body, event.digest if digest is None else digest))
    return answer['status'], answer['result']


def inquire(server, event):
    """What an inquiry of ours would have recorded: the row it leaves, and the booking that follows."""
    server.query("UPDATE public.payment_events SET confirmed = true WHERE transaction_id = %s AND state LIKE '%%refunded=%%'"
                 ' AND refunded_cents = %s', (event.obj['id'], event.obj['refunded_amount_cents']))
    server.query('SELECT sparky.replay_payments()')


@pytest.fixture
def order(server, user):
    return Order(server, user)


# ---------------------------------------------------------------- fulfilment

def test_a_payment_gives_credits_once(server, user, order):
    before = user.credits()
    assert post(server, order.paid()) == (200, 'logged')
    assert user.credits() == before + CREDITS
    assert order.ledger() == [('purchase', CREDITS)]
    row = order.row()
    assert (row['status'], row['refunded_cents'], row['inquire_at']) == ('paid', 0, None) and row['paid_at']
    payment = order.payment()
    assert (payment['status'], payment['user_id'], payment['order_id'], payment['transaction_id'], payment['amount_cents'], payment['merchant_order_id']) \
        == ('SUCCESS', str(user.id), str(order.id), order.transaction, AMOUNT, row['merchant_order_id'])
    assert payment['raw_response'] == json.loads(order.paid().body)
    assert server.query('SELECT type, title_key FROM public.notifications WHERE user_id = %s', (user.id,)) == [('general', 'notification.payment_received.title')]

    for _ in range(3):
        assert post(server, order.paid()) == (200, 'duplicate')
    assert send(server, order.paid()) == (200, 'duplicate')
    assert order.ledger() == [('purchase', CREDITS)]
    [event] = order.events()
    assert (event['deliveries'], event['outcome'], event['order_id']) == (5, 'fulfilled', str(order.id)) and event['last_seen_at'] > event['created_at']
    assert user.count('public.notifications') == 1
    assert_ledger(server, user.id)


def test_both_forms_and_every_role(server, make_user):
    for role in ('anon', 'authenticated', 'service_role'):
        order = Order(server, make_user())
        assert post(server, order.paid(), role=role) == (200, 'logged') and order.outcomes() == ['fulfilled']
        order = Order(server, order.user)
        client = server.client(role=role)
        event = order.paid()
        [(answer, status)] = client.call("SELECT s, current_setting('response.status', true) FROM (SELECT public.paymob_webhooks(%s, %s) AS s OFFSET 0) t",
                                         (event.body, event.digest.upper()))
        client.close()
        assert (answer, status) == ({'status': 200, 'result': 'logged'}, '200') and order.outcomes() == ['fulfilled']


def test_the_body_is_kept_byte_for_byte(server, order):
    event = order.paid()
    body = '\n { "type" :\t"TRANSACTION", "extra": 1.10, "more": 1e2, "twice": 1, "twice": 2,' + event.body[event.body.index('"obj"') - 1:]
    assert post(server, body=body, digest=event.digest) == (200, 'logged')
    assert server.value('SELECT body FROM public.payment_events WHERE paymob_order_id = %s', (order.paymob,)) == body


@pytest.mark.parametrize('name', ['"a\\u0000b"', '"\\ud800"', '1e400000'])
def test_what_jsonb_cannot_hold(server, user, order, name):
    """A paid event is a paid event, whatever the buyer calls himself."""
    before = user.credits()
    body = order.paid().body.replace('"first_name": "\\u00d6mer"', f'"first_name": {name}')
    assert name in body
    assert post(server, body=body, digest=order.paid().digest) == (200, 'logged')
    assert user.credits() == before + CREDITS
    assert server.row('SELECT body, payload FROM public.payment_events WHERE paymob_order_id = %s', (order.paymob,)) == (body, None)
    assert (order.payment()['status'], order.payment()['raw_response']) == ('SUCCESS', None)


def test_a_plan(server, user):
    order = Order(server, user, plan=2)
    before = user.credits()
    assert post(server, order.paid()) == (200, 'logged')
    assert server.value('SELECT plan_id::int FROM public.users WHERE id = %s', (user.id,)) == 2
    assert user.credits() - before == 200 - 10 and [k for k, _ in order.ledger()] == ['period']
    assert post(server, order.paid()) == (200, 'duplicate')
    assert [k for k, _ in order.ledger()] == ['period']
    assert post(server, order.refund(AMOUNT)) == (200, 'logged')
    assert [k for k, _ in order.ledger()] == ['period', 'clawback'] and sum(d for _, d in order.ledger()) == 0
    assert server.value('SELECT plan_id::int FROM public.users WHERE id = %s', (user.id,)) == 1
    assert order.row()['status'] == 'refunded'
    assert [row[0].split('.')[1] for row in server.query('SELECT title_key FROM public.notifications WHERE user_id = %s ORDER BY id', (user.id,))
            if 'payment' in row[0]] == ['payment_received', 'payment_refunded']
    assert_ledger(server, user.id)


def test_declined_then_paid(server, user, order):
    assert post(server, order.declined()) == (200, 'declined')
    assert (order.payment()['status'], order.row()['status'], order.ledger()) == ('FAILED', 'open', [])
    assert post(server, order.pending()) == (200, 'logged')
    assert order.payment()['status'] == 'FAILED'
    assert post(server, order.paid()) == (200, 'logged')
    assert (order.payment()['status'], order.row()['status'], order.ledger()) == ('SUCCESS', 'paid', [('purchase', CREDITS)])
    # late ones do not pull it back
    assert post(server, order.declined()) == (200, 'declined')
    assert post(server, order.pending()) == (200, 'duplicate')
    assert (order.payment()['status'], order.row()['status'], order.ledger()) == ('SUCCESS', 'paid', [('purchase', CREDITS)])
    assert order.outcomes() == ['not_paid', 'not_paid', 'fulfilled', 'not_paid']


@pytest.mark.parametrize('flags', [
    {'success': False}, {'pending': True}, {'error_occured': True}, {'is_auth': True}, {'is_capture': True}, {'is_voided': True},
    {'is_refunded': True}, {'has_parent_transaction': True}, {'is_standalone_payment': False}, {'success': None}], ids=str)
def test_only_a_payment_and_nothing_but_a_payment_pays(server, order, flags):
    status, _ = post(server, order.paid(**flags))
    assert status in (200, 422) and order.ledger() == [] and order.row()['status'] == 'open'
    assert 'fulfilled' not in order.outcomes()


def test_a_success_of_another_kind_is_held_for_an_operator(server, order):
    before = server.value('SELECT sparky.payments_to_review()')
    assert post(server, order.paid(is_standalone_payment=False)) == (200, 'logged')
    assert order.outcomes() == ['held'] and order.payment() is None
    assert server.value('SELECT sparky.payments_to_review()') == before + 1


# ------------------------------------------------------ what is not ours, or moved

@pytest.mark.parametrize('wrong', [{'amount_cents': AMOUNT - 1}, {'amount_cents': AMOUNT * 10}, {'amount_cents': 0}, {'currency': 'USD'}, {'integration_id': 999},
                                   {'owner': OWNER + 1}, {'amount_cents': 10**25}], ids=str)
def test_wrong_amount_currency_integration_owner(server, user, order, wrong):
    before = user.credits()
    assert post(server, order.paid(**wrong)) == (200, 'logged')
    assert order.outcomes() == ['mismatch'] and user.credits() == before
    assert (order.row()['status'], order.payment()) == ('open', None)
    assert order.events()[0]['amount_cents'] == wrong.get('amount_cents', AMOUNT)
    # and the genuine one still fulfils
    assert post(server, order.paid()) == (200, 'logged')
    assert user.credits() == before + CREDITS


def test_the_order_is_the_signed_one(server, make_user):
    """What claims in unsigned fields to be B's pays A's order: that is whose id is signed."""
    a, b = Order(server, make_user()), Order(server, make_user())
    event = a.paid(order={'merchant_order_id': b.row()['merchant_order_id']}, payment_key_claims={'order_id': b.paymob, 'extra': {'user_id': str(b.user.id)}})
    credits = b.user.credits()
    assert post(server, event) == (200, 'logged')
    assert (a.row()['status'], b.row()['status']) == ('paid', 'open')
    assert b.user.credits() == credits and a.payment()['merchant_order_id'] == a.row()['merchant_order_id']


def cuts(event):
    """The same signed text, cut elsewhere: digits moved between id and integration_id, between order.id and owner, from the amount into the date."""
    text = signed_text(event.obj)
    id, integration = str(event.obj['id']), str(event.obj['integration_id'])
    order, owner = str(event.obj['order']['id']), str(event.obj['owner'])
    amount = str(event.obj['amount_cents'])
    for whole, keys, at in ((id + integration, ('id', 'integration_id'), len(id)), (order + owner, ('order', 'owner'), len(order))):
        for n in range(1, len(whole)):
            if n == at or whole[n] == '0':
                continue
            left, right = int(whole[:n]), int(whole[n:])
            if max(left, right) >= 2**63:
                continue
            yield event.but(**({'order': {'id': left}, 'owner': right} if keys[0] == 'order' else {keys[0]: left, keys[1]: right}))
    for n in range(1, len(amount)):
        yield event.but(amount_cents=int(amount[:n]), created_at=amount[n:] + event.obj['created_at'])
    assert signed_text(event.obj) == text


def test_moved_digits_do_nothing_and_take_no_place(server, user, order):
    before = user.credits()
    genuine = order.paid()
    forged = list(cuts(genuine))
    assert len(forged) > 20
    for event in forged:
        assert event.digest == genuine.digest
        assert post(server, event)[0] in (200, 422)
    assert user.credits() == before and order.row()['status'] == 'open' and order.ledger() == []
    assert post(server, genuine) == (200, 'logged')
    assert user.credits() == before + CREDITS
    for event in forged:
        assert post(server, event)[0] in (200, 422)
    assert order.ledger() == [('purchase', CREDITS)] and set(order.outcomes()) <= {'fulfilled', 'mismatch'}
    assert order.outcomes().count('fulfilled') == 1
    assert order.payment()['transaction_id'] == order.transaction


def test_an_integration_that_ends_like_another(server, make_user):
    """Both on the list: the digits can be moved, and it is one payment all the same."""
    with Server(conf=[f"sparky.paymob_hmac_secret = '{SECRET}'", "sparky.paymob_integration_ids = '4097558,7558'", f"sparky.paymob_owner = '{OWNER}'"]) as other:
        user = type('U', (), {'id': other.sign_up()})()
        order = Order(other, user)
        moved = order.paid(id=int(f'{order.transaction}409'), integration_id=7558)
        assert moved.digest == order.paid().digest
        assert send(other, moved) == (200, 'logged') and send(other, order.paid()) == (200, 'logged')
        assert order.ledger() == [('purchase', CREDITS)] and order.outcomes() == ['fulfilled', 'fulfilled']
        assert send(other, order.refund(AMOUNT)) == (200, 'logged')
        assert order.ledger() == [('purchase', CREDITS), ('refund', -CREDITS)]


def test_unknown_orders_wait(server, user):
    order = Order(server, user, known=False)
    before = user.credits()
    assert post(server, order.paid()) == (200, 'unmatched')
    assert post(server, order.refund(AMOUNT // 2)) == (200, 'unmatched')
    payment = order.payment()
    assert (payment['status'], payment['user_id'], payment['merchant_order_id'], payment['order_id']) == ('PARTIALLY_REFUNDED', None, '', None)
    assert user.credits() == before and order.outcomes() == ['unmatched'] * 2
    server.query('UPDATE public.orders SET intention_order_id = %s WHERE id = %s', (order.paymob, order.id))
    server.query('SELECT sparky.replay_payments()')
    assert user.credits() == before + CREDITS and order.outcomes() == ['fulfilled', 'reversal']
    payment = order.payment()
    assert (payment['user_id'], payment['order_id'], payment['transaction_id']) == (str(user.id), str(order.id), order.transaction)


def test_an_amount_beyond_every_integer(server):
    order = new_id(217503000)
    for amount in (2**31, 2**63, 10**29):
        assert send(server, transaction(order, amount)) == (200, 'unmatched')
    assert server.value('SELECT count(*)::int FROM public.payments WHERE paymob_order_id = %s', (order,)) == 0
    assert server.query('SELECT amount_cents FROM public.payment_events WHERE paymob_order_id = %s ORDER BY id', (order,)) == [(2**31,), (2**63,), (10**29,)]
    big = 2**53 + 1
    assert send(server, transaction(big, 100, id=big + 2)) == (200, 'unmatched')
    assert server.row('SELECT transaction_id, paymob_order_id FROM public.payment_events WHERE paymob_order_id = %s', (big,)) == (big + 2, big)


# ---------------------------------------------------------------------- digests

def test_bad_digests(server, order):
    event = order.paid()
    good = event.digest
    bad = ['', 'x', good[:-1], good + '0', good[:-1] + ('0' if good[-1] != '0' else '1'), 'g' * 128, sign(signed_text(event.obj), ''), sign(signed_text(event.obj), ' '),
           sign(signed_text(event.obj), f'{SECRET}, {SECOND}'), sign(event.body), 'ä' * 300, '0' * 128]
    for digest in bad:
        assert post(server, event, digest=digest) == (401, 'unauthorized'), digest
        assert send(server, event, digest) == (401, 'unauthorized'), digest
    for headers in ({}, {'x-paymob-hmac': None}, {'x-paymob-hmac': 5}, {'x-other': good}):
        assert post(server, event, headers=headers) == (401, 'unauthorized')
    assert server.value('SELECT public.paymob_webhooks(%s, NULL)', (event.body,)) == {'status': 401, 'result': 'unauthorized'}
    assert order.events() == [] and order.row()['status'] == 'open'


def test_each_signed_field_is_signed(server, order):
    event = order.paid()
    for path in ('amount_cents', 'created_at', 'currency', 'error_occured', 'has_parent_transaction', 'id', 'integration_id', 'is_3d_secure', 'is_auth', 'is_capture',
                 'is_refunded', 'is_standalone_payment', 'is_voided', 'order', 'owner', 'pending', 'pan', 'sub_type', 'type', 'success'):
        value = event.obj.get(path)
        if path == 'order':
            changed = event.but(order={'id': order.paymob + 1})
        elif path in ('pan', 'sub_type', 'type'):
            changed = event.but(source_data={path: event.obj['source_data'][path] + '1'})
        elif isinstance(value, bool):
            changed = event.but(**{path: not value})
        elif path == 'currency':
            changed = event.but(currency='USD')
        elif path == 'created_at':
            changed = event.but(created_at='2024-06-13T11:33:44.592346')
        else:
            changed = event.but(**{path: value + 1})
        assert changed.obj != event.obj
        assert post(server, changed, digest=event.digest) == (401, 'unauthorized'), path
    assert order.events() == []


def test_two_secrets_while_rotating(server, make_user):
    for secret in (SECRET, SECOND):
        order = Order(server, make_user())
        event = order.paid()
        assert post(server, event, digest=sign(signed_text(event.obj), secret)) == (200, 'logged')
        assert order.row()['status'] == 'paid'


@pytest.mark.parametrize('secret', [None, '   ', ' , '])
def test_without_a_secret_nothing_is_genuine(emulator_process, secret):
    conf = [f"sparky.paymob_integration_ids = '{INTEGRATION}'", f"sparky.paymob_owner = '{OWNER}'"]
    with Server(conf=conf + ([f"sparky.paymob_hmac_secret = '{secret}'"] if secret else [])) as bare:
        event = transaction(new_id(), 100)
        for digest in (sign(signed_text(event.obj), ''), sign(signed_text(event.obj), secret or 'x'), ''):
            with pytest.raises(Refused) as refused:
                post(bare, event, digest=digest)
            assert (refused.value.status, refused.value.word) == (503, 'not_configured') and 'sparky.paymob_hmac_secret' in refused.value.detail
        assert bare.value('SELECT count(*)::int FROM public.payment_events') == 0


def test_without_integration_and_owner_nothing_is_ours(emulator_process):
    """Fail closed; and once the settings are there, replay makes up for it."""
    with Server(conf=[f"sparky.paymob_hmac_secret = '{SECRET}'"]) as bare:
        user = type('U', (), {'id': bare.sign_up()})()
        order = Order(bare, user)
        assert send(bare, order.paid()) == (200, 'logged')
        assert order.outcomes() == ['mismatch'] and order.ledger() == []
        bare.reload(f"sparky.paymob_integration_ids = '{INTEGRATION}'", f"sparky.paymob_owner = '{OWNER}'")
        assert bare.value('SELECT sparky.replay_payments()') == 2
        assert order.outcomes() == ['mismatch', 'fulfilled'] and order.ledger() == [('purchase', CREDITS)]
        assert bare.value('SELECT sparky.replay_payments()') == 2 and order.ledger() == [('purchase', CREDITS)]


# ------------------------------------------------------------------ what is refused

def garbage():
    genuine = transaction(117503754, 25000, 192036465)
    body = genuine.body
    rng = random.Random(20)
    yield from ['{}', '[]', 'null', '1', '"x"', '[{}]', '{"obj": {}}', '{"type": "TRANSACTION"}', '{"type": "TRANSACTION", "obj": null}',
                '{"type": "TRANSACTION", "obj": []}', '{"type": 5, "obj": {}}', '{"type": "TRANSACTION", "obj": {"id": "x"}}', '{"type":"TRANSACTION","obj":{}}',
                '[' * 5000 + ']' * 5000, '{"a":' * 500 + '1' + '}' * 500, body.replace('25000', '25000.0'), body.replace('25000', '2.5e4'),
                body.replace('25000', '"25000"'), body.replace('25000', '-25000'), body.replace('192036465', '1' * 40), body.replace('192036465', '-1'),
                body.replace('true', '"true"'), body.replace('"id": 117503754', '"id": 117503754, "id": 117503755'),
                body.replace('"success": true', '"success": false, "success": true'), body.replace('"EGP"', '"eg"'), body.replace('"EGP"', 'null'),
                body.replace('"EGP"', '"\\u0000\\u0000\\u0000"'), body.replace('MasterCard', '\\ud800'), body.replace('MasterCard', 'x' * 200000)]
    for _ in range(180):
        text = list(body)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(text))
            what = rng.random()
            if what < 0.4:
                del text[at:at + rng.randint(1, 30)]
            elif what < 0.8:
                text[at] = rng.choice('{}[]",:0129eE.-ntfu\\ \n' + 'äش')
            else:
                text[at:at] = text[rng.randrange(len(text)):][:rng.randint(1, 40)]
        yield ''.join(text)


def test_no_garbage_is_an_error(server):
    digest = transaction(117503754, 25000, 192036465).digest
    connection = server.connect()
    events = server.value('SELECT count(*)::int FROM public.payment_events')
    statuses = set()
    genuine = 0
    with connection.cursor() as cursor:
        for body in garbage():
            cursor.execute('SELECT public.paymob_webhooks(%s, %s)', (body, digest))
            [answer] = cursor.fetchone()
            statuses.add(answer['status'])
            genuine += answer['status'] == 200 and answer['result'] != 'ignored'
            try:
                cursor.execute('SELECT public.paymob_webhooks(%s::json)', (body,))
            except psycopg2.errors.InvalidTextRepresentation:
                continue        # the type json refuses it before we are asked
            except psycopg2.errors.StatementTooComplex:
                continue
            except psycopg2.errors.UntranslatableCharacter:
                continue
            [answer] = cursor.fetchone()
            assert answer['status'] in (200, 401, 422)
    connection.close()
    assert statuses == {200, 401, 422} and genuine < 100
    # what verified differs from the genuine one in what is not signed only
    assert server.value('SELECT count(*)::int FROM public.payment_events') - events <= genuine


def test_nulls_and_empty_bodies(server):
    for body in (None, '', ' ', '\t'):
        assert server.value('SELECT public.paymob_webhooks(%s, %s)', (body, 'x')) == {'status': 422, 'result': 'unreadable'}
    assert server.value('SELECT public.paymob_webhooks(NULL::json)') == {'status': 422, 'result': 'unreadable'}


def test_other_types_do_nothing(server):
    before = server.value('SELECT count(*)::int FROM public.payment_events')
    bodies = ['{"type": "TOKEN", "obj": {"id": 1, "token": "abc-secret-card-token", "masked_pan": "x-2346", "merchant_id": 1, "card_subtype": "V",'
              ' "created_at": "2024", "email": "a@b", "order_id": "5", "user_added": false}}',
              '{"type": "DELIVERY_STATUS", "obj": {"order_id": 1}}',
              '{"subscription_data": {"id": 5, "state": "active"}, "trigger_type": "Successful Transaction", "hmac": "ab"}',
              '{"intention": {"id": "x", "extras": {}}, "transaction": {"success": true}, "hmac": "ab"}',
              '{"type": "FUTURE_THING", "obj": {}}']
    for body in bodies:
        assert post(server, body=body, digest='0' * 128) == (200, 'ignored'), body
    assert server.value('SELECT count(*)::int FROM public.payment_events') == before
    assert server.value("SELECT count(*)::int FROM sparky.refused_callbacks WHERE body LIKE '%card-token%'") == 0


def test_a_read_only_transaction_writes_nothing(server, order):
    for options in ({'method': 'GET'}, {'read_only': True}):
        with pytest.raises(psycopg2.Error) as error:
            post(server, order.paid(), **options)
        assert error.value.pgcode == '25006'
        with pytest.raises(psycopg2.Error) as error:
            post(server, order.paid(), digest='x', **options)
        assert error.value.pgcode == '25006'
    assert order.events() == []


def test_refused_bodies_are_bounded(server, order):
    server.query('DELETE FROM sparky.refused_callbacks WHERE slot >= 0')
    for _ in range(40):
        send(server, order.paid(), 'no digest of ours ' + 'ä' * 300)
    rows = server.query('SELECT reason, digest, body FROM sparky.refused_callbacks')
    assert 10 <= len(rows) <= 40        # ten a second; 40 calls may take more than one
    assert {r for r, _, _ in rows} == {'wrong digest'} and all(len(d) == 200 and b == order.paid().body for _, d, b in rows)
    wait_for(lambda: server.value("SELECT max(received_at) < now() - interval '1 second' FROM sparky.refused_callbacks"), what='a second')
    for _ in range(25):
        send(server, order.paid(), 'x')
    assert server.value("SELECT max(n)::int FROM (SELECT (SELECT count(*) FROM sparky.refused_callbacks b"
                        " WHERE b.received_at BETWEEN a.received_at - interval '999 ms' AND a.received_at) AS n FROM sparky.refused_callbacks a) t") <= 10
    # a large one is cut where a character ends
    wait_for(lambda: server.value("SELECT max(received_at) < now() - interval '1 second' FROM sparky.refused_callbacks"), what='a second')
    send(server, Event({'id': 'x', 'text': 'ش' * 1000}), 'x')
    huge = '{"type": "TRANSACTION", "obj": {"x": "' + 'ش' * 80000 + '"}}'
    assert server.value('SELECT public.paymob_webhooks(%s, %s)', (huge, 'x'))['status'] in (401, 422)
    kept = server.value('SELECT body FROM sparky.refused_callbacks WHERE octet_length(body) > 60000')
    assert 65530 <= len(kept.encode()) <= 65536 and huge.startswith(kept)
    # and there are never more than 1,000
    server.query("INSERT INTO sparky.refused_callbacks (slot, received_at, reason, body) SELECT g, now() - interval '1 day', 'old', '' FROM generate_series(0, 999) g"
                 ' ON CONFLICT (slot) DO UPDATE SET received_at = excluded.received_at')
    server.value("SELECT setval('sparky.refused_callback_slots', 998)")
    for _ in range(3):
        send(server, order.paid(), 'x')
    assert server.query("SELECT slot FROM sparky.refused_callbacks WHERE received_at > now() - interval '1 minute' ORDER BY slot") == [(0,), (1,), (999,)]


def test_many_at_once_refused(server, order):
    """Whoever finds the place busy is answered all the same."""
    server.query('DELETE FROM sparky.refused_callbacks WHERE slot >= 0')
    blocker = server.connect(autocommit=False)
    with blocker.cursor() as cursor:
        cursor.execute('SELECT public.paymob_webhooks(%s, %s)', (order.paid().body, 'x'))       # holds the lock until it commits
        assert send(server, order.paid(), 'y') == (401, 'unauthorized')
    blocker.commit()
    blocker.close()
    assert server.query('SELECT digest FROM sparky.refused_callbacks') == [('x',)]


# -------------------------------------------------------------------- twice, back

def test_two_payments_of_one_order(server, user, order):
    before = user.credits()
    review = server.value('SELECT sparky.payments_to_review()')
    second = new_id()
    post(server, order.paid())
    assert post(server, order.paid(id=second)) == (200, 'logged')
    assert user.credits() == before + CREDITS and order.outcomes() == ['fulfilled', 'duplicate_payment']
    assert server.value('SELECT sparky.payments_to_review()') == review + 1
    # the second is given back: the order stands
    assert post(server, refund(order.paymob, AMOUNT, second, AMOUNT)) == (200, 'logged')
    assert user.credits() == before + CREDITS and order.row()['status'] == 'paid'
    assert server.value('SELECT sparky.payments_to_review()') == review
    # the first as well
    assert post(server, order.refund(AMOUNT)) == (200, 'logged')
    assert user.credits() == before and order.row()['status'] == 'refunded'
    # and a third payment brings it to life again
    assert post(server, order.paid(id=new_id())) == (200, 'logged')
    assert user.credits() == before + CREDITS and order.row()['status'] == 'paid'
    assert [d for _, d in order.ledger()] == [CREDITS, -CREDITS, CREDITS]
    assert_ledger(server, user.id)


@pytest.mark.parametrize('child', [False, True])
def test_a_full_refund(server, user, order, child):
    before = user.credits()
    post(server, order.paid())
    event = refund_child(order.paymob, AMOUNT, order.transaction) if child else order.refund(AMOUNT)
    assert post(server, event) == (200, 'logged')
    assert user.credits() == before and order.ledger() == [('purchase', CREDITS), ('refund', -CREDITS)]
    assert (order.row()['status'], order.row()['refunded_cents'], order.payment()['status']) == ('refunded', AMOUNT, 'REFUNDED')
    assert server.value("SELECT reference FROM public.credit_ledger WHERE kind = 'refund' AND user_id = %s", (user.id,)) == f'{order.id}:{AMOUNT}'
    assert order.payment()['raw_response'] == json.loads(event.body)
    assert post(server, event) == (200, 'duplicate') and user.credits() == before
    assert [r[0] for r in server.query('SELECT title_key FROM public.notifications WHERE user_id = %s ORDER BY id', (user.id,))] == [
        'notification.payment_received.title', 'notification.payment_refunded.title']
    # nothing comes to life again by a late success
    assert post(server, order.paid()) == (200, 'duplicate') and order.payment()['status'] == 'REFUNDED'


def test_a_void(server, user, order):
    before = user.credits()
    post(server, order.void())
    assert (user.credits(), order.payment()['status']) == (before, 'VOIDED')
    post(server, order.paid())
    assert user.credits() == before and (order.row()['status'], order.payment()['status']) == ('voided', 'VOIDED')
    assert_ledger(server, user.id)


def test_a_refund_before_the_payment(server, user, order):
    before = user.credits()
    assert post(server, order.refund(AMOUNT)) == (200, 'logged')
    assert order.ledger() == []
    post(server, order.paid())
    assert user.credits() == before and order.ledger() == [('purchase', CREDITS), ('refund', -CREDITS)]


def test_a_partial_refund_waits_for_its_inquiry(server, user, order):
    before = user.credits()
    post(server, order.paid())
    assert post(server, order.refund(AMOUNT // 3)) == (200, 'logged')
    assert user.credits() == before + CREDITS and order.row()['refunded_cents'] == 0
    assert server.value('SELECT inquire_at <= now() FROM public.orders WHERE id = %s', (order.id,))
    inquire(server, order.refund(AMOUNT // 3))
    assert user.credits() == before + CREDITS - 34          # 33.33 is rounded up
    assert (order.row()['status'], order.row()['refunded_cents'], order.payment()['status']) == ('paid', AMOUNT // 3, 'PARTIALLY_REFUNDED')
    # the rest
    assert post(server, order.refund(AMOUNT)) == (200, 'logged')
    assert user.credits() == before and [d for _, d in order.ledger()] == [CREDITS, -34, -66]
    assert order.row()['status'] == 'refunded' and order.row()['inquire_at'] is None


def test_children_add_up(server, user, order):
    before = user.credits()
    post(server, order.paid())
    for part in (10000, 9000):
        assert post(server, refund_child(order.paymob, part, order.transaction)) == (200, 'logged')
    assert user.credits() == before + CREDITS and order.row()['inquire_at'] is not None
    assert post(server, refund_child(order.paymob, 6000, None)) == (200, 'logged')
    assert user.credits() == before and order.row()['status'] == 'refunded'
    assert order.outcomes() == ['fulfilled'] + ['reversal'] * 3


def test_a_failed_refund_takes_nothing(server, user, order):
    post(server, order.paid())
    before = user.credits()
    for event in (refund_child(order.paymob, AMOUNT, order.transaction, success=False), refund_child(order.paymob, AMOUNT, order.transaction, pending=True, success=False),
                  refund_child(order.paymob, AMOUNT, order.transaction, is_capture=True), refund_child(order.paymob, AMOUNT + 1, order.transaction),
                  refund_child(order.paymob, AMOUNT, order.transaction, currency='USD'), refund(order.paymob, AMOUNT - 5, order.transaction, AMOUNT)):
        assert post(server, event)[0] == 200
    assert user.credits() == before and order.row()['status'] == 'paid'


def test_a_buyer_cannot_change_what_is_not_signed(server, user, order):
    """He holds the digest of his payment, and may send it with any unsigned fields: at most an inquiry comes of it, later."""
    post(server, order.paid())
    before = user.credits()
    for fields in ({'is_refund': True, 'parent_transaction': order.transaction}, {'refunded_amount_cents': AMOUNT}, {'is_void': True}, {'captured_amount': 5},
                   {'refunded_amount_cents': 1}):
        assert post(server, order.paid(**fields)) == (200, 'duplicate')
    assert user.credits() == before and order.ledger() == [('purchase', CREDITS)] and len(order.events()) == 1
    assert server.value("SELECT inquire_at > now() + interval '1 hour' FROM public.orders WHERE id = %s", (order.id,))


def test_what_was_spent_becomes_debt(server, user, order):
    post(server, order.paid())
    server.query('SELECT sparky.adjust_credits(%s, -%s, %s)', (user.id, user.credits() - 30, 'spent'))
    post(server, order.refund(AMOUNT))
    assert server.row('SELECT credits, debt FROM public.users WHERE id = %s', (user.id,)) == (0, CREDITS - 30)
    assert_ledger(server, user.id)


# --------------------------------------------------------------------- permutations

def model(events):
    """Credits of an order after a set of events, in Python: what the documentation says, and nothing of the code."""
    paid = {name for name in events if name in ('success', 'second')}
    if not paid:
        return 0
    reversed_ = {'success': 'full' in events or 'void' in events, 'second': False}
    return 0 if all(reversed_[name] for name in paid) else CREDITS


def named_events(order, second):
    return {'pending': order.pending(), 'success': order.paid(), 'again': order.paid(), 'second': order.paid(id=second), 'partial': order.refund(AMOUNT // 4),
            'full': order.refund(AMOUNT), 'void': order.void(), 'declined': order.declined(second + 500000000)}


def all_sequences(longest):
    names = ['pending', 'success', 'second', 'partial', 'full', 'void', 'declined']
    for length in range(1, longest + 1):
        for chosen in itertools.combinations(names, length):
            yield from itertools.permutations(chosen)
    for chosen in itertools.combinations(names, 3):         # with repeats
        for repeated in itertools.product(chosen, repeat=2):
            yield from set(itertools.permutations(chosen + repeated))


def test_every_permutation_ends_in_the_same_balance(server, make_user):
    """All sequences of up to five of the events, repeats among them; one user, one order each."""
    user = make_user(credits=0)
    connection = server.connect(autocommit=False)
    sequences = sorted(set(all_sequences(4)))
    five = [s for chosen in itertools.combinations(['pending', 'success', 'second', 'partial', 'full', 'void', 'declined'], 5) for s in itertools.permutations(chosen)]
    sequences += random.Random(5).sample(five, 1200)
    wrong = []
    with connection.cursor() as cursor:
        cursor.execute('SET synchronous_commit = off')
        for sequence in sequences:
            order, second = new_id(217503000), new_id()
            cursor.execute("INSERT INTO public.orders (user_id, product_id, kind, credits, period_days, amount_cents, currency, merchant_order_id,"
                           " intention_order_id, status) VALUES (%s, 'p', 'credits', %s, 30, %s, 'EGP', %s, %s, 'open') RETURNING id",
                           (user.id, CREDITS, AMOUNT, str(order), order))
            events = named_events(Fake(order), second)
            cursor.execute('SELECT public.paymob_webhooks(b, h) FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY t(b, h, n) ORDER BY n',
                           ([events[n].body for n in sequence], [events[n].digest for n in sequence]))
            answers = [row[0]['status'] for row in cursor.fetchall()]
            cursor.execute("SELECT coalesce(sum(delta), 0)::int FROM public.credit_ledger WHERE user_id = %s AND kind IN ('purchase', 'refund')"
                           ' AND split_part(reference, %s, 1) = (SELECT id::text FROM public.orders WHERE intention_order_id = %s)', (user.id, ':', order))
            [booked] = cursor.fetchone()
            if booked != model(sequence) or set(answers) != {200}:
                wrong.append((sequence, booked, model(sequence), answers))
            connection.commit()
    connection.close()
    assert wrong == [] and len(sequences) > 3000
    assert_ledger(server, user.id)


def test_permutations_of_a_plan(server):
    """The same for a plan: its period and its grant stand or fall as a whole."""
    sequences = [s for chosen in itertools.combinations(['success', 'second', 'partial', 'full', 'void', 'declined'], 3) for s in itertools.permutations(chosen)]
    connection = server.connect(autocommit=False)
    wrong = []
    with connection.cursor() as cursor:
        for sequence in sequences + [('success', 'full', 'second', 'success', 'full'), ('success', 'second', 'full', 'full', 'success')]:
            user, order = uuid.uuid4(), new_id(217503000)
            cursor.execute('INSERT INTO auth.users (id, email) VALUES (%s, %s)', (user, f'{user}@example.com'))
            cursor.execute("INSERT INTO public.orders (user_id, product_id, kind, plan_id, period_days, amount_cents, currency, merchant_order_id,"
                           " intention_order_id, status) VALUES (%s, 'p', 'plan', 2, 30, %s, 'EGP', %s, %s, 'open')", (user, AMOUNT, str(order), order))
            events = named_events(Fake(order), new_id())
            for name in sequence:
                cursor.execute('SELECT public.paymob_webhooks(%s, %s)', (events[name].body, events[name].digest))
            cursor.execute('SELECT credits, debt, plan_id FROM public.users WHERE id = %s', (user,))
            expected = (200, 0, 2) if model(sequence) else (10, 0, 1)
            found = cursor.fetchone()
            if found != expected:
                wrong.append((sequence, found, expected))
            connection.commit()
    connection.close()
    assert wrong == []
    assert_ledger(server)


class Fake:
    """The events of an order, without a row of its own."""

    def __init__(self, paymob):
        self.paymob, self.transaction, self.amount = paymob, new_id(), AMOUNT

    paid, pending, declined, void, refund = Order.paid, Order.pending, Order.declined, Order.void, Order.refund


def test_concurrent_permutations(server, make_user):
    """The same events at once, each from a session of its own and twice."""
    sets = [('success', 'second', 'full'), ('success', 'full', 'declined', 'pending'), ('success', 'void', 'partial'), ('partial', 'success', 'second', 'void', 'full'),
            ('success', 'again', 'partial', 'declined'), ('second', 'success', 'pending')] * 3
    connections = [server.connect() for _ in range(10)]
    for names in sets:
        order = Order(server, make_user(credits=0))
        events = named_events(order, new_id())
        work = [events[n] for n in names for _ in range(2)]
        random.Random(len(names)).shuffle(work)
        errors = []
        barrier = threading.Barrier(len(work))

        def run(connection, event):
            try:
                barrier.wait()
                with connection.cursor() as cursor:
                    cursor.execute('SELECT public.paymob_webhooks(%s, %s)', (event.body, event.digest))
                    assert cursor.fetchone()[0]['status'] == 200
            except Exception as error:          # shown by the assertion that follows
                errors.append(error)
        threads = [threading.Thread(target=run, args=pair) for pair in zip(connections, work)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert order.user.credits() == model(names), names
        assert_ledger(server, order.user.id)
    for connection in connections:
        connection.close()


def test_a_thousand_deliveries_at_once(server, make_user):
    order = Order(server, make_user(credits=0))
    event = order.paid()
    barrier = threading.Barrier(16)
    results = []

    def run(n):
        connection = server.connect()
        barrier.wait()
        with connection.cursor() as cursor:
            for _ in range(63 if n < 8 else 62):
                cursor.execute('SELECT public.paymob_webhooks(%s, %s)', (event.body, event.digest))
                results.append(cursor.fetchone()[0]['result'])
        connection.close()
    threads = [threading.Thread(target=run, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ['duplicate'] * 999 + ['logged']
    assert order.ledger() == [('purchase', CREDITS)] and order.user.credits() == CREDITS
    assert [(e['deliveries'], e['outcome']) for e in order.events()] == [(1000, 'fulfilled')]
    assert order.user.count('public.notifications') == 1


# ---------------------------------------------------------------- accounts and replay

def test_a_deleted_user(server, make_user):
    order = Order(server, make_user())
    review = server.value('SELECT sparky.payments_to_review()')
    server.query('DELETE FROM auth.users WHERE id = %s', (order.user.id,))
    assert post(server, order.paid()) == (200, 'logged')
    assert order.outcomes() == ['account_gone'] and order.row()['status'] == 'paid' and order.ledger() == []
    assert (order.payment()['status'], order.payment()['user_id']) == ('SUCCESS', None)
    assert server.value('SELECT sparky.payments_to_review()') == review + 1
    assert post(server, order.refund(AMOUNT)) == (200, 'logged') and order.row()['status'] == 'refunded' and order.ledger() == []
    assert server.value('SELECT sparky.payments_to_review()') == review


@pytest.mark.parametrize('way', ['void', 'children', 'other amount'])
def test_what_was_given_back_needs_no_review(server, user, order, way):
    """An operator gives the money back at Paymob; a part of it is not enough."""
    review = server.value('SELECT sparky.payments_to_review()')
    amount = AMOUNT - 1 if way == 'other amount' else AMOUNT
    second = new_id()
    post(server, order.paid())
    post(server, order.paid(id=second, amount_cents=amount))
    assert server.value('SELECT sparky.payments_to_review()') == review + 1
    if way == 'children':
        part = refund_child(order.paymob, AMOUNT - 1, second)
        assert post(server, part) == (200, 'logged') and post(server, part) == (200, 'duplicate')
        # told anew, with another state: still one part
        assert post(server, part.but(is_3d_secure=False, is_void=True, error_occured=True)) == (200, 'logged')
        assert server.value('SELECT sparky.payments_to_review()') == review + 1
        post(server, refund_child(order.paymob, 1, second))
    elif way == 'void':
        post(server, order.void().but(id=second))
    else:
        post(server, refund(order.paymob, amount, second, amount - 1))
        assert server.value('SELECT sparky.payments_to_review()') == review + 1
        post(server, refund(order.paymob, amount, second, amount))
    assert server.value('SELECT sparky.payments_to_review()') == review and order.row()['status'] == 'paid'


def test_a_user_who_is_deleted_after_his_payment(server, make_user):
    order = Order(server, make_user())
    post(server, order.paid())
    server.query('DELETE FROM auth.users WHERE id = %s', (order.user.id,))
    assert post(server, order.refund(AMOUNT)) == (200, 'logged')
    assert order.ledger() == [('purchase', CREDITS)] and order.outcomes() == ['fulfilled', 'reversal']
    server.query('SELECT sparky.replay_payments()')
    assert order.ledger() == [('purchase', CREDITS)] and order.outcomes() == ['fulfilled', 'reversal']


def test_a_deletion_under_way(server, make_user):
    """The event waits for it, and neither deadlocks; the other way round as well."""
    for commit in (True, False):
        order = Order(server, make_user())
        deleting = server.connect(autocommit=False)
        with deleting.cursor() as cursor:
            cursor.execute('DELETE FROM auth.users WHERE id = %s', (order.user.id,))
            result = []
            thread = threading.Thread(target=lambda: result.append(send(server, order.paid())))
            thread.start()
            wait_for(lambda: server.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%paymob_webhooks%%'"), what='the wait')
        deleting.commit() if commit else deleting.rollback()
        thread.join()
        deleting.close()
        assert result == [(200, 'logged')] and order.outcomes() == ['account_gone' if commit else 'fulfilled']


def test_credits_while_a_generation_is_under_way(server, emulator, make_user):
    user = make_user(credits=1)
    order = Order(server, user)
    path = user.photo()
    emulator.hold()
    job = user.api.process('cartoon', path, wait_seconds=0)['job_id']
    emulator.wait_calls(1)
    assert post(server, order.paid()) == (200, 'logged')
    assert (user.credits(), user.held()) == (1 + CREDITS, 1)
    emulator.release()
    assert user.api.finish(job)['status'] == 'succeeded'
    user.assert_money(credits=CREDITS, usage=1)
    post(server, order.refund(AMOUNT))
    user.assert_money(credits=0, usage=1)


def test_replay(server, make_user):
    orders = [Order(server, make_user()) for _ in range(6)] + [Order(server, make_user(), plan=2), Order(server, make_user(), plan=3)]
    for number, order in enumerate(orders):
        post(server, order.paid())
        if number % 3 == 1:
            post(server, order.refund(AMOUNT))
        if number % 3 == 2:
            post(server, order.refund(AMOUNT // 7))
            inquire(server, order.refund(AMOUNT // 7))
    state = ("SELECT jsonb_agg(jsonb_build_array(u.id, u.credits, u.debt) ORDER BY u.id) FROM public.users u", 'SELECT count(*) FROM public.notifications',
             'SELECT jsonb_agg(jsonb_build_array(user_id, booked) ORDER BY user_id) FROM (SELECT user_id, sum(delta) AS booked FROM public.credit_ledger GROUP BY 1) l',
             "SELECT jsonb_agg(jsonb_build_array(user_id, kind, reference, delta) ORDER BY kind, reference) FROM public.credit_ledger"
             f" WHERE user_id IN ({', '.join(repr(str(o.user.id)) for o in orders)})",
             'SELECT jsonb_agg(to_jsonb(o) ORDER BY id) FROM public.orders o', 'SELECT jsonb_agg(to_jsonb(p) ORDER BY id) FROM public.payments p',
             "SELECT jsonb_agg(to_jsonb(e) - 'body' ORDER BY id) FROM public.payment_events e")
    before = [server.value(sql) for sql in state]
    events = server.value('SELECT count(*) FROM public.payment_events')
    assert server.value('SELECT sparky.replay_payments()') == events
    assert [server.value(sql) for sql in state] == before           # intact: nothing changes
    server.psql("""BEGIN;
        ALTER TABLE public.users DISABLE TRIGGER sparky_users_update;
        UPDATE public.users u SET credits = greatest(0, u.credits - u.debt - m.delta), debt = greatest(0, -(u.credits - u.debt - m.delta))
          FROM (SELECT user_id, sum(delta) AS delta FROM public.credit_ledger WHERE kind IN ('purchase', 'refund', 'period', 'clawback') GROUP BY 1) m WHERE m.user_id = u.id;
        ALTER TABLE public.users ENABLE TRIGGER sparky_users_update;
        DELETE FROM public.credit_ledger l WHERE kind IN ('purchase', 'refund', 'period', 'clawback')
          AND EXISTS (SELECT FROM public.users u WHERE u.id = l.user_id);       -- whose account is gone gets nothing booked any more
        COMMIT""")
    assert_ledger(server)
    assert server.value(state[0]) != before[0]
    assert server.value('SELECT sparky.replay_payments()') == events
    assert [server.value(sql) for sql in state[:4]] == before[:4]
    assert_ledger(server)
    # rows were taken out of the middle of the ledger: only their chain is broken
    assert server.query("SELECT * FROM sparky.audit() WHERE \"check\" <> 'ledger_chain'") == []


def test_repeatable_read_sees_what_was_committed(server, user, order):
    """A caller of another isolation level began before the events he must know of."""
    before = user.credits()
    early = server.connect(autocommit=False)
    early.set_session(isolation_level='REPEATABLE READ')
    with early.cursor() as cursor:
        cursor.execute('SELECT 1')
        send(server, order.refund(AMOUNT))
        event = order.paid()
        try:
            cursor.execute('SELECT public.paymob_webhooks(%s, %s)', (event.body, event.digest))
            early.commit()
        except psycopg2.Error as error:
            assert error.pgcode == 'PT503'
            early.rollback()
            send(server, event)
    early.close()
    assert user.credits() == before and order.row()['status'] == 'refunded'
    assert_ledger(server, user.id)
