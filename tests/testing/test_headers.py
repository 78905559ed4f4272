"""Headers are looked up in any case, and shown as they came."""

from dromos.testing import Headers


def test_headers_keep_order_and_case_and_are_found_in_any():
    headers = Headers([("X-B", "1"), ("x-a", "2"), ("x-b", "3")])

    assert headers["x-B"] == "1"
    assert "X-A" in headers
    assert "X-C" not in headers
    assert 7 not in headers
    assert list(headers) == ["x-b", "x-a"]
    assert len(headers) == 2
    assert headers.all("X-B") == ["1", "3"]
    assert headers.pairs == (("X-B", "1"), ("x-a", "2"), ("x-b", "3"))
    assert repr(headers) == "Headers([('X-B', '1'), ('x-a', '2'), ('x-b', '3')])"
