r"""Which of several fits is to be preferred, and how sure that is, in a sentence.

Fits are ranked by what they share: the expected log density of new data (leave-one-out) where they have posterior
draws, else BIC. A difference under four nats is small however small its standard error is (Sivula, Magnusson,
Matamoros & Vehtari 2020, arXiv:2008.10296); beyond, it is taken in units of its standard error. Differences of BIC are
read as Kass & Raftery (1995, doi:10.1080/01621459.1995.10476572) read twice a log Bayes factor.
"""

import numpy as np
import pandas as pd

from probam.reports.page import enumerated, number, with_error

__all__ = ["preference"]

_SMALL = 4.0
"""Nats of a difference that says nothing."""

_PROBABLE, _CLEAR = 2.0, 4.0
"""Standard errors from which a difference of leave-one-out is probable, and clear."""

_PROBABLE_BIC, _CLEAR_BIC = 6.0, 10.0


def preference(frame: pd.DataFrame) -> list[str]:
    """Which fit is preferred and how sure, or why none is, in sentences of plain text; the first says it.

    Args:
        frame: a row for each fit, with columns ``elpd_loo``, ``elpd_diff`` (to the largest), ``elpd_diff_se``,
            ``bad_k`` and ``bic``; NaN where a fit has none.
    """
    for column, judge in (("elpd_loo", _by_leave_one_out), ("bic", _by_bic)):
        ranked = frame[frame[column].notna()]
        if len(ranked) > 1:
            left = [str(name) for name in frame.index.difference(ranked.index, sort=False)]
            what = "leave-one-out, which needs posterior draws" if column == "elpd_loo" else "BIC"
            return judge(ranked) + ([f"{enumerated(left)} cannot be placed by {what}."] if left else [])
    loo, bic = ([str(name) for name in frame.index[frame[column].notna()]] for column in ("elpd_loo", "bic"))
    return [
        "No fit is preferred, because they have no score in common: leave-one-out is known of "
        f"{enumerated(loo) or 'none'}, BIC of {enumerated(bic) or 'none'}.",
        "Rows that no fit has seen rank them all: probam compare with --held-out.",
    ]


def _by_leave_one_out(frame: pd.DataFrame) -> list[str]:
    order = frame.sort_values("elpd_loo", ascending=False, kind="stable")
    gap, error = -order["elpd_diff"].to_numpy(float), order["elpd_diff_se"].to_numpy(float)
    apart = gap >= np.maximum(_SMALL, _PROBABLE * error)
    what = "its expected log density of new rows (leave-one-out) is"
    by = f"{with_error(gap[1], error[1])} nats"
    if apart[1:].all():
        how = "clearly" if gap[1] >= _CLEAR * error[1] else "probably"
        ratio = f", {number(gap[1] / error[1], 2)} standard errors" if error[1] > 0 else ""
        sentences = [f"{_better(order, how)}: {what} higher by {by}{ratio}."]
    else:
        near = [str(name) for name, far in zip(order.index, apart, strict=True) if not far]
        sentences = [
            f"No fit is preferred: {enumerated(near)} predict new rows equally well, as far as these data tell.",
            f"{order.index[0]} comes first, and {what} higher than that of {order.index[1]} by {by}, which is too "
            "little: at least four nats and two standard errors are wanted.",
        ]
    bad = int(frame["bad_k"].sum())
    if bad:
        rows = "row" if bad == 1 else "rows"
        sentences.append(f"Leave-one-out is unreliable at {bad} {rows} (Pareto k): check on rows that no fit has seen.")
    return sentences


def _by_bic(frame: pd.DataFrame) -> list[str]:
    order = frame.sort_values("bic", kind="stable")
    gap = order["bic"].to_numpy(float) - float(order["bic"].iloc[0])
    by = number(float(gap[1]), 3)
    if gap[1] >= _PROBABLE_BIC:
        how = "clearly" if gap[1] >= _CLEAR_BIC else "probably"
        return [f"{_better(order, how)}: its BIC is lower by {by} ({number(_CLEAR_BIC, 2)} is clear)."]
    near = [str(name) for name, each in zip(order.index, gap, strict=True) if each < _PROBABLE_BIC]
    return [
        f"No fit is preferred: BIC does not tell {enumerated(near)} apart.",
        f"{order.index[0]} comes first; its BIC is lower than that of {order.index[1]} by {by}, which is too little: "
        f"{number(_PROBABLE_BIC, 2)} are wanted.",
    ]


def _better(order: pd.DataFrame, how: str) -> str:
    """That the first fit is better than the others."""
    best, second = order.index[:2]
    return f"{best} is {how} better than {second}" + (", the next best" if len(order) > 2 else "")
