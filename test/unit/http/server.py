"""A server that behaves badly on request: the first part of the path says how.

Prints its ports as NAME=PORT lines (PLAIN, OTHER, TLS), then serves until its
standard input is closed.  argv: certificate and key for TLS.
Counts complete requests under the path's second part: GET /count/NAME tells.
"""
import asyncio
import collections
import gzip
import json
import socket
import ssl
import struct
import sys

counts = collections.Counter()
ports = {}


async def read_head(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    return method, path, headers


async def read_body(reader, headers):
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return body


def answer(writer, body, status="200 OK", extra=""):
    writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body)


def reset(writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def close(writer):
    await writer.drain()
    writer.close()


async def serve(reader, writer):
    try:
        number = 0
        while True:
            number += 1
            method, path, headers = await read_head(reader)
            if not await respond(reader, writer, number, method, path, headers):
                return
    except (asyncio.IncompleteReadError, ConnectionError, BrokenPipeError, TimeoutError):
        pass
    finally:
        writer.close()


async def respond(reader, writer, number, method, path, headers):
    """Answer one request; True: the connection may serve another."""
    what, _, name = path.strip("/").partition("/")
    if what == "count":
        answer(writer, str(counts[name]).encode())
        return True
    if what == "early":     # an error before the body was read, as a rate limiter does
        answer(writer, b"{}", "429 Too Many Requests", "Connection: close\r\n")
        await writer.drain()
        await asyncio.sleep(5)          # closed on an unread body, the line is reset and the answer may be lost: the client has taken it by then
        return False
    if what == "headonly":  # the second request's connection dies as soon as its head is there
        if number > 1:
            counts[name + "-died"] += 1
            reset(writer)
            return False
    body = await read_body(reader, headers)
    counts[name] += 1
    if what in ("ok", "headonly"):
        answer(writer, json.dumps({"method": method, "length": len(body), "sum": sum(body), "number": number, "headers": headers}).encode())
    elif what == "down":    # as many bytes as the name says, after the milliseconds it says
        size, milliseconds = name.split("-")
        await asyncio.sleep(int(milliseconds) / 1000)
        answer(writer, b"x" * int(size))
    elif what == "silent":
        await asyncio.sleep(30)
    elif what == "reset":
        reset(writer)
        return False
    elif what == "resetinside":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 5000)
        await writer.drain()
        await asyncio.sleep(0.05)
        reset(writer)
        return False
    elif what == "empty":
        return False
    elif what == "cut":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
        await close(writer)
        return False
    elif what == "cutchunk":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 500)
        await close(writer)
        return False
    elif what == "redirect":
        answer(writer, b"", "302 Found", f"Location: http://127.0.0.1:{ports['OTHER']}/ok/stolen\r\n")
    elif what == "trickle":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)
    elif what == "huge":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
    elif what == "hugehead":
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Filler: " + b"y" * 1000 + b"\r\n")
            await writer.drain()
    elif what == "gzip":
        answer(writer, gzip.compress(b'{"packed": true}' * 100), extra="Content-Encoding: gzip\r\n")
    elif what == "oldhttp":
        writer.write(b"x" * 100)
        await close(writer)
        return False
    elif what == "once":    # the second request of a connection is read whole, then the line goes dead
        if number > 1:
            return False
        answer(writer, b"{}")
    elif what == "idle":    # closes the idle connection a moment after its answer
        answer(writer, b"{}")
        await writer.drain()
        return False
    else:
        answer(writer, b"", "404 Not Found")
    return True


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*sys.argv[1:3])
    for name, tls in (("PLAIN", None), ("OTHER", None), ("TLS", context)):
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=1024, limit=1 << 20)
        ports[name] = server.sockets[0].getsockname()[1]
        print(f"{name}={ports[name]}", flush=True)
    print("READY=1", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
