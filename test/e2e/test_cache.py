"""The result cache: a hit is free and true, and anything else is a miss that heals itself."""


import pytest
from conftest import fresh_photo, without_link

HAIR = 'hairstyle-changer'


@pytest.fixture
def tool(server):
    """Change settings of a tool; they are put back afterwards (the revision stays)."""
    before = []

    def change(tool_id='cartoon', **values):
        for column, value in values.items():
            before.append((tool_id, column, server.value(f'SELECT {column}::text FROM sparky.tool_settings WHERE tool_id = %s', (tool_id,))))
            write(tool_id, column, value)

    def write(tool_id, column, value):
        kind = server.value("SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'sparky.tool_settings'::regclass"
                            ' AND attname = %s', (column,))
        server.query(f'UPDATE sparky.tool_settings SET {column} = %s::{kind} WHERE tool_id = %s', (value, tool_id))
    yield change
    for row in reversed(before):
        write(*row)


def entry(server, user):
    """The one entry of a user's last successful job."""
    return server.row('SELECT k.key, k.value, extract(epoch FROM k.expires_at - k.created_at)::int, k.created_at, k.expires_at'
                      ' FROM cache.kv_store k JOIN public.generation_jobs j ON j.cache_key = k.key WHERE j.user_id = %s'
                      ' ORDER BY j.created_at DESC LIMIT 1', (user.id,))


def test_a_hit_is_free_and_writes_nothing(server, emulator, user):
    path = user.photo()
    first = user.api.process('cartoon', path)
    tables = ('public.generation_jobs', 'public.generations', 'public.credit_usage', 'public.credit_ledger', 'sparky.provider_calls', 'sparky.request_keys')
    before = [user.count(table) for table in tables]
    worker = server.worker_pid()
    for _ in range(3):
        hit = user.api.process('cartoon', path)
        assert hit['cached'] is True and hit['credits_used'] == 0 and hit['credits_remaining'] == 9 and 'job_id' not in hit
        assert (hit['generation_id'], hit['image_path']) == (first['generation_id'], first['image_path'])
    assert user.api.process('cartoon', path, method='GET')['cached'] is True        # read-only: a hit needs no write
    assert [user.count(table) for table in tables] == before and server.worker_pid() == worker
    assert len(emulator.calls()) == 1
    key, value, _, _, _ = entry(server, user)
    assert value == {'generation_id': first['generation_id'], 'image_path': first['image_path']}
    job = user.job(first['job_id'])
    assert key == server.value('SELECT sparky.cache_key(%s, %s, %s, %s, %s)', (user.id, 'cartoon', job['image_hash'], '{}', job['tool_revision']))


def test_a_hit_needs_no_credits(server, emulator, user):
    path = user.photo()
    user.api.process('cartoon', path)
    server.query('UPDATE public.users SET credits = 0 WHERE id = %s', (user.id,))
    hit = user.api.process('cartoon', path)
    assert hit['cached'] is True and hit['credits_remaining'] == 0


def test_parameters_in_any_order_are_the_same_request(server, emulator, user):
    style = server.value('SELECT id FROM public.hairstyles WHERE NOT is_pro ORDER BY id LIMIT 1')
    color = server.value('SELECT hex_code FROM public.hair_colors ORDER BY hex_code LIMIT 1')
    path = user.photo()
    user.api.process(HAIR, path, {'hairstyle_id': style, 'hair_color': color})
    assert user.api.process(HAIR, path, {'hair_color': color, 'hairstyle_id': style})['cached'] is True
    assert user.api.process(HAIR, path, {'hairstyle_id': style})['cached'] is False
    assert len(emulator.calls()) == 2


def test_two_users_with_the_same_bytes_do_not_share(server, emulator, user, make_user):
    image = fresh_photo()
    other = make_user()
    mine = user.api.process('cartoon', user.api.upload(image)['path'])
    theirs = other.api.process('cartoon', other.api.upload(image)['path'])
    assert theirs['cached'] is False and theirs['image_path'].startswith(f'generations/{other.id}/') and theirs['generation_id'] != mine['generation_id']
    assert len(emulator.calls()) == 2
    user.assert_money(credits=9, usage=1)
    other.assert_money(credits=9, usage=1)


