"""What Realtime gets to see: the publication decoded by wal2json and by pgoutput."""

import json
import os
import struct
import subprocess

import photos
import psycopg2
import psycopg2.errors
import pytest

# The newest minor releases let a slot use only the plugins of a list, which older ones do not know.
POSTGRES = os.path.join(subprocess.check_output([os.environ.get('PG_CONFIG', 'pg_config'), '--bindir'], text=True).strip(), 'postgres')
GUARDED = 'output_plugin_libraries' in subprocess.run([POSTGRES, '--describe-config'], capture_output=True, text=True).stdout
CONF = ["output_plugin_libraries = 'pgoutput, wal2json'"] if GUARDED else []
PUBLISHED = ['users', 'notifications', 'generations', 'generation_jobs', 'config_versions', 'tools', 'hairstyles', 'hair_colors', 'skin_colors', 'plans']
# pgoutput writes images of TOASTed columns whole, so anything near a photo's size would be one
LARGEST_ROW = 16 * 1024


class Slot:
    """A logical slot that sees what is committed from now on."""

    def __init__(self, server, plugin):
        self.server, self.plugin = server, plugin
        self.name = f'test_{plugin}'
        server.value('SELECT pg_create_logical_replication_slot(%s, %s)', (self.name, plugin))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.value('SELECT pg_drop_replication_slot(%s)', (self.name,))

    def changes(self):
        """wal2json: as Supabase Realtime asks for them, restricted to the publication's tables."""
        tables = self.server.value("SELECT string_agg(schemaname || '.' || tablename, ',') FROM pg_publication_tables WHERE pubname = 'supabase_realtime'")
        rows = self.server.query("SELECT data FROM pg_logical_slot_get_changes(%s, NULL, NULL, 'format-version', '2', 'include-transaction', 'false',"
                                 " 'add-tables', %s)", (self.name, tables))
        return [json.loads(row[0]) for row in rows]

    def binary(self):
        """pgoutput: the messages as bytes."""
        return [bytes(row[0]) for row in self.server.query(
            "SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, 'proto_version', '1', 'publication_names', 'supabase_realtime')", (self.name,))]


def columns(change):
    return {c['name']: c['value'] for c in change['columns']}


@pytest.fixture
def json_slot(server):
    with Slot(server, 'wal2json') as slot:
        yield slot


def test_the_publication(server):
    assert sorted(row[0] for row in server.query("SELECT tablename FROM pg_publication_tables WHERE pubname = 'supabase_realtime'")) == sorted(PUBLISHED)
    assert server.query("SELECT attname FROM pg_attribute a JOIN pg_publication_tables t ON a.attrelid = format('%I.%I', t.schemaname, t.tablename)::regclass"
                        " WHERE t.pubname = 'supabase_realtime' AND a.atttypid = 'bytea'::regtype AND NOT a.attisdropped") == []


def test_a_tool_that_is_switched_off_tells_everybody(server, json_slot):
    before = server.value("SELECT revision FROM public.config_versions WHERE name = 'tools'")
    server.query("UPDATE public.tools SET is_active = false WHERE id = 'retouch'")
    told = [columns(c) for c in json_slot.changes() if c['table'] == 'config_versions']
    assert [(c['name'], c['revision']) for c in told] == [('tools', before + 1)]
    server.query("UPDATE public.tools SET is_active = false WHERE id = 'retouch'")         # no change, no news
    assert [c for c in json_slot.changes() if c['table'] == 'config_versions'] == []
    server.query("UPDATE public.tools SET is_active = true WHERE id = 'retouch'")
    # the client that is told may read it, though the tool's own row is hidden from him
    with server.client() as anonymous:
        assert anonymous.call("SELECT revision FROM public.config_versions WHERE name = 'tools'") == [(before + 2,)]


def test_a_settled_job_pushes_the_new_balance(server, emulator, user, json_slot):
    path = user.photo()
    result = user.api.process('vintage', path)
    assert result['status'] == 'succeeded'
    changes = [c for c in json_slot.changes() if user_of(c) == str(user.id)]
    balance = [columns(c)['credits'] for c in changes if c['table'] == 'users']
    assert balance[-1] == 9
    states = [columns(c)['status'] for c in changes if c['table'] == 'generation_jobs']
    assert states == (['queued', 'fetching', 'generating', 'answered', 'storing', 'succeeded'] if server.storage else ['queued', 'generating', 'succeeded'])
    made, = [columns(c) for c in changes if c['table'] == 'generations']
    assert made['image_url'] == result['image_path'] and made['id'] == result['generation_id']


