"""A headless Chromium for tests, driven by its DevTools protocol over a pipe: no server, no port, no driver."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--force-device-scale-factor=1", "--hide-scrollbars",
)  # fmt: skip
PATIENCE = 120


class Page:
    """One page: what it asked for over the network, what its console complained of, and what a user can do with it."""

    def __init__(self, writes: int, reads: int) -> None:
        self._writes, self._reads = writes, reads
        self._last, self._rest, self._session = 0, b"", None
        self._answers: dict[int, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self._last += 1
        number = self._last
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while number not in self._answers:
            self._read(until)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _read(self, until: float) -> None:
        assert select.select([self._reads], [], [], max(0, until - time.monotonic()))[0], "Chromium does not answer"
        content = os.read(self._reads, 1 << 20)
        assert content, "Chromium has ended"
        *messages, self._rest = (self._rest + content).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._event(message["method"], message["params"])

    def _event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])

    def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Show the page in a window of this size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def open(self, address: str) -> None:
        """Go there and wait until it is loaded."""
        self._loaded = False
        self.call("Page.navigate", url=address)
        until = time.monotonic() + PATIENCE
        while not self._loaded:
            self._read(until)

    def ask(self, script: str) -> Any:
        """The value of an expression of JavaScript; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = PATIENCE) -> Any:
        """The value of an expression as soon as it is true."""
        until = time.monotonic() + seconds
        while not (value := self.ask(script)):
            assert time.monotonic() < until, f"never true: {script}\n{self.ask('document.body.innerText')[:2000]}"
            time.sleep(0.2)
        return value

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowDown": 40}
        more = {"key": key, "windowsVirtualKeyCode": codes.get(key, 0), **({"text": text} if text else {})}
        self.call("Input.dispatchKeyEvent", type="keyDown", **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    def names(self) -> list[tuple[str, str]]:
        """Role and name of everything that a screen reader is told of."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", ""))
                for node in nodes if not node["ignored"]]  # fmt: skip

    def picture(self, file: Path, *, whole: bool = True) -> Path:
        """The page as PNG: all of it, or what the window shows."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))
        return file

    def printed(self, file: Path) -> Path:
        """The page as it is printed, A4."""
        found = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        file.write_bytes(base64.b64decode(found["data"]))
        return file


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A page of a new Chromium, whose profile lies in `folder`; the test is skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed (chromium, chromium-browser, google-chrome)")
    to_read, writes = os.pipe()
    reads, to_write = os.pipe()
    # Chromium reads from 3 and writes to 4; first out of the way, so that neither end is overwritten.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read, to_write)]
    os.close(to_read)
    os.close(to_write)
    redirected = f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}'
    command = ["bash", "-c", redirected, program, *FLAGS, f"--user-data-dir={folder}"]
    process = subprocess.Popen(command, pass_fds=ends, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    for end in ends:
        os.close(end)
    try:
        yield Page(writes, reads)
    finally:
        process.terminate()
        process.wait(30)
        os.close(writes)
        os.close(reads)
