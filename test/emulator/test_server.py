"""Scripts, latency, hold, log, garbage, a thousand calls in flight, ending, TLS."""
import hashlib
import http.client
import json
import os
import resource
import select
import signal
import socket
import ssl
import subprocess
import time

import pytest

from emulator_client import (
    Emulator, HERE, IMAGE_MODEL, KEY, PHOTO, PROGRAM, TEXT_MODEL,
    analysis_body, body_of, check_png, good, pictures, png, post, raw_socket,
)


def test_matching(em):
    em.script({"match": {"prompt_contains": "bald"}, "fault": "refusal", "times": 2},
              {"match": {"nth": 5}, "fault": "internal"},
              {"match": {"model": TEXT_MODEL, "kind": "analysis", "times": 0}, "fault": "billing"},
              {"match": {"image_sha256": "0" * 64}, "fault": "not_found", "times": 0})
    results = [good(em, body_of("go bald"))["candidates"][0]["finishReason"] for _ in range(3)]
    assert results == ["IMAGE_SAFETY", "IMAGE_SAFETY", "STOP"]
    assert [post(em)[0] for _ in range(3)] == [200, 500, 200]
    assert [post(em, analysis_body(), model=TEXT_MODEL)[0] for _ in range(3)] == [402] * 3
    assert [rule["used"] for rule in em.control("script")] == [2, 1, 3, 0]


@pytest.mark.parametrize("script", [
    {"fault": "ok"}, ["ok"], [{}], [{"fault": "rate_limit"}], [{"fault": "ok", "tims": 1}], [{"fault": "ok", "match": {"promt": "x"}}],
    [{"fault": "ok", "ms": "5"}], [{"fault": "ok", "times": -1}], [{"fault": 5}], 7,
])
def test_wrong_scripts(em, script):
    em.script({"fault": "internal"})
    assert em.control("script", script, expect=400)["error"]
    assert post(em)[0] == 500, "the script before stays"


def test_append_and_reset(em):
    em.script({"fault": "internal"})
    em.control("script", {"append": True, "rules": [{"fault": "billing"}]})
    assert [post(em)[0] for _ in range(3)] == [500, 402, 200]
    em.script({"fault": "internal", "times": 0})
    em.control("reset", {})
    assert post(em)[0] == 200 and em.stats()["received"] == 1


def test_latency_and_server_timeout(em):
    em.control("latency", {"ms": 250})
    start = time.monotonic()
    assert post(em)[0] == 200
    assert 0.25 <= time.monotonic() - start < 5
    em.control("latency", {"ms": 30000})
    start = time.monotonic()
    assert post(em, headers={"X-Server-Timeout": "1"})[0] == 504
    assert 1 <= time.monotonic() - start < 10
    em.control("latency", {"ms": -1}, expect=400)


def test_hold_and_release(em):
    em.control("hold", {})
    socks = [raw_socket(em) for _ in range(5)]
    em.wait_stats(in_flight=5, holding=True)
    assert select.select(socks, [], [], 0.3)[0] == []
    assert len([line for line in em.log() if line["event"] == "received"]) == 5
    socks.pop().close()
    em.wait_stats(in_flight=4, aborted=1)
    em.control("release", {})
    for sock in socks:
        assert sock.recv(15) == b"HTTP/1.1 200 OK"
        sock.close()
    em.wait_stats(in_flight=0)


def test_log(em):
    post(em, body_of("a \u00fc\u0000 prompt"))
    em.wait_stats(in_flight=0)
    received, ended = em.log()
    assert received["event"] == "received" and received["n"] == ended["n"] and received["prompt"] == "a \u00fc\u0000 prompt"
    assert received["image_sha256"] == hashlib.sha256(PHOTO).hexdigest() and received["image_bytes"] == len(PHOTO)
    assert received["key_sha256"] == hashlib.sha256(KEY.encode()).hexdigest()[:12] and received["image_mime"] == "image/png"
    assert received["model"] == IMAGE_MODEL and received["kind"] == "image" and "x-goog-api-key" in received["headers"]
    assert received["body_sha256"] == hashlib.sha256(json.dumps(body_of("a \u00fc\u0000 prompt")).encode()).hexdigest()
    assert ended["event"] == "answered" and ended["status"] == 200 and ended["fault"] is None and ended["ms"] >= 0
    assert KEY not in open(em.log_path).read()
    lines = [json.loads(line) for line in open(em.log_path)]
    assert lines[-2:] == [received, ended], "the file keeps everything, /_control/log what came since the reset"


def test_received_is_logged_before_the_answer(em):
    em.control("hold", {})
    sock = raw_socket(em)
    em.wait_stats(in_flight=1)
    for _ in range(100):
        if em.log():
            break
        time.sleep(0.01)
    assert [line["event"] for line in em.log()] == ["received"]
    em.control("release", {})
    sock.recv(100)
    sock.close()


