"""What is raised in a thread becomes the failure of a row."""

from actors.pools import failure_of
from schemas.report import FailureKind


def test_a_machine_without_memory_is_not_the_fault_of_the_source() -> None:
    """It would be final: the same pixels again give the same fault."""
    failure = failure_of(MemoryError(), FailureKind.BAD_SOURCE, "source_unreadable")
    assert (failure.kind, failure.code) == (FailureKind.ENGINE, "renderer_memory")


def test_anything_else_that_a_decoder_raises_is() -> None:
    failure = failure_of(ValueError("odd"), FailureKind.BAD_SOURCE, "source_unreadable")
    assert (failure.kind, failure.code, failure.detail) == (
        FailureKind.BAD_SOURCE,
        "source_unreadable",
        "ValueError: odd",
    )
