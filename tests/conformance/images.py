"""
The images of the suite, in the storage of a registry.

Which ones a release wants, and their tags, its e2e.test tells. They are made from the suite's own
programs, built from source, and from Debian's packages: not the published images, but what the
specs rely on in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pyinfra_kube.cluster.releases import minor_of
from tests.conformance import busybox, registry
from tests.lab import debian_source, go_build, roots
from tests.lab.cache import digest, kept
from tests.lab.images import Image
from tests.lab.machine import run, run_logged, say
from tests.lab.places import HERE, LOGS

REGISTRY = "registry.k8s.io"
"""Where the suite's images are published."""

OLD_REGISTRIES = {
    "dockerLibraryRegistry": "docker.io/library",
    "e2eRegistry": "gcr.io/kubernetes-e2e-test-images",
    "gcRegistry": "k8s.gcr.io",
    "promoterE2eRegistry": "k8s.gcr.io/e2e-test-images",
}
"""Where those of 1.20 are, by the keys that e2e.test has for them."""

# Built from Debian's source, as the release is.
_OLD = debian_source.VERSION.rpartition(".")[0]

_HERE = Path(__file__).parent
_PACKAGES = (_HERE / "packages").read_text().split()
_LEFT_OUT = [f"/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")]
# Where agnhost puts what it is sent, and a user for specs about groups that an image defines.
_SET_UP = (
    "mkdir /uploads && "
    "useradd --uid 1000 user-defined-in-image && "
    "groupadd --gid 50000 group-defined-in-image && "
    "usermod --append --groups group-defined-in-image user-defined-in-image"
)
_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "0"}


@dataclass(frozen=True)
class Programs:
    """
    What images are made from: the folders of parts, and of Debian's packages.

    + suite, kubernetes, coredns, etcd, busybox: the programs of each
    + debian: packages, as the layer `layer.tar`
    """

    suite: Path
    kubernetes: Path
    coredns: Path
    etcd: Path
    busybox: Path
    debian: Path

    @classmethod
    def built(cls, release: str) -> Programs:
        """
        All of them; built now if the cache has none.

        + release: of the Kubernetes that is judged, such as `1.37`
        """
        suite = suite_for(release)
        with go_build.together():
            if suite == _OLD:
                found, kubernetes = debian_source.suite(), debian_source.built()
            else:
                parts = (f"conformance/{suite}", f"kubernetes/{suite}")
                found, kubernetes = map(go_build.built, parts)
            coredns, etcd = map(go_build.built, ("coredns", "etcd"))
            return cls(found, kubernetes, coredns, etcd, busybox.built(), _debian())


def suite_for(release: str) -> str:
    """
    The release whose suite judges another one: its own, or the oldest since that can be built.

    + release: such as `1.33`
    """
    parts = [part for part in go_build.parts() if part.startswith("conformance/")]
    suites = [_OLD, *(part.partition("/")[2] for part in parts)]
    later = [one for one in suites if minor_of(one) >= minor_of(release)]
    return min(later, key=minor_of)


def stored(programs: Programs) -> Path:
    """The storage of a registry with all images of the suite; made now if the cache has none."""
    own = [_HERE / name for name in ("images.py", "registry.py", "os-release", "index.html")]
    recipe = digest([folder.name for folder in vars(programs).values()], *own, HERE / "images.py")
    kind = f"images-{programs.suite.name.rpartition('.')[0].removeprefix('go-')}"
    return kept(kind, recipe, lambda it: _store(it, images(programs, names(programs.suite))))


def names(suite: Path) -> list[str]:
    """
    The published images that a suite knows, for its conformance specs and for others.

    + suite: the folder of its programs
    """
    listed = set(run(suite / "e2e.test", "--list-images").stdout.split())
    return sorted(
        name
        for name in listed
        if name.startswith(f"{REGISTRY}/") or name.rpartition("/")[0] in OLD_REGISTRIES.values()
    )


