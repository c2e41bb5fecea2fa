"""``table.csv`` for machines and a short table for the terminal.

The file has one row per arm x seed x infection, the refused and the failed included: a table without failures
cannot be counted.  An empty field means that there is no such number; the reason is in the evidence.  After the
figures come the choice on each axis, and of each figure ``NAME_low``, ``NAME_high`` and ``NAME_n``, if a cell has it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from consilium.core.files import replace
from consilium.core.finding import Measure
from consilium.evidence.study import ArmEvidence
from consilium.report.analyse.columns import TableColumn, axis_columns, columns, measure_of
from consilium.report.analyse.leakage import attack_columns, strongest_attack
from consilium.report.analyse.robustness.red_flags import flagged_rows, flags_checked
from consilium.report.analyse.summary import Figure, Row, flagged_at, rows
from consilium.report.load.numbers import number
from consilium.report.load.read import read_study
from consilium.report.load.records import CellRecord, StudyRecord

__all__ = ["header", "table_rows", "terminal_table", "write_csv"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NAMED = ("arm", "seed", "infected_by", "status", "cell")
_MEASURED = ("accuracy", "balanced_accuracy", "auroc", "epsilon", "delta", "bytes", "latency_ratio", "seconds")
_SHORT = {
    "epsilon": "ε",
    "audited_epsilon": "audited\nε ≥",
    "accuracy": "accuracy",
    "mia_advantage": "advantage",
    "bytes": "size",
    "latency_ratio": "latency",
}
_LAST = (
    "mia_advantage",
    "mia_auc",
    "majority_rate",
    "bytes_up_per_round_site",
    "rounds_to_accuracy",
    "bytes_to_accuracy",
)
_EMPTY: Mapping[str, tuple[float | None, ...]] = {"low": (None,), "high": (None,), "n": (0,)}
"""The parts of a figure beside its value, and what each is where there is none."""
_PERSONAL = ("personal_accuracy", "personal_worst_accuracy", "shared_accuracy")
"""Empty unless the algorithm leaves each site a model of its own."""
_NEWER = (
    "audited_epsilon",
    "brier_score",
    "expected_calibration_error",
    "macro_auroc",
    "macro_average_precision",
    "r2",
    "mean_absolute_error",
    "dice",
    "hd95",
    "c_index",
)
"""Only where some cell has them."""
_UNMEASURED = ("delta", "collapsed", "red_flags")
_OF_BACKDOORS = ("backdoor_success", "target_rate_without_trigger")
_OF_DETECTORS = (
    "detection_auc_plain",
    "detection_auc_adaptive",
    "false_positive_rate",
    "clean_accuracy_with_rejection",
    "robust_accuracy_with_rejection",
)


def write_csv(study_folder: Path) -> Path:
    """Write ``table.csv`` into the folder and return its path."""
    study = read_study(study_folder)
    path = study_folder / "table.csv"
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header(study))
    writer.writerow({name: _inert(name) for name in header(study)})
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in table_rows(study))
    replace(path, text.getvalue().encode("utf-8", "backslashreplace"))
    return path


def _inert(value: object) -> object:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it; numbers are what they are."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def header(study: StudyRecord) -> tuple[str, ...]:
    """Names of the columns: the fixed ones, each evasion attack's, the rest, the axes, intervals and numbers."""
    names = _figure_names(study)
    return (*names, *axis_columns([*study.axes], names).values(), *_intervals(study, names))


def _intervals(study: StudyRecord, names: tuple[str, ...]) -> Iterator[str]:
    """``NAME_low``, ``NAME_high`` and ``NAME_n`` of each figure, as far as some cell has them."""
    cells = [cell for cell in study.evidence if cell.judged]
    for name in names[len(_NAMED) :]:
        measures = [measure for cell in cells if (measure := measure_of(cell, name)) is not None]
        yield from (f"{name}_{part}" for part in _EMPTY if any(getattr(m, part) not in _EMPTY[part] for m in measures))


def _figure_names(study: StudyRecord) -> tuple[str, ...]:
    attacks = study.attacks("evasion")
    robust = [f"{name}:{attack}" for name in ("robust_accuracy", "balanced_robust_accuracy") for attack in attacks]
    return (
        *_NAMED,
        *_MEASURED,
        *robust,
        *(("worst_case",) if len(attacks) > 1 else ()),
        *_LAST,
        "collapsed",
        *_PERSONAL,
        *(name for name in _NEWER if any(measure_of(cell, name) for cell in study.evidence)),
        *_attacked(study),
        *_noticed(study),
        *(f"{name}:{one}" for one in study.attacks("poisoning") for name in _OF_BACKDOORS),
        *(("red_flags",) if flags_checked(study) else ()),
    )


