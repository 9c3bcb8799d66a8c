"""Every public function as PostgREST calls it, in Supabase's shape: roles with timeouts, default grants, safeupdate.

No PostgREST binary is needed: postgrest_call.py says the same SQL.  test/js has the same cases for where there is one.
"""

import json
import re
import time
import urllib.parse

import pytest
from conftest import fresh_photo
from postgrest_call import PostgREST, functions
from sparky_server import wait_for
from supabase_shape import SHAPE, make_database

SERVER = SHAPE
FOR_ANYBODY = {'download_image', 'paymob_webhooks'}
OVERLOADED = {'paymob_webhooks'}
RESULT_KEYS = {'job_id', 'status', 'cached', 'generation_id', 'image_path', 'image_url', 'analysis', 'credits_used', 'credits_remaining', 'error'}
# something of the right type for each argument
SAMPLE = {'text': 'x', 'jsonb': {}, 'json': {}, 'integer': 1, 'bigint': 1, 'boolean': False, 'uuid': '00000000-0000-0000-0000-000000000001',
          'timestamp with time zone': '2026-01-01T00:00:00Z', 'bytea': b'x'}


@pytest.fixture
def api(server, user):
    with PostgREST(server, user.id) as api:
        yield api


def upload(api, photo=None):
    response = api.post('upload_image', body=photo or fresh_photo(), content_type='application/octet-stream')
    assert response.status == 200, response
    return response.body['path']


def sample_call(api, function, method='POST'):
    if function.unnamed():
        body = {'bytea': b'x', 'text': 'x'}.get(function.types[0], '{}')
        return api.request(method, function.name, body, 'application/octet-stream' if function.types[0] == 'bytea' else 'application/json')
    return api.request(method, function.name, {n: SAMPLE[t] for n, t in list(zip(function.names, function.types))[:function.required]})


# ---- what the catalogue says

def test_the_catalogue(server):
    cache = functions(server)
    assert {f.name for f in cache} >= {'process_image', 'analyze_face', 'generation_status', 'cancel_generation', 'delete_generation', 'delete_upload',
                                       'my_account', 'my_usage', 'upload_image', 'download_image'}
    for f in cache:
        summary, blank, description = (f.comment or '').partition('\n\n')
        assert blank and description and '\n' not in summary and summary.endswith('.') and len(summary) < 100, f
        assert not {'record', 'void'} & {f.result} or f.returns_set, f          # a type that generators of client types can use
        assert all(f.names) or f.unnamed(), f
    names = [f.name for f in cache]
    assert {n for n in names if names.count(n) > 1} <= OVERLOADED


def test_functions_that_wait_lift_the_timeout(server):
    waiting = [f for f in functions(server) if 'wait_seconds' in f.names or f.name == 'create_checkout']
    assert len(waiting) >= 3
    for f in waiting:
        assert f.config.get('statement_timeout') == '60s', f.name


def test_who_may_call(server):
    for role, may in server.query("""SELECT r.rolname::text, bool_and(has_function_privilege(r.rolname, p.oid, 'EXECUTE'))
            FROM pg_proc p, pg_roles r WHERE p.pronamespace = 'public'::regnamespace AND r.rolname IN ('anon', 'authenticated', 'service_role') GROUP BY 1"""):
        assert may, role
    assert server.value("SELECT count(*) FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
                        " WHERE p.pronamespace = 'public'::regnamespace AND a.grantee = 0") == 0
    assert server.value("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef") == 0


def test_nobody_signed_in(server):
    """401 for every function that is for users, before anything else is looked at."""
    with PostgREST(server) as anonymous:
        called = 0
        for function in anonymous.cache:
            if function.name in FOR_ANYBODY:
                continue
            response = sample_call(anonymous, function)
            assert (response.status, response.sqlstate) == (401, 'PT401'), (function.name, response)
            assert response.body['message'].startswith('not_signed_in: ')
            called += 1
        assert called >= 9


