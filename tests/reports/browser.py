"""A headless Chromium that is driven as a person would: by mouse, by finger and by keyboard.

It speaks the Chrome DevTools Protocol through a pair of pipes, which needs no library.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["BROWSER", "QUIET", "Tab", "opened"]

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
"""Options of a browser that asks the network for nothing of its own."""

_ON_PIPES = """
import os, sys
os.dup2(int(sys.argv[1]), 3), os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

_KEYS = {"Enter": (13, "\r"), " ": (32, " "), "Escape": (27, ""), "Tab": (9, ""), "ArrowRight": (39, "")}


class Tab:
    """One page. ``events`` are those of the protocol, in their order."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._session: str | None = None
        self._last, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser ended"
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(text))

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        self._last += 1
        command: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        text = json.dumps(command).encode() + b"\0"
        while text:
            text = text[os.write(self._commands, text) :]
        while (message := self._message()).get("id") != self._last:
            self.events.append(message)
        assert "error" not in message, message
        return dict(message["result"])

    def show(self, page: Path, *, width: int = 1000, touch: bool = False) -> None:
        """Load a file in a window of ``width`` pixels."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.events.clear()
        self.ask("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._message())

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def _centre(self, element: str) -> tuple[float, float]:
        self.value(f"{element}.scrollIntoView({{block: 'center', inline: 'center'}})")
        box = self.value(f"{element}.getBoundingClientRect().toJSON()")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def point_at(self, element: str) -> None:
        """Move the mouse to the centre of an element, a JavaScript expression."""
        x, y = self._centre(element)
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, element: str) -> None:
        """Press and release the left button of the mouse on an element."""
        x, y = self._centre(element)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def tap(self, element: str) -> None:
        """Touch an element with a finger."""
        x, y = self._centre(element)
        self.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str) -> None:
        """Press and release a key."""
        code, text = _KEYS[key]
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, text=text)

    def complaints(self) -> list[dict[str, Any]]:
        """What the page wrote to the console, and what the browser wrote about it."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self.events if event["method"] in kinds]

    def requests(self) -> list[str]:
        """Addresses that the page asked for, the page's own first."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [str(event["params"]["request"]["url"]) for event in sent]


@contextmanager
def opened(profile: Path) -> Iterator[Tab]:
    """A browser with one tab, ended with the block.

    Args:
        profile: folder for the browser's files.
    """
    pipes = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for pair in (os.pipe(), os.pipe()) for end in pair]
    theirs, ours, answers, written = pipes
    command = [sys.executable, "-c", _ON_PIPES, str(theirs), str(written), str(BROWSER), *QUIET]
    command += [f"--user-data-dir={profile}", "--remote-debugging-pipe"]
    with subprocess.Popen(command, pass_fds=(theirs, written), stderr=subprocess.DEVNULL) as browser:
        os.close(theirs)
        os.close(written)
        try:
            yield Tab(ours, answers)
        finally:
            browser.terminate()
            os.close(ours)
            os.close(answers)
