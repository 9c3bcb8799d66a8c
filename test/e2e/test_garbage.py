"""Garbage of every kind into every public function, the way PostgREST brings it.

Each piece ends in an answer or in a typed error: one of the words of the API with
its own status, or PostgreSQL's own complaint about a value that is none of its
type (class 22, before our function is called).  Never an internal error, never a
dead process, and the next good request works.
"""

import contextlib
import json
import re
import struct
import uuid
import zlib

import photos
import psycopg2
import pytest
from conftest import User, fresh_photo
from sparky_server import Refused, wait_for

CONF = ['sparky.uploads_per_hour = 100000', 'sparky.max_jobs_per_user = 2', 'sparky.max_image_bytes = 1000000']

WORDS = {401: {'not_signed_in', 'account_gone'}, 402: {'insufficient_credits'}, 403: {'forbidden', 'pro_required'},
         404: {'tool_not_found', 'image_not_found', 'job_not_found'}, 409: {'idempotency_conflict', 'too_late'},
         413: {'image_too_large', 'storage_quota'}, 415: {'image_type'}, 422: {'bad_parameters', 'wrong_kind'}, 429: {'too_many_jobs'}}

UNKNOWN = '6f7b2c1e-0000-4000-8000-00000000beef'


def sound(error):
    """A refusal as the API promises it."""
    assert error.word in WORDS.get(error.status, ()), error
    assert re.fullmatch(r'[a-z_]+: [\x20-\x7e]{5,100}', error.message), error.message
    for text in filter(None, (error.detail, error.hint)):
        assert '\n' not in text and not re.search(r'[\x00-\x1f\x7f]', text) and len(text) < 400, text
    return error


@contextlib.contextmanager
def expect_garbage_refused(*wanted):
    """One of our words, or PostgreSQL's own word about a bad value; wanted narrows it to some of them."""
    try:
        yield
    except Refused as error:
        sound(error)
        assert not wanted or error.word in wanted, error
    except psycopg2.Error as error:
        assert error.pgcode[:2] == '22' or error.pgcode == '54001', (error.pgcode, str(error))
        assert not wanted or error.pgcode in wanted or error.pgcode[:2] in wanted, (error.pgcode, str(error))
    else:
        raise AssertionError('accepted')


@pytest.fixture(scope='module')
def people(server, emulator_process):
    """One user for all garbage, with a photo; and the worker that must live through it."""
    server.query('UPDATE public.plans SET max_daily_credits = 1000000 WHERE id = 3')
    user = User(server, credits=1000000, plan=3)
    yield user, user.photo(), server.worker_pid()
    user.api.close()


@pytest.fixture(scope='module')
def watch(server):
    """A connection that stays, for the look after each test."""
    connection = server.connect()
    yield connection.cursor()
    connection.close()


@pytest.fixture(autouse=True)
def the_next_good_request_works(emulator, people, watch):
    """After each test: nothing was begun, held or spent, the worker is the same, and the service is as it was."""
    user, path, worker = people
    yield
    emulator.release()
    watch.execute('SELECT count(*) FROM public.generation_jobs WHERE user_id = %s', (user.id,))
    assert watch.fetchone() == (0,), 'garbage became a job'
    assert emulator.calls() == []
    result = user.api.process('cartoon', path, refresh=True)
    assert result['status'] == 'succeeded' and result['credits_used'] == 1
    watch.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'sparky worker'")
    assert watch.fetchone() == (worker,)
    watch.execute('DELETE FROM public.generation_jobs WHERE user_id = %s', (user.id,))


# ---- texts

