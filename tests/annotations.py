"""The checker of annotations of `make test-types`: beartype, by whose rule a whole number is a number too."""

from beartype import BeartypeConf, beartype

__all__ = ["checked"]

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
