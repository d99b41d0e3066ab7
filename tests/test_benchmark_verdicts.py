# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks of training conclude from figures: leads, goals, differences, and what a page leaves out."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Import = Callable[[str], ModuleType]


@pytest.fixture
def script(root: Path, monkeypatch: pytest.MonkeyPatch) -> Import:
    """A function: a program of `benchmarks`, as a module."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return importlib.import_module


def figures(**own: float | None) -> dict[str, float | None]:
    """Made-up means of a run: all figures, those given in place of the usual ones."""
    usual = {"frames": 40, "psnr": 25.0, "psnr_box": 20.0, "ssim": 0.94, "ssim_box": 0.8, "mask_iou": 0.9,
             "ms_ssim": 0.9, "ms_ssim_box": 0.85, "flip_box": 0.1, "sharpness_box": 0.5, "flicker": 5.0,
             "lpips_box": None, "fid": None, "frechet_random": 1.0, "steps": 1000}  # fmt: skip
    return {**usual, **own}


def cells(table: str) -> list[list[str]]:
    """The rows of a Markdown table, the head first, the rule left out."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return [row for row in rows if set("".join(row)) != {"-"}]


def column(table: str, title: str) -> list[str]:
    """A column of a Markdown table, without its head."""
    head, *rows = cells(table)
    return [row[head.index(title)] for row in rows]


def results_of(*leads: tuple[float, float, float]) -> dict[tuple[float, str], dict[str, Any]]:
    """Made-up results of budgets.py: minutes, and the SSIM of textured and of direct."""
    return {
        (minutes, method): {"all": figures(ssim_box=value)}
        for minutes, *values in leads
        for method, value in zip(("textured", "direct"), values, strict=True)
    }


# -- budgets.py --------------------------------------------------------------------------------------------------------


def test_the_first_method_is_ahead_where_its_likeness_is_larger(script: Import) -> None:
    budgets = script("budgets")
    results = results_of((15, 0.81, 0.80))
    assert budgets.lead(results, 15, ("textured", "direct")) == pytest.approx(0.01)
    assert budgets.lead(results, 15, ("direct", "textured")) == pytest.approx(-0.01)
    assert budgets.lead(results, 30, ("textured", "direct")) is None
    assert budgets.lead(results, 15, ("textured",)) is None


@pytest.mark.parametrize(
    ("leads", "verdict", "shown"),
    [
        (
            [(8, 0.6, 0.8), (15, 0.79, 0.8), (30, 0.81, 0.8), (60, 0.7, 0.8)],
            "passes direct at equal time after more than 15 and at most 30",
            ["-0.2000", "-0.0100", "+0.0100", "-0.1000"],
        ),
        ([(15, 0.81, 0.8)], "passes direct at equal time after at most 15", ["+0.0100"]),
        ([(15, 0.79, 0.8), (30, 0.8, 0.8)], "has not passed direct in 30", ["-0.0100", "+0.0000"]),
        ([(15, 0.79, 0.8), (30, 0.77, 0.8)], "has not passed direct in 30", ["-0.0100", "-0.0300"]),
    ],
)
def test_a_crossing_lies_between_two_budgets(
    script: Import, leads: list[tuple[float, float, float]], verdict: str, shown: list[str]
) -> None:
    said = script("budgets").crossing(results_of(*leads), ("textured", "direct"), "CPU minutes")
    assert said.endswith(f"\n\n**textured {verdict} CPU minutes.**")
    assert column(said, "textured ahead of direct (SSIM box)") == shown


def test_the_aim_of_the_long_run_is_reached_from_above(script: Import) -> None:
    lines = script("budgets").aim({"psnr_box": 23.5, "ssim_box": 0.88}).splitlines()
    assert lines == ["- **reached**: PSNR box of at least 23: +0.50", "- **short**: SSIM box of at least 0.9: -0.0200"]
    assert script("budgets").aim({"psnr_box": 23.0, "ssim_box": 0.9}).count("**reached**") == 2


def test_budgets_tell_how_the_textured_network_was_taught_by_what_its_avatar_says(script: Import) -> None:
    budgets = script("budgets")
    textured = {"method": "textured", "pretrain": 0.0, "guide": 0.6}
    results = {
        (15, "textured"): {"made": {"config": textured}},
        (15, "textured-paper"): {"made": {"config": {**textured, "pretrain": 0.3, "guide": 0.0}}},
        (15, "direct"): {"made": {"config": {**textured, "method": "direct"}}},
    }
    said = " textured: guided for 0.6 of the time. textured-paper: pre-trained for 0.3 of the time."
    assert budgets.taught(results) == said
    older = {(15, "textured"): {"made": {"config": {"method": "textured", "pretrain": 0.3}}}}
    assert budgets.taught(older) == " textured: pre-trained for 0.3 of the time."
    assert budgets.taught(results_of((15, 0.8, 0.8))) == ""