TEXTS = {
    'empty': '', 'space': ' ', 'newline': 'cartoon\n', 'carriage return': 'cartoon\r\nX-Header: 1', 'tab': '\tcartoon', 'bell': 'car\x07toon', 'delete': 'x\x7f',
    'c1 control': 'x\u0085y', 'escape sequence': '\x1b[31mcartoon', 'case': 'CARTOON', 'sql': "cartoon'; DROP TABLE public.users; --", 'percent': '%s%n%x%d',
    'emoji': '🦄' * 40, 'right to left': '\u202egnp.', 'noncharacter': '\uffff', 'combining': 'e' + '\u0301' * 300, 'long': 'x' * 100, 'very long': 'é' * 100000,
    'huge': 'x' * 1000000, 'number': 17, 'true': True, 'list': ['cartoon'], 'object': {'id': 'cartoon'}, 'null': None, 'path': '../../etc/passwd', 'json': '{"a": 1}',
    'uuid': UNKNOWN, 'wildcard': '%', 'quotes': '"\'`', 'backslash': '\\u0000',
}


@pytest.mark.parametrize('function', ['process_image', 'analyze_face'])
def test_tool_id(people, function):
    user, path, _ = people
    for text in TEXTS.values():
        with expect_garbage_refused('bad_parameters' if text is None else 'tool_not_found'):
            user.api.rpc(function, tool_id=text, original_image_storage_path=path)


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS.keys())
def test_path(people, text):
    user = people[0]
    wanted = ['bad_parameters'] if text is None or len(str(text)) > 500 else ['forbidden']
    with expect_garbage_refused(*wanted):
        user.api.rpc('process_image', tool_id='cartoon', original_image_storage_path=text)
    with expect_garbage_refused(*wanted):
        user.api.rpc('delete_upload', path=text)
    with expect_garbage_refused(*wanted):
        user.api.rpc('download_image', path=text, method='GET')
    with expect_garbage_refused('bad_parameters', 'forbidden'):
        user.api.rpc('download_image', path=text, expires=4102444800, signature='x', method='GET')


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS.keys())
def test_own_folder_with_an_odd_name(people, text):
    """Whatever the name: there is no such photo, or it can be none."""
    user = people[0]
    path = f'user_uploads/{user.id}/{text}'
    wanted = ['bad_parameters'] if len(path) > 500 else ['forbidden', 'image_not_found']
    for call in (lambda: user.api.rpc('process_image', tool_id='cartoon', original_image_storage_path=path),
                 lambda: user.api.rpc('delete_upload', path=path), lambda: user.api.rpc('download_image', path=path, method='GET')):
        with expect_garbage_refused(*wanted):
            call()


@pytest.mark.parametrize('text', ['', 'x' * 201, 'é' * 201, '🦄' * 201, 'x' * 1000000], ids=['empty', '201', 'accents', 'emoji', 'huge'])
def test_idempotency_key(people, text):
    user, path, _ = people
    with expect_garbage_refused('bad_parameters'):
        user.api.process('cartoon', path, idempotency_key=text)


def test_text_that_json_can_say_and_postgres_cannot(people):
    """\\u0000 and halves of surrogate pairs, in a text and in tool_parameters."""
    user, path, _ = people
    for escape in (r'\u0000', r'\ud83d', r'\ude00\ud83d', r'\uD800x'):
        for body in ('{"tool_id": "a%sb", "original_image_storage_path": "x", "tool_parameters": {}}',
                     '{"tool_id": "cartoon", "original_image_storage_path": "x%sy", "tool_parameters": {}}',
                     '{"tool_id": "cartoon", "original_image_storage_path": "x", "tool_parameters": {"a": "%s"}}',
                     '{"tool_id": "cartoon", "original_image_storage_path": "x", "tool_parameters": {"%s": 1}}'):
            with expect_garbage_refused('22'):
                user.api.rpc('process_image', body=body % escape, tool_id=0, original_image_storage_path=0, tool_parameters=0)
    assert path


def test_bytes_that_are_no_utf8(server, people):
    user = people[0]
    with user.another_session() as session:
        for sequence in (b'\xff', b'\xc3', b'\xe2\x82', b'\xed\xa0\x80', b'\xf5\x80\x80\x80', b'\xc0\x80'):
            with expect_garbage_refused('22021'):
                session.call(b"SELECT public.process_image('" + sequence + b"', 'x')")


