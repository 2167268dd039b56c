"""The enumeration itself, against the reference posterior of the project's mathematics."""

import numpy as np
import pytest

from tests.inference.enumeration import log_eppf, log_truncated, posterior

X = np.array([-2.1, -1.8, 0.1, 0.3, 1.9, 2.4, 2.2, 7.0])


@pytest.mark.parametrize(
    ("log_prior", "evidence", "expected_number"),
    [
        (lambda sizes: log_eppf(sizes, 1.0, 0.0), -24.6766093548, 4.46548),
        (lambda sizes: log_eppf(sizes, 0.5, 0.3), -23.9041616572, 5.28363),
        (lambda sizes: log_truncated(sizes, 1.0, 0.0, 5), -24.9622297644, 4.05371),
    ],
    ids=["DP", "Pitman-Yor", "DP truncated at 5"],
)
def test_evidence_and_number_of_memories(log_prior: object, evidence: float, expected_number: float) -> None:
    found, number, _ = posterior(X, log_prior, 0.5, 4.0)  # type: ignore[arg-type]
    assert abs(found - evidence) < 1e-9
    assert abs(number @ np.arange(9) - expected_number) < 1e-5
