"""One photo end to end: upload, call, result, history, account; and the free second time."""

import json
import time
import uuid

import photos
import pytest
from conftest import User, fresh_photo, sha256
from sparky_server import Refused, wait_for

CONF = ["sparky.public_url = 'https://api.example.com'"]


def test_one_photo(server, emulator, user):
    emulator.answer('picture')
    photo = photos.real_photo() or photos.jpeg(4, 256, 256)
    upload = user.api.upload(photo)
    assert upload['sha256'] == sha256(photo) and upload['mime_type'] == 'image/jpeg'
    assert upload['path'].startswith(f'user_uploads/{user.id}/')
    assert user.api.upload(photo) == upload            # the same bytes, the same path

    result = user.api.process('cartoon', upload['path'])
    assert result['status'] == 'succeeded', result
    assert result['cached'] is False and result['credits_used'] == 1 and result['credits_remaining'] == 9
    assert 'error' not in result and 'analysis' not in result
    assert result['image_path'].startswith(f"generations/{user.id}/{result['job_id']}.")

    calls = emulator.calls()
    assert len(calls) == 1
    assert calls[0]['image_sha256'] == sha256(photo) and calls[0]['image_mime'] == 'image/jpeg' and calls[0]['kind'] == 'image'

    picture, headers = user.api.download(result['image_path'])
    assert picture != photo and len(picture) > 1000
    assert picture[:8] == b'\x89PNG\r\n\x1a\n' or picture[:2] == b'\xff\xd8'
    flat = {name.lower(): value for header in headers for name, value in header.items()}
    assert flat['content-type'] in ('image/png', 'image/jpeg') and flat['x-content-type-options'] == 'nosniff'

    user.assert_money(credits=9, usage=1)
    row = server.row('SELECT id, user_id, tool_id, image_url, job_id FROM public.generations WHERE user_id = %s', (user.id,))
    assert row == (result['generation_id'], user.id, 'cartoon', result['image_path'], uuid.UUID(result['job_id']))
    usage = server.row('SELECT tool_id, credits_used, job_id, generation_id FROM public.credit_usage WHERE user_id = %s', (user.id,))
    assert usage == ('cartoon', 1, uuid.UUID(result['job_id']), result['generation_id'])
    assert server.value('SELECT count(*) FROM sparky.answers') == 0

    call, = user.provider_calls()
    assert call['outcome'] == 'ok' and call['charged'] and call['http_status'] == 200 and call['finish_reason'] == 'STOP'
    assert call['usage']['totalTokenCount'] > 0 and call['model'] == calls[0]['model'] and call['bytes_received'] > len(picture)


def test_second_time_is_free(server, emulator, user):
    path = user.photo()
    first = user.api.process('hair-color', path, {'color': hair_color(server)})
    assert first['status'] == 'succeeded', first
    before = user.count('public.generations'), user.credits()
    second = user.api.process('hair-color', path, {'color': hair_color(server)})
    assert second['cached'] is True and second['credits_used'] == 0 and second['status'] == 'succeeded'
    assert 'job_id' not in second
    assert second['generation_id'] == first['generation_id'] and second['image_path'] == first['image_path']
    assert second['credits_remaining'] == 9
    assert (user.count('public.generations'), user.credits()) == before
    assert len(emulator.calls()) == 1
    # the same bytes under another name are the same photo
    server.query("UPDATE storage.objects SET name = name || '.copy' WHERE bucket_id || '/' || name = %s", (path,))
    assert user.api.process('hair-color', path + '.copy', {'color': hair_color(server)})['cached'] is True
    assert len(emulator.calls()) == 1


def test_other_parameters_photo_tool_or_user_are_other_requests(server, emulator, user, make_user):
    image = fresh_photo()
    path = user.api.upload(image)['path']
    user.api.process('retouch', path, {'strength': 'low'})
    user.api.process('retouch', path, {'strength': 'high'})
    user.api.process('vintage', path)
    user.api.process('vintage', user.photo())
    other = make_user()
    assert other.api.process('vintage', other.api.upload(image)['path'])['cached'] is False
    assert len(emulator.calls()) == 5
    user.assert_money(credits=6, usage=4)


def test_refresh_pays_again(emulator, user):
    path = user.photo()
    first = user.api.process('vintage', path)
    again = user.api.process('vintage', path, refresh=True)
    assert again['cached'] is False and again['job_id'] != first['job_id'] and again['credits_used'] == 1
    third = user.api.process('vintage', path)
    assert third['cached'] is True and third['generation_id'] == again['generation_id']
    assert len(emulator.calls()) == 2
    user.assert_money(credits=8, usage=2)


def test_refresh_that_fails_keeps_the_old_result(emulator, user):
    path = user.photo()
    first = user.api.process('vintage', path)
    emulator.script({'fault': 'refusal', 'times': 1})
    assert user.api.process('vintage', path, refresh=True)['status'] == 'failed'
    assert user.api.process('vintage', path)['generation_id'] == first['generation_id']
    user.assert_money(credits=9, usage=1)


