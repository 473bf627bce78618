"""The documents name what is there."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
GUIDE = (REPOSITORY / "docs/guide.md").read_text()

_CODE = r"[A-Z][1-9]"
# "(N5)", "(C1, C3, C7)", "(P1 to P6)", "(S3, H1–H4, F5)"; a line may end within.
_CODES = re.compile(rf"\(({_CODE}(?:(?:,|–| to| and)\s*{_CODE})*)\)")


def test_each_code_of_a_docstring_is_explained() -> None:
    used = {
        code
        for folder in ("cluster", "facts", "operations", "deploys")
        for path in (REPOSITORY / folder).glob("*.py")
        for group in _CODES.findall(path.read_text())
        for code in re.findall(_CODE, group)
    }
    assert used <= set(re.findall(rf"^\| ({_CODE}) ", GUIDE, re.MULTILINE))


def test_the_guide_names_files_that_are_there() -> None:
    named = re.findall(r"`([a-z_]+/[a-z_]+\.py)`", GUIDE)
    assert named
    assert [name for name in named if not (REPOSITORY / name).is_file()] == []
