"""Tables: a row that does not fit its columns is no row."""

from __future__ import annotations

import pytest

from entitrack.core.table import Table


@pytest.mark.parametrize("row", [("llama",), ("llama", 0.5, 7)])
def test_a_row_has_a_cell_for_every_column(row: tuple[str | float, ...]) -> None:
    with pytest.raises(ValueError, match=f"'Accuracy': {len(row)} cells for 2 columns"):
        Table("Accuracy", ("model", "accuracy"), (("float", 0.5), row))