def test_analysis(server, emulator, user):
    path = user.photo()
    result = user.api.analyze('face-shape', path)
    assert result['status'] == 'succeeded' and isinstance(result['analysis'], dict) and result['analysis'], result
    assert 'image_path' not in result and 'image_url' not in result
    again = user.api.analyze('face-shape', path)
    assert again['cached'] is True and again['analysis'] == result['analysis']
    call, = emulator.calls()
    assert call['kind'] == 'analysis'
    row = server.row('SELECT image_url, analysis FROM public.generations WHERE id = %s', (result['generation_id'],))
    assert row == (None, result['analysis'])
    user.assert_money(credits=9, usage=1)


def test_every_seeded_tool_works(server, emulator, rich):
    """Each tool with every value of its parameters' kinds, through the strict emulator."""
    path = rich.photo()
    style = server.value('SELECT id FROM public.hairstyles WHERE is_pro LIMIT 1')
    skin = server.value('SELECT hex_code FROM public.skin_colors LIMIT 1')
    background = server.value("SELECT parameter_schema #>> '{properties,background,enum,0}' FROM public.tools WHERE id = 'background'")
    parameters = {'hairstyle-changer': {'hairstyle_id': style, 'hair_color': hair_color(server)}, 'hair-color': {'color': hair_color(server)},
                  'skin-tone': {'color': skin}, 'background': {'background': background}, 'retouch': {'strength': 'medium'}}
    tools = server.query('SELECT id, type::text FROM public.tools WHERE is_active ORDER BY id')
    assert len(tools) >= 10
    for tool, kind in tools:
        call = rich.api.analyze if kind == 'ANALYSIS' else rich.api.process
        result = call(tool, path, parameters.get(tool, {}))
        assert result['status'] == 'succeeded', (tool, result)
    for call in emulator.calls():
        assert '{' not in call['prompt'] and '[[' not in call['prompt'], call['prompt']


def test_status(server, emulator, user):
    emulator.hold()
    started = user.api.process('cartoon', user.photo(), wait_seconds=0)
    assert started['status'] in ('queued', 'running') and 'credits_used' not in started and started['credits_remaining'] == 9
    assert user.held() == 1
    emulator.wait_calls(1)
    running = user.api.status(started['job_id'])
    assert running['status'] == 'running' and running['job_id'] == started['job_id']
    emulator.release()
    done = user.api.status(started['job_id'], wait_seconds=20)
    assert done['status'] == 'succeeded' and done['credits_used'] == 1
    again = user.api.status(started['job_id'])
    # a link is signed anew, for an hour from the second of its answer
    assert again.pop('image_url').split('?')[0] == done.pop('image_url').split('?')[0]
    assert again == done


def test_status_of_another_is_not_found(emulator, user, make_user):
    job = user.api.process('cartoon', user.photo())['job_id']
    for somebody, wanted in ((make_user().api, job), (user.api, uuid.uuid4())):
        with pytest.raises(Refused) as refused:
            somebody.status(wanted)
        assert (refused.value.status, refused.value.word) == (404, 'job_not_found')
        with pytest.raises(Refused) as refused:
            somebody.rpc('cancel_generation', job_id=wanted)
        assert (refused.value.status, refused.value.word) == (404, 'job_not_found')


def test_my_account(server, emulator, user):
    account = user.api.rpc('my_account')
    assert account['credits'] == 10 and account['held'] == 0 and account['available'] == 10 and account['debt'] == 0
    assert account['used_today'] == 0 and account['max_daily_credits'] == 10 and account['allowance'] == 10
    emulator.hold()
    started = user.api.process('cartoon', user.photo(), wait_seconds=0)
    account = user.api.rpc('my_account')
    assert (account['credits'], account['held'], account['available']) == (10, 1, 9)
    emulator.release()
    user.api.finish(started['job_id'])
    account = user.api.rpc('my_account')
    assert (account['credits'], account['held'], account['available'], account['used_today'], account['allowance']) == (9, 0, 9, 1, 9)
    rows = user.api.call('SELECT tool_id, requests, credits FROM public.my_usage()', method='GET')
    assert rows == [('cartoon', 1, 1)]


def test_cancel_before_the_call(server, emulator, user):
    """The model is paused by a 429, so the second job waits in the queue; no other test uses this model."""
    server.query("UPDATE sparky.tool_settings SET model = 'gemini-3-pro-image' WHERE tool_id = 'skin-tone'")
    color = {'color': server.value('SELECT hex_code FROM public.skin_colors LIMIT 1')}
    emulator.script({'fault': 'rate_limited', 'retryDelay': '20s', 'times': 1})
    first = user.api.process('skin-tone', user.photo(), color, wait_seconds=0)
    emulator.wait_calls(1)
    wait_for(lambda: user.job(first['job_id'])['status'] == 'queued', 20, 'the job to be queued again')
    second = user.api.process('skin-tone', user.photo(), color, wait_seconds=0)
    for job in (second, first):
        time.sleep(0.2)
        cancelled = user.api.rpc('cancel_generation', job_id=job['job_id'])
        assert cancelled['status'] == 'cancelled'
        assert user.api.rpc('cancel_generation', job_id=job['job_id'])['status'] == 'cancelled'
    assert len(emulator.calls()) == 1
    user.assert_money(credits=10, usage=0)


