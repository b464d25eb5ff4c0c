"""appliance.model_store.jobs"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from appliance.errors import ChangeRefused
from appliance.model_store.jobs import KEPT_MAX, LIVE_MAX, Job, Jobs
from tests.unit.model_store.conftest import NOW


@pytest.fixture
async def jobs() -> AsyncIterator[Jobs]:
    jobs = Jobs(lambda: NOW)
    yield jobs
    await jobs.close()


async def ended(job: Job) -> Job:
    assert job.task is not None
    await asyncio.wait((job.task,))
    assert job.ended
    return job


async def test_what_comes_of_it(jobs: Jobs) -> None:
    async def work(job: Job) -> str:
        job.advance(7)
        return "result"

    async def refused(job: Job) -> str:
        raise ChangeRefused("invalid", "no")

    async def broken(job: Job) -> str:
        raise ZeroDivisionError

    view = (await ended(jobs.start("import", "a", 10, work))).view()
    assert (view.state, view.bytes_done, view.bytes_total, view.result) == ("done", 7, 10, "result")
    assert (await ended(jobs.start("verify", "a", 10, refused))).view().error == "no"
    assert "internal error (ZeroDivisionError)" in str((await ended(jobs.start("import", "a", 1, broken))).error)
    assert [view.state for view in jobs.views()] == ["done", "failed", "failed"]
    with pytest.raises(ChangeRefused, match="there is no job"):
        jobs.find("x")


async def test_one_after_the_other_and_not_too_many(jobs: Jobs) -> None:
    go = asyncio.Event()

    async def work(job: Job) -> None:
        job.state = "hashing"
        await go.wait()

    started = [jobs.start("verify", f"m{number}", 1, work) for number in range(LIVE_MAX)]
    await asyncio.sleep(0)
    assert [job.state for job in started] == ["hashing"] + ["waiting"] * (LIVE_MAX - 1)
    assert jobs.works_on("m3")
    assert not jobs.works_on("other")
    with pytest.raises(ChangeRefused, match="under way; wait for one to end"):
        jobs.start("verify", "more", 1, work)
    go.set()
    await ended(started[-1])
    with pytest.raises(ChangeRefused, match="already"):
        go.clear()
        jobs.start("verify", "a", 1, work)
        jobs.start("verify", "a", 1, work)


async def test_old_ones_are_forgotten(jobs: Jobs) -> None:
    async def work(job: Job) -> None:
        pass

    for number in range(KEPT_MAX + 3):
        await ended(jobs.start("verify", f"m{number}", 1, work))
    assert len(jobs.views()) == KEPT_MAX
    assert jobs.views()[0].name == "m3"


async def test_cancelling_waits_for_the_thread(jobs: Jobs) -> None:
    began, left = threading.Event(), threading.Event()

    async def work(job: Job) -> None:
        def copying() -> None:
            try:
                while True:
                    began.set()
                    job.advance(1)
            finally:
                left.set()

        with ThreadPoolExecutor(1) as executor:
            await job.in_thread(executor, copying)

    job = jobs.start("import", "a", 10, work)
    await asyncio.to_thread(began.wait)
    job.cancel()
    await ended(job)
    assert left.is_set()
    assert job.error == "it was cancelled; nothing of it is left"


async def test_what_is_done_is_done(jobs: Jobs) -> None:
    """Cancelled while the model gets its name: it has it."""
    began, go = threading.Event(), threading.Event()

    def placing() -> str:
        began.set()
        go.wait()
        return "placed"

    async def work(job: Job) -> str:
        with ThreadPoolExecutor(1) as executor:
            return await job.in_thread(executor, placing, too_late_to_cancel=True)

    job = jobs.start("import", "a", 10, work)
    await asyncio.to_thread(began.wait)
    job.cancel()
    await asyncio.sleep(0)
    go.set()
    assert (await ended(job)).view().result == "placed"
    assert job.state == "done"


async def test_one_that_never_had_its_turn(jobs: Jobs) -> None:
    go = asyncio.Event()

    async def work(job: Job) -> None:
        await go.wait()

    jobs.start("import", "a", 1, work)
    second = jobs.start("import", "b", 1, work)
    await asyncio.sleep(0)
    second.cancel()
    await ended(second)
    assert second.state == "failed"


async def test_each_state_counts_its_own_bytes_and_never_back(jobs: Jobs) -> None:
    seen: list[tuple[str, int, int]] = []

    def look(job: Job) -> None:
        view = job.view()
        seen.append((view.state, view.bytes_done, view.bytes_total))

    async def work(job: Job) -> None:
        job.enter("quantizing", 10)
        for count in (4, 3, 12):
            job.reach(count)
            look(job)
        job.enter("hashing", 20)
        look(job)

    await ended(jobs.start("quantize", "new", 10, work))
    assert seen == [("quantizing", 4, 10), ("quantizing", 4, 10), ("quantizing", 10, 10), ("hashing", 0, 20)]


async def test_a_job_holds_the_model_that_it_reads(jobs: Jobs) -> None:
    goes_on = asyncio.Event()

    async def work(job: Job) -> None:
        await goes_on.wait()

    job = jobs.start("quantize", "new", 1, work, reads="old")
    assert jobs.works_on("old") and jobs.works_on("new") and not jobs.works_on("other")
    goes_on.set()
    await ended(job)
    assert not jobs.works_on("old")