def images(programs: Programs, names: Sequence[str]) -> list[Image]:
    """
    The images that conformance specs use, each under all its names.

    + names: all that the suite knows
    """
    made = _made(programs)
    wanted: dict[str, list[str]] = {}
    for name in names:
        wanted.setdefault(name.rpartition("/")[2].rpartition(":")[0], []).append(name)
    return [replace(image, names=wanted[own]) for own, image in made.items() if own in wanted]


def _made(of: Programs) -> dict[str, Image]:
    """Each image, by its repository."""
    debian = Image((), base=[of.debian / "layer.tar"])
    agnhost = replace(
        debian,
        files={
            "/agnhost": of.suite / "agnhost",
            "/coredns": of.coredns / "coredns",
            "/localhost.crt": of.suite / "porter.crt",
            "/localhost.key": of.suite / "porter.key",
        },
        links={"/agnhost-2": "agnhost"},
        entrypoint=["/agnhost"],
        command=["pause"],
    )
    small = _busybox(of.busybox / "busybox")
    etcd = {f"/usr/local/bin/{name}": of.etcd / name for name in ("etcd", "etcdctl")}
    nginx = replace(debian, command=["nginx", "-g", "daemon off;"])
    set_user_id = {"/usr/local/bin/nnp": 0o6755}
    sample = {"/sample-apiserver": of.suite / "sample-apiserver"}
    return {
        "agnhost": agnhost,
        "busybox": small,
        "etcd": Image((), etcd),
        "glibc-dns-testing": debian,
        # Up to 1.34, a web server with its page in another place.
        "httpd": replace(
            nginx,
            files={"/var/www/html/index.html": _HERE / "index.html"},
            links={"/usr/local/apache2/htdocs": "/var/www/html"},
        ),
        "jessie-dnsutils": debian,
        "kitten": _picture(agnhost, of.suite / "kitten"),
        "nautilus": _picture(agnhost, of.suite / "nautilus"),
        "nginx": nginx,
        "nonewprivs": Image(
            (),
            {"/usr/local/bin/nnp": of.suite / "nonewprivs"},
            command=["nnp"],
            modes=set_user_id,
        ),
        "nonroot": replace(small, user="1234"),
        "pause": Image((), {"/pause": of.kubernetes / "pause"}, entrypoint=["/pause"]),
        "sample-apiserver": Image((), sample, entrypoint=["/sample-apiserver"]),
    }


def _busybox(program: Path) -> Image:
    applets = run(program, "--list").stdout.split()
    links = {f"/bin/{name}": "busybox" for name in applets if name != "busybox"}
    return Image((), {"/bin/busybox": program}, links, command=["sh"])


def _picture(agnhost: Image, folder: Path) -> Image:
    """A web server of a picture, and of what it is."""
    shown = {f"/{path.name}": path for path in folder.iterdir()}
    files = {**agnhost.files, **shown, "/etc/os-release": _HERE / "os-release"}
    return replace(agnhost, files=files, command=["test-webserver"])


def _debian() -> Path:
    """Debian's packages; installed now if the cache has none of them."""
    recipe = digest(roots.SUITE, roots.MIRROR, _PACKAGES, _LEFT_OUT, [_SET_UP])
    return kept("root-conformance", recipe, _install)


def _install(folder: Path) -> None:
    log = LOGS / "root-conformance.log"
    say(f"installing what images of the suite need (log: {log})")
    root = folder / "root"
    run_logged(
        *("mmdebstrap", "--variant=minbase", "--mode=root", f"--include={','.join(_PACKAGES)}"),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        *(f'--customize-hook=chroot "$1" sh -euc {_SET_UP!r}', "--skip=output/dev"),
        *(roots.SUITE, root, roots.MIRROR),
        log=log,
        environment=_QUIET,
    )
    run(
        *("tar", "--create", "--sort=name", "--mtime=@0", "--numeric-owner"),
        *("--file", folder / "layer.tar", "--directory", root, "--exclude=./dev/*", "."),
    )


def _store(folder: Path, images: Sequence[Image]) -> None:
    say(f"writing {len(images)} images of the suite")
    with registry.serving(folder) as address:
        for image in images:
            registry.push(address, image)
