"""Pure: gateway/scheduling/requests.py; whose a request is."""

from common.tensor import vector_spec
from gateway.scheduling.requests import Batch, ModelKey, Request, Stage

KEY = ModelKey("default", "1")


def flying(worker: str, rows: int = 1) -> Request:
    request = Request(
        KEY, vector_spec(1), (bytes(4 * rows),), rows,
        admitted=0.0, deadline=1.0, route=None, reply=lambda answer: None,
    )  # fmt: skip
    request.stage, request.worker = Stage.FLYING, worker
    return request


def test_a_batch_counts_its_rows_and_has_an_id_of_its_own() -> None:
    one = Batch("w", KEY, [flying("w", 2), flying("w", 3)], alone=False)
    other = Batch("w", KEY, [], alone=False)
    assert (one.rows, other.rows) == (5, 0)
    assert one.id < other.id


def test_a_batch_lets_go_of_requests_that_are_over_or_were_moved_on() -> None:
    stays, over, queued, elsewhere = (flying("w") for _ in range(4))
    batch = Batch("w", KEY, [over, queued, elsewhere, stays], alone=False)
    assert batch.wanted() == [over, queued, elsewhere, stays]
    over.stage = Stage.OVER
    queued.stage = Stage.WAITING
    elsewhere.worker = "v"
    assert batch.wanted() == [stays]


def test_a_new_request_is_nobodys_and_blameless() -> None:
    request = Request(KEY, (), (), 1, admitted=0.0, deadline=1.0, route=3, reply=lambda answer: None)
    assert (request.stage, request.worker, request.strikes, request.sent) == (Stage.NEW, None, 0, 0.0)
