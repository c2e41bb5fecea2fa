"""Short texts that explain the page: terms, and the pitfalls of such studies with how this one avoids them."""

from __future__ import annotations

__all__ = ["PITFALLS", "TERMS"]

TERMS = (
    ("arm", "One combination of defences. “none” on an axis means that this defence is absent."),
    ("cell", "One trained model of one arm with one seed, clean or infected, with everything found about it."),
    ("seed", "One repetition: another start, other batches, the same records."),
    ("baseline", "The first arm that was judged: without any defence, where the study has it."),
    ("infected", "Trained while an adversary held one or more sites (a corruption); compared with its clean twin."),
    ("interval", "95 %. Over seeds by Student's t; with one seed the measure's own, over test records."),
    (
        "paired interval",
        "Of a difference, on the same records in both models, patients counted once. With one seed it covers the "
        "choice of records, with several the luck of trainings too. Within it, nothing is better or worse.",
    ),
    ("chance", "What a party that knows nothing reaches: a figure means something only in its distance from chance."),
    ("majority class", "Always answering the commonest class scores this. A model near it has learned little."),
    (
        "collapsed",
        "More than 95 % of the answers are one class. Its robustness is not ranked: a constant withstands all.",
    ),
    (
        "ε, δ",
        "Differential privacy: one record more or less changes the odds of any outcome by at most e^ε, except with δ.",
    ),
    (
        "Brier score",
        "Mean squared distance of answered probabilities from the truth: falls with accuracy and with calibration.",
    ),
    (
        "calibration error (ECE)",
        "How far confidence lies from accuracy, over 15 bins. Few records alone make some: chance is that floor.",
    ),
    (
        "generalisation gap",
        "Accuracy on members minus that on non-members; of the loss the other way round. It may explain a leak.",
    ),
    ("unit", "Whose presence ε hides: one example, one patient, one site or one label. Units are never mixed."),
    (
        "robust accuracy (≤)",
        "Share of test records still answered rightly whatever an adversary does within the radius. Attacks bound it "
        "from above: what withstood these may fall to a stronger one.",
    ),
    ("loose bound", "The attack could not follow the defence, so that its figure says little; it is not ranked."),
    (
        "advantage",
        "True minus false positive rate in telling members from non-members, at one threshold that was set on other "
        "records; 0 is a coin, 1 is certainty.",
    ),
    (
        "AUC (membership)",
        "Chance that a member's score is above a non-member's: over all thresholds, of which advantage is one. So one "
        "may lie above chance where the other does not.",
    ),
    (
        "below chance",
        "A membership attack that is wrong more often than a coin counts as one at chance, in ranks, effects and "
        "trade-offs: to leak less than nothing is no merit. Where its whole interval lies below chance a note says so: "
        "who inverts the guess is above chance by as much, and that is leakage.",
    ),
    (
        "threat model",
        "Who acts, at which moment, knowing what, to gain what. A figure holds for its threat model only.",
    ),
)

PITFALLS = (
    (
        "Robustness of the first test batch only",
        "Every attack runs on the whole test set; n stands in a cell's tip, and beside the figure on a model's page.",
    ),
    ("Attacks that clamp normalised inputs", "Inputs are raw in [0, 1]; normalisation is a layer of the model."),
    ("Calibrating int8 on test data", "Calibration uses the public slice, stated synthetic inputs or weights alone."),
    (
        "A shift of splits that passes for a leak",
        "Non-members are held out of the same site's training pool, not the test split.",
    ),
    ("A constant model that looks robust", "Majority rate and collapse are shown; collapsed arms are not ranked."),
    ("ε per training, read as ε per folder", "The statement at the top; a claim names one released model."),
    ("One lucky seed", "Means over seeds with intervals; where there is one seed, the page says so."),
    (
        "Gradient masking taken for robustness",
        "A defence without a surrogate has a loose bound and is not ranked.",
    ),
    ("An attack that failed, taken for robustness", "Every figure under attack is printed as “at most” (≤)."),
    (
        "Thresholds chosen after the figures",
        "They are written with hash and time before the run; later ones are said to be late.",
    ),
    (
        "A winner inside an interval",
        "An arm is best only beyond a paired interval against every other one, at 95 % together (Bonferroni).",
    ),
)