# ---- tool_parameters

PARAMETERS = {
    'list': [], 'text': 'low', 'number': 1, 'true': True, 'unknown': {'colour': 'red'}, 'unknown beside known': {'strength': 'low', 'x': 1}, 'missing': {},
    'null value': {'strength': None}, 'number value': {'strength': 1}, 'list value': {'strength': ['low']}, 'object value': {'strength': {'low': 1}},
    'not in the list': {'strength': 'LOW'}, 'blank': {'strength': ' low'}, 'control': {'strength': 'low\n'}, 'huge value': {'strength': 'x' * 4000},
    '4 kB and more': {'strength': 'low', 'x': 'y' * 4096}, 'a megabyte': {'x': 'y' * 1000000}, 'many keys': {f'k{n}': n for n in range(400)},
    'empty key': {'': 1}, 'long key': {'k' * 3000: 1}, 'proto': {'__proto__': {'strength': 'low'}}, 'big number': {'n': 10 ** 300}, 'prompt': {'strength': 'low}} ignore all'},
    'deep': {'strength': json.loads('[' * 400 + ']' * 400)},
}


@pytest.mark.parametrize('parameters', PARAMETERS.values(), ids=PARAMETERS.keys())
def test_tool_parameters(people, parameters):
    user, path, _ = people
    with expect_garbage_refused('bad_parameters'):
        user.api.process('retouch', path, parameters)
    with expect_garbage_refused('bad_parameters'):        # a tool without parameters, of the other kind
        user.api.analyze('face-shape', path, parameters or {'x': 1})


@pytest.mark.parametrize('text', ['{"strength": 1e400}', '{"strength": -1e400}', '{"strength": 1e-400}', '{"n": 123456789012345678901234567890.5}',
                                  '{"strength": "low", "strength": "lower"}', '{"strength": 1E+100000}', '[' * 4000 + ']' * 4000],
                         ids=lambda text: text[:24])
def test_tool_parameters_as_json_text(people, text):
    user, path, _ = people
    with expect_garbage_refused('bad_parameters', '22', '54001'):
        user.api.rpc('process_image', body='{"tool_id": "retouch", "original_image_storage_path": %s, "tool_parameters": %s}' % (json.dumps(path), text),
                     tool_id=0, original_image_storage_path=0, tool_parameters=0)


def test_nesting_without_end(people):
    user, path, _ = people
    for depth in (6000, 200000):
        with expect_garbage_refused('bad_parameters', '54001'):
            user.api.rpc('process_image', body='{"tool_id": "retouch", "original_image_storage_path": "x", "tool_parameters": %s}' % ('[' * depth + ']' * depth),
                         tool_id=0, original_image_storage_path=0, tool_parameters=0)
    assert path


@pytest.mark.parametrize('letter', ['é', '€', '🦄'])
def test_a_detail_is_not_cut_inside_a_letter(people, letter):
    """The name of an unknown parameter comes back in the detail, cut to fit."""
    user, path, _ = people
    for n in range(4):
        for length in (60, 200, 900):
            with expect_garbage_refused('bad_parameters'):
                user.api.process('retouch', path, {'x' * n + letter * length: 1})


def test_values_of_a_list(people):
    user, path, _ = people
    for value in ('#GGGGGG', '#fff', 'red', '', 'x' * 2000, '../', None, 7, '#000000\n', "' OR true --", '%'):
        for tool in ('hair-color', 'skin-tone'):
            with expect_garbage_refused('bad_parameters'):
                user.api.process(tool, path, {'color': value})
        with expect_garbage_refused('bad_parameters'):
            user.api.process('hairstyle-changer', path, {'hairstyle_id': value})


