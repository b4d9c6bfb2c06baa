"""Servers by name: what leads to them, what is refused, and that no URL is stored."""

import json

import pytest

from bench.servers import ServerSpec, find_server, hashed, named, parse_given, scrubbed, scrubbed_argument, url_name, with_urls
from results.errors import UsageError

URL = "http://inner.example:8000/secret/v1"
SPECS = {"staging": ServerSpec(url=URL, preset="vllm", api_key_env="STAGING_KEY")}


def test_a_server_is_found_by_its_name_its_preset_or_its_url() -> None:
    assert find_server("staging", SPECS, {}).url == URL
    assert find_server("staging", SPECS, {}).api_key_env == "STAGING_KEY"
    assert find_server("llama-server", SPECS, {}).url.startswith("http://127.0.0.1:8080")
    assert find_server("staging", SPECS, {"staging": "https://other.example/v1/"}).url == "https://other.example/v1"
    assert named(URL, SPECS) == url_name(URL) == url_name(URL + "/")
    assert named("vllm", SPECS) == "vllm"


@pytest.mark.parametrize(
    ("name", "specs", "given", "words"),
    [
        ("stagin", SPECS, {}, "has no URL"),
        ("odd", {"odd": ServerSpec(url="ftp://x")}, {}, "not http"),
        ("odd", {"odd": ServerSpec(url="http://[::1/v1")}, {}, "not http"),
        ("odd", {"odd": ServerSpec(url="http://x:99999/v1")}, {}, "not http"),
        ("odd", {"odd": ServerSpec(url="http://user:secret@x/v1")}, {}, "name the variable with the key"),
        ("odd", {"odd": ServerSpec(url="http://x/v1?api-version=2")}, {}, "leave out what is after the path"),
        ("odd", {"odd": ServerSpec(url="http://x/v1#part")}, {}, "leave out what is after the path"),
        ("odd", {"odd": ServerSpec(url="http://x/inner path")}, {}, "leave out what is after the path"),
        ("odd", {"odd": ServerSpec(url="http://x/v1\r\nKey: y")}, {}, "leave out what is after the path"),
        ("odd", {"odd": ServerSpec(url="http://x/v1\x7f")}, {}, "leave out what is after the path"),
        ("odd", {"odd": ServerSpec(url="http://x", preset="vlm")}, {}, "vllm"),
        ("kept", {"kept": ServerSpec(url=hashed(URL))}, {}, "--server kept=URL"),
        ("kept", {"kept": ServerSpec(url=hashed(URL))}, {"kept": "http://elsewhere/v1"}, "not the URL that the run began with"),
    ],
)
def test_what_leads_to_no_server_is_refused(name: str, specs: dict[str, ServerSpec], given: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_server(name, specs, given)


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'staging'"):
        named("stagin", SPECS)


def test_the_url_that_a_run_began_with_is_known_by_its_hash() -> None:
    assert find_server("kept", {"kept": ServerSpec(url=hashed(URL))}, {"kept": URL + "/"}).url == URL


def test_nothing_stored_holds_a_url() -> None:
    source = scrubbed({"name": "s", "servers": {"staging": {"url": URL}, "local": {"preset": "vllm"}}})
    assert "inner" not in json.dumps(source)
    assert "secret" not in json.dumps(source)
    assert source["servers"]["staging"]["url"] == hashed(URL)
    assert scrubbed(source) == source
    for argument in (URL, f"--set=server={URL}", f"--server=staging={URL}?a=b"):
        assert "secret" not in scrubbed_argument(argument)
        assert "inner" not in scrubbed_argument(argument)
    assert scrubbed_argument("--set=processes=1") == "--set=processes=1"


def test_given_urls_are_parsed_or_refused() -> None:
    assert parse_given([f"a={URL}?x=y", "b=http://b"]) == {"a": f"{URL}?x=y", "b": "http://b"}
    for wrong in ("a", "=http://x", "a=b"):
        with pytest.raises(UsageError, match="NAME=URL"):
            parse_given([wrong])
    with pytest.raises(UsageError, match="given twice"):
        parse_given(["a=http://x", "a=http://y"])


def test_urls_of_the_command_line_are_those_that_a_run_is_known_by() -> None:
    found = with_urls(SPECS, {"staging": "http://other:1/v1", "vllm": "http://third:2/v1"})
    assert found["staging"].url == "http://other:1/v1"
    assert found["staging"].api_key_env == "STAGING_KEY"
    assert (found["vllm"].url, found["vllm"].preset) == ("http://third:2/v1", "vllm")
    with pytest.raises(UsageError, match="did you mean 'staging'"):
        with_urls(SPECS, {"stagin": "http://x"})
