"""pure: who may import whom (design §3), read from the source with `ast`; nothing of ours is imported here.

The rules are the tables below. A function-level import counts for every rule but that on cycles: it runs
later, so it closes no cycle, and still it is a dependency. The second half tests the checker on small trees.
"""

from __future__ import annotations

import ast
import graphlib
from collections import deque
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

may_import: dict[str, set[str]] = {
    "common": set(),
    "engine": {"common"},
    "gateway": {"common"},
    "ml_pool": {"common", "engine"},
    "bench": {"common", "engine", "ml_pool"},
    "cli": {"common"},
    "gw": {"common", "gateway"},
    "worker": {"common", "engine"},
    "server": {"common", "engine"},
    "client": {"common"},
}

# What a unit may import beside that, and no more of the unit it is in.
may_import_also: dict[str, set[str]] = {
    "bench": {"gateway.autoscaler.policy", "gateway.autoscaler.traffic"},  # the simulator runs the policy
    # To check a file as gw.py deploy would, to make what gw.py certs makes, and to look at a state directory
    # that no gateway may be able to open.
    "cli": {
        "gateway.deploy.config",
        "gateway.certificates",
        "gateway.recovery.backup",
        "gateway.recovery.check",
        "gateway.recovery.findings",
        "gateway.recovery.repair",
    },
}

# What every room of gateway.doors may import of it, and which other rooms each may. A module at the top is a
# room together with what the OpenAPI document says of it: jobs and jobs_api.
doors_share = {"answers", "cross_origin", "exchange", "json", "paths", "rest_api", "shape"}
doors_may_import: dict[str, set[str]] = {
    "fleet": set(),
    "monitoring": set(),
    "pages": set(),
    "predict": set(),
    "jobs": {"predict"},
    "models": {"predict"},
    "v2": {"models", "predict"},
    "ws": {"monitoring", "predict"},
    "autodep": {"monitoring", "predict", "v2"},
    "grpc": {"predict", "v2"},
    "rest": {"models", "monitoring", "pages", "predict", "v2"},
}

# They decide, and leave waiting and speaking to others. Each of them has to exist.
pure_modules = {
    "cli.failure",
    "bench.arrivals",
    "bench.comparing",
    "bench.executor.codecs.codec",
    "bench.executor.codecs.grpc",
    "bench.executor.codecs.http",
    "bench.executor.codecs.tls",
    "bench.executor.codecs.websocket",
    "bench.executor.doors",
    "bench.executor.payloads",
    "bench.executor.progress",
    "bench.executor.records",
    "bench.executor.summary",
    "bench.intervals",
    "bench.overloading",
    "bench.page",
    "bench.peers.answers",
    "bench.peers.catalog",
    "bench.peers.earlier",
    "bench.peers.found",
    "bench.peers.plan",
    "bench.peers.tables",
    "bench.peers.targets",
    "bench.profile.flame",
    "bench.profile.stacks",
    "bench.report.pictures",
    "bench.report.scales",
    "bench.report.svg",
    "bench.results",
    "bench.schedule",
    "bench.search",
    "bench.traces",
    "common.addresses",
    "common.errors",
    "common.given",
    "common.intervals",
    "common.media",
    "common.launching",
    "common.model_file",
    "common.models",
    "common.proving",
    "common.sealing",
    "common.stats",
    "common.tensor",
    "common.wire",
    "engine.budget",
    "engine.cache",
    "engine.combining",
    "engine.features",
    "engine.inputs.framing",
    "engine.metrics",
    "engine.rounding",
    "gateway.scheduling.admission",
    "gateway.auth.guesses",
    "gateway.auth.keyring",
    "gateway.auth.origins",
    "gateway.auth.roles",
    "gateway.autoscaler.meter",
    "gateway.autoscaler.policy",
    "gateway.autoscaler.scaling",
    "gateway.autoscaler.traffic",
    "gateway.scheduling.batches",
    "gateway.models.catalog",
    "gateway.auth.clients",
    "gateway.scheduling.fairness",
    "gateway.launchers.ids",
    "gateway.launchers.kubernetes.pods",
    "gateway.launchers.kubernetes.quantities",
    "gateway.launchers.kubernetes.room",
    "gateway.launchers.launcher",
    "gateway.launchers.ray.orders",
    "gateway.scheduling.loads",
    "gateway.scheduling.lookups",
    "gateway.metrics.carried",
    "gateway.metrics.reasons",
    "gateway.metrics.recorder",
    "gateway.metrics.text",
    "gateway.models.placement",
    "gateway.scheduling.queues",
    "gateway.scheduling.deadlines",
    "gateway.observing.events",
    "gateway.experiments.experiments",
    "gateway.observing.failures",
    "gateway.observing.history",
    "gateway.doors.grpc.coefs",
    "gateway.doors.predict.media",
    "gateway.doors.paths",
    "gateway.doors.predict.results",
    "gateway.doors.predict.typed_results",
    "common.grpc.blocks",
    "common.grpc.calm",
    "common.grpc.cutter",
    "common.grpc.events",
    "common.grpc.frames",
    "common.grpc.framing",
    "common.grpc.http2",
    "common.grpc.outbox",
    "common.grpc.statuses",
    "gateway.fronts.messages",
    "gateway.fronts.reader",
    "gateway.fronts.rows",
    "gateway.experiments.guard",
    "gateway.fleet.incarnations",
    "gateway.jobs.job",
    "gateway.jobs.line",
    "gateway.jobs.pace",
    "gateway.jobs.rows",
    "gateway.experiments.plans",
    "gateway.recovery.findings",
    "gateway.models.repository",
    "gateway.models.refusals",
    "gateway.scheduling.requests",
    "gateway.fleet.roster",
    "gateway.scheduling.routing",
    "gateway.scheduling.scheduler",
    "gateway.autoscaler.staffing",
    "gateway.experiments.shadows",
    "gateway.experiments.split",
    "gateway.scheduling.unrouted",
    "gateway.observing.statistics",
    "gateway.doors.v2.classify",
    "ml_pool.answers",
    "ml_pool.exceptions",
    "ml_pool.figures",
    "ml_pool.mapping",
    "ml_pool.schedule",
}
impure_libraries = {"hypercorn", "pynng", "starlette", "trio"}

