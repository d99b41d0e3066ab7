# SPDX-License-Identifier: GPL-3.0-or-later
"""The user study: blind pages, votes, and how sure they are."""

from __future__ import annotations

import base64
import csv
import http.client
import io
import json
import re
import shutil
import subprocess
import threading
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training.dataset import View, read_dataset
from neural_avatar.training.study.serve import study_server
from neural_avatar.training.study.trials import Study, Trial, make_trials
from neural_avatar.training.study.votes import Vote, parse_votes, preferences, read_votes, told, wilson
from support.commands import words_of as run


@pytest.fixture(scope="module")
def study(root: Path, footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of the bundled avatar and a copy of it, two frames in the quadrants, moving."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copy(root / "assets" / "demo.avatar", folder / "other.avatar")
    said = run("compare", root / "assets" / "demo.avatar", folder / "other.avatar", "--dataset", footage, "--quadrants",
               "-o", folder / "blind", "--most", 2, "--frames", 2, "--device", "cpu")  # fmt: skip
    assert "2 questions" in said
    return folder / "blind"


def pictures(page: str) -> dict[str, Image.Image]:
    """The picture of each trial on the page."""
    found = re.findall(r'<section class="trial" id="(\w+)".*?src="data:image/webp;base64,([^"]+)"', page)
    return {name: Image.open(io.BytesIO(base64.b64decode(data, validate=True))) for name, data in found}


def test_the_page_shows_both_sides_and_tells_nothing(study: Path) -> None:
    page, key = (study / "study.html").read_text("utf-8"), json.loads((study / "key.json").read_text())
    assert sorted(path.name for path in study.iterdir()) == ["key.json", "study.html"]
    for name in (*key["results"], *key["results"].values(), "seed", *{t["camera"] for t in key["trials"]}, "http:"):
        assert not re.search(rf"\b{re.escape(name)}\b", re.sub(r'src="[^"]+"', "", page)), name
    shown = pictures(page)
    assert list(shown) == [trial["id"] for trial in key["trials"]]
    for picture in shown.values():
        assert picture.n_frames == 2 and picture.width % 3 == 0
        left, film, right = np.split(np.asarray(picture.convert("RGB"), float), 3, 1)
        assert (left == right).all(), "two copies of one avatar draw the same"
        assert 0.5 < np.abs(film - left).mean() < 40, "the film is in the middle"


def test_votes_are_counted_through_the_key(study: Path, tmp_path: Path) -> None:
    trials = json.loads((study / "key.json").read_text())["trials"]
    table = tmp_path / "votes.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["voter", "trial", "vote", "seconds"])
        for voter in ("ada", "bob, of York"):
            for trial in trials:
                writer.writerow([voter, trial["id"], "left" if trial["left"] == "demo" else "right", "2.5"])
    said = run("compare", study, "--votes", table)
    assert "demo against other: 100.0% for demo, 95 % interval 51.0% to 100.0% (4 : 0, 2 voters)" in said
    assert "demo is preferred" in said and said.count("demo against other") == 3, "and for each quadrant"
    assert "replaced" not in said
    rows = list(csv.DictReader((study / "result.csv").open()))
    assert [row["quadrant"] for row in rows[:1]] == ["all"] and len(rows) == 3
    assert rows[0]["for_first"] == "4" and rows[0]["share_first"] == "1.0000" and rows[0]["low"] == "0.5101"
    (study / "result.csv").unlink()
    again = run("compare", study, "--votes", table, "--votes", table)
    assert "4 votes were replaced" in again and "(4 : 0, 2 voters)" in again, "a table sent twice counts once"
    assert "no votes*.csv" in run("compare", study, code=1)


def test_mistakes_are_one_sentence(root: Path, footage: Path, study: Path, tmp_path: Path) -> None:
    demo = root / "assets" / "demo.avatar"
    for words, arguments in {
        "two avatars": (demo, "--dataset", footage, "-o", tmp_path / "x"),
        "holds a study already": (demo, demo, "--dataset", footage, "-o", study),
        "give --dataset": (demo, demo),
        "holds no key.json": (tmp_path,),
        "--frames must lie": (demo, demo, "--dataset", footage, "-o", tmp_path / "x", "--frames", 0),
    }.items():
        said = run("compare", *arguments, code=1)
        assert words in said and "Traceback" not in said, said
    assert not (tmp_path / "x").exists()


def test_order_is_blind_balanced_and_repeatable(footage: Path) -> None:
    data, places = read_dataset(footage), [(View(row, 3), "") for row in range(20)]
    trials = make_trials(["a", "b", "c"], places, data, 10, 1)
    assert (
        trials == make_trials(["a", "b", "c"], places, data, 10, 1) != make_trials(["a", "b", "c"], places, data, 10, 2)
    )
    assert len(trials) == len({trial.id for trial in trials}) == 30
    others = make_trials(["a", "b", "c"], places, data, 10, 1, b"other avatars")
    assert not {trial.id for trial in trials} & {trial.id for trial in others}, "no vote belongs to two studies"
    assert [(t.left, t.right, t.row) for t in others] == [(t.left, t.right, t.row) for t in trials]
    sides = Counter((trial.left, trial.right) for trial in trials)
    assert len(sides) == 6 and set(sides.values()) == {5}, "each on the left in half of a pair's trials"
    assert len({trial.row for trial in trials}) == 10 and [t.row for t in trials] != sorted(t.row for t in trials)


STUDY = Study({"a": "a.avatar", "b": "b.avatar"}, "set", 0, tuple(Trial(f"t{i}", *("ab" if i % 2 else "ba"), i, "cam")
                                                                    for i in range(10)))  # fmt: skip


def test_wilson_interval() -> None:
    assert wilson(0, 0) == (0, 1)
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)  # Wilson's own formula by hand
    assert wilson(0, 10) == pytest.approx((0, 0.278), abs=5e-4)
    assert wilson(10, 10) == pytest.approx((0.722, 1), abs=5e-4)
    low, high = wilson(500, 1000)
    assert 0.46 < low < 0.5 < high < 0.54


