"""docs/picture.svg is what its script draws."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_stored_picture_is_the_drawn_one() -> None:
    drawn = run_path(str(DOCS / "picture.py"))["picture"]()
    assert (DOCS / "picture.svg").read_text() == drawn, "run: make picture"
