"""Storage: what is accepted, refused, stored, signed, listed and deleted; every scripted fault. Rows in memory here: those in a database are test/e2e's."""
import base64
import hashlib
import http.client
import json
import socket
import time
import urllib.parse

import pytest

from emulator_client import PHOTO, Emulator, post, read_all

SERVICE = "sb_secret_test-key-0123456789"
PATH = "generations/8d5e/one.png"


@pytest.fixture(scope="module")
def shared_storage(tmp_path_factory):
    emulator = Emulator(str(tmp_path_factory.mktemp("storage")), "--storage-key", SERVICE, "--storage-file-limit", "8000000")
    yield emulator
    emulator.stop()


@pytest.fixture
def st(shared_storage):
    shared_storage.control("reset", {})
    shared_storage.storage("clear")
    yield shared_storage
    assert shared_storage.process.poll() is None, "the emulator died"
    shared_storage.control("reset", {})


def call(em, method, path, body=None, headers=None, key=SERVICE):
    """(status, body, headers); key None: without one. Header None: not sent."""
    connection = em.connect()
    sent = {"apikey": key, "Authorization": f"Bearer {key}"} if key else {}
    for name, value in (headers or {}).items():
        sent.pop(name, None)
        if value is not None:
            sent[name] = value
    try:
        connection.request(method, "/storage/v1" + path, body, sent)
        response = connection.getresponse()
        return response.status, response.read(), dict((k.lower(), v) for k, v in response.getheaders())
    finally:
        connection.close()


def error(answer):
    """HTTP status, statusCode and code of an error."""
    body = json.loads(answer[1])
    assert set(body) <= {"statusCode", "code", "error", "message"} and isinstance(body["statusCode"], str) and body["message"]
    return answer[0], body["statusCode"], body.get("code")


def upload(em, path=PATH, data=PHOTO, mime="image/png", method="POST", **headers):
    return call(em, method, "/object/" + urllib.parse.quote(path), data, {"Content-Type": mime, **{k.replace("_", "-"): v for k, v in headers.items()}})


def download(em, path=PATH, **headers):
    return call(em, "GET", "/object/authenticated/" + urllib.parse.quote(path), headers={k.replace("_", "-"): v for k, v in headers.items()})


def as_json(em, method, path, body, **options):
    status, data, _ = call(em, method, path, json.dumps(body), {"Content-Type": "application/json"}, **options)
    return status, json.loads(data)


def info(em, path=PATH):
    return json.loads(call(em, "GET", "/object/info/authenticated/" + path)[1])


# ---- objects

def test_there_and_back(st):
    status, body, _ = upload(st, cache_control="max-age=3600")
    assert status == 200 and json.loads(body)["Key"] == PATH
    status, data, headers = download(st)
    assert status == 200 and data == PHOTO
    assert (headers["content-type"], headers["content-length"], headers["cache-control"], headers["accept-ranges"]) == (
        "image/png", str(len(PHOTO)), "max-age=3600", "bytes")
    assert headers["etag"].startswith('"') and headers["last-modified"].endswith("GMT")
    assert call(st, "GET", "/object/" + PATH)[1] == PHOTO
    status, data, headers = call(st, "HEAD", "/object/authenticated/" + PATH)
    assert (status, data, headers["content-length"]) == (200, b"", str(len(PHOTO)))
    known = info(st)
    assert (known["size"], known["content_type"]) == (len(PHOTO), "image/png") and known["id"] == json.loads(body)["Id"]


def test_overwriting(st):
    first = json.loads(upload(st)[1])
    before = info(st)
    assert error(upload(st)) == (400, "409", "KeyAlreadyExists")
    assert error(upload(st, x_upsert="false")) == (400, "409", "KeyAlreadyExists")
    again = upload(st, data=b"\x89PNG other", x_upsert="true")
    assert again[0] == 200 and json.loads(again[1])["Id"] == first["Id"]
    after = info(st)
    assert after["version"] != before["version"] and after["etag"] != before["etag"] and after["id"] == before["id"]
    assert download(st)[1] == b"\x89PNG other"
    assert upload(st, method="PUT")[0] == 200 and upload(st, "generations/8d5e/new.png", method="PUT")[0] == 200
    assert st.control("storage")["files"] == 2, "old versions are gone"