# units that must stay small: not even by way of another module of ours
never_in = {
    "gateway": {"numpy", "torch"},
    "gw": {"numpy", "torch"},
    "client": {"numpy", "torch"},
    "cli": {"numpy", "torch", *impure_libraries},
    "ml_pool": impure_libraries,  # what runs in its workers is all of it
}

# library -> the one module, or package with all in it, that may import it
only_in = {
    "hypercorn": "gateway.http1.handover",
    "pynng": "common.link",
    "ray": "gateway.launchers.ray",
}

# Programs of other environments, of which no process of ours is made: they import what they are there for.
elsewhere = "bench.peers.services"

# Nobody's layer: whoever speaks the protocol may import it. scripts/generate.py writes them.
generated = {"modelserver_pb2", "modelserver_pb2_grpc"}

forbidden_folders = {"gw", "worker", "server", "client"}  # each would shadow the module of its name
outside = {"docs", "examples", "scripts", "tests"}  # programs and tests: they may import anything
not_source = {"build", "dist", "state"}  # left behind by tools


class Import(NamedTuple):
    """One import statement's target: a module of ours by its full name, else the library's dotted name."""

    target: str
    where: str
    at_import: bool


class Module(NamedTuple):
    """One source file: whether it says what it is (an empty one need not), and every import in it."""

    where: str
    documented: bool
    imports: list[Import]


Modules = dict[str, Module]


def read_modules(root: Path) -> Modules:
    """Return every module of the units in the table, by its dotted name."""
    paths = {}
    for unit in may_import:
        for path in [root / f"{unit}.py", *sorted((root / unit).rglob("*.py"))]:
            if path.is_file():
                parts = path.relative_to(root).with_suffix("").parts
                paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: read_module(name, path, root, paths) for name, path in paths.items()}


def read_module(name: str, path: Path, root: Path, ours: Collection[str]) -> Module:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    where = str(path.relative_to(root))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports = [
        Import(resolve(target, ours), f"{where}:{node.lineno}", at_import)
        for node, at_import in statements(tree, at_import=True)
        for target in targets(node, package, ours)
    ]
    return Module(where, not tree.body or ast.get_docstring(tree) is not None, imports)


