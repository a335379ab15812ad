"""Who may come in: the sections [auth] and [access] of Streamlit's secrets, read and checked. No Streamlit here.

[auth] is Streamlit's own (`st.login`): the OpenID Connect provider, and the secret that signs the cookie. [access] is ours: the e-mail
addresses and domains that may come in. Nothing of either is ever written.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from core.errors import AtlasError, shown

LOGIN_ENV = "NEURON_ATLAS_LOGIN"
"""Names the file that `serve --login` names."""
CALLBACK = "/oauth2callback"
_PROJECT = Path(__file__).resolve().parent.parent
_SHORTEST_SECRET = 32
_PROVIDER = ("client_id", "client_secret", "server_metadata_url")
_Table = Mapping[str, Any]


@dataclass(frozen=True)
class Access:
    """Who may come in, and by which providers: names for `st.login`, empty for the one that stands in [auth] itself."""

    providers: tuple[str, ...]
    redirect_uri: str
    emails: frozenset[str]
    domains: frozenset[str]

    def refusal(self, claims: _Table) -> str | None:
        """Why the person with these claims may not come in, in one sentence; None for one who may.

        An address counts unless the provider says that it was not verified; a domain stands for itself, not for those below it.
        """
        email = _plain(claims.get("email"))
        if not email or email.count("@") != 1:
            return "The login told no e-mail address, so nobody can be let in by it: ask whoever runs this server."
        if "email_verified" in claims and str(claims["email_verified"]).lower() != "true":
            return f"{shown(email)} is not a verified address at your login: verify it there, then log in again."
        if email in self.emails or email.rpartition("@")[2] in self.domains:
            return None
        return f"{shown(email)} is not on the list of who may see this: ask whoever runs this server, or log in as somebody else."


def login_files() -> list[Path]:
    """Where a login may be asked for: the file that was named, else where Streamlit looks for secrets by itself."""
    named = os.environ.get(LOGIN_ENV)
    return [Path(named)] if named else [place / ".streamlit" / "secrets.toml" for place in (Path.home(), _PROJECT)]


def read_access(files: Sequence[Path]) -> Access | None:
    """What the files say, a later one's sections in place of an earlier one's; None where no login is asked for.

    Raises AtlasError for what is incomplete or wrong: a server that should ask for a login must not come up without one.
    """
    sections: dict[str, Any] = {}
    where: dict[str, Path] = {}
    for path in files:
        found = _parse(path)
        sections |= found
        where |= dict.fromkeys(found, path)
    if "auth" not in sections and "access" not in sections:
        return None
    place = where.get("auth") or where["access"]
    auth, access = (_table(sections, name, place) for name in ("auth", "access"))
    providers = tuple(name for name, value in auth.items() if isinstance(value, dict) and "client_id" in value)
    if "client_id" in auth or not providers:
        providers = ("", *providers)
    for provider in providers:
        section = cast(_Table, auth[provider]) if provider else auth
        for name in _PROVIDER:
            _text(section, name, f"auth.{provider}" if provider else "auth", place)
    redirect = _text(auth, "redirect_uri", "auth", place)
    if not redirect.startswith(("http://", "https://")) or not redirect.endswith(CALLBACK):
        raise AtlasError(f"redirect_uri in [auth] of {place} has to be this server's address as people see it, followed by {CALLBACK}.")
    if len(_text(auth, "cookie_secret", "auth", place)) < _SHORTEST_SECRET:
        raise AtlasError(f"cookie_secret in [auth] of {place} is too short: write at least {_SHORTEST_SECRET} random characters.")
    emails, domains = (_names(access, name, where.get("access", place)) for name in ("emails", "domains"))
    if not emails and not domains:
        raise AtlasError(f"Nobody could come in: write [access] with emails or domains into {where.get('access', place)}.")
    wrong = next((one for one in [*emails, *domains] if ("@" in one) != (one in emails) or not one), None)
    if wrong is not None:
        raise AtlasError(
            f"“{shown(wrong)}” in [access] of {where['access']} is neither an e-mail address nor a domain such as example.org."
        )
    return Access(providers, redirect, frozenset(emails), frozenset(domains))


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AtlasError(f"{path} cannot be read ({str(error)[:200]}): mend it, since it says who may come in.") from None


def _table(sections: _Table, name: str, place: Path) -> _Table:
    found = sections.get(name)
    if not isinstance(found, dict):
        raise AtlasError(f"[{name}] is missing in {place}: a login needs [auth] and [access], as docs/serving.md shows.")
    return cast(_Table, found)


def _text(section: _Table, name: str, of: str, place: Path) -> str:
    value = section.get(name)
    if not isinstance(value, str) or not value.strip():
        raise AtlasError(f"{name} is missing in [{of}] of {place}: docs/serving.md shows what belongs there.")
    return value


def _names(section: _Table, name: str, place: Path) -> list[str]:
    value: object = section.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in cast(list[object], value)):
        raise AtlasError(f"{name} in [access] of {place} has to be a list of texts.")
    return [_plain(one) for one in cast(list[str], value)]


def _plain(value: object) -> str:
    return str(value or "").strip().lower()