def test_votes_last_count_ties_and_strangers() -> None:
    head = "voter,trial,vote,seconds\n"
    rows = "".join(f"x,t{i},left,1\n" for i in range(10)) + "x,t0,equal,1\nx,t1,right,\n"
    votes = parse_votes(head + rows, STUDY, "here")
    (one,) = preferences(STUDY, votes)
    # t0 is undecided now; of t1, t3, t5, t7, t9 a is on the left, but t1 went to the right in the end.
    assert one.wins == (4, 5) and one.equal == 1 and one.voters == 1
    assert "undecided" in told(one) and "1 saw no difference" in told(one)
    (tie,) = preferences(STUDY, parse_votes(head + "x,t0,equal,1\n", STUDY, "here"))
    assert "no decided vote" in told(tie)
    for bad, words in {"x,t0,middle,1\n": "line 2: 'middle' is no answer", "x,zz,left,1\n": "another study"}.items():
        with pytest.raises(BackendError, match=words):
            parse_votes(head + bad, STUDY, "here")
    with pytest.raises(BackendError, match="no table of votes"):
        parse_votes("nothing\n", STUDY, "here")
    with pytest.raises(BackendError, match="here, line 1: field larger"):
        parse_votes(head + f"x,t0,{'a' * 200_000},1\n", STUDY, "here")


