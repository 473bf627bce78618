"""What docker is told: by whom, where, and what becomes of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api import OperationError
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.runtimes.docker_spelling import flag_name, members, texts
from pyinfra_kube.facts.docker import DAEMON_JSON, OPTION_FILES, Docker, DockerState
from pyinfra_kube.operations import docker
from pyinfra_kube.operations.docker_options import known
from pyinfra_kube.operations.files import File
from tests.unit import harness

RUNNING = Path(__file__).parent / "facts/docker.Docker/running.json"


@pytest.mark.parametrize(
    ("tried", "executing", "warns"),
    [
        (["19.03", "20.10"], True, False),
        (["20.1", "1.13"], True, True),
        ([], True, False),
        (["1.13"], False, False),
    ],
)
def test_versions(tried: list[str], executing: bool, warns: bool) -> None:
    facts = {"docker.Docker": json.loads(RUNNING.read_text())["output"]}
    with harness.fake_host(facts) as (_, _, shown):
        ctx_state.get().is_executing = executing
        assert list(docker.working._inner(tried=tried)) == []
    assert any("tried with" in line for line in shown) == warns


CLUSTER: dict[str, Any] = {"bridge": "cbr0", "iptables": False, "ip-masq": False}
DEFAULTS: dict[str, Any] = {
    "data-root": "/var/lib/docker",
    "default-ipc-mode": "shareable",
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
    "insecure-registries": ["10.10.0.0/16"],
}
START = "$DOCKER_OPTS $OPTIONS $DOCKER_STORAGE_OPTIONS $INSECURE_REGISTRY $MINE"
UNIT = "/lib/systemd/system/docker.service"
DROP_IN = "/etc/systemd/system/docker.service.d/mine.conf"
MINE = "/etc/mine.env"


@dataclass
class Told:
    """What a host's docker is told, in each place."""

    start: str = START
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    installed: bool = True

    def lines(self) -> list[str]:
        found = [
            f"file {_base64(text)} {path}"
            for path, text in self.files.items()
            if path in (DAEMON_JSON, *OPTION_FILES)
        ]
        if not self.installed:
            return found
        words = " ".join(json.dumps(word) for word in ("dockerd", *self.start.split()))
        said = " ".join(json.dumps(f"{name}={value}") for name, value in self.environment.items())
        drop_in = "\n".join(
            [
                "[Service]",
                *(f'Environment="{name}={value}"' for name, value in self.environment.items()),
                *([] if self.start == START else [f"ExecStart=/usr/sbin/dockerd {self.start}"]),
            ]
        )
        return [
            *found,
            "client Docker version 20.10.24, build 5d6db84",
            "unit LoadState=loaded",
            f'bus a(sasbttttuii) 1 "/d" {len(self.start.split()) + 1} {words} false 0',
            f"bus as {len(self.environment)} {said}",
            *(
                f"read {_base64(text)} {path}"
                for path, text in self.files.items()
                if path != DAEMON_JSON
            ),
            f"in {_base64(f'[Service]{chr(10)}ExecStart=/usr/sbin/dockerd {START}')} {UNIT}",
            f"in {_base64(drop_in)} {DROP_IN}",
        ]

    @property
    def state(self) -> DockerState:
        return Docker().process(self.lines())

    def effective(self) -> dict[str, list[str]]:
        """What docker would take; it does not start with a flag in two places."""

        state = self.state
        flags = {flag.name for flag in state.flags()}
        keys = {flag_name(key) for key in state.file}
        assert not flags & keys, "specified both as a flag and in the configuration file"
        assert not {"bip", "bridge"} <= flags | keys, "mutually exclusive"
        return {name: state.said(name) for name in sorted(flags | keys)}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def configure(
    told: Told, monkeypatch: pytest.MonkeyPatch, **arguments: Any
) -> tuple[Told, list[str]]:
    """What docker is told after our operation, and what that shows; twice is as once."""

    shown: list[str] = []
    for _ in range(2):
        planned: list[File] = []
        monkeypatch.setattr(docker, "plan_files", planned.extend)
        with harness.fake_host({"docker.Docker": told.lines()}) as (_, _, said):
            list(docker.docker._inner(nofile=None, **arguments))
        contents = {file.path: str(file.content) for file in planned if file.kind == "file"}
        contents = {path: text for path, text in contents.items() if told.files.get(path) != text}
        assert all(file.keep for file in planned if file.kind == "file")
        if shown:
            assert contents == {}, "the second call changes again"
        shown += [*said, *(text for file in planned for text in file.shown or ())]
        told = replace(told, files={**told.files, **contents})
        shown.append("")
    told.effective()
    return told, shown


