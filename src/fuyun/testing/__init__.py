"""Shipped fakes, the zoo of bad functions, contract suites for every port."""
