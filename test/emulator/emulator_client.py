"""Starts an emulator, talks to it, and looks at what it answers: for the emulator's own tests.

EMULATOR names the program under test, VALGRIND a command to run it under.
"""
import base64
import http.client
import json
import os
import socket
import ssl
import struct
import subprocess
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.environ.get("EMULATOR", os.path.join(HERE, "emulator"))
SANITIZED = "asan" in PROGRAM or "VALGRIND" in os.environ
IMAGE_MODEL = "gemini-nano-banana-2.1"
TEXT_MODEL = "gemini-3.8-flash"
KEY = "AQ.test-key-0123456789"
SCHEMA = {
    "type": "object",
    "properties": {
        "shape": {"type": "string", "enum": ["oval", "round", "square", "heart", "long"]},
        "score": {"type": "number", "minimum": 0.25, "maximum": 0.75},
        "age": {"type": "integer", "minimum": 18, "maximum": 21},
        "tips": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 4},
        "tone": {"$ref": "#/$defs/tone"},
        "maybe": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
    },
    "required": ["shape", "score", "age", "tips", "tone"],
    "additionalProperties": False,
    "$defs": {"tone": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}


def png(width=40, height=30, color=(200, 120, 40)):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    rows = b"".join(b"\0" + bytes(color) * width for _ in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


PHOTO = png()


class Emulator:
    def __init__(self, tmp, *options, tls=None):
        self.log_path = os.path.join(tmp, "emulator-%d.log" % time.monotonic_ns())
        command = [PROGRAM, "--port", "0", "--log", self.log_path, "--die-with-stdin", *options]
        self.context = None
        if tls:
            command += ["--tls-cert", os.path.join(tls, "cert.pem"), "--tls-key", os.path.join(tls, "key.pem")]
            self.context = ssl.create_default_context(cafile=os.path.join(tls, "ca.pem"))
        if "VALGRIND" in os.environ:
            command = os.environ["VALGRIND"].split() + command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])

    def connect(self, timeout=20):
        if self.context:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def control(self, name, body=None, method=None, expect=200):
        connection = self.connect()
        connection.request(method or ("GET" if body is None else "POST"), "/_control/" + name,
                           None if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == expect, text
        connection.close()
        return text if name == "log" else json.loads(text)

    def script(self, *rules):
        return self.control("script", list(rules))

    def log(self):
        return [json.loads(line) for line in self.control("log").splitlines()]

    def stats(self):
        return self.control("stats")

    def wait_stats(self, **wanted):
        for _ in range(1000):
            stats = self.stats()
            if all(stats[name] == value for name, value in wanted.items()):
                return stats
            time.sleep(0.02)
        raise AssertionError((stats, wanted))

    def paymob(self, do, expect=200, **members):
        return self.control("paymob", {"do": do, **members}, expect=expect)

    def storage(self, do, expect=200, **members):
        return self.control("storage", {"do": do, **members}, expect=expect)

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0


def body_of(prompt="a short bob", image=PHOTO, mime="image/png", config=None, **more):
    parts = [{"text": prompt}]
    if image is not None:
        parts.append({"inlineData": {"mimeType": mime, "data": base64.b64encode(image).decode()}})
    body = {"contents": [{"role": "user", "parts": parts}]}
    if config is not None:
        body["generationConfig"] = config
    body.update(more)
    return body


def analysis_body(schema=SCHEMA, **more):
    return body_of("look", config={"responseMimeType": "application/json", "responseJsonSchema": schema}, **more)


def post(em, body=None, model=IMAGE_MODEL, headers=None, query="", path=None, method="POST", raw=None, timeout=20):
    connection = em.connect(timeout)
    sent = {"x-goog-api-key": KEY, "Content-Type": "application/json"}
    for name, value in (headers or {}).items():
        sent.pop(name, None)
        if value is not None:
            sent[name] = value
    data = raw if raw is not None else json.dumps(body if body is not None else body_of())
    try:
        connection.request(method, (path or "/v1beta/models/%s:generateContent" % model) + query, data, sent)
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def good(em, *args, **named):
    status, data, _ = post(em, *args, **named)
    assert status == 200, data
    return json.loads(data)


def analyse(em, body=None):
    return good(em, body or analysis_body(), model=TEXT_MODEL)


def parts(answer):
    return answer["candidates"][0]["content"]["parts"]


def pictures(answer):
    return [(p["inlineData"]["mimeType"], base64.b64decode(p["inlineData"]["data"], validate=True), p.get("thought", False))
            for p in parts(answer) if "inlineData" in p]


def check_png(data):
    """Width and height of a PNG whose chunks are all sound."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, names, pixels = 8, [], b""
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at:at + 8])
        chunk = data[at + 8:at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0] == zlib.crc32(name + chunk)
        if name == b"IHDR":
            size = struct.unpack(">II", chunk[:8])
        if name == b"IDAT":
            pixels += chunk
        names.append(name)
        at += 12 + length
    assert names[-1] == b"IEND" and at == len(data)
    zlib.decompress(pixels)
    return size


def png_pixels(data):
    """The pixels of an 8-bit RGB or RGBA PNG that is not interlaced."""
    width, height = check_png(data)
    channels = {2: 3, 6: 4}[data[25]]
    packed, at = b"", 8
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at:at + 8])
        packed += data[at + 8:at + 8 + length] if name == b"IDAT" else b""
        at += 12 + length
    rows, stride, above, pixels = zlib.decompress(packed), width * channels, bytes(width * channels), []
    for y in range(height):
        kind, row = rows[y * (stride + 1)], bytearray(rows[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for x in range(stride):
            left, up, corner = (row[x - channels], above[x], above[x - channels]) if x >= channels else (0, above[x], 0)
            guess = left + up - corner
            paeth = min((left, up, corner), key=lambda v: abs(guess - v))
            row[x] = (row[x] + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
        pixels += [tuple(row[x:x + 3]) for x in range(0, stride, channels)]
        above = row
    return pixels


def satisfies(value, schema, root):
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].split("/")[-1]]
    if "anyOf" in schema:
        return any(satisfies(value, one, root) for one in schema["anyOf"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    kind = schema.get("type")
    if kind == "object":
        return (isinstance(value, dict) and all(name in value for name in schema.get("required", []))
                and all(name in schema["properties"] for name in value)
                and all(satisfies(value[name], schema["properties"][name], root) for name in value))
    if kind == "array":
        return (isinstance(value, list) and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 99)
                and all(satisfies(one, schema["items"], root) for one in value))
    if kind in ("integer", "number"):
        return (type(value) in ((int,) if kind == "integer" else (int, float))
                and schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return isinstance(value, {"string": str, "boolean": bool, "null": type(None)}[kind])


def raw_socket(em):
    sock = socket.create_connection(("127.0.0.1", em.port), timeout=20)
    data = json.dumps(body_of()).encode()
    sock.sendall(b"POST /v1beta/models/%s:generateContent HTTP/1.1\r\nHost: x\r\nx-goog-api-key: %s\r\nContent-Type: application/json\r\n"
                 b"Content-Length: %d\r\n\r\n" % (IMAGE_MODEL.encode(), KEY.encode(), len(data)) + data)
    return sock


def read_all(sock):
    """What came, and how it ended: closed or reset."""
    got = b""
    try:
        while True:
            data = sock.recv(65536)
            if not data:
                return got, "closed"
            got += data
    except ConnectionResetError:
        return got, "reset"
