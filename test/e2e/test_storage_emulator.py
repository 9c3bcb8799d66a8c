"""The emulator's Storage over a database: rows as the real service writes them, policies for users, and sparky's buckets."""

import http.client
import json
import uuid

import psycopg2
import pytest
from conftest import fresh_photo
from sparky_server import Server, wait_for
from supabase_storage import SERVICE_KEY, StorageEmulator, make_storage, storage_dsn


@pytest.fixture(scope='module')
def server():
    with Server(prepare=lambda server: make_storage(server.connect()), storage='as prepared', environment={'STORAGE_SERVICE_KEY': SERVICE_KEY}) as server:
        yield server


@pytest.fixture(scope='module')
def storage(server):
    storage = StorageEmulator(storage_dsn(server))
    yield storage
    storage.close()


def call(storage, method, path, body=None, mime='image/png', token=None, **headers):
    """(status, body): by the service, or by a user with his token."""
    connection = http.client.HTTPConnection('127.0.0.1', storage.port, timeout=30)
    head = {'apikey': 'anon' if token else storage.key, 'Authorization': f'Bearer {token or storage.key}', **{k.replace('_', '-'): v for k, v in headers.items()}}
    try:
        connection.request(method, '/storage/v1/object/' + path, body, {**head, 'Content-Type': mime} if body is not None else head)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def code(answer):
    return json.loads(answer[1])['code']


def row(server, path):
    bucket, _, name = path.partition('/')
    return server.value('SELECT to_jsonb(o) FROM storage.objects o WHERE bucket_id = %s AND name = %s', (bucket, name))


def remove(storage, bucket, *names, **options):
    return call(storage, 'DELETE', bucket, json.dumps({'prefixes': names}), 'application/json', **options)


def test_sparky_finds_another_s_tables(server):
    assert server.value('SELECT sparky.storage_is_ours()') is False
    assert server.value("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'storage.objects'::regclass") == 'supabase_storage_admin'
    assert server.query('SELECT id, public, file_size_limit, cardinality(allowed_mime_types) FROM storage.buckets ORDER BY id') == [
        ('generations', False, 7340032, 5), ('user_uploads', False, 7340032, 5)]
    assert server.value("SELECT count(*) FROM pg_policies WHERE schemaname = 'storage' AND tablename = 'objects'") >= 4


def test_rows_as_the_service_writes_them(server, storage):
    path, photo = f'generations/{uuid.uuid4()}/one.png', fresh_photo()
    status, body = call(storage, 'POST', path, photo, cache_control='max-age=3600')
    assert status == 200
    first = row(server, path)
    assert first['id'] == json.loads(body)['Id'] and first['owner_id'] is None and first['owner'] is None and uuid.UUID(first['version'])
    assert {k: first['metadata'][k] for k in ('size', 'mimetype', 'cacheControl', 'contentLength')} == {
        'size': len(photo), 'mimetype': 'image/png', 'cacheControl': 'max-age=3600', 'contentLength': len(photo)}
    assert first['metadata']['eTag'].startswith('"') and first['metadata']['lastModified']
    assert code(call(storage, 'POST', path, photo)) == 'KeyAlreadyExists'
    other = fresh_photo()
    assert call(storage, 'POST', path, other, x_upsert='true')[0] == 200
    second = row(server, path)
    assert second['id'] == first['id'] and second['version'] != first['version'] and second['updated_at'] > first['updated_at']
    assert call(storage, 'GET', 'authenticated/' + path) == (200, other)
    name = path.partition('/')[2]
    assert json.loads(remove(storage, 'generations', name, 'none')[1])[0]['name'] == name
    assert row(server, path) is None and code(call(storage, 'GET', 'authenticated/' + path)) == 'NoSuchKey'


