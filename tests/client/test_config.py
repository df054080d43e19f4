"""The user's configuration: privacy, overrides, several platforms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fuyun.client.config import (
    Config,
    Profile,
    adopt,
    config_path,
    is_private,
    load_config,
    load_profile,
    save_config,
    use,
)
from fuyun.domain.errors import BadRequest

ONE = Profile(api="http://127.0.0.1:1", gateway="http://127.0.0.1:2", key="fk_one", data="/one")
TWO = Profile(api="http://127.0.0.1:3", gateway="http://127.0.0.1:4", key="fk_two", data="/two")


def test_path_follows_xdg(tmp_path: Path) -> None:
    assert config_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/fuyun/config.yaml")
    assert config_path({"HOME": "/h"}) == Path("/h/.config/fuyun/config.yaml")
    assert config_path({"HOME": "/h", "XDG_CONFIG_HOME": "relative"}) == Path("/h/.config/fuyun/config.yaml")


def test_it_is_written_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.yaml"
    save_config(Config(ONE, (TWO,)), path)
    assert is_private(path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert load_config(path) == Config(ONE, (TWO,))
    path.chmod(0o644)
    save_config(Config(TWO), path)
    assert is_private(path)
    assert [item.name for item in path.parent.iterdir()] == ["config.yaml"]


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load_profile({"HOME": str(tmp_path)}) == Profile()


def test_the_environment_wins_but_never_sends_a_key_elsewhere(tmp_path: Path) -> None:
    path = save_config(Config(ONE, (TWO,)), tmp_path / "c.yaml")
    assert load_profile({"FUYUN_KEY": "fk_x", "FUYUN_NAMESPACE": "shop"}, path).key == "fk_x"
    assert load_profile({"FUYUN_API": "http://other/"}, path) == Profile(api="http://other")
    assert load_profile({"FUYUN_API": TWO.api}, path) == TWO
    assert load_profile({"FUYUN_API": "http://other", "FUYUN_KEY": "fk_y"}, path).key == "fk_y"


def test_the_key_is_not_in_its_repr() -> None:
    assert "fk_one" not in repr(ONE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "holds no"),
        ("a: [\n", "is not YAML"),
        ("kye: x\n", "did you mean 'key'"),
        ("key: 3\n", "not a text"),
        ("others: 3\n", "not a list"),
        ("others: [3]\n", "holds no"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(BadRequest, match=message):
        load_config(path)


def test_a_started_platform_comes_into_use_and_the_one_before_is_kept() -> None:
    assert adopt(Config(), ONE) == Config(ONE)
    both = adopt(Config(ONE), TWO)
    assert both == Config(TWO, (ONE,))
    assert use(both, ONE.api + "/") == Config(ONE, (TWO,))
    with pytest.raises(BadRequest, match="no platform at"):
        use(both, "http://nowhere")


def test_a_platform_started_again_keeps_its_key_at_its_new_address() -> None:
    again = Profile(api="http://127.0.0.1:9", gateway="http://127.0.0.1:8", key="", data="/one")
    found = adopt(Config(TWO, (ONE,)), again)
    assert found.current == Profile(api="http://127.0.0.1:9", gateway="http://127.0.0.1:8", key="fk_one", data="/one")
    assert found.others == (TWO,)


def test_an_unknown_platform_without_a_key_changes_nothing() -> None:
    assert adopt(Config(ONE), Profile(api="http://x", data="/three")) == Config(ONE)


def test_platforms_that_take_turns_at_one_address_keep_their_keys() -> None:
    other = Profile(api=ONE.api, gateway=ONE.gateway, key="fk_other", data="/other")
    both = adopt(Config(ONE), other)
    assert both == Config(other, (ONE,))
    assert adopt(both, replace(ONE, key="")) == Config(ONE, (other,))


def test_a_new_key_replaces_the_old_one_of_its_directory_or_of_its_address_alone() -> None:
    fresh = replace(ONE, key="fk_new")
    assert adopt(Config(ONE), fresh) == Config(fresh)
    assert adopt(Config(replace(ONE, data="")), fresh) == Config(fresh)