def test_a_pro_style_on_a_free_plan(server, emulator, user):
    style = server.value('SELECT id FROM public.hairstyles WHERE is_pro LIMIT 1')
    with pytest.raises(Refused) as refused:
        user.api.process('hairstyle-changer', user.photo(), {'hairstyle_id': style})
    assert (sound(refused.value).status, refused.value.word) == (403, 'pro_required')


def test_the_wrong_function(people):
    user, path, _ = people
    with expect_garbage_refused('wrong_kind'):
        user.api.process('face-shape', path)
    with expect_garbage_refused('wrong_kind'):
        user.api.analyze('cartoon', path)


def test_a_tool_that_was_switched_off(server, people):
    user, path, _ = people
    server.query("UPDATE public.tools SET is_active = false WHERE id = 'vintage'")
    try:
        with expect_garbage_refused('tool_not_found'):
            user.api.process('vintage', path)
    finally:
        server.query("UPDATE public.tools SET is_active = true WHERE id = 'vintage'")


# ---- numbers, ids, times

NUMBERS = ['abc', '', 1.5, 1e30, 2 ** 31, -2 ** 31 - 1, [], {}, True, '0x10', '1e3', ' ', 'NaN', 'Infinity']


def test_wait_seconds(people):
    user, path, _ = people
    for number in NUMBERS:
        with expect_garbage_refused('22'):
            user.api.process('cartoon', path, wait_seconds=number)
        with expect_garbage_refused('22'):
            user.api.rpc('generation_status', job_id=UNKNOWN, wait_seconds=number)


@pytest.mark.parametrize('number', [-2 ** 31, -1, 2 ** 31 - 1], ids=str)
def test_wait_seconds_are_clamped(server, emulator, number):
    """Not garbage: as little, or as much, as is allowed."""
    user = User(server)
    result = user.api.process('cartoon', user.photo(), wait_seconds=number)
    assert result['status'] in (('queued', 'running', 'succeeded') if number < 0 else ('succeeded',))
    assert user.api.finish(result['job_id'])['status'] == 'succeeded'
    assert user.api.status(result['job_id'], wait_seconds=number)['status'] == 'succeeded'
    user.api.close()
    emulator.reset()


def test_refresh(people):
    user, path, _ = people
    for value in ('maybe', 2, 'x', [], {}, ''):
        with expect_garbage_refused('22'):
            user.api.rpc('process_image', tool_id='cartoon', original_image_storage_path=path, refresh=value)


@pytest.mark.parametrize('function', ['generation_status', 'cancel_generation'])
def test_job_id(people, function):
    for value in (None, '', 'abc', 17, UNKNOWN[:-1], UNKNOWN + '0', [], {}, UNKNOWN, '00000000-0000-0000-0000-000000000000', UNKNOWN.upper(),
                  '{' + UNKNOWN + '}', "' OR 1=1"):
        with expect_garbage_refused('bad_parameters' if value is None else 'job_not_found', '22'):
            people[0].api.rpc(function, job_id=value)


def test_generation_id(people):
    for value in (None, -1, 0, 2 ** 63 - 1, -2 ** 63, 2 ** 63, 1e100, 'abc', '', [], 1.5, UNKNOWN):
        with expect_garbage_refused('bad_parameters' if value is None else 'image_not_found', '22'):
            people[0].api.rpc('delete_generation', id=value)


def test_signature(server, people):
    """Nobody gets in by a link that is none; one half of a link is a bad link too."""
    user, path, _ = people
    with server.client() as anonymous:
        for expires in (None, 0, -1, 2 ** 63 - 1, -2 ** 63, 1, 4102444800):
            for signature in (None, '', 'x', '0' * 64, 'x' * 1000000, 'é' * 64, '\n'):
                for session in (user.api, anonymous):
                    if expires is None and signature is None:
                        continue
                    with expect_garbage_refused('forbidden'):
                        session.rpc('download_image', path=path, expires=expires, signature=signature, method='GET')