# Each place that docker is told in: how flags get there, and whether we may take them out.
PLACES: dict[str, Callable[[str], Told]] = {
    "/etc/default/docker": lambda flags: Told(
        files={"/etc/default/docker": f"# mine\nDOCKER_OPTS='{flags} \\\n--debug\n'\n"}
    ),
    "/etc/sysconfig/docker": lambda flags: Told(
        files={"/etc/sysconfig/docker": f'A=b\nOPTIONS="--debug {flags}"'}
    ),
    "/etc/sysconfig/docker-storage": lambda flags: Told(
        files={"/etc/sysconfig/docker-storage": f"DOCKER_STORAGE_OPTIONS={flags} --debug\n"}
    ),
    "/etc/sysconfig/docker, INSECURE_REGISTRY": lambda flags: Told(
        files={"/etc/sysconfig/docker": f"OPTIONS=\nINSECURE_REGISTRY='{flags} --debug'\n"}
    ),
    "not installed": lambda flags: Told(
        installed=False, files={"/etc/default/docker": f'DOCKER_OPTS="{flags} --debug"'}
    ),
    "ExecStart": lambda flags: Told(start=f"{START} {flags} --debug"),
    "Environment": lambda flags: Told(environment={"DOCKER_OPTS": f"{flags} --debug"}),
    "EnvironmentFile": lambda flags: Told(files={MINE: f'MINE="{flags} --debug"\n'}),
}
MOVABLE = tuple(place for place in PLACES if place.startswith(("/etc", "not")))
# What people write of each option, what daemon.json has for it, and what an inventory may ask.
OPTIONS: dict[str, tuple[list[str], Any, Any]] = {
    "data-root": (
        [
            *("--data-root=/data/docker", "--data-root /data/docker", "--graph=/data/docker"),
            *("-g /data/docker", "-g=/data/docker", "-g/data/docker"),
        ],
        "/data/docker",
        "/srv/docker",
    ),
    "insecure-registries": (
        [
            "--insecure-registry=10.9.0.0/16 --insecure-registry=r:5000",
            "--insecure-registry 10.9.0.0/16 --insecure-registry r:5000",
        ],
        ["10.9.0.0/16", "r:5000"],
        ["10.1.0.0/16"],
    ),
    "iptables": (["--iptables", "--iptables=true", "--iptables=1"], True, False),
    "bridge": (["--bridge=br9", "-b br9", "-b=br9"], "br9", "cbr0"),
    "storage-driver": (["--storage-driver=vfs", "-s vfs"], "vfs", "overlay2"),
    "log-opts": (["--log-opt max-size=1m"], {"max-size": "1m"}, {"max-size": "9m"}),
    "hosts": (["--host=tcp://127.0.0.1:2375"], ["tcp://127.0.0.1:2375"], ["fd://"]),
}
CASES = [
    (place, key, flags)
    for place in (*PLACES, "daemon.json")
    for key, (forms, _, _) in OPTIONS.items()
    for flags in (forms if place != "daemon.json" else forms[:1])
]


def _told(place: str, key: str, flags: str) -> Told:
    if place in PLACES:
        return PLACES[place](flags)
    return Told(files={DAEMON_JSON: json.dumps({"debug": True, key: OPTIONS[key][1]})})


