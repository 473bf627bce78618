"""How a cluster's hosts, and the suite, come to its images: they reach one registry only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.images import OLD_REGISTRIES, REGISTRY


@dataclass(frozen=True)
class Mirror:
    """
    The registry of the images, as a cluster uses it.

    + address: where it listens
    + settings: of the cluster
    + pull: what a host takes an image with
    + registries: where e2e.test is to find what is published elsewhere, by its own keys; where it
      is told nothing, images have the names under which they are published
    """

    address: str
    settings: Mapping[str, Any]
    pull: str
    registries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, runtime: str, address: str) -> Mirror:
        """
        The mirror of a runtime.

        + runtime: such as `containerd`
        + address: where the registry listens
        """
        if runtime != "docker":
            return cls(
                address, {"registry_mirrors": {REGISTRY: f"http://{address}"}}, "crictl pull"
            )
        # docker mirrors nothing but Docker Hub.
        registries = {key: _moved(place, address) for key, place in OLD_REGISTRIES.items()}
        return cls(address, {"insecure_registries": [address]}, "docker pull", registries)

    def name(self, published: str) -> str:
        """What hosts call an image that is published."""
        return _moved(published, self.address) if self.registries else published


def _moved(place: str, address: str) -> str:
    """The same place in another registry."""
    _, _, path = place.partition("/")
    return f"{address}/{path}" if path else address