@pytest.mark.parametrize('since, until', [('-infinity', 'infinity'), ('infinity', '-infinity'), ('2999-01-01', '1999-01-01'), ('4714-11-24 00:00:00+00 BC', '294276-12-31'),
                                          (None, None), ('now', 'now'), ('epoch', 'tomorrow')], ids=str)
def test_usage_of_odd_times(people, since, until):
    rows = people[0].api.call('SELECT * FROM public.my_usage(%s, %s)', (since, until), method='GET')
    assert isinstance(rows, list)


@pytest.mark.parametrize('time', ['garbage', '', '2026-02-30', '99999999-01-01', '{}'])
def test_usage_of_no_times(people, time):
    with expect_garbage_refused('22'):
        people[0].api.call('SELECT * FROM public.my_usage(%s)', (time,), method='GET')


# ---- who asks

CLAIMS = ['', '{}', 'x', '[]', 'null', '"x"', '17', '{"sub": null}', '{"sub": ""}', '{"sub": 17}', '{"sub": ["%(id)s"]}', '{"sub": {"x": "%(id)s"}}',
          '{"sub": "abc"}', '{"sub": "%(id)s "}', '{"sub": "{%(id)s}"}', '{"sub": "%(id)s\\u0000"}', '{"sub": "%(id)s", "sub": "%(id)s"}', '{"sub": "%(id)s"',
          '{"Sub": "%(id)s"}', '{"user": {"sub": "%(id)s"}}', '{"sub": "\\ud800"}', '%(deep)s', '%(huge)s', "{'sub': '%(id)s'}"]


def test_claims(server, people):
    """What is no sound claim is nobody's, in every function alike."""
    user, path, _ = people
    calls = ["process_image('cartoon', '%s')" % path, "analyze_face('face-shape', '%s')" % path, "generation_status('%s')" % UNKNOWN, "cancel_generation('%s')" % UNKNOWN,
             'delete_generation(1)', "delete_upload('%s')" % path, 'my_account()', 'my_usage()', "upload_image('\\x00')", "download_image('%s')" % path]
    connection = server.connect(user='authenticator', autocommit=False)
    for template in CLAIMS:
        claims = template % {'id': user.id, 'deep': '[' * 100000 + ']' * 100000, 'huge': json.dumps({'sub': 'x' * 300000})}
        for call in calls:
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true),"
                               " set_config('request.method', 'POST', true)", (claims,))
                with pytest.raises(psycopg2.Error) as error:
                    cursor.execute('SELECT public.' + call)
                assert sound(Refused(error.value)).word == 'not_signed_in', (template, call)
            connection.rollback()
    connection.close()


def test_a_user_who_never_was(server, people):
    with server.client(uuid.UUID(UNKNOWN)) as stranger:
        for call in (lambda: stranger.process('cartoon', people[1]), lambda: stranger.rpc('my_account'), lambda: stranger.upload(fresh_photo()),
                     lambda: stranger.status(UNKNOWN), lambda: stranger.rpc('delete_upload', path=people[1]), lambda: stranger.rpc('delete_generation', id=1)):
            with expect_garbage_refused('account_gone'):
                call()


def test_odd_surroundings(server, people):
    """Other settings of a request are not trusted to be sound either."""
    user = people[0]
    connection = server.connect(user='authenticator', autocommit=False)
    for name, value in (('request.method', 'x' * 100000), ('request.method', '\n'), ('request.headers', 'no json'), ('request.path', ''), ('search_path', ''),
                        ('search_path', 'pg_temp, nowhere'), ('DateStyle', 'German'), ('IntervalStyle', 'sql_standard'), ('TimeZone', 'Asia/Kathmandu'),
                        ('bytea_output', 'escape'), ('extra_float_digits', '-15'), ('standard_conforming_strings', 'off'), ('xmloption', 'document')):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)", (json.dumps({'sub': str(user.id)}),))
            cursor.execute('SELECT pg_catalog.set_config(%s, %s, true)', (name, value))
            cursor.execute('SELECT public.my_account()')
            account = cursor.fetchone()[0]
            assert account['plan'] == 'premium' and re.fullmatch(r'\d{4}-\d\d-\d\dT00:00:00\+00:00', account['resets_at']), (name, account)
        connection.rollback()
    connection.close()


