"""A Ray cluster on hosts, made as docs/ray.md shows: the head on the first, nodes on others."""

from __future__ import annotations

import json
import os
import re
import secrets
import sysconfig
from pathlib import Path

from tests.e2e.processes import ROOT, clean_environment
from tests.hosts.hosts import SECONDS, Host

PORT = 6379
TRIES = 3  # the parts of a node give each other 15 seconds, which is too little for them on a busy machine
SHOWN = dict(re.findall(r"```bash\n# (.*?)\n(.*?)```", (ROOT / "docs" / "ray.md").read_text(), re.DOTALL))
# Ray takes a minute to give a silent host up; here, seconds.
TUNING = {
    "RAY_health_check_initial_delay_ms": "10000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1500",
    "RAY_health_check_failure_threshold": "3",
}


class RayCluster:
    """One head and its nodes; it remembers what was ordered on disk, so a head may come back."""

    def __init__(self, hosts: list[Host], folder: Path) -> None:
        self.token_file = folder / "auth_token"
        self.token_file.write_text(secrets.token_hex(32))
        self.token_file.chmod(0o600)
        self.address = f"{hosts[0].ip}:{PORT}"
        self._hosts = hosts
        self._folder = folder
        self._heads = 0

    def start_head(self) -> None:
        """Start the head, with all that one before it knew; it has no room for workers."""
        self._heads += 1
        self._start(self._hosts[0], "on the head")

    def start_node(self, host: Host, **resources: float) -> None:
        """Have a host join, with so much of these, and cores enough."""
        self._start(
            host, "on each other machine", "--num-cpus=8", f"--resources='{json.dumps(resources)}'",
            f"--node-ip-address={host.ip}",
        )  # fmt: skip

    def _start(self, host: Host, where: str, *flags: str) -> None:
        shown = SHOWN["on every machine, in each shell that starts something"] + SHOWN[where].rstrip()
        copied = f"mkdir -p $HOME/.ray && cp {self.token_file} $HOME/.ray/\n"
        script = copied + " ".join([shown.replace("10.0.0.10", self._hosts[0].ip), *flags])
        environment = clean_environment() | TUNING | {
            "HOME": "/dev/shm/home",  # which each host has for itself, and no disk is waited for
            "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
            "RAY_TMPDIR": f"/dev/shm/head{self._heads}",
        }  # fmt: skip
        log = self._folder / f"start-{host.name}.log"
        for _ in range(TRIES):
            with log.open("w") as file:  # no pipe: what stays would hold it
                done = host.popen(["bash", "-ec", script], env=environment, stdout=file, stderr=file)
                if done.wait(2 * SECONDS) == 0:
                    return
            self.kill(host)
        raise AssertionError(f"Ray does not start on {host.name}: {log.read_text()}")

    def kill(self, host: Host, *names: str) -> None:
        """SIGKILL for processes of Ray on a host; by default for all of them, not for what they started."""
        host.run(["pkill", "-KILL", "-f", "|".join(names or ("gcs_server", "raylet", "/ray/"))], check=False)