def test_served_votes_reach_the_folder_and_nobody_else_can_vote(study: Path) -> None:
    server, address = study_server(study)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    trial = json.loads((study / "key.json").read_text())["trials"][0]["id"]

    def ask(url: str, body: str | None = None, length: int | None = None) -> tuple[int, bytes]:
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port or 0, timeout=30)
        headers = {} if length is None else {"Content-Length": str(length)}
        connection.request("GET" if body is None else "POST", parts.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    try:
        assert address.startswith("http://127.0.0.1:")
        root, session = address.rsplit("/", 2)[0], "0123456789abcdef"
        assert ask(address) == (200, (study / "study.html").read_bytes())
        for strange in (root + "/", address + "key.json", address + "../key.json"):
            assert ask(strange)[0] == 404
        votes = f"voter,trial,vote,seconds\nada,{trial},left,1\n"
        assert ask(f"{root}/votes-{session}", votes)[0] == ask(f"{address}votes-..%2f", votes)[0] == 404
        assert ask(f"{address}votes-{session}", "rubbish")[0] == 400
        assert ask(f"{address}votes-{session}", "", 1 << 21)[0] == 413
        assert not list(study.glob("votes*"))
        assert ask(f"{address}votes-{session}", votes)[0] == 200
        assert [path.name for path in study.glob("votes*")] == [f"votes-{session}.csv"]
        assert (study / f"votes-{session}.csv").read_text() == votes
        with ThreadPoolExecutor(8) as many:  # two tabs of one browser share a session
            codes = [code for code, _ in many.map(ask, [f"{address}votes-{session}"] * 200, [votes] * 200)]
        assert codes == [200] * 200
        assert [path.name for path in study.glob("votes*")] == [f"votes-{session}.csv"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for path in study.glob("votes*"):
            path.unlink()


def test_a_study_keeps_its_address_where_it_can(study: Path) -> None:
    """A browser keeps what was voted so far by the address without its token."""
    first, one = study_server(study)
    second, two = study_server(study)
    first.server_close()
    third, three = study_server(study)
    second.server_close()
    third.server_close()
    ports = [urllib.parse.urlsplit(address).port for address in (one, two, three)]
    assert ports[0] == ports[2] != ports[1] and len({one, two, three}) == 3


#: Keys that a voter presses, and what the page would then hand back: the votes' table, in the link to save it.
KEYS = """<script>addEventListener('load', () => {
  const press = key => document.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  document.getElementById('voter').value = 'ada "the" first, of all';
  press('ArrowRight'); press('Backspace'); press('ArrowLeft'); press('x');
  document.querySelector('.trial.now .r').click();
})</script></head>"""


#: Another person sits down at the same computer.
NEXT = """
  window.confirm = () => true;
  document.querySelector('[data-act=next]').click();
  document.getElementById('voter').value = 'bob'; press('ArrowDown');
})</script></head>"""


def in_browser(study: Path, tmp_path: Path, script: str) -> tuple[str, list[Vote], list[str]]:
    """The study's page after the script: as it stands then, the votes that it would save, and the trials' ids."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        pytest.skip("BROWSER MISSING: the study's page is tried where chromium or chrome is installed")
    page = tmp_path / "study.html"
    page.write_text((study / "study.html").read_text("utf-8").replace("</head>", script), "utf-8")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
             "--dump-dom", page.as_uri()]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    link = re.search(r'id="save"[^>]*href="data:text/csv;charset=utf-8,([^"]+)"', done.stdout)
    assert link, done.stderr[-2000:]
    trials = json.loads((study / "key.json").read_text())["trials"]
    key = Study({"demo": "", "other": ""}, "", 0, tuple(Trial(**trial) for trial in trials))
    return done.stdout, parse_votes(urllib.parse.unquote(link[1]), key, "the browser"), [t["id"] for t in trials]


def test_the_next_person_at_a_computer_begins_anew(study: Path, tmp_path: Path) -> None:
    dom, votes, trials = in_browser(study, tmp_path, KEYS.removesuffix("})</script></head>") + NEXT)
    assert [(v.voter, v.trial, v.answer) for v in votes] == [("bob", trials[0], "equal")]
    assert '<html lang="en" class="js">' in dom and "1 of 2" in dom


def test_the_page_takes_votes_in_a_real_browser(study: Path, tmp_path: Path) -> None:
    dom, votes, trials = in_browser(study, tmp_path, KEYS)
    assert [(v.voter, v.trial, v.answer) for v in votes] == [
        ('ada "the" first, of all', trials[0], "left"), ('ada "the" first, of all', trials[1], "right"),
    ]  # fmt: skip
    assert all(0 <= vote.seconds < 100 for vote in votes)
    assert '<html lang="en" class="js ended">' in dom and "2 of 2" in dom


def test_a_voter_without_a_name_counts_once_however_the_votes_arrive(study: Path, tmp_path: Path) -> None:
    """The page that a program serves sends its votes, and may be asked to save them as well."""
    nameless = KEYS.replace("document.getElementById('voter').value = 'ada \"the\" first, of all';", "")
    assert nameless != KEYS
    _, votes, _ = in_browser(study, tmp_path, nameless)
    (name,) = {vote.voter for vote in votes}
    assert re.fullmatch("nameless [0-9a-f]{16}", name)
    key = Study({"demo": "", "other": ""}, "", 0, tuple(Trial(v.trial, "demo", "other", 0, "cam") for v in votes))
    table = "voter,trial,vote,seconds\n" + "".join(f"{v.voter},{v.trial},{v.answer},1\n" for v in votes)
    for file in ("votes.csv", "votes-0123456789abcdef.csv"):
        (tmp_path / file).write_text(table)
    counted, replaced = read_votes(sorted(tmp_path.glob("votes*.csv")), key)
    assert len(counted) == replaced == len(votes) == 2