@pytest.mark.parametrize('ttl, seconds', [(None, 3600), ('90 seconds', 90), ('30 days', 30 * 86400), ('0', None)])
def test_ttl_of_each_tool(server, emulator, user, tool, ttl, seconds):
    """NULL takes sparky.cache_ttl (an hour in this module); 0 keeps nothing."""
    tool('vintage', cache_ttl=ttl)
    path = user.photo()
    user.api.process('vintage', path)
    found = entry(server, user)
    assert (found and found[2]) == seconds
    assert user.api.process('vintage', path)['cached'] is (seconds is not None)


CONF = ["sparky.cache_ttl = '1h'"]


def test_an_expired_row_is_a_miss_before_any_clean_up(server, emulator, user):
    path = user.photo()
    first = user.api.process('cartoon', path)
    key = entry(server, user)[0]
    server.query("UPDATE cache.kv_store SET expires_at = now() + interval '1 minute' WHERE key = %s", (key,))
    assert user.api.process('cartoon', path)['cached'] is True
    server.query('UPDATE cache.kv_store SET expires_at = now() WHERE key = %s', (key,))
    second = user.api.process('cartoon', path)
    assert second['cached'] is False and second['generation_id'] != first['generation_id']
    third = user.api.process('cartoon', path)
    assert third['cached'] is True and third['generation_id'] == second['generation_id']
    assert server.value('SELECT count(*) FROM cache.kv_store WHERE key = %s AND expires_at > now()', (key,)) == 1
    user.assert_money(credits=8, usage=2)


@pytest.mark.embedded('deletes rows and bytes by SQL')
def test_a_deleted_object_is_a_miss_and_is_replaced(server, emulator, user):
    path = user.photo()
    first = user.api.process('cartoon', path)
    key = entry(server, user)[0]
    server.query("DELETE FROM storage.objects WHERE bucket_id || '/' || name = %s", (first['image_path'],))
    again = user.api.process('cartoon', path)
    assert again['cached'] is False and again['status'] == 'succeeded' and again['image_path'] != first['image_path']
    assert entry(server, user)[:2] == (key, {'generation_id': again['generation_id'], 'image_path': again['image_path']})
    assert user.api.process('cartoon', path)['image_path'] == again['image_path']
    # a metadata row without its bytes is no object either
    server.query("DELETE FROM sparky.stored_files f USING storage.objects o WHERE o.id = f.object_id AND o.bucket_id || '/' || o.name = %s",
                 (again['image_path'],))
    assert user.api.process('cartoon', path)['cached'] is False
    assert len(emulator.calls()) == 3
    user.assert_money(credits=7, usage=3)


@pytest.mark.parametrize('value', ['null', '[]', '7', '{}', '{"generation_id": "x", "image_path": 3}', '{"generation_id": 1}',
                                   '{"image_path": "generations/a/b.png"}', '{"generation_id": 99999999999999999999, "analysis": {}}'])
def test_an_entry_of_another_shape_is_a_miss(server, emulator, user, value):
    path = user.photo()
    user.api.process('cartoon', path)
    server.query('UPDATE cache.kv_store SET value = %s WHERE key = %s', (value, entry(server, user)[0]))
    assert user.api.process('cartoon', path)['cached'] is False
    assert user.api.process('cartoon', path)['cached'] is True
    user.assert_money(credits=8, usage=2)


def test_refresh_pays_and_replaces(server, emulator, user):
    path = user.photo()
    first = user.api.process('cartoon', path)
    fresh = user.api.process('cartoon', path, refresh=True)
    assert fresh['cached'] is False and fresh['credits_used'] == 1 and fresh['generation_id'] != first['generation_id']
    assert user.api.process('cartoon', path)['generation_id'] == fresh['generation_id']
    assert user.api.download(first['image_path'])[0] and user.api.download(fresh['image_path'])[0]      # the old one stays in the history
    user.assert_money(credits=8, usage=2)


