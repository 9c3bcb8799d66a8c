"""Realtime Broadcast: a word to the user's own topic in the commit that it tells of, and no harm when that fails."""

import re

import pytest
from conftest import KEY, User, assert_ledger
from sparky_server import Server, wait_for
from supabase_shape import SHAPE

SERVER = SHAPE


def messages(server, user):
    return [row[0] for row in server.query("SELECT to_jsonb(m) FROM realtime.messages m WHERE topic = %s ORDER BY inserted_at", (f'user:{user.id}',))]


@pytest.fixture
def broken(server):
    """realtime.send() as the test wants it, and back again; the worker's memory of it is a minute long, so it is a new worker."""
    good = server.value("SELECT pg_get_functiondef('realtime.send(jsonb,text,text,boolean)'::regprocedure)")

    def fresh_worker():
        pid = server.worker_pid()
        server.value('SELECT pg_terminate_backend(%s)', (pid,))
        wait_for(lambda: server.process('sparky worker', 'postgres') not in (None, pid), 15, 'another worker')
        wait_for(lambda: server.value('SELECT sparky.health()')['worker_ready'], 15, 'it to serve')

    def replace(body):
        server.psql(f"CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void LANGUAGE plpgsql AS $$ {body} $$")
    yield replace
    server.psql(good)
    fresh_worker()


def test_a_settled_job(server, emulator, user):
    result = user.api.process('vintage', user.photo())
    assert result['status'] == 'succeeded'
    message, = messages(server, user)
    assert (message['event'], message['private'], message['extension']) == ('generation', True, 'broadcast')
    payload = message['payload']
    payload.pop('id')
    assert payload == {'job_id': result['job_id'], 'tool_id': 'vintage', 'status': 'succeeded', 'generation_id': result['generation_id'], 'credits': 9}
    # the same transaction wrote both
    assert server.value("SELECT count(*) FROM realtime.messages m JOIN public.generations g ON g.xmin = m.xmin WHERE topic = %s",
                        (f'user:{user.id}',)) in (0, 1)       # send() has a subtransaction, whose number the row bears


def test_a_failed_job(server, emulator, user):
    emulator.script({'fault': 'refusal', 'times': 1})
    assert user.api.process('vintage', user.photo())['status'] == 'failed'
    message, = messages(server, user)
    assert {k: message['payload'].get(k) for k in ('status', 'error', 'credits', 'generation_id')} == {
        'status': 'failed', 'error': 'refused', 'credits': 10, 'generation_id': None}


def test_a_hit_says_nothing(server, emulator, user):
    path = user.photo()
    user.api.process('vintage', path)
    assert user.api.process('vintage', path)['cached'] is True
    assert len(messages(server, user)) == 1


def test_only_its_user_may_listen(server, emulator, user, make_user):
    """As Realtime asks: with the listener's claims and the topic in a setting."""
    user.api.process('vintage', user.photo())
    other = make_user()

    def heard(client, topic):
        client._connect()
        with client.connection.cursor() as cursor:
            client.begin(cursor)
            cursor.execute("SELECT set_config('realtime.topic', %s, true)", (topic,))
            cursor.execute('SELECT count(*) FROM realtime.messages WHERE topic = %s', (topic,))
            count = cursor.fetchone()[0]
        client.connection.rollback()
        return count
    topic = f'user:{user.id}'
    assert heard(user.api, topic) == 1
    assert heard(other.api, topic) == 0 and heard(server.client(), topic) == 0


def test_a_new_balance(server, user, broken):
    """What a payment's booking calls: the balance of that transaction; one that raises is a WARNING, in a client's session too."""
    server.value('SELECT sparky.broadcast_account(%s)', (user.id,), user='postgres')
    message, = messages(server, user)
    assert (message['event'], message['private']) == ('account', True)
    assert {k: message['payload'][k] for k in ('credits', 'plan_id')} == {'credits': 10, 'plan_id': 1}
    broken("BEGIN RAISE EXCEPTION 'broken on purpose'; END")
    connection = server.connect(user='postgres')
    connection.cursor().execute('SELECT sparky.broadcast_account(%s)', (user.id,))
    assert any(n.startswith('WARNING') and 'broken on purpose' in n for n in connection.notices)
    connection.close()


def test_what_never_raises_costs_a_warning(server, emulator, user, broken):
    """No partition for the day, as on a database without a Realtime server."""
    server.psql('ALTER TABLE realtime.messages DETACH PARTITION realtime.messages_now')
    try:
        assert user.api.process('vintage', user.photo())['status'] == 'succeeded'
        user.assert_money(credits=9, usage=1)
        assert re.search('WARNING: .*no partition of relation', server.log())
    finally:
        server.psql("ALTER TABLE realtime.messages ATTACH PARTITION realtime.messages_now FOR VALUES FROM ('2000-01-01') TO ('2100-01-01')")


def test_one_that_raises_is_left_out(server, emulator, make_user, broken):
    """Many jobs at once, each of which would send: all are settled, charged once, and nothing is called twice."""
    users = [make_user() for _ in range(6)]
    emulator.hold()
    broken("BEGIN RAISE EXCEPTION 'broken on purpose'; END")
    jobs = [(u, u.api.process('vintage', u.photo(), wait_seconds=0)['job_id']) for u in users]
    emulator.wait_calls(6)
    emulator.release()
    for u, job in jobs:
        assert u.api.finish(job)['status'] == 'succeeded'
        u.assert_money(credits=9, usage=1)
        assert messages(server, u) == [] and len(u.provider_calls()) == 1
    assert 'realtime.send() failed, nothing is broadcast for a minute' in server.log()
    assert_ledger(server)


def test_a_false_one_is_not_called(emulator_process):
    """realtime.send() in a schema that some other role made would run as the data owner."""
    with Server(emulator=emulator_process, key=KEY) as server:
        server.psql("""CREATE ROLE stranger LOGIN; CREATE SCHEMA realtime AUTHORIZATION stranger; GRANT ALL ON SCHEMA realtime TO PUBLIC;
            CREATE TABLE realtime.caught (who name); GRANT ALL ON realtime.caught TO PUBLIC; SET SESSION AUTHORIZATION stranger;
            CREATE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void LANGUAGE sql AS
                $$ INSERT INTO realtime.caught VALUES (current_user) $$;""")
        user = User(server)
        assert user.api.process('vintage', user.photo())['status'] == 'succeeded'
        assert server.value('SELECT count(*) FROM realtime.caught') == 0
        user.api.close()
