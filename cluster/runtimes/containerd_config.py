"""
containerd's config.toml: the keys that a cluster needs, in a file that may be somebody else's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from pyinfra_kube.cluster import containerd_versions as versions
from pyinfra_kube.cluster.releases import minor_of
from pyinfra_kube.cluster.runtimes.containerd import SOCKET

# The plugins that speak CRI, as versions of the file call them.
_CRI = "io.containerd.grpc.v1.cri"
_IMAGES, _RUNTIME = "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"
_CRI_PLUGINS = ("cri", _CRI, _IMAGES, _RUNTIME)

_RUNC = "io.containerd.runc.v2"
_CERTIFICATES = "/etc/containerd/certs.d"
_MIGRATE = "see containerd config migrate"

Key = tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """
    What containerd must be told.

    + sandbox_image: the pause image, by its full name
    + cni_bin_dir, cni_conf_dir: where CNI's plugins and their configuration are
    + containerd: the version that reads the file
    + selinux: whether containers are confined, unless the file says so itself
    """

    sandbox_image: str
    cni_bin_dir: str
    cni_conf_dir: str
    containerd: str
    selinux: bool = False

    @property
    def reads(self) -> int:
        """The newest version of the file that it reads. Raises ``ValueError`` for an old one."""

        found = versions.newest_configuration(self.containerd)
        if not found and minor_of(self.containerd) < minor_of(versions.NEWEST):
            raise ValueError(
                f"containerd {self.containerd} is older than 1.6, the first that serves"
            )
        return found or versions.newest_configuration(versions.NEWEST) or 0

    @property
    def version(self) -> int:
        """The version of a new file: 3 is read by every containerd 2."""
        return min(self.reads, 3)

    @property
    def several(self) -> bool:
        """Whether CNI's plugins may be in several folders."""
        return "bin_dirs" in versions.cni_folder_keys(self.containerd)


@dataclass(frozen=True)
class Merged:
    """
    A file with the wanted keys in it.

    + text: of the file
    + before, after: those keys, for people; others may be secrets
    """

    text: str
    before: str
    after: str


def version_of(text: str) -> int:
    """
    Return the version of a file; 1 where it names none.

    + text: of config.toml

    Raises ``ValueError`` for what is no TOML.
    """

    found = _parsed(text).unwrap().get("version", 1)
    if not isinstance(found, int):
        raise ValueError(f"its version is {found!r}")
    return found


def keys_of(text: str) -> set[Key]:
    """
    Return the keys of a file, each with the tables that it is in.

    + text: of config.toml

    Raises ``ValueError`` for what is no TOML.
    """

    return set(_leaves(_parsed(text).unwrap()))


def _leaves(data: Mapping[str, Any], table: Key = ()) -> Iterator[Key]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*table, name))
        else:
            yield (*table, name)


def merge(text: str, wanted: Wanted) -> Merged:
    """
    Set the wanted keys in a file. All else in it stays, letter by letter.

    + text: of config.toml
    + wanted: what containerd must be told

    Raises ``ValueError`` where the file cannot be kept.
    """

    version = version_of(text)
    if version > wanted.reads:
        raise ValueError(
            f"its version is {version}, and containerd {wanted.containerd} reads up to "
            f"{wanted.reads}"
        )
    if version < 2:
        _refuse_old(_parsed(text).unwrap())
        version, text = 2, f"version = 2\n{text}" if "version" not in _parsed(text) else text
    data: dict[str, Any] = _parsed(text).unwrap()
    _refuse_other_socket(data)
    keys = _keys(version, data, wanted)
    result = _with(text, data, {k: value for k, value in keys.items() if _at(data, k) != value})
    before = {key: _at(data, key) for key in keys}
    return Merged(result, _shown(before), _shown(keys))


def registries_of(text: str) -> list[str]:
    """
    Return the folders in which containerd looks for a folder of each registry; none, where the file
    names registries itself.

    + text: of config.toml

    Raises ``ValueError`` for what is no TOML.
    """

    data = _parsed(text).unwrap()
    paths = (_at(data, ("plugins", plugin, "registry", "config_path")) for plugin in _CRI_PLUGINS)
    return [folder for path in paths if path for folder in str(path).split(":")]


