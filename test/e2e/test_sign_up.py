"""Sign-up credits: once for an account and once for an address, whatever is deleted, changed or done at the same time."""

import hashlib
import hmac
import json
import threading
import uuid

import psycopg2
import pytest
from background import together
from conftest import assert_ledger
from sparky_server import wait_for


def sign_up(server, email=None, **columns):
    user = uuid.uuid4()
    columns = {'id': user, 'email': email, **columns}
    server.query(f"INSERT INTO auth.users ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})", tuple(columns.values()))
    return user


def credits(server, *users):
    return [server.value('SELECT credits FROM public.users WHERE id = %s', (user,)) for user in users]


def change(server, user, **columns):
    server.query(f"UPDATE auth.users SET {', '.join(f'{c} = %s' for c in columns)} WHERE id = %s", (*columns.values(), user))


def monthly(server, user):
    return server.value("SELECT sparky.grant_monthly(%s, '2100-01-01 00:00+00')", (user,))


@pytest.fixture
def name():
    """A local part nobody had."""
    return 'u' + uuid.uuid4().hex[:12]


NORMAL = [
    ('ann@example.com', 'ann@example.com'), (' Ann@Example.COM\n', 'ann@example.com'), ('ann+x@example.com', 'ann@example.com'),
    ('ann+x+y@example.com', 'ann@example.com'), ('+x@example.com', '+x@example.com'), ('a.n.n@example.com', 'a.n.n@example.com'),
    ('a.n.n@gmail.com', 'ann@gmail.com'), ('A.nn+shop@GoogleMail.com', 'ann@gmail.com'), ('ann@gmail.com.', 'ann@gmail.com'),
    ('ann@sub.gmail.com', 'ann@sub.gmail.com'), ('a.n+b.c@gmail.com.evil.org', 'a.n@gmail.com.evil.org'), ('...@gmail.com', '...@gmail.com'),
    ('"a@b"+c@example.com', '"a@b"@example.com'), ('nobody', 'nobody@nobody'), ('', None), ('   ', None), (None, None),
]


@pytest.mark.parametrize('email, normal', NORMAL)
def test_one_mailbox_one_spelling(server, email, normal):
    account = {'email': email, 'email_confirmed_at': '2026-01-01'}
    assert server.value('SELECT sparky.normal_address(%s)', (json.dumps(account),)) == normal


@pytest.mark.parametrize('account, normal', [
    ({'phone': '+20 (100) 123-4567', 'phone_confirmed_at': 't'}, 'tel:201001234567'),
    ({'phone': '201001234567', 'phone_confirmed_at': 't'}, 'tel:201001234567'),
    ({'phone': '', 'phone_confirmed_at': 't'}, None), ({'phone': '+', 'phone_confirmed_at': 't'}, None), ({'phone_confirmed_at': 't'}, None),
    ({'phone': '1', 'email': 'a@b'}, None),
    ({'phone': '1', 'phone_confirmed_at': 't', 'email': 'a@b'}, 'tel:1'),
    ({'phone': '1', 'phone_confirmed_at': 't', 'email': 'a@b', 'email_confirmed_at': 't'}, 'a@b'),
    ({'phone': '1', 'phone_confirmed_at': 't', 'email': ' ', 'email_confirmed_at': 't'}, 'tel:1'), ({}, None)])
def test_which_address_counts(server, account, normal):
    assert server.value('SELECT sparky.normal_address(%s)', (json.dumps(account),)) == normal


def test_the_digest_is_an_hmac_under_the_kept_key(server, name):
    user = sign_up(server, f'{name}+tag@Example.com')
    key = bytes(server.value('SELECT address_key FROM sparky.instance'))
    digest = hmac.new(key, f'{name}@example.com'.encode(), hashlib.sha256).hexdigest()
    assert server.value('SELECT sparky.address_digest(%s)', (f'{name}@example.com',)) == digest
    assert server.value('SELECT address_digest FROM sparky.signup_grants WHERE user_id = %s', (user,)) == digest
    assert server.value('SELECT sparky.address_digest(NULL)') is None
    assert server.value("SELECT sparky.address_digest('')") == hmac.new(key, b'', hashlib.sha256).hexdigest()


