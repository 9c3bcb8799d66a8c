"""The Paymob service: what it refuses, what it answers, what can be made to happen there, and its faults."""
import concurrent.futures
import hashlib
import hmac
import json
import time

import pytest

from emulator_client import KEY, Emulator, post, raw_socket

SECRET_KEY, API_KEY, HMAC_SECRET = "egy_sk_test_0123", "ZXlKaGJHY2lPaUpJVXpVeE1pSjk=", "04DC1A9490B8CC2094C011FC055ADCDB"
SIGNED = ("amount_cents created_at currency error_occured has_parent_transaction id integration_id is_3d_secure is_auth is_capture is_refunded"
          " is_standalone_payment is_voided order.id owner pending source_data.pan source_data.sub_type source_data.type success").split()
INQUIRY = "/api/ecommerce/orders/transaction_inquiry"
TOKENS = "/api/auth/tokens"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    emulator = Emulator(str(tmp_path_factory.mktemp("paymob")), "--key", KEY, "--paymob-secret-key", SECRET_KEY, "--paymob-api-key", API_KEY,
                        "--paymob-hmac-secret", HMAC_SECRET, "--paymob-integrations", "1920364654,7", "--paymob-owner", "302852")
    yield emulator
    emulator.stop()


@pytest.fixture
def pm(own):
    own.control("reset", {})
    yield own
    assert own.process.poll() is None, "the emulator died"


def intention(reference="ref-1", **changes):
    body = {"amount": 9900, "currency": "EGP", "payment_methods": [1920364654], "items": [{"name": "50 credits", "amount": 9900, "quantity": 1}],
            "billing_data": {"first_name": "NA", "last_name": "NA", "email": "a@example.com", "phone_number": "NA"},
            "special_reference": reference, "notification_url": "https://api.example.com/rpc/paymob_webhooks"}
    body.update(changes)
    return {name: value for name, value in body.items() if value is not ...}


def call(em, path, body=None, method="POST", key=None, **more):
    status, data, _ = post(em, body, path=path, method=method, raw="" if body is None else None,
                           headers={"x-goog-api-key": None, **({"Authorization": key} if key else {})}, **more)
    return status, json.loads(data)


def create(em, body=None, key="Token " + SECRET_KEY, **more):
    return call(em, "/v1/intention/", body or intention(), key=key, **more)


def created(em, *args, **named):
    status, answer = create(em, *args, **named)
    assert status == 201, answer
    return answer


def token(em):
    status, answer = call(em, TOKENS, {"api_key": API_KEY})
    assert status == 201
    return "Bearer " + answer["token"]


def digest(body):
    obj, texts = json.loads(body)["obj"], []
    for path in SIGNED:
        value = obj
        for name in path.split("."):
            value = value.get(name) if value else None
        texts.append("" if value is None else str(value).lower() if isinstance(value, bool) else str(value))
    return hmac.new(HMAC_SECRET.encode(), "".join(texts).encode(), hashlib.sha512).hexdigest()


def checked(event):
    """The object of a callback whose digest is good."""
    assert event["hmac"] == digest(event["body"])
    return json.loads(event["body"])["obj"]


def test_intention(pm):
    answer = created(pm, intention(extras={"a": 1}))
    assert answer["intention_order_id"] > 2 ** 53 and answer["id"].startswith("pi_") and answer["client_secret"]
    assert answer["intention_detail"]["amount"] == 9900 and answer["intention_detail"]["currency"] == "EGP"
    assert answer["special_reference"] == "ref-1" and answer["status"] == "intended" and answer["confirmed"] is False
    assert answer["payment_keys"][0]["integration"] == 1920364654 and answer["extras"]["creation_extras"] == {"a": 1}
    again = created(pm, intention("ref-2"))
    assert again["intention_order_id"] != answer["intention_order_id"] and again["client_secret"] != answer["client_secret"]


def test_ids_never_come_twice(pm):
    first = created(pm)["intention_order_id"]
    pm.control("reset", {})
    assert created(pm)["intention_order_id"] > first, "the reference is free again, the id is not"


@pytest.mark.parametrize("key", [None, "Token wrong", "Token ", "Bearer " + SECRET_KEY, SECRET_KEY, "token " + SECRET_KEY])
def test_wrong_secret_key(pm, key):
    status, answer = create(pm, key=key)
    assert status == 401 and answer["detail"]
    assert pm.control("paymob")["orders"] == {}


