"""The stack's load balancer as a process: nginx with `deploy/nginx.conf`, of which only addresses and folders change."""

import asyncio
import os
import re
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.certificates import self_signed

ROOT = Path(__file__).parents[2]
PROGRAM = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_nginx = pytest.mark.skipif(PROGRAM is None, reason="no nginx on this machine")
_START = 10.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Nginx:
    """One balancer with TLS before gateways on this machine; `certificate` is whom its clients must trust."""

    def __init__(self, folder: Path, gateways: Sequence[int]) -> None:
        folder.mkdir()
        self._folder = folder
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.certificate = self_signed(folder)
        self._config = folder / "nginx.conf"
        self._config.write_text(self._adapted((ROOT / "deploy" / "nginx.conf").read_text(), gateways))
        self._process: asyncio.subprocess.Process | None = None

    def _adapted(self, text: str, gateways: Sequence[int]) -> str:
        for number, port in enumerate(gateways, 1):
            text = text.replace(f"proxy-{number}:8000", f"127.0.0.1:{port}")
        text = text.replace("/tmp/", f"{self._folder}/").replace("127.0.0.1:8081", f"127.0.0.1:{free_port()}")
        text = re.sub(r"/etc/nginx/certs/tls\.(crt|key)", str(self.certificate), text)
        # `http2 on;` is newer than some systems' nginx
        text = text.replace("http2 on;", "").replace("listen 8443 ssl;", f"listen 127.0.0.1:{self.port} ssl http2;")
        text = text.replace("error_log /dev/stderr warn;", f"error_log {self._folder}/error.log warn;")
        return "daemon off;\n" + ("user root;\n" if os.geteuid() == 0 else "") + text

    async def start(self) -> None:
        """Begin, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            str(PROGRAM), "-p", str(self._folder), "-c", str(self._config), stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(_START):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    assert self._process.returncode is None, self.log()
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    def reload(self) -> None:
        """New workers; the old ones finish what they serve."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """At once."""
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()

    def log(self) -> str:
        """What it had to say."""
        path = self._folder / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""
