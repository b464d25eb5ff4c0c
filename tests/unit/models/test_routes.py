"""appliance.models.routes"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.alias_spec import AliasSpec, FallbackSpec, ModelsFile
from appliance.models.routes import Routes, place_of, version_of
from appliance.types import ModelSpec

SMALL = FallbackSpec(models=("small", "old"))
PEOPLE = [f"client-{number}" for number in range(2000)]


def models_file(**aliases: AliasSpec) -> ModelsFile:
    models = tuple(ModelSpec(id=name, path=f"/{name}.gguf") for name in ("old", "new", "small"))
    return ModelsFile(models=(*models, ModelSpec(id="one", path="/o", aliases=("uno",))), aliases=aliases)


def routes(weights: dict[str, float] | None = None, **fields: object) -> Routes:
    alias = AliasSpec(versions=weights or {"old": 95, "new": 5}, fallback=SMALL, **fields)  # type: ignore[arg-type]
    return Routes(models_file(chat=alias))


def chosen(table: Routes, who: str) -> str:
    found = table.find("chat", who)
    assert found is not None
    return found.models[0]


def test_an_id_leads_to_itself_and_a_model_s_own_alias_to_it() -> None:
    table = routes()
    for name, models in (("old", ("old",)), ("uno", ("one",))):
        found = table.find(name, "me")
        assert found is not None and found.models == models
        assert (found.alias, found.fallback) == (name == "uno", FallbackSpec())
    assert table.find("nothing", "me") is None


def test_weights_share_the_clients_out() -> None:
    table = routes()
    share = sum(chosen(table, who) == "new" for who in PEOPLE) / len(PEOPLE)
    assert 0.035 < share < 0.065
    assert [chosen(table, who) for who in PEOPLE[:50]] == [chosen(routes(), who) for who in PEOPLE[:50]]


def test_a_version_that_cannot_is_stepped_in_for_by_the_others_and_then_by_the_fallback() -> None:
    found = routes({"old": 1, "new": 0}).find("chat", "me")
    assert found is not None and found.models == ("old", "small")
    found = routes({"new": 1, "old": 1e-9}).find("chat", "me")
    assert found is not None and found.models == ("new", "old", "small")


def test_users_of_one_client_may_each_have_their_own_version() -> None:
    apart, together = routes({"old": 1, "new": 1}, sticky="user"), routes({"old": 1, "new": 1})

    def of(table: Routes) -> set[str]:
        return {found.models[0] for user in PEOPLE[:50] if (found := table.find("chat", "dify", user))}

    assert of(apart) == {"old", "new"} and len(of(together)) == 1


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_growing_share_of_a_first_version_takes_nobody_back(one: float, two: float) -> None:
    less, more = sorted((one, two))
    for who in PEOPLE[:20]:
        place = place_of("chat", who)
        if version_of({"new": less, "old": 1 - less + 1e-9}, place) == "new":
            assert version_of({"new": more, "old": 1 - more + 1e-9}, place) == "new"


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1e6), min_size=1), st.floats(0, 1, exclude_max=True))
def test_nobody_gets_a_version_without_weight(weights: dict[str, float], place: float) -> None:
    if sum(weights.values()) > 0:
        assert weights[version_of(weights, place)] > 0


def test_what_a_client_may_not_use_is_passed_over() -> None:
    table = routes({"old": 1, "new": 1})
    assert {chosen(table, who) for who in PEOPLE[:50]} == {"old", "new"}
    for who in PEOPLE[:20]:
        found = table.find("chat", who, allowed=["old", "one"])
        assert found is not None and found.models == ("old",)
        found = table.find("chat", who, allowed=["chat"])
        assert found is not None and set(found.models) == {"old", "new", "small"}
    assert table.find("chat", "me", allowed=["small"]) is None
    assert table.find("old", "me", allowed=["chat"]) is None, "an alias allows no model by its id"
    assert table.find("one", "me", allowed=["uno"]) is not None, "but for a model's own"


def test_changed_weights_count_until_the_file_changes_the_versions() -> None:
    table = routes()
    table.set_weights("chat", {"new": 1})
    assert {chosen(table, who) for who in PEOPLE[:50]} == {"new"}
    other_fallback = AliasSpec(versions={"old": 95, "new": 5}, fallback=FallbackSpec(answer="no"))
    after = table.succeeded_by(models_file(chat=other_fallback))
    assert dict(after.weights("chat")) == {"new": 1}
    after = table.succeeded_by(models_file(chat=AliasSpec(versions={"old": 1})))
    assert dict(after.weights("chat")) == {"old": 1}
    table.set_weights("chat", None)
    assert dict(table.weights("chat")) == {"old": 95, "new": 5}
    with pytest.raises(KeyError):
        table.weights("old")


def test_an_administrator_s_name_leads_to_one_model_or_to_none() -> None:
    table = routes()
    assert [table.model(name) for name in ("old", "uno", "chat", "x")] == ["old", "one", None, None]
    table.set_weights("chat", {"new": 1, "old": 0})
    assert table.model("chat") == "new"


def test_a_mirror_gets_no_copy_of_its_own_requests() -> None:
    table = routes({"old": 1, "new": 1})
    table.set_mirror("chat", "new")
    for who in PEOPLE[:20]:
        found = table.find("chat", who)
        assert found is not None and found.mirror == (None if found.models[0] == "new" else "new")
        found = table.find("chat", who, allowed=["old"])
        assert found is not None and found.mirror is None