@pytest.mark.parametrize('first, second', [('{}@example.com', '{}+2@example.com'), ('{}@example.com', ' {}@EXAMPLE.com'),
                                           ('{}@gmail.com', '{}@googlemail.com'), ('{}@gmail.com', 'u.{}@gmail.com')])
def test_a_second_account_of_one_address_gets_none(server, name, first, second):
    one, two = sign_up(server, first.format(name)), sign_up(server, second.format(name).replace('u.u', 'u.'))
    assert credits(server, one, two) == [10, 0]
    assert not monthly(server, two) and monthly(server, one)
    assert server.value('SELECT count(*) FROM public.credit_ledger WHERE user_id = %s', (two,)) == 0
    server.value('SELECT sparky.repair()')
    assert credits(server, two) == [0]
    assert_ledger(server)


def test_nor_after_the_first_was_deleted(server, name):
    one = sign_up(server, f'{name}@example.com')
    server.query('DELETE FROM auth.users WHERE id = %s', (one,))
    two = sign_up(server, f'{name}@example.com')
    assert credits(server, two) == [0] and not monthly(server, two)


def test_changing_the_address_frees_none_and_earns_no_second(server, name):
    one = sign_up(server, f'{name}@example.com')
    change(server, one, email=f'{name}-new@example.com')
    two = sign_up(server, f'{name}@example.com')
    assert credits(server, one, two) == [10, 0]
    # a refused account of a fresh, confirmed address of its own gets its one grant, and no more
    change(server, two, email=f'{name}-two@example.com')
    assert credits(server, two) == [10]
    change(server, two, email=f'{name}-three@example.com')
    assert credits(server, two) == [10]
    assert credits(server, sign_up(server, f'{name}-two@example.com')) == [0]


def test_a_telephone_is_an_address(server):
    number = str(uuid.uuid4().int)[:15]
    unconfirmed = {'email_confirmed_at': None}
    one = sign_up(server, None, phone=number, **unconfirmed)
    assert credits(server, one) == [0]
    change(server, one, phone_confirmed_at='2026-01-01')
    server.query('DELETE FROM auth.users WHERE id = %s', (one,))
    two = sign_up(server, None, phone='+' + number[:3] + ' ' + number[3:], phone_confirmed_at='2026-01-01', **unconfirmed)
    assert credits(server, two) == [0]
    change(server, two, phone='9' + number)
    assert credits(server, two) == [10]


def test_anonymous_and_unconfirmed_get_theirs_with_the_address(server, name):
    unconfirmed = sign_up(server, f'{name}-u@example.com', email_confirmed_at=None)
    anonymous = sign_up(server, None, is_anonymous=True)
    assert credits(server, unconfirmed, anonymous) == [0, 0]
    assert not monthly(server, unconfirmed) and not monthly(server, anonymous)
    change(server, unconfirmed, email=f'{name}-v@example.com')          # still not confirmed
    assert credits(server, unconfirmed) == [0]
    change(server, unconfirmed, email_confirmed_at='2026-01-01')
    change(server, anonymous, email=f'{name}-a@example.com')            # still anonymous
    assert credits(server, unconfirmed, anonymous) == [10, 0]
    change(server, anonymous, is_anonymous=False)
    assert credits(server, anonymous) == [10]
    converted = sign_up(server, None, is_anonymous=True)                # into an address that was here before
    change(server, converted, is_anonymous=False, email=f'{name}-a+1@example.com')
    assert credits(server, converted) == [0]


def test_confirmed_at_the_same_time_one_is_given(server, name):
    for round_ in range(5):
        users = [sign_up(server, f'{name}{round_}+{n}@example.com', email_confirmed_at=None) for n in range(8)]
        together(*[lambda user=user: change(server, user, email_confirmed_at='2026-01-01') for user in users])
        assert sorted(credits(server, *users)) == [0] * 7 + [10]
    assert_ledger(server)


