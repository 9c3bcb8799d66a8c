"""Where the photos are, in a test's hands: what a client or an operator does there; of a Storage API also what its log tells.

put(), get() and paths() are the same for both; the fixture files gives whichever the server has.
"""

import http.client
import json
import urllib.parse

from supabase_storage import SERVICE_KEY, StorageEmulator, make_storage, storage_dsn


def start_storage(server, db=None):
    """Storage's tables in a database of the server, and an API over them; sparky is told where it is."""
    connection = server.connect(db)
    make_storage(connection)
    connection.close()
    attach_storage(server, db)


def attach_storage(server, db=None):
    """An API over the tables that are there; it is the server's until that is destroyed."""
    api = StorageEmulator(storage_dsn(server, db or server.database), SERVICE_KEY)
    server.storage = StorageControl(server, api, db)
    server.reload(f"sparky.storage_url = '{api.url}'")


class Files:
    """What a test may ask of either storage."""

    def __init__(self, server, db=None):
        self.server, self.db = server, db

    def paths(self, user):
        """Of a user's files, whoever put them there."""
        return {row[0] for row in self.server.query("SELECT bucket_id || '/' || name FROM storage.objects WHERE name LIKE %s", (f'{user}/%',), db=self.db)}

    def row(self, path):
        """The object's row as a dict, or None."""
        bucket, _, name = path.partition('/')
        return self.server.value('SELECT to_jsonb(o) FROM storage.objects o WHERE bucket_id = %s AND name = %s', (bucket, name), db=self.db)


class EmbeddedFiles(Files):
    """Rows and bytes are in the database."""

    def put(self, path, data):
        """A photo at any path of its user."""
        bucket, user, name = path.split('/', 2)
        with self.server.client(user, self.db) as client:
            made = client.upload(data)['path']
        self.server.query("UPDATE storage.objects SET name = %s WHERE bucket_id || '/' || name = %s", (f'{user}/{name}', made), db=self.db)
        return path

    def get(self, path):
        """The bytes, or None."""
        found = self.server.value("SELECT f.bytes FROM storage.objects o JOIN sparky.stored_files f ON f.object_id = o.id WHERE o.bucket_id || '/' || o.name = %s",
                                  (path,), db=self.db)
        return None if found is None else bytes(found)


class StorageControl(Files):
    """api: a StorageEmulator, whose script, calls, hold, release and reset are these."""

    def __init__(self, server, api, db=None):
        super().__init__(server, db)
        self.api, self.key, self.url = api, api.key, api.url
        self.script, self.calls, self.hold, self.release, self.reset, self.close = api.script, api.calls, api.hold, api.release, api.reset, api.close
        self.wait_idle = api.wait_idle

    # -- a client of the API

    def request(self, method, path, body=None, headers=None, key=True):
        """(status, body, headers) of one request below the base."""
        connection = http.client.HTTPConnection('127.0.0.1', self.api.port, timeout=20)
        try:
            given = {'apikey': self.key, 'Authorization': f'Bearer {self.key}'} if key else {}
            connection.request(method, '/storage/v1' + path, body, {**given, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read(), dict(response.getheaders())
        finally:
            connection.close()

    def put(self, path, data, mime='image/png'):
        """Upload as supabase-js does."""
        status, answer, _ = self.request('POST', '/object/' + urllib.parse.quote(path), data, {'Content-Type': mime, 'x-upsert': 'true'})
        assert status == 200, answer
        return path

    def remove(self, path):
        bucket, _, name = path.partition('/')
        status, answer, _ = self.request('DELETE', '/object/' + bucket, json.dumps({'prefixes': [name]}), {'Content-Type': 'application/json'})
        assert status == 200, answer

    def get(self, path):
        """The bytes, or None."""
        status, answer, _ = self.request('GET', '/object/authenticated/' + urllib.parse.quote(path))
        return answer if status == 200 else None
