"""
iptables rules, compared by what they mean and not by how they are spelled.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.facts.iptables_spelling import Option, canonical, one_network

BUILTIN_CHAINS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


@dataclass(frozen=True, eq=False)
class Rule:
    """
    One rule. Two rules are equal when they mean the same, however they are spelled.

    + table: ``filter``, ``nat``, ``mangle``, ``raw`` or ``security``
    + chain: that it stands in
    + arguments: the rest, word by word

    .. code:: python

        Rule.parse("-A INPUT -p tcp --dport http -j ACCEPT") == Rule.parse(
            "-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT"
        )
    """

    table: str
    chain: str
    arguments: tuple[str, ...]

    @staticmethod
    def parse(text: str, table: str = "filter") -> Rule:
        """
        Read a rule as a person or iptables-save writes it, with ``-A`` or ``-I`` first.

        + text: the rule
        + table: that it stands in

        Raises ``ValueError`` for what is not one rule, such as several addresses, a host name, or
        an option without its value.
        """

        words = split(text)
        if len(words) < 2 or words[0] not in ("-A", "--append", "-I", "--insert"):
            raise ValueError(f"rule {text!r} does not begin with -A CHAIN or -I CHAIN")
        rule = Rule(table, words[1], tuple(words[2:]))
        try:
            rule._check()
        except ValueError as error:
            raise ValueError(f"rule {text!r}: {error}") from None
        return rule

    def _check(self) -> None:
        for option in self.options:
            if option.name and not option.name.startswith("-"):
                raise ValueError(f"{option.name!r} is not an option")
            if option.module == "" and option.name in ("-s", "-d"):
                one_network(option.values)
            if option.name == "-t":
                raise ValueError("the table is not a part of it")

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """Every option in canonical spelling."""

        return canonical(self.arguments)

    @property
    def comments(self) -> tuple[str, ...]:
        """Its comments, from ``-m comment``."""

        return tuple(o.values[0] for o in self.options if o.module == "comment" and o.values)

    @property
    def target(self) -> str:
        """The target of ``-j`` or ``-g``; empty for a rule that only counts."""

        return self.value("-j") or self.value("-g")

    def value(self, name: str, module: str = "") -> str:
        """
        Return the value of an option that is not negated; empty if the rule has none.

        + name: of the option, in canonical spelling
        + module: of the option; empty for ``-s``, ``-d``, ``-p`` …
        """

        for option in self.options:
            if (option.module, option.name, option.negated) == (module, name, False):
                return option.values[0] if option.values else ""
        return ""

    @property
    def effect(self) -> tuple[str, str, tuple[Option, ...]]:
        """What the rule does: the rule without its comments."""

        without = tuple(option for option in self.options if option.module != "comment")
        return self.table, self.chain, without

    @property
    def _key(self) -> tuple[object, ...]:
        return *self.effect, self.comments

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and self._key == other._key

    @override
    def __hash__(self) -> int:
        return hash(self._key)

    @override
    def __str__(self) -> str:
        """The rule in iptables-save's format, which iptables-restore takes."""

        return " ".join(["-A", self.chain, *map(_save_quote, self.arguments)])

    def command(self, action: str) -> str:
        """
        Return the shell command that adds, checks or deletes the rule.

        + action: ``-A``, ``-I``, ``-C`` or ``-D``
        """

        words = " ".join("!" if word == "!" else shlex.quote(word) for word in self.arguments)
        return f"iptables -w -t {self.table} {action} {shlex.quote(self.chain)} {words}".rstrip()


@dataclass(frozen=True)
class Ruleset(Printable):
    """
    Every table of a host.

    + chains: policy by chain by table; ``None`` for a chain that is not built in
    + rules: of all tables, in order
    + error: of iptables-save, if it could not read them
    """

    chains: dict[str, dict[str, str | None]]
    rules: tuple[Rule, ...]
    error: str = ""


class Rules(FactBase["Ruleset | None"]):
    """
    Returns all tables, chains and rules; ``None`` if iptables is not installed.

    .. code:: python

        Ruleset(
            chains={"nat": {"POSTROUTING": "ACCEPT", "DOCKER": None}},
            rules=(Rule("nat", "POSTROUTING", ("-o", "eth0", "-j", "MASQUERADE")),),
        )
    """

    @override
    def command(self) -> str:
        return (
            # It prints nothing without a table, and nothing if it does not work.
            "if command -v iptables-save >/dev/null 2>&1; then "
            "echo '# iptables-save'; case $(iptables-save --version 2>&1) in iptables*) ;; "
            "*) echo '# failed' ;; esac; iptables-save 2>&1 || echo '# failed'; fi"
        )

    @override
    def process(self, output: Iterable[str]) -> Ruleset | None:
        lines = list(_logical_lines(output))
        if not lines:
            return None
        chains: dict[str, dict[str, str | None]] = {}
        rules: list[Rule] = []
        others: list[str] = []
        table = ""
        for line in lines:
            line = re.sub(r"^\[\d+:\d+\] ", "", line)
            if line.startswith("*"):
                table = line[1:]
                chains[table] = {}
            elif line.startswith(":"):
                chain, policy = line[1:].split()[:2]
                chains[table][chain] = None if policy == "-" else policy
            elif line.startswith("-A "):
                words = split(line)
                rules.append(Rule(table, words[1], tuple(words[2:])))
            elif line != "COMMIT" and not line.startswith("#"):
                others.append(line)
        error = "\n".join(others) or "iptables-save failed" if "# failed" in lines else ""
        return Ruleset(chains, tuple(rules), error)


def _logical_lines(output: Iterable[str]) -> Iterator[str]:
    """The lines; one that ends inside a quoted string continues in the next."""

    text = ""
    for line in output:
        text += line
        if text.startswith("-A ") and len(re.findall(r'(?<!\\)(?:\\\\)*"', text)) % 2:
            text += "\n"
        else:
            if text.strip():
                yield text
            text = ""
    if text.strip():
        yield text


_DOUBLE, _SINGLE = r'"(?:[^"\\]|\\.)*"', r"'[^']*'"
_WORD = re.compile(rf"""(?:{_DOUBLE}|{_SINGLE}|[^\s"'])+|\S""", re.S)
_PART = re.compile(rf"{_DOUBLE}|{_SINGLE}|.", re.S)


def split(text: str) -> list[str]:
    """
    Return the words of a rule. In double quotes a backslash quotes the next character.

    + text: the rule
    """

    return ["".join(map(_unquote, _PART.findall(word))) for word in _WORD.findall(text)]


def _unquote(part: str) -> str:
    if len(part) > 1:
        part = re.sub(r"\\(.)", r"\1", part[1:-1], flags=re.S) if part[0] == '"' else part[1:-1]
    return part


def _save_quote(word: str) -> str:
    if word and not re.search(r"""[\s"'\\]""", word):
        return word
    return '"' + re.sub(r"""(["'\\])""", r"\\\1", word) + '"'