def test_ranges_and_conditions(st):
    upload(st)
    etag = download(st)[2]["etag"]
    assert download(st, If_None_Match=etag)[:2] == (304, b"")
    assert download(st, If_None_Match='"other"')[0] == 200
    for asked, part in (("bytes=0-9", PHOTO[:10]), ("bytes=5-", PHOTO[5:]), ("bytes=-7", PHOTO[-7:]), ("bytes=3-99999", PHOTO[3:])):
        status, data, headers = download(st, Range=asked)
        assert status == 206 and data == part and headers["content-range"].endswith("/%d" % len(PHOTO)), asked
    assert error(download(st, Range="bytes=99999-"))[0] == 416


@pytest.mark.parametrize("name", ["a b.png", "a+b.png", "a?b&c=d.png", "!-.*'()_&$@=;:+,.png", "deep/er/x.png"])
def test_good_keys(st, name):
    path = "user_uploads/u/" + name
    assert upload(st, path)[0] == 200 and download(st, path)[1] == PHOTO
    assert st.storage("list", bucket="user_uploads")[0]["name"] == "u/" + name


@pytest.mark.parametrize("name", ["a#b.png", "a~b.png", "a^b", "é.png", "100%.png", "a%2Fb.png", "../x.png", "a/../b", "a//b.png", "a[1].png"])
def test_bad_keys(st, name):
    assert error(upload(st, "user_uploads/u/" + name)) == (400, "400", "InvalidKey")
    assert st.storage("list") == []


def test_limits(st):
    limit = 7340032
    assert upload(st, data=b"x" * limit)[0] == 200
    assert error(upload(st, "generations/b.png", data=b"x" * (limit + 1))) == (400, "413", "EntityTooLarge")
    assert error(upload(st, "generations/b.png", data=b"x" * 8000001)) == (400, "413", "EntityTooLarge")
    assert upload(st, "generations/empty.png", data=b"")[0] == 200
    for mime in ("image/png; charset=binary", "application/x-www-form-urlencoded", "IMAGE/PNG", "image/gif", None):
        assert error(upload(st, "generations/c.png", mime=mime)) == (400, "415", "InvalidMimeType"), mime
    assert len(st.storage("list")) == 2


def test_chunked_uploads_escape_the_limit_and_are_seen(st):
    connection = st.connect()
    connection.request("POST", "/storage/v1/object/generations/big.png", (b"x" * 1000000 for _ in range(9)),
                       {"apikey": SERVICE, "Authorization": "Bearer " + SERVICE, "Content-Type": "image/png"}, encode_chunked=True)
    assert connection.getresponse().status == 200
    event = [line for line in st.log() if line["event"] == "received"][0]
    assert event["chunked"] is True and event["content_length"] is None and event["body_bytes"] == 9000000


def test_a_short_upload_leaves_nothing(st):
    with socket.create_connection(("127.0.0.1", st.port), timeout=20) as sock:
        sock.sendall(f"POST /storage/v1/object/{PATH} HTTP/1.1\r\nHost: x\r\napikey: {SERVICE}\r\nAuthorization: Bearer {SERVICE}\r\n"
                     "Content-Type: image/png\r\nContent-Length: 1000\r\n\r\nonly this".encode())
        time.sleep(0.1)
    for _ in range(500):
        if any(line["event"] == "upload_cut" for line in st.log()):
            break
        time.sleep(0.02)
    assert any(line["event"] == "upload_cut" for line in st.log())
    assert error(download(st)) == (400, "404", "NoSuchKey")


def test_what_is_not_there(st):
    assert error(download(st)) == (400, "404", "NoSuchKey")
    assert error(download(st, "nowhere/x.png")) == (400, "404", "NoSuchBucket")
    assert error(upload(st, "nowhere/x.png")) == (400, "404", "NoSuchBucket")
    assert error(call(st, "GET", "/object/info/authenticated/" + PATH)) == (400, "404", "NoSuchKey")
    upload(st)
    assert error(call(st, "GET", "/object/public/" + PATH, key=None)) == (400, "404", "NoSuchBucket"), "the bucket is private"
    for method, path in (("PATCH", "/object/" + PATH), ("GET", "/object/"), ("GET", "/nothing"), ("POST", "/object//x")):
        status, body, _ = call(st, method, path)
        assert (status, json.loads(body)["statusCode"]) == (404, 404), (method, path)


def test_a_row_without_its_file(st):
    upload(st)
    st.storage("drop_file", object=PATH)
    assert error(download(st)) == (500, "500", "InternalError")
    assert info(st)["size"] == len(PHOTO), "info looks at the row alone"
    assert call(st, "DELETE", "/object/" + PATH)[0] == 200
    assert error(download(st)) == (400, "404", "NoSuchKey")


# ---- who calls

