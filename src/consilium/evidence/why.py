"""Why each measure is the one to look at, in a sentence: what it answers that its neighbours do not.

Annex IV of the EU AI Act (point 4) asks why the metrics are appropriate; here it is stated once, by the measure's name.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["WHY"]

_MARGIN = (
    "A record near the boundary is moved over it first, and one that lies deeper than others was perhaps memorised."
)
_LOW_RATE = "An adversary who is seldom wrong harms those it names, so what counts is the rate at few false alarms."
_BOUND = "It says how much of what an attack might find the claim itself excludes, whatever the attack."

WHY: Mapping[str, str] = {
    "accuracy": (
        "The share of right answers is what a user of the model meets when classes are as common as in the test set."
    ),
    "balanced_accuracy": "Where one class is rare, accuracy rewards ignoring it; the mean over classes does not.",
    "auroc": "It ranks rather than decides, so it does not depend on a threshold that a clinic would set for itself.",
    "sensitivity": "A missed case is another error than a false alarm, and this one counts the missed cases.",
    "specificity": "A false alarm is another error than a missed case, and this one counts the false alarms.",
    "majority_rate": "Always answering the commonest class reaches it, so a model near it has learned little.",
    "predicted_majority_share": (
        "It shows a model that answers one class nearly always, whose robustness means nothing."
    ),
    "brier_score": "It weighs how sure an answer was: a wrong one that was certain costs most, as it does a patient.",
    "expected_calibration_error": (
        "A clinician who reads 90 % acts on it, so the model has to be right in nine of ten such cases."
    ),
    "label_accuracy": "A record of many findings is seldom right in all of them; this counts each alone.",
    "macro_auroc": "A finding that is rare counts as much as a common one, and no threshold is needed.",
    "macro_average_precision": "Where findings are rare, few false alarms outnumber the cases: precision shows it.",
    "average_precision": "It is of one finding: where that is rare, few false alarms outnumber the cases.",
    "r2": "It is 0 for always answering the mean, so it tells what was learned from what the numbers spread by.",
    "mean_absolute_error": "It is in the units of the quantity, in which a clinician judges what error is tolerable.",
    "dice": "It is the overlap that radiology uses, per patient, so that large masks do not outweigh small ones.",
    "hd95": "Overlap forgives a far stray pixel; the distance of the surfaces does not.",
    "empty_in_truth": "Where nothing is to be found, overlap is all or nothing: how often that is belongs beside it.",
    "empty_in_answer": "A model that shows nothing scores full marks where nothing is: how often it does is told here.",
    "c_index": "It asks whether who had the event earlier was given the higher risk, whatever the times are.",
    "personal_accuracy": "Each site uses its own model on its own patients, so that is where it has to be right.",
    "personal_worst_accuracy": "A mean hides the site that gains nothing; this is that site.",
    "shared_accuracy": "Only against the common model on the same records can a site's own model be seen to help.",
    "accuracy_members": "It is one end of the generalisation gap: what the model knows of its own training records.",
    "accuracy_non_members": "It is the other end, on records of the same sites that the model never saw.",
    "generalisation_gap": "Overfitting is the common cause of many leaks; here it is measured and not presumed.",
    "loss_members": "A threshold on the loss tells members, so this is what such an attack sees of them.",
    "loss_non_members": "Such an attack takes a loss as high as this for that of a record which was not learned.",
    "generalisation_gap_loss": "Losses part where answers are right alike: members are told without any other gap.",
    **{f"margin_{pool}_q{q}": _MARGIN for pool in ("members", "non_members") for q in ("05", "25", "50", "75", "95")},
    "bytes": "The stored model is what has to be sent to, and held by, the device that uses it.",
    "latency_ratio": "A ratio to the same model in fp32 carries over to other machines better than a time does.",
    "bytes_up_per_round_site": "A hospital's way up is its narrowest line, and compression acts there.",
    "bytes_down_per_round_site": (
        "The model goes to every site in every round, which compression of updates leaves as it is."
    ),
    "rounds_to_accuracy": "At equal accuracy the sooner method wins, and a round is what sites have to wait for.",
    "bytes_to_accuracy": "A method with cheap rounds may need many; bytes until the target weigh both.",
    "robust_accuracy": (
        "It counts right answers that an adversary within the radius could not change: at most this many."
    ),
    "balanced_robust_accuracy": "Under attack too, the mean over classes does not reward ignoring a rare class.",
    "success_rate": (
        "Of answers that were right it counts those that the attack changed, apart from the model's own errors."
    ),
    "mean_linf": "It shows whether the attack used the radius that it was allowed.",
    "mean_l2": "It shows the size of the change over the whole record, which the largest change of one value does not.",
    "share_fooled": "At any distance an attack should fool all: a share below 1 shows where it was stopped.",
    "median_distance": "Half of the records fall within this distance, whatever radius one thinks is allowed.",
    "mean_distance": "It is what papers compare attacks by; the smaller, the stronger the attack.",
    "queries": "An adversary without gradients pays by the query, and a service may notice or refuse many of them.",
    "agreement": "A substitute that answers otherwise than the model says little of what transfers to it.",
    "certified_accuracy": "It counts right answers for which some radius is proven, whatever the attack.",
    "certified_accuracy_at_sigma": "No attack of that size changes these: a lower bound; attacks give upper ones.",
    "average_certified_radius": "It weighs how many answers are right with how far each is proven; wrong ones are 0.",
    "detection_auc_plain": "It compares suspicions over all thresholds, made by one who does not know the detector.",
    "detection_tpr_at_fpr_5_plain": "A detector that stops many ordinary inputs is of no use, so its rate is at few.",
    "detection_auc_adaptive": "A detector is worth what is left of it where the attacker knows it; at 0.5 nothing is.",
    "detection_tpr_at_fpr_5_adaptive": "What is caught of an attacker who knows it, at few rejected ordinary inputs.",
    "false_positive_rate": "Each is an ordinary input that gets no answer; the threshold was for a stated share.",
    "clean_accuracy_with_rejection": "An ordinary input that is rejected has no answer, so it counts as an error here.",
    "robust_accuracy_with_rejection_plain": "An adversarial input that is rejected is no success: it harms nobody.",
    "robust_accuracy_with_rejection": "By the same rule it is what stands against an attacker who knows the detector.",
    "anomaly_index": "A trigger is a short way to one class; the other classes of the model show how long ways are.",
    "suspected_class": "Who looks for the poisoned records, or the site that sent them, has to know what they say.",
    "worst_case": "An adversary picks the attack that works for each record, so records have to withstand all of them.",
    "advantage": "True minus false positive rate says how much better than a coin members are told at one threshold.",
    "auc": "It compares the scores of members and of others over all thresholds, so that none has to be chosen.",
    "tpr_at_fpr_1": _LOW_RATE,
    "tpr_at_fpr_0.1": _LOW_RATE,
    "advantage_bound": _BOUND,
    "auc_bound": _BOUND,
    "tpr_at_fpr_1_bound": _BOUND,
    "tpr_at_fpr_0.1_bound": _BOUND,
    "audited_epsilon": "A claim holds on paper; this is what an adversary got from the model, without any assumption.",
    "audited_epsilon_gaussian": "It is tighter than the bound without assumption, so it warns of an error sooner.",
    "canary_auc": "It shows whether an audit had any power: at 0.5 its bound says nothing for the training.",
}
"""By the measure's name."""
