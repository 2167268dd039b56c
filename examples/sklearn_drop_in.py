"""Where scikit-learn's mixtures stand, `ProbamMixture` stands too: the same calls, the same numbers, and more answers.

docs/sklearn.md says which parameters correspond, and shows `ProbamStream`, which learns as rows arrive.
"""

import numpy as np
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV

from probam import ProbamMixture
from probam.data.shipped import load_shipped

X = load_shipped("faithful").frame()  # eruptions of Old Faithful: minutes, and minutes until the next one

# At the maximum of the likelihood both are the same mixture.
theirs = GaussianMixture(2, random_state=0, tol=1e-10).fit(X)
ours = ProbamMixture(2, estimate="ml").fit(X)
order = np.argsort(-theirs.weights_)  # ours has the largest memory first
print(f"mean log likelihood: scikit-learn {theirs.score(X):.4f}, probam {ours.score(X):.4f}")
assert np.isclose(ours.score(X), theirs.score(X), rtol=1e-5)
assert np.allclose(ours.means_, theirs.means_[order], rtol=1e-3)

# A grid search; without `estimate="ml"` a weak prior keeps a memory from falling onto a single row.
search = GridSearchCV(ProbamMixture(standardise=True), {"n_components": [1, 2]}, cv=2).fit(X)
print("number of memories of highest held-out density:", search.best_params_["n_components"])
assert search.best_params_ == {"n_components": 2}

# Some features given others, in the units of the data.
wait = search.best_estimator_.conditional("waiting", given={"eruptions": [2.0, 4.5]}).mean.values.ravel()
print("wait after eruptions of 2 and of 4.5 minutes:", wait.round(0))
assert np.allclose(wait, [55, 80], atol=4)

# And back: a fit that is a Gaussian mixture becomes one of scikit-learn's.
assert np.allclose(ours.to_sklearn().predict_proba(X), ours.predict_proba(X), atol=1e-10)