@pytest.mark.parametrize('fault', ['refusal', 'blocked_prompt', 'text_only', 'bad_request', 'not_an_image'])
def test_refresh_that_fails_keeps_the_old_result(server, emulator, user, fault):
    path = user.photo()
    first = user.api.process('cartoon', path)
    before = entry(server, user)
    emulator.script({'fault': fault, 'times': 0})
    failed = user.api.process('cartoon', path, refresh=True)
    assert failed['status'] == 'failed' and failed['credits_used'] == 0
    assert entry(server, user) == before
    hit = user.api.process('cartoon', path)
    assert hit['cached'] is True and hit['generation_id'] == first['generation_id']
    user.assert_money(credits=9, usage=1)


def test_a_failure_is_not_cached(emulator, user):
    path = user.photo()
    emulator.script({'fault': 'refusal', 'times': 1})
    assert user.api.process('cartoon', path)['status'] == 'failed'
    assert user.api.process('cartoon', path)['status'] == 'succeeded'
    assert len(emulator.calls()) == 2


CHANGES = [('prompt', 'Draw the person as a clay figure.'), ('system_instruction', 'Keep the face.'), ('model', 'gemini-3-pro-image'),
           ('generation_config', '{"seed": 7}')]


@pytest.mark.parametrize('column, value', CHANGES)
def test_what_changes_a_tools_answers_is_never_answered_with_an_old_one(server, emulator, user, tool, column, value):
    path = user.photo()
    first = user.api.process('cartoon', path)
    tool('cartoon', **{column: value})
    second = user.api.process('cartoon', path)
    assert second['cached'] is False and second['status'] == 'succeeded', second
    assert user.api.process('cartoon', path)['generation_id'] == second['generation_id']
    # and back again: the old wording is a new revision, not the old one
    old = server.value('SELECT revision FROM sparky.tool_settings WHERE tool_id = %s', ('cartoon',))
    tool('cartoon', prompt='Another one again.')
    assert server.value('SELECT revision FROM sparky.tool_settings WHERE tool_id = %s', ('cartoon',)) > old
    third = user.api.process('cartoon', path)
    assert third['cached'] is False and third['generation_id'] not in (first['generation_id'], second['generation_id'])
    assert len(emulator.calls()) == 3


def test_settings_written_anew_are_never_answered_with_an_old_one(server, emulator, user):
    """By the service role, as a dashboard replaces a row: each time as if for the first time, with revision 1."""
    path = user.photo()
    results = []
    with server.client(role='service_role') as service:
        for prompt in ('Draw the person in chalk.', 'Draw the person in ink.', 'Draw the person in chalk.'):
            service.call("DELETE FROM sparky.tool_settings WHERE tool_id = 'cartoon'")
            service.call("INSERT INTO sparky.tool_settings (tool_id, model, prompt) VALUES ('cartoon', 'gemini-nano-banana-2.1', %s)", (prompt,))
            results.append(user.api.process('cartoon', path))
            assert results[-1]['status'] == 'succeeded' and results[-1]['cached'] is False, results
        revision = server.value("SELECT revision FROM sparky.tool_settings WHERE tool_id = 'cartoon'")
        service.call("INSERT INTO sparky.tool_settings (tool_id, model, prompt) VALUES ('cartoon', 'm', 'p') ON CONFLICT DO NOTHING")
    assert server.value("SELECT revision FROM sparky.tool_settings WHERE tool_id = 'cartoon'") == revision
    assert user.api.process('cartoon', path)['generation_id'] == results[-1]['generation_id']
    server.psql("DELETE FROM sparky.tool_settings WHERE tool_id = 'cartoon'; SELECT sparky.seed()")


