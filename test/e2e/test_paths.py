"""Paths that are not one's own: refused, and nothing said about what exists."""

import pytest
from conftest import fresh_photo
from sparky_server import Refused

THEIRS = ('{they}/{name}', 'user_uploads/{they}/{name}')


def told(function):
    """All that a caller learns from a refusal."""
    with pytest.raises(Refused) as refused:
        function()
    error = refused.value
    return error.status, error.word, error.message, error.detail, error.hint


@pytest.fixture
def two(user, make_user):
    """(me, my path, my file name, another user, his path, his file name)"""
    other = make_user()
    mine, theirs = user.photo(), other.photo()
    return user, mine, mine.split('/')[-1], other, theirs, theirs.split('/')[-1]


OWN_BUT_CROOKED = [
    'user_uploads/{me}/../{they}/{name}', '{me}/../{they}/{name}', 'user_uploads/{me}/x/../../{they}/{name}', 'user_uploads/{me}/./{mine}',
    'user_uploads/{me}//{mine}', 'user_uploads//{me}/{mine}', '/user_uploads/{me}/{mine}', 'user_uploads/{me}/..', 'user_uploads/{me}/.',
    'user_uploads/{me}/', 'user_uploads/{me}', 'user_uploads/', 'user_uploads', '', '/', '.', '..', '../user_uploads/{me}/{mine}',
    'user_uploads/{me}%2f{mine}', 'user_uploads%2f{me}%2f{mine}', 'user_uploads/{me}/%2e%2e/{they}/{name}', 'user_uploads/{me}/..%2f{they}%2f{name}',
    'user_uploads/{me}/..%5c{they}%5c{name}', 'user_uploads\\{me}\\{mine}', 'user_uploads/{me}\\..\\{they}\\{name}', 'user_uploads/{me}/{mine}\n',
    'user_uploads/{me}/{mine}%00.jpg', 'user_uploads/{me}/\x01{mine}', 'user_uploads/{ME}/{mine}', 'USER_UPLOADS/{me}/{mine}',
    'user_uploads/ {me}/{mine}', 'user_uploads /{me}/{mine}',
]
NOT_MINE = ['user_uploads/{they}/{name}', '{they}/{name}', 'user_uploads/00000000-0000-0000-0000-000000000000/{name}', 'user_uploads/{they}/nothing.jpg',
            'generations/{they}/{name}', 'generations/{me}/{mine}', 'secrets/{me}/{mine}', 'avatars/{me}/{mine}', 'unknown/{me}/{mine}',
            'storage.objects', "user_uploads/{me}' OR true --/{mine}", 'file:///etc/passwd', 'http://127.0.0.1/{mine}', '/etc/passwd', '*', 'user_uploads/%/{name}']


def fill(template, two):
    me, _, mine, other, _, name = two
    return template.format(me=me.id, ME=str(me.id).upper(), mine=mine, they=other.id, name=name)


@pytest.mark.parametrize('template', OWN_BUT_CROOKED + NOT_MINE)
def test_refused_as_a_source(emulator, two, template):
    status, word, *_ = told(lambda: two[0].api.process('cartoon', fill(template, two)))
    assert (status, word) == (403, 'forbidden')
    assert emulator.calls() == []
    two[0].assert_money(credits=10, usage=0)


@pytest.mark.parametrize('function', ['process', 'download', 'delete'])
@pytest.mark.parametrize('template', THEIRS)
def test_existing_and_missing_are_told_alike(emulator, two, function, template):
    me = two[0].api
    call = {'process': lambda path: me.process('cartoon', path), 'download': me.download,
            'delete': lambda path: me.rpc('delete_upload', path=path)}[function]
    there = told(lambda: call(fill(template, two)))
    absent = told(lambda: call(fill(template.replace('{name}', 'no-such-file.jpg'), two)))
    nobody = told(lambda: call(fill(template.replace('{they}', '11111111-2222-4333-8444-555555555555'), two)))
    assert there == absent == nobody and there[0] == 403
    other = two[3]
    assert other.api.download(two[4])[0]            # it is still there, and his


# one's own folder of generations may be read, so for a download it is a missing object
@pytest.mark.parametrize('template', [t for t in OWN_BUT_CROOKED + NOT_MINE if t != 'generations/{me}/{mine}'])
def test_refused_as_a_download(two, template):
    status, word, *_ = told(lambda: two[0].api.download(fill(template, two)))
    assert (status, word) == (403, 'forbidden')


@pytest.mark.parametrize('template', OWN_BUT_CROOKED + NOT_MINE)
def test_refused_as_an_upload_to_delete(server, two, template):
    before = server.value('SELECT count(*) FROM storage.objects')
    assert told(lambda: two[0].api.rpc('delete_upload', path=fill(template, two)))[:2] == (403, 'forbidden')
    assert server.value('SELECT count(*) FROM storage.objects') == before


def test_missing_is_not_found(emulator, two):
    """One's own folder may be talked about."""
    me = two[0]
    for path in (f'user_uploads/{me.id}/nothing.jpg', f'{me.id}/nothing.jpg', f'user_uploads/{me.id}/a/b/c.jpg', f'user_uploads/{me.id}/...'):
        assert told(lambda p=path: me.api.process('cartoon', p))[:2] == (404, 'image_not_found')
        assert told(lambda p=path: me.api.download(p))[:2] == (404, 'image_not_found')
        assert told(lambda p=path: me.api.rpc('delete_upload', path=p))[:2] == (404, 'image_not_found')
    assert told(lambda: me.api.download(f'generations/{me.id}/nothing.png'))[:2] == (404, 'image_not_found')
    assert emulator.calls() == []


def test_all_good_spellings(emulator, two):
    me, path, *_ = two
    short = path.removeprefix('user_uploads/')
    first = me.api.process('cartoon', path)
    assert first['status'] == 'succeeded'
    assert me.api.process('cartoon', short)['cached'] is True
    assert me.api.download(path)[0] == me.api.download(short)[0]


def test_name_with_odd_but_sound_characters(server, emulator, user, files):
    """What supabase-js stores: spaces, brackets, signs; elsewhere also Arabic, and percent signs that encode nothing, which the Storage API refuses."""
    image = fresh_photo()
    names = ['my photo (1).png', "o'neil & co.png", 'a+b=c,d;e@f$.png', 'folder/inner/photo.png']
    for name in names + ([] if server.storage else ['صورة.png', '100%.png']):
        path = files.put(f'user_uploads/{user.id}/{name}', image)
        assert user.api.download(path)[0] == image
        result = user.api.process('cartoon', path)
        assert result['status'] == 'succeeded', name
    assert len(emulator.calls()) == 1


def test_anonymous_gets_nothing(server, two):
    anonymous = server.client()
    for call in (lambda: anonymous.process('cartoon', two[1]), lambda: anonymous.rpc('delete_upload', path=two[1]),
                 lambda: anonymous.rpc('my_account'), lambda: anonymous.upload(b'x')):
        assert told(call)[:2] == (401, 'not_signed_in')
    there, absent = told(lambda: anonymous.download(two[1])), told(lambda: anonymous.download(two[1] + 'x'))
    assert there == absent and there[0] in (401, 403)
