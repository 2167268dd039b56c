"""What completes images without training, against closed forms and a search one by one."""

import numpy as np

from probam.experiments.image_completion import by_gaussian, by_mean, by_nearest, hidden_error

RNG = np.random.default_rng(4)
STORED, IMAGES = RNG.normal(size=(30, 3)), RNG.normal(size=(5, 3))
HIDDEN = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1], [1, 1, 0]]).astype(bool)


def test_seen_pixels_stay_and_the_error_counts_the_hidden_ones() -> None:
    for method in (by_mean, by_nearest, by_gaussian):
        filled = method(STORED, IMAGES, HIDDEN)
        np.testing.assert_array_equal(filled[~HIDDEN], IMAGES[~HIDDEN])
        squares = [(filled[n, i] - IMAGES[n, i]) ** 2 for n in range(5) for i in range(3) if HIDDEN[n, i]]
        np.testing.assert_allclose(hidden_error(filled, IMAGES, HIDDEN), np.mean(squares))


def test_the_nearest_image_is_that_of_a_search_one_by_one() -> None:
    filled = by_nearest(STORED, IMAGES, HIDDEN)
    for row, image, gap in zip(filled, IMAGES, HIDDEN, strict=True):
        distances = [float(((one - image)[~gap] ** 2).sum()) for one in STORED]
        np.testing.assert_array_equal(row[gap], STORED[int(np.argmin(distances))][gap])


def test_the_gaussian_conditional_of_two_pixels_is_a_regression_line() -> None:
    data = RNG.multivariate_normal([1.0, 2.0], [[2.0, 0.9], [0.9, 1.0]], size=50)
    image, hidden = np.array([[9.0, 0.5]]), np.array([[True, False]])
    covariance = np.cov(data.T)
    slope = covariance[0, 1] / (covariance[1, 1] + 1e-3)
    expected = data[:, 0].mean() + slope * (0.5 - data[:, 1].mean())
    np.testing.assert_allclose(by_gaussian(data, image, hidden)[0], [expected, 0.5])
