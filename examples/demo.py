"""The main job on real data: three memories fitted, verified and reported. Run by ``make demo``.

1. Old Faithful (272 eruptions): a Dirichlet-process mixture of full Gaussians, by NUTS.
2. Letters (20,000 images of capital letters, 16 features): Pitman-Yor mixtures, by EM and by SVI.
3. Comets (orbit normals, unit vectors): a Dirichlet-process mixture of von Mises-Fisher memories, by SVI.

Everything is written into out/demo.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={os.cpu_count()}")

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from rich.console import Console

from probam.claims.entries import ENTRIES
from probam.claims.verify import summary, table, verify
from probam.cli.console import Bar
from probam.data.shipped import load_labels, load_shipped
from probam.fits.fit import Fit, fit

OUT = Path(__file__).resolve().parents[1] / "out" / "demo"
console = Console(width=100)


def job(name: str, data: Any, **options: Any) -> Fit:
    """Fit, verify, save and report one memory."""
    console.rule(f"[bold]{name}")
    with Bar() as bar:
        fitted = fit(data, progress=bar, **options)
    console.print(fitted.summary_text(most=8), highlight=False, markup=False)
    failed = [check for check in fitted.verify() if not check.passed]
    for check in failed:
        console.print(f"NOT verified: {check}", style="red")
    if not failed:
        console.print("Verified: the physics' energy is the program's log density at posterior draws.", style="green")
    fitted.save(OUT / f"{name}.nc")
    fitted.report(OUT / f"{name}.html")
    if failed:
        sys.exit(1)
    return fitted


def main() -> None:
    """Run the three jobs and the court."""
    began = time.perf_counter()
    OUT.mkdir(parents=True, exist_ok=True)
    job(
        "faithful",
        load_shipped("faithful"),
        weights="dp",
        components=10,
        engine="nuts",
        standardise=True,
        num_draws=1500,
        target_accept=0.95,
    )

    letters, labels = load_shipped("letter20k"), load_labels("letter20k")
    options: dict[str, Any] = {"covariance": "diagonal", "weights": "pyp", "components": 40, "standardise": True}
    by_em = job("letter-em", letters, engine="em", restarts=1, max_iterations=500, **options)
    by_svi = job("letter-svi", letters, engine="svi", restarts=1, num_steps=1500, num_draws=200, **options)
    from sklearn.metrics import adjusted_rand_score

    for name, fitted in (("EM", by_em), ("SVI", by_svi)):
        found = fitted.predict(letters)
        console.print(
            f"{name}: mean log density {float(np.mean(found['log_density'])):.4f} nats, "
            f"adjusted Rand index with the 26 letters {adjusted_rand_score(labels, found['label']):.3f}"
        )

    job(
        "comets",
        load_shipped("comets"),
        family="vmf",
        weights="dp",
        components=12,
        engine="svi",
        restarts=2,
        num_steps=1200,
        num_draws=500,
    )

    console.rule("[bold]the court")
    console.print("the first paper's entries; `probam verify` tries all 58", style="dim")
    certificates = verify([entry for entry in ENTRIES if entry.startswith("A")])
    console.print(table(certificates))
    console.print(summary(certificates))
    console.rule()
    for page in sorted(OUT.glob("*.html")):
        console.print(f"report: {page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page}")
    console.print(f"all of it took {time.perf_counter() - began:.0f} s")
    if not all(certificate.passed for certificate in certificates):
        sys.exit(1)


if __name__ == "__main__":
    main()