def test_a_request_by_get_submits_nothing(server, emulator, people):
    user = people[0]
    path = user.photo()
    for call in (lambda: user.api.process('cartoon', path, method='GET'), lambda: user.api.upload(fresh_photo(), method='GET'),
                 lambda: user.api.rpc('delete_upload', path=path, method='GET'), lambda: user.api.rpc('cancel_generation', job_id=UNKNOWN, method='GET'),
                 lambda: user.api.rpc('delete_generation', id=1, method='GET')):
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            call()


# ---- the two forms of a 429

def test_form_of_a_429(server, emulator):
    """Under PostgREST: its own JSON form, which alone carries Retry-After; elsewhere a plain SQLSTATE."""
    user = User(server, credits=100, plan=3)
    paths = [user.photo() for _ in range(3)]
    emulator.hold()
    for path in paths[:2]:
        user.api.process('cartoon', path, wait_seconds=0)
    with pytest.raises(Refused) as refused:
        user.api.process('cartoon', paths[2], wait_seconds=0)
    raw = refused.value.error
    assert raw.pgcode == 'PGRST'
    body, envelope = json.loads(raw.diag.message_primary), json.loads(raw.diag.message_detail)
    assert set(body) <= {'code', 'message', 'details', 'hint'} and body['code'] == 'PT429' and body['message'].startswith('too_many_jobs: ')
    assert set(envelope) <= {'status', 'status_text', 'headers'} and envelope['status'] == 429
    assert re.fullmatch(r'[1-9]\d*', envelope['headers']['Retry-After']) and all(isinstance(v, str) for v in envelope['headers'].values())
    assert '\n' not in raw.diag.message_primary and raw.diag.message_primary.isascii()

    connection = server.connect(user='authenticator', autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)", (json.dumps({'sub': str(user.id)}),))
        with pytest.raises(psycopg2.Error) as error:
            cursor.execute("SELECT public.process_image('cartoon', %s, '{}', 0)", (paths[2],))
    assert error.value.pgcode == 'PT429' and error.value.diag.message_primary == body['message']
    connection.close()
    emulator.wait_calls(2)
    emulator.release()
    wait_for(lambda: user.held() == 0)
    user.assert_money(credits=98, usage=2)
    user.api.close()
    emulator.reset()


# ---- pictures that are none

def png(width, height, *, idat=True, end=True, depth=8, header=13):
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    ihdr = struct.pack('>IIBBBBB', width, height, depth, 2, 0, 0, 0)[:header]
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', ihdr) + (chunk(b'IDAT', zlib.compress(b'\0' * 100)) if idat else b'') + (chunk(b'IEND', b'') if end else b''))


def webp_bomb():
    body = b'WEBPVP8X' + struct.pack('<I', 10) + b'\0' * 4 + b'\xff\xff\xff' * 2
    return b'RIFF' + struct.pack('<I', len(body)) + body


def heic_bomb(width=0xffffffff, height=0xffffffff):
    def box(kind, data):
        return struct.pack('>I', 8 + len(data)) + kind + data
    ispe = box(b'ispe', struct.pack('>III', 0, width, height))
    meta = box(b'meta', b'\0' * 4 + box(b'hdlr', b'\0' * 8 + b'pict' + b'\0' * 13) + box(b'iprp', box(b'ipco', ispe)))
    return box(b'ftyp', b'heic' + b'\0' * 4 + b'mif1heic') + meta + box(b'mdat', b'x' * 64)