def test_a_token_without_an_account(server):
    with PostgREST(server, '00000000-0000-0000-0000-00000000dead') as stranger:
        for name, body in (('my_account', {}), ('my_usage', {}), ('generation_status', {'job_id': SAMPLE['uuid']}), ('delete_upload', {'path': 'x'})):
            response = stranger.request('POST', name, body)
            assert (response.status, response.body['message'].split(':')[0]) in ((401, 'account_gone'), (403, 'forbidden')), (name, response)


def test_the_service_key(server):
    """A token of service_role has no user: it is not signed in here, and may read every table."""
    with PostgREST(server, role='service_role') as service:
        assert service.post('my_account').status == 401


def test_everything_answers_in_order(server, api):
    """Whatever is called with whatever sample: an answer, or one of our words; never a failure of the server."""
    for function in api.cache:
        response = sample_call(api, function)
        assert response.status in (200, 202, 401, 403, 404, 409, 413, 415, 422, 429, 503), (function.name, response)
        if response.status >= 400 and response.sqlstate:
            assert re.match(r'[a-z_]+: ', response.body['message']), (function.name, response)


# ---- one photo's way

def test_a_photo_s_way(server, emulator, user, api):
    response = api.post('upload_image', body=fresh_photo(), content_type='application/octet-stream')
    assert set(response.body) == {'path', 'sha256', 'mime_type', 'width', 'height'}
    path = response.body['path']
    response = api.post('process_image', tool_id='hairstyle-changer', original_image_storage_path=path, tool_parameters={'hairstyle_id': 'm-buzz-cut'}) \
        if server.value("SELECT count(*) FROM public.hairstyles WHERE id = 'm-buzz-cut' AND NOT is_pro") else \
        api.post('process_image', tool_id='vintage', original_image_storage_path=path)
    assert response.status == 200 and response.body['status'] == 'succeeded' and set(response.body) <= RESULT_KEYS, response
    image = api.get('download_image', path=response.body['image_path'])
    assert image.status == 200 and isinstance(image.body, bytes) and image.headers['Content-Type'].startswith('image/')
    assert image.headers['X-Content-Type-Options'] == 'nosniff' and 'private' in image.headers['Cache-Control']
    assert api.post('my_account').body['credits'] == 9
    usage = api.post('my_usage').body
    assert isinstance(usage, list) and set(usage[0]) == {'day', 'tool_id', 'requests', 'credits'} and usage[0]['credits'] == 1
    assert api.post('delete_generation', id=response.body['generation_id']).body == {'deleted': True}
    assert api.post('delete_upload', path=path).body == {'deleted': True}
    assert api.get('download_image', path=path).status == 404
    user.assert_money(credits=9, usage=1)


def test_analysis(server, emulator, api):
    response = api.post('analyze_face', tool_id='face-shape', original_image_storage_path=upload(api))
    assert response.status == 200 and isinstance(response.body['analysis'], dict) and set(response.body) <= RESULT_KEYS


def test_null_means_default(server, emulator, api):
    response = api.post('process_image', tool_id='vintage', original_image_storage_path=upload(api), tool_parameters=None, wait_seconds=None,
                        idempotency_key=None, refresh=None)
    assert response.body['status'] == 'succeeded'


def test_an_unknown_argument_is_no_function(server, api):
    assert api.post('process_image', tool_id='vintage', original_image_storage_path='x', tool='y').sqlstate == 'PGRST202'


# ---- a job that still runs

def test_202_says_where_to_ask(server, emulator, api):
    emulator.hold()
    path = upload(api)
    response = api.post('process_image', tool_id='vintage', original_image_storage_path=path, wait_seconds=0)
    assert response.status == 202 and response.body['status'] in ('queued', 'running')
    # relative to the call: right under any prefix that a gateway puts before it
    location = urllib.parse.urlsplit(urllib.parse.urljoin('https://example.com/rest/v1/rpc/process_image', response.headers['Location']))
    assert location.path == '/rest/v1/rpc/generation_status'
    query = dict(urllib.parse.parse_qsl(location.query))
    assert query == {'job_id': response.body['job_id']}
    again = api.get('generation_status', **query)
    assert again.status == 202 and again.headers['Location'] == response.headers['Location']
    emulator.release()
    done = api.post('generation_status', job_id=query['job_id'], wait_seconds=20)
    assert done.status == 200 and 'Location' not in done.headers and done.body['status'] == 'succeeded'
    # a job that failed is no error of the request
    emulator.script({'fault': 'refusal', 'times': 1})
    failed = api.post('process_image', tool_id='vintage', original_image_storage_path=upload(api))
    assert failed.status == 200 and failed.body['error']['code'] == 'refused'


