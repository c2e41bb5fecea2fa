"""How well the backdoor of a corruption works after every round: a series beside the accuracy of the sites.

Judged on test records that neither a site nor the server of the federation sees: it is the study that looks.  The
released model is judged on all of them once more, with its clean twin beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from consilium.core.network import Network
from consilium.core.plain import Json
from consilium.core.records import Consortium
from consilium.federate.round.round import RoundState
from consilium.study.build.factory import released
from consilium.study.plan.nodes import TrainingNode

__all__ = ["backdoor_series"]

_MOST = 1000
"""Records asked about in a round, the first that the trigger fits."""
_BATCH = 512


def backdoor_series(node: TrainingNode, net: Network, data: Consortium) -> Callable[[RoundState], Mapping[str, Json]]:
    """What is to be added to the report of each round of ``node``; nothing where no backdoor is planted."""
    backdoor = None if node.corruption is None else node.corruption.corruption.backdoor()
    if backdoor is None or node.federation.algorithm.personal:
        return lambda _: {}
    records = data.test.select(torch.nonzero(backdoor.judged(data.test))[:_MOST, 0])
    x, target, task = backdoor.trigger.put(records.x), backdoor.target, data.task

    def judged(state: RoundState) -> Mapping[str, Json]:
        weights = released(node.spec, node.arm, net, state.server)
        if weights is None:
            return {}
        answer, device = net.workspace.answers(*weights), weights[0].device
        answers = [task.predicted(answer(x[i : i + _BATCH].to(device))) for i in range(0, len(x), _BATCH)]
        return {"backdoor_success": float((torch.cat(answers) == target).float().mean()), "backdoor_records": len(x)}

    return judged
