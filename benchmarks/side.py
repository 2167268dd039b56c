"""The process of one side of one task: ``python -m benchmarks.side TASK SIDE``; one figure for every line of input."""

import json
import os
import sys
from typing import Any

from threadpoolctl import threadpool_info


def _pools() -> list[dict[str, Any]]:
    """The thread pools of this process: which BLAS kernel it took, and how many threads it has."""
    keys = ("internal_api", "version", "architecture", "num_threads")
    return [{key: pool[key] for key in keys if key in pool} for pool in threadpool_info()]


def main() -> None:
    """Prepare, report that (or the reason why not), then answer every line with a figure."""
    task, side = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")  # peers may print: stdout is ours
    os.dup2(2, 1)
    from benchmarks.contest import NotReachedError, make

    try:
        measure = make(task).sides[side]()
    except ImportError as error:
        print(f"not installed: {error.name}", file=answers, flush=True)
        return
    except NotReachedError as error:
        print(f"not reached: {error}", file=answers, flush=True)
        return
    print("", file=answers, flush=True)
    print(json.dumps(_pools()), file=answers, flush=True)
    for _ in sys.stdin:
        print(measure(), file=answers, flush=True)


if __name__ == "__main__":
    main()