def test_methods_that_are_called_pretrained_or_guided_are(script: Import) -> None:
    from neural_avatar.training.commands import add_commands
    from neural_avatar.training.config import TrainConfig, config_from_arguments

    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())

    def config(options: tuple[str, ...]) -> TrainConfig:
        return config_from_arguments(parser.parse_args(["train", "data", "-o", "a.avatar", *options]))

    titles = [(m.title, config(m.options)) for m in script("quality").METHODS.values()]
    titles += [(v.title, config(v.options)) for v in script("ablations").VARIANTS.values()]
    guided = [own for title, own in titles if "guided" in title]
    pretrained = [own for title, own in titles if "pre-trained" in title]
    pretrained.append(config(script("budgets").METHODS["textured-paper"]))
    assert len(guided) == 3 and all(own.taught and own.guide > 0 and own.pretrain == 0 for own in guided)
    assert len(pretrained) == 3 and all(own.taught and own.pretrain == 0.3 and own.guide == 0 for own in pretrained)


# -- quality.py --------------------------------------------------------------------------------------------------------


def test_goals_are_reached_or_short_by_how_far_each_is_from_the_best(script: Import) -> None:
    own = figures(ssim_box=0.86, sharpness_box=1.2, frechet_random=0.9)
    others = {
        "direct": figures(ssim_box=0.77), "direct-skips": figures(ssim_box=0.81),
        "direct-proxy": figures(ssim_box=0.87, sharpness_box=0.7), "v2v": figures(ssim_box=0.7, frechet_random=0.4),
    }  # fmt: skip
    quality = script("quality")
    said = quality.goals({"textured-proxy": [own], **{name: [means] for name, means in others.items()}}).splitlines()
    title = {name: method.title for name, method in quality.METHODS.items()}
    assert said == [
        f"- **reached**: ahead of {title['direct']} in SSIM in the box by at least 0.08: +0.0900, 0.0100 over",
        f"- **short**: ahead of {title['direct-skips']} in SSIM in the box by at least 0.06: +0.0500, 0.0100 short",
        f"- **short**: ahead of {title['direct-proxy']} in SSIM in the box: -0.0100",
        f"- **reached**: ahead of {title['direct-proxy']} in sharpness (distance from the truth's 1): +0.1000",
        f"- **reached**: ahead of {title['v2v']} in SSIM in the box: +0.1600",
        f"- **short**: ahead of {title['v2v']} in the Fréchet distance over random features: -0.5000",
    ]
    swapped = quality.goals({"textured-proxy": [others["v2v"]], "v2v": [own]}).splitlines()[-2:]
    assert ["short" in swapped[0], "reached" in swapped[1]] == [True, True]


# -- ablations.py ------------------------------------------------------------------------------------------------------


def test_ablations_are_differences_and_those_that_chance_does_not_make_are_bold(script: Import) -> None:
    ablations = script("ablations")
    base = [figures(ssim_box=0.8 + x, flip_box=0.1 + x, steps=1000 + i) for i, x in enumerate((-0.001, 0, 0.001))]
    groups = {
        "default": base,
        "no-hair": [figures(ssim_box=0.794, flip_box=0.106, steps=900)],
        "light": [figures(ssim_box=0.804, flip_box=0.096, steps=None)],
        "robust": [figures(ssim_box=0.7, flip_box=0.101), figures(ssim_box=0.72, flip_box=0.101)],
    }
    rough = {"default": [figures(ssim_box=0.7 + x) for x in (-0.001, 0, 0.001)], "no-hair": [figures(ssim_box=0.69)],
             "light": [figures(ssim_box=0.7)], "robust": [figures(ssim_box=0.72), figures(ssim_box=0.72)]}  # fmt: skip
    table = ablations.table(groups, rough)
    # The range of one run's difference is 4.303 · 0.001 · √(1 + 1/3) = 0.00497.
    assert column(table, "SSIM box") == ["0.8000 ± 0.0010", "**-0.0060**", "+0.0040", "**-0.0900**"]
    assert column(table, "FLIP box") == ["0.1000 ± 0.0010", "**+0.0060**", "-0.0040", "+0.0010"]
    assert column(table, "SSIM box, poses disturbed") == ["0.7000 ± 0.0010", "**-0.0100**", "+0.0000", "**+0.0200**"]
    assert column(table, "steps") == ["1001", "900", "-", "1000"] and column(table, "seeds") == ["3", "1", "1", "2"]
    alone = ablations.table({**groups, "default": base[:1]}, {**rough, "default": rough["default"][:1]})
    assert "**" not in alone, "one seed tells nothing of chance"


# -- transfer.py -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("psnr", "ssim", "said"),
    [
        (20.5, 0.81, "**reached**: +0.0100 SSIM and +0.50 dB"),
        (20.0, 0.8, "**reached**: +0.0000 SSIM and +0.00 dB"),
        (19.5, 0.81, "**short**: +0.0100 SSIM and -0.50 dB"),
        (20.5, 0.79, "**short**: -0.0100 SSIM and +0.50 dB"),
    ],
)
def test_transfer_is_as_good_where_neither_figure_is_behind(
    script: Import, psnr: float, ssim: float, said: str
) -> None:
    transfer = script("transfer")
    tenth = [figures(psnr_box=psnr - 1, ssim_box=ssim - 0.1), figures(psnr_box=psnr + 1, ssim_box=ssim + 0.1)]
    groups = {"transfer": tenth, "scratch": [figures()], "scratch-tenth": [figures(psnr_box=50.0, ssim_box=1.0)]}
    assert transfer.verdict(groups) == f"{said} in the box against from scratch"
    assert transfer.verdict({"transfer": tenth}) == "not run yet"