def test_keys(st):
    upload(st)
    for headers in ({"Authorization": None}, {"Authorization": None, "apikey": None}):
        assert error(call(st, "GET", "/object/authenticated/" + PATH, headers=headers)) == (400, "400", "InvalidRequest")
    for headers in ({"Authorization": "Bearer garbage"}, {"Authorization": "Basic x"}, {"apikey": None}, {"apikey": "other"}):
        assert error(call(st, "GET", "/object/authenticated/" + PATH, headers=headers)) == (400, "403", "AccessDenied"), headers
    good = [line for line in st.log() if line["event"] == "received"][0]
    assert (good["has_apikey"], good["has_authorization"], good["keys_equal"]) == (True, True, True)
    assert good["key_sha256"] == hashlib.sha256(SERVICE.encode()).hexdigest()[:12]
    assert SERVICE not in st.control("log")


def test_tokens_of_users(st):
    token = st.storage("token", sub="8d5e")["token"]
    head = {"apikey": "anon", "Authorization": "Bearer " + token}
    status, body, _ = call(st, "POST", "/object/user_uploads/8d5e/x.png", PHOTO, {**head, "Content-Type": "image/png"}, key=None)
    assert status == 200 and st.storage("get", object="user_uploads/8d5e/x.png")["row"]["owner_id"] == "8d5e"
    upload(st)
    assert st.storage("get", object=PATH)["row"]["owner_id"] is None
    for bad in (token[:-4] + "AAAA", token.split(".")[0] + ".e30." + token.split(".")[2], "a.b.c", token + ".x", st.storage("token", sub="x", seconds=-1)["token"]):
        assert error(call(st, "GET", "/object/authenticated/" + PATH, headers={**head, "Authorization": "Bearer " + bad}, key=None)) == (400, "403", "AccessDenied")


# ---- links

def test_links(st):
    path = "generations/8d5e/a b.png"
    upload(st, path)
    status, answer = as_json(st, "POST", "/object/sign/" + urllib.parse.quote(path), {"expiresIn": 600})
    assert status == 200 and answer["signedURL"].startswith("/object/sign/generations/8d5e/a b.png?token=")
    link, token = answer["signedURL"].replace(" ", "%20").split("?token=")
    opened = call(st, "GET", f"{link}?token={token}", key=None)
    assert opened[:2] == (200, PHOTO) and opened[2]["content-type"] == "image/png"
    upload(st)
    assert error(call(st, "GET", f"/object/sign/{PATH}?token={token}", key=None)) == (400, "400", "InvalidSignature")
    head, body, _ = token.split(".")
    other = base64.urlsafe_b64encode(json.dumps({"url": path, "exp": 9999999999}).encode()).decode().rstrip("=")
    for bad in (token[:-4] + "AAAA", f"{head}.{other}.{token.split('.')[2]}", "x", head, st.storage("token", sub="x")["token"]):
        assert error(call(st, "GET", f"{link}?token={bad}", key=None)) == (400, "400", "InvalidJWT"), bad
    assert call(st, "GET", link, key=None)[0] == 400
    short = as_json(st, "POST", "/object/sign/" + urllib.parse.quote(path), {"expiresIn": 1})[1]["signedURL"].replace(" ", "%20")
    time.sleep(2.1)
    assert error(call(st, "GET", short, key=None)) == (400, "400", "InvalidJWT")
    assert call(st, "GET", f"{link}?token={token}", key=None)[0] == 200
    assert error(call(st, "POST", "/object/sign/generations/none.png", '{"expiresIn":5}', {"Content-Type": "application/json"})) == (400, "404", "NoSuchKey")
    for body in ('{"expiresIn":0}', '{"expiresIn":"5"}', "{}", "[]", "{"):
        assert call(st, "POST", "/object/sign/" + PATH, body, {"Content-Type": "application/json"})[0] == 400
    assert call(st, "POST", "/object/sign/" + PATH, '{"expiresIn":5}', {"Content-Type": "image/png"})[0] == 415


# ---- deleting, listing