def test_cut_upload(em):
    sock = socket.create_connection(("127.0.0.1", em.port))
    sock.sendall(b"POST /v1beta/models/x:generateContent HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    time.sleep(0.1)
    sock.close()
    for _ in range(100):
        if em.log():
            break
        time.sleep(0.02)
    assert em.log()[0]["event"] == "upload_cut" and em.stats()["received"] == 0


@pytest.mark.parametrize("junk", [b"\0" * 300 + b"\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
                                  b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\n\r\n", b"POST /v1beta/models/x:generateContent HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                                  b"POST /v1beta/models/x:generateContent HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
                                  b"POST /v1beta/models/x:generateContent HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"], ids=range(8))
def test_garbage(em, junk):
    sock = socket.create_connection(("127.0.0.1", em.port), timeout=0.5)
    try:
        sock.sendall(junk)
        sock.recv(1000)
    except OSError:
        pass
    sock.close()
    assert post(em)[0] == 200


def test_unknown_control(em):
    em.control("nothing", {}, expect=404)
    em.control("script", {}, method="PUT", expect=404)


# ---- a thousand in flight ----

def test_thousand_in_flight(tmp_path):
    count = 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    em = Emulator(str(tmp_path), "--answer", "tiny", "--latency-ms", "1000")
    socks = []
    try:
        # Held, so that a slow machine need not open them all within the latency.
        em.control("hold", {})
        socks = [raw_socket(em) for _ in range(count)]
        em.wait_stats(in_flight=count)
        assert len(os.listdir("/proc/%d/task" % em.process.pid)) < 10, "a waiting call must not cost a thread"
        em.control("release", {})
        for sock in socks:
            got = b""
            while not got.endswith(b"0\r\n\r\n"):
                data = sock.recv(65536)
                assert data
                got += data
            assert got.startswith(b"HTTP/1.1 200 OK")
        stats = em.wait_stats(in_flight=0, answered=count)
        assert stats["max_in_flight"] == count and stats["aborted"] == 0
    finally:
        for sock in socks:
            sock.close()
        em.stop()
    lines = [json.loads(line) for line in open(em.log_path)]
    assert sorted(line["n"] for line in lines if line["event"] == "answered") == list(range(1, count + 1))


# ---- ending, TLS ----

@pytest.mark.parametrize("how", ["SIGTERM", "stdin"])
def test_ends_with_calls_under_way(tmp_path, how):
    em = Emulator(str(tmp_path))
    em.control("hold", {})
    socks = [raw_socket(em) for _ in range(20)]
    em.wait_stats(in_flight=20)
    if how == "SIGTERM":
        em.process.send_signal(signal.SIGTERM)
    else:
        em.process.stdin.close()
    assert em.process.wait(10) == 0
    lines = [json.loads(line)["event"] for line in open(em.log_path)]
    assert lines.count("received") == lines.count("aborted") == 20
    for sock in socks:
        sock.close()


def test_options():
    for options in ([], ["--log"], ["--log", "/dev/null", "--tls-cert", "x"], ["--log", "/dev/null", "--latency-ms", "x"], ["--log", "/dev/null", "more"]):
        assert subprocess.run([PROGRAM, *options], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL).returncode in (1, 2)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("certs"))
    subprocess.run([os.path.join(HERE, "make-certs"), directory], check=True)
    emulator = Emulator(directory, tls=directory)
    yield emulator, directory
    emulator.stop()


def test_tls(tls):
    em, directory = tls
    em.control("reset", {})
    assert check_png(pictures(good(em))[0][1]) == (40, 30)
    em.script({"fault": "ok", "bytes": 3000000}, {"fault": "headers_flood"}, {"fault": "reset_inside"}, {"fault": "silence"})
    assert len(pictures(good(em))[0][1]) == 3000000
    with pytest.raises(http.client.HTTPException):
        post(em)
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError, ssl.SSLError)):
        post(em)
    with pytest.raises((TimeoutError, socket.timeout)):
        post(em, timeout=0.5)
    em.wait_stats(in_flight=0)
    with pytest.raises(ssl.SSLCertVerificationError):
        em.context = ssl.create_default_context(cafile=os.path.join(directory, "other-ca.pem"))
        em.connect().request("GET", "/")
    em.context = ssl.create_default_context(cafile=os.path.join(directory, "ca.pem"))


def test_only_loopback(shared):
    with open("/proc/net/tcp") as table:
        listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
    assert "0100007F:%04X" % shared.port in listening and "00000000:%04X" % shared.port not in listening