@pytest.mark.parametrize(("place", "key", "flags"), CASES)
def test_what_nobody_asked_for_leaves_what_the_host_has(
    place: str, key: str, flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = _told(place, key, flags)
    before = told.effective()
    after, shown = configure(told, monkeypatch, options={}, defaults=DEFAULTS)
    ours = {flag_name(name): texts(value) for name, value in DEFAULTS.items()}
    wanted = {**ours, **before}
    if key == "insecure-registries" and (place in MOVABLE or place == "daemon.json"):
        wanted["insecure-registry"] = [*before["insecure-registry"], "10.10.0.0/16"]
    assert after.effective() == wanted
    if key == "data-root":
        assert any(line.startswith("docker: data-root /data/docker stays (") for line in shown)
        assert after.state.data_root == "/data/docker"


@pytest.mark.parametrize(("place", "key", "flags"), CASES)
def test_what_is_asked_for_moves_or_is_refused(
    place: str, key: str, flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, asked = OPTIONS[key][1:]
    told = _told(place, key, flags)
    before = told.effective()
    if place in MOVABLE or place == "daemon.json":
        after, _ = configure(told, monkeypatch, options={key: asked})
        assert after.effective() == {**before, flag_name(key): texts(asked)}
        return
    where = {"ExecStart": DROP_IN, "Environment": DROP_IN, "EnvironmentFile": MINE}[place]
    with pytest.raises(OperationError, match=rf"option {key}: .* in {where} says .* take it out"):
        configure(told, monkeypatch, options={key: asked})
    after, _ = configure(told, monkeypatch, options={key: theirs})
    assert after == told, "it says what is wanted"


@pytest.mark.parametrize(("place", "key", "flags"), CASES)
def test_a_flag_in_two_places_is_mended_or_refused(
    place: str, key: str, flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker does not start so; it does afterwards, or nothing is changed."""

    told = _told(place, key, flags)
    value = OPTIONS[key][1]
    told.files[DAEMON_JSON] = json.dumps({key: value})
    with suppress(OperationError):
        configure(told, monkeypatch, options=CLUSTER, defaults=DEFAULTS)


def test_items_are_added_to_a_list_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"added": {"insecure-registries": ["r:5000"]}, "options": {}, "defaults": DEFAULTS}
    after, _ = configure(Told(), monkeypatch, **more)
    assert after.effective()["insecure-registry"] == ["10.10.0.0/16", "r:5000"]
    told = Told(environment={"DOCKER_OPTS": "--insecure-registry=10.0.0.0/8"})
    with pytest.raises(OperationError, match=r"wanted is r:5000, and DOCKER_OPTS in .*mine.conf"):
        configure(told, monkeypatch, **more)
    told = Told(environment={"DOCKER_OPTS": "--insecure-registry=r:5000"})
    assert configure(told, monkeypatch, **more)[0].effective()["insecure-registry"] == ["r:5000"]


def test_a_driver_that_the_host_chose_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(start=f"{START} --exec-opt native.cgroupdriver=systemd")
    after, shown = configure(told, monkeypatch, options=CLUSTER, defaults=DEFAULTS)
    assert after.effective()["exec-opt"] == ["native.cgroupdriver=systemd"]
    assert f"docker: exec-opts native.cgroupdriver=systemd stays (ExecStart= in {DROP_IN})" in shown


def test_what_a_run_wrote_before_yields_to_a_flag_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, _ = configure(Told(), monkeypatch, options=CLUSTER, defaults=DEFAULTS)
    for told in (
        replace(first, start=f"{START} --data-root=/data/docker"),
        replace(first, files={**first.files, "/etc/default/docker": "DOCKER_OPTS=-g/data/docker"}),
    ):
        after, _ = configure(told, monkeypatch, options=CLUSTER, defaults=DEFAULTS)
        assert after.effective()["data-root"] == ["/data/docker"]


BOUNDS: dict[str, Any] = {"log-opts": {"max-size": "10m", "max-file": "5"}}
BOUND = ["max-size=10m", "max-file=5"]


@pytest.mark.parametrize(
    ("told", "options", "found"),
    [
        (Told(), {}, BOUND),
        (Told(start=f"{START} --log-driver=json-file"), {}, BOUND),
        (Told(start=f"{START} --log-driver=journald"), {}, None),
        (Told(environment={"OPTIONS": "--selinux-enabled --log-driver=journald"}), {}, None),
        (Told(files={DAEMON_JSON: '{"log-driver": "local"}'}), {}, None),
        (Told(), {"log-driver": "journald"}, None),
        (Told(files={DAEMON_JSON: '{"log-opts": {"max-size": "1g"}}'}), {}, ["max-size=1g"]),
        (Told(start=f"{START} --log-opt max-size=1g"), {}, ["max-size=1g"]),
        (Told(), {"log-opts": {"max-size": "2g"}}, ["max-size=2g"]),
        # What an earlier run wrote.
        (Told(files={DAEMON_JSON: json.dumps({**BOUNDS, "log-driver": "journald"})}), {}, None),
        (
            Told(files={DAEMON_JSON: '{"log-driver": "journald", "log-opts": {"tag": "x"}}'}),
            {},
            ["tag=x"],
        ),
    ],
)
def test_logs_have_bounds_where_the_driver_takes_them_and_the_host_has_none(
    told: Told, options: dict[str, Any], found: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    after, _ = configure(told, monkeypatch, options=options, defaults=BOUNDS)
    assert after.effective().get("log-opt") == found


def test_an_old_docker_is_told_no_bounds() -> None:
    assert known(BOUNDS, "1.7.1") == {}
    assert known(BOUNDS, "1.8.0") == BOUNDS


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"debug": true,}', "Illegal|Expecting"),
        ("{'debug': true}", "Expecting"),
        ("[]", "not an object"),
        ("null", "not an object"),
        ('{"mtu": NaN}', "NaN is not JSON"),
        ('{"mtu": "1400"}', "mtu is not a whole number"),
        ('{"mtu": true}', "mtu is not a whole number"),
        ('{"insecure-registries": "a"}', "insecure-registries is not a list"),
        ('{"log-opts": ["a=b"]}', "log-opts is not an object"),
        ('{"a": ' + "[" * 100_000, "nested|Expecting"),
        ("\ufeff{}", "BOM|Expecting"),
        ('{"a": "\n"}', "control character"),
    ],
)
def test_a_file_that_docker_refuses_is_named(
    text: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OperationError, match=rf"^/etc/docker/daemon.json: .*({error}).*; mend it"):
        configure(Told(files={DAEMON_JSON: text}), monkeypatch, options=CLUSTER)


def test_what_we_do_not_manage_stays_letter_by_letter_and_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (
        '{"log-opts":{"splunk-token":"geheim", "b" : 1.50,\n"b":2},"max-download-attempts":1e1,'
        '"bridge":"docker0","x":"\\u00e9","bip":"10.9.0.1/24"}'
    )
    told, shown = configure(Told(files={DAEMON_JSON: text}), monkeypatch, options=CLUSTER)
    assert told.files[DAEMON_JSON] == (
        '{\n  "log-opts": {"splunk-token":"geheim", "b" : 1.50,\n"b":2},\n'
        '  "max-download-attempts": 1e1,\n  "bridge": "cbr0",\n  "x": "\\u00e9",\n'
        '  "iptables": false,\n  "ip-masq": false\n}\n'
    )
    assert not any("geheim" in line for line in shown)
    assert any('"log-opts": (value hidden)' in line for line in shown)
    assert "docker: bip 10.9.0.1/24 of /etc/docker/daemon.json goes" in shown


def test_a_value_that_is_rewritten_means_what_it_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/etc/sysconfig/docker"
    text = "OPTIONS=' --selinux-enabled --log-opt tag=\"{{.Name}} x\" -b br9\n'\nB='a\nb'\n"
    told, shown = configure(Told(files={path: text}), monkeypatch, options=CLUSTER)
    words = [word for flag in told.state.flags() for word in flag.words]
    assert words == ["--selinux-enabled", "--log-opt", "tag={{.Name}} x"]
    assert told.files[path].endswith("\nB='a\nb'\n")
    assert not any("Name" in line for line in shown)


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (
            Told(f"-H fd:// {START}", files={DAEMON_JSON: '{"hosts": ["tcp://127.0.0.1:1"]}'}),
            rf"option hosts: it is in /etc/docker/daemon.json and in ExecStart= in {DROP_IN}",
        ),
        (Told(files={DAEMON_JSON: '{"icc": false}'}), r"option icc: false in /etc/docker/daemon"),
        (Told(environment={"MINE": "--bip=10.9.0.1/24"}), r"option bip: wanted is none, and MINE"),
    ],
)
def test_what_docker_would_not_start_with_is_refused(
    told: Told, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OperationError, match=error):
        configure(told, monkeypatch, options=CLUSTER, defaults=DEFAULTS)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("unit ", "systemctl show does not say"),
        (f"newer {DROP_IN}", f"{DROP_IN}: changed since systemd read it"),
    ],
)
def test_what_is_not_known_is_not_planned_on(line: str, error: str) -> None:
    facts = [line, "client Docker version 20.10.24"]
    with (
        harness.fake_host({"docker.Docker": facts + ["unit LoadState=loaded"] * line.count("new")}),
        pytest.raises(OperationError, match=error),
    ):
        list(docker.docker._inner(options=CLUSTER))


@given(
    st.dictionaries(
        st.text(max_size=3).map("x-{}".format),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
            max_leaves=8,
        ),
        max_size=4,
    ),
    st.sampled_from([None, 0, 3]),
    st.booleans(),
)
def test_members(value: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert {key: json.loads(raw) for key, raw in members(text)} == value
    assert all(raw in text for _, raw in members(text))


LINK = [
    "d\td\t755\troot\troot\t4096\t1700000000.1\t\t/",
    "l\td\t777\troot\troot\t9\t1700000000.1\t/data/docker\t/var/lib/docker",
    "real\t/var/lib/docker\t/data/docker",
    "has\t711\troot\troot\t9\t1700000000.1\t/var/lib/docker",
]
ROOT = "info Docker Root Dir: "


@pytest.mark.parametrize(
    ("root", "options", "files", "error"),
    [
        ("/var/lib/docker", {}, [], ""),
        ("/var/lib/docker/1000.1000", {}, [], ""),
        ("/data/docker", {}, LINK, ""),
        (
            "/srv/docker",
            {},
            [],
            "it runs with the data-root /srv/docker, and what it is told by now",
        ),
        ("/srv/docker", {"data-root": "/srv/docker"}, [], ""),
        ("/srv/docker", {"data-root": "/new"}, [], ""),
    ],
)
def test_a_docker_that_runs_leaves_nothing_behind_unasked(
    root: str, options: dict[str, Any], files: list[str], error: str
) -> None:
    lines = [line for line in json.loads(RUNNING.read_text())["output"] if ROOT not in line]
    lines.append(f"{ROOT}{root}")
    facts = {"docker.Docker": lines, "files.Files": files}
    with harness.fake_host(facts) as (_, _, said):
        if error:
            with pytest.raises(OperationError, match=error):
                list(docker.docker._inner(options=options, nofile=None))
            return
        list(docker.docker._inner(options=options, nofile=None))
    moves = [line for line in said if "stay behind" in line]
    assert bool(moves) == (options.get("data-root") == "/new")


def test_a_unit_that_moves_the_root_of_a_docker_that_runs_is_refused() -> None:
    told = Told(
        f"{START} --data-root=/srv/docker", files={DAEMON_JSON: '{"data-root": "/var/lib/docker"}'}
    )
    state = json.loads(RUNNING.read_text())["output"]
    info = [line for line in state if line.startswith("info ") and ROOT not in line]
    facts = {
        "docker.Docker": [
            *told.lines(),
            "running",
            "unit MainPID=311",
            *info,
            f"{ROOT}/var/lib/docker",
        ]
    }
    with (
        harness.fake_host(facts),
        pytest.raises(OperationError, match="it runs with the data-root /var/lib/docker"),
    ):
        list(
            docker.docker._inner(options={}, defaults={"data-root": "/var/lib/docker"}, nofile=None)
        )
