"""Who may come in: what the file says is read exactly, what is incomplete is refused, and nobody comes in by a mistake in it."""

from pathlib import Path

import pytest

from core.access import Access, login_files, read_access
from core.errors import AtlasError

AUTH = """
[auth]
redirect_uri = "https://lab.example/atlas/oauth2callback"
cookie_secret = "0123456789abcdef0123456789abcdef"
client_id = "x"
client_secret = "y"
server_metadata_url = "https://login.example/.well-known/openid-configuration"
"""
ACCESS = '[access]\nemails = [" Ana@Example.org "]\ndomains = ["Lab.example"]\n'


def access_of(folder: Path, text: str) -> Access | None:
    (folder / "login.toml").write_text(text)
    return read_access([folder / "login.toml"])


@pytest.fixture
def access(tmp_path: Path) -> Access:
    found = access_of(tmp_path, AUTH + ACCESS)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "email", ["ana@example.org", "ANA@EXAMPLE.ORG", " ana@example.org", "anybody@lab.example", "Any.Body+x@LAB.EXAMPLE"]
)
@pytest.mark.parametrize("verified", [{}, {"email_verified": True}, {"email_verified": "true"}])
def test_whoever_is_on_the_list_comes_in(access: Access, email: str, verified: dict[str, object]) -> None:
    assert access.refusal({"email": email, **verified}) is None


@pytest.mark.parametrize("email", [
    "eve@example.org", "ana@example.org.evil.example", "ana@example.orgx", "xana@example.org", "eve@sub.lab.example",
    "eve@lab.example.evil", "eve@xlab.example", "eve@lab.example@evil.example", "ana@example.org, eve@evil.example@lab.example",
    "@lab.example@", "", None, 5,
])  # fmt: skip
def test_nobody_else_does(access: Access, email: object) -> None:
    assert access.refusal({"email": email}) is not None


@pytest.mark.parametrize("verified", [False, "false", "no", 0, None, ""])
def test_an_address_that_is_not_verified_does_not_count(access: Access, verified: object) -> None:
    assert "not a verified address" in str(access.refusal({"email": "ana@example.org", "email_verified": verified}))


def test_a_name_in_the_sentence_is_short_and_printable(access: Access) -> None:
    said = str(access.refusal({"email": "e\nve" * 50 + "@example.org"}))
    assert "\n" not in said
    assert len(said) < 200


def test_where_nothing_is_said_there_is_no_login(tmp_path: Path) -> None:
    assert read_access([tmp_path / "none.toml"]) is None
    assert access_of(tmp_path, "[other]\nx = 1\n") is None


@pytest.mark.parametrize(("text", "says"), [
    (AUTH, "[access] is missing"),
    (ACCESS, "[auth] is missing"),
    (AUTH + "[access]\n", "Nobody could come in"),
    (AUTH + "[access]\nemails = []\ndomains = []\n", "Nobody could come in"),
    (AUTH + '[access]\nemails = "ana@example.org"\n', "has to be a list"),
    (AUTH + "[access]\nemails = [1]\n", "has to be a list"),
    (AUTH + '[access]\nemails = ["example.org"]\n', "is neither an e-mail address nor a domain"),
    (AUTH + '[access]\ndomains = ["@example.org"]\n', "nor a domain"),
    (AUTH + '[access]\ndomains = [""]\n', "nor a domain"),
    (AUTH.replace('client_secret = "y"', "") + ACCESS, "client_secret is missing in [auth]"),
    (AUTH.replace('client_id = "x"', "") + ACCESS, "client_id is missing in [auth]"),
    (AUTH.replace("0123456789abcdef0123456789abcdef", "short") + ACCESS, "cookie_secret in [auth]"),
    (AUTH.replace("/oauth2callback", "/") + ACCESS, "redirect_uri"),
    (AUTH.replace("https://lab", "lab") + ACCESS, "redirect_uri"),
    ("auth = 5\n" + ACCESS, "[auth] is missing"),
    (AUTH + ACCESS + "[auth.other]\nclient_id = 'z'\n", "client_secret is missing in [auth.other]"),
    ("[auth\n", "cannot be read"),
])  # fmt: skip
def test_what_is_incomplete_is_refused_in_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(AtlasError) as refused:
        access_of(tmp_path, text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "0123456789abcdef" not in str(refused.value)


def test_named_providers_are_offered_by_their_names(tmp_path: Path) -> None:
    more = AUTH.replace('client_id = "x"', "").replace('client_secret = "y"', "") + "".join(
        f'[auth.{name}]\nclient_id = "a"\nclient_secret = "b"\nserver_metadata_url = "https://{name}.example/x"\n'
        for name in ("one", "two")
    )
    found = access_of(tmp_path, more + ACCESS)
    assert found is not None
    assert found.providers == ("one", "two")


def test_a_later_file_s_section_takes_the_place_of_an_earlier_one_s(tmp_path: Path) -> None:
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text(AUTH + ACCESS)
    second.write_text('[access]\nemails = ["ben@example.org"]\n')
    found = read_access([first, second])
    assert found is not None
    assert found.emails == {"ben@example.org"}
    assert found.domains == frozenset()


def test_a_file_that_is_named_is_the_only_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(path.name == "secrets.toml" for path in login_files())
    monkeypatch.setenv("NEURON_ATLAS_LOGIN", "/somewhere/login.toml")
    assert login_files() == [Path("/somewhere/login.toml")]
