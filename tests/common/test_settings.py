"""Pure: common/settings.py; flags and variables in, a frozen dataclass or a sentence on stderr out."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.flags import parse_size
from common.scaling_settings import ScalingSettings
from common.settings import FleetSettings, GatewaySettings, WorkerSettings, read_settings
from gateway.autoscaler.policy import Parameters

NOTHING: Mapping[str, str] = {}


def gateway(*argv: str, environ: Mapping[str, str] = NOTHING) -> GatewaySettings:
    return read_settings(GatewaySettings, argv, environ, prog="gw.py", description="The gateway.")


def worker(*argv: str, environ: Mapping[str, str] = NOTHING) -> WorkerSettings:
    return read_settings(WorkerSettings, argv, environ, prog="worker.py", description="A worker.")


def refusal(
    capsys: pytest.CaptureFixture[str],
    *argv: str,
    environ: Mapping[str, str] = NOTHING,
    of: type = GatewaySettings,
) -> str:
    with pytest.raises(SystemExit) as caught:
        (gateway if of is GatewaySettings else worker)(*argv, environ=environ)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    first = next(line for line in err.splitlines() if "error: " in line)
    return first.partition("error: ")[2]


def test_the_gateway_without_flags_has_the_ports_of_the_contract() -> None:
    assert gateway() == GatewaySettings(
        addr_rest="127.0.0.1:54321",
        addr_service="ws://127.0.0.1:54000",
        addr_worker="ws://127.0.0.1:54001",
        workers=None,
        state="./state",
        ephemeral=False,
        insecure=False,
        queue_max=10000,
        timeout=30.0,
        max_body=8388608,
        max_upload=1073741824,
        max_rows=65536,
        threads=None,
        cache_size=10000,
        device="auto",
        log_level="info",
    )


def test_the_worker_without_flags_dials_where_the_gateway_listens() -> None:
    assert worker() == WorkerSettings(
        addr_service="ws://127.0.0.1:54000",
        addr_worker="ws://127.0.0.1:54001",
        threads=None,
        cache_size=10000,
        device="auto",
        name=None,
        log_level="info",
        check=None,
        exit_with_parent=False,
    )


@pytest.mark.parametrize(
    "argv", [["--queue_max", "5"], ["--queue-max", "5"], ["--queue_max=5"], ["--queue-max=5"]]
)
def test_a_flag_is_taken_with_underscores_and_with_dashes(argv: list[str]) -> None:
    assert gateway(*argv).queue_max == 5


def test_dashes_in_a_value_stay() -> None:
    assert gateway("--state=a-b").state == "a-b"
    assert worker("--name", "w-1").name == "w-1"


def test_every_flag_also_comes_from_the_environment_and_the_flag_wins() -> None:
    environ = {"PIPELINE_QUEUE_MAX": "7", "PIPELINE_MAX_BODY": "64M", "PIPELINE_LOG_LEVEL": "DEBUG"}
    settings = gateway("--queue_max", "5", environ=environ)
    assert (settings.queue_max, settings.max_body, settings.log_level) == (5, 64 << 20, "debug")


def test_an_empty_variable_counts_as_none() -> None:
    assert gateway(environ={"PIPELINE_QUEUE_MAX": ""}).queue_max == 10000


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("true", True), ("YES", True), ("0", False), ("False", False), ("no", False)],
)
def test_a_boolean_variable_takes_the_usual_words(text: str, value: bool) -> None:
    assert gateway(environ={"PIPELINE_EPHEMERAL": text}).ephemeral is value


def test_variables_of_the_other_process_and_of_the_scripts_are_known() -> None:
    environ = {"PIPELINE_URL": "http://x", "PIPELINE_NAME": "w", "PIPELINE_ADDR_REST": ":::", "HOME": "/"}
    assert worker(environ={**environ}).name == "w"
    assert gateway(environ={"PIPELINE_NAME": "not a name"}).workers is None


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--quue_max", "5"], "unknown argument --quue_max: did you mean --queue_max?"),
        (["--quue-max=5"], "unknown argument --quue_max=5: did you mean --queue_max?"),
        (["--queue", "5"], "unknown argument --queue: did you mean --queue_max?"),
        (["--zzz"], "unknown argument --zzz"),
        (["Pure"], "unknown argument Pure"),
        (["-x"], "unknown argument -x"),
        (["--check", "x"], "unknown argument --check"),
        (["--workers"], "argument --workers: expected one argument"),
        (["--workers", "-1"], "--workers must be 0 or more, not -1"),
        (["--workers", "two"], "--workers must be a whole number, not 'two'"),
        (["--workers", "٣"], "--workers must be a whole number, not '٣'"),
        (["--workers", "9" * 5000], f"--workers must be a whole number, not '{'9' * 5000}'"),
        (["--queue_max", "0"], "--queue_max must be 1 or more, not 0"),
        (["--threads", "0"], "--threads must be 1 or more, not 0"),
        (["--timeout", "0"], "--timeout must be more than 0 seconds and finite, not 0.0"),
        (["--timeout", "nan"], "--timeout must be more than 0 seconds and finite, not nan"),
        (["--timeout", "inf"], "--timeout must be more than 0 seconds and finite, not inf"),
        (["--timeout", "soon"], "--timeout must be a number of seconds, not 'soon'"),
        (["--max_body", "8MB"], "--max_body must be a size like 1000000, 512k, 64M or 1GiB, not '8MB'"),
        (["--max_body", "0"], "--max_body must be 1 or more, not 0"),
        (["--device", "tpu"], "--device must be cpu, cuda or auto, not 'tpu'"),
        (["--log_level", "loud"], "--log_level must be debug, info, warning or error, not 'loud'"),
        (["--state", ""], "--state must be a path, not ''"),
        (
            ["--ephemeral", "--state", "./state"],
            "--ephemeral cannot be given together with --state: leave one out",
        ),
    ],
)
def test_nonsense_is_refused_with_a_sentence(
    capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str
) -> None:
    assert refusal(capsys, *argv) == sentence


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (
            {"PIPELINE_QUEUE_MAXX": "1"},
            "unknown environment variable PIPELINE_QUEUE_MAXX: did you mean PIPELINE_QUEUE_MAX?",
        ),
        ({"PIPELINE_": "1"}, "unknown environment variable PIPELINE_"),
        ({"PIPELINE_FOO": "1"}, "unknown environment variable PIPELINE_FOO"),
        ({"PIPELINE_QUEUE_MAX": "x"}, "PIPELINE_QUEUE_MAX must be a whole number, not 'x'"),
        (
            {"PIPELINE_INSECURE": "maybe"},
            "PIPELINE_INSECURE must be one of 1, true, yes, 0, false, no, not 'maybe'",
        ),
        (
            {"PIPELINE_EPHEMERAL": "1", "PIPELINE_STATE": "x"},
            "PIPELINE_EPHEMERAL cannot be given together with PIPELINE_STATE: leave one out",
        ),
    ],
)
def test_nonsense_in_the_environment_is_refused_and_named(
    capsys: pytest.CaptureFixture[str], environ: dict[str, str], sentence: str
) -> None:
    assert refusal(capsys, environ=environ) == sentence


def test_both_processes_refuse_an_unknown_variable(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refusal(capsys, environ={"PIPELINE_THREAD": "1"}, of=WorkerSettings)
    assert sentence == "unknown environment variable PIPELINE_THREAD: did you mean PIPELINE_THREADS?"


@pytest.mark.parametrize("name", ["", "two words", "a\nb", "é", "x" * 65])
def test_a_worker_name_fits_a_header(capsys: pytest.CaptureFixture[str], name: str) -> None:
    sentence = refusal(capsys, "--name", name, of=WorkerSettings)
    assert sentence.startswith("--name must be up to 64 letters, digits and . _ : @ - without spaces, not ")


@pytest.mark.parametrize(
    "argv",
    [
        ["--addr_rest", "0.0.0.0:54321"],
        ["--addr_rest", "[::]:54321"],
        ["--addr_rest", "192.168.1.5:80"],
        ["--addr_rest", "localhost.example.com:80"],
    ],
)
def test_an_address_that_others_reach_takes_insecure(
    capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    cure = "--tokens, or --insecure" if argv[0] == "--addr_rest" else "--insecure"
    assert refusal(capsys, *argv) == (
        f"{argv[0]} {argv[1]} can be reached from other machines, and anybody who reaches it can use it and"
        f" replace the weights: give {cure} if that is what you want"
    )


FLEET = [["--addr_service", "ws://0.0.0.0:54000"], ["--addr_worker", "tcp://10.0.0.1:54001"]]


@pytest.mark.parametrize("argv", FLEET)
def test_an_address_of_the_fleet_that_others_reach_takes_a_token_or_certificates(
    capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    assert refusal(capsys, *argv) == (
        f"{argv[0]} {argv[1]} can be reached from other machines, and anybody who reaches it can pose as a"
        " worker: give --fleet_token_file, or wss:// with certificates, or --insecure if that is what you"
        " want"
    )
    for allowed in (["--fleet_token_file", "token"], ["--fleet_token", "secret"], ["--insecure"]):
        read_settings(GatewaySettings, [*argv, *allowed], NOTHING, prog="gw.py", description="")
    assert gateway(*argv, "--insecure").insecure is True


@pytest.mark.parametrize("rest", ["127.0.0.1:0", "127.9.9.9:80", "[::1]:54321", "localhost:80"])
def test_loopback_needs_no_leave(rest: str) -> None:
    assert gateway("--addr_rest", rest, "--addr_service", "ipc:///tmp/service").addr_rest == rest


def test_a_worker_dials_wherever_it_is_told() -> None:
    assert worker("--addr_service", "ws://gateway.example.com:443").exit_with_parent is False


FILES = ("--fleet_ca", "ca.pem", "--fleet_cert", "own.pem", "--fleet_key", "own.key")


@pytest.mark.parametrize("of", [GatewaySettings, WorkerSettings])
def test_a_secure_address_takes_all_three_files(capsys: pytest.CaptureFixture[str], of: type) -> None:
    secure = ("--addr_service", "wss://127.0.0.1:443")
    assert refusal(capsys, *secure, *FILES[:2], of=of) == (
        "--addr_service wss://127.0.0.1:443 takes certificates: give --fleet_cert, --fleet_key too"
        " (python gw.py certs init makes them)"
    )
    read = gateway if of is GatewaySettings else worker
    assert read(*secure, *FILES).certificates == (Path("ca.pem"), Path("own.pem"), Path("own.key"))
    assert read().certificates is None


@pytest.mark.parametrize("scheme", ["wss", "tls+tcp"])
def test_an_address_that_refuses_strangers_may_be_reached_by_them(scheme: str) -> None:
    addresses = ("--addr_service", f"{scheme}://0.0.0.0:1", "--addr_worker", f"{scheme}://[::]:2")
    assert gateway(*addresses, *FILES).insecure is False


def test_certificates_that_nothing_would_use_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for of in (GatewaySettings, WorkerSettings):
        assert refusal(capsys, *FILES, of=of) == (
            "certificates are for addresses that begin with wss:// or tls+tcp://"
        )
    local = ("--addr_service", "ipc:///run/service", "--addr_worker", "ipc:///run/link")
    assert worker(*local, *FILES).certificates is not None  # it sees the gateway's variables


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "ws://127.0.0.1", "tcp://[::1", "ipc://", "x"])
def test_an_address_of_the_fleet_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], address: str
) -> None:
    for of in (GatewaySettings, WorkerSettings):
        assert refusal(capsys, "--addr_worker", address, of=of).startswith("--addr_worker cannot be used: ")


def test_settings_made_in_code_are_checked_as_well() -> None:
    with pytest.raises(ValueError, match=r"^--queue_max must be 1 or more, not 0$"):
        GatewaySettings(queue_max=0)
    with pytest.raises(ValueError, match=r"^--addr_rest 0\.0\.0\.0:1 can be reached from other machines"):
        GatewaySettings(addr_rest="0.0.0.0:1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        gateway().queue_max = 1  # type: ignore[misc]


def test_grpc_is_off_unless_asked_for_and_has_a_usual_address() -> None:
    def read(*argv: str, **environ: str) -> GatewaySettings:
        return read_settings(GatewaySettings, argv, environ, prog="gw.py", description="")

    assert read().addr_grpc is None
    assert read("--addr_grpc").addr_grpc == "127.0.0.1:8001"
    assert read("--addr-grpc", "--workers", "2").addr_grpc == "127.0.0.1:8001"
    assert read("--addr_grpc", "[::1]:5").addr_grpc == "[::1]:5"
    assert read(PIPELINE_ADDR_GRPC="127.0.0.1:9").addr_grpc == "127.0.0.1:9"
    with pytest.raises(ValueError, match=r"^--addr_grpc 0\.0\.0\.0:1 can be reached from other machines"):
        GatewaySettings(addr_grpc="0.0.0.0:1")


def test_what_models_may_do_is_nothing_unless_it_is_said() -> None:
    for settings in (gateway(), worker()):
        assert (settings.allow_pickle, settings.allow_code, settings.trusted) == (False, (), ())
    assert worker().models == ()


@pytest.mark.parametrize("read", [gateway, worker])
def test_both_processes_are_told_what_models_may_do(read: type) -> None:
    settings = read("--allow-pickle", "--allow-code", "my_nets,shop.*", "--trusted=numpy.dtype, shop.Scaler")
    assert settings.allow_pickle is True
    assert settings.allow_code == ("my_nets", "shop.*")
    assert settings.trusted == ("numpy.dtype", "shop.Scaler")
    environ = {"PIPELINE_ALLOW_PICKLE": "yes", "PIPELINE_ALLOW_CODE": "shop", "PIPELINE_TRUSTED": "a.B"}
    settings = read(environ=environ)
    assert (settings.allow_pickle, settings.allow_code, settings.trusted) == (True, ("shop",), ("a.B",))


def test_a_worker_is_told_which_models_it_may_hold() -> None:
    assert worker("--models", "iris, text-*,v[12]?").models == ("iris", "text-*", "v[12]?")
    assert worker(environ={"PIPELINE_WORKER_MODELS": "iris"}).models == ("iris",)


def test_a_gateway_and_its_workers_may_see_one_environment() -> None:
    environ = {"PIPELINE_MODELS_DIR": "./models", "PIPELINE_WORKER_MODELS": "iris,text-*"}
    assert gateway(environ=environ).models == "./models"
    assert worker(environ=environ).models == ("iris", "text-*")


@pytest.mark.parametrize("of", [GatewaySettings, WorkerSettings])
@pytest.mark.parametrize("value", ["./models", "iris,text-*"])
def test_a_variable_that_could_mean_a_folder_or_names_is_refused(
    capsys: pytest.CaptureFixture[str], of: type, value: str
) -> None:
    assert refusal(capsys, environ={"PIPELINE_MODELS": value}, of=of) == (
        "PIPELINE_MODELS could mean two things: give PIPELINE_MODELS_DIR for the gateway's folder of models,"
        " PIPELINE_WORKER_MODELS for the names of the models that a worker holds"
    )


def test_a_variable_that_is_nonsense_is_named_as_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, environ={"PIPELINE_WORKER_MODELS": "a/b"}, of=WorkerSettings) == (
        "PIPELINE_WORKER_MODELS must be names, with * and ? in them or not, and commas between, not 'a/b'"
    )
    assert refusal(capsys, environ={"PIPELINE_WORKER_MODEL": "a"}) == (
        "unknown environment variable PIPELINE_WORKER_MODEL: did you mean PIPELINE_WORKER_MODELS?"
    )


@pytest.mark.parametrize("flag", ["--allow_code", "--trusted", "--models"])
@pytest.mark.parametrize(("text", "part"), [("", ""), ("a,,b", ""), ("a,b c", "b c"), ("a/b", "a/b")])
def test_a_pattern_that_is_none_is_refused_and_named(
    capsys: pytest.CaptureFixture[str], flag: str, text: str, part: str
) -> None:
    assert refusal(capsys, flag, text, of=WorkerSettings) == (
        f"{flag} must be names, with * and ? in them or not, and commas between, not {part!r}"
    )


def test_an_ephemeral_gateway_has_no_state_directory() -> None:
    assert gateway("--ephemeral").state_directory is None
    assert gateway(environ={"PIPELINE_EPHEMERAL": "0", "PIPELINE_STATE": "x"}).state_directory == Path("x")


VARIABLES = {
    (GatewaySettings, "models"): "MODELS_DIR",
    (WorkerSettings, "models"): "WORKER_MODELS",
    (WorkerSettings, "config"): "WORKER_CONFIG",
}


@pytest.mark.parametrize("cls", [GatewaySettings, WorkerSettings])
def test_help_names_every_flag_its_variable_and_its_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cls: type[FleetSettings]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        read_settings(cls, ["-h"], NOTHING, prog="x.py", description="What it is.")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    hidden = {"exit_with_parent", "fork_server", "fleet_token"}
    for each in dataclasses.fields(cls):
        variable = f"[PIPELINE_{VARIABLES.get((cls, each.name), each.name.upper())}]"
        is_shown = re.search(rf"--{each.name}\b", shown) is not None
        assert (variable in shown) is is_shown is (each.name not in hidden), each.name
    assert "What it is." in shown
    assert "(default: ws://127.0.0.1:54000) [PIPELINE_ADDR_SERVICE]" in shown
    if cls is GatewaySettings:
        assert "(default: 8 MiB) [PIPELINE_MAX_BODY]" in shown


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("512k", 524288),
        ("512K", 524288),
        ("64M", 67108864),
        ("1G", 1073741824),
        ("1GiB", 1073741824),
        ("8 MiB", 8388608),
        ("2t", 2199023255552),
    ],
)
def test_sizes_take_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(st.text())
def test_any_text_is_a_size_or_refused_with_a_sentence(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except ValueError as error:
        assert str(error).startswith("must be a size like ")  # noqa: PT017 - either is right


# --- how many workers


@pytest.mark.parametrize(
    ("argv", "scale"),
    [
        ([], (0, 0, 0)),
        (["--workers", "3"], (3, 3, 3)),
        (["--min_workers", "2"], (2, 2, 2)),
        (["--max_workers", "4"], (0, 0, 4)),
        (["--min_workers", "1", "--max_workers", "4"], (1, 1, 4)),
        (["--num_init_workers", "2", "--max_workers", "4"], (2, 0, 4)),
        (["--num_init_workers", "2"], (2, 0, 2)),
    ],
)
def test_the_scale_follows_from_whichever_numbers_are_given(argv: list[str], scale: tuple[int, ...]) -> None:
    assert gateway(*argv).scale == scale


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            ["--workers", "2", "--max_workers", "4"],
            "--workers says how many there are at least, at most and at first: leave it out, or"
            " --min_workers, --max_workers and --num_init_workers",
        ),
        (
            ["--min_workers", "3", "--max_workers", "2"],
            "--min_workers 3, --num_init_workers 3 and --max_workers 2 have to be in this order, none less"
            " than the one before",
        ),
        (
            ["--keep", "--ephemeral"],
            "--keep notes in the state folder which workers there are: leave out --ephemeral",
        ),
        (
            ["--keep", "--launcher", "ray"],
            "--keep is for local workers: those of ray stay without it",
        ),
        (["--stop_workers"], "--stop_workers is for ray and kubernetes: local workers end without it"),
        (["--launcher", "ray"], "--launcher ray needs --ray_address, the head of its cluster"),
        (
            ["--ray_address", "10.0.0.10:6379"],
            "--ray_address is for --launcher ray, and this is local",
        ),
        (
            ["--launcher", "kubernetes", "--worker_resources", "big=1"],
            "--worker_resources is for --launcher ray, and this is kubernetes",
        ),
        (
            ["--worker_resources", "big=1,small"],
            "--worker_resources must be NAME=N, with commas between, not 'big=1,small'",
        ),
        (["--worker_resources", "big=-1"], "--worker_resources must be 0 or more and finite, not -1"),
        (["--launcher", "slurm"], "--launcher must be local, ray or kubernetes, not 'slurm'"),
        (["--gateway_timeout", "-1"], "--gateway_timeout must be 0 seconds or more and finite, not -1.0"),
    ],
)
def test_settings_of_the_manager_that_contradict_each_other_are_refused(
    capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str
) -> None:
    assert refusal(capsys, *argv) == sentence


def test_the_flags_of_the_autoscaler_are_its_policys_parameters_with_their_defaults():
    flags = {each.name: each.default for each in dataclasses.fields(ScalingSettings)}
    assert flags == msgspec.to_builtins(Parameters())


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--target_utilization=1.5", "must be above 0 and at most 1, not 1.5"),
        ("--panic_threshold=1", "must be above 1 and at most 1000, not 1"),
        ("--target_queue_ms=soon", "must be a number, not 'soon'"),
        ("--target_concurrency=nan", "must be above 0 and at most 1e+06, not nan"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_with_a_sentence(flag, problem, capsys):
    assert f"{flag.partition('=')[0]} {problem}" in refusal(capsys, flag)
