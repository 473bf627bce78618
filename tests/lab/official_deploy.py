"""Run on this machine by `official.py`: programs of a release, into a folder of the cache."""

from pyinfra.context import host

from pyinfra_kube.deploys.run.artifacts import Artifacts
from pyinfra_kube.operations.binaries import Binary, binaries

_artifacts = Artifacts(source=host.data.source, images="", digests={})

binaries(
    name="Fetch the release's programs",
    binaries=[
        Binary(f"{host.data.folder}/{name}", *_artifacts.binary(name))
        for name in host.data.programs.split(",")
    ],
)
