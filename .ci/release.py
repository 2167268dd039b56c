"""A release: wheel and sdist of the last commit, what the program needs (CycloneDX), and the hashes of all of them.

    python .ci/release.py FOLDER [--without-sbom]

Files of the working tree that are not committed are not in it. The same commit gives the same bits: times are that of
the commit, owners are left out, members are in order. ``sha256sum --check SHA256SUMS`` checks what was downloaded.
"""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> bytes:
    """What a command prints; raises where it fails."""
    done = subprocess.run(command, cwd=cwd, env=os.environ | variables, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command[:4]))}: {(done.stderr or done.stdout).decode()[-2000:]}")
    return done.stdout


def exported(folder: Path) -> str:
    """The files of the last commit in a folder; its time, in seconds since 1970."""
    with tarfile.open(fileobj=io.BytesIO(run("git", "archive", "HEAD"))) as archive:
        # a filter came with Python 3.11.4; these are our own files, so that an older one may go without
        archive.extractall(folder, **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
    return run("git", "log", "-1", "--format=%ct").decode().strip()


def built(source: Path, folder: Path, epoch: str) -> list[Path]:
    """Wheel and sdist of a tree."""
    for kind in ("--wheel", "--sdist"):
        building = ("-m", "build", kind, "--no-isolation", "--outdir", folder, source)
        run(sys.executable, *building, SOURCE_DATE_EPOCH=epoch)
    (sdist,) = folder.glob("*.tar.gz")
    steady(sdist, int(epoch))
    return [*folder.glob("*.whl"), sdist]


def steady(sdist: Path, epoch: int) -> None:
    """Write the archive again with one time, no owners and its members in order."""
    packed = io.BytesIO()
    with tarfile.open(sdist) as before, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as after:
        for member in sorted(before.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            after.addfile(member, before.extractfile(member) if member.isfile() else None)
    sdist.write_bytes(gzip.compress(packed.getvalue(), mtime=0))


def bill_of_materials(wheel: Path, target: Path, epoch: str) -> None:
    """What an installed wheel brings, with the pinned versions: installed anew, and listed by cyclonedx-py."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
        run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip")
        how = ("--pyproject", ROOT / "pyproject.toml", "--mc-type", "library", "--output-reproducible", "-o", target)
        run(sys.executable, "-m", "cyclonedx_py", "environment", *how, python, SOURCE_DATE_EPOCH=epoch)


def main(arguments: Sequence[str]) -> int:
    """Build, and say what was built."""
    folder = Path(arguments[0]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.name in ("SHA256SUMS", "sbom.json") or old.suffix in (".whl", ".gz"):
            old.unlink()
    with tempfile.TemporaryDirectory() as source:
        epoch = exported(Path(source))
        files = built(Path(source), folder, epoch)
    if "--without-sbom" not in arguments:
        bill_of_materials(files[0], folder / "sbom.json", epoch)
        files.append(folder / "sbom.json")
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    print(f"release of {run('git', 'log', '-1', '--format=%h').decode().strip()} in {folder}")
    if run("git", "status", "--porcelain"):
        print("the working tree has changes that are not committed, and not in it")
    print("".join(sums), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
