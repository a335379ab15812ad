"""What explained units respond to, in a line each: the peak token and the snippet around it, from the index the records came from."""

from collections.abc import Collection

import pandas as pd

from core.store.cache import Cache
from core.store.queries import FROM, ROW

Place = tuple[str, str, int, int]
"""A unit in an index: the index's run, the kind of its site, the layer, its number."""


def peaks(cache: Cache, units: Collection[Place]) -> pd.DataFrame:
    """Rows of `queries.explore` with their run, for some units, each once. A unit whose index is not in the cache has no row."""
    wanted = list(dict.fromkeys(units))
    with cache.cursor() as cursor:
        return cursor.execute(
            "WITH wanted AS (SELECT unnest($runs::VARCHAR[]) AS run, unnest($kinds::VARCHAR[]) AS kind, "
            "unnest($layers::SMALLINT[]) AS layer, unnest($units::INTEGER[]) AS unit) "
            f"SELECT u.run, {ROW} {FROM} JOIN wanted w ON u.run = w.run AND u.kind = w.kind AND u.layer = w.layer AND u.unit = w.unit "
            "ORDER BY u.run, u.ordinal",
            {
                "runs": [place[0] for place in wanted],
                "kinds": [place[1] for place in wanted],
                "layers": [place[2] for place in wanted],
                "units": [place[3] for place in wanted],
            },
        ).df()
