"""A credential in a URL is warned of, once for each far side."""

import logging

import pytest

from tests.auth.support import CANARY, applied


def test_a_credential_in_a_url_is_warned_of_once(caplog: pytest.LogCaptureFixture):
    config = {"param_name": "key"}
    with caplog.at_level(logging.DEBUG):
        for host in ("one.example", "one.example", "two.example:8443"):
            applied("query_param", {"api_key": CANARY}, config, url=f"wss://{host}/ws?room=7")

    told = [record.getMessage() for record in caplog.records]
    assert ["one.example", "two.example:8443"] == [text.split(" ")[4] for text in told]
    assert CANARY not in caplog.text
    assert {"dromos.auth"} == {record.name for record in caplog.records}
