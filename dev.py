#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The developers' one command. Needs nothing installed: it makes the environments by itself.

python3 dev.py demo    build the extension, install it in a fresh Blender, render the demo into out/demo
python3 dev.py test    run the tests with every supported Blender
python3 dev.py run …   the `neural-avatar` command, such as `python3 dev.py run train DATASET -o person.avatar`
python3 dev.py build   the extension's zip, into out/
python3 dev.py lint    ruff, mypy and import-linter
python3 dev.py env     make the environments and print where they are
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from tooling.pythons import WANTED, find_python

ROOT = Path(__file__).resolve().parent


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=True
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="render the demo into out/demo")
    demo.add_argument("--bvh", type=Path, metavar="FILE", help="motion to use in place of the walk")
    demo.add_argument("--avatar", type=Path, metavar="FILE", help="an avatar file in place of the bundled one")
    demo.add_argument("--frames", type=int, default=60, metavar="N", help="frames to render (default 60)")
    demo.add_argument("--size", type=int, default=512, metavar="PX", help="side of the square picture (default 512)")
    demo.add_argument("--blender", default="4.5", metavar="VERSION", help="4.2, 4.5 or 5.0 (default 4.5)")
    demo.add_argument("-o", "--out", type=Path, default=ROOT / "out" / "demo", metavar="DIR", help="default: out/demo")
    test = commands.add_parser("test", help="run the tests; further arguments go to pytest")
    test.add_argument("--fast", action="store_true", help="leave out the tests that take more than a minute")
    commands.add_parser("run", help="the neural-avatar command in the project's environment", add_help=False)
    commands.add_parser("build", help="build the extension's zip into out/")
    commands.add_parser("lint", help="ruff, mypy and import-linter")
    env = commands.add_parser("env", help="make the environments and print where they are")
    env.add_argument("--prune", action="store_true", help="only remove those that are no longer used")
    options, rest = parser.parse_known_args(argv)
    if rest and options.command not in ("run", "test"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command == "run":  # everything after the word, as it is
        rest = argv[argv.index("run") + 1 :]

    from tooling.environments import SetupError

    try:
        return int(globals()[f"_{options.command}"](options, rest))
    except SetupError as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return 2


def _demo(options: argparse.Namespace, rest: list[str]) -> int:
    from tooling.demo import make_demo

    return make_demo(options.out, options.frames, options.size, options.blender, options.bvh, options.avatar)


def _test(options: argparse.Namespace, rest: list[str]) -> int:
    from tooling.environments import BLENDERS, environment

    python = environment("backend")
    variables = {**os.environ, "NEURAL_AVATAR_PYTHON": str(python)}
    for version in BLENDERS:
        variables["NEURAL_AVATAR_BPY_" + version.replace(".", "_")] = str(environment(f"bpy-{version}"))
    marks = ["-m", "not slow"] if options.fast else []
    command = [str(python), "-B", "-m", "pytest", "-p", "no:cacheprovider", *marks, *rest]
    return subprocess.call(command, cwd=ROOT, env=variables)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from tooling.environments import environment

    try:
        return subprocess.call([str(environment("backend")), str(ROOT / "__main__.py"), *rest])
    except KeyboardInterrupt:  # the command has had it too, and has said what it kept
        return 130


def _build(options: argparse.Namespace, rest: list[str]) -> int:
    from tooling.environments import environment
    from tooling.extension import build_zip

    print(build_zip(environment("bpy-4.2"), ROOT / "out"))
    return 0


def _lint(options: argparse.Namespace, rest: list[str]) -> int:
    from tooling.environments import environment
    from tooling.lint import LINTERS, lint

    failed = 0
    for name in LINTERS:
        answer = lint(name, str(environment("backend")))
        print(f"{name}: {'clean' if answer.returncode == 0 else answer.stdout}", flush=True)
        failed |= answer.returncode
    return 1 if failed else 0


def _env(options: argparse.Namespace, rest: list[str]) -> int:
    from tooling.environments import environment, names, prune

    if options.prune:  # first of all, and alone: it is asked for when the disk is full
        print("".join(f"removed  {folder}\n" for folder in prune()), end="")
        return 0
    for name in names():
        started = time.monotonic()
        print(f"{name:8} {environment(name)}  ({time.monotonic() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    try:
        if sys.version_info[:2] != WANTED:  # one Python for the tools and the environments they make
            sys.exit(subprocess.call([find_python(), str(Path(__file__).resolve()), *sys.argv[1:]]))
        sys.exit(main(sys.argv[1:]))
    except LookupError as problem:
        sys.exit(f"dev.py: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)