@pytest.mark.parametrize("field, changes", [
    ("amount", {"amount": 0}), ("amount", {"amount": -5}), ("amount", {"amount": 99.5}), ("amount", {"amount": "9900"}), ("amount", {"amount": ...}),
    ("currency", {"currency": "USD"}), ("currency", {"currency": "egp"}), ("currency", {"currency": ...}),
    ("payment_methods", {"payment_methods": []}), ("payment_methods", {"payment_methods": ["card"]}), ("payment_methods", {"payment_methods": ...}),
    ("items", {"items": []}), ("items", {"items": [{"name": "x" * 51, "amount": 9900, "quantity": 1}]}),
    ("items", {"items": [{"name": "x", "amount": 4950, "quantity": 2}]}), ("items", {"items": [{"amount": 9900}]}),
    ("billing_data", {"billing_data": ...}), ("billing_data", {"billing_data": {"first_name": "a", "last_name": "b", "email": "c"}}),
    ("billing_data", {"billing_data": {"first_name": "", "last_name": "b", "email": "c", "phone_number": "d"}}),
    ("special_reference", {"special_reference": ""}), ("special_reference", {"special_reference": 5}),
    ("expiration", {"expiration": 0}), ("notification_url", {"notification_url": "api.example.com"}), ("extras", {"extras": []}),
    ("amount_cents", {"amount_cents": 9900}), ("redirection_url", {"redirection_url": None}),
])
def test_wrong_intention(pm, field, changes):
    status, answer = create(pm, intention(**changes))
    assert status == 400 and list(answer) == [field] and isinstance(answer[field], list)
    assert create(pm)[0] == 201, "the reference was not used up"


def test_refused_otherwise(pm):
    assert create(pm, intention(payment_methods=[1920364654, 8]))[0] == 404
    assert create(pm, intention(items=[{"name": "x", "amount": 9901, "quantity": 1}]))[0] == 406
    key = {"Authorization": "Token " + SECRET_KEY}
    assert post(pm, path="/v1/intention/", raw='{"amount":1,"amount":2}', headers=key)[0] == 400
    assert post(pm, path="/v1/intention/", raw="[]", headers=key)[0] == 400
    assert post(pm, intention(), path="/v1/intention/", headers={**key, "Content-Type": "text/plain"})[0] == 415
    assert post(pm, path="/v1/intention/", method="GET", raw="", headers=key)[0] == 405
    assert post(pm, intention(), path="/v1/intention", headers=key)[0] == 404
    assert create(pm, intention("é" * 200, items=[{"name": "ن" * 50, "amount": 9900}]))[0] == 201


def test_reference_is_new(pm):
    created(pm)
    assert list(create(pm)[1]) == ["special_reference"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: create(pm, intention("race"))[0], range(24)))
    assert sorted(statuses) == [201] + [400] * 23


def test_token(pm):
    assert call(pm, TOKENS, {"api_key": "wrong"})[0] == 403
    assert call(pm, TOKENS, {"api_key": 5})[0] == 400 and call(pm, TOKENS, {})[0] == 400
    order = created(pm)["intention_order_id"]
    pm.paymob("pay", order=order)
    assert call(pm, INQUIRY, {"order_id": order})[0] == 401
    assert call(pm, INQUIRY, {"order_id": order}, key="Bearer nonsense")[0] == 401
    good = token(pm)
    assert call(pm, INQUIRY, {"order_id": order}, key=good)[0] == 200
    assert call(pm, INQUIRY, {"order_id": order, "auth_token": good[7:]})[0] == 200
    assert call(pm, INQUIRY, {"order_id": order, "auth_token": "nonsense"}, key=good)[0] == 401
    pm.paymob("settings", token_seconds=1)
    short = token(pm)
    for _ in range(200):
        if call(pm, INQUIRY, {"order_id": order}, key=short)[0] == 401:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the token never ended")
    assert call(pm, INQUIRY, {"order_id": order}, key=good)[0] == 200


