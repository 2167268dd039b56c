"""Words of the experiments' pages, explained for newcomers."""

__all__ = ["WORDS"]

WORDS = {
    "ARI": "adjusted Rand index: how well two groupings of the same rows agree; 1 is perfect, 0 what chance gives",
    "NMI": "normalised mutual information of two groupings: 1 is perfect, 0 none; it grows with the number of groups",
    "nats": "unit of log densities with the natural logarithm; one nat per row more makes each row e = 2.72 times as "
    "probable",
    "standard error": "the standard deviation of a mean, or of another number, over repetitions of the measurement",
    "load": "number of stored memories K divided by the number of neurons N",
    "overlap": "mean product of two states of signs: 1 if they are the same, 0 if they are unrelated",
    "Hebb’s rule": "a coupling is the mean product of its two neurons over all memories",
    "pseudo-inverse": "couplings that make every stored memory a fixed point, as long as the memories are independent",
    "plain power": "the overlap to the power n, also where the overlap is negative",
    "rectified power": "the overlap to the power n where it is positive, and 0 where it is negative",
    "silhouette": "how much closer a row is to its own cluster than to the next one, from −1 to 1; it uses no classes",
    "EM": "expectation maximisation: fits a mixture by alternately assigning rows and moving components",
    "beta": "inverse temperature: a component of the mixture has the variance 1 / (2 beta) in each direction",
    "attractor": "a state at which recall ends from all states near it",
    "basin": "all states from which recall ends at the same attractor",
    "concentration": "how narrowly a memory on the sphere is peaked: the larger, the more memories are made",
    "dp": "Dirichlet process: a prior under which the number of memories grows as the logarithm of the number of data",
    "pyp": "Pitman-Yor process: like the Dirichlet process, but the number of memories grows as a power of the data",
    "discount": "exponent of that power law, between 0 (Dirichlet process) and 1",
    "prequential": "each datum is predicted from those before it, and then learned; the sum of these log densities is "
    "a score without held-out data",
    "CPU seconds": "time that all cores together spent on the work; waiting for a busy machine does not count",
    "token": "a vector that stands for a part of the input, here for a patch of an image",
    "similarity": "what compares a query with each stored image",
    "separation": "what turns similarities into weights of the stored images",
    "threshold": "largest sum of squared differences, over all pixels, at which an image counts as retrieved",
}
"""The word, and what it means here."""
