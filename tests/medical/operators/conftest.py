"""Small pictures go through the compiled loops here, as large ones do; their matrix has tests of its own."""

import pytest

from medical.operators import joseph_matrix


@pytest.fixture(autouse=True)
def _no_matrix(monkeypatch):
    monkeypatch.setattr(joseph_matrix, "MOST_ENTRIES", 0)
