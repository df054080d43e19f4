"""Bad functions, each with the error it must earn. Data only: `table.ZOO` is run by tests against a live platform."""

from fuyun.testing.zoo.table import ZOO, Animal

__all__ = ["ZOO", "Animal"]
