"""docs/settings.md, made from the fields of the spec: `make settings`."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from pyinfra_kube.cluster.spec.aliases import GROUPS, KEYS, VALUES
from pyinfra_kube.cluster.spec.host import HostSpec
from pyinfra_kube.cluster.spec.inventory import HOST_KEYS
from pyinfra_kube.cluster.spec.settings import SUBJECTS
from pyinfra_kube.cluster.spec.values import Checked, Configuration, Flags, Labels, Mirrors

PAGE = Path(__file__).parents[1] / "docs/settings.md"

HEAD = """\
# Settings

Every key that an inventory may have. A cluster's key has one value for all hosts; set it once, in
the data of `all`. `--data log_level=3` sets one for a run. An unknown key, or a value that is not
allowed, is refused before any host is touched.

This page is made from [cluster/spec/settings.py](../cluster/spec/settings.py) by `make settings`.
"""

OTHER_WORDS = """\
## Other words

The guide's words and those of earlier versions are accepted. Any key may be in capitals too.

"""

# Of types that say nothing more themselves.
TYPES: dict[object, str] = {
    str: "text",
    bool: "`True` or `False`",
    int: "a whole number",
    tuple[str, ...]: "a list of text",
    Flags: "a dictionary: flag → text, number, `True` or `False`",
    Configuration: "a dictionary",
    Labels: "a dictionary: label → text",
    Mirrors: "a dictionary: registry → URL, or a list of them",
}


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    """The text of the page."""
    hosts = {key: HostSpec.model_fields[key] for key in HostSpec.model_fields if key in HOST_KEYS}
    subjects = {subject.__doc__ or "": subject.model_fields for subject in SUBJECTS}
    said = {key: text for owner in (*SUBJECTS, HostSpec) for key, text in _docstrings(owner)}
    parts = [HEAD]
    for title, fields in {**subjects, "One host": hosts}.items():
        parts.append(
            f"## {title}\n\n"
            + table(["key", "default", "allowed", "what it is"], _rows(fields, said))
        )
    return "\n".join([*parts, OTHER_WORDS + table(["ours", "also accepted"], _other_words())])


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table as Markdown has it."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in lines
    )


def _docstrings(owner: type) -> Iterator[tuple[str, str]]:
    """The text below each field of a class, which pydantic would read in every run."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    for field, text in pairwise(tree.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            yield field.target.id, " ".join(str(ast.literal_eval(text.value)).split())


def _rows(fields: Mapping[str, FieldInfo], said: Mapping[str, str]) -> Iterator[list[str]]:
    for key, field in fields.items():
        what = said[key]
        yield [f"`{key}`", _default(field), _allowed(field.annotation, field.metadata), what]


def _other_words() -> Iterator[list[str]]:
    words: dict[str, Iterable[str]] = {
        **{f"group `{group}`": others for group, others in GROUPS.items() if others},
        **{f"`{key}`": others for key, others in KEYS.items()},
        **{
            f"`{key} = {ours!r}`": [f'"{other}"']
            for key, values in VALUES.items()
            for other, ours in values.items()
        },
    }
    for ours, others in words.items():
        yield [ours, ", ".join(f"`{other}`" for other in others)]


def _default(field: FieldInfo) -> str:
    if field.default_factory:
        return " ".join((field.default_factory.__doc__ or "").split())
    if field.is_required():
        return "must be set"
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    text = f'"{default}"' if isinstance(default, str) else repr(default)
    return "" if default is None else f"`{text}`"


def _allowed(kind: Any, metadata: Iterable[object] = ()) -> str:
    # A field's own are flat already, those of a type within it are not.
    metadata = [
        inner
        for one in metadata
        for inner in (one.metadata if isinstance(one, FieldInfo) else [one])
    ]
    checked = [one.allowed for one in metadata if isinstance(one, Checked)]
    low = [one.ge for one in metadata if isinstance(one, Ge)]
    high = [one.le for one in metadata if isinstance(one, Le)]
    if checked:
        return checked[0]
    if low:
        return f"{low[0]} to {high[0]}" if high else f"at least {low[0]}"
    if kind in TYPES:
        return TYPES[kind]
    inner = get_args(kind)
    if get_origin(kind) is Annotated:
        return _allowed(inner[0], inner[1:])
    if get_origin(kind) is tuple:
        return f"a list: {_allowed(inner[0])}"
    if get_origin(kind) is Literal:
        return ", ".join(f'`"{one}"`' for one in inner)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_allowed(one) for one in inner if one is not type(None))
    return "a dictionary"


if __name__ == "__main__":
    main()
