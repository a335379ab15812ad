"""The door: nobody sees anything of a page before a login at a real OpenID Connect provider, nor after one when not on the list."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from bench.dashboard import free_port
from core.findings.findings import Findings
from core.units import UnitName
from core.workspace import Workspace
from tests.browser.provider import Provider, providing
from tests.browser.proxy import proxying
from tests.browser.server import Server, serving
from tests.browser.view import PATIENCE, View, viewing
from tests.synthetic import write_synthetic_index

ACCESS = 'emails = ["Ana@Example.org", "ben@example.org"]\ndomains = ["lab.example"]'
UNIT = "unit?unit=tiny/mlp.1/neurons/4"
ANA = {"email": "ana@example.org", "email_verified": True, "name": "Ana"}
SECRET_WORDS = ("mlp.1", "tiny", "neurons", "Overview", "Explore", "Findings")
"""What a page, or the navigation, would show."""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with providing() as running:
        yield running


@pytest.fixture(scope="module")
def login_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("login") / "login.toml"


@pytest.fixture(scope="module")
def guarded(browser: Browser, provider: Provider, login_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that nobody has visited yet, with a login."""
    pytest.importorskip("authlib")
    folder, port = tmp_path_factory.mktemp("guarded"), free_port()
    write_synthetic_index(Workspace.open(folder / "ws"))
    login_file.write_text(provider.secrets(f"http://127.0.0.1:{port}/oauth2callback", ACCESS))
    with serving(folder / "ws", folder / "serve.log", "--login", str(login_file), port=port) as server:
        yield server


class Visitor(View):
    """A tab that also keeps what the server sent over its websockets. It goes to the provider on the way."""

    def __init__(self, view: View, provider: Provider) -> None:
        super().__init__(view.page, view.server)
        self.received = b""
        self._provider = provider
        self.page.on("websocket", lambda socket: socket.on("framereceived", self._keep))

    def _keep(self, content: bytes | str) -> None:
        self.received += content if isinstance(content, bytes) else content.encode()

    def knocked(self, path: str) -> None:
        """Visit without being let in: there is a button, and nothing of a page came over the wire."""
        self.go(path)
        expect(self.page.get_by_role("button", name="Log in")).to_be_visible(timeout=PATIENCE)
        self.saw_nothing()

    def saw_nothing(self) -> None:
        text = self.page.locator("body").inner_text()
        assert [word for word in SECRET_WORDS if word in text] == []
        assert [word for word in ("mlp.1", "tiny", "neurons", "Explore") if word.encode() in self.received] == []
        assert self.page.get_by_test_id("stSidebarNavLink").count() == 0

    def log_in(self) -> None:
        self.page.get_by_role("button", name="Log in").click()

    def check(self) -> None:
        self.outside = [one for one in self.outside if not one.startswith(self._provider.url)]
        super().check()


@pytest.fixture
def visitor(browser: Browser, guarded: Server, provider: Provider) -> Iterator[Visitor]:
    provider.person = None
    with viewing(browser, guarded) as view:
        yield Visitor(view, provider)


# The first test has to be the first: its server is fresh then.


def test_the_first_visit_of_a_server_by_a_deep_link_shows_nothing(visitor: Visitor) -> None:
    visitor.knocked(UNIT)
    for path in ("", "explore", "runs", "findings", "unit/x", "nonexistent", "nowhere?path=x"):
        visitor.knocked(path)
    visitor.check()


def test_somebody_on_the_list_comes_to_the_page_that_was_asked_for_and_can_leave(
    visitor: Visitor, provider: Provider, guarded: Server
) -> None:
    provider.person = ANA
    visitor.knocked(UNIT)
    visitor.log_in()
    expect(visitor.page.locator(".row .peak").first).to_be_visible(timeout=PATIENCE)
    assert visitor.page.url.endswith(UNIT)
    visitor.see("ana@example.org")
    assert "/token" in provider.asked
    assert provider.wrong == []
    visitor.settled()
    visitor.page.locator(".st-key-findings-judged").get_by_text("4", exact=True).click()
    visitor.settled()
    expect(visitor.page.locator('.st-key-findings-judged [aria-checked="true"]')).to_have_text(["4"], timeout=PATIENCE)
    written = Findings(Workspace(guarded.workspace)).entries()
    assert [(entry.kind, entry.current.author) for entry in written] == [("rating", "Ana")]
    visitor.check()
    visitor.page.get_by_role("button", name="Log out").click()
    expect(visitor.page.get_by_role("button", name="Log in")).to_be_visible(timeout=PATIENCE)
    visitor.received = b""
    visitor.knocked(UNIT)


