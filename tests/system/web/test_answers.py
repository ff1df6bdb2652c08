"""How answers are shown: two versions side by side, the history, a table, code to copy."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import requests
from tests.conftest import NAME
from tests.system.web.conftest import answered, label, next_answer, payload, shows

from servable_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page
    from tests.conftest import RunningServer
    from tests.system.web.conftest import Garment


def bars(page: Page, panel: str = "#answer") -> list[tuple[str, float]]:
    """Names and probabilities as they are shown, from the top."""
    rows = page.locator(f"{panel} .bars li").all_inner_texts()
    found = [re.split(r"\s*\n\s*", row.strip()) for row in rows]
    return [(name, float(share.strip("<>% ")) / 100) for name, share in found]


def test_bars_are_the_server_s_probabilities(
    open_page: Page, stand: RunningServer, garments: list[Garment]
) -> None:
    open_page.get_by_role("tab", name="File").click()
    with Client(stand.http, model=NAME, label="stable") as client:
        for garment in garments[:3]:
            open_page.get_by_label("Choose files").set_input_files(
                payload(garment.name, garment.png)
            )
            answered(open_page, garment.name)
            asked = client.classify(garment.png)
            shown = bars(open_page)
            assert len(shown) == 10
            assert [share for _, share in shown] == sorted((s for _, s in shown), reverse=True)
            for top, (name, share) in zip(asked.top(10), shown, strict=True):
                assert abs(top.score - share) < 0.0011
                assert (
                    dict(zip(asked.labels, asked.probabilities, strict=True))[name] > share - 0.002
                )
    assert open_page.locator("#answer h3").inner_text() == "stable · version 1"
    assert re.fullmatch(r"[0-9.]+ ms", open_page.locator("#answer .time").inner_text())


def test_two_versions_side_by_side(
    open_page: Page, stand: RunningServer, garments: list[Garment]
) -> None:
    ask, rival = (
        open_page.get_by_role("combobox", name=name) for name in ("Predict with", "Compare with")
    )
    assert ask.locator("option").all_inner_texts() == [
        "stable · version 1", "canary · version 2", "newest · version 2", "version 2", "version 1",
    ]  # fmt: skip
    with next_answer(open_page):
        rival.select_option("canary · version 2")
    open_page.get_by_role("tab", name="File").click()
    verdicts = []
    with Client(stand.http, model=NAME) as client:
        for garment in garments:
            open_page.get_by_label("Choose files").set_input_files(
                payload(garment.name, garment.png)
            )
            first = answered(open_page, garment.name)
            second = open_page.locator("#rival-answer .verdict strong").inner_text()
            assert first == client.classify(garment.png, version=1).label
            assert second == client.classify(garment.png, version=2).label
            agreement = open_page.locator("#agreement")
            verdicts.append(first == second)
            kind = "agree" if first == second else "differ"
            assert agreement.get_attribute("class") == f"agreement {kind}"
            assert all(label in agreement.inner_text() for label in (first, second))
    assert set(verdicts) == {True, False}, "the two versions never differ"
    assert len(bars(open_page, "#rival-answer")) == 10
    with next_answer(open_page):
        ask.select_option("version 2")
    assert open_page.locator("#answer h3").inner_text() == "Version 2"
    assert open_page.locator("#agreement.agree").is_visible()


def test_versions_and_labels_of_the_server(open_page: Page) -> None:
    rows = open_page.locator("#versions tr").all_inner_texts()
    assert [row.split() for row in rows] == [
        ["2", "AVAILABLE", "canary"],
        ["1", "AVAILABLE", "stable"],
    ]


def test_the_history_shows_an_image_again(open_page: Page) -> None:
    for name in ("Trouser", "Sandal"):
        with next_answer(open_page):
            open_page.locator("#samples").get_by_role("button", name=name).first.click()
    history = open_page.locator("#last button")
    assert [text.split("\n")[0] for text in history.all_inner_texts()] == [
        "Sandal", "Trouser", "Ankle boot",
    ]  # fmt: skip
    with next_answer(open_page):
        history.nth(1).click()
    shows(open_page, "Trouser")


def test_several_files_make_a_table_and_csv(
    open_page: Page, garments: list[Garment], tmp_path: Path
) -> None:
    files = [payload(garment.name, garment.png) for garment in garments]
    files.insert(3, payload('odd, "name".png', b"not an image"))
    open_page.get_by_role("tab", name="File").click()
    open_page.get_by_label("Choose files").set_input_files(files)
    open_page.get_by_text("10 of 11 classified, 1 failed").wait_for()
    with open_page.expect_download() as download:
        open_page.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "answers.csv"
    target = tmp_path / "answers.csv"
    download.value.save_as(target)
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == [file["name"] for file in files]
    broken = rows.pop(3)
    assert broken["error"]
    assert broken["label"] == ""
    for row, garment in zip(rows, garments, strict=True):
        assert row["label"] == garment.label
        assert row["version"] == "1"
        assert 0.3 < float(row["probability"]) <= 1
    with next_answer(open_page):
        open_page.get_by_role("button", name=garments[2].name).click()
    shows(open_page, garments[2].label)


def test_the_code_gives_the_same_answer(
    open_page: Page, garments: list[Garment], tmp_path: Path
) -> None:
    bag = next(garment for garment in garments if garment.label == "Bag")
    open_page.get_by_role("tab", name="File").click()
    open_page.get_by_label("Choose files").set_input_files(payload("my bag's.png", bag.png))
    answered(open_page, "my bag's.png")
    for own in (False, True):
        if own:  # the page's own pixels, inverted twice
            (tmp_path / "my-bag-s.png").unlink()
            with next_answer(open_page):
                open_page.get_by_role("switch", name="Inverted").press("Space")
        else:
            with open_page.expect_download() as download:
                open_page.get_by_role("link", name="Save my-bag-s.png").click()
            download.value.save_as(tmp_path / download.value.suggested_filename)
        shown = label(open_page)
        open_page.get_by_role("tab", name="curl").click()
        output = run(["bash", "-c", copied(open_page)], tmp_path)
        assert json.loads(output)["predictions"][0]["label"] == shown
        open_page.get_by_role("tab", name="Python").click()
        output = run([sys.executable, "-c", copied(open_page)], tmp_path)
        assert output.startswith(f"{shown} 0."), output


def copied(page: Page) -> str:
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("Copied.").wait_for()
    return str(page.evaluate("() => navigator.clipboard.readText()"))


def run(command: list[str], folder: Path) -> str:
    environ = {**os.environ, "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_polling_causes_no_failed_request(open_page: Page, stand: RunningServer) -> None:
    """The page's own requests do not count as errors in the server's metrics."""
    refused = []
    open_page.on("response", lambda r: refused.append(r.url) if r.status >= 400 else None)
    with open_page.expect_response(f"{stand.http}/v1/models/{NAME}"):
        pass
    with next_answer(open_page):
        open_page.get_by_role("button", name="Bag").first.click()
    assert not refused
    assert requests.get(f"{stand.http}/v1/models/{NAME}", timeout=60).ok
