"""appliance.placement.fit_table"""

from __future__ import annotations

from msgspec.structs import replace

from appliance.placement.fit_table import fit_table
from appliance.placement.place import Placement, place
from tests.unit.placement.making import MIB, facts, machine, spec


def test_as_many_users_as_fit_and_no_more() -> None:
    model, memory = facts(context_length=16_384), machine(8000, 4000)
    rows = fit_table(model, spec(), memory, margin_bytes=100 * MIB)
    assert [(row.context, row.cache_type) for row in rows] == [
        (context, kind) for context in (2048, 4096, 8192, 16_384) for kind in ("f16", "q8_0")
    ]
    assert all(row.users > 0 and row.n_gpu_layers == row.layers == 9 for row in rows)
    for row in rows:
        for users, whole in ((row.users, True), (row.users + 1, False)):
            asked = replace(
                spec(),
                n_ctx=row.context * users,
                parallel=users,
                cache_type_k=row.cache_type,
                cache_type_v=row.cache_type,
            )
            found = place(model, asked, memory, (), margin_bytes=100 * MIB)
            assert (isinstance(found, Placement) and found.n_gpu_layers == 9) is whole, row


def test_a_context_nobody_can_have_is_said() -> None:
    rows = fit_table(facts(), spec(preempt_host_mib=0, flash_attn="off"), machine(2200), margin_bytes=0)
    assert rows[0].users > 0 and rows[0].footprint is not None
    assert (rows[-1].context, rows[-1].users, rows[-1].footprint) == (131_072, 0, None)
    assert {row.cache_type for row in rows} == {"f16"}
