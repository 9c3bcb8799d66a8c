"""Photos behind the Storage API: each step, each failure of it, and never a credit lost.

The Storage's log is the truth about what was asked of it, Gemini's about what was paid.
"""

import time
import urllib.request

import pytest
from background import together
from conftest import User, fresh_photo, sha256
from sparky_server import Refused, process_alive, wait_for

SERVER = {'storage': 'supabase'}
CONF = ['sparky.lease_time = 3s', 'sparky.storage_timeout = 10s', 'sparky.uploads_per_hour = 1000', "sparky.public_url = 'https://api.example.com/rest/v1'",
        'restart_after_crash = on']


def uploads_of(storage, path):
    return [call for call in storage.calls('upload') if call['key'] == path]


def fetches_of(storage, path):
    return [call for call in storage.calls('download') if call['key'] == path]


def result_path(user, job):
    return f"generations/{user.id}/{job}.png"


def open_link(link):
    """What a browser gets: no key, no header."""
    try:
        with urllib.request.urlopen(link, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def link_base(server, storage):
    """Links lead to the server itself, so that the tests can open them."""
    server.reload(f"sparky.storage_public_url = '{storage.url}'")
    yield
    server.reload("sparky.storage_public_url = ''")


# ---- the way of a photo

def test_a_photo_goes_there_and_back(server, emulator, storage, user):
    image = fresh_photo()
    up = user.api.upload(image)
    assert up['path'] == f'user_uploads/{user.id}/{sha256(image)}.png' and up['sha256'] == sha256(image)
    sent, = uploads_of(storage, up['path'])
    assert (sent['type'], sent['length'], sent['upsert'], sent['chunked']) == ('image/png', str(len(image)), 'true', False)
    assert sent['sha'] == sha256(image) and sent['cache']
    assert server.value('SELECT count(*) FROM sparky.stored_files') == 0

    result = user.api.process('cartoon', up['path'])
    assert result['status'] == 'succeeded' and result['image_path'] == result_path(user, result['job_id'])
    # the digest came with the upload: the photo is fetched for the call alone, and compared
    assert len(fetches_of(storage, up['path'])) == 1
    stored, = uploads_of(storage, result['image_path'])
    assert (stored['type'], stored['upsert'], stored['chunked']) == ('image/png', 'true', False)
    call, = emulator.calls()
    assert call['image_sha256'] == sha256(image)
    assert storage.get(result['image_path']) == user.api.call('SELECT public.download_image(%s)::bytea', (result['image_path'],))[0][0].tobytes()
    user.assert_money(credits=9, usage=1)

    hit = user.api.process('cartoon', up['path'])
    assert hit['cached'] is True and hit['image_path'] == result['image_path']
    assert len(fetches_of(storage, up['path'])) == 1 and len(emulator.calls()) == 1
    assert user.api.upload(image) == up and len(uploads_of(storage, up['path'])) == 1


def test_an_analysis_stores_nothing(server, emulator, storage, user):
    path = user.photo()
    storage.reset()
    result = user.api.analyze('face-shape', path)
    assert result['status'] == 'succeeded' and result['analysis']
    assert storage.calls('upload') == [] and len(storage.calls('download')) == 1
    user.assert_money(credits=9, usage=1)


def test_downloads_say_what_the_bytes_are(server, storage, user):
    path = storage.put(f'user_uploads/{user.id}/note.png', b'<html>no picture</html>')
    rows = user.api.call("WITH f AS MATERIALIZED (SELECT public.download_image(%s)::bytea AS b) SELECT b, current_setting('response.headers') FROM f", (path,),
                         method='GET')
    assert rows[0][0].tobytes() == b'<html>no picture</html>'
    assert '"Content-Type":"application/octet-stream"' in rows[0][1] and 'nosniff' in rows[0][1]


def test_a_download_in_a_read_only_transaction(storage, user):
    image = fresh_photo()
    path = user.api.upload(image)['path']
    assert user.api.call('SELECT public.download_image(%s)::bytea', (path,), method='GET')[0][0].tobytes() == image


def test_whose_files_they_are(storage, user, make_user):
    other = make_user()
    path = user.photo()
    with pytest.raises(Refused) as refused:
        other.api.call('SELECT public.download_image(%s)', (path,))
    assert refused.value.word == 'forbidden'
    with pytest.raises(Refused) as refused:
        other.api.process('cartoon', path)
    assert refused.value.word == 'forbidden'
    with pytest.raises(Refused) as refused:
        user.api.call('SELECT public.download_image(%s)', (f'user_uploads/{user.id}/none.png',))
    assert refused.value.word == 'image_not_found'


# ---- the digest of a photo that a client uploaded by himself

def test_a_client_s_upload_is_read_once(server, emulator, storage, user):
    image = fresh_photo()
    path = storage.put(f'user_uploads/{user.id}/selfie one.png', image)
    first = user.api.process('cartoon', path)
    assert first['status'] == 'succeeded' and len(fetches_of(storage, path)) == 2          # its digest, then the call
    row = storage.row(path)
    known = server.row('SELECT sha256, mime_type, size FROM sparky.image_hashes WHERE object_id = %s AND version = %s', (row['id'], row['version']))
    assert known == (sha256(image), 'image/png', len(image))
    assert user.api.process('cartoon', path)['cached'] is True
    assert len(fetches_of(storage, path)) == 2
    # the same photo under another name is the same request
    copy = storage.put(f'user_uploads/{user.id}/copy.png', image)
    assert user.api.process('cartoon', copy)['cached'] is True and len(emulator.calls()) == 1
    user.assert_money(credits=9, usage=1)


def test_another_version_is_read_anew(server, emulator, storage, user):
    path = storage.put(f'user_uploads/{user.id}/photo.png', fresh_photo())
    user.api.process('cartoon', path)
    other = fresh_photo()
    storage.put(path, other)
    assert user.api.process('cartoon', path)['cached'] is False
    assert [call['image_sha256'] for call in emulator.calls()][1] == sha256(other)
    user.assert_money(credits=8, usage=2)


def test_many_callers_share_one_reading(server, emulator, storage, make_user):
    user = make_user()
    path = storage.put(f'user_uploads/{user.id}/shared.png', fresh_photo())
    sessions = [user.another_session() for _ in range(6)]
    storage.script({'op': 'download', 'delay': 0.5, 'times': 1})
    results = together(*[lambda s=s: s.process('cartoon', path, wait_seconds=0) for s in sessions])
    assert len({result['job_id'] for result in results}) == 1, results
    user.api.finish(results[0]['job_id'])
    assert len(fetches_of(storage, path)) == 2 and len(emulator.calls()) == 1
    user.assert_money(credits=9, usage=1)
    for session in sessions:
        session.close()


@pytest.mark.parametrize('data, word', [(b'', 'image_type'), (b'not an image', 'image_type'), (b'\x89PNG\r\n\x1a\n' + b'x' * 200, 'image_type')])
def test_what_is_no_photo(server, emulator, storage, user, data, word):
    """Refused before a job is born; the bytes are not fetched again."""
    path = storage.put(f'user_uploads/{user.id}/file.png', data)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            user.api.process('cartoon', path)
        assert refused.value.word == word
    assert len(fetches_of(storage, path)) == 1
    assert user.count('public.generation_jobs') == 0 and user.held() == 0


def test_a_photo_that_is_too_large_is_not_even_fetched(server, storage, user):
    path = storage.put(f'user_uploads/{user.id}/big.png', fresh_photo() + bytes(200000))
    server.reload('sparky.max_image_bytes = 100000')
    try:
        with pytest.raises(Refused) as refused:
            user.api.process('cartoon', path)
        assert refused.value.word == 'image_too_large' and fetches_of(storage, path) == []
    finally:
        server.reload('sparky.max_image_bytes = 7340032')


def test_a_row_without_its_file(server, emulator, storage, user):
    server.query("INSERT INTO storage.objects (bucket_id, name, version, metadata) VALUES ('user_uploads', %s, 'v', '{\"size\": 10}')", (f'{user.id}/ghost.png',))
    with pytest.raises(Refused) as refused:
        user.api.process('cartoon', f'user_uploads/{user.id}/ghost.png')
    assert refused.value.word == 'image_not_found' and user.count('public.generation_jobs') == 0


def test_a_slow_reading_is_kept_for_the_repeat(server, emulator, storage, user):
    path = storage.put(f'user_uploads/{user.id}/slow.png', fresh_photo())
    server.reload('sparky.accept_timeout = 500ms')
    try:
        storage.script({'op': 'download', 'delay': 4, 'times': 1})
        began = time.monotonic()
        with pytest.raises(Refused) as refused:
            user.api.process('cartoon', path)
        assert refused.value.word == 'overloaded' and time.monotonic() - began < 3.9
        assert user.count('public.generation_jobs') == 0
        wait_for(lambda: server.value('SELECT count(*) FROM sparky.image_hashes WHERE object_id = %s', (storage.row(path)['id'],)), 20, 'the digest')
    finally:
        server.reload('sparky.accept_timeout = 5s')
    assert user.api.process('cartoon', path)['status'] == 'succeeded'
    assert len(fetches_of(storage, path)) == 2
    user.assert_money(credits=9, usage=1)


def test_a_session_is_free_while_its_abandoned_errand_runs(server, emulator, storage, user):
    """The worker still fetches for a call that has given up; the same session's next request does not wait for it."""
    slow, quick = storage.put(f'user_uploads/{user.id}/slow.png', fresh_photo()), user.photo()
    server.reload('sparky.accept_timeout = 1500ms')
    try:
        storage.script({'op': 'download', 'key': slow, 'delay': 6, 'times': 1})
        with pytest.raises(Refused):
            user.api.process('cartoon', slow)
        began = time.monotonic()
        assert user.api.process('cartoon', quick)['status'] == 'succeeded' and time.monotonic() - began < 4
    finally:
        server.reload('sparky.accept_timeout = 5s')
    user.assert_money(credits=9, usage=1)


# ---- every error code, at every step: code, HTTP, statusCode

CODES = [('NoSuchKey', 400, '404'), ('NoSuchBucket', 400, '404'), ('AccessDenied', 400, '403'), ('InvalidRequest', 400, '400'), ('EntityTooLarge', 400, '413'),
         ('InvalidMimeType', 400, '415'), ('InvalidKey', 400, '400'), ('SlowDown', 429, '429'), ('InternalError', 500, '500')]
HASH = {'NoSuchKey': 'image_not_found', 'NoSuchBucket': 'not_configured', 'AccessDenied': 'not_configured', 'InvalidRequest': 'not_configured',
        'EntityTooLarge': 'image_too_large', 'InvalidMimeType': 'image_type', 'InvalidKey': 'image_not_found', 'SlowDown': 'overloaded', 'InternalError': 'image_not_found'}
FETCH = {'NoSuchKey': 'image_not_found', 'NoSuchBucket': 'not_configured', 'AccessDenied': 'not_configured', 'InvalidRequest': 'not_configured',
         'EntityTooLarge': 'overloaded', 'InvalidMimeType': 'overloaded', 'InvalidKey': 'image_not_found', 'SlowDown': 'overloaded', 'InternalError': 'image_not_found'}
UPLOAD = {**HASH, 'InternalError': 'overloaded', 'NoSuchKey': 'image_not_found'}


@pytest.mark.parametrize('code, http, status', CODES, ids=[c[0] for c in CODES])
def test_errors_while_reading_the_digest(server, emulator, storage, user, code, http, status):
    path = storage.put(f'user_uploads/{user.id}/photo.png', fresh_photo())
    storage.script({'op': 'download', 'code': code, 'http': http, 'status': status, 'times': -1})
    with pytest.raises(Refused) as refused:
        user.api.process('cartoon', path)
    assert refused.value.word == HASH[code]
    assert user.count('public.generation_jobs') == 0
    storage.script()
    assert user.api.process('cartoon', path)['status'] == 'succeeded'
    user.assert_money(credits=9, usage=1)


@pytest.mark.parametrize('code, http, status', CODES, ids=[c[0] for c in CODES])
def test_errors_while_fetching(server, emulator, storage, user, code, http, status):
    """The job fails, no call is made, nothing is charged, and it does not count against the user."""
    path = user.photo()
    storage.script({'op': 'download', 'code': code, 'http': http, 'status': status, 'times': -1})
    result = user.api.process('cartoon', path)
    assert result['status'] == 'failed' and result['error']['code'] == FETCH[code]
    assert emulator.calls() == [] and user.provider_calls() == []
    tries = len(fetches_of(storage, path))
    assert tries == (3 if FETCH[code] == 'overloaded' else 1)
    user.assert_money(credits=10, usage=0)


@pytest.mark.parametrize('code, http, status', CODES, ids=[c[0] for c in CODES])
def test_errors_while_storing(server, emulator, storage, user, code, http, status):
    """The answer is paid for: it waits, and is stored when storage takes it; charged once, no second call."""
    path = user.photo()
    storage.script({'op': 'upload', 'code': code, 'http': http, 'status': status, 'times': 3})
    result = user.api.process('cartoon', path, wait_seconds=15)
    assert result['status'] == 'succeeded', (result, user.job(result['job_id']))
    assert len(uploads_of(storage, result['image_path'])) == 4 and len(emulator.calls()) == 1
    assert [call['charged'] for call in user.provider_calls()] == [True]
    assert server.value('SELECT count(*) FROM sparky.answers') == 0
    user.assert_money(credits=9, usage=1)


@pytest.mark.parametrize('code, http, status', CODES, ids=[c[0] for c in CODES])
def test_errors_while_uploading(server, storage, user, code, http, status):
    image = fresh_photo()
    storage.script({'op': 'upload', 'code': code, 'http': http, 'status': status, 'times': -1})
    with pytest.raises(Refused) as refused:
        user.api.upload(image)
    assert refused.value.word == UPLOAD[code]
    storage.script()
    assert user.api.process('cartoon', user.api.upload(image)['path'])['status'] == 'succeeded'


@pytest.mark.parametrize('rule', [{'code': 'SlowDown', 'http': 429, 'status': '429'}, {'code': 'InternalError', 'http': 503, 'status': '503'}, {'fault': 'reset'}],
                         ids=['SlowDown', '503', 'reset'])
def test_a_passing_trouble_is_not_seen(server, emulator, storage, user, rule):
    """Once at each step, and the request goes through."""
    storage.script({'op': 'upload', 'times': 1, **rule})
    path = user.photo()
    for op in ('download', 'upload', 'sign'):
        storage.script({'op': op, 'times': 1, **rule})
        result = user.api.process('cartoon', path, refresh=True)
        assert result['status'] == 'succeeded' and 'image_url' in result, (op, result)
    assert len(emulator.calls()) == 3
    user.assert_money(credits=7, usage=3)


# ---- links

def test_a_link_opens_and_expires(server, emulator, storage, user, link_base):
    result = user.api.process('cartoon', user.photo())
    status, body = open_link(result['image_url'])
    assert status == 200 and body == storage.get(result['image_path'])
    sign = storage.calls('sign')[-1]
    assert sign['key'] == result['image_path']
    assert open_link(result['image_url'][:-4] + 'AAAA')[0] == 400
    assert open_link(result['image_url'].replace(result['job_id'], str(user.id)))[0] == 400
    assert storage.key not in result['image_url']


def test_where_links_lead(server, emulator, storage, user):
    """Beside PostgREST where Supabase's gateway has it; the setting goes first; else as the server itself reaches it."""
    path = user.photo()
    first = user.api.process('cartoon', path)
    assert first['image_url'].startswith('https://api.example.com/storage/v1/object/sign/generations/')
    try:
        server.reload("sparky.storage_public_url = 'https://files.example.com/s'")
        assert user.api.process('cartoon', path)['image_url'].startswith('https://files.example.com/s/object/sign/')
        server.reload("sparky.storage_public_url = ''", "sparky.public_url = 'https://api.example.com'")
        assert user.api.process('cartoon', path)['image_url'].startswith(storage.url + '/object/sign/')
    finally:
        server.reload("sparky.storage_public_url = ''", *[line for line in CONF if 'public_url' in line])


def test_without_a_link_the_path_comes_alone(server, emulator, storage, user):
    path = user.photo()
    storage.script({'op': 'sign', 'code': 'AccessDenied', 'http': 400, 'status': '403', 'times': -1})
    result = user.api.process('cartoon', path)
    assert result['status'] == 'succeeded' and result['image_path'] and 'image_url' not in result
    storage.script({'op': 'sign', 'delay': 10, 'times': -1})
    began = time.monotonic()
    result = user.api.process('cartoon', path)
    assert result['cached'] is True and 'image_url' not in result and time.monotonic() - began < 9
    # the statement's own time is kept as well: it is not cancelled
    result = user.api.process('cartoon', path, timeout='1500ms')
    assert result['cached'] is True and 'image_url' not in result


# ---- storage is away

def test_storage_away_after_a_paid_answer(server, emulator, storage, make_user):
    """Five answers wait in sparky.answers, health() says so, and when storage returns each is stored and charged once."""
    users = [make_user() for _ in range(5)]
    paths = [user.photo() for user in users]
    said = server.log().count('storage does not work (storing a result)')
    storage.script({'op': 'upload', 'code': 'InternalError', 'http': 503, 'status': '503', 'times': -1})
    errors = server.value("SELECT (sparky.counters() ->> 'storage_errors')::int")
    jobs = [user.api.process('cartoon', path, wait_seconds=0)['job_id'] for user, path in zip(users, paths)]
    wait_for(lambda: server.value('SELECT count(*) FROM sparky.answers') == 5, 20, 'five answers')
    health = wait_for(lambda: (h := server.value('SELECT sparky.health()'))['problems'] and h, 20, 'health to tell')
    assert health['ok'] is False and health['answered_waiting'] == 5 and 'storage does not work' in ' '.join(health['problems'])
    stats = server.value('SELECT sparky.stats()')['storage']
    assert stats['answers_waiting'] == 5 and stats['errors'] > errors
    for user, job in zip(users, jobs):
        assert user.api.status(job)['status'] == 'running' and user.held() == 1 and user.credits() == 10
    # one asks for all, ever less often
    before = len(storage.calls('upload'))
    time.sleep(2)
    assert len(storage.calls('upload')) - before <= 8
    assert server.log().count('storage does not work (storing a result)') - said <= 1
    storage.script()
    for user, job in zip(users, jobs):
        result = user.api.finish(job, 20)
        assert result['status'] == 'succeeded' and storage.get(result['image_path'])
        user.assert_money(credits=9, usage=1)
    assert len(emulator.calls()) == 5 and server.value('SELECT count(*) FROM sparky.answers') == 0
    wait_for(lambda: server.value('SELECT sparky.health()')['problems'] == [], 20, 'health to be well again')


def test_storage_away_for_too_long(server, emulator, storage, user):
    """Past storage_deadline the answer is given up: failed, uncharged, its bytes dropped."""
    path = user.photo()
    server.reload('sparky.storage_deadline = 2s')
    try:
        storage.script({'op': 'upload', 'code': 'EntityTooLarge', 'http': 400, 'status': '413', 'times': -1})
        job = user.api.process('cartoon', path, wait_seconds=0)['job_id']
        wait_for(lambda: any('EntityTooLarge' in problem for problem in server.value('SELECT sparky.health()')['problems']), 20, 'health to name it')
        result = user.api.finish(job, 20)
        assert result['status'] == 'failed' and result['error']['code'] == 'provider_failed'
        assert server.value('SELECT count(*) FROM sparky.answers') == 0
        assert [call['charged'] for call in user.provider_calls()] == [False]
        user.assert_money(credits=10, usage=0)
    finally:
        server.reload('sparky.storage_deadline = 1d')


def test_nothing_listens_there(server, emulator, storage, user):
    path = user.photo()
    known = user.api.process('cartoon', path)
    server.reload("sparky.storage_url = 'http://127.0.0.1:9/storage/v1'")
    try:
        hit = user.api.process('cartoon', path)
        assert hit['cached'] is True and hit['image_path'] == known['image_path'] and 'image_url' not in hit
        result = user.api.process('vintage', path)
        assert result['status'] == 'failed' and result['error']['code'] == 'overloaded'
        with pytest.raises(Refused) as refused:
            user.api.upload(fresh_photo())
        assert refused.value.word == 'overloaded'
    finally:
        server.reload(f"sparky.storage_url = '{storage.url}'")
    assert user.api.process('vintage', path)['status'] == 'succeeded'
    user.assert_money(credits=8, usage=2)


def test_plain_http_only_where_it_is_allowed(server, emulator, storage, user):
    path = user.photo()
    server.reload("sparky.storage_url = 'http://storage.invalid:8000/storage/v1'")
    try:
        result = user.api.process('cartoon', path)
        assert result['status'] == 'failed' and result['error']['code'] == 'not_configured'
        assert any('plain http' in problem for problem in server.value('SELECT sparky.health()')['problems'])
        server.reload("sparky.plain_http_hosts = 'storage.invalid'")
        result = user.api.process('vintage', path)
        assert result['status'] == 'failed' and result['error']['code'] == 'overloaded'         # allowed now, and not there
    finally:
        server.reload(f"sparky.storage_url = '{storage.url}'", "sparky.plain_http_hosts = ''")
    user.assert_money(credits=10, usage=0)


def test_a_photo_replaced_while_its_job_waits(server, emulator, storage, user):
    """The job was accepted for other bytes: it fails, uncharged."""
    path = storage.put(f'user_uploads/{user.id}/photo.png', fresh_photo())
    user.api.process('vintage', path)                   # the digest is known
    before = len(fetches_of(storage, path))
    storage.script({'op': 'download', 'delay': 4, 'times': 1})
    job = user.api.process('cartoon', path, wait_seconds=0)['job_id']
    wait_for(lambda: len(fetches_of(storage, path)) > before, 20, 'the download to be asked for')
    storage.script()
    storage.put(path, fresh_photo())
    result = user.api.finish(job)
    assert result['status'] == 'failed' and result['error']['code'] == 'image_not_found'
    assert len(emulator.calls()) == 1
    user.assert_money(credits=9, usage=1)


def test_cancel_while_fetching(server, emulator, storage, user):
    path = user.photo()
    storage.hold()
    job = user.api.process('cartoon', path, wait_seconds=0)['job_id']
    wait_for(lambda: user.job(job)['status'] == 'fetching', 20, 'fetching')
    assert user.api.rpc('cancel_generation', job_id=job)['status'] == 'cancelled'
    storage.release()
    time.sleep(0.5)
    assert emulator.calls() == [] and user.job(job)['status'] == 'cancelled'
    user.assert_money(credits=10, usage=0)


# ---- deaths

def stage_fetching(emulator, storage):
    storage.script({'op': 'download', 'delay': 5, 'times': 1})
    return 'fetching'


def stage_generating(emulator, storage):
    emulator.hold()
    return 'generating'


def stage_answered(emulator, storage):
    storage.script({'op': 'upload', 'code': 'InternalError', 'http': 503, 'status': '503', 'times': -1})
    return 'answered'


def stage_storing(emulator, storage):
    storage.script({'op': 'upload', 'delay': 5, 'times': 1})
    return 'storing'


@pytest.mark.parametrize('death', ['kill', 'terminate'])
@pytest.mark.parametrize('stage', [stage_fetching, stage_generating, stage_answered, stage_storing], ids=lambda f: f.__name__[6:])
def test_the_worker_dies(server, emulator, storage, user, stage, death):
    """At any stage: one delivery, one charge, at most one more call, and none after the answer was committed."""
    path = user.photo()
    status = stage(emulator, storage)
    job = user.api.process('cartoon', path, wait_seconds=0)['job_id']
    wait_for(lambda: user.job(job)['status'] == status, 10, status)
    if status == 'generating':
        emulator.wait_calls(1)
    worker = server.worker_pid()
    if death == 'kill':
        server.crash(worker)
        user.api.close()
    else:
        server.value('SELECT pg_terminate_backend(%s)', (worker,))
        wait_for(lambda: not process_alive(worker))
    if status == 'generating':
        emulator.wait_calls(2)
    emulator.release()
    storage.script()
    result = user.api.finish(job, 20)
    assert result['status'] == 'succeeded' and storage.get(result['image_path'])
    assert len(emulator.calls()) == (2 if status == 'generating' else 1)
    assert sum(call['charged'] for call in user.provider_calls()) == 1
    assert user.count('public.generations') == 1 and server.value('SELECT count(*) FROM sparky.answers') == 0
    user.assert_money(credits=9, usage=1)


# ---- what goes away

def gone(storage, path):
    return storage.row(path) is None and storage.get(path) is None


def test_delete_upload(server, emulator, storage, user):
    path = user.photo()
    user.api.process('cartoon', path)
    assert user.api.rpc('delete_upload', path=path) == {'deleted': True}
    with pytest.raises(Refused) as refused:
        user.api.process('cartoon', path)               # at once, whether or not the worker has been there
    assert refused.value.word == 'image_not_found'
    wait_for(lambda: gone(storage, path), 20, 'the file to go')
    wait_for(lambda: server.value('SELECT count(*) FROM sparky.erasures') == 0, 20, 'the note to go')
    with pytest.raises(Refused) as refused:
        user.api.rpc('delete_upload', path=path)
    assert refused.value.word == 'image_not_found'


def test_a_rolled_back_delete_erases_nothing(server, storage, user):
    path = user.photo()
    user.api.rpc('delete_upload', path=path, commit=False)
    user.api.connection.rollback()
    time.sleep(1.5)
    assert storage.get(path) and storage.calls('delete') == []


def test_uploaded_again_it_stays(server, emulator, storage, user):
    """What is written after its deletion is another file."""
    storage.script({'op': 'delete', 'code': 'InternalError', 'http': 503, 'status': '503', 'times': 2})
    image = fresh_photo()
    path = user.api.upload(image)['path']
    user.api.rpc('delete_upload', path=path)
    assert user.api.upload(image)['path'] == path
    wait_for(lambda: server.value('SELECT count(*) FROM sparky.erasures') == 0, 20, 'the note to go')
    assert storage.get(path) == image
    assert user.api.process('cartoon', path)['status'] == 'succeeded'


def test_delete_generation(server, emulator, storage, user):
    path = user.photo()
    result = user.api.process('cartoon', path)
    assert user.api.rpc('delete_generation', id=result['generation_id']) == {'deleted': True}
    assert user.count('public.generations') == 0
    wait_for(lambda: gone(storage, result['image_path']), 20, 'the file to go')
    assert user.api.process('cartoon', path)['cached'] is False
    user.assert_money(credits=8, usage=2)


def test_erasing_is_tried_until_it_works(server, storage, user):
    paths = [user.photo() for _ in range(3)]
    storage.script({'op': 'delete', 'code': 'AccessDenied', 'http': 400, 'status': '403', 'times': -1})
    for path in paths:
        user.api.rpc('delete_upload', path=path)
    note = wait_for(lambda: server.row('SELECT attempts, last_error FROM sparky.erasures WHERE attempts > 0'), 20, 'a failed try')
    assert 'AccessDenied' in note[1]
    storage.script()
    wait_for(lambda: all(gone(storage, path) for path in paths), 20, 'the files to go')
    wait_for(lambda: server.value('SELECT count(*) FROM sparky.erasures') == 0, 20, 'the notes to go')


def test_a_deleted_account_takes_its_files(server, emulator, storage):
    user = User(server)
    result = user.api.process('cartoon', user.photo())
    paths = [result['image_path'], user.photo(), storage.put(f'user_uploads/{user.id}/sub/own name.png', fresh_photo())]
    user.api.close()
    server.query('DELETE FROM auth.users WHERE id = %s', (user.id,))
    wait_for(lambda: all(gone(storage, path) for path in paths), 20, 'the files to go')


def test_a_deleted_account_takes_what_was_uploaded_again(server, storage):
    """A note of the photo that had this path before must not spare the one that has it now."""
    user = User(server)
    storage.script({'op': 'delete', 'code': 'InternalError', 'http': 503, 'status': '503', 'times': 3})
    image = fresh_photo()
    path = user.api.upload(image)['path']
    user.api.rpc('delete_upload', path=path)
    assert user.api.upload(image)['path'] == path
    user.api.close()
    server.query('DELETE FROM auth.users WHERE id = %s', (user.id,))
    wait_for(lambda: server.value('SELECT count(*) FROM sparky.erasures') == 0, 30, 'the note to go')
    assert gone(storage, path)


@pytest.mark.parametrize('stage', [stage_fetching, stage_generating, stage_answered, stage_storing], ids=lambda f: f.__name__[6:])
def test_an_account_deleted_in_mid_job(server, emulator, storage, stage):
    """Nothing is stored, or what was stored is erased."""
    user = User(server)
    path = user.photo()
    status = stage(emulator, storage)
    job = user.api.process('cartoon', path, wait_seconds=0)['job_id']
    wait_for(lambda: user.job(job)['status'] == status, 10, status)
    user.api.close()
    server.query('DELETE FROM auth.users WHERE id = %s', (user.id,))
    emulator.release()
    storage.script()
    storage.wait_idle()
    time.sleep(0.5)
    wait_for(lambda: server.value("SELECT count(*) FROM storage.objects WHERE name LIKE %s", (f'{user.id}/%',)) == 0, 20, 'every file to go')
    assert server.value('SELECT count(*) FROM sparky.answers') == 0


def test_orphans(server, emulator, storage, user):
    """Results without a history row go a day later; what is not ours stays."""
    kept = user.api.process('cartoon', user.photo())['image_path']
    orphan = storage.put(f'generations/{user.id}/00000000-0000-4000-8000-000000000001.png', fresh_photo())
    fresh = storage.put(f'generations/{user.id}/00000000-0000-4000-8000-000000000002.png', fresh_photo())
    stranger = storage.put('generations/00000000-0000-4000-8000-00000000000f/00000000-0000-4000-8000-000000000003.png', fresh_photo())
    album = storage.put(f'generations/{user.id}/album.png', fresh_photo())
    server.psql(f"""SET session_replication_role = replica;
        UPDATE storage.objects SET created_at = now() - interval '2 days', updated_at = now() - interval '2 days'
        WHERE bucket_id = 'generations' AND bucket_id || '/' || name <> '{fresh}'""")
    server.psql('CALL sparky.cleanup_storage()')
    wait_for(lambda: gone(storage, orphan), 20, 'the orphan to go')
    wait_for(lambda: server.value('SELECT count(*) FROM sparky.erasures') == 0, 20, 'the notes to go')
    assert all(storage.get(path) for path in (kept, fresh, stranger, album))


# ---- limits

def test_quota_counts_what_storage_tells(server, emulator, storage, user):
    storage.put(f'user_uploads/{user.id}/own.png', fresh_photo() + bytes(60000))
    server.reload('sparky.max_stored_bytes_per_user = 61000')
    try:
        with pytest.raises(Refused) as refused:
            user.api.upload(fresh_photo() + bytes(2000))
        assert refused.value.word in ('storage_quota', 'image_type')
        with pytest.raises(Refused) as refused:
            user.api.upload(fresh_photo(width=64, height=64))
        assert refused.value.word == 'storage_quota'
        user.api.rpc('delete_upload', path=f'user_uploads/{user.id}/own.png')
        assert user.api.upload(fresh_photo(width=64, height=64))          # at once
    finally:
        server.reload('sparky.max_stored_bytes_per_user = 200MB')


def test_a_gone_result_is_a_miss(server, emulator, storage, user):
    path = user.photo()
    first = user.api.process('cartoon', path)
    storage.remove(first['image_path'])
    again = user.api.process('cartoon', path)
    assert again['cached'] is False and again['image_path'] != first['image_path']
    assert user.api.process('cartoon', path)['image_path'] == again['image_path']
    user.assert_money(credits=8, usage=2)


# ---- secrets, and the form of every request

def test_secrets_are_nowhere(server, storage, user):
    """Not in the log, not in a table, not in a link, not in health()."""
    log = server.log()
    assert storage.key not in log and 'PANIC' not in log and 'signal 11' not in log and 'TRAP' not in log
    for table, column in (('sparky.provider_calls', 'message'), ('sparky.erasures', 'last_error'), ('public.generation_jobs', 'error_message')):
        assert server.value(f'SELECT count(*) FROM {table} WHERE {column} LIKE %s', (f'%{storage.key}%',)) == 0
    assert storage.key not in str(server.value('SELECT sparky.health()'))
