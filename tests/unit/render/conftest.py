"""Every hand-built report in turn."""

from __future__ import annotations

import pytest
from report_documents import ALL_DOCUMENTS

from diagnose.schema import Document


@pytest.fixture(params=sorted(ALL_DOCUMENTS))
def document(request: pytest.FixtureRequest) -> Document:
    return ALL_DOCUMENTS[request.param]()