def _parsed(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except (TOMLKitError, RecursionError) as error:
        raise ValueError(f"it is no TOML: {error}") from error


def _with(text: str, data: Mapping[str, Any], changed: Mapping[Key, Any]) -> str:
    """The file with changed keys."""

    if not changed:
        return text
    expected = copy.deepcopy(data)
    for key, value in changed.items():
        _set(expected, key, value)
    lacking = {key: v for key, v in changed.items() if not isinstance(_at(data, key[:-1]), Mapping)}
    added = {key: v for key, v in changed.items() if v is not None and _at(data, key) is None}
    # Amid tables that lie apart, a new table goes after all of them, or else a key below a header.
    for after, below in (({}, {}), (lacking, {}), ({}, added)):
        try:
            document = _parsed(_with_lines(text, below))
            for key, value in changed.items():
                if key not in after and key not in below:
                    _set(document, key, value)
            result = tomlkit.dumps(document).rstrip("\n") + "\n" + _tables(after)
            if _parsed(result).unwrap() == expected:
                return result
        except ValueError:
            continue
    raise ValueError("a key cannot be added, for its tables lie apart; put them together")


def _headers(text: str) -> dict[int, Key]:
    """The tables that have a header, by the index of its line."""

    found = {}
    for index, line in enumerate(text.splitlines()):
        if line.lstrip().startswith("[") and not line.lstrip().startswith("[["):
            with suppress(ValueError):
                found[index] = _path(_parsed(line).unwrap())
    return found


def _path(table: Mapping[str, Any]) -> Key:
    """The names of tables that are within each other."""

    return tuple(name for key, inner in table.items() for name in (key, *_path(inner)))


def _with_lines(text: str, keys: Mapping[Key, Any]) -> str:
    """The file with keys below the header that is nearest to each."""

    headers, lines = _headers(text), text.splitlines()
    for key, value in keys.items():
        near = [(len(table), at) for at, table in headers.items() if key[: len(table)] == table]
        if near:
            length, at = max(near)
            lines[at] += "\n" + _line(key[length:], value).rstrip("\n")
    return "\n".join([*lines, ""])


def _line(key: Key, value: object) -> str:
    return f"{_spelled(key)} = {tomlkit.item(value).as_string()}\n"


def _tables(keys: Mapping[Key, Any]) -> str:
    """Keys with the tables that they are in."""

    found: dict[Key, str] = {}
    for key, value in keys.items():
        if value is not None:
            found[key[:-1]] = found.get(key[:-1], "") + _line(key[-1:], value)
    return "".join(f"\n[{_spelled(table)}]\n{lines}" for table, lines in found.items())


def _refuse_old(data: Mapping[str, Any]) -> None:
    """Refuse a file of version 1, unless it says the same in version 2."""

    others = [name for name in data.get("disabled_plugins", []) if name not in _CRI_PLUGINS]
    if data.get("plugins") or data.get("version") or any("." not in name for name in others):
        raise ValueError(f"it is of version 1, whose keys have other names; {_MIGRATE}")


def _refuse_other_socket(data: Mapping[str, Any]) -> None:
    for table in (("grpc",), ("plugins", "io.containerd.server.v1.grpc")):
        address = _at(data, (*table, "address"))
        if address not in (None, SOCKET):
            raise ValueError(f"containerd answers at {address}, and is asked at {SOCKET}")


def _keys(version: int, data: Mapping[str, Any], wanted: Wanted) -> dict[Key, Any]:
    """The wanted keys, as a version of the file calls them; ``None`` for one that must go."""

    images: Key = ("plugins", _CRI if version == 2 else _IMAGES)
    runtime: Key = ("plugins", _CRI if version == 2 else _RUNTIME)
    sandbox = ("sandbox_image",) if version == 2 else ("pinned_images", "sandbox")
    runtimes = (*runtime, "containerd", "runtimes")
    keys: dict[Key, Any] = {}
    disabled = data.get("disabled_plugins", [])
    if any(name in _CRI_PLUGINS for name in disabled):
        keys[("disabled_plugins",)] = [name for name in disabled if name not in _CRI_PLUGINS]
    keys |= {
        (*images, *sandbox): wanted.sandbox_image,
        (*runtime, "restrict_oom_score_adj"): True,
        (*runtimes, "runc", "runtime_type"): _RUNC,
    }
    confined = (*runtime, "enable_selinux")
    if wanted.selinux and _at(data, confined) is None:
        keys[confined] = True
    # Whichever of them a pod runs with, kubelet keeps its control group in one way.
    others = _table(data, runtimes)
    of_runc = [n for n, one in others.items() if _table(one, ()).get("runtime_type") == _RUNC]
    cgroups = ("options", "SystemdCgroup")
    keys |= {(*runtimes, name, *cgroups): True for name in dict.fromkeys(["runc", *of_runc])}
    keys |= _cni(version, _table(data, (*runtime, "cni")), wanted, (*runtime, "cni"))
    registry = (*images, "registry")
    # containerd does not start with a folder of registries beside these.
    if not {"mirrors", "configs"} & _table(data, registry).keys():
        path = (*registry, "config_path")
        keys[path] = _at(data, path) or _CERTIFICATES
    return keys


def _cni(version: int, found: Mapping[str, Any], wanted: Wanted, table: Key) -> dict[Key, Any]:
    # A file of version 2 is converted by the containerd that reads it.
    known = ["bin_dir"] if version == 2 else versions.cni_folder_keys(wanted.containerd)
    # One of the two, never both.
    one = next((name for name in known if name in found), known[0])
    return {
        (*table, "bin_dirs"): [wanted.cni_bin_dir] if one == "bin_dirs" else None,
        (*table, "bin_dir"): wanted.cni_bin_dir if one == "bin_dir" else None,
        (*table, "conf_dir"): wanted.cni_conf_dir,
    }


def _table(data: Any, key: Key) -> Mapping[str, Any]:
    found = _at(data, key)
    return found if isinstance(found, Mapping) else {}


def _at(data: Any, key: Sequence[str]) -> Any:
    for name in key:
        if not isinstance(data, Mapping):
            return None
        data = data.get(name)
    return data


def _set(data: Any, key: Key, value: Any) -> None:
    """Set a key of nested tables, or remove it; tables that lack are made."""

    for name in key[:-1]:
        if name not in data:
            if value is None:
                return
            made = isinstance(data, (tomlkit.TOMLDocument, tomlkit.items.Table))
            data[name] = tomlkit.table() if made else {}
        data = data[name]
        if not isinstance(data, Mapping):
            raise ValueError(f"{'.'.join(key[:-1])} is not a table")
    if value is not None:
        data[key[-1]] = value
    elif key[-1] in data:
        del data[key[-1]]


def _shown(keys: Mapping[Key, Any]) -> str:
    lines = (
        f"{_spelled(key)} = {tomlkit.item(value).as_string()}\n"
        for key, value in keys.items()
        if value is not None
    )
    return "".join(lines)


def _spelled(key: Key) -> str:
    return ".".join(tomlkit.key(name).as_string() for name in key)
