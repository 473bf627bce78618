"""systemd's grammar: what is written is read again, and what is not touched stays."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.facts.environment import KEPT
from pyinfra_kube.facts.systemd import (
    assignment,
    expand,
    join_words,
    read_unit,
    set_variable,
    split_words,
    variables,
)
from tests.environment_corpus import corpus

# What a shell keeps of a text, and what it and systemd give a meaning to.
_TEXTS = st.text(st.sampled_from("ab\"'\\$`#; \n\t=-{}é!*"), max_size=20)
_NAMES = st.sampled_from(["A", "OPTIONS", "_x1"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('V="--a=b \\\n  --c=d"', "--a=b   --c=d"),
        ("V=' --selinux-enabled --log-level=warn\n'\n", " --selinux-enabled --log-level=warn\n"),
        ('V="--log-opt tag=\\"{{.Name}} x\\""', '--log-opt tag="{{.Name}} x"'),
        ('V="1450', "1450"),
        ("; V=a\n V = b c  \n", "b c"),
        ("V=a\nV=b", "b"),
        ("V=a\\\nb", "ab"),
        ("V=a\\ b\\", "a b"),
        ("V=\"a\"'b'c'd'", "abc'd'"),
        ('V="a\\b\\$"', "a\\b$"),
        ("V=a # no comment", "a # no comment"),
        ("V=a\r\nB=c", "a"),
        ("export V=a", None),
        ("V", None),
        ("V=", ""),
    ],
)
def test_values(text: str, value: str | None) -> None:
    assert variables(text).get("V") == value


def test_a_comment_goes_on_where_systemd_lets_it() -> None:
    text = "# V=a \\\nV=b"
    assert variables(text, 252) == {}
    assert variables(text, 254) == {"V": "b"}


@given(_NAMES, _TEXTS)
def test_what_is_written_is_read_by_systemd_and_a_shell(name: str, value: str) -> None:
    line = assignment(name, value)
    assert variables(line) == {name: value}
    if "é" not in value:
        said = subprocess.check_output(["sh", "-c", f'{line}\nprintf %s. "${name}"'], text=True)
        assert said == f"{value}."


@pytest.mark.parametrize("systemd", [252, 254])
def test_a_variable_that_is_set_leaves_all_others(systemd: int) -> None:
    for text in corpus():
        for name in ("V", "NEW"):
            whole = set_variable(text, name, 'a "b"\n$c', systemd)
            assert variables(whole, systemd) == {
                **variables(text, systemd),
                name: 'a "b"\n$c',
            }, text


@given(st.lists(_TEXTS, max_size=4))
def test_words(words: list[str]) -> None:
    assert split_words(join_words(words)) == words


def test_a_command_line_is_filled_in_as_systemd_does() -> None:
    values = {"A": "b 'c d'", "E": ""}
    words = ["$A", "${A}", "x${A}", "--a=$A", "$E", "${E}", "$$A", "$${A}", "$NO", "${NO}x"]
    assert [word.text for word in expand(words, values)] == [
        *("b", "c d", "b 'c d'", "xb 'c d'", "--a=$A", "", "$A", "${A}", "x"),
    ]


_BUS = (
    'bus a(sasbttttuii) 1 "/usr/bin/dockerd" 3 "/usr/bin/dockerd" "--label=a\\303\\274 \\"b" "" '
    "false 0 0 0 0 0 0 0"
)


def test_units() -> None:
    shown = [
        "version systemd 252 (252.39-1~deb12u2)",
        "unit ExecStart={ path=/usr/bin/dockerd ; argv[]=/usr/bin/dockerd -H fd:// "
        "; ignore_errors=no ; }",
        'unit Environment="DOCKER_OPTS=--iptables=false --label=a\\"b" HOME=/root',
        "unit LoadState=loaded",
        "read QT1i /etc/a b",
    ]
    unit = read_unit(shown)
    assert unit.words == ("/usr/bin/dockerd", "-H", "fd://")
    assert unit.environment == {"DOCKER_OPTS": '--iptables=false --label=a"b', "HOME": "/root"}
    assert unit.files == {"/etc/a b": "A=b"}
    assert unit.sources == {"DOCKER_OPTS": "", "HOME": "", "A": "/etc/a b"}
    assert read_unit([*shown, _BUS]).words == ("/usr/bin/dockerd", '--label=aü "b', "")
    old = ["unit LoadState=loaded", "unit Environment=DOCKER_OPTS=--a --b HOME=/root"]
    assert read_unit(old).environment == {"DOCKER_OPTS": "--a --b", "HOME": "/root"}


def test_a_file_that_systemd_does_not_read_is_named() -> None:
    with pytest.raises(ValueError, match=r"/etc/default/docker: .* is not UTF-8"):
        read_unit(["read QT3/ /etc/default/docker"])


@pytest.mark.parametrize("systemd", [252, 254])
def test_what_a_user_keeps_is_what_systemd_reads(systemd: int) -> None:
    """All of the corpus in one shell: what awk keeps beside A means what it meant."""

    texts = corpus(200)
    calls = "".join(f"kept show=0 A <<'=END='\n{text}\n=END=\nprintf '\\0'\n" for text in texts)
    script = f"systemctl() {{ echo 'systemd {systemd}'; }}\n{KEPT}\n{calls}"
    kept = subprocess.check_output(["sh"], input=script.encode()).decode().split("\0")
    for text, left in zip(texts, kept, strict=False):
        wanted = variables(f"{text}\n", systemd)
        wanted.pop("A", None)
        found = {name: value for name, value in variables(left, systemd).items() if name != "A"}
        assert {n: v.rstrip() for n, v in found.items()} == {
            n: v.rstrip() for n, v in wanted.items()
        }, text


def test_a_value_over_several_lines_is_hidden_whole() -> None:
    text = "KEY='a\ngeheim\n'\nA=\"b\nc\"\n#B=geheim\nD=e"
    script = f"{KEPT}\nkept show=1 {shlex.quote('A')} <<'=END='\n{text}\n=END=\n"
    said = subprocess.check_output(["sh"], input=script, text=True).splitlines()
    assert said == ["own\tKEY", 'line\tA="b', 'line\tc"', "comment\tB", "own\tD"]
