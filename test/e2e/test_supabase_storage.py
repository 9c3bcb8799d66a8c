"""All of it at once: Supabase's shape, its Storage behind the API, the Storage's key and Gemini's in Vault, PostgREST's way of calling."""

import pytest
from conftest import KEY, User, fresh_photo
from postgrest_call import PostgREST
from sparky_server import Refused, Server, wait_for
from storage_control import SERVICE_KEY, attach_storage
from supabase_shape import make_server


def prepare(server):
    make_server(server)
    attach_storage(server)
    server.psql('CREATE EXTENSION sparky', user='postgres')
    server.psql(f"SELECT vault.create_secret('{KEY}', 'gemini_api_key'), vault.create_secret('{SERVICE_KEY}', 'storage_service_key')", user='postgres')
    server.reload()


@pytest.fixture(scope='module')
def server(emulator_process):
    with Server(emulator=emulator_process, key=None, superuser='supabase_admin', prepare=prepare, storage='as prepared') as server:
        yield server


def test_nothing_is_missing(server):
    assert wait_for(lambda: server.value('SELECT sparky.health()')['ok'], 15, 'health')
    assert server.value('SELECT sparky.storage_is_ours()') is False


def test_a_photo_s_way(server, emulator, storage, user):
    with PostgREST(server, user.id) as api:
        up = api.post('upload_image', body=fresh_photo(), content_type='application/octet-stream')
        assert up.status == 200, up
        made = api.post('process_image', tool_id='vintage', original_image_storage_path=up.body['path'])
        assert made.status == 200 and made.body['status'] == 'succeeded', made
        assert len(emulator.calls()) == 1 and len(storage.calls('upload')) == 2
        hit = api.post('process_image', tool_id='vintage', original_image_storage_path=up.body['path'])
        assert hit.body['cached'] is True and len(emulator.calls()) == 1
        assert api.get('download_image', path=made.body['image_path']).body == storage.get(made.body['image_path'])
    user.assert_money(credits=9, usage=1)
    message, = server.query("SELECT payload ->> 'status' FROM realtime.messages WHERE topic = %s", (f'user:{user.id}',))
    assert message == ('succeeded',)


def test_a_key_in_vault_counts_from_the_reload_on(server, storage, user):
    """For what the worker asks of storage too, and at once."""
    secret = server.value("SELECT id FROM vault.secrets WHERE name = 'storage_service_key'")
    try:
        for _ in range(4):
            for key in ('sb_secret_rotated', SERVICE_KEY):
                server.query('SELECT vault.update_secret(%s, %s)', (secret, key), user='postgres')
                server.reload()
                if key == SERVICE_KEY:
                    assert user.photo()
                else:
                    with pytest.raises(Refused, match='not_configured'):
                        user.photo()
    finally:
        server.query('SELECT vault.update_secret(%s, %s)', (secret, SERVICE_KEY), user='postgres')
        server.reload()


def test_deleting_a_user_erases_his_files(server, emulator, storage):
    """By the auth server; through the API, whoever the upload's owner was; the ledger stays."""
    user = User(server)
    made = user.api.process('vintage', user.photo())
    assert made['status'] == 'succeeded'
    names = "SELECT count(*) FROM storage.objects WHERE name LIKE %s"
    assert server.value(names, (f'{user.id}/%',)) == 2
    server.query('DELETE FROM auth.users WHERE id = %s', (user.id,), user='supabase_auth_admin')
    wait_for(lambda: server.value(names, (f'{user.id}/%',)) == 0, 30, 'the files to be erased')
    assert storage.calls('delete') and server.value('SELECT count(*) FROM public.credit_ledger WHERE user_id = %s', (user.id,)) == 2
    user.api.close()