def test_deleting(st):
    paths = [f"generations/8d5e/{n}.png" for n in range(4)]
    for path in paths:
        upload(st, path)
    status, gone = as_json(st, "DELETE", "/object/generations", {"prefixes": ["8d5e/0.png", "8d5e/none.png", "8d5e/1.png"]})
    assert status == 200 and sorted(row["name"] for row in gone) == ["8d5e/0.png", "8d5e/1.png"]
    assert as_json(st, "DELETE", "/object/generations", {"prefixes": ["8d5e/0.png"]}) == (200, [])
    assert call(st, "DELETE", "/object/" + paths[2])[0] == 200
    assert error(call(st, "DELETE", "/object/" + paths[2])) == (400, "404", "NoSuchKey")
    assert [row["name"] for row in st.storage("list")] == ["8d5e/3.png"] and st.control("storage")["files"] == 1
    for body in ('{"prefixes":[]}', '{"prefixes":[7]}', '{"prefixes":"x"}', "{}"):
        assert call(st, "DELETE", "/object/generations", body, {"Content-Type": "application/json"})[0] == 400


def test_listing(st):
    for name in ("a.png", "b/1.png", "b/2.png", "c.png", "d/e/f.png"):
        upload(st, "generations/u/" + name)

    def names(prefix, **more):
        status, lines = as_json(st, "POST", "/object/list/generations", {"prefix": prefix, "limit": 100, "offset": 0, **more})
        assert status == 200
        return [(line["name"], line["id"] is None) for line in lines]
    assert names("u") == names("u/") == [("a.png", False), ("b", True), ("c.png", False), ("d", True)]
    assert names("") == [("u", True)]
    assert names("u/b") == [("1.png", False), ("2.png", False)]
    assert names("u", limit=2) == [("a.png", False), ("b", True)] and names("u", limit=2, offset=2) == [("c.png", False), ("d", True)]
    assert names("nobody") == []


# ---- faults

@pytest.mark.parametrize("fault, expected", [
    ("no_such_key", (400, "404", "NoSuchKey")), ("no_such_bucket", (400, "404", "NoSuchBucket")), ("key_exists", (400, "409", "KeyAlreadyExists")),
    ("invalid_request", (400, "400", "InvalidRequest")), ("access_denied", (400, "403", "AccessDenied")), ("too_large", (400, "413", "EntityTooLarge")),
    ("mime_refused", (400, "415", "InvalidMimeType")), ("invalid_key", (400, "400", "InvalidKey")), ("slow_down", (429, "429", "SlowDown")),
    ("internal", (500, "500", "InternalError")), ("database_timeout", (544, "544", "DatabaseTimeout")),
    ("database_busy", (400, "503", "DatabaseConnectionLimit")), ("unavailable", (503, "503", None)), ("deadline", (504, "504", None)),
])
def test_errors(st, fault, expected):
    st.script({"match": {"service": "storage", "kind": "upload"}, "fault": fault})
    assert error(upload(st)) == expected
    assert st.storage("list") == [], "an error does nothing"
    assert upload(st)[0] == 200
    assert [line["fault"] for line in st.log() if line["event"] == "answered"] == [fault, None]


def test_any_code(st):
    st.script({"fault": "error", "code": "SomethingNew", "status": 418}, {"fault": "error", "code": "Odd", "status": 503, "http": 400, "message": "m"})
    assert error(upload(st)) == (400, "418", "SomethingNew")
    assert error(upload(st)) == (400, "503", "Odd")


def test_matching_by_path(st):
    st.script({"match": {"path": PATH, "kind": "download"}, "fault": "internal", "times": 0})
    upload(st)
    upload(st, "generations/8d5e/two.png")
    assert download(st)[0] == 500 and download(st, "generations/8d5e/two.png")[0] == 200 and download(st)[0] == 500
    st.script({"match": {"service": "gemini"}, "fault": "internal"})
    assert download(st)[0] == 200


def test_bent_answers(st):
    upload(st)
    st.script({"fault": "wrong_bytes"}, {"fault": "cut_file", "cut_at": 5}, {"fault": "redirect"}, {"fault": "bad_gateway_html"},
              {"fault": "route_not_found"}, {"fault": "garbage"}, {"fault": "echo_key"})
    status, data, _ = download(st)
    assert status == 200 and len(data) == len(PHOTO) and data != PHOTO
    assert download(st)[1] == PHOTO[:5]
    assert [download(st)[0] for _ in range(4)] == [302, 502, 404, 200]
    assert SERVICE in download(st)[1].decode() and SERVICE not in st.control("log")
    st.script({"fault": "other_link"})
    assert as_json(st, "POST", "/object/sign/" + PATH, {"expiresIn": 5})[1]["signedURL"].startswith("https://evil")