def test_cancel_too_late(emulator, user):
    emulator.hold()
    job = user.api.process('retouch', user.photo(), {'strength': 'low'}, wait_seconds=0)['job_id']
    emulator.wait_calls(1)
    with pytest.raises(Refused) as refused:
        user.api.rpc('cancel_generation', job_id=job)
    assert (refused.value.status, refused.value.word) == (409, 'too_late')
    emulator.release()
    assert user.api.finish(job)['status'] == 'succeeded'
    user.assert_money(credits=9, usage=1)


@pytest.mark.embedded('download_image signs; test_storage has the links of the Storage API')
def test_signed_link(server, emulator, user):
    """image_url opens without sign-in while it lives, and only what it was made for."""
    from urllib.parse import parse_qs, urlparse
    result = user.api.analyze('face-shape', user.photo())
    assert 'image_url' not in result
    result = user.api.process('cartoon', user.photo())
    link = urlparse(result['image_url'])
    assert result['image_url'].startswith('https://api.example.com/') and link.path.endswith('/rpc/download_image')
    query = {name: values[0] for name, values in parse_qs(link.query).items()}
    anonymous = server.client()
    picture, _ = anonymous.download(query['path'], expires=int(query['expires']), signature=query['signature'])
    assert picture == user.api.download(result['image_path'])[0]
    for changed in ({'signature': query['signature'][:-1] + ('0' if query['signature'][-1] != '0' else '1')},
                    {'expires': int(query['expires']) + 1}, {'path': query['path'].replace('generations/', 'user_uploads/')}):
        arguments = {'path': query['path'], 'expires': int(query['expires']), 'signature': query['signature'], **changed}
        with pytest.raises(Refused) as refused:
            anonymous.download(**arguments)
        assert refused.value.status == 403, changed
    with pytest.raises(Refused) as refused:
        anonymous.download(result['image_path'])
    assert refused.value.status in (401, 403)


def test_delete_generation(server, emulator, user):
    path = user.photo()
    result = user.api.process('cartoon', path)
    assert user.api.rpc('delete_generation', id=result['generation_id']) == {'deleted': True}
    with pytest.raises(Refused) as refused:
        user.api.download(result['image_path'])
    assert refused.value.status == 404
    assert server.value('SELECT count(*) FROM cache.kv_store WHERE value::text LIKE %s', (f"%{result['job_id']}%",)) == 0
    assert user.job(result['job_id'])['result'] is None
    assert user.api.status(result['job_id']).keys() == {'job_id', 'status', 'cached', 'credits_used', 'credits_remaining'}
    again = user.api.process('cartoon', path)       # no ghost of it: a new call, a new charge
    assert again['cached'] is False and again['status'] == 'succeeded'
    user.assert_money(credits=8, usage=2)


def test_delete_upload(emulator, user):
    path = user.photo()
    result = user.api.process('cartoon', path)
    assert user.api.rpc('delete_upload', path=path) == {'deleted': True}
    with pytest.raises(Refused) as refused:
        user.api.process('vintage', path)
    assert (refused.value.status, refused.value.word) == (404, 'image_not_found')
    assert user.api.download(result['image_path'])[0]


def test_idempotency_key(emulator, user):
    path = user.photo()
    first = user.api.process('cartoon', path, idempotency_key='k1', refresh=True)
    again = user.api.process('cartoon', path, idempotency_key='k1', refresh=True)
    assert again['job_id'] == first['job_id'] and len(emulator.calls()) == 1
    with pytest.raises(Refused) as refused:
        user.api.process('vintage', path, idempotency_key='k1', refresh=True)
    assert (refused.value.status, refused.value.word) == (409, 'idempotency_conflict')
    user.assert_money(credits=9, usage=1)


def test_plain_psql_session(server, emulator, user):
    """Without PostgREST: the claims set by hand, the answer as jsonb."""
    path = user.photo()
    text = server.psql(f"SET request.jwt.claims = '{{\"sub\": \"{user.id}\", \"role\": \"authenticated\"}}';"
                       f" SET ROLE authenticated; SELECT public.process_image('cartoon', '{path}')")
    assert json.loads(text)['status'] == 'succeeded'


def test_two_users_do_not_see_each_other(server, emulator, user, make_user):
    user.api.process('cartoon', user.photo())
    other = make_user().api
    for table in ('users', 'generations', 'credit_usage', 'generation_jobs', 'credit_ledger'):
        rows = other.call(f'SELECT to_jsonb(t) FROM public.{table} t' if table not in ('generation_jobs',)
                          else 'SELECT jsonb_build_object(\'user_id\', user_id) FROM public.generation_jobs')
        assert all(str(user.id) not in json.dumps(row[0]) for row in rows), table
    assert isinstance(user, User)


def hair_color(server):
    return server.value('SELECT hex_code FROM public.hair_colors ORDER BY sort_order LIMIT 1')
