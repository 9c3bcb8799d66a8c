"""The ledger under 10,000 random histories: balances equal a small model, and their own ledger.

A history is one user, one or two orders, and a handful of steps in any order:
payments (also by a second transaction), declines, repeats, partial and full
refunds told by parent or child, confirmations, voids, charges, adjustments.
The model knows the rules of doc/payments.md and nothing of the code.
"""

import json
import os
import random
import uuid

from conftest import assert_ledger
from paymob_events import INTEGRATION, OWNER, SECRET, declined, new_id, pending, refund, refund_child, transaction, void

CONF = [f"sparky.paymob_hmac_secret = '{SECRET}'", f"sparky.paymob_integration_ids = '{INTEGRATION}'", f"sparky.paymob_owner = '{OWNER}'",
        'synchronous_commit = off']
HISTORIES = int(os.environ.get('SPARKY_HISTORIES', 10000))
AT_ONCE = 250

RUNNER = """
CREATE FUNCTION public.run_history(steps jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    s jsonb;
    job uuid;
BEGIN
    FOR s IN SELECT * FROM jsonb_array_elements(steps) LOOP
        CASE s ->> 'do'
        WHEN 'event' THEN
            IF (public.paymob_webhooks(s ->> 'body', s ->> 'digest') ->> 'status')::int <> 200 THEN
                RETURN 'refused: ' || s;
            END IF;
        WHEN 'confirm' THEN     -- as an inquiry's answer does; the next event of the order acts upon it
            UPDATE public.payment_events SET confirmed = true WHERE paymob_order_id = (s ->> 'order')::bigint AND transaction_id = (s ->> 'transaction')::bigint
                AND refunded_cents = (s ->> 'cents')::numeric;
        WHEN 'book' THEN
            job := gen_random_uuid();
            PERFORM sparky.book((s ->> 'user')::uuid, (s ->> 'delta')::int, s ->> 'kind', job::text, least(0, (s ->> 'delta')::int));
            IF s ->> 'kind' = 'usage' THEN
                INSERT INTO public.credit_usage (user_id, tool_id, credits_used, job_id) VALUES ((s ->> 'user')::uuid, 'cartoon', -(s ->> 'delta')::int, job);
            END IF;
        END CASE;
    END LOOP;
    RETURN NULL;
END $$"""