def _noticed(study: StudyRecord) -> Iterator[str]:
    """What detectors noticed of each attack that asks, and what they leave of the models."""
    for name in (f"{figure}:{attack}" for attack in study.attacks("evasion") for figure in _OF_DETECTORS):
        if any(measure_of(cell, name) for cell in study.evidence):
            yield name


def table_rows(study: StudyRecord) -> list[dict[str, object]]:
    """One mapping per arm x seed x infection, in the order of the arms."""
    names, figures = header(study), _figure_names(study)
    return [row for arm in study.arms for row in _arm_rows(study, arm, names, figures)]


def _attacked(study: StudyRecord) -> tuple[str, ...]:
    """Of several membership attacks: which one the figures are of, and each one's own."""
    named = {c.key: attack_columns(study, c) for c in columns(study) if c.chance is not None}
    several = {key: some for key, some in named.items() if some}
    return (*(f"{key}_attack" for key in several), *(c.key for some in several.values() for c in some))


def terminal_table(study_folder: Path) -> Table:
    """Arms as rows, means over seeds with intervals, each infection beside the clean model."""
    study = read_study(study_folder)
    every, shown = rows(study), _headings(study)
    table = Table(
        title=study.name, caption=_caption(study), title_justify="left", caption_justify="left", box=SIMPLE_HEAD
    )
    table.add_column("arm", overflow="fold", min_width=12)
    for column, infected_by in shown:
        label = "" if infected_by == "none" else _infected(study, infected_by)
        word = "backdoor" if column.group == "Backdoor" else _SHORT.get(column.key, "robust")
        table.add_column(f"{word}\n{label}".rstrip(), justify="right", no_wrap=True)
    for row in (row for row in every if row.infected_by == "none"):
        twins = {twin.infected_by: twin for twin in every if twin.arm.name == row.arm.name}
        table.add_row(_name(row), *(_cell(twins.get(infected_by), column) for column, infected_by in shown))
    return table


def _arm_rows(
    study: StudyRecord, arm: ArmEvidence, names: tuple[str, ...], figures: tuple[str, ...]
) -> Iterator[dict[str, object]]:
    axes = axis_columns([*study.axes], figures)
    choices = {column: arm.choices.get(axis, "") for axis, column in axes.items()}
    for seed in study.seeds:
        for infected_by in study.infections:
            every = study.arm_cells(arm.name, infected_by)
            cells = [c for c in every if c.seed == seed]
            strongest = {n: strongest_attack(every, n) for n in figures if f"{n}_attack" in figures}
            blank: dict[str, object] = {
                **choices,
                "arm": arm.name,
                "seed": seed,
                "infected_by": infected_by,
                "status": "refused" if arm.refusal or arm.status == "refused" else "missing",
            }
            yield from ([choices | _csv_row(cell, names, figures, strongest) for cell in cells] or [blank])


def _csv_row(
    cell: CellRecord, names: tuple[str, ...], figures: tuple[str, ...], strongest: Mapping[str, str]
) -> dict[str, object]:
    """Of several membership attacks the figures are those of the ``strongest`` on the arm, as in the other tables."""
    row: dict[str, object] = {"arm": cell.arm, "seed": cell.seed, "infected_by": cell.infected_by}
    row |= {"status": cell.status, "cell": cell.digest}
    if not cell.judged:
        return row
    keys = {name: f"{name}:{strongest[name]}" if strongest.get(name) else name for name in figures[len(_NAMED) :]}
    measures = {name: measure_of(cell, key) for name, key in keys.items() if name not in _UNMEASURED}
    row |= {f"{name}_attack": attack for name, attack in strongest.items()}
    for name, measure in measures.items():
        if measure is not None:
            row |= {name: measure.value} | _parts(name, measure, names)
    row |= {"red_flags": " ".join(cell.red_flags)} if "red_flags" in figures else {}
    return row | {"delta": cell.privacy.delta, "collapsed": str(cell.collapsed).lower()}


def _parts(name: str, measure: Measure, names: Collection[str]) -> dict[str, object]:
    """Interval and number of one figure, where ``names`` has columns for them; those of no figure are left empty."""
    if measure.value is None:
        return {}
    return {f"{name}_{part}": getattr(measure, part) for part in _EMPTY if f"{name}_{part}" in names}