def test_lost_answers(st):
    """The upload arrives, its answer does not; or neither."""
    for number, (fault, processed) in enumerate((("reset_before", True), ("close_before", True), ("reset_before", False))):
        st.script({"match": {"kind": "upload"}, "fault": fault, "processed": processed})
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            upload(st, f"generations/{number}.png")
        st.wait_stats(in_flight=0)
        assert (download(st, f"generations/{number}.png")[0] == 200) is processed
    upload(st)
    for fault in ("short_body", "reset_inside"):
        st.script({"fault": fault})
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            download(st)
    st.script({"fault": "trickle", "ms": 1, "count": 50}, {"fault": "huge_body", "mb": 3})
    assert download(st)[1] == PHOTO
    assert len(download(st)[1]) == len(PHOTO) + 3 * 1024 * 1024


def test_unfit_faults(st):
    st.script({"fault": "wrong_bytes"}, {"fault": "two_images"})
    assert upload(st)[0] == 418 and upload(st)[0] == 418
    st.script({"fault": "slow_down"})
    assert post(st)[0] == 418, "a fault of Storage on a call of Gemini"
    assert st.control("script", [{"fault": "slow_dwn"}], expect=400)


def test_the_work_is_done_when_the_call_is_due(st):
    """A slow upload lands after what was done in the meantime; so does a held one, also when its client has left."""
    st.control("hold", {})
    sock = socket.create_connection(("127.0.0.1", st.port), timeout=20)
    sock.sendall(f"POST /storage/v1/object/{PATH} HTTP/1.1\r\nHost: x\r\napikey: {SERVICE}\r\nAuthorization: Bearer {SERVICE}\r\n"
                 f"Content-Type: image/png\r\nContent-Length: {len(PHOTO)}\r\n\r\n".encode() + PHOTO)
    st.wait_stats(in_flight=1)
    assert st.storage("list") == []
    st.control("release", {})
    assert sock.recv(15) == b"HTTP/1.1 200 OK"
    sock.close()
    assert len(st.storage("list")) == 1

    st.storage("clear")
    st.control("hold", {})
    sock = socket.create_connection(("127.0.0.1", st.port), timeout=20)
    sock.sendall(f"POST /storage/v1/object/{PATH} HTTP/1.1\r\nHost: x\r\napikey: {SERVICE}\r\nAuthorization: Bearer {SERVICE}\r\n"
                 f"Content-Type: image/png\r\nContent-Length: {len(PHOTO)}\r\n\r\n".encode() + PHOTO)
    st.wait_stats(in_flight=1)
    sock.close()
    st.wait_stats(in_flight=0)
    assert len(st.storage("list")) == 1, "the service had the whole request"
    st.control("release", {})


def test_latency(st):
    st.control("latency", {"ms": 250})
    start = time.monotonic()
    upload(st)
    assert 0.25 <= time.monotonic() - start < 5
    st.script({"fault": "slow_ok", "ms": 400})
    start = time.monotonic()
    assert download(st)[1] == PHOTO and 0.4 <= time.monotonic() - start < 5


def test_control(st):
    row = st.storage("put", object=PATH, text="hello", mime="image/webp", owner="8d5e")
    assert row["metadata"]["size"] == 5 and row["owner_id"] == "8d5e"
    assert download(st)[1] == b"hello"
    got = st.storage("get", object=PATH)
    assert base64.b64decode(got["base64"]) == b"hello" and got["row"]["id"] == row["id"]
    assert st.control("storage")["download"] == 1
    st.storage("drop_file", object=PATH)
    assert st.storage("get", object=PATH)["base64"] is None
    assert len(st.storage("delete", object=PATH)) == 1 and st.storage("delete", object=PATH) == []
    for body in ({"do": "fly"}, {"do": "put"}, {"do": "put", "object": PATH, "base64": "*"}, {"do": "get", "object": PATH}, {"do": "get", "object": 7},
                 {"do": "list", "bucke": "x"}, {"do": "drop_file", "object": PATH}, {}):
        assert st.control("storage", body, expect=400)["error"], body


def test_many_at_once(st):
    socks = []
    for n in range(200):
        sock = socket.create_connection(("127.0.0.1", st.port), timeout=20)
        sock.sendall(f"PUT /storage/v1/object/generations/u/{n}.png HTTP/1.1\r\nHost: x\r\napikey: {SERVICE}\r\nAuthorization: Bearer {SERVICE}\r\n"
                     f"Connection: close\r\nContent-Type: image/png\r\nContent-Length: {len(PHOTO)}\r\n\r\n".encode() + PHOTO)
        socks.append(sock)
    assert all(read_all(sock)[0].startswith(b"HTTP/1.1 200") for sock in socks)
    assert len(st.storage("list", bucket="generations", prefix="u/")) == 200
