"""Text that something happened to: cut off, a bit flipped, emptied, or of another kind."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# What may stand in JSON where something else was.
WRONG: tuple[Any, ...] = (None, True, 0, -1, 1.5, "", "x", [], [None], {}, {"x": 1})


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """A text of which something was lost or changed, read as UTF-8 with what is none replaced."""

    data = bytearray(text.encode())
    how = draw(st.sampled_from(["cut", "flip", "lost", "doubled", "other"]))
    if how == "other" or not data:
        return draw(
            st.text(max_size=30) | st.sampled_from(["", "null", "[]", "{}", "\0", "<p>\r\n"])
        )
    at = draw(st.integers(0, len(data) - 1))
    end = draw(st.integers(at, min(len(data), at + 200)))
    if how == "cut":
        del data[at:]
    elif how == "flip":
        data[at] ^= 1 << draw(st.integers(0, 7))
    elif how == "lost":
        del data[at:end]
    else:
        data[at:at] = data[at:end]
    return data.decode(errors="replace")


@st.composite
def retyped(draw: st.DrawFn, text: str) -> str:
    """JSON of which one value is of another type, or gone."""

    document = json.loads(text)
    places = list(_places(document))
    holder, key = draw(st.sampled_from(places))
    if holder is None:
        return json.dumps(draw(st.sampled_from(WRONG)))
    if isinstance(holder, dict) and draw(st.booleans()):
        del holder[key]
    else:
        holder[key] = draw(st.sampled_from(WRONG))
    return json.dumps(document)


def _places(value: Any) -> Any:
    yield None, None
    stack = [value]
    while stack:
        holder = stack.pop()
        keys: Any = holder.keys() if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                stack.append(holder[key])
