"""Each scripted fault does what it says."""
import gzip
import json
import select
import struct
import time

import pytest

from emulator_client import (
    KEY, SCHEMA, analyse, check_png, good, parts, pictures, png,
    post, raw_socket, read_all, satisfies,
)


ERRORS = {
    "rate_limited": (429, "RESOURCE_EXHAUSTED"), "rate_limited_bare": (429, "RESOURCE_EXHAUSTED"), "quota_day": (429, "RESOURCE_EXHAUSTED"),
    "billing": (402, "RESOURCE_EXHAUSTED"), "auth_401": (401, "UNAUTHENTICATED"), "auth_403": (403, "PERMISSION_DENIED"),
    "key_invalid": (400, "INVALID_ARGUMENT"), "bad_request": (400, "INVALID_ARGUMENT"), "failed_precondition": (400, "FAILED_PRECONDITION"),
    "not_found": (404, "NOT_FOUND"), "cancelled": (499, "CANCELLED"), "internal": (500, "INTERNAL"), "unavailable": (503, "UNAVAILABLE"),
    "deadline": (504, "DEADLINE_EXCEEDED"), "echo_key": (403, "PERMISSION_DENIED"),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_error_faults(em, fault):
    em.script({"fault": fault})
    status, data, headers = post(em)
    error = json.loads(data)["error"]
    assert (status, error["status"]) == ERRORS[fault] and error["code"] == status and "Retry-After" not in headers
    details = {d["@type"].rsplit(".", 1)[1]: d for d in error.get("details", [])}
    if fault == "rate_limited":
        assert details["RetryInfo"]["retryDelay"] == "1.5s" and "PerMinute" in details["QuotaFailure"]["violations"][0]["quotaId"]
    if fault == "quota_day":
        assert details["RetryInfo"]["retryDelay"] == "36s" and "PerDay" in details["QuotaFailure"]["violations"][0]["quotaId"]
    if fault == "rate_limited_bare":
        assert not details
    if fault == "key_invalid":
        assert details["ErrorInfo"]["reason"] == "API_KEY_INVALID"
    assert (KEY in error["message"]) == (fault == "echo_key")
    em.wait_stats(in_flight=0)
    assert em.log()[-1]["fault"] == fault
    assert post(em)[0] == 200, "a rule applies once"


def test_html_redirect_and_error_200(em):
    em.script({"fault": "bad_gateway_html"}, {"fault": "redirect", "url": "http://127.0.0.1:9/x"}, {"fault": "error_200"},
              {"fault": "rate_limited", "retryDelay": "0.25s"})
    status, data, headers = post(em)
    assert status == 502 and headers["Content-Type"].startswith("text/html") and b"<html" in data
    status, _, headers = post(em)
    assert status == 302 and headers["Location"] == "http://127.0.0.1:9/x"
    status, data, _ = post(em)
    assert status == 200 and json.loads(data)["error"]["status"] == "UNAVAILABLE"
    assert b'"0.25s"' in post(em)[1]


def test_refusals(em):
    em.script({"fault": "blocked_prompt"}, {"fault": "refusal", "finish": "NO_IMAGE"}, {"fault": "refusal_empty_content"}, {"fault": "text_only"},
              {"fault": "empty_stop"}, {"fault": "max_tokens"}, {"fault": "no_candidates"}, {"fault": "unknown_finish"}, {"fault": "no_finish"})
    answer = good(em)
    assert "candidates" not in answer and answer["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT"
    one = good(em)["candidates"][0]
    assert one["finishReason"] == "NO_IMAGE" and "content" not in one and one["finishMessage"]
    one = good(em)["candidates"][0]
    assert one["finishReason"] == "IMAGE_SAFETY" and one["content"] == {}
    answer = good(em)
    assert answer["candidates"][0]["finishReason"] == "STOP" and not pictures(answer) and parts(answer)
    one = good(em)["candidates"][0]
    assert one["finishReason"] == "STOP" and "parts" not in one["content"]
    answer = good(em)
    assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS" and pictures(answer)
    answer = good(em)
    assert "candidates" not in answer and "promptFeedback" not in answer
    answer = good(em)
    assert answer["candidates"][0]["finishReason"] == "SOMETHING_NEW" and pictures(answer)
    answer = good(em)
    assert "finishReason" not in answer["candidates"][0] and pictures(answer)


def test_picture_faults(em):
    em.script({"fault": "wrong_type"}, {"fault": "not_an_image"}, {"fault": "truncated_image"}, {"fault": "thought_only"}, {"fault": "two_images"},
              {"fault": "bad_base64"})
    mime, data, _ = pictures(good(em))[-1]
    assert mime == "image/png" and data[:3] == b"\xff\xd8\xff"
    mime, data, _ = pictures(good(em))[-1]
    assert mime == "image/png" and data.startswith(b"This is text")
    _, data, _ = pictures(good(em))[-1]
    assert data[:4] == b"\x89PNG"
    with pytest.raises((AssertionError, struct.error)):
        check_png(data)
    thoughts = pictures(good(em))
    assert len(thoughts) == 1 and thoughts[0][2] and check_png(thoughts[0][1]) == (40, 30)
    three = pictures(good(em))
    assert [thought for _, _, thought in three] == [True, False, False]
    assert check_png(three[0][1]) == check_png(three[1][1]) == (16, 16) and check_png(three[2][1]) == (40, 30)
    with pytest.raises(ValueError):
        pictures(good(em))


def test_text_faults(em):
    em.script({"fault": "nul_text"}, {"fault": "lone_surrogate"}, {"fault": "duplicate_keys"})
    answer = good(em)
    assert "\0" in parts(answer)[0]["text"] and pictures(answer)
    answer = good(em)
    assert "\ud83d" in parts(answer)[0]["text"] and pictures(answer)
    names = []
    json.loads(post(em)[1], object_pairs_hook=lambda pairs: names.append([name for name, _ in pairs]))
    assert ["candidates", "candidates"] == names[-1][:2]


def test_analysis_faults(em):
    em.script({"fault": "bad_schema"}, {"fault": "analysis_nul"}, {"fault": "lone_surrogate"}, {"fault": "analysis_split"}, {"fault": "analysis_cut"})
    assert not satisfies(json.loads(parts(analyse(em))[0]["text"]), SCHEMA, SCHEMA)
    text = parts(analyse(em))[0]["text"]
    assert "\\u0000" in text and satisfies(json.loads(text), SCHEMA, SCHEMA)
    text = parts(analyse(em))[0]["text"]
    assert "\\ud83d" in text and satisfies(json.loads(text), SCHEMA, SCHEMA)
    split = parts(analyse(em))
    assert len(split) == 4 and split[1]["thought"]
    assert satisfies(json.loads("".join(p["text"] for p in split if not p.get("thought"))), SCHEMA, SCHEMA)
    answer = analyse(em)
    assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS"
    with pytest.raises(ValueError):
        json.loads(parts(answer)[0]["text"])


def test_fault_of_the_wrong_kind(em):
    em.script({"fault": "bad_schema"})
    assert post(em)[0] == 418


def test_deep_and_cut_json(em):
    em.script({"fault": "deep_json"}, {"fault": "cut_json"})
    data = post(em)[1]
    assert data.count(b"[") == 100000
    with pytest.raises(RecursionError):
        json.loads(data)
    status, data, _ = post(em)
    assert status == 200 and len(data) > 100
    with pytest.raises(ValueError):
        json.loads(data)


def test_resets(em):
    em.script({"fault": "reset_before"}, {"fault": "reset_inside"}, {"fault": "close_before"}, {"fault": "reset_inside", "cut_at": 10})
    assert read_all(raw_socket(em)) == (b"", "reset")
    got, end = read_all(raw_socket(em))
    assert end == "reset" and got.startswith(b"HTTP/1.1 200") and b'"candidates"' in got and b"responseId" not in got
    assert read_all(raw_socket(em)) == (b"", "closed")
    got, end = read_all(raw_socket(em))
    assert end == "reset" and len(got.split(b"\r\n\r\n", 1)[1]) < 30
    em.wait_stats(in_flight=0, aborted=4)
    assert [line["by"] for line in em.log() if line["event"] == "aborted"] == ["emulator"] * 4


def test_short_body(em):
    em.script({"fault": "short_body"})
    got, end = read_all(raw_socket(em))
    head, body = got.split(b"\r\n\r\n", 1)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert end == "closed" and 0 < len(body) < length


def test_silence(em):
    em.script({"fault": "silence"})
    sock = raw_socket(em)
    em.wait_stats(in_flight=1)
    assert select.select([sock], [], [], 0.4)[0] == []
    sock.close()
    em.wait_stats(in_flight=0, aborted=1)
    assert em.log()[-1]["event"] == "aborted" and em.log()[-1]["by"] == "client"


def test_client_leaves_in_the_wait(em):
    em.control("latency", {"ms": 30000})
    sock = raw_socket(em)
    em.wait_stats(in_flight=1)
    start = time.monotonic()
    sock.close()
    em.wait_stats(in_flight=0, aborted=1)
    assert time.monotonic() - start < 15


def test_trickle(em):
    em.script({"fault": "trickle", "ms": 10, "count": 20, "tiny": True})
    start = time.monotonic()
    size = len(post(em)[1])
    assert time.monotonic() - start > size / 20 * 0.01 * 0.9
    em.script({"fault": "trickle", "ms": 20})
    start = time.monotonic()
    sock = raw_socket(em)
    got, chunks = b"", 0
    while chunks < 10:
        got += sock.recv(65536)
        chunks = got.partition(b"\r\n\r\n")[2].count(b"\r\n") // 2
    assert time.monotonic() - start > (chunks - 1) * 0.02 * 0.9
    sock.close()
    em.wait_stats(in_flight=0, aborted=1)


def test_huge_body(em):
    em.script({"fault": "huge_body", "mb": 5}, {"fault": "huge_body", "mb": 1000000}, {"fault": "huge_body", "mb": 3, "where": "image"})
    assert len(parts(json.loads(post(em)[1]))[0]["text"]) == 5 * 1024 * 1024
    sock = raw_socket(em)
    got = 0
    while got < 30000000:
        got += len(sock.recv(1 << 20))
    sock.close()
    em.wait_stats(in_flight=0, aborted=1)
    assert len(pictures(good(em))[0][1]) == 3 * 1024 * 1024 * 3 // 4


def test_gzip_bomb(em):
    em.script({"fault": "gzip_bomb", "mb": 50})
    status, data, headers = post(em)
    assert status == 200 and headers["Content-Encoding"] == "gzip" and len(data) < 1024 * 1024
    assert len(gzip.decompress(data)) == 50 * 1024 * 1024


def test_headers_flood_and_not_http(em):
    em.script({"fault": "headers_flood", "count": 500, "bytes": 1000}, {"fault": "not_http"})
    got, end = read_all(raw_socket(em))
    assert end == "closed" and got.count(b"X-Flood-") == 500 and len(got) > 500000 and got.endswith(b"{}\n")
    assert read_all(raw_socket(em))[0] == b"SSH-2.0-OpenSSH_9.2\r\n"


def test_slow_ok(em):
    em.script({"fault": "slow_ok", "ms": 300}, {"fault": "unavailable", "delay_ms": 200})
    start = time.monotonic()
    assert post(em)[0] == 200
    middle = time.monotonic()
    assert post(em)[0] == 503
    assert 0.3 <= middle - start < 5 and 0.2 <= time.monotonic() - middle < 5