def user_of(change):
    if change['action'] == 'D':
        return None
    row = columns(change)
    return row['id'] if change['table'] == 'users' else row.get('user_id')


def test_no_image_bytes_are_published(server, emulator, user):
    """A photo of a megabyte up, one and a half down: nothing published is larger than a few kilobytes, nor holds a piece of either."""
    emulator.answer(1500000)
    photo = photos.png(991, 640, 640)
    assert len(photo) > 100000
    with Slot(server, 'pgoutput') as slot:
        path = user.api.upload(photo)['path']
        result = user.api.process('vintage', path)
        assert result['status'] == 'succeeded', result
        picture, _ = user.api.download(result['image_path'])
        assert len(picture) > 1000000
        messages = slot.binary()
    assert sum(1 for m in messages if m[:1] in (b'I', b'U')) >= 5
    assert max(map(len, messages)) < LARGEST_ROW
    for image in (photo, picture):
        piece = image[5000:5024]
        for message in messages:
            assert piece not in message and piece.hex().encode() not in message


def test_nothing_internal_is_published(server, emulator, user):
    with Slot(server, 'pgoutput') as slot:
        user.api.analyze('face-shape', user.photo())
        relations = {read_relation(m) for m in slot.binary() if m[:1] == b'R'}
    assert relations and all(schema == 'public' and table in PUBLISHED for schema, table in relations), relations


def read_relation(message):
    (_,) = struct.unpack('>I', message[1:5])
    schema, _, rest = message[5:].partition(b'\0')
    return schema.decode() or 'pg_catalog', rest.partition(b'\0')[0].decode()


# ---- what a subscriber gets: Realtime selects the row again by its key, as the subscriber

OWN = {'users': 'id', 'generations': 'user_id', 'generation_jobs': 'user_id', 'notifications': 'user_id'}


def test_a_row_can_be_watched_by_its_user(server):
    """Needed: a primary key, SELECT on it and on the column of the filter, and row level security that decides the rest."""
    for table in PUBLISHED:
        keys = server.value("SELECT array_agg(a.attname::text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
                            " WHERE i.indrelid = %s::regclass AND i.indisprimary", (f'public.{table}',))
        assert keys, table
        reader = 'authenticated' if table in OWN else 'anon'
        for column in {*keys, *([OWN[table]] if table in OWN else [])}:
            assert server.value('SELECT has_column_privilege(%s, %s, %s, %s)', (reader, f'public.{table}', column, 'SELECT')), (table, column)
        assert server.row('SELECT relreplident::text, relrowsecurity FROM pg_class WHERE oid = %s::regclass', (f'public.{table}',)) == ('d', True), table


def test_each_change_is_for_its_user_alone(server, emulator, user, make_user, json_slot):
    """Every INSERT and UPDATE of a settlement: its user may read the row by its key, another user and a stranger may not."""
    other = make_user()
    user.api.process('vintage', user.photo())
    emulator.script({'fault': 'refusal', 'times': 1})
    user.api.process('vintage', user.photo())
    seen = set()
    with server.client() as anonymous:
        for change in json_slot.changes():
            if change['action'] not in 'IU' or change['table'] not in OWN or user_of(change) != str(user.id):
                continue
            row = columns(change)
            assert str(row[OWN[change['table']]]) == str(user.id)           # what the filter compares is in the change
            seen.add(change['table'])
            sql, key = f"SELECT count(*) FROM public.{change['table']} WHERE id::text = %s", (str(row['id']),)
            assert user.api.call(sql, key) == [(1,)] and other.api.call(sql, key) == [(0,)], change
            try:
                assert anonymous.call(sql, key) == [(0,)]
            except psycopg2.errors.InsufficientPrivilege:
                pass
    assert seen == set(OWN)


