"""One file that is open under two types, each with a document of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from pycrdt import Text
from support.rtc_client import RtcClient
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.jupyter_process import JupyterProcess

ROWS = "".join(f"{number},{number**2}\n" for number in range(20))


@pytest.mark.parametrize("servers_of", ["aa", "ab"], ids=["one-server", "two-servers"])
async def test_a_csv_that_is_typed_in_as_text_and_as_csv_is_one_file_without_copies(
    servers: tuple[JupyterProcess, JupyterProcess], shared_folder: Path, servers_of: str
) -> None:
    path = shared_folder / "x.csv"
    path.write_text(ROWS)
    first, second = (servers["ab".index(each)] for each in servers_of)
    async with (
        RtcClient(first, await first.session("x.csv", "text", "file"), name="ann") as ann,
        RtcClient(second, await second.session("x.csv", "text", "csv"), name="bob") as bob,
    ):
        assert ann.room_id != bob.room_id

        def same() -> bool:
            return ann.text == bob.text == path.read_text()

        above = below = ""
        for number in range(3):
            above, below = f"a{number}\n{above}", f"{below}b{number}\n"
            ann.doc.get("source", type=Text).insert(0, f"a{number}\n")
            if number != 1:
                # One after the other; else at the same time.
                await until(same, timeout=20, what="ann's edit in both views")
            bob.write(f"b{number}\n")
            await until(same, timeout=30, what="the same in both views")
            assert ann.text == above + ROWS + below
        assert [name for name in os.listdir(shared_folder) if name.startswith("x")] == ["x.csv"]