class Model:
    """What one order is worth, from the set of what was told."""

    def __init__(self, amount, credits):
        self.amount, self.credits = amount, credits
        self.paid, self.whole, self.totals, self.parts = set(), set(), {}, {}

    def balance(self):
        if not self.paid:
            return 0
        back = []
        for number in self.paid:
            parts = [cents for cents, _ in self.parts.get(number, {}).values()]
            sure_parts = [cents for cents, sure in self.parts.get(number, {}).values() if sure]
            totals = self.totals.get(number, {})
            if number in self.whole or sum(parts) >= self.amount or max(totals, default=0) >= self.amount:
                back.append(self.amount)
            else:
                back.append(max(sum(sure_parts), max((t for t, sure in totals.items() if sure), default=0)))
        return self.credits - -(-self.credits * min(back) // self.amount)


def event(e):
    return {'do': 'event', 'body': e.body, 'digest': e.digest}


def order_steps(rng, paymob, model):
    """Steps of one order in an order of their own; each tells the model."""
    numbers = [new_id(), new_id()]
    payments = [transaction(paymob, model.amount, number) for number in numbers]
    steps = []
    for _ in range(rng.randint(1, 6)):
        which = 0 if rng.random() < 0.8 else 1
        number = numbers[which]
        what = rng.choices(['pay', 'pending', 'declined', 'void', 'total', 'part', 'confirm'], [10, 1, 2, 1, 3, 3, 3])[0]
        if what == 'pay':
            steps.append(event(payments[which]))
            model.paid.add(number)
        elif what in ('pending', 'declined'):
            steps.append(event((pending if what == 'pending' else declined)(paymob, model.amount, rng.choice([number, None]))))
        elif what == 'void':
            steps.append(event(void(paymob, model.amount, number)))
            model.whole.add(number)
        elif what == 'total':
            cents = rng.choice([rng.randint(1, model.amount), model.amount])
            steps.append(event(refund(paymob, model.amount, number, cents)))
            model.totals.setdefault(number, {}).setdefault(cents, False)
        elif what == 'part':
            child, cents = new_id(), rng.randint(1, model.amount)
            steps.append(event(refund_child(paymob, cents, number, child)))
            model.parts.setdefault(number, {})[child] = [cents, False]
        else:                       # an inquiry has confirmed something that was told
            told = [(number, cents) for cents in model.totals.get(number, {})]
            told += [(child, part[0]) for child, part in model.parts.get(number, {}).items()]
            if not told:
                continue
            confirmed, cents = rng.choice(told)
            if confirmed == number:
                model.totals[number][cents] = True
            else:
                model.parts[number][confirmed][1] = True
            steps.append({'do': 'confirm', 'order': paymob, 'transaction': confirmed, 'cents': cents})
    # something is told about the order once more, so that the last confirmation counts
    if model.paid:
        steps.append(event(payments[numbers.index(rng.choice(sorted(model.paid)))]))
    return steps


def history(rng, user):
    """Steps, orders (paymob id, amount, credits), and the model's balance."""
    orders, steps, balance, models = [], [], 0, []
    for _ in range(rng.choice([1, 1, 1, 2])):
        paymob, model = new_id(217503000), Model(rng.choice([1, 3, 99, 100, 25000, 99999]), rng.choice([1, 7, 100, 333]))
        orders.append((paymob, model.amount, model.credits))
        models.append(model)
        own = order_steps(rng, paymob, model)
        # the two orders' steps are shuffled into each other, each in its own order
        places = sorted(rng.randint(0, len(steps)) for _ in own)
        for moved, (place, step) in enumerate(zip(places, own)):
            steps.insert(place + moved, step)
    for _ in range(rng.randint(0, 3)):
        delta = rng.choice([-rng.randint(1, 60), -rng.randint(1, 60), rng.randint(1, 200)])
        kind = 'usage' if delta < 0 and rng.random() < 0.5 else 'adjustment'
        steps.insert(rng.randint(0, len(steps)), {'do': 'book', 'user': str(user), 'delta': delta, 'kind': kind})
        balance += delta
    return orders, steps, balance + sum(model.balance() for model in models)


def test_random_histories(server):
    seed = int(os.environ.get('SPARKY_SEED', random.randrange(10**9)))
    print('SPARKY_SEED =', seed)
    rng = random.Random(seed)
    server.psql(RUNNER)
    connection = server.connect(autocommit=False)
    wrong = []
    done = 0
    with connection.cursor() as cursor:
        cursor.execute("UPDATE public.plans SET monthly_credits = 0 WHERE id = 1")       # nobody starts with credits
        while done < HISTORIES:
            users = [uuid.UUID(int=rng.getrandbits(128), version=4) for _ in range(min(AT_ONCE, HISTORIES - done))]
            histories = [history(rng, user) for user in users]
            cursor.execute("INSERT INTO auth.users (id, email) SELECT u, u || '@example.com' FROM unnest(%s::uuid[]) u", (users,))
            rows = [(str(user), *order) for user, (orders, _, _) in zip(users, histories) for order in orders]
            cursor.execute("INSERT INTO public.orders (user_id, product_id, kind, credits, period_days, amount_cents, currency, merchant_order_id,"
                           " intention_order_id, status) SELECT u, 'p', 'credits', c, 30, a, 'EGP', p::text, p, 'open'"
                           ' FROM unnest(%s::uuid[], %s::bigint[], %s::int[], %s::int[]) t(u, p, a, c)', tuple(map(list, zip(*rows))))
            cursor.execute('SELECT t.n, public.run_history(t.steps) FROM unnest(%s::jsonb[]) WITH ORDINALITY t(steps, n)',
                           ([json.dumps(steps) for _, steps, _ in histories],))
            wrong += [message for _, message in cursor.fetchall() if message]
            cursor.execute('SELECT id, credits, debt FROM public.users WHERE id = ANY (%s)', (users,))
            found = {id: (credits, debt) for id, credits, debt in cursor.fetchall()}
            for user, (orders, steps, balance) in zip(users, histories):
                if found[user] != (max(balance, 0), max(-balance, 0)):
                    wrong.append((orders, balance, found[user], [{**s, 'body': None, 'digest': None} | {k: v for k, v in json.loads(s.get('body', '{"obj": {}}'))['obj'].items()
                                  if k in ('id', 'success', 'is_voided', 'refunded_amount_cents', 'parent_transaction')} for s in steps]))
            connection.commit()
            done += len(users)
            assert not wrong, json.dumps(sorted(wrong, key=str)[:3] if isinstance(wrong[0], str) else sorted(wrong, key=lambda w: len(w[3]))[:2], default=str)
    connection.close()
    assert done == HISTORIES
    assert_ledger(server)
    assert server.value('SELECT count(*)::int FROM public.users u WHERE u.credits > 0 AND u.debt > 0') == 0
    assert server.query('SELECT * FROM sparky.audit_accounts() UNION ALL SELECT * FROM sparky.audit_balances()'
                        ' UNION ALL SELECT * FROM sparky.audit_payments()') == []
    # the events alone give the same balances once more
    if HISTORIES <= 20000:
        before = server.value('SELECT md5(string_agg(id::text || credits || debt, chr(44) ORDER BY id)) FROM public.users')
        server.value('SELECT sparky.replay_payments()')
        assert server.value('SELECT md5(string_agg(id::text || credits || debt, chr(44) ORDER BY id)) FROM public.users') == before
