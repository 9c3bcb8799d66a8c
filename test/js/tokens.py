"""The tokens of the tests' auth server: HS256, with the secret that the Storage emulator knows too."""

import base64
import hashlib
import hmac
import json
import time

from supabase_storage import JWT_SECRET as SECRET


class BadToken(ValueError):
    pass


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=').decode()


def sign(text):
    return encode(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())


def token(**claims):
    head = encode(b'{"alg":"HS256","typ":"JWT"}') + '.' + encode(json.dumps({'exp': int(time.time()) + 3600, **claims}).encode())
    return head + '.' + sign(head)


def claims_of(jwt):
    head, _, signature = jwt.rpartition('.')
    if not head or not hmac.compare_digest(sign(head), signature):
        raise BadToken('InvalidJWTToken: The token is not of this server')
    payload = head.split('.')[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + '=' * (-len(payload) % 4)))
    if claims['exp'] < time.time():
        raise BadToken('InvalidJWTToken: Token has expired')
    return claims
