"""end to end: jobs over REST, with real processes, real files and a real S3 API; killed and started again."""

from __future__ import annotations

import io
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from tests.e2e.processes import Gateway, Process, Site, wait_for
from tests.e2e.rest import Answer

ROWS = 30_000
SERVICE = Path(__file__).parents[1] / "services" / "object_store.py"


def linear(a: float, b: float) -> bytes:
    """A model that answers x·a + y·b, exactly where these are small whole numbers."""
    file = io.BytesIO()
    torch.save({"coefs": torch.tensor([float(a), float(b)])}, file)
    return file.getvalue()


def put_linear(gateway: Gateway, version: str, a: float, b: float) -> None:
    """A new version of the model line, which answers who names none."""
    settings = f"/models/line/versions/{version}?activate=true&file=line.pt"
    answer = gateway.ask("PUT", settings, linear(a, b))
    assert answer.json["status"], answer


def post(gateway: Gateway, body: Any, **headers: str) -> Answer:
    return gateway.ask("POST", "/jobs", json.dumps(body).encode(), **headers)


def submit(gateway: Gateway, body: Any, **headers: str) -> str:
    """The id of a new job."""
    answer = post(gateway, body, **headers)
    assert answer.status == 202, answer
    job: str = answer.json["id"]
    assert answer.headers["location"] == f"/jobs/{job}"
    return job


def show(gateway: Gateway, job: str) -> dict[str, Any]:
    found: dict[str, Any] = gateway.ask("GET", f"/jobs/{job}").json
    return found


def result(gateway: Gateway, job: str, wait: float = 25) -> Answer:
    return gateway.ask("GET", f"/jobs/{job}/result?wait={wait}")


@pytest.fixture
def store(site: Site) -> dict[str, str]:
    """An S3 API: the environment that finds it."""
    process: Process = site.spawn(Process, SERVICE)
    url = process.wait_for_line("objects at").split()[-1]
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def open_store(store: dict[str, str]) -> Any:
    s3fs = pytest.importorskip("s3fs")
    return s3fs.S3FileSystem(
        endpoint_url=store["AWS_ENDPOINT_URL"], key="somebody", secret="secret", use_listings_cache=False,
        client_kwargs={"region_name": "us-east-1"}, skip_instance_cache=True,
    )  # fmt: skip


