"""The keeper of imported models, with workers for them: what the daemon and a command without one have alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from appliance.admin.model_signers import read_signers
from appliance.model_store.keeper import ModelKeeper
from appliance.model_store.store import ModelStore
from appliance.models.inspection import inspect_model
from appliance.models.launcher import Launcher
from appliance.models.quantizing import quantize_model
from appliance.security.office import Office
from appliance.state_dir import StateDir
from appliance.types import ModelInfo, QuantizeOrder


def model_keeper(state: StateDir, office: Office, launcher: Launcher) -> ModelKeeper:
    """Belongs to the event loop; needs `close`."""

    async def trial(path: Path, size_bytes: int) -> ModelInfo:
        return await inspect_model(path, launcher, office.config.worker, size_bytes=size_bytes)

    async def quantizer(order: QuantizeOrder, progress: Callable[[int], None]) -> None:
        await quantize_model(order, launcher, office.config.worker, progress)

    return ModelKeeper(
        ModelStore(state.models),
        office.audit,
        trial,
        quantizer,
        lambda: office.config,
        lambda: read_signers(office.config),
        office.now,
    )
