"""What a site declares before the first round: that it takes part, and with how many records.

The numbers are those that LAWS 9 calls public: training records and the units they are of (patients), which the server
weighs its updates by and which set its noise, and validation records, which its assessments are means over.  A digest
identifies the columns, their preparation and the classes.  Nothing else about the data is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from consilium.core.errors import Refused
from consilium.core.plain import Json

from .framing import Bounds, Frame, pack, quoted, unpack

__all__ = ["Enrolment", "decode_enrolment", "encode_enrolment"]

_BYTES = Bounds(bytes=1 << 14, header=1 << 13, tensors=0)
_FIELDS = {"kind", "study", "site", "train", "validation", "weight", "own", "units", "inputs"}


@dataclass(frozen=True)
class Enrolment:
    """A site's declaration for one study: ``weight`` is that of its updates, as it works it out: the server compares.

    ``own`` is False in a rehearsal: the site works on its share of the study's own data.  ``units`` is how many
    patients the training records are of, 0 where each is its own.  ``inputs`` is the digest of the data's schema.
    """

    site: str
    train: int
    validation: int
    weight: float
    own: bool
    units: int = 0
    inputs: str = ""

    def check_bounds(self, most: int) -> None:
        """Refuse more records than a study allows, or none at all.

        Raises Refused: no training records, or more than the study allows.
        """
        if self.train < 1:
            raise Refused("the enrolment declares no training records", where=self.site)
        if max(self.train, self.validation) > most:
            raise Refused(
                f"the enrolment declares {max(self.train, self.validation)} records, and the study allows {most}",
                remedy="federation.max-records of the study is the bound",
                where=self.site,
            )

    def check_same(self, train: int, validation: int) -> None:
        """Refuse other numbers than those of its share of the study's own data: in a rehearsal they are known.

        Raises Refused: other numbers than those of the share.
        """
        if (self.train, self.validation) != (train, validation):
            counts = f"{self.train} training and {self.validation} validation records"
            raise Refused(
                f"the enrolment declares {counts}, and the site's share has {train} and {validation}", where=self.site
            )


def encode_enrolment(enrolment: Enrolment, study: str) -> bytes:
    """To bytes."""
    return pack(Frame({"kind": "enrolment", "study": study, **vars(enrolment)}, {}))


def decode_enrolment(data: bytes, study: str, site: str) -> Enrolment:
    """From the bytes that ``site`` sent; refused where they are anything else.

    Raises Refused: the message is malformed, or of another study or site.
    """
    header = unpack(data, _BYTES).header
    if set(header) != _FIELDS or header["kind"] != "enrolment":
        raise Refused(
            "the enrolment has other fields than those of its kind",
            where=site,
            remedy="run the same release at the server and all sites",
        )
    if header["site"] != site:
        sender = quoted(header["site"])
        raise Refused(f"the enrolment is that of {sender}", remedy=f"start it with --site {site}", where=site)
    if header["study"] != study:
        raise Refused(
            "the enrolment is of another study", remedy="run the same release at the server and all sites", where=site
        )
    train, validation, units = (_records(header, name, site) for name in ("train", "validation", "units"))
    weight, declared = header["weight"], header["own"]
    if not isinstance(declared, bool):
        raise Refused("the enrolment declares no valid number of records", where=site)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1e15:
        raise Refused("the enrolment declares no weight above 0 and at most 1e15", where=site)
    if units > train:
        raise Refused("the enrolment declares more units than records", where=site)
    inputs = header["inputs"]
    if not isinstance(inputs, str) or not re.fullmatch("([0-9a-f]{64})?", inputs):
        raise Refused("the enrolment declares no digest of its inputs", where=site)
    return Enrolment(site, train, validation, float(weight), declared, units, inputs)


def _records(header: Mapping[str, Json], name: str, site: str) -> int:
    count = header[name]
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 1 << 40:
        raise Refused("the enrolment declares no valid number of records", where=site)
    return count