def test_a_changed_schema_is_never_answered_with_an_old_analysis(server, emulator, user, tool):
    path = user.photo()
    first = user.api.analyze('face-shape', path)
    assert user.api.analyze('face-shape', path)['cached'] is True
    tool('face-shape', response_schema='{"type": "object", "properties": {"verdict": {"type": "string", "enum": ["round"]}}, "required": ["verdict"]}')
    second = user.api.analyze('face-shape', path)
    assert second['cached'] is False and second['analysis'] == {'verdict': 'round'} != first['analysis']


def test_a_renamed_hairstyle_is_never_answered_with_an_old_picture(server, emulator, user):
    style = server.value('SELECT id FROM public.hairstyles WHERE NOT is_pro ORDER BY id LIMIT 1')
    path = user.photo()
    first = user.api.process(HAIR, path, {'hairstyle_id': style})
    server.query("UPDATE public.hairstyles SET image_url = image_url || '?2' WHERE id = %s", (style,))
    assert user.api.process(HAIR, path, {'hairstyle_id': style})['cached'] is True          # what no prompt shows changes nothing
    server.query("UPDATE public.hairstyles SET name = name || ' deluxe' WHERE id = %s", (style,))
    second = user.api.process(HAIR, path, {'hairstyle_id': style})
    assert second['cached'] is False and second['generation_id'] != first['generation_id']
    assert ' deluxe' in emulator.calls()[-1]['prompt']
    assert user.api.process('cartoon', path)['cached'] is False
    assert user.api.process('cartoon', path)['cached'] is True


def test_a_prompt_that_changes_while_a_job_waits(server, emulator, user, tool):
    """The job of the old revision is settled under the old revision's key: nobody is given it later."""
    emulator.hold()
    path = user.photo()
    job = user.api.process('cartoon', path, wait_seconds=0)
    emulator.wait_calls(1)
    tool('cartoon', prompt='Paint it on wood.')
    other = user.api.process('cartoon', path, wait_seconds=0)
    assert other['job_id'] != job['job_id']
    emulator.wait_calls(2)
    emulator.release()
    assert user.api.finish(job['job_id'])['status'] == 'succeeded'
    new = user.api.finish(other['job_id'])
    assert user.api.process('cartoon', path)['generation_id'] == new['generation_id']
    assert [call['prompt'] for call in emulator.calls()].count('Paint it on wood.') == 1


@pytest.mark.embedded('writes bytes by SQL')
def test_a_photo_replaced_under_its_path_is_another_request(server, emulator, user):
    """The key is made of the bytes, so a path says nothing."""
    path = user.photo()
    user.api.process('cartoon', path)
    other = user.photo()
    server.query("""UPDATE sparky.stored_files t SET (bytes, sha256, mime_type, size, width, height) =
        (SELECT f.bytes, f.sha256, f.mime_type, f.size, f.width, f.height FROM sparky.stored_files f JOIN storage.objects o ON o.id = f.object_id
          WHERE o.bucket_id || '/' || o.name = %s) FROM storage.objects o WHERE o.id = t.object_id AND o.bucket_id || '/' || o.name = %s""", (other, path))
    assert user.api.process('cartoon', path)['cached'] is False
    assert user.api.process('cartoon', other)['cached'] is True
    assert len(emulator.calls()) == 2


def test_settings_longer_than_time_itself(emulator, user, tool):
    """The longest interval that there is means: always."""
    tool('vintage', cache_ttl='178000000 years', timeout='178000000 years')
    path = user.photo()
    first = user.api.process('vintage', path)
    assert first['status'] == 'succeeded', first
    assert user.api.process('vintage', path)['generation_id'] == first['generation_id']


def test_a_hit_in_a_repeatable_read_transaction(emulator, user):
    path = user.photo()
    first = user.api.process('cartoon', path)
    for level in ('REPEATABLE READ', 'SERIALIZABLE'):
        hit = user.api.process('cartoon', path, isolation=level, idempotency_key='k ' + level)
        assert hit['cached'] is True and hit['generation_id'] == first['generation_id']
        assert without_link(user.api.process('cartoon', path, isolation=level, idempotency_key='k ' + level)) == without_link(hit)
