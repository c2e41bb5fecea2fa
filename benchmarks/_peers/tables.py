"""Results as Markdown: one table per job, then the bars, the limits, the cost of many sites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .lineup import AGAINST, BARS, bar
from .race import Result

OPEN, CLOSE = "<!-- written by ./scripts/bench: begin -->", "<!-- written by ./scripts/bench: end -->"
LEAST = 5
"""Clean blocks below which a figure says so."""


def job_table(results: Sequence[Result], limits: Mapping[str, Any]) -> list[str]:
    """Every engine of one job; ``limits`` has the job's GFLOP per round and the machine's peaks."""
    job = results[0].job
    base = next((r for r in results if r.entrant.counts == "plain" and r.blocks), None)
    lines = [
        f"### {job.name}: {job.sites} sites x {job.records} records, {job.cohort} a round, batch {job.batch}, "
        f"lr {job.lr}",
        "",
        f"{limits['operations'].get(job.name, 0):.2f} GFLOP a round; accuracy on {job.tested} test records is the mean "
        f"of the last 5 of {job.rounds} rounds.",
        "",
        "| engine | s per round (range) | times the plain loop (range) | clean blocks | foreign load | accuracy "
        "| memory, peak (MiB) | off the fp32 limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return [*lines, *(_row(result, base, limits) for result in results), ""]


def _row(result: Result, base: Result | None, limits: Mapping[str, Any]) -> str:
    name = result.entrant.label + (f" ({result.about})" if result.about else "")
    if result.failed or not result.blocks:
        return f"| {name} | failed: {result.failed or 'no block'} | | | | | | |"
    counted, foreign = result.counted, [block.foreign for block in result.blocks]
    ratio = "" if base is None else f"{result.ratio(base):.2f} ({_range(result.ratios(base), '.2f')})"
    bound = limits["operations"].get(result.job.name, 0) / max(limits["peaks"].get(k, 0) for k in _FP32)
    cells = [
        name,
        f"{result.seconds:.4f} ({_range((min(counted), max(counted)), '.4f')})",
        ratio,
        f"{len(result.clean)} of {len(result.blocks)}" + ("" if len(result.clean) >= LEAST else " **too few**"),
        f"{100 * min(foreign):.0f}-{100 * max(foreign):.0f} %",
        f"{result.accuracy:.4f}",
        f"{result.memory:.0f}, {result.peak:.0f}",
        f"{result.seconds / bound:.1f}x" if bound else "",
    ]
    return "| " + " | ".join(cells) + " |"


_FP32 = ("fp32, 2 threads", "fp32, 2 processes x 1 thread")


def bars_table(jobs: Mapping[str, Sequence[Result]]) -> list[str]:
    """Consilium's quickest engine of each precision against every peer, with the bar and whether it is reached."""
    head = "| job | Consilium's quickest | " + " | ".join(f"against {name}" for name in AGAINST) + " |"
    rows = [_bars_row(job, kind, jobs[job]) for job in BARS if job in jobs for kind in BARS[job]]
    return ["### The bars", "", head, "|---" * (2 + len(AGAINST)) + "|", *filter(None, rows), ""]


def _bars_row(job: str, precision: str, results: Sequence[Result]) -> str:
    able = [r for r in results if r.entrant.counts == f"own {precision}" and r.blocks]
    if not able:
        return f"| {job}, {precision} | none ran |" + " |" * len(AGAINST)
    best = min(able, key=lambda r: r.seconds)
    cells = [_verdict(job, precision, best, name, results) for name in AGAINST]
    return f"| {job}, {precision} | {best.entrant.label}, {best.seconds:.4f} s | " + " | ".join(cells) + " |"


def _verdict(job: str, precision: str, best: Result, name: str, results: Sequence[Result]) -> str:
    peer = next((r for r in results if r.entrant.counts == name and r.blocks), None)
    if peer is None:
        return "not run"
    ratio, wanted = best.ratio(peer), bar(job, precision, name)
    few = min(len(best.clean), len(peer.clean)) < LEAST
    said = "yes" if ratio >= wanted else "no"
    return f"{ratio:.2f}x (bar {wanted:g}: **{said}**" + (", too few clean blocks)" if few else ")")


def accuracy_lines(jobs: Mapping[str, Sequence[Result]]) -> list[str]:
    """Whether all engines of a job learn the same within one point."""
    lines = ["### Do all learn the same?", ""]
    for job, results in jobs.items():
        told = {r.entrant.label: r.accuracy for r in results if not r.failed}
        if len(told) > 1:
            spread = 100 * (max(told.values()) - min(told.values()))
            least, most = min(told, key=told.__getitem__), max(told, key=told.__getitem__)
            said = "within 1 point" if spread <= 1 else f"**not within 1 point**: {least} lowest, {most} highest"
            lines.append(f"- {job}: {spread:.2f} points between lowest and highest, {said}.")
    return [*lines, ""]


def limits_table(limits: Mapping[str, Any]) -> list[str]:
    """The measured matrix-product rates."""
    rows = [f"| {name} | {rate:.0f} |" for name, rate in limits["peaks"].items()]
    return ["### This machine's limit", "", "| product of two 2048 x 2048 matrices | GFLOP/s |", "|---|---|", *rows, ""]


def sites_table(results: Sequence[Result]) -> list[str]:
    """Seconds per round and memory as the number of sites grows, the cohort staying the same."""
    job = results[0].job
    lines = [
        f"### Cost of many sites ({job.cohort} a round, {job.records} records each, logistic)",
        "",
        "| engine | sites | s per round (range) | times 100 sites | clean blocks | memory, peak (MiB) |",
        "|---|---|---|---|---|---|",
    ]
    return [*lines, *_sites_rows(results), ""]


def _sites_rows(results: Sequence[Result]) -> Iterator[str]:
    hundred = {r.entrant.label: r.seconds for r in results if r.job.sites == 100 and r.blocks}
    for r in sorted(results, key=lambda r: (r.entrant.label, r.job.sites)):
        if not r.blocks:
            yield f"| {r.entrant.label} | {r.job.sites} | failed: {r.failed} | | | |"
            continue
        times = f"{r.seconds / hundred[r.entrant.label]:.2f}" if r.entrant.label in hundred else ""
        clean = f"{len(r.clean)} of {len(r.blocks)}" + ("" if len(r.clean) >= LEAST else " **too few**")
        spread = _range((min(r.counted), max(r.counted)), ".4f")
        yield (
            f"| {r.entrant.label} | {r.job.sites} | {r.seconds:.4f} ({spread}) | {times} | {clean} "
            f"| {r.memory:.0f}, {r.peak:.0f} |"
        )


def put(path: Path, lines: Sequence[str]) -> None:
    """Write the tables into ``path``: between the marks where it has them, else as the whole file."""
    text = path.read_text(encoding="utf-8") if path.exists() else f"{OPEN}\n{CLOSE}\n"
    before, _, rest = text.partition(OPEN)
    _, _, after = rest.partition(CLOSE)
    path.write_text(before + "\n".join([OPEN, "", *lines, CLOSE]) + after, encoding="utf-8")


def _range(ends: tuple[float, float], form: str) -> str:
    return f"{ends[0]:{form}}-{ends[1]:{form}}"
