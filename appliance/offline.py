"""Administering an appliance that does not run: the same admin API, served by the command itself while it works.

So there is one way in which things change, with the same checks and the same records, whether a daemon runs or not.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from appliance.admin.app import AdminApi
from appliance.admin.approvals import Approvals
from appliance.admin.routes import ROUTES
from appliance.admin.site import AdminSite
from appliance.admin.unix_listener import unix_listener
from appliance.admin_client import AdminClient
from appliance.alias_spec import ModelsFile
from appliance.audit.record import Actor
from appliance.config import Config, load_models
from appliance.doctor.examination import Examination
from appliance.errors import ChangeRefused
from appliance.model_trial import model_keeper
from appliance.models.launcher import SpawnLauncher
from appliance.models.models_plan import ModelChange
from appliance.security.denied_addresses import DeniedAddress
from appliance.security.fence import FenceWatch
from appliance.security.opening import Security, open_security
from appliance.state_dir import StateDir, temporary_sibling
from appliance.telemetry.history import HistoryReader
from appliance.telemetry.request_reader import RequestReader
from appliance.types import ModelInfo
from appliance.upstream_spec import ServedModel


@contextlib.asynccontextmanager
async def offline_admin(
    state: StateDir, config: Config, folder: Path, environment: Mapping[str, str], *, create: bool
) -> AsyncIterator[AdminClient]:
    """A client of the admin API on `state`, whose lock is held meanwhile.

    folder: where appliance.yaml is. Raises StateError where a daemon runs or nothing was founded, unless `create`.
    """
    if create:
        state.prepare()
    else:
        state.check()
    with state.lock(), _private_path(state) as socket:
        security = open_security(state, config, folder, environment, create=create)
        launcher, premises = SpawnLauncher(), _Closed(security)
        keeper, fences = model_keeper(state, security.office, launcher), FenceWatch.of(state.path)
        site = AdminSite(
            office=security.office,
            keyring=security.keyring,
            models=keeper,
            state=state,
            premises=premises,
            approvals=Approvals(timedelta(seconds=config.admin.approval_seconds)),
            environment=environment,
            requests=RequestReader.of_folder(state.store),
            history=HistoryReader.of_folder(state.store, time.time),
            one_command=True,
            fences=fences,
            examine=Examination(
                state=state,
                office=security.office,
                launcher=launcher,
                read_config=lambda: config,
                read_models=_models_reader(folder),
                check_unchanged=keeper.store.check_unchanged,
                serves=premises.port,
                status=premises.status,
                fences=fences,
            ),
        )
        try:
            async with unix_listener(AdminApi(site, ROUTES), site, socket), AdminClient.local(socket) as client:
                yield client
        finally:
            await site.models.close()
            security.close()


def _models_reader(folder: Path) -> Callable[[], ModelsFile] | None:
    """Of the models.yaml that a daemon would serve: the one beside appliance.yaml, or that here."""
    found = next((path for path in (folder / "models.yaml", Path("models.yaml")) if path.is_file()), None)
    return None if found is None else functools.partial(load_models, found)


@contextlib.contextmanager
def _private_path(state: StateDir) -> Iterator[Path]:
    """For a socket of this command alone: no other command takes it for a daemon's, and the next sweep removes it.

    Through the folder's descriptor, so that a state directory may be deeper than a socket's path may be long.
    """
    folder = os.open(state.run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{folder}") / temporary_sibling(state.run / "admin.sock").name
    finally:
        os.close(folder)


class _Closed:
    """The premises while no daemon runs."""

    def __init__(self, security: Security) -> None:
        self._security = security

    async def reload(self, actor: Actor, *, force: bool) -> Mapping[str, object]:
        """There is nobody to reload."""
        raise ChangeRefused("conflict", "no daemon runs here; appliance.yaml is read when it starts")

    async def apply_models(self, actor: Actor, *, plan: bool) -> Sequence[ModelChange]:
        """None is served."""
        raise ChangeRefused("conflict", "no daemon runs here; models.yaml is read when it starts")

    def models(self) -> Sequence[tuple[ServedModel, ModelInfo | None]]:
        """None is served."""
        return ()

    def models_in_use(self, folder: Path) -> Sequence[str]:
        """None is served."""
        return ()

    def port(self, listener: str) -> int | None:
        """Nobody listens."""
        return None

    def denied(self, limit: int) -> Mapping[str, Sequence[DeniedAddress]]:
        """Nobody listens."""
        return {}

    def status(self) -> Mapping[str, object]:
        """That it does not run."""
        return {"running": False, "generation": self._security.office.document.generation}
