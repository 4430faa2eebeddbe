"""The operator's page in a real browser."""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from argon2 import PasswordHasher
from support.chromium import Browser, Page, chromium
from support.http import Connection
from support.live import Gateway, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
PASSWORD = "a long enough password"
FAKE: dict[str, Any] = {
    "providers": {"fake": {"kind": "fake"}, "dead": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}},
    "routes": {
        "chat": {"deployments": [{"provider": "fake", "model": "echo"}]},
        "fails": {"deployments": [{"provider": "fake", "model": "echo-500"}]},
        "second": {"deployments": [{"provider": "dead", "model": "x"}, {"provider": "fake", "model": "echo"}]},
    },
    "failover": {"tries": 1},
}

WATCHED = {
    "providers": {"fake": {"kind": "fake"}},
    "routes": {
        "chat": {"deployments": [{"provider": "fake", "model": "echo"}]},
        "limited": {"deployments": [{"provider": "fake", "model": "echo+status=429"}]},
    },
    "failover": {"tries": 1, "cooldown": {"limited": "10m"}},
    "prices": {"models": {"fake/*": {"input": 2.5, "output": 10}}},
    "exact_cache": {},
    "input_guards": [
        {"kind": "keywords", "name": "projects", "words": ["Bluebird"], "action": "flag"},
        {"kind": "keywords", "name": "never", "words": ["Blackbird"], "action": "block"},
    ],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway of this machine alone, without any key."""
    async with gateway(tmp_path_factory.mktemp("local"), FAKE) as gate:
        yield gate


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keyed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One with an admin key."""
    async with gateway(tmp_path_factory.mktemp("keyed"), {**FAKE, "secrets": {"admin_key": "sk-admin"}}) as gate:
        yield gate


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def accounts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One whose users log in: ada runs it, bob does not."""
    hashed = PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
    users = [{"name": "ada", "role": "admin", "password_hash": hashed}, {"name": "bob", "password_hash": hashed}]
    async with gateway(tmp_path_factory.mktemp("users"), {**FAKE, "authenticate": {"login": {"users": users}}}) as gate:
        yield gate


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    async with browser.page() as tab:
        yield tab


async def ask(gate: Gateway, model: str, **more: Any) -> str:
    """One chat call; its id."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}).encode()
    async with Connection(gate.url) as wire:
        return (await wire.request("POST", "/v1/chat/completions", body)).headers["x-request-id"]


async def test_calls_show_as_they_happen(local: Gateway, page: Page) -> None:
    """Without a reload: a row each, counted in the figures, drawn in the chart."""
    await page.open(f"{local.url}/ui")
    await page.until("!document.querySelector('#board').hidden")
    for model in ("chat", "second", "nowhere"):
        call_id = await ask(local, model)
        await page.until(f"document.querySelector('#calls tr[data-id=\"{call_id}\"]')")
    await page.run("document.querySelector('input[value=\"5m\"]').click()")
    await page.until("document.querySelector('#tiles dd').textContent.match(/^[1-9]/)")
    await page.until("document.querySelector('.chart svg path').getAttribute('d').includes('V')")
    routes = await page.run("document.querySelector('#routes tbody').innerText")
    assert "chat" in routes
    assert "second" in routes
    assert not page.complaints


async def test_a_chart_does_not_deny_the_calls_of_its_first_step(local: Gateway, page: Page) -> None:
    """They count at once and are drawn when their ten minutes are over: until then the chart says so."""
    await ask(local, "chat")
    await page.open(f"{local.url}/ui")
    await page.until("!document.querySelector('#board').hidden")
    await page.run("document.querySelector('input[value=\"24h\"]').click()")
    note = "document.querySelector('.chart .nothing').textContent"
    await page.until(f"{note} === 'Drawn when the first 10 minutes are over.'")
    assert not page.complaints


async def test_every_part_of_the_page_shows_its_facts(tmp_path: Path, page: Page) -> None:
    """Hits, money, a provider that rests, what guards did, who called; and the decisions of the call that was blocked."""
    async with gateway(tmp_path, WATCHED) as gate:
        for text in ("Hello", "Hello", "about Bluebird", "about Blackbird"):
            blocked = await ask(gate, "chat", messages=[{"role": "user", "content": text}])
        await ask(gate, "limited")
        await page.open(f"{gate.url}/ui")
        await page.until("document.querySelectorAll('#guards tbody tr').length === 2")

        async def said(where: str) -> str:
            return str(await page.run(f"document.querySelector('{where}').innerText"))

        assert "1 exact, 0 semantic" in await said("#tiles")
        assert "saved" in await said("#tiles")
        assert "rests" in await said("#deployments tbody")
        assert "flag" in await said("#guards tbody")
        assert "block" in await said("#guards tbody")
        assert await page.run("document.querySelectorAll('#callers tbody tr').length") == 1
        await page.run(f"document.querySelector('#calls tr[data-id=\"{blocked}\"] button').click()")
        await page.until("document.querySelector('#call').open")
        assert "never" in await said("#call .steps")
    assert not page.complaints


async def test_a_deployment_is_called_open_only_where_that_is_known(tmp_path: Path, page: Page) -> None:
    """One behind `*` rests under its own name; of one that a reload took away nothing is known any more."""
    path = tmp_path / "lockgate.yaml"
    routes = {"chat": FAKE["routes"]["chat"], "any/*": {"deployments": [{"provider": "fake", "model": "*"}]}}
    async with gateway(tmp_path, {**FAKE, "routes": routes}) as gate:
        await ask(gate, "chat")
        await ask(gate, "any/echo+status=429+retry-after=600")
        written = yaml.safe_load(path.read_text())
        written["routes"]["any/*"]["deployments"][0]["model"] = "echo+*"
        written["routes"]["chat"]["deployments"][0]["model"] = "echo+tokens=1"
        path.write_text(yaml.safe_dump(written))
        gate.process.send_signal(signal.SIGHUP)
        await page.open(f"{gate.url}/ui")
        shown = "[...document.querySelectorAll('#deployments tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
        await page.until(f"{shown}.some((row) => row[0] === 'fake echo+tokens=1')")
        standing = {row[0]: row[1] for row in await page.run(shown)}
    assert standing["fake echo+tokens=1"] == "open"
    assert standing["fake echo"] == "\N{EN DASH}"
    assert standing["fake echo+status=429+retry-after=600"].startswith("rests")
    assert not page.complaints


async def test_what_clients_write_is_only_ever_text(local: Gateway, page: Page) -> None:
    """A model's name with markup in it is shown as it is, in the list and in the decisions."""
    call_id = await ask(local, HOSTILE)
    await page.open(f"{local.url}/ui")
    await page.until(f"document.querySelector('#calls').textContent.includes({json.dumps(HOSTILE)})")
    await page.run(f"document.querySelector('#calls tr[data-id=\"{call_id}\"] button').click()")
    await page.until("document.querySelector('#call').open")
    await page.run("document.querySelector('#call details').open = true")
    assert HOSTILE in json.loads(await page.run("document.querySelector('#call pre').textContent"))["model"]
    assert await page.run("[document.querySelectorAll('img').length, window.hacked ?? null]") == [0, None]
    assert not page.complaints


async def test_the_policy_lets_no_markup_and_no_script_in(local: Gateway, page: Page) -> None:
    """Even what a fault in the page might try: no markup from text, no inline script, no other origin."""
    await page.open(f"{local.url}/ui")
    tried = """[
      () => { document.body.innerHTML = "<b>x</b>"; },
      () => { new Function("1")(); },
      () => { document.body.append(Object.assign(document.createElement("script"), {text: "window.hacked = 1"})); },
    ].map((attempt) => { try { attempt(); return "done"; } catch (error) { return error.name; } })"""
    assert await page.run(tried) == ["TypeError", "EvalError", "TypeError"]
    left = "fetch('http://127.0.0.2:9/').then(() => 'sent', () => 'refused')"
    assert await page.run(left) == "refused"
    assert any("127.0.0.2" in complaint for complaint in page.complaints)


async def test_a_key_press_opens_a_call_and_escape_closes_it(local: Gateway, page: Page) -> None:
    """The decisions of a call that fell back name both attempts; focus returns to where it was."""
    call_id = await ask(local, "second")
    await page.open(f"{local.url}/ui")
    button = f"document.querySelector('#calls tr[data-id=\"{call_id}\"] button')"
    await page.until(button)
    await page.run(f"{button}.focus()")
    await page.press("Enter")
    await page.until("document.querySelector('#call').open")
    steps = await page.run(
        "[...document.querySelectorAll('#call .steps li')].map(li => li.querySelector('.step').textContent)"
    )
    assert [step for step in steps if step in ("attempt", "retry", "fallback")] == ["attempt", "fallback"]
    assert steps[-1] == "end"
    await page.press("Escape")
    await page.until(f"!document.querySelector('#call').open && document.activeElement === {button}")


async def test_a_chart_can_be_read_with_the_keyboard(local: Gateway, page: Page) -> None:
    """An arrow key says the last point aloud."""
    await page.open(f"{local.url}/ui")
    await page.until("document.querySelector('.chart svg path')")
    await page.run("document.querySelector('.plot').focus()")
    await page.press("ArrowLeft")
    await page.until("document.querySelector('#say').textContent.includes('answered')")


async def test_the_list_can_be_narrowed(local: Gateway, page: Page) -> None:
    """To refused calls, say; the server does it."""
    good, bad = await ask(local, "chat"), await ask(local, "nowhere")
    await page.open(f"{local.url}/ui")
    await page.until(f"document.querySelector('#calls tr[data-id=\"{good}\"]')")
    choose = "(s => { s.value = 'status=4xx'; s.dispatchEvent(new Event('change')); })(document.querySelector('#kind'))"
    await page.run(choose)
    await page.until(f"!document.querySelector('#calls tr[data-id=\"{good}\"]')")
    assert await page.run(f"Boolean(document.querySelector('#calls tr[data-id=\"{bad}\"]'))")


async def test_the_admin_key_opens_the_page_for_this_tab_only(keyed: Gateway, page: Page) -> None:
    """A wrong one is told so; signing out forgets it."""
    await page.open(f"{keyed.url}/ui")
    await page.until("!document.querySelector('#gate').hidden")
    enter = "(f => {{ f.key.value = '{}'; f.requestSubmit(); }})(document.querySelector('#by-key'))"
    await page.run(enter.format("sk-wrong"))
    await page.until("document.querySelector('#gate-error').textContent.includes('Incorrect')")
    await page.run(enter.format("sk-admin"))
    await page.until("!document.querySelector('#board').hidden && document.querySelector('#gate').hidden")
    kept = await page.run(
        "[Object.values(sessionStorage), JSON.stringify(localStorage).includes('sk-'), document.cookie]"
    )
    assert kept == [["sk-admin"], False, ""]
    await page.run("document.querySelector('#leave').click()")
    await page.until("document.querySelector('#board').hidden && !document.querySelector('#gate').hidden")
    assert await page.run("sessionStorage.length") == 0


async def sign_in(page: Page, name: str, password: str) -> None:
    await page.run(
        f"(f => {{ f.username.value = {name!r}; f.password.value = {password!r}; f.requestSubmit(); }})"
        "(document.querySelector('#by-account'))"
    )


async def test_an_administrators_account_opens_the_page(accounts: Gateway, page: Page) -> None:
    """A token that ends is renewed unseen; signing out ends the login at the gateway too."""
    await page.open(f"{accounts.url}/ui")
    await page.until("!document.querySelector('#gate').hidden")
    await sign_in(page, "ada", "wrong")
    await page.until("document.querySelector('#gate-error').textContent !== ''")
    await sign_in(page, "ada", PASSWORD)
    await page.until("!document.querySelector('#board').hidden")
    await page.run("sessionStorage.setItem('lockgate.access', 'ey.is.over'); setTimeout(() => location.reload(), 0)")
    await page.until("document.querySelector('#board') && !document.querySelector('#board').hidden")
    renewed = await page.run("sessionStorage.getItem('lockgate.refresh')")
    await page.run("document.querySelector('#leave').click()")
    await page.until("!document.querySelector('#gate').hidden")
    body = json.dumps({"refresh_token": renewed}).encode()
    async with Connection(accounts.url) as wire:
        assert (await wire.request("POST", "/auth/refresh", body)).status == 401


async def test_other_accounts_are_told_that_they_may_not(accounts: Gateway, page: Page) -> None:
    await page.open(f"{accounts.url}/ui")
    await page.until("!document.querySelector('#gate').hidden")
    await sign_in(page, "bob", PASSWORD)
    await page.until("document.querySelector('#gate-error').textContent.includes('admin')")
    assert await page.run("[document.querySelector('#board').hidden, sessionStorage.length]") == [True, 0]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 960, 1280])