@pytest.mark.parametrize(
    ("person", "says"),
    [
        ({"email": "eve@example.org", "email_verified": True}, "eve@example.org is not on the list"),
        ({"email": "eve@not-lab.example", "email_verified": True}, "is not on the list"),
        ({"email": "ana@example.org", "email_verified": False}, "is not a verified address"),
        ({"name": "Ana"}, "The login told no e-mail address"),
    ],
)
def test_somebody_else_is_told_why_not_and_can_log_out(visitor: Visitor, provider: Provider, person: dict[str, object], says: str) -> None:
    provider.person = person
    visitor.knocked(UNIT)
    visitor.log_in()
    visitor.see(says)
    visitor.saw_nothing()
    visitor.go(UNIT)
    visitor.see(says)
    visitor.saw_nothing()
    visitor.page.get_by_role("button", name="Log out").click()
    expect(visitor.page.get_by_role("button", name="Log in")).to_be_visible(timeout=PATIENCE)
    visitor.check()


def test_a_domain_lets_in_and_the_list_counts_at_once_when_it_is_changed(visitor: Visitor, provider: Provider, login_file: Path) -> None:
    provider.person = {"email": "cy@lab.example"}
    visitor.knocked("explore")
    visitor.log_in()
    expect(visitor.page.locator("tr.row").first).to_be_visible(timeout=PATIENCE)
    whole = login_file.read_text()
    try:
        login_file.write_text(whole.replace('domains = ["lab.example"]', ""))
        visitor.received = b""
        visitor.go("explore")
        visitor.see("cy@lab.example is not on the list")
        visitor.saw_nothing()
        login_file.unlink()
        visitor.go("explore")
        visitor.see("Who may come in cannot be read any more")
        visitor.saw_nothing()
    finally:
        login_file.write_text(whole)
    visitor.go("explore")
    expect(visitor.page.locator("tr.row").first).to_be_visible(timeout=PATIENCE)


def test_whoever_was_taken_off_the_list_writes_nothing_on_a_page_that_is_still_open(
    visitor: Visitor, provider: Provider, guarded: Server, login_file: Path
) -> None:
    provider.person = {"email": "ben@example.org"}
    visitor.knocked("unit?unit=tiny/mlp.1/neurons/5")
    visitor.log_in()
    stars = visitor.page.locator(".st-key-findings-judged")
    expect(stars.get_by_text("4", exact=True)).to_be_visible(timeout=PATIENCE)
    visitor.settled()
    whole = login_file.read_text()
    try:
        login_file.write_text(whole.replace(', "ben@example.org"', ""))
        stars.get_by_text("4", exact=True).click()
        visitor.see("ben@example.org is not on the list")
        visitor.page.keyboard.press("Control+k")
        visitor.page.keyboard.type("mlp")
        expect(visitor.page.get_by_test_id("stSidebarNavLink")).to_have_count(0, timeout=PATIENCE)
        visitor.check()
    finally:
        login_file.write_text(whole)
    assert not Findings(Workspace(guarded.workspace)).entries(unit=UnitName.parse("tiny/mlp.1/neurons/5"))


def test_a_login_that_the_provider_refuses_leads_back_to_the_door(visitor: Visitor) -> None:
    visitor.knocked(UNIT)
    visitor.log_in()
    visitor.page.wait_for_url(f"{visitor.server.url}/", timeout=PATIENCE)
    expect(visitor.page.get_by_role("button", name="Log in")).to_be_visible(timeout=PATIENCE)
    visitor.saw_nothing()


def test_a_forged_cookie_is_nobody(visitor: Visitor) -> None:
    forged = '{"is_logged_in":true,"email":"ana@example.org","origin":"' + visitor.server.url + '"}'
    visitor.page.context.add_cookies([{"name": "_streamlit_user", "value": forged.replace('"', "%22"), "url": visitor.server.url}])
    visitor.knocked(UNIT)


def test_a_login_works_below_a_proxy_s_path_and_its_cookie_is_for_that_alone(browser: Browser, provider: Provider, tmp_path: Path) -> None:
    write_synthetic_index(Workspace.open(tmp_path / "ws"))
    port, file, base = free_port(), tmp_path / "login.toml", "/lab/atlas"
    options = ("--login", str(file), "--base-path", base, "--read-only")
    with proxying(f"http://127.0.0.1:{port}", base) as url:
        file.write_text(provider.secrets(f"{url}/oauth2callback", ACCESS))
        with serving(tmp_path / "ws", tmp_path / "serve.log", *options, base=base, port=port, borrowed=True) as server:
            provider.person = ANA
            with viewing(browser, Server(url, server.workspace, server.log, server.pid)) as view:
                visitor = Visitor(view, provider)
                visitor.knocked(UNIT)
                visitor.log_in()
                expect(visitor.page.locator(".row .peak").first).to_be_visible(timeout=PATIENCE)
                assert visitor.page.url == f"{url}/{UNIT}"
                paths = {one.get("path") for one in visitor.page.context.cookies() if one.get("name", "").startswith("_streamlit_user")}
                assert paths == {base}
                visitor.check()
