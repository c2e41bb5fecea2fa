"""The laws in plain words, for the notes and refusals that name one by its number.

The whole of each stands in ``docs/explanation/laws.md``.
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

__all__ = ["LAWS", "linked_laws"]

LAWS = {
    1: "An update is clipped, noised, compressed, masked and merged, in this order.",
    2: "Where only the sum of the updates is shown, a merge that reads each of them cannot be used.",
    3: "Before a mask only linear codecs with shared public randomness.",
    4: "A corrupted site obeys no defence of its own: it does not clip and adds no noise. Only what the server does "
    "binds it.",
    5: "Differential privacy needs the gradient of each record alone: nothing may mix the records of a batch.",
    6: "Batches are drawn by independent coins, the denominator is the expected batch, and a claim per patient draws "
    "and clips patients.",
    7: "A target epsilon sets the noise of each site by its own number of records; too small a site is refused.",
    8: "A site's epsilon counts its steps in all rounds. The largest over sites holds if no patient is at two.",
    9: "What steers a training under differential privacy must be public, such as each site's number of records, or be "
    "charged.",
    10: "What is fitted after training uses public records, the weights alone or a charge, and never test data.",
    11: "Randomised labels are drawn once for each record; that claim is of labels and is never added to another.",
    12: "Corrections of an algorithm are added after the noise.",
    13: "A claim names epsilon, delta, whose presence it hides, the sampler, the accountant and the kind of noise.",
    14: "A claim is of one released model. A folder of many models of the same records has no finite epsilon.",
    15: "A claim covers honest sites only, and the model: the curves over rounds are not covered.",
    16: "Only an audit's bound without assumptions can break a claim; others warn.",
    17: "Non-members are held out of the same site's training pool before anything else, and are no test records.",
    18: "A rate at a low false positive rate is printed only with enough non-members to resolve it.",
    19: "A model that answers nearly always the same is marked collapsed, and its robustness is not ranked.",
    20: "Robustness counts every test record, in the worst case over the attacks.",
    21: "Sizes are bytes of the stored file, latencies are those of real kernels.",
    22: "A clean model and its infected twin are judged on the same records; better or worse is said only beyond a "
    "paired interval.",
    23: "The server works out a site's weight from what was enrolled; nothing a site declares sets it.",
    24: "Names, order, ranges and units of inputs are agreed before the first round; what is left out is counted.",
    25: "A stored model, checkpoint or finding is used only if its seal holds.",
    26: "Accuracy under attack is at most what is written: a stronger attack may find more.",
}
_NAME = re.compile(r"LAWS (\d+)")


def linked_laws(text: object) -> Markup:
    """``text``, escaped, with each known ``LAWS n`` as a link to its words, which are its tip too."""

    def link(match: re.Match[str]) -> str:
        number = int(match[1])
        if number not in LAWS:
            return match[0]
        return f'<a href="#laws-{number}" data-tip="{escape(LAWS[number])}">{match[0]}</a>'

    return Markup(_NAME.sub(link, str(escape(text))))
