"""What of its own records a site does not use stands in its own log."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="the extra flower is not installed")
pd = pytest.importorskip("pandas", reason="the extra tables is not installed")

agree = runpy.run_path(str(Path(__file__).with_name("test_sites_agree.py")))
people, site_of, ward = (agree[name] for name in ("people", "site_of", "ward"))


def test_what_a_site_leaves_out_stands_in_its_log(ward, caplog):
    """Half of its rows were copies, and only the server's count of records told it."""
    frame = people()
    site = site_of(ward, pd.concat([frame, frame]))
    declared = site.takes_part()
    assert declared.train < len(frame)
    lines = [record.message for record in caplog.records if "exact duplicates removed" in record.message]
    assert lines == [f"left out or clipped: {len(frame)} exact duplicates removed"], "once, however often it is asked"