def test_limits_are_the_bucket_s(server, storage):
    path = f'generations/{uuid.uuid4()}.png'
    assert code(call(storage, 'POST', path, bytes(7340033))) == 'EntityTooLarge'
    assert code(call(storage, 'POST', path, b'x', 'image/png; charset=binary')) == 'InvalidMimeType'
    assert code(call(storage, 'POST', 'nowhere/x.png', b'x')) == 'NoSuchBucket'
    assert row(server, path) is None
    server.query("UPDATE storage.buckets SET file_size_limit = 3 WHERE id = 'generations'")
    try:
        assert code(call(storage, 'POST', path, b'1234')) == 'EntityTooLarge' and call(storage, 'POST', path, b'123')[0] == 200
    finally:
        server.query("UPDATE storage.buckets SET file_size_limit = 7340032 WHERE id = 'generations'")


def test_policies_decide_for_users(server, storage):
    user, other = server.sign_up(), server.sign_up()
    token, foreign = storage.user_token(user), storage.user_token(other)
    path = f'user_uploads/{user}/own photo.png'
    encoded = path.replace(' ', '%20')
    assert call(storage, 'POST', encoded, b'mine', token=token)[0] == 200
    assert (row(server, path)['owner_id'], row(server, path)['owner']) == (str(user), None)
    assert call(storage, 'POST', encoded, b'mine again', token=token, x_upsert='true')[0] == 200
    assert call(storage, 'GET', 'authenticated/' + encoded, token=token) == (200, b'mine again')
    assert code(call(storage, 'GET', 'authenticated/' + encoded, token=foreign)) == 'NoSuchKey'
    assert code(call(storage, 'POST', encoded, b'x', token=foreign, x_upsert='true')) == 'AccessDenied'
    assert code(call(storage, 'POST', f'generations/{user}/x.png', b'x', token=token)) == 'AccessDenied'
    assert json.loads(remove(storage, 'user_uploads', path.partition('/')[2], token=foreign)[1]) == []
    assert len(json.loads(remove(storage, 'user_uploads', path.partition('/')[2], token=token)[1])) == 1


def test_nobody_else_deletes_rows(server, storage):
    path = f'generations/{uuid.uuid4()}.png'
    call(storage, 'POST', path, b'x')
    for sql in ('DELETE FROM storage.objects WHERE false', 'DELETE FROM storage.buckets WHERE false'):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            server.query(sql)
    server.query("INSERT INTO storage.objects (bucket_id, name, version) VALUES ('generations', 'ghost.png', 'v')")
    assert call(storage, 'GET', 'authenticated/generations/ghost.png')[0] == 500
    storage.control('drop_file', object=path)
    assert call(storage, 'GET', 'authenticated/' + path)[0] == 500 and row(server, path)
    assert call(storage, 'DELETE', path)[0] == 200 and row(server, path) is None


def test_a_server_that_is_restarted(server, storage):
    path = f'generations/{uuid.uuid4()}.png'
    assert call(storage, 'POST', path, b'before')[0] == 200
    server.stop()
    assert call(storage, 'GET', 'authenticated/' + path)[0] == 500
    server.start()
    assert wait_for(lambda: call(storage, 'GET', 'authenticated/' + path) == (200, b'before'), 20, 'the API to find its database again')
    storage.control('disconnect')
    wait_for(lambda: server.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'supabase_storage_admin'") == 0, 20, 'the connections to close')
    assert call(storage, 'GET', 'authenticated/' + path) == (200, b'before')


def test_listing(server, storage):
    folder = str(uuid.uuid4())
    for name in ('b.png', 'a.png', 'deep/x.png'):
        call(storage, 'POST', f'generations/{folder}/{name}', b'x')
    status, body = call(storage, 'POST', 'list/generations', json.dumps({'prefix': folder, 'limit': 10, 'offset': 0}), 'application/json')
    assert status == 200 and [(line['name'], line['id'] is None) for line in json.loads(body)] == [('a.png', False), ('b.png', False), ('deep', True)]


def test_the_log(storage):
    storage.reset()
    call(storage, 'POST', f'generations/{uuid.uuid4()}.png', b'x', x_upsert='true')
    seen, = storage.calls('upload')
    assert (seen['type'], seen['length'], seen['upsert'], seen['chunked'], seen['keys_equal']) == ('image/png', '1', 'true', False, True)
    assert SERVICE_KEY not in storage.emulator.control('log')
