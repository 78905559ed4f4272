"""How hard Hypothesis tries, by `HYPOTHESIS_PROFILE`.

`fast` is the default, `deep` is for a night, `brief` for each of a thousand mutants.
"""

import os

from hypothesis import HealthCheck, settings

# Contended machines are slow in bursts: no deadline for one example.
settings.register_profile(
    "fast",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "deep",
    deadline=None,
    max_examples=5_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "brief",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
