"""What Python opens, imports and runs while it is looked at."""

import sys
from typing import Any

__all__ = ["Watched"]

_EVENTS = ("open", "import", "exec", "compile", "subprocess.Popen", "os.system", "os.exec", "pickle.find_class")


class Watched:
    """A context that notes the events of Python's audit; a hook stays as long as the process, so make few."""

    def __init__(self) -> None:
        self.is_on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_on and event in _EVENTS:
            what = {"exec": lambda: arguments[0].co_filename, "compile": lambda: arguments[1]}
            self.seen.append(f"{event} {what.get(event, lambda: arguments[0])()}")

    def __enter__(self) -> "Watched":
        self.is_on = True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_on = False
