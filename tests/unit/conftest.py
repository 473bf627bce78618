"""What the unit tests share: properties that do not fail because the machine is busy."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# It registers itself.
from tests.unit import toy_runtime  # noqa: F401

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
