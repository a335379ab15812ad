"""Which models an endpoint offers, asked without the client's weight: for forms, which must answer at once or say why not."""

import json
import urllib.error
import urllib.request
from typing import Any

from core.errors import AtlasError
from core.llm.endpoint import Endpoint
from core.llm.key import Key

SECONDS = 5.0
_LARGEST = 8 << 20


class _Stay(urllib.request.HTTPRedirectHandler):
    """Another address is not followed: it would be sent the key."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """None: the redirect itself is the answer, an error."""


def list_models(endpoint: Endpoint, seconds: float = SECONDS) -> list[str]:
    """The names at `base_url`/models, sorted. Raises AtlasError saying what the endpoint did instead of answering."""
    if endpoint.in_process:
        raise AtlasError("A model that is loaded here has no list: type its id, path or slug.")
    key = Key.of(endpoint)
    headers = {"Authorization": f"Bearer {key.to_send}", "Accept": "application/json"}
    request = urllib.request.Request(f"{endpoint.base_url}/models", headers=headers)
    try:
        with urllib.request.build_opener(_Stay()).open(request, timeout=seconds) as answer:
            document = json.loads(answer.read(_LARGEST))
        names = [str(entry["id"]) for entry in document["data"]]
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            raise AtlasError(
                f"The endpoint refused the key ({error.code}): set {endpoint.key_env} where the dashboard is started."
            ) from None
        raise AtlasError(f"The endpoint has no list of models (it answered {error.code}): type the model's name.") from None
    except (ValueError, KeyError, TypeError):
        raise AtlasError("The endpoint's list of models cannot be read: type the model's name.") from None
    except OSError as error:
        said = key.strike(str(getattr(error, "reason", error)))
        raise AtlasError(f"The endpoint did not answer within {seconds:g} seconds ({said}): check its address.") from None
    return sorted(dict.fromkeys(name for name in names if name))