def test_a_deletion_tells_keys_only(server, emulator, user, json_slot):
    """Realtime tells a DELETE to everybody who watches the table: so nothing but keys may be in it."""
    user.api.process('vintage', user.photo())
    json_slot.changes()
    server.query('DELETE FROM auth.users WHERE id = %s', (user.id,))
    gone = [c for c in json_slot.changes() if c['action'] == 'D']
    assert {c['table'] for c in gone} >= {'users', 'generations', 'generation_jobs'}
    for change in gone:
        assert [c['name'] for c in change['identity']] == ['id'], change
        assert 'columns' not in change


def test_configuration_reaches_everyone(server, json_slot):
    server.query("UPDATE public.plans SET name = name || ' ' WHERE id = 1")
    server.query("UPDATE public.plans SET name = rtrim(name) WHERE id = 1")
    told = [columns(c) for c in json_slot.changes() if c['table'] == 'config_versions']
    assert [row['name'] for row in told] == ['plans', 'plans']
    for table in set(PUBLISHED) - set(OWN):
        with server.client() as anonymous:
            assert anonymous.call(f'SELECT count(*) > 0 FROM public.{table}') == [(True,)], table


# ---- notifications, in the commit of what they tell

def notifications(server, user):
    return [row[0] for row in server.query("SELECT type || ' ' || title_key || ' ' || message_key FROM public.notifications WHERE user_id = %s ORDER BY id", (user.id,))]


def of(event):
    return f'general notification.{event}.title notification.{event}.message'


def test_a_failure_is_told_with_the_job(server, emulator, user, json_slot):
    emulator.script({'fault': 'refusal', 'times': 1})
    assert user.api.process('vintage', user.photo())['status'] == 'failed'
    assert notifications(server, user) == [of('generation_failed')]
    together = server.query("SELECT count(*) FROM public.notifications n JOIN public.generation_jobs j ON j.user_id = n.user_id AND j.xmin = n.xmin WHERE n.user_id = %s", (user.id,))
    assert together == [(1,)]       # one transaction wrote both
    pushed = [columns(c) for c in json_slot.changes() if c['table'] == 'notifications']
    assert [(n['user_id'], n['title_key'], n['read']) for n in pushed] == [(str(user.id), 'notification.generation_failed.title', False)]


def test_a_cancelled_job_is_no_failure(server, emulator, user):
    server.reload("sparky.max_concurrent_calls = 1")
    try:
        emulator.hold()
        first = user.api.process('vintage', user.photo(), wait_seconds=0)['job_id']
        emulator.wait_calls(1)
        second = user.api.process('vintage', user.photo(), wait_seconds=0)['job_id']
        assert user.api.rpc('cancel_generation', job_id=second)['status'] == 'cancelled'
        emulator.release()
        assert user.api.finish(first)['status'] == 'succeeded'
    finally:
        server.reload("sparky.max_concurrent_calls = 256")
    assert notifications(server, user) == []


def test_low_credits_are_told_once_per_crossing(server, emulator, user):
    server.query('UPDATE public.users SET credits = 4 WHERE id = %s', (user.id,))
    path = user.photo()

    def spend():
        assert user.api.process('vintage', path, refresh=True)['status'] == 'succeeded'
    spend()                                         # 3: not below
    assert notifications(server, user) == []
    spend()                                         # 2: crossed
    assert notifications(server, user) == [of('credits_low')]
    spend()                                         # 1: told already
    assert notifications(server, user) == [of('credits_low')]
    server.value("SELECT sparky.adjust_credits(%s, 2, 'more')", (user.id,))
    assert user.credits() == 3
    spend()                                         # 2: crossed again
    assert notifications(server, user) == [of('credits_low')] * 2


@pytest.mark.parametrize('preferences, told', [('{"generalAlerts": false}', False), ('{"generalAlerts": "false"}', True), ('{}', True), ('{"generalAlerts": null}', True)])
def test_preferences_are_heeded(server, emulator, user, preferences, told):
    user.api.call('UPDATE public.users SET notification_preferences = %s WHERE id = %s', (preferences, user.id))
    server.query('UPDATE public.users SET credits = 3 WHERE id = %s', (user.id,))
    emulator.script({'fault': 'refusal', 'times': 1})
    user.api.process('vintage', user.photo())
    user.api.process('vintage', user.photo())
    assert notifications(server, user) == ([of('generation_failed'), of('credits_low')] if told else [])
