"""Scripts that tests start in processes of their own hold no tests."""

collect_ignore = ["several_devices.py", "several_processes.py"]
