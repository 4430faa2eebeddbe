"""A headless Chromium for tests of pages, driven by its DevTools protocol."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)  # fmt: skip
_START = 60.0
_PATIENCE = 20.0


class Page:
    """One tab. `complaints` are what its console and its security policy had to say."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.get_running_loop().create_task(self._read())
        self.complaints: list[str] = []

    async def send(self, method: str, **parameters: Any) -> Any:
        """One command and its result. Raises AssertionError with the browser's word when it is refused."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        async with asyncio.timeout(_PATIENCE):
            return await answer

    async def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Go there, with a window of this size and scheme."""
        for domain in ("Page", "Runtime", "Log"):
            await self.send(f"{domain}.enable")
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])
        await self.send("Page.navigate", url=url)
        await self.until(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")

    async def run(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        result = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True,
            allowUnsafeEvalBlockedByCSP=False,
        )  # fmt: skip
        if "exceptionDetails" in result:
            raise AssertionError(result["exceptionDetails"].get("exception", result["exceptionDetails"]))
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until it holds. Raises AssertionError when it does not in time."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                with contextlib.suppress(AssertionError):  # the page that was there goes away under the question
                    if await self.run(f"new Promise(done => requestAnimationFrame(() => done(Boolean({condition}))))"):
                        return

    async def press(self, key: str) -> None:
        """A key, down and up: `Enter`, `Escape`, `ArrowLeft`, `Tab`."""
        codes = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "Tab": 9}
        more = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **more
            )

    async def close(self) -> None:
        """Close the tab."""
        self._reading.cancel()
        await self._socket.close()

    async def _read(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                answer = self._answers.pop(event["id"])
                if answer.done():
                    continue
                if "error" in event:  # "Inspected target navigated or closed", when a page goes under a question
                    answer.set_exception(AssertionError(event["error"]))
                else:
                    answer.set_result(event["result"])
            elif event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled") or (
                event["method"] == "Log.entryAdded" and event["params"]["entry"]["source"] != "network"
            ):
                self.complaints.append(json.dumps(event["params"])[:500])


class Browser:
    """A running browser."""

    def __init__(self, address: str, control: str, session: aiohttp.ClientSession) -> None:
        self._address = address
        self._control = control
        self._session = session

    @contextlib.asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """A new tab in a profile of its own: nothing that another one kept is there."""
        async with self._session.ws_connect(self._control, max_msg_size=0) as control:
            context = await _ask(control, "Target.createBrowserContext")
            target = await _ask(
                control, "Target.createTarget", url="about:blank", browserContextId=context["browserContextId"]
            )
            url = f"{self._address}/devtools/page/{target['targetId']}"
            page = Page(await self._session.ws_connect(url, max_msg_size=0))
            try:
                yield page
            finally:
                await page.close()
                await _ask(control, "Target.disposeBrowserContext", browserContextId=context["browserContextId"])


@contextlib.asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    """A browser with its files in this folder. Raises RuntimeError when none is installed."""
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if program is None:
        raise RuntimeError("Chromium is not installed (Debian: apt-get install chromium)")
    process = await asyncio.create_subprocess_exec(
        program, *_FLAGS, f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    draining: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(_START):
            line = b""
            while b"DevTools listening on " not in line:
                line = await process.stderr.readline()
                if not line:
                    raise RuntimeError("Chromium did not start")
        draining = asyncio.get_running_loop().create_task(process.stderr.read())
        control = line.split()[-1].decode()
        async with aiohttp.ClientSession() as session:
            yield Browser(control.partition("/devtools/")[0], control, session)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if draining is not None:
            await draining


async def _ask(socket: aiohttp.ClientWebSocketResponse, method: str, **parameters: Any) -> dict[str, Any]:
    await socket.send_json({"id": 1, "method": method, "params": parameters})
    async with asyncio.timeout(_PATIENCE):
        while True:
            event = json.loads((await socket.receive()).data)
            if event.get("id") == 1:
                return dict(event["result"])