# -- tables and pages --------------------------------------------------------------------------------------------------


def test_the_best_of_a_column_is_bold_whichever_way_it_points(script: Import) -> None:
    groups = {
        "one": [
            figures(ssim_box=0.9, flip_box=0.2, sharpness_box=1.3),
            figures(ssim_box=0.8, flip_box=0.2, steps=2000),
        ],
        "two": [figures(ssim_box=0.8, flip_box=0.1, sharpness_box=0.8, steps=10)],
    }
    table = script("run_tables").figures_table(groups, {"lr": lambda title: title[:1]})
    assert [row[:3] for row in cells(table)] == [["", "lr", "steps"], ["one", "o", "1500"], ["two", "t", "10"]]
    assert column(table, "SSIM box") == ["**0.8500** ± 0.0707", "0.8000"]
    assert column(table, "FLIP box") == ["0.2000 ± 0.0000", "**0.1000**"]
    assert column(table, "sharpness") == ["**0.9000** ± 0.5657", "0.8000"]
    older = script("run_tables").figures_table({"one": [{k: v for k, v in figures().items() if k != "steps"}]}, {})
    assert "steps" not in cells(older)[0]


def test_a_page_tells_why_a_figure_is_not_in_it(script: Import) -> None:
    tables = script("run_tables")
    neighbours, weights = "no two neighbouring rows of a camera were compared", "a package or weights were missing"
    assert tables.absences([[figures()]]) == [f"Not measured, because {weights}: LPIPS, FID."]
    none, some = [[figures(flicker=None)]], [[figures(flicker=None)], [figures()]]
    assert tables.absences(none)[0] == f"Not measured, because {neighbours}: flicker."
    assert tables.absences(some)[0] == f"Left out, because in some runs {neighbours}: flicker."
    said = tables.meanings(iter(none), ["an abacus"]).splitlines()
    assert said[0].startswith("- steps: ") and said[-3:] == [
        f"- Not measured, because {neighbours}: flicker.",
        f"- Not measured, because {weights}: LPIPS, FID.",
        "- Trained on an abacus.",
    ]


def test_the_real_capture_has_a_row_for_each_test(script: Import) -> None:
    real = script("real_capture")
    rows = {
        "first": figures(frames=90, ssim_box=0.73, steps=1042),
        "second": figures(frames=10, flicker=3.8, steps=None),
    }
    page = real.page(10, rows, ["an abacus"])
    assert [row[:3] for row in cells(page)] == [
        ["", "pictures", "steps"],
        ["first", "90", "1042"],
        ["second", "10", "-"],
    ]
    assert column(page, "SSIM box") == ["0.7300", "0.8000"] and column(page, "flicker") == ["5.00", "3.80"]
    assert "10 minutes of one CPU thread" in page and "one film alone, 8 minutes" in page
    planned = real.planned(Path("four"), Path("one"), 10)
    assert planned["three"].options[-1] == "10" and planned["one"].options[-1] == "8"
    assert {(name, test) for name, run in planned.items() for test in run.tests} == set(real.ROWS.values())
    assert not any("--every" in test.options for run in planned.values() for test in run.tests.values())


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_a_run_is_judged_anew_where_its_test_asks_for_other_pictures(script: Import, tmp_path: Path) -> None:
    runs = script("training_runs")
    tests = {"": runs.Test(tmp_path / "data", ("--every", "5")), "near": runs.Test(tmp_path / "data")}
    run = runs.Run("kept", tmp_path / "data", ("--seed", "0"), tests)
    runner = runs.Runner(tmp_path)
    asked = {"data": "data", "train": ["--seed", "0"], "threads": 1,
             "tests": {name: ["data", *test.options] for name, test in tests.items()}}  # fmt: skip
    (tmp_path / "kept.asked.json").write_text(json.dumps(asked), "utf-8")
    for name in ("kept.json", "kept.near.json"):
        (tmp_path / name).write_text(json.dumps({"all": {"psnr": 20.0}}), "utf-8")
    found = runner.figures(run)
    assert found == {"all": {"psnr": 20.0, "steps": None}, "made": {}}, "its avatar is gone, its figures are not"
    whole = runs.Run("kept", run.data, run.options, {**tests, "": runs.Test(tmp_path / "data", ("--every", "1"))})
    assert runner.figures(whole) is None and runner.figures(whole, "near") is not None
    with pytest.raises(SystemExit, match="was begun with other options"):
        runner.figures(runs.Run("kept", run.data, ("--seed", "1"), tests))
