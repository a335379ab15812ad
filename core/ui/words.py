"""Numbers, sizes and times as a person reads them. No Streamlit."""

import math
import time


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 neuron`, `46,080 neurons`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def there_are(number: int, one: str) -> str:
    """`there is 1 page`, `there are 3 pages`."""
    return f"there {'is' if number == 1 else 'are'} {count(number, one)}"


def size(number: float) -> str:
    """Bytes: `812 MB`, `1.4 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if number >= 10 or unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def duration(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 5 min`, `3 days`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    if whole < 48 * 3600:
        hours, rest = divmod(whole, 3600)
        return f"{hours} h {rest // 60} min" if rest >= 60 else f"{hours} h"
    return f"{whole / 86400:.0f} days"


def when(moment: float) -> str:
    """A time of day on this machine's clock: `14:05` today, else `2025-03-01 14:05`."""
    then = time.localtime(moment)
    return time.strftime("%H:%M" if then[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M", then)


def share(value: float | None) -> str:
    """A share as a percentage with about two digits: `0.034 %`, `1.3 %`, `56 %`; `–` where undefined."""
    if value is None or math.isnan(value):
        return "–"
    percent = 100 * value
    if percent == 0 or percent >= 9.95:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.95 else f"{percent:.2g} %" if percent >= 0.001 else "<0.001 %"


def against_maximum(ratio: float) -> str:
    """An activation against the largest over the unit's own text: `75 %`, or `3.3 ×` where this text goes beyond that."""
    if ratio < 1.005:  # the same text in other company differs in the last digits
        return share(min(ratio, 1.0))
    return f"{ratio:.2f} ×" if ratio < 1.095 else f"{ratio:.1f} ×" if ratio < 9.95 else f"{ratio:,.0f} ×"


def number(value: float | None) -> str:
    """About three digits, with a real minus: `0.058`, `24.4`, `371`, `1.2e5`; `–` where undefined."""
    if value is None or math.isnan(value):
        return "–"
    size_of = abs(value)
    if size_of == 0:
        return "0"
    text = f"{value:.1e}" if size_of < 0.001 or size_of >= 1e5 else f"{value:,.0f}" if size_of >= 100 else f"{value:.3g}"
    return (
        text.replace("e+0", "e").replace("e-0", "e-").replace("-", "−", 1) if value < 0 else text.replace("e+0", "e").replace("e-0", "e-")
    )
