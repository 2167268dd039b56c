"""Trees of point estimates with a recall group: one feature, a plane, more features, or directions."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from probam.reports.tree import Variables, build_tree
from tests.reports.small_fits import log_components


class Bank(NamedTuple):
    """Memories (K, D): Gaussian with log density -beta |x - loc|^2, or directions with beta <x, loc>."""

    loc: np.ndarray
    beta: float
    weights: np.ndarray
    spherical: bool

    def log_joint(self, v: np.ndarray) -> np.ndarray:
        """Log of weight times density (N, K), up to a constant."""
        log_density = (
            self.beta * v @ self.loc.T if self.spherical else log_components(v, self.loc, np.asarray(self.beta))
        )
        return np.asarray(np.log(self.weights) + log_density)

    def recalled(self, v: np.ndarray) -> np.ndarray:
        """Where the fixed-point iteration stands after 200 steps."""
        for _ in range(200):
            joint = self.log_joint(v)
            v = np.exp(joint - logsumexp(joint, axis=1, keepdims=True)) @ self.loc
            v = v / np.linalg.norm(v, axis=1, keepdims=True) if self.spherical else v
        return v


class Plane(NamedTuple):
    """A grid on the plane of the widest directions, or on the hemisphere around the mean direction."""

    origin: np.ndarray
    axis: np.ndarray
    grid_x: np.ndarray
    grid_y: np.ndarray
    points: np.ndarray  # (Y, X, D)
    valid: np.ndarray  # (Y, X)

    def on_grid(self, values: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
        """A variable of the recall group from its values at the points; NaN outside the hemisphere."""
        return np.where(self.valid, values.reshape(self.valid.shape).astype(np.float32), np.nan), ("grid_y", "grid_x")


def plane_of(x: np.ndarray, *, spherical: bool) -> Plane:
    """The plane on which the landscape of data (N, D) is seen."""
    num_features = x.shape[1]
    origin = x.mean(axis=0) if num_features > 2 else np.zeros(num_features)
    directions = np.linalg.svd(x - origin, full_matrices=False)[2]
    if spherical:
        origin = origin / np.linalg.norm(origin)
        directions = np.linalg.qr(np.column_stack([origin, directions[:2].T]))[0][:, 1:].T
    axis = np.array([[1.0], [0.0]]) if num_features == 1 else directions[:2]
    span = (x - origin) @ axis.T
    low, high = (np.full(2, -1.0), np.ones(2)) if spherical else (span.min(axis=0) - 1, span.max(axis=0) + 1)
    grid_x = np.linspace(low[0], high[0], 31)
    grid_y = np.linspace(low[1], high[1], 27) if num_features > 1 else np.zeros(1)
    mesh = np.stack(np.meshgrid(grid_x, grid_y), axis=-1)
    points, valid = origin + mesh @ axis, np.ones(mesh.shape[:2], bool)
    if spherical:
        height = 1 - (mesh**2).sum(axis=-1)
        valid = height >= 0
        points = mesh @ axis + np.sqrt(np.maximum(height, 0))[..., None] * origin
        points /= np.linalg.norm(points, axis=-1, keepdims=True)
    return Plane(origin, axis, grid_x, grid_y, points, valid)


def recall_variables(x: np.ndarray, bank: Bank) -> Variables:
    """The recall group: six queries, the attractors, and energy, basins and responsibilities on the plane."""
    plane = plane_of(x, spherical=bank.spherical)
    rows = plane.points.reshape(-1, x.shape[1])
    queries = x[:6]
    ends = bank.recalled(queries)
    return {
        "query": (queries, ("query", "feature")),
        "trajectory": (np.stack([queries, ends], axis=1), ("query", "step", "feature")),
        "converged": (np.ones(6, bool), ("query",)),
        "basin": (bank.log_joint(ends).argmax(axis=1), ("query",)),
        "responsible": (bank.log_joint(queries).argmax(axis=1), ("query",)),
        "attractor": (np.unique(bank.recalled(x).round(3), axis=0), ("attractor", "feature")),
        "axis": (plane.axis, ("axis", "feature")),
        "plane_origin": (plane.origin, ("feature",)),
        "grid_x": (plane.grid_x, ("grid_x",)),
        "grid_y": (plane.grid_y, ("grid_y",)),
        "grid_energy": plane.on_grid(-logsumexp(bank.log_joint(rows), axis=1)),
        "grid_basin": plane.on_grid(bank.log_joint(bank.recalled(rows)).argmax(axis=1)),
        "grid_responsible": plane.on_grid(bank.log_joint(rows).argmax(axis=1)),
    }


def with_landscape(x: np.ndarray, bank: Bank) -> xr.DataTree:
    """A tree with memories and a recall group, as a fit has them."""
    num_components, num_features = bank.loc.shape
    labels = bank.log_joint(x).argmax(axis=1)
    size = np.bincount(labels, minlength=num_components).astype(float)
    return build_tree(
        attributes={
            "probam_version": "0.1.0",
            "engine": "em",
            "weights": "dirichlet",
            "source": "simulated",
            "num_components": num_components,
        },
        data=x,
        columns=[f"column {i}" for i in range(num_features)],
        center=np.zeros(num_features),
        scale=np.ones(num_features),
        posterior={"loc": (bank.loc[None, None], ("chain", "draw", "memory", "feature"))},
        memory={
            "mean": (bank.loc, ("memory", "feature")),
            "sd": (np.full(bank.loc.shape, 1 / np.sqrt(2 * bank.beta)), ("memory", "feature")),
            "weight": (bank.weights, ("memory",)),
            "size": (size, ("memory",)),
            "occupied": ((size > 0).astype(float), ("memory",)),
        },
        partition={"label": (labels, ("datum",))},
        recall=recall_variables(x, bank),
        group_attributes={"recall": {"spherical": int(bank.spherical)}},
    )
