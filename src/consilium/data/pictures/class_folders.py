"""What the folders of classes hold that is read as it stands, and may not be meant: masks, and shared patients."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from consilium.data.pictures.picture_tree import Picture

__all__ = ["mask_cautions", "shared_patient_cautions"]

_PARTS = r"masks?|seg(?:mentation)?|label(?:s|map)?|gt|annotations?|contour|roi"
_MASK = re.compile(rf"(.+?)[ _.-](?:{_PARTS})(?:[ _.-]?\d+)?", re.IGNORECASE)


def mask_cautions(pictures: Sequence[Picture]) -> tuple[str, ...]:
    """A caution about pictures that are called as the mask of another: ``5_mask.png`` beside ``5.png``."""
    stems = {(picture.file.parent, picture.file.stem) for picture in pictures}
    parts = [(picture.file, _MASK.fullmatch(picture.file.stem)) for picture in pictures]
    masks = [file for file, part in parts if part and (file.parent, part[1]) in stems]
    if not masks:
        return ()
    return (
        f"{len(masks)} of {len(pictures)} pictures are called as masks of others beside them, such as "
        f"{masks[0].parent.name}/{masks[0].name}, and are read as pictures of that class: move masks away",
    )


def shared_patient_cautions(y: Tensor, units: Tensor | None, classes: tuple[str, ...]) -> tuple[str, ...]:
    """A caution about patients in the folders of several classes, as where each folder numbers its own from 1."""
    if units is None:
        return ()
    pairs = torch.unique(torch.stack([units, y]), dim=1)
    patients, counts = torch.unique(pairs[0], return_counts=True)
    several = patients[counts > 1]
    if not len(several):
        return ()
    records = (units == several[0]).nonzero().flatten().tolist()
    other = next(record for record in records if y[record] != y[records[0]])
    one, two = classes[int(y[records[0]])], classes[int(y[other])]
    return (
        f"{len(several)} of {len(patients)} patients have pictures in the folders of several classes, such as that of "
        f"record {records[0]} ({one!r}) and record {other} ({two!r}), and count as one person each; if every folder "
        "numbers its patients anew they are different people: put the class's name before the number",
    )