def statements(node: ast.AST, *, at_import: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield every node below, each with whether it runs while the module is being imported."""
    for child in ast.iter_child_nodes(node):
        later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        later = later or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        runs = at_import and not later
        yield child, runs
        yield from statements(child, at_import=runs)


def targets(node: ast.AST, package: str, ours: Collection[str]) -> list[str]:
    """Return what an import statement, or a call that imports by a written-out name, asks for."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
        source = ".".join([*above, *([node.module] if node.module else [])])
        names = [f"{source}.{alias.name}" for alias in node.names]
        return sorted({name if name in ours else source for name in names})
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        return [
            arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        ]
    return []


def resolve(target: str, ours: Collection[str]) -> str:
    """Return the module of ours that a name begins with (of `import a.b`, perhaps a), else the name."""
    parts = target.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((prefix for prefix in prefixes if prefix in ours), target)


def unit_of(name: str) -> str:
    return name.split(".")[0]


def is_in(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.")


def find_layer_problems(modules: Modules) -> list[str]:
    problems = []
    for name, module in modules.items():
        unit = unit_of(name)
        for imported in module.imports:
            target = unit_of(imported.target)
            if imported.target in may_import_also.get(unit, ()):
                continue
            if target in may_import and target != unit and target not in may_import[unit]:
                allowed = ", ".join(sorted(may_import[unit])) or "nothing of ours"
                problems.append(f"{imported.where}: {unit} may import {allowed}, not {imported.target}")
    return problems


def room_of(name: str) -> str | None:
    """Return the room of gateway.doors that a module is in, "" for what all of them share, None elsewhere."""
    if not name.startswith("gateway.doors."):
        return None
    room = name.split(".")[2]
    return "" if room in doors_share else room.removesuffix("_api")


def find_room_problems(modules: Modules) -> list[str]:
    problems = []
    for name, module in modules.items():
        room = room_of(name)
        if room and room not in doors_may_import:
            problems.append(f"{module.where}:1: {room} is not in the table of the doors' rooms")
        elif room is not None:
            others = doors_may_import.get(room, set())
            who, allowed = room or "what all share", ", ".join(sorted(others) or ["no other room"])
            problems += [
                f"{imported.where}: doors: {who} may import {allowed}, not {imported.target}"
                for imported in module.imports
                if room_of(imported.target) not in {None, "", room, *others}
            ]
    return problems


def find_cycle_problems(modules: Modules) -> list[str]:
    # Parents are left out: importing a.b runs a/__init__.py first, and that one may well import a.b.
    graph = {
        name: {
            imported.target
            for imported in module.imports
            if imported.at_import and imported.target in modules
        }
        for name, module in modules.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        cycle = error.args[1][::-1]  # graphlib lists each before what imports it
        steps = [f"{where_imported(modules, a, b)}: {a} imports {b}" for a, b in pairwise(cycle)]
        return ["a cycle:\n    " + "\n    ".join(steps)]
    return []


def where_imported(modules: Modules, name: str, target: str) -> str:
    return next(imported.where for imported in modules[name].imports if imported.target == target)


def with_packages(name: str, modules: Modules) -> Iterator[str]:
    """Yield what is run when a module is imported: the packages that it is in, and it."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return (prefix for prefix in prefixes if prefix in modules)


def find_paths(modules: Modules, start: str) -> Iterator[list[Import]]:
    """Yield, for every foreign module that a module imports in the end, the shortest way there."""
    waiting: deque[tuple[str, list[Import]]] = deque((name, []) for name in with_packages(start, modules))
    seen = {name for name, _ in waiting}
    while waiting:
        name, path = waiting.popleft()
        for imported in modules[name].imports:
            way = [*path, imported]
            if imported.target not in modules:
                yield way
                continue
            for step in with_packages(imported.target, modules):
                if step not in seen:
                    seen.add(step)
                    waiting.append((step, way))


def find_reaching_problems(modules: Modules, start: str, libraries: Collection[str], rule: str) -> list[str]:
    problems = []
    for path in find_paths(modules, start):
        if unit_of(path[-1].target) in libraries:
            way = " → ".join(imported.target for imported in path)
            end = f" ({path[-1].where})" if len(path) > 1 else ""
            problems.append(f"{path[0].where}: {rule}: {way}{end}")
    return problems


def find_pure_problems(modules: Modules) -> list[str]:
    return [
        problem
        for name in sorted(pure_modules & modules.keys())
        for problem in find_reaching_problems(modules, name, impure_libraries, f"{name} is pure")
    ]


def find_weight_problems(modules: Modules) -> list[str]:
    problems = []
    for name in modules:
        libraries = never_in.get(unit_of(name), set())
        rule = f"{unit_of(name)} needs no {' or '.join(sorted(libraries))}"
        problems += find_reaching_problems(modules, name, libraries, rule)
    return problems


def find_confinement_problems(modules: Modules) -> list[str]:
    return [
        f"{imported.where}: only {place} imports {library}"
        for name, module in modules.items()
        for imported in module.imports
        for library, place in only_in.items()
        if unit_of(imported.target) == library and not is_in(name, place) and not is_in(name, elsewhere)
    ]


def find_docstring_problems(modules: Modules) -> list[str]:
    return [f"{module.where}:1: no docstring" for module in modules.values() if not module.documented]


def source_folders(root: Path) -> Iterator[Path]:
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if not folder.name.startswith((".", "__")) and folder.name not in not_source:
            yield folder
            yield from source_folders(folder)


def find_name_problems(root: Path) -> list[str]:
    """Find folders that shadow a main, and modules that no rule of the table is about."""
    problems = [
        f"{folder.relative_to(root)}: no folder may be called {folder.name}"
        for folder in source_folders(root)
        if folder.name in forbidden_folders
    ]
    units = {path.stem: path for path in root.glob("*.py")}
    units |= {path.parent.name: path.parent for path in root.glob("*/__init__.py")}
    strangers = sorted(units.keys() - may_import.keys() - outside - generated - forbidden_folders)
    return [
        *problems,
        *(f"{units[name].relative_to(root)}: not in the table of who may import whom" for name in strangers),
    ]


@pytest.fixture(scope="module")
def modules() -> Modules:
    found = read_modules(ROOT)
    assert {"common.errors", "gateway", "engine"} <= found.keys()  # else every rule below holds of nothing
    return found


@pytest.mark.parametrize(
    "find_problems",
    [
        find_layer_problems,
        find_room_problems,
        find_cycle_problems,
        find_pure_problems,
        find_weight_problems,
        find_confinement_problems,
        find_docstring_problems,
    ],
)
def test_the_source_keeps_the_rule(modules, find_problems):
    problems = find_problems(modules)
    assert not problems, "\n" + "\n".join(problems)


def test_names_keep_the_rules():
    problems = find_name_problems(ROOT)
    assert not problems, "\n" + "\n".join(problems)


def test_the_doors_rooms_are_there_and_have_an_order(modules):
    assert {room_of(name) for name in modules} - {None, ""} == doors_may_import.keys()
    graphlib.TopologicalSorter(doors_may_import).prepare()


@pytest.mark.parametrize("name", sorted(pure_modules))
def test_a_module_on_the_pure_list_is_there(modules, name):
    assert name in modules


def plant(root: Path, files: dict[str, str]) -> Modules:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_modules(root)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("import engine.cache", "gateway/a.py:2: gateway may import common, not engine.cache"),
        ("from engine import cache", "gateway/a.py:2: gateway may import common, not engine.cache"),
        ("from engine.cache import get", "gateway/a.py:2: gateway may import common, not engine.cache"),
        (
            "def f(): from engine.cache import get",
            "gateway/a.py:2: gateway may import common, not engine.cache",
        ),
        (
            "if TYPE_CHECKING: import engine.cache",
            "gateway/a.py:2: gateway may import common, not engine.cache",
        ),
        ("x = import_module('engine.cache')", "gateway/a.py:2: gateway may import common, not engine.cache"),
        ("import gw", "gateway/a.py:2: gateway may import common, not gw"),
    ],
)
def test_an_import_across_layers_is_found(tmp_path, line, problem):
    files = {
        "gateway/a.py": f'"""A."""\n{line}\n',
        "engine/__init__.py": "",
        "engine/cache.py": "",
        "gw.py": "",
    }
    assert find_layer_problems(plant(tmp_path, files)) == [problem]


def test_an_import_that_the_table_allows_is_no_problem(tmp_path):
    files = {
        "gateway/a.py": "import msgspec\nfrom common.b import c\nfrom . import d\n",
        "common/b.py": "",
        "gateway/d.py": "",
    }
    assert find_layer_problems(plant(tmp_path, files)) == []


def test_a_unit_may_import_the_modules_that_are_named_for_it_and_no_others(tmp_path):
    files = {
        "bench/a.py": "from gateway.autoscaler.policy import f\nfrom gateway.autoscaler import edge\n",
        "gateway/__init__.py": "",
        "gateway/autoscaler/__init__.py": "",
        "gateway/autoscaler/policy.py": "",
        "gateway/autoscaler/edge.py": "",
    }
    assert find_layer_problems(plant(tmp_path, files)) == [
        "bench/a.py:2: bench may import common, engine, ml_pool, not gateway.autoscaler.edge"
    ]


def test_common_imports_nothing_of_ours(tmp_path):
    modules = plant(tmp_path, {"common/a.py": "import engine", "engine/__init__.py": ""})
    assert find_layer_problems(modules) == ["common/a.py:1: common may import nothing of ours, not engine"]


def test_a_cycle_is_found_with_each_of_its_steps(tmp_path):
    files = {
        "common/__init__.py": "",
        "common/a.py": "from common.b import f",
        "common/b.py": "\nfrom . import c",
        "common/c.py": "import common.a",
    }
    (problem,) = find_cycle_problems(plant(tmp_path, files))
    assert sorted(problem.splitlines()) == [
        "    common/a.py:1: common.a imports common.b",
        "    common/b.py:2: common.b imports common.c",
        "    common/c.py:1: common.c imports common.a",
        "a cycle:",
    ]


@pytest.mark.parametrize("line", ["def f(): import common.a", "if typing.TYPE_CHECKING: import common.a"])
def test_an_import_that_runs_later_closes_no_cycle(tmp_path, line):
    files = {
        "common/__init__.py": "from common.a import f",
        "common/a.py": "import common.b",
        "common/b.py": line,
    }
    assert find_cycle_problems(plant(tmp_path, files)) == []


def test_a_pure_module_that_reaches_trio_is_found_with_the_way_there(tmp_path):
    files = {
        "gateway/__init__.py": "",
        "gateway/scheduling/routing.py": "from gateway import b",
        "gateway/b.py": "\nfrom trio.lowlevel import spawn_system_task",
        "gateway/scheduling/scheduler.py": "import pynng",
        "gateway/serve.py": "import trio",
    }
    assert find_pure_problems(plant(tmp_path, files)) == [
        "gateway/scheduling/routing.py:1: gateway.scheduling.routing is pure:"
        " gateway.b → trio.lowlevel (gateway/b.py:2)",
        "gateway/scheduling/scheduler.py:1: gateway.scheduling.scheduler is pure: pynng",
    ]


def test_torch_in_a_gateway_is_found_even_behind_a_package(tmp_path):
    files = {
        "gateway/a.py": "import common.sub.b",
        "common/sub/__init__.py": "def f():\n    import numpy.linalg",
        "common/sub/b.py": "",
        "engine/a.py": "import torch",
    }
    way = "common.sub.b → numpy.linalg (common/sub/__init__.py:2)"
    assert find_weight_problems(plant(tmp_path, files)) == [
        f"gateway/a.py:1: gateway needs no numpy or torch: {way}"
    ]


def test_what_a_package_imports_its_pure_module_imports_too(tmp_path):
    files = {"gateway/__init__.py": "import starlette", "gateway/scheduling/routing.py": ""}
    assert find_pure_problems(plant(tmp_path, files)) == [
        "gateway/__init__.py:1: gateway.scheduling.routing is pure: starlette"
    ]


def test_an_import_across_the_doors_rooms_is_found(tmp_path):
    files = {
        "gateway/doors/json.py": "from gateway.doors.jobs import Job",
        "gateway/doors/jobs.py": "import gateway.doors.jobs_api, gateway.doors.json, gateway.doors.predict",
        "gateway/doors/jobs_api.py": "def f(): from gateway.doors.models import models",
        "gateway/doors/models/models.py": "import gateway.jobs, gateway.doors.models.settings",
        "gateway/doors/predict/rows.py": "import gateway.doors.ws",
        "gateway/doors/models/settings.py": "",
        "gateway/doors/ws/__init__.py": "",
        "gateway/doors/another.py": "",
    }
    assert find_room_problems(plant(tmp_path, files)) == [
        "gateway/doors/another.py:1: another is not in the table of the doors' rooms",
        "gateway/doors/jobs_api.py:1: doors: jobs may import predict, not gateway.doors.models.models",
        "gateway/doors/json.py:1: doors: what all share may import no other room, not gateway.doors.jobs",
        "gateway/doors/predict/rows.py:1: doors: predict may import no other room, not gateway.doors.ws",
    ]


def test_a_library_outside_its_one_place_is_found(tmp_path):
    files = {
        "common/link/gateway.py": "import pynng",
        "common/linked.py": "import pynng",
        "gateway/http1/handover/a.py": "import hypercorn",
        "gateway/http1/lane.py": "from hypercorn.config import Config",
    }
    assert find_confinement_problems(plant(tmp_path, files)) == [
        "common/linked.py:1: only common.link imports pynng",
        "gateway/http1/lane.py:1: only gateway.http1.handover imports hypercorn",
    ]


def test_a_module_without_a_docstring_is_found(tmp_path):
    modules = plant(
        tmp_path, {"common/__init__.py": "", "common/a.py": '"""A."""', "common/b.py": "import c"}
    )
    assert find_docstring_problems(modules) == ["common/b.py:1: no docstring"]


def test_a_folder_that_shadows_a_main_and_a_unit_without_a_rule_are_found(tmp_path):
    plant(
        tmp_path, {"engine/worker/a.py": "", "fleet/__init__.py": "", "setup.py": "", "tests/__init__.py": ""}
    )
    assert find_name_problems(tmp_path) == [
        "engine/worker: no folder may be called worker",
        "fleet: not in the table of who may import whom",
        "setup.py: not in the table of who may import whom",
    ]
