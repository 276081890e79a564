"""Fixtures of the command line's tests."""

import pytest

import prior
from tests.posterior import stub


@pytest.fixture
def stub_prior(monkeypatch):
    """``prior.load`` gives the stub."""
    monkeypatch.setattr(prior, "load", stub.load, raising=False)
