"""Known vulnerabilities of the pinned dependencies, by pip-audit; exit code 1 where there are some.

    python .ci/audit.py [constraints.txt]

Where the index does not answer about advisories (no network, a mirror without them) this is said in a line and the exit
code is 0: a build does not fail because a service is away. One pin is asked about first, and all others only if that is
answered.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

PATIENCE = 300
"""Seconds for all answers of the index."""

IGNORED: dict[str, str] = {}
"""Advisories that do not concern us: number -> why."""


def advisories(pins: Sequence[str]) -> list[dict[str, Any]] | str:
    """What pip-audit found of each pin, or why there is no answer."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pins.txt"
        file.write_text("\n".join(pins), encoding="utf-8")
        asking = ("--requirement", str(file), "--no-deps", "--disable-pip", "--format", "json", "--timeout", "10")
        command = [sys.executable, "-m", "pip_audit", *asking, "--progress-spinner", "off"]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return f"no answer within {PATIENCE} seconds"
    try:
        found: list[dict[str, Any]] = json.loads(run.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        said = run.stderr.strip().splitlines()
        return said[-1] if said else f"pip-audit ended with {run.returncode}"
    skipped = [each["skip_reason"] for each in found if "skip_reason" in each]
    return skipped[0] if found and len(skipped) == len(found) else found


def vulnerable(found: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each advisory that is not ignored."""
    every = [(each, one) for each in found for one in each.get("vulns", ()) if one["id"] not in IGNORED]
    return [
        f"{each['name']} {each['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'no version yet'}"
        for each, one in every
    ]


def main(arguments: Sequence[str]) -> int:
    """Ask, print, and say whether all is well."""
    file = Path(arguments[0]) if arguments else ROOT / "constraints.txt"
    lines = [line.partition("  #")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    pins = [line for line in lines if line and not line.startswith("#")]
    for asked in (pins[:1], pins):
        found = advisories(asked)
        if isinstance(found, str):
            print(f"audit: skipped, since the index does not answer about advisories ({found})")
            return 0
    lines = vulnerable(found)
    print("\n".join(lines) if lines else f"audit: {len(found)} pinned packages, no known vulnerability")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