def test_cancelling(server, emulator, user, api):
    server.reload('sparky.max_concurrent_calls = 1')
    try:
        emulator.hold()
        api.post('process_image', tool_id='vintage', original_image_storage_path=upload(api), wait_seconds=0)
        emulator.wait_calls(1)
        job = api.post('process_image', tool_id='vintage', original_image_storage_path=upload(api), wait_seconds=0).body['job_id']
        assert api.post('cancel_generation', job_id=job).body['status'] == 'cancelled'
    finally:
        emulator.release()
        server.reload('sparky.max_concurrent_calls = 256')
    wait_for(lambda: user.held() == 0, 20, 'the other one to end')


@pytest.mark.parametrize('role, seconds', [('anon', 3), ('authenticated', 8)])
def test_the_role_s_timeout_never_cancels_a_call(server, emulator, user, role, seconds):
    """Where PostgREST does not hoist (before 12.2) the role's timeout counts; the call returns the running job before it fires."""
    assert server.value("SELECT rolconfig FROM pg_roles WHERE rolname = %s", (role,)) == [f'statement_timeout={seconds}s']
    emulator.hold()
    with PostgREST(server, user.id, hoist=False) as api:
        if role == 'anon':
            api.role_settings = {'statement_timeout': '3s'}
        path = upload(api)
        start = time.monotonic()
        response = api.post('process_image', tool_id='vintage', original_image_storage_path=path, wait_seconds=25)
        took = time.monotonic() - start
        assert response.status == 202, response
        assert seconds - 1.5 < took < 20, took               # had it overrun its timer, it would have been cancelled
        response = api.post('generation_status', job_id=response.body['job_id'], wait_seconds=25)
        assert response.status == 202, response
    emulator.release()
    wait_for(lambda: user.held() == 0, 20, 'the job to end')


def test_the_hoisted_timeout_lets_a_call_wait_longer(server, emulator, user, api):
    emulator.hold()
    path = upload(api)
    start = time.monotonic()
    response = api.post('process_image', tool_id='vintage', original_image_storage_path=path, wait_seconds=10)
    took = time.monotonic() - start
    assert response.status == 202 and took >= 9.5, (response, took)
    emulator.release()
    wait_for(lambda: user.held() == 0, 20, 'the job to end')


# ---- reading and writing

def test_get_reads_and_does_not_write(server, emulator, user, api):
    path = upload(api)
    before = len(emulator.log())
    response = api.get('process_image', tool_id='vintage', original_image_storage_path=path)
    assert (response.status, response.sqlstate) == (405, '25006'), response
    assert len(emulator.log()) == before and user.count('public.generation_jobs') == 0         # refused before any paid call
    made = api.post('process_image', tool_id='vintage', original_image_storage_path=path).body
    hit = api.get('process_image', tool_id='vintage', original_image_storage_path=path)
    assert hit.status == 200 and hit.body['cached'] is True                                     # a hit writes nothing
    for name, arguments in (('delete_generation', {'id': made['generation_id']}), ('delete_upload', {'path': path})):
        assert api.get(name, **arguments).status == 405, name
    assert api.get('my_account').status == 200 and api.get('my_usage').status == 200
    assert api.get('generation_status', job_id=made['job_id']).body['status'] == 'succeeded'


# ---- errors as HTTP sees them