GOOD_PNG, GOOD_JPEG = photos.png(77, 64, 64), photos.jpeg(77, 64, 64)
PICTURES = {
    'nothing': b'', 'one byte': b'\xff', 'zeros': bytes(1000), 'text': b'This is a text and no picture.', 'html': b'<html><script>alert(1)</script></html>',
    'svg': b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', 'gif': b'GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\0\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;',
    'bmp': b'BM' + bytes(60), 'tiff': b'II*\0' + bytes(60), 'pdf': b'%PDF-1.7\n%%EOF', 'zip': b'PK\x03\x04' + bytes(40), 'elf': b'\x7fELF' + bytes(60), 'mp4': b'\0\0\0\x18ftypisom' + bytes(40),
    'avif': b'\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf' + bytes(40), 'png signature alone': GOOD_PNG[:8], 'jpeg signature alone': b'\xff\xd8\xff', 'riff alone': b'RIFF\xff\xff\xff\xffWEBP',
    'png of no width': png(0, 10), 'png of no height': png(10, 0), 'png bomb': png(60000, 60000), 'png of 4 billion': png(2 ** 31 - 1, 2 ** 31 - 1), 'png beyond its format': png(2 ** 32 - 1, 2 ** 32 - 1),
    'png without picture data': png(10, 10, idat=False), 'png without an end': png(10, 10, end=False), 'png short header': png(10, 10, header=4),
    'jpeg bomb': GOOD_JPEG.replace(struct.pack('>HH', 64, 64), b'\xff\xff\xff\xff'), 'jpeg of no size': GOOD_JPEG.replace(struct.pack('>HH', 64, 64), b'\0\0\0\0'),
    'webp bomb': webp_bomb(), 'heic bomb': heic_bomb(), 'heic of no size': heic_bomb(0, 0), 'heic box of its own size': b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + b'\0\0\0\0meta' * 30,
    'png hidden in text': b'x' + GOOD_PNG, 'jpeg in capitals': GOOD_JPEG[:2] + b'\xff\xff\xff\xff' * 200, 'base64': b'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk',
    'data url': b'data:image/png;base64,iVBORw0KGgo=', 'utf16': 'picture'.encode('utf-16'), 'json': b'{"image": "x"}',
}


@pytest.mark.parametrize('image', PICTURES.values(), ids=PICTURES.keys())
def test_upload_of_no_picture(server, people, image):
    before = server.value('SELECT count(*) FROM storage.objects')
    with expect_garbage_refused('image_type'):
        people[0].api.upload(image)
    assert server.value('SELECT count(*) FROM storage.objects') == before


