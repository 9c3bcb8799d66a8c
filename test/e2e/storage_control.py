"""A Storage API in a test's hands: what a client or an operator does there, and what the log tells."""

import http.client
import json
import urllib.parse

from supabase_storage import SERVICE_KEY, StorageEmulator, make_storage, storage_dsn


def start_storage(server):
    """Storage's tables in the server's database, and an API over them; sparky is told where it is."""
    make_storage(server.connect())
    api = StorageEmulator(storage_dsn(server, server.database), SERVICE_KEY)
    server.reload(f"sparky.storage_url = '{api.url}'")
    return StorageControl(server, api)


class StorageControl:
    """api: a StorageEmulator, whose script, calls, hold, release and reset are these."""

    def __init__(self, server, api):
        self.server, self.api, self.key, self.url = server, api, api.key, api.url
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

    def row(self, path):
        """The object's row as a dict, or None."""
        bucket, _, name = path.partition('/')
        return self.server.value('SELECT to_jsonb(o) FROM storage.objects o WHERE bucket_id = %s AND name = %s', (bucket, name))
