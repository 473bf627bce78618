"""What the unit tests share: few examples of a property unless asked for all, and quick keys."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, settings

from pyinfra_kube.cluster import pki

# It registers itself.
from tests.unit import toy_runtime  # noqa: F401

# Properties do not fail because the machine is busy. `make test` tries the full number.
for profile, examples in {"quick": 20, "full": 200}.items():
    settings.register_profile(
        profile,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# Making keys is most of the time that many tests would take.
_KEYS: list[rsa.RSAPrivateKey] = []
_NEXT_KEY = itertools.cycle(range(12))


def quick_key() -> rsa.RSAPrivateKey:
    number = next(_NEXT_KEY)
    if number >= len(_KEYS):
        _KEYS.append(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    return _KEYS[number]


@pytest.fixture(autouse=True, scope="module")
def _quick_keys(request: pytest.FixtureRequest) -> Iterator[None]:
    """Short keys from a pool, but for a module that says ``REAL_KEYS = True``."""

    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "REAL_KEYS", False):
            patch.setattr(pki, "_new_key", quick_key)
        yield


# cryptography keeps the first type of datetime that it meets, and pyinfra-testing freezes time.
pki.make_ca("first", key=pki._key_text(quick_key()))