def _strongest(study: StudyRecord) -> str:
    """The key of the evasion column that counts: the worst case, or the only attack."""
    attacks = study.attacks("evasion")
    return "worst_case" if len(attacks) > 1 else f"robust_accuracy:{attacks[0]}" if attacks else ""


def _headings(study: StudyRecord) -> list[tuple[TableColumn, str]]:
    """Each column and its infection: costs and epsilon are shown of the clean model alone."""
    by_key = {column.key: column for column in columns(study)}
    keys = ("epsilon", "audited_epsilon", "accuracy", _strongest(study), "mia_advantage", "bytes", "latency_ratio")
    shown = [by_key[key] for key in keys if key in by_key]
    every = [(c, by) for c in shown for by in (study.infections if c.group in ("Utility", "Evasion") else ("none",))]
    return [*every, *_backdoors(study, by_key)]


def _backdoors(study: StudyRecord, by_key: Mapping[str, TableColumn]) -> Iterator[tuple[TableColumn, str]]:
    """The success of each backdoor on the models that it was planted in."""
    for by in study.infections[1:]:
        if (column := by_key.get(f"backdoor_success:{by}.success")) is not None:
            yield column, by


def _infected(study: StudyRecord, infected_by: str) -> str:
    number_of = study.infections.index(infected_by)
    return "infected" if len(study.infections) == 2 else f"infected {number_of}"


def _name(row: Row) -> Text:
    name = Text(row.arm.name)
    if row.collapsed:
        name.append("\ncollapsed", style="yellow")
    if row.status != "ok":
        name.append(f"\n{row.status}", style="red")
    return name


def _cell(row: Row | None, column: TableColumn) -> Text:
    figure = row.figures.get(column.key) if row else None
    if row is None or figure is None:
        return Text("–", style="dim")
    if figure.value is None:
        none = "none" if column.key == "epsilon" and row.judged else "–"
        return Text(none if figure.ceiling is None else f"≤ {figure.ceiling:.2f}\nloose bound", style="dim")
    text = _figure_text(row, figure, column)
    return text.append("\nred flag", style="bold red") if flagged_at(row, column) else text


def _figure_text(row: Row, figure: Figure, column: TableColumn) -> Text:
    unranked = column.robustness and row.collapsed > 0
    text = Text(("≤ " if figure.at_most else "") + number(figure.value, column.style), "dim strike" if unranked else "")
    if figure.upper:
        return text.append("\nloose bound", style="dim")
    if figure.low is None or figure.high is None or (column.group == "Cost" and column.style != "ratio"):
        return _with_attack(text, figure)
    between = " to " if figure.low < 0 else "–"  # a dash beside a minus sign cannot be read
    return _with_attack(text.append(f"\n{_short(figure.low)}{between}{_short(figure.high)}", style="dim"), figure)


def _with_attack(text: Text, figure: Figure) -> Text:
    return text.append(f"\n{figure.attack}", style="dim") if figure.attack else text


def _short(value: float) -> str:
    """Two decimals with a true minus sign, as :func:`number` writes three."""
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _caption(study: StudyRecord) -> str:
    seeds = f"Mean over {len(study.seeds)} seeds" if len(study.seeds) > 1 else "One seed"
    infections, flags = study.infections[1:], flagged_rows(rows(study))
    labels = f" Infected: {', '.join(f'{i + 1} {x}' if len(infections) > 1 else x for i, x in enumerate(infections))}."
    return (
        f"{seeds}, 95 % interval below. ε holds for one released model: the largest over sites and seeds."
        + (labels if infections else "")
        + (" Robust: at most this, a stronger attack may find more." if _strongest(study) else "")
        + (" Backdoor: share of other classes' records answered as the target." * bool(study.attacks("poisoning")))
        + _of_strongest(study)
        + _loose(study)
        + (" Red flag: a check of the attacks failed, so the figure is no evidence of robustness." * bool(flags))
    )


def _loose(study: StudyRecord) -> str:
    figures = [row.figures.get(_strongest(study)) for row in rows(study)]
    if not any(figure is not None and figure.upper for figure in figures):
        return ""
    return (
        " Loose bound: some attack has no figure, or was not adapted to the defence; where none has one, it is the "
        "clean accuracy."
    )


def _of_strongest(study: StudyRecord) -> str:
    several = next((attack_columns(study, c) for c in columns(study) if c.key == "mia_advantage"), ())
    if not several:
        return ""
    return (
        f" Advantage: of the strongest of {len(several)} attacks on each arm, named below it; the largest of "
        "several errs upwards."
    )
