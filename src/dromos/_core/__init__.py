"""Decides: pure functions over frozen values, which the driver obeys."""