def test_inquiry(pm):
    key, order = token(pm), created(pm)["intention_order_id"]
    assert call(pm, INQUIRY, {"order_id": order}, key=key)[0] == 404, "no transaction yet"
    assert call(pm, INQUIRY, {"order_id": 5}, key=key)[0] == 404 and call(pm, INQUIRY, {"merchant_order_id": "x"}, key=key)[0] == 404
    declined, paid = pm.paymob("pay", order=order, outcome="decline"), pm.paymob("pay", order=order)
    assert declined["transaction"] != paid["transaction"] > 2 ** 53
    for question in ({"order_id": order}, {"merchant_order_id": "ref-1"}):
        status, answer = call(pm, INQUIRY, question, key=key)
        assert status == 200 and answer == checked(paid)
    path = "/api/acceptance/transactions/%d"
    assert call(pm, path % declined["transaction"], method="GET", key=key) == (200, checked(declined))
    assert call(pm, path % 5, method="GET", key=key)[0] == 404 and call(pm, path % paid["transaction"], method="GET")[0] == 401
    assert call(pm, path[:-2] + "x", method="GET", key=key)[0] == 404
    for wrong in ({}, {"order_id": "5"}, {"order_id": order, "merchant_order_id": "ref-1"}):
        assert call(pm, INQUIRY, wrong, key=key)[0] == 400


def test_published_vector(pm):
    """The example of Paymob's own page."""
    order = pm.paymob("order", id=217503754, amount_cents=100000)["id"]
    event = pm.paymob("pay", order=order, id=192036465, integration_id=4097558, created_at="2024-06-13T11:33:44.592345")
    assert event["hmac"].startswith("fa8ac0b7f3852e60") and event["hmac"].endswith("8d2e79930") and checked(event)["success"]


def test_paying(pm):
    order = created(pm)["intention_order_id"]
    obj = checked(pm.paymob("pay", order=order))
    assert obj["success"] and obj["is_standalone_payment"] and obj["order"]["id"] == order and obj["amount_cents"] == 9900
    assert obj["integration_id"] == 1920364654 and obj["owner"] == 302852 and obj["order"]["merchant_order_id"] == "ref-1"
    assert obj["payment_key_claims"]["billing_data"]["email"] == "a@example.com" and obj["payment_key_claims"]["notification_url"]
    assert not any(obj[flag] for flag in "pending error_occured is_auth is_capture is_voided is_refunded has_parent_transaction".split())
    assert not checked(pm.paymob("pay", order=order, outcome="decline"))["success"]
    assert checked(pm.paymob("pay", reference="ref-1", outcome="error"))["error_occured"]
    waiting = pm.paymob("pay", order=order, method="kiosk")
    assert checked(waiting)["pending"] and checked(waiting)["source_data"]["pan"] == ""
    done = pm.paymob("complete", transaction=waiting["transaction"])
    assert done["transaction"] == waiting["transaction"] and checked(done)["success"] and not checked(done)["pending"]
    lapsed = checked(pm.paymob("lapse", transaction=pm.paymob("pay", order=order, method="kiosk")["transaction"]))
    assert lapsed["is_voided"] and not lapsed["success"] and not lapsed["pending"]
    for method, kind in {"card": "card", "wallet": "wallet", "apple_pay": "apple pay", "cash": "cash"}.items():
        assert checked(pm.paymob("pay", order=order, method=method))["source_data"]["type"] == kind
    other = checked(pm.paymob("pay", order=order, amount_cents=1, currency="USD", integration_id=7, owner=8, id=9, created_at="x"))
    assert [other[name] for name in ("amount_cents", "currency", "integration_id", "owner", "id", "created_at")] == [1, "USD", 7, 8, 9, "x"]


def test_reversals(pm):
    key, order = token(pm), created(pm)["intention_order_id"]
    paid = pm.paymob("pay", order=order)
    first = pm.paymob("refund", transaction=paid["transaction"], amount_cents=3000)
    obj = checked(first)
    assert obj["id"] == paid["transaction"] and obj["is_refunded"] and obj["refunded_amount_cents"] == 3000 and obj["success"]
    status, child = call(pm, INQUIRY, {"order_id": order}, key=key)
    assert child == checked(first["child"]) and child["amount_cents"] == 3000 and child["has_parent_transaction"] and child["is_refund"]
    assert not child["is_refunded"] and child["parent_transaction"] == paid["transaction"]
    rest = pm.paymob("refund", transaction=paid["transaction"])
    assert checked(rest)["refunded_amount_cents"] == 9900 and rest["hmac"] == first["hmac"], "the total is not signed"
    assert pm.paymob("refund", transaction=paid["transaction"], expect=400)["error"]

    late = pm.paymob("pay", order=order)["transaction"]
    part = pm.paymob("refund", transaction=late, amount_cents=1, form="child", flag="last")
    assert checked(part)["has_parent_transaction"] and not checked(part["parent"])["is_refunded"]
    assert checked(pm.paymob("refund", transaction=late, flag="last"))["is_refunded"]

    gone = pm.paymob("void", transaction=pm.paymob("pay", order=order)["transaction"])
    assert checked(gone)["is_voided"] and checked(gone["child"])["is_void"]
    held = pm.paymob("pay", order=order, auth=True)
    assert checked(held)["is_auth"]
    captured = pm.paymob("capture", transaction=held["transaction"], amount_cents=500, form="child")
    assert checked(captured)["is_capture"] and checked(captured)["amount_cents"] == 500 and checked(captured["parent"])["captured_amount"] == 500