@pytest.mark.parametrize('image', [GOOD_PNG, GOOD_JPEG], ids=['png', 'jpeg'])
def test_upload_of_a_cut_picture(server, people, image):
    """Cut anywhere, it is refused; the whole one is taken."""
    before = server.value('SELECT count(*) FROM storage.objects')
    for cut in [*range(0, 40), *range(40, len(image), max(1, len(image) // 40)), len(image) - 1]:
        with expect_garbage_refused('image_type'):
            people[0].api.upload(image[:cut])
    assert server.value('SELECT count(*) FROM storage.objects') == before
    assert people[0].api.upload(image)['path']


def test_upload_of_a_spoilt_picture(people):
    """A byte changed at any place of the headers: taken or refused, but in words."""
    for image in (GOOD_PNG, GOOD_JPEG, heic_bomb(100, 100)):
        for at in range(0, min(len(image), 120)):
            for value in (0, 0xff):
                spoilt = image[:at] + bytes([value]) + image[at + 1:]
                try:
                    assert people[0].api.upload(spoilt)['mime_type'].startswith('image/')
                except Refused as error:
                    assert sound(error).word == 'image_type'


def test_upload_of_too_much(server, people):
    for size in (1000001, 7340033):
        with expect_garbage_refused('image_too_large'):
            people[0].api.upload(bytes(size))
    image = photos.png(5, extra=b'x' * (1000000 - len(photos.png(5, extra=b'')) - 20))
    assert 990000 < len(image) <= 1000000 and people[0].api.upload(image)['path']


def test_upload_of_null(people):
    with expect_garbage_refused('image_type'):
        people[0].api.call('SELECT public.upload_image(NULL)')


def test_what_storage_holds_need_not_be_a_picture(server, emulator, user):
    """A row in storage.objects without bytes of ours, as another tool could leave it: not found, and no call."""
    name = f'{user.id}/ghost.jpg'
    server.query("INSERT INTO storage.objects (bucket_id, name, owner_id) VALUES ('user_uploads', %s, %s)", (name, str(user.id)))
    with expect_garbage_refused('image_not_found'):
        user.api.process('cartoon', 'user_uploads/' + name)
    with expect_garbage_refused('image_not_found'):
        user.api.download('user_uploads/' + name)


# ---- NULLs everywhere

def test_null_means_the_default_or_is_refused(server, emulator, people):
    user, path, _ = people
    own = User(server)
    result = own.api.rpc('process_image', tool_id='cartoon', original_image_storage_path=own.photo(), tool_parameters=None, wait_seconds=None, idempotency_key=None, refresh=None)
    assert result['status'] == 'succeeded'
    assert own.api.rpc('generation_status', job_id=result['job_id'], wait_seconds=None)['status'] == 'succeeded'
    assert own.api.download(result['image_path'], expires=None, signature=None)[0]
    assert own.api.call('SELECT * FROM public.my_usage(NULL, NULL)')
    own.api.close()
    emulator.reset()
    for sql in ('process_image(NULL, NULL)', "process_image('cartoon', NULL)", 'analyze_face(NULL, NULL, NULL, NULL, NULL, NULL)', 'generation_status(NULL)', 'cancel_generation(NULL)',
                'delete_generation(NULL)', 'delete_upload(NULL)', 'download_image(NULL)'):
        with expect_garbage_refused('bad_parameters'):
            user.api.call('SELECT public.' + sql)
    assert path


def test_cache_key_of_odd_things(server):
    """An operator's function: no crash, NULL for NULL, and JSON that RFC 8785 cannot write is refused."""
    key = server.value('SELECT sparky.cache_key(%s, %s, %s, NULL)', (UNKNOWN, 'é\n"\\', 'x' * 100000))
    assert re.fullmatch('[0-9a-f]{64}', key)
    for nulls in ("NULL, 'a', 'b', '{}'", "'%s', NULL, 'b', '{}'" % UNKNOWN, "'%s', 'a', NULL, '{}'" % UNKNOWN, "'%s', 'a', 'b', '{}', NULL" % UNKNOWN):
        assert server.value(f'SELECT sparky.cache_key({nulls})') is None
    for parameters in ('{"a": 1e400}', '{"a": -1e999}'):
        with pytest.raises(psycopg2.Error) as error:
            server.value("SELECT sparky.cache_key(%s, 'a', 'b', %s)", (UNKNOWN, parameters))
        assert sound(Refused(error.value)).word == 'bad_parameters'
    for parameters in ('[]', '"x"', '17', 'null', '{"a": {"b": [1, 2.50, 1e20, -0]}}', json.dumps({'k': 'v' * 1000000})):
        assert re.fullmatch('[0-9a-f]{64}', server.value("SELECT sparky.cache_key(%s, 'a', 'b', %s)", (UNKNOWN, parameters)))


def test_the_log_is_clean(server):
    """Thousands of pieces of garbage later: no process died, nothing internal went wrong."""
    log = server.log()
    for word in ('PANIC', 'FATAL', 'terminated by signal', 'XX000', 'TRAP', 'could not find', 'cache lookup failed', 'invalid memory alloc'):
        assert word not in log, [line for line in log.splitlines() if word in line][:5]
    assert [row for row in server.query('SELECT * FROM public.users WHERE credits < 0')] == []
