"""Eight devices come to what one does, to rounding."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("several_devices.py")


def test_eight_devices_come_to_what_one_does() -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    run = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env=os.environ | {"XLA_FLAGS": flags, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=PROGRAM.parents[2],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stderr[-3000:]
