"""Fields whose values live in the address: a link opens a page as it stood. A wrong value is shown beside a sentence, never mended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from core.errors import AtlasError, shown
from core.ui import state


@dataclass
class AddressFields:
    """The fields of one page. page: what their keys begin with. resets: parameters that any change takes out of the address."""

    page: str
    resets: tuple[str, ...] = ()
    _wrong: list[str] = field(default_factory=list[str])

    def check(self) -> None:
        """Raises AtlasError with the first wrong value of the address, after all fields have been drawn."""
        if self._wrong:
            raise AtlasError(self._wrong[0])

    def text(self, name: str, label: str, *, usual: str = "", hint: str = "", help: str | None = None, limit: int = 200) -> str:
        """A line of text."""
        key = self._key(name)
        given = st.query_params.get(name, usual)
        if len(given) > limit:
            self._wrong.append(f"The field “{label}” takes at most {limit:,} characters; the address has {len(given):,}.")
        st.session_state[key] = given[:limit]
        st.text_input(label, key=key, placeholder=hint, help=help, max_chars=limit, on_change=self._changed, args=(name, usual))
        return given[:limit].strip()

    def area(self, name: str, label: str, *, hint: str = "", help: str | None = None, limit: int, in_address: int) -> str:
        """A longer text. What is longer than `in_address` characters stays with this visit only."""
        key, kept = self._key(name), f"{self._key(name)}_kept"
        given = state.raw(name)[:limit]
        st.session_state[key] = given or st.session_state.get(kept, "")

        def changed() -> None:
            value = str(st.session_state[key])
            st.session_state[kept] = value
            state.write(**{name: value if len(value) <= in_address else None, **dict.fromkeys(self.resets)})

        return str(st.text_area(label, key=key, placeholder=hint, help=help, max_chars=limit, height=96, on_change=changed))

    def number(
        self, name: str, label: str, low: int, high: int, usual: int | None, *, hint: str = "", help: str | None = None, step: int = 1
    ) -> int | None:
        """A whole number, or none at all when `usual` is None."""
        try:
            value = state.whole(name, f"possible for “{label}”", low, high, usual)
        except AtlasError as error:
            self._wrong.append(str(error))
            value = usual
        key = self._key(name)
        st.session_state[key] = value
        st.number_input(
            label, low, high, key=key, placeholder=hint, help=help, step=step, on_change=self._changed, args=(name, usual), value=None
        )
        return value

    def decimal(self, name: str, label: str, usual: float | None, *, hint: str = "", help: str | None = None) -> float | None:
        """A number, or none at all when `usual` is None."""
        text = self.text(name, label, usual="" if usual is None else f"{usual:g}", hint=hint, help=help, limit=40)
        found = self._decimals(text, label)
        if len(found) > 1:
            self._wrong.append(f"“{shown(text)}” is more than one number: give one for “{label}”.")
        return found[0] if found else usual

    def decimals(self, name: str, label: str, usual: str, *, hint: str = "", help: str | None = None) -> list[float]:
        """Numbers, with commas or spaces between them."""
        return self._decimals(self.text(name, label, usual=usual, hint=hint, help=help, limit=1000), label)

    def choice(
        self,
        name: str,
        label: str,
        options: Sequence[str],
        usual: str,
        *,
        names: Callable[[str], Any] = str,
        help: str | None = None,
        segmented: bool = False,
        required: bool = True,
    ) -> str:
        """One of `options`. required: false for a segmented control of which nothing may be chosen, which is an empty `usual`."""
        value = usual
        if state.raw(name) or required:
            try:
                value = state.choice(name, f"a choice for “{label}”", options, usual)
            except AtlasError as error:
                self._wrong.append(str(error))
        key = self._key(name)
        st.session_state[key] = value if value in options else None
        if segmented:
            st.segmented_control(
                label, options, key=key, format_func=names, help=help, required=required, on_change=self._changed, args=(name, usual)
            )
        else:
            st.selectbox(label, options, key=key, format_func=names, help=help, on_change=self._changed, args=(name, usual))
        return value

    def open_choice(
        self, name: str, label: str, options: Sequence[str], usual: str, *, hint: str = "", help: str | None = None, limit: int = 1000
    ) -> str:
        """One of `options`, or whatever else a person writes."""
        given = st.query_params.get(name, usual)
        if len(given) > limit:
            self._wrong.append(f"The field “{label}” takes at most {limit:,} characters; the address has {len(given):,}.")
        value = given[:limit]
        key = self._key(name)
        st.session_state[key] = value or None
        st.selectbox(
            label, list(dict.fromkeys([*options, *([value] if value else [])])), index=None, key=key, placeholder=hint, help=help,
            accept_new_options=True, on_change=self._changed, args=(name, usual),
        )  # fmt: skip
        return value.strip()

    def several(
        self,
        name: str,
        label: str,
        options: Sequence[str],
        usual: Sequence[str],
        *,
        names: Callable[[str], Any] = str,
        help: str | None = None,
    ) -> list[str]:
        """Some of `options`, in their order. The address has them with commas, and `none` for none."""
        given = state.raw(name)
        chosen = list(usual) if not given else [] if given == "none" else given.split(",")
        unknown = next((one for one in chosen if one not in options), None)
        if unknown is not None:
            self._wrong.append(f"“{shown(unknown)}” is not a choice for “{label}”: use {', '.join(options)}.")
            chosen = list(usual)
        key = self._key(name)
        st.session_state[key] = [one for one in options if one in chosen]

        def changed() -> None:
            now = [one for one in options if one in st.session_state[key]]
            state.write(**{name: None if now == list(usual) else ",".join(now) or "none", **dict.fromkeys(self.resets)})

        st.pills(label, options, key=key, selection_mode="multi", format_func=names, help=help, on_change=changed)
        return [one for one in options if one in chosen]

    def flag(self, name: str, label: str, *, help: str | None = None) -> bool:
        """Yes or no; no unless the address says 1."""
        value = state.raw(name)
        if value not in ("", "1"):
            self._wrong.append(f"“{shown(value)}” is not possible for “{label}”: use 1, or leave it out.")
        key = self._key(name)
        st.session_state[key] = value == "1"
        st.checkbox(label, key=key, help=help, on_change=lambda: self._write(name, "1" if st.session_state[key] else None))
        return value == "1"

    def _decimals(self, text: str, label: str) -> list[float]:
        found: list[float] = []
        for piece in text.replace(",", " ").replace(";", " ").split():
            try:
                found.append(float(piece))
            except ValueError:
                self._wrong.append(f"“{shown(piece)}” is not a number for “{label}”: write one such as 0.5 or 1e-3.")
                break
        return found

    def _key(self, name: str) -> str:
        return f"{self.page}_{name}"

    def _changed(self, name: str, usual: object) -> None:
        value = st.session_state[self._key(name)]
        self._write(name, None if value is None or value == usual else value)

    def _write(self, name: str, value: str | int | None) -> None:
        state.write(**{name: value, **dict.fromkeys(self.resets)})
