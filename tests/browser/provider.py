"""An OpenID Connect provider on loopback: whoever is sent to it is at once the person that the test says, with a signed token."""

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "neuron-atlas", "a-secret-of-the-client"


@dataclass
class Provider:
    """What it answers, and what it was asked. person: the claims of whoever logs in next; None refuses."""

    url: str = ""
    person: dict[str, Any] | None = None
    asked: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    """What a client did that it should not have done."""

    def secrets(self, redirect: str, access: str) -> str:
        """The TOML that a dashboard needs, with the section [access] as it is given."""
        return (
            f'[auth]\nredirect_uri = "{redirect}"\ncookie_secret = "{secrets.token_urlsafe(48)}"\n'
            f'client_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
            f'server_metadata_url = "{self.url}/.well-known/openid-configuration"\n\n[access]\n{access}\n'
        )


@contextlib.contextmanager
def providing() -> Generator[Provider]:
    """Run it until the block ends."""
    provider, key = Provider(), RSAKey.generate_key(2048, parameters={"kid": "one", "use": "sig", "alg": "RS256"})
    codes: dict[str, dict[str, Any]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            provider.asked.append(parts.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/.well-known/openid-configuration":
                self._json(_metadata(provider.url))
            elif parts.path == "/jwks":
                self._json({"keys": [key.as_dict(private=False)]})
            elif parts.path == "/authorize":
                self._authorize(query)
            else:
                self.send_error(404)

        def _authorize(self, query: dict[str, str]) -> None:
            answer = {"state": query["state"]}
            if provider.person is None:
                answer |= {"error": "access_denied"}
            else:
                answer |= {"code": secrets.token_urlsafe(16)}
                codes[answer["code"]] = query
            self.send_response(302)
            self.send_header("Location", f"{query['redirect_uri']}?{urlencode(answer)}")
            self.end_headers()

        def do_POST(self) -> None:
            provider.asked.append(urlsplit(self.path).path)
            body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            asked = codes.pop(body["code"][0], None)
            basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            if asked is None or self.headers["Authorization"] != f"Basic {basic}":
                provider.wrong.append("a code that was not given, or a client that is not known")
                self._json({"error": "invalid_grant"}, 400)
                return
            proof = base64.urlsafe_b64encode(hashlib.sha256(body["code_verifier"][0].encode()).digest()).rstrip(b"=").decode()
            if asked.get("code_challenge") != proof:
                provider.wrong.append("a code without its proof")
            now = int(time.time())
            claims = {"iss": provider.url, "aud": CLIENT, "sub": "1", "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
            token = jwt.encode({"alg": "RS256", "kid": "one"}, claims | (provider.person or {}), key)
            self._json({"access_token": "none", "token_type": "Bearer", "expires_in": 300, "id_token": token})

        def _json(self, value: object, status: int = 200) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _metadata(url: str) -> dict[str, Any]:
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "jwks_uri": f"{url}/jwks",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "code_challenge_methods_supported": ["S256"],
    }
