"""A SLURM cluster of two nodes on this host, in one temporary folder: nothing of the machine is touched.

Munge, the controller and two `slurmd -N` are started as they are on a cluster, with a configuration, keys, sockets,
ports and spool folders of their own. Each node has two fake GPUs.
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from support import REPO

SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "sinfo", "scancel")
NODES = ("n1", "n2")
# Where jobs find the tests' task.
PYTHONPATH = str(REPO / "tests")
# A SLURM step of its own starts within a second here; a loaded machine gets this long for anything it starts.
PATIENCE = 60.0

SLURM_CONF = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=1,bf_interval=5,sched_interval=5
EnforcePartLimits=ALL
ReturnToService=2
KillWait=20
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
SlurmdTimeout=10
SlurmctldTimeout=10
GresTypes=gpu
SlurmdParameters=config_overrides
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports}] CPUs=4 RealMemory=1000 Gres=gpu:2 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=1-00 State=UP PriorityTier=1 GraceTime=30
PartitionName=high Nodes=ALL MaxTime=1-00 State=UP PriorityTier=10 PreemptMode=OFF
"""
# Files that exist everywhere stand for the devices; with Count= alone SLURM drains the node.
GRES_CONF = """
NodeName=n[1-2] Name=gpu File=/dev/null
NodeName=n[1-2] Name=gpu File=/dev/zero
"""


def missing_programs():
    return [name for name in PROGRAMS if shutil.which(name, path=SBIN) is None]


class Cluster:
    """The running cluster; `env` is what a user's shell on it has."""

    def __init__(self, root: Path) -> None:
        self.root = root
        ports = _free_ports(3)
        self.env = {
            # As in a shell where the environment of flops-fit is active, outside any job.
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "TORCHELASTIC_"))},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), SBIN]),
            "SLURM_CONF": str(root / "slurm.conf"),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": PYTHONPATH,
        }
        (root / "state").mkdir()
        for node in NODES:
            (root / f"spool.{node}").mkdir()
        (root / "slurm.conf").write_text(
            SLURM_CONF.format(
                root=root, user=getpass.getuser(), host=socket.gethostname().partition(".")[0],
                controller_port=ports[0], ports=f"{ports[1]}-{ports[1] + 1}",
            )
        )  # fmt: skip
        (root / "gres.conf").write_text(GRES_CONF)
        key = root / "munge.key"
        key.write_bytes(os.urandom(64))
        key.chmod(0o600)

    def start(self) -> None:
        munge = [
            f"--{kind}={self.root}/munge.{kind.partition('-')[0]}" for kind in ("key-file", "log-file", "pid-file")
        ]
        self.run(
            "munged", "--force", *munge, f"--seed-file={self.root}/munge.seed", f"--socket={self.root}/munge.socket"
        )
        self.run("slurmctld", "-c")
        for node in NODES:
            self.start_node(node)
        self.wait(lambda: len(self.run("sinfo", "-h", "-N", "-p", "low", "-t", "idle").split("\n")) == 3)

    def start_node(self, node: str) -> None:
        self.run("slurmd", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kills all of a node at once: its daemon, the steps' daemons and every process of a job there."""
        os.kill(self.pid(f"slurmd.{node}"), signal.SIGKILL)
        tasks = [process for process in Path("/proc").glob("[0-9]*") if self._is_on(process, node)]
        stepds = {_status(process, "PPid") for process in tasks}
        stepds = {pid for pid in stepds if _status(Path("/proc", pid), "Name") == "slurmstepd"}
        for pid in [*stepds, *(process.name for process in tasks)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def _is_on(self, process: Path, node: str) -> bool:
        with contextlib.suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            return {f"SLURM_CONF={self.root}/slurm.conf".encode(), f"SLURMD_NODENAME={node}".encode()} <= {*variables}
        return False

    def stop(self) -> None:
        # Steps outlive the daemons: what a failed test left is ended first.
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.run("scancel", "-u", getpass.getuser())
            self.wait(lambda: not self.run("squeue", "-h"), seconds=40)
        for name in (*(f"slurmd.{node}" for node in NODES), "slurmctld", "munge"):
            with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
                os.kill(self.pid(name), signal.SIGTERM)
        for name in ("slurmctld", "munge"):
            with contextlib.suppress(AssertionError):
                self.wait(lambda name=name: not (self.root / f"{name}.pid").exists(), seconds=10)

    def pid(self, name: str) -> int:
        return int((self.root / f"{name}.pid").read_text())

    def run(self, *argv: object) -> str:
        """Runs one command as a user would; what it prints."""
        done = subprocess.run(
            [str(a) for a in argv], capture_output=True, text=True, env=self.env, timeout=PATIENCE, cwd=self.root
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *argv: object) -> str:
        """Submits with sbatch; the job's number."""
        return self.run("sbatch", "--parsable", *argv).strip().partition(";")[0]

    def job(self, name: str) -> dict[str, str]:
        """What `scontrol show job` says of one job or array task."""
        text = self.run("scontrol", "--oneliner", "show", "job", name)
        return dict(word.partition("=")[::2] for word in text.split("\n")[0].split())

    def states(self, job: str) -> list[str]:
        """The state of each task of a job."""
        return self.run("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T").split()

    def wait(self, claim, *, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not claim():
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.2)

    def wait_for_end(self, job: str, *, seconds: float = 240.0) -> list[str]:
        """Waits until every task of a job has ended, and starts requeued ones soon instead of after two minutes.

        Not at once: a node refuses a job that starts in the second in which it was requeued.
        """
        deadline = time.monotonic() + seconds
        requeued: dict[str, float] = {}
        while True:
            lines = self.run("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T %i %r").splitlines()
            if all(line.split()[0] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL") for line in lines):
                return [line.split()[0] for line in lines]
            for line in lines:
                name = line.split()[1]
                if "BeginTime" not in line:
                    requeued.pop(name, None)
                elif time.monotonic() > requeued.setdefault(name, time.monotonic()) + 3:
                    self.run("scontrol", "update", f"JobId={name}", "StartTime=now")
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.3)

    def report(self) -> str:
        """The queue and the end of each log, for a test that fails."""
        queue = self.run("squeue", "-r", "-t", "all")
        logs = sorted(self.root.rglob("*.out")) + sorted(self.root.glob("*.log"))
        return queue + "".join(f"\n== {log}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)


def _status(process: Path, name: str) -> str:
    with contextlib.suppress(OSError):
        lines = (process / "status").read_text().splitlines()
        return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "")
    return ""


def _free_ports(count: int) -> list[int]:
    """Neighbouring ports that nobody listens on."""
    for first in range(17000 + os.getpid() % 1000, 30000, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return list(range(first, first + count))
    raise AssertionError("no free ports")