async def test_it_fits_every_screen(local: Gateway, page: Page, width: int, dark: bool) -> None:
    """Nothing runs off sideways, tables neither, nothing to press is too small for a thumb, the scheme is followed."""
    for model in ("chat", "second", "fails", "nowhere", HOSTILE):
        await ask(local, model)
    await page.open(f"{local.url}/ui", width=width, dark=dark)
    await page.until("document.querySelector('#calls tbody tr')")
    assert await page.run("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)"
    assert await page.run(wide) == []
    small = "[...document.querySelectorAll('#board > * button, #board select, header label')].filter(e => e.offsetHeight && e.closest('td') === null && e.offsetHeight < 24).length"
    assert await page.run(small) == 0
    back = await page.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(back) < 200) is dark


async def test_everything_to_operate_has_a_name(local: Gateway, page: Page) -> None:
    """As a screen reader is told it; and there is one main landmark and one first heading."""
    await ask(local, "chat")
    await page.open(f"{local.url}/ui")
    await page.until("document.querySelector('#calls tbody tr')")
    tree = (await page.send("Accessibility.getFullAXTree"))["nodes"]
    roles: dict[str, list[str]] = {}
    for node in tree:
        if not node["ignored"]:
            roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    for role in ("button", "textbox", "combobox", "radio", "link", "heading", "group"):
        assert all(roles.get(role, ["x"])), role
    assert len(roles["main"]) == 1
    assert await page.run("document.querySelectorAll('h1').length") == 1
