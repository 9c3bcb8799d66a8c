"""What supabase-js needs of a Realtime server, in the tests of test/js: no Realtime server's program is to be had.

It speaks Phoenix channels (vsn 1.0.0) as realtime-js does, and takes all that it
tells from the server's own log: one logical slot, read by wal2json, for the rows
of publication supabase_realtime and for realtime.messages.  Who gets what is
decided in the database, as the real one does it:

- A change of a row: the subscription's filter is compared with the change; then
  the row is selected again by its key, as the subscriber's role with his claims,
  and only columns that this role may read are sent.
- A DELETE cannot be selected again.  It goes to everybody whose filter it meets,
  with its key alone.
- A private topic: a row for it is put into realtime.messages and selected as the
  subscriber, then rolled back; who sees it may listen.

Not here: presence, messages that clients send, filters other than eq.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import threading
import urllib.parse

import psycopg2
import websockets
from psycopg2 import sql
from tokens import BadToken, claims_of

PAUSE = 0.05                # seconds between two looks into the slot
KINDS = {'I': 'INSERT', 'U': 'UPDATE', 'D': 'DELETE'}
_ids = itertools.count(40001)


@dataclasses.dataclass
class Channel:
    socket: object
    topic: str              # with the prefix realtime:
    private: bool
    claims: dict
    bindings: list          # of postgres_changes, with the id of each


class Refused(Exception):
    """The reason that a subscriber is told."""


class Realtime:
    def __init__(self, server):
        self.server, self.port = server, None       # known when it has started
        self.channels = {}                          # (socket, topic): Channel
        self.stopping = threading.Event()

    # ---- from outside: start, stop

    def start(self):
        self.connection = self.server.connect()
        self.slot = 'test_realtime'
        self.query('SELECT pg_create_logical_replication_slot(%s, %s, true)', (self.slot, 'wal2json'))      # ends with the connection
        started, self.failure = threading.Event(), None
        self.thread = threading.Thread(target=self.run, args=(started,), daemon=True)
        self.thread.start()
        assert started.wait(20) and self.failure is None, self.failure

    def stop(self):
        self.stopping.set()
        self.thread.join(20)
        self.connection.close()
        assert self.failure is None, self.failure

    def run(self, started):
        try:
            asyncio.run(self.main(started))
        except Exception as error:
            self.failure = error
            started.set()
            logging.exception('the stand-in for Realtime ended')

    async def main(self, started):
        async with websockets.serve(self.serve, '127.0.0.1', 0) as listener:
            self.port = listener.sockets[0].getsockname()[1]
            started.set()
            while not self.stopping.is_set():
                await self.tell_changes()
                await asyncio.sleep(PAUSE)

    # ---- a client's messages

    async def serve(self, socket, path):
        address = urllib.parse.urlsplit(path)
        asked = dict(urllib.parse.parse_qsl(address.query))
        if address.path != '/realtime/v1/websocket' or asked.get('vsn') != '1.0.0':
            raise RuntimeError(f'not what realtime-js asks for: {path}')
        socket.apikey = asked['apikey']             # counts until there is a token
        try:
            async for text in socket:
                message = json.loads(text)
                handle = getattr(self, 'on_' + message['event'], None)
                if handle is None:
                    await self.reply(socket, message, 'error', {'reason': f"unknown event {message['event']}"})
                else:
                    await handle(socket, message)
        except websockets.ConnectionClosed:
            pass
        finally:
            for key in [key for key in self.channels if key[0] is socket]:
                del self.channels[key]

    async def on_heartbeat(self, socket, message):
        await self.reply(socket, message, 'ok', {})

    async def on_phx_join(self, socket, message):
        config, topic = message['payload']['config'], message['topic']
        try:
            claims = claims_of(message['payload'].get('access_token') or socket.apikey)
            if config.get('private'):
                self.check_listener(claims, topic)
        except (BadToken, Refused) as refusal:
            await self.reply(socket, message, 'error', {'reason': str(refusal)})
            return
        bindings = [{'id': next(_ids), **binding} for binding in config.get('postgres_changes', [])]
        await self.reply(socket, message, 'ok', {'postgres_changes': bindings})
        try:
            for binding in bindings:
                self.check_binding(claims, binding)
            status, said = 'ok', 'Subscribed to PostgreSQL'
        except Refused as refusal:
            bindings, status, said = [], 'error', str(refusal)
        self.channels[socket, topic] = Channel(socket, topic, bool(config.get('private')), claims, bindings)
        if config.get('postgres_changes'):
            await self.send(socket, topic, 'system', {'extension': 'postgres_changes', 'channel': topic.removeprefix('realtime:'), 'status': status, 'message': said})

    async def on_access_token(self, socket, message):
        """From now on the channel is this token's; one that may not listen any more is put out."""
        channel = self.channels.get((socket, message['topic']))
        if channel is None:
            return
        try:
            channel.claims = claims_of(message['payload']['access_token'])
            if channel.private:
                self.check_listener(channel.claims, channel.topic)
        except (BadToken, Refused) as refusal:
            del self.channels[socket, message['topic']]
            await self.send(socket, message['topic'], 'system', {'extension': 'system', 'status': 'error', 'message': str(refusal)})
            await self.send(socket, message['topic'], 'phx_close', {})

    async def on_phx_leave(self, socket, message):
        self.channels.pop((socket, message['topic']), None)
        await self.reply(socket, message, 'ok', {})
        await self.send(socket, message['topic'], 'phx_close', {}, message['ref'])

    async def reply(self, socket, message, status, response):
        await self.send(socket, message['topic'], 'phx_reply', {'status': status, 'response': response}, message['ref'])

    async def send(self, socket, topic, event, payload, ref=None):
        with contextlib.suppress(websockets.ConnectionClosed):
            await socket.send(json.dumps({'ref': ref, 'event': event, 'payload': payload, 'topic': topic}))

    # ---- what the slot holds

    async def tell_changes(self):
        for change in self.changes():
            if change['schema'] == 'realtime':
                await self.tell_message(change)
            else:
                await self.tell_row(change)

    def changes(self):
        """What was committed since the last look, in the order of the commits."""
        published = "(SELECT string_agg(schemaname || '.' || tablename, ',') FROM pg_publication_tables WHERE pubname = 'supabase_realtime')"
        rows = self.query(f"SELECT data FROM pg_logical_slot_get_changes(%s, NULL, NULL, 'format-version', '2', 'include-transaction', 'false',"
                          f" 'include-timestamp', 'true', 'include-pk', 'true', 'actions', 'insert,update,delete', 'add-tables', {published} || ',realtime.*')",
                          (self.slot,))
        return [json.loads(row[0]) for row in rows]

    async def tell_message(self, change):
        """A row of a partition of realtime.messages."""
        row = values(change.get('columns', []))
        if change['action'] != 'I' or row.get('extension') != 'broadcast':
            return
        payload = {'type': 'broadcast', 'event': row['event'], 'payload': json.loads(row['payload']), 'meta': {'id': row['id']}}
        for channel in list(self.channels.values()):
            if channel.topic == 'realtime:' + row['topic'] and channel.private == row['private']:
                await self.send(channel.socket, channel.topic, 'broadcast', payload)

    async def tell_row(self, change):
        for channel in list(self.channels.values()):
            ids = [b['id'] for b in channel.bindings if meets(b, change)]
            if ids and (change['action'] == 'D' or self.may_see(channel.claims, change)):
                await self.send(channel.socket, channel.topic, 'postgres_changes', {'ids': ids, 'data': self.told(channel.claims, change)})

    def told(self, claims, change):
        """The change as this role may know it."""
        columns = self.readable(claims, change)
        old = {k: v for k, v in values(change.get('identity', [])).items() if k in columns}
        data = {'schema': change['schema'], 'table': change['table'], 'type': KINDS[change['action']], 'commit_timestamp': change['timestamp'],
                'columns': [{'name': name, 'type': type} for name, type in columns.items()], 'errors': None}
        if change['action'] != 'D':
            data['record'] = {k: v for k, v in values(change['columns']).items() if k in columns}
        if change['action'] != 'I':
            data['old_record'] = old
        return data

    # ---- who may know it: asked as the subscriber

    def readable(self, claims, change):
        """{column: type} of those that the role may select."""
        return dict(self.query("SELECT a.attname::text, t.typname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE attrelid = %s::regclass"
                               " AND attnum > 0 AND NOT attisdropped AND has_column_privilege(%s, attrelid, attnum, 'SELECT') ORDER BY attnum",
                               (f"{change['schema']}.{change['table']}", claims['role'])))

    def may_see(self, claims, change):
        row, keys = values(change['columns']), [column['name'] for column in change['pk']]
        if not set(keys) <= set(self.readable(claims, change)):
            return False
        same = sql.SQL(' AND ').join(sql.SQL('{} = {}').format(sql.Identifier(key), sql.Literal(str(row[key]))) for key in keys)
        question = sql.SQL('SELECT EXISTS (SELECT FROM {} WHERE {})').format(sql.Identifier(change['schema'], change['table']), same)
        return self.as_subscriber(claims, {}, question)

    def check_listener(self, claims, topic):
        topic = topic.removeprefix('realtime:')
        insert = "INSERT INTO realtime.messages (topic, extension, private) VALUES (%s, 'broadcast', true) RETURNING id"
        question = 'SELECT EXISTS (SELECT FROM realtime.messages WHERE id = %s)'
        if not self.as_subscriber(claims, {'realtime.topic': topic}, question, (insert, (topic,))):
            raise Refused(f'Unauthorized: You do not have permissions to read from this Channel topic: {topic}')

    def check_binding(self, claims, binding):
        column = binding.get('filter', '').partition('=')[0]
        published = self.query("SELECT FROM pg_publication_tables WHERE pubname = 'supabase_realtime' AND schemaname = %s AND tablename = %s", (binding['schema'], binding['table']))
        if not published or column and column not in self.readable(claims, binding) or column and not binding['filter'].startswith(f'{column}=eq.'):
            raise Refused(f'Unable to subscribe to changes with given parameters: {binding}')

    def as_subscriber(self, claims, settings, question, before=None):
        """One value, asked with role and claims, in a transaction that is rolled back. before: a statement of ours whose value the question is about."""
        with self.connection.cursor() as cursor:
            cursor.execute('BEGIN')
            try:
                about = None
                if before:
                    cursor.execute(*before)
                    about = cursor.fetchone()
                for name, value in {'request.jwt.claims': json.dumps(claims), **settings, 'role': claims['role']}.items():
                    cursor.execute('SELECT set_config(%s, %s, true)', (name, value))
                cursor.execute(question, about)
                return cursor.fetchone()[0]
            except psycopg2.errors.InsufficientPrivilege:
                return False
            finally:
                cursor.execute('ROLLBACK')

    def query(self, statement, parameters=None):
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall()


def values(columns):
    return {column['name']: column['value'] for column in columns}


def meets(binding, change):
    """Event, table and filter; of a DELETE there is nothing to compare but its key."""
    if (binding['schema'], binding['table']) != (change['schema'], change['table']) or binding['event'] not in ('*', KINDS[change['action']]):
        return False
    if not binding.get('filter'):
        return True
    column, _, wanted = binding['filter'].partition('=eq.')
    there = values(change['identity' if change['action'] == 'D' else 'columns'])
    return column in there and str(there[column]) == wanted