def test_what_a_callback_may_hold(pm):
    paid = pm.paymob("pay", order=created(pm)["intention_order_id"])["transaction"]
    again = pm.paymob("callback", transaction=paid, set={"refunded_amount_cents": None, "order.data": {"x": 1}}, envelope={"accept_fees": 0},
                      raw={"payment_key_claims.billing_data.first_name": r'"\u0000\ud83d"', "captured_amount": "1e4"})
    assert r'"first_name":"\u0000\ud83d"' in again["body"] and '"captured_amount":1e4' in again["body"] and '"accept_fees":0' in again["body"]
    assert checked(again)["refunded_amount_cents"] is None
    assert '"captured_amount":0' in pm.paymob("callback", transaction=paid)["body"], "raw is of one callback only"
    answered = pm.paymob("callback", transaction=paid, responses=[{"status": 200, "body": "{}"}])
    assert answered["hmac"] == again["hmac"] and answered["body"] != again["body"]
    raw = pm.paymob("callback", transaction=paid, raw={"amount_cents": "9900.0", "source_data.pan": r'"\u0031"', "success": "null"})
    obj = json.loads(raw["body"], parse_float=str)["obj"]
    obj["success"] = ""
    assert obj["amount_cents"] == "9900.0" and obj["source_data"]["pan"] == "1" and raw["hmac"] == digest(json.dumps({"obj": obj}))
    for kind in ("TOKEN", "subscription", "DELIVERY_STATUS", "flash"):
        other = pm.paymob("other", kind=kind)
        assert json.loads(other["body"]) and len(other["hmac"]) == 128


@pytest.mark.parametrize("wrong", [
    {"do": "payy"}, {"do": "pay", "order": 1}, {"do": "pay", "ordr": 1}, {"do": "pay", "order": "1"}, {"do": "complete", "transaction": 1},
    {"do": "void", "transaction": 1}, {"do": "other", "kind": "x"}, {"do": "pay", "order": 77, "outcome": "maybe"}, {"do": "pay", "order": 77, "method": "x"},
    {"do": "order", "id": 77}, {}, [],
])
def test_wrong_actions(pm, wrong):
    pm.paymob("order", id=77)
    assert pm.control("paymob", wrong, expect=400)["error"]


def test_log_and_secrets(pm):
    created(pm)
    key = token(pm)
    call(pm, INQUIRY, {"order_id": 5, "auth_token": key[7:]}, key=key)
    create(pm, key=None)
    pm.wait_stats(in_flight=0)
    received = [line for line in pm.log() if line["event"] == "received"]
    assert [line["kind"] for line in received] == ["intention", "token", "inquiry", "intention"]
    assert [line["authorization"] for line in received] == ["Token", None, "Bearer", None]
    assert received[0]["service"] == "paymob" and received[0]["body"] == intention() and received[1]["body"] == {"api_key": "(present)"}
    text = pm.control("log")
    assert SECRET_KEY not in text and API_KEY not in text and key[7:] not in text and HMAC_SECRET not in text
    assert pm.log()[-1]["event"] == "answered" and "credentials" in pm.log()[-1]["refused"]


@pytest.mark.parametrize("fault, status", [("bad_request", 400), ("auth_401", 401), ("auth_403", 403), ("not_found", 404), ("rate_limited", 429),
                                           ("internal", 500), ("unavailable", 503), ("deadline", 504), ("echo_key", 403), ("expire", 401)])
