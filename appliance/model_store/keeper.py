"""Everything that is done with the store, audited: import, quantise, verify, remove, and looking whether all is whole.

Belongs to the event loop. What reads and writes files runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from appliance.audit.log import AuditLog
from appliance.audit.record import APPLIANCE, Actor, AuditEvent, Outcome
from appliance.clock import Clock
from appliance.config import Config
from appliance.errors import ApplianceError, ChangeRefused, LoadCrash, LoadError, StateError
from appliance.gguf.facts import ModelFacts
from appliance.gguf.header import GgufHeader
from appliance.gguf.quantised import tensor_types
from appliance.model_store.importing import (
    Expected,
    ImportRequest,
    Trial,
    compare,
    due,
    expect,
    quarantine_note,
    refusal,
)
from appliance.model_store.jobs import Job, Jobs, JobView
from appliance.model_store.manifest import Manifest, QuantizedFrom, new_manifest
from appliance.model_store.pace import Pace
from appliance.model_store.quantizing import (
    QuantizePlan,
    Quantizer,
    QuantizeRequest,
    origin_sha256,
    plan_quantize,
    quantize_failure,
)
from appliance.model_store.signing import Signer, SignerId
from appliance.model_store.source import Source, open_source
from appliance.model_store.store import ModelStore, Quarantined, Staged, recheck
from appliance.types import ModelInfo, QuantizeOrder

SCRUB_LOOK_SECONDS: Final = 3600.0

_log = logging.getLogger(__name__)


class ModelKeeper:
    """config: as it counts now. signers: the keys that count now; raises ConfigError where one cannot be read."""

    def __init__(
        self,
        store: ModelStore,
        audit: AuditLog,
        trial: Trial,
        quantizer: Quantizer,
        config: Callable[[], Config],
        signers: Callable[[], Sequence[Signer]],
        now: Clock,
    ) -> None:
        self.store = store
        self.jobs = Jobs(now)
        self._audit = audit
        self._trial = trial
        self._quantizer = quantizer
        self._config = config
        self._signers = signers
        self._now = now
        self._thread = ThreadPoolExecutor(1, "model-store")
        self._scrubber = ThreadPoolExecutor(1, "model-scrub")
        self._scrubbing: Job | None = None
        self._faults: dict[str, str] = {}

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def models(self) -> tuple[list[Manifest], list[Quarantined]]:
        """All that were imported, and what is in quarantine. A damaged manifest is in `degraded`, not here."""
        return await self._survey(), await asyncio.to_thread(self.store.quarantined)

    async def show(self, name: str) -> tuple[Manifest, GgufHeader, ModelFacts]:
        """What is known of it, its header, and what that says. Raises ChangeRefused or StateError."""

        def work() -> tuple[Manifest, GgufHeader, ModelFacts]:
            manifest = self.store.manifest(name)
            return manifest, *self.store.header(manifest)

        return await asyncio.to_thread(work)

    def quantize_command(self, path: str) -> str | None:
        """What makes a smaller model of the one that models.yaml names; the type's name goes behind it. Any thread.

        None where that would be refused.
        """
        return None if self._config().models.require_signature else self.store.quantize_command(Path(path))

    def degraded(self) -> list[str]:
        """What is wrong with imported models, for people. Reads nothing."""
        return [
            f"the imported model {name} may not be loaded: {fault}; import it again"
            for name, fault in self._faults.items()
        ]

    def notes(self) -> list[str]:
        """What is under way."""
        return [_under_way(view) for view in self.jobs.views() if view.state not in ("done", "failed")]

    # ── acting ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def plan_import(self, request: ImportRequest) -> Mapping[str, object]:
        """What an import would do. Raises ChangeRefused or ConfigError."""

        def work() -> Mapping[str, object]:
            with open_source(request.path) as source:
                expected = self._expected(request, source)
                return {
                    "name": expected.name,
                    "files": [file.name for file in source.files],
                    "bytes": source.bytes,
                    "architecture": source.facts.architecture,
                    "quantisation": source.facts.quantisation,
                    "signer": expected.signer,
                }

        return await asyncio.to_thread(work)

    async def start_import(self, actor: Actor, request: ImportRequest) -> JobView:
        """Refuses at once what its header or its place refuses; the rest goes on as a job.

        Raises ChangeRefused, ConfigError, and AuditUnavailable; then nothing has begun.
        """
        opened = contextlib.ExitStack()
        try:
            source, expected = await asyncio.to_thread(self._opened, opened, request)
        except ApplianceError as error:
            self._note(actor, "model.import", str(request.path), "deny", str(error))
            raise
        try:
            await self._begin(actor, "model.import", expected.name, {"path": str(request.path), "bytes": source.bytes})

            async def work(job: Job) -> Any:
                made = self._copy_and_try(job, source, expected)
                return self.store.view(await self._recorded(actor, "model.import", expected.name, made))

            job = self.jobs.start("import", expected.name, source.bytes, work)
            assert job.task is not None
            job.task.add_done_callback(lambda task: opened.close())
            return job.view()
        except BaseException:
            opened.close()
            raise

    async def plan_quantize(self, request: QuantizeRequest) -> QuantizePlan:
        """What it would make. Raises ChangeRefused or StateError where it cannot or should not be made."""

        def work() -> QuantizePlan:
            manifest = self.store.manifest(request.name)
            header, _ = self.store.header(manifest)
            config = self._config()
            plan = plan_quantize(request, manifest, header, require_signature=config.models.require_signature)
            self._check_whole(manifest)
            self.store.check_room(plan.name, plan.bytes, config.audit.disk_min_bytes)
            return plan

        return await asyncio.to_thread(work)

    async def start_quantize(self, actor: Actor, request: QuantizeRequest) -> JobView:
        """Makes a smaller model beside another; what header, type or place refuse is refused at once.

        Raises ChangeRefused, StateError, and AuditUnavailable; then nothing has begun.
        """
        try:
            plan = await self.plan_quantize(request)
        except ApplianceError as error:
            self._note(actor, "model.quantize", request.name, "deny", str(error))
            raise
        source = plan.source.name
        details: dict[str, str | int] = {"from": source, "from_sha256": origin_sha256(plan.source), "to": plan.to.name}
        await self._begin(actor, "model.quantize", plan.name, {**details, "bytes": plan.bytes})

        async def work(job: Job) -> Any:
            made = self._quantize_and_try(job, plan)
            return self.store.view(await self._recorded(actor, "model.quantize", plan.name, made))

        return self.jobs.start("quantize", plan.name, plan.bytes, work, reads=source).view()

    async def start_verify(self, actor: Actor, name: str) -> JobView:
        """Raises ChangeRefused, StateError, and AuditUnavailable; then nothing has begun."""
        manifest = await asyncio.to_thread(self.store.manifest, name)
        self._refuse_while_scrubbed(name)

        async def work(job: Job) -> Any:
            job.state = "hashing"
            verify = functools.partial(self.store.verify, name, self._signers(), job.advance, self._now)
            found = await job.in_thread(self._thread, verify)
            self._settle(actor, "model.verify", found)
            if found.fault is not None:
                raise StateError(f"{name} is damaged and may not be loaded: {found.fault}; import it again")
            return self.store.view(found)

        await self._begin(actor, "model.verify", name, {})
        return self.jobs.start("verify", name, manifest.bytes, work).view()

    async def remove(self, actor: Actor, name: str, *, quarantined: bool, why: str = "", plan: bool = False) -> None:
        """Takes a model away, from the store or from quarantine. why: for the audit log.

        Raises ChangeRefused or StateError.
        """
        await asyncio.to_thread(self.store.check_there, name, quarantined=quarantined)
        if self.jobs.works_on(name):
            raise ChangeRefused(
                "conflict", f"{name!r} is being imported, verified or quantised; cancel that, or wait for its end"
            )
        self._refuse_while_scrubbed(name)
        if plan:
            return
        await self._begin(
            actor, "model.remove", name, {"quarantined": int(quarantined), **({"why": why} if why else {})}
        )
        work = self.store.remove_quarantined if quarantined else self.store.remove
        try:
            await asyncio.to_thread(work, name)
        except StateError as error:
            self._note(actor, "model.remove", name, "failed", str(error))
            raise
        self._faults.pop(name, None)
        self._note(actor, "model.remove", name, "ok", "")

    async def scrub(self) -> None:
        """Until it is cancelled: verifies each model when its time has come, one after the other, slowly."""
        while True:
            for manifest in await self._survey():
                days = self._config().models.scrub_days
                if days > 0 and due(manifest.verified, self._now(), days) and not self.jobs.works_on(manifest.name):
                    await self._scrub(manifest)
            await asyncio.sleep(SCRUB_LOOK_SECONDS)

    async def close(self) -> None:
        """Ends what is under way; what was not finished leaves nothing behind."""
        await self.jobs.close()
        self._thread.shutdown()
        self._scrubber.shutdown()

    # ── one new model ─────────────────────────────────────────────────────────────────────────────────────────────

    def _opened(self, opened: contextlib.ExitStack, request: ImportRequest) -> tuple[Source, Expected]:
        """In a thread. What is opened stays so until `opened` closes."""
        try:
            source = opened.enter_context(open_source(request.path))
            return source, self._expected(request, source)
        except BaseException:
            opened.close()
            raise

    def _expected(self, request: ImportRequest, source: Source) -> Expected:
        config = self._config()
        expected = expect(request, source, self._signers(), require_signature=config.models.require_signature)
        self.store.check_room(expected.name, source.bytes, config.audit.disk_min_bytes)
        return expected

    async def _recorded(self, actor: Actor, action: str, name: str, making: Awaitable[Manifest]) -> Manifest:
        """What is made, with a record of what became of it."""
        try:
            manifest = await making
        except (ApplianceError, OSError) as error:
            self._note(actor, action, name, "failed", str(error))
            if isinstance(error, OSError):
                raise StateError(f"{name}: {error.strerror or error}") from error
            raise
        except asyncio.CancelledError:
            self._note(actor, action, name, "failed", "cancelled")
            raise
        details: dict[str, str | int] = {"sha256": manifest.files[0].sha256, "files": len(manifest.files)}
        if manifest.signer is not None:
            details["signer"] = manifest.signer.fingerprint
        self._note(actor, action, name, "ok", "", {**details, "bytes": manifest.bytes})
        return manifest

    async def _copy_and_try(self, job: Job, source: Source, expected: Expected) -> Manifest:
        job.state = "copying"
        # Again: it may have waited for its turn.
        self.store.check_room(expected.name, source.bytes, self._config().audit.disk_min_bytes)
        staged = await job.in_thread(
            self._thread, functools.partial(self.store.stage, source, expected.name, job.advance)
        )
        try:
            signer = compare(expected, {file.name: file.sha256 for file in staged.files}, self._signers())
            return await self._try_and_place(
                job, staged, source.path, signer=signer, signature=expected.signature, quantized_from=None
            )
        finally:
            await asyncio.to_thread(self.store.discard, staged.folder)

    async def _quantize_and_try(self, job: Job, plan: QuantizePlan) -> Manifest:
        job.state = "quantizing"
        spare = self._config().audit.disk_min_bytes
        # Again: it may have waited for its turn.
        self._check_whole(plan.source)
        self.store.check_room(plan.name, plan.bytes, spare)
        folder = await job.in_thread(self._thread, functools.partial(self.store.begin, plan.name, plan.file))
        try:
            await self._quantize(job, plan, folder, spare)
            self._check_whole(plan.source)
            job.enter("hashing", (folder / plan.file).lstat().st_size)
            take = functools.partial(self.store.take, folder, plan.name, plan.file, job.advance)
            staged = await job.in_thread(self._thread, take)
            origin = QuantizedFrom(
                name=plan.source.name,
                sha256=origin_sha256(plan.source),
                tensor_types=tensor_types(staged.header),
            )
            source = self.store.path(plan.source)
            return await self._try_and_place(job, staged, source, signer=None, signature=None, quantized_from=origin)
        finally:
            await asyncio.to_thread(self.store.discard, folder)

    async def _quantize(self, job: Job, plan: QuantizePlan, folder: Path, spare_bytes: int) -> None:
        """In a worker. Raises ChangeRefused and OSError."""
        order = QuantizeOrder(
            source=str(self.store.path(plan.source)),
            target=str(folder / plan.file),
            file_type=plan.to.number,
            # What must not be quantised again was refused; llama.cpp would not take Q8_0 either.
            requantize=True,
            threads=plan.threads,
            bytes_max=plan.bytes_max,
        )

        def progress(bytes_written: int) -> None:
            job.reach(bytes_written)
            self.store.check_left(spare_bytes)

        try:
            await self._quantizer(order, progress)
        except LoadError as error:
            _log.error("model %s cannot be quantised: %s", plan.source.name, error)
            raise quantize_failure(error) from error

    async def _try_and_place(
        self,
        job: Job,
        staged: Staged,
        source: Path,
        *,
        signer: SignerId | None,
        signature: bytes | None,
        quantized_from: QuantizedFrom | None,
    ) -> Manifest:
        job.state = "trying"
        info = await self._tried(staged, source)
        recheck(staged)
        manifest = new_manifest(
            staged.name,
            staged.files,
            staged.facts,
            signer=signer,
            source=str(source),
            now=self._now(),
            trial_seconds=round(info.load_seconds, 3),
            quantized_from=quantized_from,
        )
        place = functools.partial(self.store.place, staged, manifest, signature)
        await job.in_thread(self._thread, place, too_late_to_cancel=True)
        return manifest

    async def _tried(self, staged: Staged, source: Path) -> ModelInfo:
        try:
            return await self._trial(staged.first, staged.bytes)
        except LoadCrash as error:
            folder = await asyncio.to_thread(self.store.quarantine, staged, str(error), str(source), self._now())
            _log.error("model %s took its worker down when it was tried; it is in quarantine", staged.name)
            raise quarantine_note(error, folder) from error
        except LoadError as error:
            raise refusal(error) from error

    def _check_whole(self, manifest: Manifest) -> None:
        """A look at each file's status. Raises ChangeRefused where a model is not what was imported."""
        try:
            self.store.check_unchanged(self.store.path(manifest))
        except LoadError as error:
            raise ChangeRefused("conflict", str(error)) from None

    # ── scrubbing ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _scrub(self, manifest: Manifest) -> None:
        job = Job("verify", manifest.name, manifest.bytes, self._now())
        paced = Pace(self._config().models.scrub_mib_per_second * 2**20, job.advance)
        self._scrubbing = job
        try:
            verify = functools.partial(self.store.verify, manifest.name, self._signers(), paced, self._now)
            self._settle(APPLIANCE, "model.scrub", await job.in_thread(self._scrubber, verify))
        except ApplianceError as error:
            _log.error("model %s cannot be verified: %s", manifest.name, error)
            self._note(APPLIANCE, "model.scrub", manifest.name, "failed", str(error))
        finally:
            self._scrubbing = None

    def _settle(self, actor: Actor, action: str, manifest: Manifest) -> None:
        """What became of a verification, on record and in `degraded`."""
        if manifest.fault is None:
            self._faults.pop(manifest.name, None)
            self._note(actor, action, manifest.name, "ok", "", {"bytes": manifest.bytes})
        else:
            self._faults[manifest.name] = manifest.fault
            _log.error("model %s is damaged: %s", manifest.name, manifest.fault)
            self._note(actor, action, manifest.name, "failed", manifest.fault)

    def _refuse_while_scrubbed(self, name: str) -> None:
        if self._scrubbing is not None and self._scrubbing.name == name:
            raise ChangeRefused("conflict", f"{name!r} is being verified by the appliance itself; try again later")

    async def _survey(self) -> list[Manifest]:
        """All manifests that can be read. What is wrong with models becomes known on the way."""
        found, self._faults = await asyncio.to_thread(self._look)
        return found

    def _look(self) -> tuple[list[Manifest], dict[str, str]]:
        found, faults = [], {}
        for name in self.store.names():
            try:
                manifest = self.store.manifest(name)
            except ApplianceError as error:
                faults[name] = str(error)
                continue
            found.append(manifest)
            if manifest.fault is not None:
                faults[name] = manifest.fault
        return found, faults

    # ── records ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self, actor: Actor, action: str, resource: str, details: Mapping[str, str | int]) -> None:
        await self._audit.append_durably(
            AuditEvent(action=action, outcome="allow", actor=actor, resource=resource, details=details)
        )

    def _note(
        self,
        actor: Actor,
        action: str,
        resource: str,
        outcome: Outcome,
        reason: str,
        details: Mapping[str, str | int] | None = None,
    ) -> None:
        self._audit.append(
            AuditEvent(
                action=action,
                outcome=outcome,
                actor=actor,
                resource=resource,
                reason=reason or None,
                details=details or {},
            )
        )


def _under_way(view: JobView) -> str:
    share = 100 * view.bytes_done // max(1, view.bytes_total)
    return f"{view.kind} of model {view.name}: {view.state}, {share} % of its bytes"