def test_a_batch_job_on_s3_outlives_kills_of_its_gateway_and_of_a_worker_with_each_row_once(
    site: Site, store: dict[str, str]
) -> None:
    s3 = open_store(store)
    s3.call_s3("create_bucket", Bucket="bucket")
    bad = {17, ROWS // 2, ROWS - 1}
    lines = ["nonsense" if n in bad else f"[{n},1]" for n in range(ROWS)]
    s3.pipe_file("bucket/in.jsonl", "\n".join(lines).encode())
    gateway = site.start_gateway(ephemeral=False, **store)
    workers = [site.spawn_worker() for _ in range(2)]
    gateway.wait_ready(2)
    put_linear(gateway, "1", 1, 100_000)
    job = submit(
        gateway,
        {"model": "line", "input": "s3://bucket/in.jsonl", "output": "s3://bucket/out.jsonl"},
        idempotency_key="once",
    )
    wait_for(lambda: show(gateway, job)["rows_done"], "the first chunk is kept")
    workers[0].kill()
    gateway.kill()
    assert not s3.exists("bucket/out.jsonl")
    gateway = site.start_gateway(ephemeral=False, **store)
    seen = show(gateway, job)
    assert seen["state"] in ("queued", "running")
    assert 0 < seen["progress"] < 1
    put_linear(gateway, "2", 2, 0)  # the job keeps the version that it was admitted under
    assert post(gateway, {"model": "line"}, idempotency_key="once").status == 422
    done = result(gateway, job).json
    assert (done["state"], done["rows_done"], done["rows_failed"]) == ("done", ROWS, len(bad))
    answers = [json.loads(line) for line in s3.cat_file("bucket/out.jsonl").splitlines()]
    assert [answer["row"] for answer in answers] == list(range(1, ROWS + 1))
    for n, answer in enumerate(answers):
        if n in bad:
            assert answer["error"].startswith("the line is no row")
        else:
            assert answer["result"] == n + 100_000
    assert show(gateway, job)["version"] == "1"


def test_a_job_accepted_before_a_kill_is_answered_after_the_restart(site: Site) -> None:
    gateway = site.start_gateway(ephemeral=False)
    put_linear(gateway, "1", 1, 10)
    body = {"model": "line", "vectors": [[n, 1] for n in range(500)]}
    job = submit(gateway, body, idempotency_key="k1")
    gateway.kill()
    gateway = site.start_gateway(ephemeral=False)
    assert submit(gateway, body, idempotency_key="k1") == job
    early = gateway.ask("GET", f"/jobs/{job}/result")
    assert (early.status, early.headers["retry-after"], early.json["rows_done"]) == (202, "1", 0)
    worker = site.spawn_worker()
    assert result(gateway, job).json == {
        "status": True, "message": "1", "results": [float(n + 10) for n in range(500)],
    }  # fmt: skip
    gateway.kill()
    worker.kill()
    gateway = site.start_gateway(ephemeral=False)
    assert len(result(gateway, job).json["results"]) == 500


@pytest.fixture(scope="module")
def served(shared_site: Site) -> Gateway:
    """A gateway with a worker, a folder for batch jobs and callbacks to this machine."""
    (shared_site.folder / "files").mkdir()
    gateway = shared_site.start_gateway(
        "--batch_root", str(shared_site.folder / "files"), "--webhook_hosts", "127.0.0.1", "--jobs_max", "50"
    )
    shared_site.spawn_worker()
    gateway.wait_ready(1)
    put_linear(gateway, "1", 1, 10)
    return gateway


@pytest.fixture
def files(shared_site: Site) -> Path:
    return shared_site.folder / "files"


def test_answers_have_the_shape_that_a_prediction_would_have(served: Gateway) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
    asked: list[dict[str, Any]] = [{"vector": [1, 2]}, {"vectors": [[1, 2], [3, 4]]}, {"inputs": [tensor]}]
    for rows in asked:
        now = served.ask("POST", "/models/line/predict", json.dumps(rows).encode())
        later = result(served, submit(served, {"model": "line", **rows}))
        assert (later.status, later.json) == (200, now.json)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_local_file_of_each_format_is_answered_beside_it(served: Gateway, files: Path, kind: str) -> None:
    table = {"x": [1.0, 2.0, 3.0], "y": [1.0, 1.0, 1.0]}
    source = files / f"in.{kind}"
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(table), source)
    elif kind == "csv":
        source.write_text("x,y\n1,1\n2,1\n3,1\n")
    else:
        source.write_text("[1,1]\n[2,1]\n[3,1]\n")
    urls = {"input": source.as_uri(), "output": (files / f"out.{kind}").as_uri()}
    done = result(served, submit(served, {"model": "line", **urls})).json
    assert (done["state"], done["rows_total"], done["progress"], done["format"]) == ("done", 3, 1.0, kind)
    if kind == "parquet":
        read = pytest.importorskip("pyarrow.parquet").read_table(files / "out.parquet").to_pydict()
        assert read == {"row": [1, 2, 3], "result": [11.0, 12.0, 13.0], "error": [None] * 3}
    else:
        assert (files / f"out.{kind}").read_text() == {
            "csv": "row,result,error\n1,11.0,\n2,12.0,\n3,13.0,\n",
            "jsonl": '{"row":1,"result":11.0}\n{"row":2,"result":12.0}\n{"row":3,"result":13.0}\n',
        }[kind]
    assert not list(files.glob(".*"))


def refusals(files: Path) -> list[tuple[Any, str]]:
    csv, out = (files / "in.csv").as_uri(), (files / "out").as_uri()
    (files / "in.csv").write_text("x,y\n1,1\n")
    (files / "link.csv").symlink_to("/etc/hostname")
    row = {"model": "line", "vector": [1, 1]}
    return [
        ({}, "give one of vector, vectors and inputs, or input and output of a batch job"),
        (row | {"vectors": [[1, 1]]}, "give one of vector"),
        (row | {"ttl_s": 0}, "request body has a wrong shape: Expected `float` > 0.0 - at `$.ttl_s`"),
        (row | {"priority": 101}, "request body has a wrong shape: Expected `int` <= 100 - at `$.priority`"),
        (row | {"rows": 1}, "request body has a wrong shape: Object contains unknown field `rows` (allowed"),
        (row | {"callback_url": "http://10.0.0.1/"}, "callback_url goes to 10.0.0.1, and allowed"),
        (row | {"callback_url": "file:///etc/passwd"}, "callback_url should be http:// or https://"),
        ({"model": "line", "vectors": [[1], [1, 2]]}, "vectors[1] has 2 numbers and vectors[0] has 1"),
        ({"input": csv}, "a batch job has input and output"),
        ({"input": csv, "output": csv}, "input and output are the same file"),
        ({"input": out, "output": csv}, "format should be one of csv, jsonl, parquet"),
        ({"input": "file:///etc/passwd", "output": out, "format": "csv"}, "file:///etc/passwd is not below"),
        ({"input": f"{files.as_uri()}/../x.csv", "output": out}, f"{files.as_uri()}/../x.csv is not below"),
        ({"input": (files / "link.csv").as_uri(), "output": out}, f"{files.as_uri()}/link.csv is not below"),
        ({"input": csv, "output": "file:///tmp/x"}, "file:///tmp/x is not below the folder that"),
        ({"input": csv, "output": f"{out}/none/x"}, f"{out}/none/x: there is no folder of that name"),
        ({"input": f"{files.as_uri()}/no.csv", "output": out}, f"{files.as_uri()}/no.csv is not there"),
        ({"input": csv, "output": out, "columns": ["z"]}, "there is no column 'z': the header has x, y"),
        ({"input": csv, "output": out, "format": "parquet"}, "the input is no parquet file"),
        ({"input": "http://127.0.0.1/x.csv", "output": out}, "'http://127.0.0.1/x.csv' should begin with"),
        ({"input": "s3://bucket", "output": out, "format": "csv"}, "'s3://bucket' should be s3:// with"),
    ]  # fmt: skip


