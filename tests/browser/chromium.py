"""A real browser for tests, over its DevTools protocol: open a file, ask the page, move the mouse, take pictures.

A file that needs a browser is skipped where there is none. Everything that the page did is kept: what it asked the
network for, what it wrote to its console, what its security policy refused.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import websocket

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS: Final = (
    "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars",
    "--remote-debugging-port=0", "--remote-allow-origins=*", "--disable-dev-shm-usage",
)  # fmt: skip
_PATIENCE_S: Final = 30.0


def find_browser() -> str | None:
    """Where the browser is; None where there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Page:
    """One tab, and what it did since it was opened."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket
        self._number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.events.append(message)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; promises are waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True,
            allowUnsafeEvalBlockedByCSP=False,
        )  # fmt: skip
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until the expression is true."""
        end = time.monotonic() + _PATIENCE_S
        while not self.ask(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.03)

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def prefer(self, scheme: str) -> None:
        """``dark`` or ``light``."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, path: Path) -> None:
        """The file, until its kernels are drawn."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait_for("document.documentElement?.dataset.ready")
        self.settle()

    def settle(self) -> None:
        """Until what was asked to be drawn is drawn."""
        self.ask(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 60))))"
        )

    def click(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def hover(self, x: float, y: float) -> None:
        for step in (-3, 0):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y)
        self.settle()

    def picture(self, path: Path, *, full: bool = True) -> None:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        path.write_bytes(base64.b64decode(shot["data"]))

    def print(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))

    @property
    def requests(self) -> list[str]:
        """Every address that the page asked for; those of data inside the file are none."""
        found = [event["params"]["request"]["url"] for event in self._of("Network.requestWillBeSent")]
        return [url for url in found if not url.startswith("data:")]

    @property
    def complaints(self) -> list[str]:
        """Console errors and warnings, uncaught exceptions, refusals of the security policy."""
        console = [
            str(event["params"]["args"])
            for event in self._of("Runtime.consoleAPICalled")
            if event["params"]["type"] in ("error", "warning", "assert")
        ]
        return [
            *console,
            *(str(event["params"]["exceptionDetails"]) for event in self._of("Runtime.exceptionThrown")),
            *(event["params"]["entry"]["text"] for event in self._of("Log.entryAdded")),
            *(str(event["params"]["issue"]) for event in self._of("Audits.issueAdded")),
        ]

    def _of(self, method: str) -> list[dict[str, Any]]:
        self.ask("0")  # what happened until now has arrived
        return [event for event in self.events if event["method"] == method]


class Browser:
    """A headless browser with a profile of its own."""

    def __init__(self, binary: str, profile: Path) -> None:
        sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
        self._log = (profile.parent / "browser.log").open("wb")
        self._process = subprocess.Popen(
            [binary, *_FLAGS, *sandbox, f"--user-data-dir={profile}", "about:blank"],
            stdout=self._log, stderr=self._log, env={**os.environ, "HOME": str(profile.parent)},
        )  # fmt: skip
        self._port_file = profile / "DevToolsActivePort"
        self._sockets: list[websocket.WebSocket] = []

    def page(self) -> Page:
        """A new tab."""
        port, path = self._address()
        browser = websocket.create_connection(f"ws://127.0.0.1:{port}{path}", timeout=_PATIENCE_S)
        browser.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
        target = json.loads(browser.recv())["result"]["targetId"]
        socket = websocket.create_connection(f"ws://127.0.0.1:{port}/devtools/page/{target}", timeout=_PATIENCE_S)
        self._sockets += [browser, socket]
        return Page(socket)

    def close(self) -> None:
        for socket in self._sockets:
            socket.close()
        self._process.terminate()
        self._process.wait(timeout=_PATIENCE_S)
        self._log.close()

    def _address(self) -> tuple[str, str]:
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            assert self._process.poll() is None, "the browser ended at once"
            if self._port_file.exists() and len(lines := self._port_file.read_text().splitlines()) == 2:
                return lines[0], lines[1]
            time.sleep(0.05)
        raise AssertionError("the browser opened no port")
