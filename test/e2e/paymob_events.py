"""Paymob's callbacks as its servers write them: bodies, signed texts and digests.

Nothing of sparky's is used here: field list and text forms are Paymob's
documentation's, so that the tests do not believe what they are to check.
"""

import hashlib
import hmac
import itertools
import json

SECRET = 'test-hmac-secret-7f3a'
INTEGRATION = 4097558
OWNER = 302852

SIGNED = ('amount_cents', 'created_at', 'currency', 'error_occured', 'has_parent_transaction', 'id', 'integration_id', 'is_3d_secure',
          'is_auth', 'is_capture', 'is_refunded', 'is_standalone_payment', 'is_voided', 'order.id', 'owner', 'pending',
          'source_data.pan', 'source_data.sub_type', 'source_data.type', 'success')
_ids = itertools.count(1)


def new_id(start=192036000):
    return start + next(_ids)


def signed_text(obj):
    parts = []
    for path in SIGNED:
        value = obj
        for key in path.split('.'):
            value = value.get(key) if isinstance(value, dict) else None
        parts.append('' if value is None else str(value).lower() if isinstance(value, bool) else str(value))
    return ''.join(parts)


def sign(text, secret=SECRET):
    return hmac.new(secret.encode(), text.encode(), hashlib.sha512).hexdigest()


class Event:
    """One callback: .obj may be changed freely before .body and .digest are asked for."""

    def __init__(self, obj, type='TRANSACTION'):
        self.obj, self.type = obj, type

    @property
    def body(self):
        return json.dumps({'type': self.type, 'obj': self.obj, 'issuer_bank': None, 'transaction_processed_callback_responses': ''})

    @property
    def digest(self):
        return sign(signed_text(self.obj))

    def but(self, **fields):
        """A copy with other fields; order, source_data: dicts that are merged."""
        obj = json.loads(json.dumps(self.obj))
        for key, value in fields.items():
            if isinstance(value, dict) and isinstance(obj.get(key), dict):
                obj[key].update(value)
            else:
                obj[key] = value
        return Event(obj, self.type)


def transaction(order, amount, id=None, **fields):
    """A payment that succeeded; fields change it."""
    obj = {
        'id': id or new_id(), 'pending': False, 'amount_cents': amount, 'success': True, 'is_auth': False, 'is_capture': False,
        'is_standalone_payment': True, 'is_voided': False, 'is_refunded': False, 'is_3d_secure': True, 'integration_id': INTEGRATION,
        'profile_id': 164295, 'has_parent_transaction': False,
        'order': {'id': order, 'created_at': '2024-06-13T11:33:44.592345', 'delivery_needed': False, 'amount_cents': amount, 'currency': 'EGP',
                  'is_payment_locked': False, 'merchant_order_id': None, 'paid_amount_cents': amount, 'payment_status': 'PAID',
                  'items': [], 'merchant': {'id': 164295}, 'data': {}},
        'created_at': '2024-06-13T11:33:44.592345', 'currency': 'EGP', 'source_data': {'pan': '2346', 'sub_type': 'MasterCard', 'type': 'card'},
        'is_void': False, 'is_refund': False, 'is_captured': False, 'is_live': False, 'is_hidden': False, 'error_occured': False,
        'refunded_amount_cents': 0, 'captured_amount': 0, 'merchant_staff_tag': None, 'owner': OWNER, 'parent_transaction': None,
        'data': {'klass': 'MigsPayment', 'message': 'Approved', 'txn_response_code': 'APPROVED'},
        'payment_key_claims': {'extra': {}, 'billing_data': {'first_name': 'Ömer', 'last_name': 'شريف', 'email': 'o@example.com'}},
    }
    return Event(obj).but(**fields)


def pending(order, amount, id=None):
    return transaction(order, amount, id, success=False, pending=True)


def declined(order, amount, id=None):
    return transaction(order, amount, id, success=False, data={'message': 'Declined', 'txn_response_code': '05'})


def void(order, amount, id):
    """The parent, voided."""
    return transaction(order, amount, id, is_voided=True)


def refund(order, amount, id, total):
    """The parent with its running total."""
    return transaction(order, amount, id, is_refunded=True, refunded_amount_cents=total)


def refund_child(order, part, parent, id=None, **fields):
    """A transaction of its own for the part given back."""
    return transaction(order, part, id, has_parent_transaction=True, parent_transaction=parent, is_refund=True, **fields)