def test_errors(pm, fault, status):
    pm.script({"match": {"service": "paymob", "kind": "intention"}, "fault": fault}, {"fault": fault, "processed": True})
    answered, answer = create(pm)
    assert answered == status and (SECRET_KEY in answer["detail"]) == (fault == "echo_key")
    assert pm.control("paymob")["orders"] == {}
    assert create(pm)[0] == status and len(pm.control("paymob")["orders"]) == 1, "done, and yet an error"


def test_bent_answers(pm):
    pm.script({"fault": "other_amount"}, {"fault": "other_currency"}, {"fault": "other_reference"}, {"fault": "other_status"}, {"fault": "odd_secret"},
              {"fault": "edit", "set": {"intention_order_id": "5"}, "drop": ["client_secret", "intention_detail.amount"], "status": 202},
              {"fault": "garbage"}, {"fault": "cut_json"}, {"fault": "huge_body", "mb": 2}, {"fault": "deep_json", "depth": 3000},
              {"fault": "bad_gateway_html"}, {"fault": "redirect"})
    assert created(pm, intention("1"))["intention_detail"]["amount"] == 9901
    assert created(pm, intention("2"))["intention_detail"]["currency"] == "USD"
    assert created(pm, intention("3"))["special_reference"] != "3"
    assert create(pm, intention("4"))[0] == 200
    odd = created(pm, intention("5"))
    assert set("+/=&?#% ") <= set(odd["client_secret"])
    assert pm.control("paymob")["orders"][str(odd["intention_order_id"])]["client_secret"] == odd["client_secret"]
    status, answer = create(pm, intention("6"))
    assert status == 202 and answer["intention_order_id"] == "5" and "client_secret" not in answer and "amount" not in answer["intention_detail"]
    send = dict(path="/v1/intention/", headers={"Authorization": "Token " + SECRET_KEY})
    for reference in "78":
        with pytest.raises(ValueError):
            json.loads(post(pm, intention(reference), **send)[1])
    assert len(created(pm, intention("9"))["note"]) == 2 * 1024 * 1024
    assert post(pm, intention("10"), **send)[1].count(b"[") == 3000
    assert post(pm, intention("11"), **send)[0] == 502 and post(pm, intention("12"), **send)[0] == 302
    assert sorted(order["reference"] for order in pm.control("paymob")["orders"].values()) == sorted(map(str, range(1, 11)))


@pytest.mark.parametrize("fault, processed", [("reset_before", None), ("close_before", False), ("reset_inside", None), ("short_body", True), ("not_http", None)])
def test_lost_answers(pm, fault, processed):
    """The order is there all the same, unless the script says otherwise."""
    pm.script({"fault": fault, **({} if processed is None else {"processed": processed})})
    with pytest.raises(Exception):
        created(pm)
    assert len(pm.control("paymob")["orders"]) == (0 if processed is False else 1)


def test_silence_and_hold(pm):
    pm.script({"fault": "silence", "match": {"kind": "intention", "prompt_contains": "ref-1"}})
    with pytest.raises(TimeoutError):
        create(pm, timeout=0.5)
    pm.wait_stats(in_flight=0)
    assert create(pm, intention("ref-2"))[0] == 201
    pm.control("hold", {})
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waits = pool.submit(created, pm, intention("ref-3"))
        pm.wait_stats(in_flight=1)
        order = next(order for order in pm.control("paymob")["orders"].values() if order["reference"] == "ref-3")
        assert pm.paymob("pay", order=order["id"]) and not waits.done(), "paid before the answer is out"
        pm.control("release", {})
        assert waits.result(20)["intention_order_id"] == order["id"]


def test_faults_of_another_service(pm):
    """A wrong script must fail loudly."""
    pm.script({"fault": "refusal"}, {"fault": "other_amount"}, {"fault": "other_amount"})
    assert create(pm)[0] == 418
    assert call(pm, TOKENS, {"api_key": API_KEY})[0] == 418
    assert post(pm)[0] == 418
    sock = raw_socket(pm)
    assert sock.recv(15) == b"HTTP/1.1 200 OK"
    sock.close()


def test_options(tmp_path):
    for option in (("--paymob-integrations", "x"), ("--paymob-integrations", "1,"), ("--paymob-owner", "0"), ("--paymob-hmac-secret", "")):
        with pytest.raises(IndexError):
            Emulator(str(tmp_path), *option)