@pytest.mark.parametrize('end, given', [('COMMIT', 0), ('ROLLBACK', 10)])
def test_the_second_waits_for_the_first_ones_commit(server, name, end, given):
    one, two = (sign_up(server, f'{name}+{n}@example.com', email_confirmed_at=None) for n in range(2))
    holder = server.connect(autocommit=False)
    with holder.cursor() as cursor:
        cursor.execute("UPDATE auth.users SET email_confirmed_at = now() WHERE id = %s", (one,))
        thread = threading.Thread(target=change, args=(server, two), kwargs={'email_confirmed_at': '2026-01-01'})
        thread.start()
        wait_for(lambda: server.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE auth.users%%'"))
        cursor.execute(end)
        thread.join()
    holder.close()
    assert credits(server, one, two) == [10 - given, given]


def test_sign_up_never_fails(server, name):
    """Not without a key, not when the digest cannot be had; and repair() notes the address later."""
    connection = server.connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute('DELETE FROM sparky.instance')
        cursor.execute('INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), %s) RETURNING id', (f'{name}@example.com',))
        user, = cursor.fetchone()
    connection.rollback()
    with connection.cursor() as cursor:
        cursor.execute('CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM sparky.instance')
        cursor.execute('DELETE FROM sparky.instance')
        cursor.execute('INSERT INTO auth.users (id, email) VALUES (%s, %s)', (user, f'{name}@example.com'))
        cursor.execute('SELECT address_digest FROM sparky.signup_grants WHERE user_id = %s', (user,))
        assert cursor.fetchone() == (None,)
        cursor.execute('INSERT INTO sparky.instance SELECT * FROM kept')
    connection.commit()
    connection.close()
    assert credits(server, user) == [10]
    server.value('SELECT sparky.repair()')
    digest = server.value('SELECT sparky.address_digest(%s)', (f'{name}@example.com',))
    assert server.value('SELECT address_digest FROM sparky.signup_grants WHERE user_id = %s', (user,)) == digest
    assert credits(server, sign_up(server, f'{name}+2@example.com')) == [0]


def test_a_planted_failure_does_not_keep_anybody_out(server, name):
    server.psql("ALTER TABLE sparky.signup_grants ADD CONSTRAINT planted CHECK (address_digest IS NULL) NOT VALID")
    try:
        user = sign_up(server, f'{name}@example.com')
        assert credits(server, user) == [0]
    finally:
        server.psql('ALTER TABLE sparky.signup_grants DROP CONSTRAINT planted')
    assert server.value('SELECT sparky.repair()') == [] and credits(server, user) == [10]


def test_older_grants_are_known_by_their_address(server, name):
    """As delta 2 finds them: no digests yet. Where two had theirs, the older one stands for the address."""
    users = [sign_up(server, f'{name}{suffix}@example.com') for suffix in ('', 'x', 'y')]
    server.query('UPDATE sparky.signup_grants SET address_digest = NULL WHERE user_id = ANY (%s)', (users,))
    change(server, users[1], email=f'{name}+1@example.com')
    change(server, users[2], email=f'{name}z@example.com')
    server.query("UPDATE sparky.signup_grants SET granted_at = '2020-01-01' WHERE user_id = %s", (users[1],))
    for _ in range(2):
        server.value('SELECT sparky.repair()')
        digests = dict(server.query('SELECT user_id, address_digest FROM sparky.signup_grants WHERE user_id = ANY (%s)', (users,)))
        assert digests[users[0]] is None and digests[users[1]] and digests[users[2]]
    assert credits(server, sign_up(server, f'{name}+9@example.com'), sign_up(server, f'{name}z+9@example.com')) == [0, 0]


def test_no_client_sees_a_digest_or_makes_one(user):
    for sql in ('SELECT * FROM sparky.signup_grants', "SELECT sparky.address_digest('a@b')"):
        with pytest.raises(psycopg2.Error) as caught:
            user.api.call(sql)
        assert caught.value.pgcode == '42501'
