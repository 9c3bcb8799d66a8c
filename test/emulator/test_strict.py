"""Each thing that the real service refuses is refused."""
import base64
import json

import pytest

from emulator_client import (
    IMAGE_MODEL, KEY, PHOTO, SANITIZED, SCHEMA, TEXT_MODEL, body_of, good,
    parts, pictures, png, post,
)


def config(**named):
    return body_of(config=named)


def with_part(**part):
    body = body_of()
    body["contents"][0]["parts"].append(part)
    return body


def blob(mime, data):
    return body_of(image=data, mime=mime)


JSON_MODE = {"responseMimeType": "application/json"}

REFUSED = {
    "unknown top field": (dict(body_of(), foo=1), 'Unknown name "foo": Cannot find field'),
    "unknown config field": (config(foo=1), "Unknown name \"foo\" at 'generation_config': Cannot find field"),
    "unknown part field": (with_part(txt="a"), "Unknown name \"txt\" at 'contents[0].parts[2]'"),
    "unknown blob field": (with_part(inlineData={"mime": "a"}), "at 'contents[0].parts[2].inline_data'"),
    "unknown schema field": (body_of(config=dict(JSON_MODE, responseSchema={"$ref": "a"})), "generation_config.response_schema"),
    "model in the body": (dict(body_of(), model="m"), 'Unknown name "model"'),
    "person generation": (config(imageConfig={"personGeneration": "ALLOW_ALL"}), 'Unknown name "personGeneration"'),
    "output mime type": (config(imageConfig={"outputMimeType": "image/png"}), 'Unknown name "outputMimeType"'),
    "compression": (config(imageConfig={"outputCompressionQuality": 80}), 'Unknown name "outputCompressionQuality"'),
    "output options": (config(imageConfig={"imageOutputOptions": {}}), 'Unknown name "imageOutputOptions"'),
    "prominent people": (config(imageConfig={"prominentPeople": "x"}), 'Unknown name "prominentPeople"'),
    "both spellings": (dict(body_of(config={}), generation_config={}), "already set"),
    "both spellings in a blob": (with_part(inlineData={"mimeType": "image/png", "mime_type": "image/png", "data": ""}), "already set"),
    "two members": (with_part(text="a", inlineData={"mimeType": "image/png", "data": ""}), "oneof field 'data' is already set"),
    "text is a number": (with_part(text=1), "(TYPE_STRING), 1"),
    "contents is an object": ({"contents": {"parts": []}}, "Proto field is repeating"),
    "part is a string": ({"contents": [{"parts": ["a"]}]}, "(Part)"),
    "bad enum": (config(responseModalities=["PICTURE"]), "(TYPE_ENUM)"),
    "lower-case modality": (config(responseModalities=["image"]), "(TYPE_ENUM)"),
    "seed too big": (config(seed=2 ** 31), "(TYPE_INT32)"),
    "seed with fraction": (config(seed=1.5), "(TYPE_INT32)"),
    "base64": (with_part(inlineData={"mimeType": "image/png", "data": "ab*d"}), "Base64 decoding failed"),
    "base64 length": (with_part(inlineData={"mimeType": "image/png", "data": "abcde"}), "Base64 decoding failed"),
    "base64 with a line break": (with_part(inlineData={"mimeType": "image/png", "data": "iVBO\nRw0K"}), "Base64 decoding failed"),
    "no contents": ({}, "contents is not specified"),
    "no parts": ({"contents": [{"role": "user", "parts": []}]}, "must not be empty"),
    "empty part": (with_part(), "must have one initialized field"),
    "role": ({"contents": [{"role": "system", "parts": [{"text": "a"}]}]}, "valid role"),
    "last turn": ({"contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}]}, "last turn"),
    "no thought signature": ({"contents": [{"role": "model", "parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]},
                                           {"role": "user", "parts": [{"text": "a"}]}]}, "thought_signature"),
    "empty system instruction": (body_of(systemInstruction={"parts": []}), "system_instruction"),
    "mime against bytes": (blob("image/jpeg", PHOTO), "Provided image is not valid"),
    "image/jpg": (blob("image/jpg", b"\xff\xd8\xff\xe0" + b"0" * 50), "Unsupported MIME type: image/jpg"),
    "gif": (blob("image/gif", b"GIF89a" + b"0" * 50), "Unsupported MIME type: image/gif"),
    "no mime": (with_part(inlineData={"data": base64.b64encode(PHOTO).decode()}), "mime_type: must be specified"),
    "no bytes": (blob("image/png", b""), "data: must be specified"),
    "text as png": (blob("image/png", b"hello, world"), "Provided image is not valid"),
    "png that does not decode": (blob("image/png", PHOTO[:40]), "Unable to process input image"),
    "fifteen images": ({"contents": [{"parts": body_of()["contents"][0]["parts"][1:] * 15}]}, "Too many images"),
    "json mode": (config(**JSON_MODE), "JSON mode is not enabled"),
    "schema": (config(responseJsonSchema=SCHEMA), "JSON mode is not enabled"),
    "response mime": (config(responseMimeType="image/png"), "allowed mimetypes"),
    "temperature": (config(temperature=0.5), "temperature"),
    "top_p": (config(topP=0.5), "top_p"),
    "topK": (config(topK=5), "top_k"),
    "candidates": (config(candidateCount=2), "Multiple candidates is not enabled"),
    "budget and level": (config(thinkingConfig={"thinkingBudget": 0, "thinkingLevel": "HIGH"}), "only one of"),
    "level": (config(thinkingConfig={"thinkingLevel": "LOW"}), "not supported for this model"),
    "lower-case k": (config(imageConfig={"imageSize": "1k"}), "image_size must be one of"),
    "size 512": (config(imageConfig={"imageSize": "512"}), "image_size must be one of"),
    "ratio": (config(imageConfig={"aspectRatio": "7:5"}), "aspect_ratio must be one of"),
    "part of a ratio": (config(imageConfig={"aspectRatio": "16:"}), "aspect_ratio must be one of"),
    "audio": (config(responseModalities=["AUDIO"]), "response modalities: audio"),
    "max tokens": (config(maxOutputTokens=0), "max_output_tokens"),
    "safety category": (body_of(safetySettings=[{"category": "HARM_CATEGORY_X", "threshold": "OFF"}]), "(TYPE_ENUM)"),
    "safety twice": (body_of(safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}] * 2), "more than one safety setting"),
    "service tier": (body_of(serviceTier="gold"), "service_tier"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(em, name):
    body, message = REFUSED[name]
    em.script({"fault": "ok", "times": 0})
    status, data, _ = post(em, body, model=TEXT_MODEL if name == "unknown schema field" else IMAGE_MODEL)
    error = json.loads(data)["error"]
    if name != "png that does not decode":
        assert em.control("script")[0]["used"] == 0, "a refused call must not use up a rule"
    assert (status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert message in error["message"]
    em.wait_stats(in_flight=0)
    assert em.log()[-1]["refused"] and em.log()[-1]["status"] == 400


REFUSED_ANALYSIS = {
    "both schemas": ({"responseSchema": {"type": "OBJECT"}, "responseJsonSchema": SCHEMA}, "only one of"),
    "pattern": ({"responseJsonSchema": {"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}}, '"pattern"'),
    "const": ({"responseJsonSchema": {"anyOf": [{"const": 1}]}}, '"const"'),
    "minLength": ({"responseJsonSchema": {"items": {"minLength": 1}}}, '"minLength"'),
    "beside $ref": ({"responseJsonSchema": {"$ref": "#", "type": "object"}}, 'beside "$ref"'),
    "lower-case type": ({"responseSchema": {"type": "object"}}, "(TYPE_ENUM)"),
    "number in enum": ({"responseSchema": {"type": "STRING", "enum": [1]}}, "(TYPE_STRING)"),
    "no json mode": ({"responseMimeType": "text/plain", "responseJsonSchema": SCHEMA}, "only allowed with"),
    "image": ({"responseModalities": ["IMAGE"]}, "response modalities: image"),
    "image config": ({"imageConfig": {"imageSize": "1K"}}, "Image config is not supported"),
}


@pytest.mark.parametrize("name", REFUSED_ANALYSIS)
def test_refused_analysis(em, name):
    settings, message = REFUSED_ANALYSIS[name]
    status, data, _ = post(em, body_of(config=dict(JSON_MODE, **settings)), model=TEXT_MODEL)
    assert status == 400 and message in json.loads(data)["error"]["message"]


def test_accepted_spellings(em):
    body = {"contents": [{"parts": [{"text": "a", "thought": None}, {"inline_data": {
        "mime_type": "image/png", "data": base64.urlsafe_b64encode(PHOTO).decode().rstrip("=")}}]}],
        "system_instruction": {"parts": [{"text": "be kind"}]},
        "generation_config": {"response_modalities": ["IMAGE"], "image_config": {"aspect_ratio": "1:1", "image_size": "1K"},
                              "seed": "7", "thinking_config": {"thinking_level": "minimal"}, "candidateCount": 1},
        "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]}
    assert pictures(good(em, body))
    received = em.log()[0]
    assert received["system"] == "be kind" and received["generation_config"]["imageConfig"]["aspectRatio"] == "1:1"


@pytest.mark.parametrize("raw, message", [
    (b"", "Invalid JSON payload"), (b"{", "Invalid JSON payload"), (b"\xff\xfe", "Invalid JSON payload"),
    (b'{"contents":[],"contents":[]}', "duplicate"), (b"[" * 5000, "Invalid JSON payload"), (b"[]", "GenerateContentRequest"),
    (b"3", "Invalid JSON payload"), (b'"x"', "Invalid JSON payload"), (b'{"contents":[null,1,"\\u0000"]}', "Invalid value"),
])
def test_refused_payload(em, raw, message):
    status, data, _ = post(em, raw=raw)
    assert status == 400 and message in json.loads(data)["error"]["message"]


@pytest.mark.parametrize("headers, query, status, message", [
    ({"x-goog-api-key": None}, "", 403, "unregistered callers"),
    ({"x-goog-api-key": "wrong"}, "", 400, "API key not valid"),
    ({"x-goog-api-key": ""}, "", 400, "API key not valid"),
    ({"x-goog-api-key": None, "Authorization": "Bearer x"}, "", 401, "invalid authentication credentials"),
    ({"Authorization": "Bearer x"}, "", 400, "Multiple authentication credentials received"),
    ({}, "?key=" + KEY, 400, "Multiple authentication credentials received"),
    ({"x-goog-api-key": None}, "?key=" + KEY, 400, "API key in the address"),
    ({}, "?foo=1", 400, 'Unknown name "foo": Cannot bind query parameter'),
    ({"Content-Type": "text/plain"}, "", 400, "content type"),
])
def test_refused_credentials(em, headers, query, status, message):
    got, data, _ = post(em, headers=headers, query=query)
    error = json.loads(data)["error"]
    assert got == status == error["code"] and message in error["message"]
    if "not valid" in message:
        assert error["details"][0]["reason"] == "API_KEY_INVALID"
    assert KEY not in open(em.log_path).read()


@pytest.mark.parametrize("path, method", [
    ("/v1beta/models/gemini-2.5-flash-image:generateContent", "POST"), ("/v1beta/models/:generateContent", "POST"),
    ("/v1beta/models/%s:streamGenerateContent" % IMAGE_MODEL, "POST"), ("/v1beta/models/%s:generateContent" % IMAGE_MODEL, "GET"),
    ("/v1beta/models/%s" % IMAGE_MODEL, "POST"), ("/", "GET"), ("/v1beta/models/%ff%00:generateContent", "POST"),
])
def test_not_found(em, path, method):
    assert post(em, path=path, method=method)[0] == 404


def test_lite_sizes(em):
    status, data, _ = post(em, config(imageConfig={"imageSize": "2K"}), model="gemini-3.1-flash-lite-image")
    assert status == 400 and "image_size must be one of 1K" in json.loads(data)["error"]["message"]


@pytest.mark.skipif(SANITIZED, reason="slow")
def test_body_over_100_megabytes(em):
    status, data, _ = post(em, raw=b'{"contents":"' + b"a" * (100 * 1024 * 1024) + b'"}')
    assert status == 400 and "payload size exceeds the limit" in json.loads(data)["error"]["message"]
