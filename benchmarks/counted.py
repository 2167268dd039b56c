"""One command of probam, with its XLA programs counted: ``python -m benchmarks.counted COUNTS.json WORD ...``.

The file says how many programs the command asked for, and how many of them no cache had.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import probam.cli.program
from probam.cli.main import entered

__all__ = ["main"]

_EVENTS = {
    "programs": "/jax/compilation_cache/compile_requests_use_cache",
    "misses": "/jax/compilation_cache/cache_misses",
}


def _count_into(counts: Counter[str]) -> None:
    """Count what JAX reports from the moment at which a command turns it on; a command without JAX asks for nothing."""
    turn_on = probam.cli.program.keep_compiled

    def keep_compiled() -> Path | None:
        import jax

        if not counts:
            counts["turned on"] = 1
            jax.monitoring.register_event_listener(lambda event, **_: counts.update([event]))
        return turn_on()

    vars(probam.cli.program)["keep_compiled"] = keep_compiled


def main() -> int:
    """The exit code of the command."""
    counts: Counter[str] = Counter()
    _count_into(counts)
    code = entered(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps({name: counts[event] for name, event in _EVENTS.items()}), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
