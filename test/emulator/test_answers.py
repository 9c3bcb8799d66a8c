"""Good answers: pictures and analyses."""
import json

from emulator_client import (
    IMAGE_MODEL, PHOTO, SCHEMA, analyse, analysis_body, body_of, check_png, good,
    parts, pictures, png, png_pixels, post, satisfies,
)


def test_picture(em):
    status, data, headers = post(em, body_of(config={"responseModalities": ["TEXT", "IMAGE"]}))
    assert status == 200 and headers["Transfer-Encoding"] == "chunked" and headers["Content-Type"].startswith("application/json")
    assert data.startswith(b'{\n  "candidates": [\n')
    answer = json.loads(data)
    assert answer["candidates"][0]["finishReason"] == "STOP" and answer["modelVersion"] == IMAGE_MODEL and answer["responseId"]
    assert answer["usageMetadata"]["totalTokenCount"] > 1000
    (mime, picture, thought), = pictures(answer)
    assert mime == "image/png" and not thought and check_png(picture) == (40, 30) and picture != PHOTO
    assert any("text" in p for p in parts(answer))


def test_pictures_vary_and_repeat(em):
    def one(prompt, photo=PHOTO):
        return pictures(good(em, body_of(prompt, photo)))[0][1]
    assert one("a bob") == one("a bob")
    assert len({one("a bob"), one("a buzz cut"), one("a bob", png(color=(1, 2, 3)))}) == 3


def test_picture_is_visibly_changed(em):
    """More than half of the pixels differ by more than a fifth in some channel."""
    before = (200, 120, 40)
    pixels = png_pixels(pictures(good(em, body_of(image=png(64, 64, before))))[0][1])
    changed = sum(1 for pixel in pixels if any(abs(a - b) > 51 for a, b in zip(pixel, before)))
    assert len(pixels) == 64 * 64 and changed > len(pixels) / 2


def test_size_ratio_and_modalities(em):
    assert check_png(pictures(good(em, body_of(image=png(2000, 1000))))[0][1]) == (1024, 512)
    asked = body_of(image=png(2000, 1000), config={"imageConfig": {"imageSize": "2K", "aspectRatio": "1:1"}})
    assert check_png(pictures(good(em, asked))[0][1]) == (1000, 1000)
    answer = good(em, body_of(config={"responseModalities": ["IMAGE"], "thinkingConfig": {"thinkingLevel": "MINIMAL"}}))
    assert len(parts(answer)) == 1 and pictures(answer)
    assert not pictures(good(em, body_of(config={"responseModalities": ["TEXT"]})))


def test_jpeg_webp_and_heic_input(em):
    em.script({"fault": "ok", "format": "jpeg"}, {"fault": "ok", "format": "webp"})
    jpeg, webp = pictures(good(em))[0], pictures(good(em))[0]
    assert jpeg[0] == "image/jpeg" and jpeg[1][:3] == b"\xff\xd8\xff"
    assert webp[0] == "image/webp" and webp[1][8:12] == b"WEBP"
    assert check_png(pictures(good(em, body_of(image=jpeg[1], mime="image/jpeg")))[0][1]) == (40, 30)
    assert check_png(pictures(good(em, body_of(image=webp[1], mime="image/webp")))[0][1]) == (40, 30)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + b"\0" * 100
    assert check_png(pictures(good(em, body_of(image=heic, mime="image/heic")))[0][1]) == (768, 768)


def test_tiny_and_padded(em):
    em.control("answer", {"answer": "tiny"})
    assert check_png(pictures(good(em))[0][1]) == (16, 16)
    em.control("answer", {"answer": 1500000})
    picture = pictures(good(em))[0][1]
    assert len(picture) == 1500000 and check_png(picture) == (16, 16)
    em.control("answer", {"answer": "huge"}, expect=400)


def test_analysis(em):
    seen = set()
    for shade in range(12):
        answer = analyse(em, analysis_body(image=png(color=(shade, 0, 0))))
        text = "".join(p["text"] for p in parts(answer) if not p.get("thought"))
        assert satisfies(json.loads(text), SCHEMA, SCHEMA), text
        seen.add(json.loads(text)["shape"])
    assert len(seen) >= 3


def test_analysis_thoughts_and_openapi_schema(em):
    config = {"responseMimeType": "application/json", "thinkingConfig": {"includeThoughts": True}, "responseSchema": {
        "type": "OBJECT", "propertyOrdering": ["a"], "required": ["a"],
        "properties": {"a": {"type": "INTEGER", "minimum": 7, "maximum": 7}, "b": {"type": "STRING", "maxLength": 5}}}}
    answer = parts(analyse(em, body_of(config=config)))
    assert answer[0]["thought"] and json.loads(answer[1]["text"])["a"] == 7 and len(json.loads(answer[1]["text"])["b"]) <= 5


def test_endless_schema_does_not_hang(em):
    schema = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    assert parts(analyse(em, analysis_body(schema)))[0]["text"] == "null"