@pytest.mark.parametrize('status, word, arguments', [
    (404, 'tool_not_found', {'tool_id': 'nothing'}), (422, 'wrong_kind', {'tool_id': 'face-shape'}),
    (422, 'bad_parameters', {'tool_parameters': {'colour': 'red\r\nX-Evil: 1'}}), (403, 'forbidden', {'original_image_storage_path': 'user_uploads/other/x.png'}),
    (422, 'bad_parameters', {'tool_parameters': [1]})])
def test_error_words(server, emulator, api, status, word, arguments):
    response = api.post('process_image', **{'tool_id': 'vintage', 'original_image_storage_path': upload(api), **arguments})
    assert (response.status, response.sqlstate, response.body['message'].split(':')[0]) == (status, f'PT{status}', word), response


def test_402(server, emulator, user, api):
    server.query('UPDATE public.users SET credits = 0 WHERE id = %s', (user.id,))
    response = api.post('process_image', tool_id='vintage', original_image_storage_path=upload(api))
    assert (response.status, response.sqlstate) == (402, 'PT402')


def test_429_says_when_to_come_again(server, emulator, user, api):
    server.reload('sparky.uploads_per_hour = 1')
    try:
        upload(api)
        response = api.post('upload_image', body=fresh_photo(), content_type='application/octet-stream')
    finally:
        server.reload('sparky.uploads_per_hour = 60')
    assert (response.status, response.sqlstate) == (429, 'PT429') and 0 < int(response.headers['Retry-After']) <= 3600, response


def test_safeupdate_is_in_force(server, user):
    """Else the rest of this file would prove less."""
    with server.client(user.id) as client, pytest.raises(Exception, match='UPDATE requires a WHERE clause'):
        client.call("UPDATE public.users SET username = 'everybody'")


def test_tables_through_the_api(server, user, make_user):
    """What supabase.from(...) may do: own rows, own columns."""
    other = make_user()
    call = user.api.call
    assert call('SELECT id FROM public.users') == [(user.id,)]
    call("UPDATE public.users SET username = 'Nora' WHERE id = %s", (user.id,))
    with pytest.raises(Exception, match='permission denied'):
        call('UPDATE public.users SET credits = 1000 WHERE id = %s', (user.id,))
    call("UPDATE public.users SET username = 'mine now' WHERE id = %s", (other.id,))
    assert server.value('SELECT username FROM public.users WHERE id = %s', (other.id,)) != 'mine now'
    for table in ('generation_jobs', 'generations', 'credit_usage', 'credit_ledger', 'payments', 'notifications'):
        with pytest.raises(Exception, match='permission denied'):
            call(f"INSERT INTO public.{table} (user_id) VALUES (%s)", (user.id,))


# ---- PostgREST's own cache

def test_creating_it_reloads_the_schema_cache(server):
    listener = server.connect()
    listener.cursor().execute('LISTEN pgrst')
    server.query('CREATE DATABASE fresh')
    try:
        listener.close()
        make_database(server, 'fresh', storage=False)
        listener = server.connect('fresh')
        listener.cursor().execute('DROP EVENT TRIGGER pgrst_ddl_watch; LISTEN pgrst')      # by itself, without Supabase's help
        server.psql('CREATE EXTENSION sparky', db='fresh', user='postgres')

        def heard():
            listener.poll()
            return [n.payload for n in listener.notifies]
        assert 'reload schema' in wait_for(heard, 20, 'the notification')
    finally:
        listener.close()
        server.query('DROP DATABASE fresh WITH (FORCE)')


def test_the_shapes_are_json(server, emulator, api):
    """Numbers are numbers, absent keys are absent: what generated client types say of jsonb is up to the page, so it is checked here."""
    account = api.post('my_account').body
    assert {k: type(v) for k, v in account.items() if k in ('credits', 'held', 'available', 'debt', 'allowance', 'used_today', 'max_daily_credits')} == dict.fromkeys(
        ('credits', 'held', 'available', 'debt', 'allowance', 'used_today', 'max_daily_credits'), int)
    result = api.post('process_image', tool_id='vintage', original_image_storage_path=upload(api)).body
    assert isinstance(result['generation_id'], int) and isinstance(result['credits_used'], int) and json.dumps(result)
    assert None not in result.values()