def test_what_is_wrong_with_a_job_is_said_at_once_in_a_sentence(served: Gateway, files: Path) -> None:
    for body, sentence in refusals(files):
        answer = post(served, {"model": "line"} | body)
        assert answer.status == 400, (body, answer)
        assert answer.json["status"] is False
        assert answer.json["message"].startswith(sentence), (body, answer.json)
    assert post(served, {"model": "nobody", "vector": [1]}).status == 404
    assert post(served, {"model": "line", "vector": [1, 1]}, idempotency_key="a b").status == 400


def test_what_is_not_there_is_404_and_other_methods_are_405(served: Gateway) -> None:
    for path in ("/jobs/nobody", "/jobs/nobody/result"):
        answer = served.ask("GET", path)
        assert (answer.status, answer.json) == (404, {"status": False, "message": "there is no job nobody"})
    assert served.ask("DELETE", "/jobs/nobody").status == 404
    refused = served.ask("PUT", "/jobs")
    assert (refused.status, set(refused.headers["allow"].split(", "))) == (405, {"GET", "HEAD", "POST"})
    assert served.ask("POST", "/jobs/nobody").status == 405


def test_a_row_that_the_model_refuses_fails_its_job_with_its_number(served: Gateway) -> None:
    job = submit(served, {"model": "line", "vectors": [[1, 2, 3]]})
    failed = result(served, job)
    assert (failed.status, failed.json["status"], failed.json["state"]) == (200, False, "failed")
    assert failed.json["message"].startswith("row 0: ")


def test_a_result_goes_when_its_time_is_over_and_a_job_that_is_deleted_is_forgotten(served: Gateway) -> None:
    job = submit(served, {"model": "line", "vector": [1, 1], "ttl_s": 0.5})
    assert result(served, job).status == 200
    wait_for(lambda: result(served, job).status == 410, "the result expires")
    assert show(served, job)["state"] == "expired"
    job = submit(served, {"model": "line", "vector": [1, 1]})
    assert result(served, job).status == 200
    assert served.ask("DELETE", f"/jobs/{job}").json == {"status": True, "message": "OK"}
    assert result(served, job).status == 404


def test_pages_are_newest_first_and_stay_as_they_are_while_jobs_come(served: Gateway) -> None:
    jobs = [submit(served, {"model": "line", "vector": [n, 1]}) for n in range(5)]
    for job in jobs:
        assert result(served, job).status == 200
    first = served.ask("GET", "/jobs?limit=2&state=done").json
    submit(served, {"model": "line", "vector": [1, 1]})
    second = served.ask("GET", f"/jobs?limit=2&state=done&cursor={first['cursor']}").json
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == jobs[:0:-1]
    assert served.ask("GET", "/jobs?state=running&limit=1000").json["cursor"] is None
    for query, name in (
        ("state=lost", "state"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("cursor=-1", "cursor"),
    ):
        answer = served.ask("GET", f"/jobs?{query}")
        assert answer.status == 400
        assert answer.json["message"].startswith(f"{name} should be ")


def test_a_callback_says_what_became_of_the_job(served: Gateway) -> None:
    heard: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204 if len(heard) > 1 else 500)  # the first is tried again
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/done"
        job = submit(served, {"model": "line", "vector": [1, 1], "callback_url": url})
        wait_for(lambda: len(heard) == 2, "the second callback")
        server.shutdown()
        thread.join()
    assert [(each["id"], each["state"]) for each in heard] == [(job, "done")] * 2
