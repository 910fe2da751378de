"""A stand-in for Slurm: `sbatch` runs each task of the real array script in the background, `sacct` tells its state."""

import os
import stat
from pathlib import Path

SBATCH = r"""#!/usr/bin/env python3
import os, pathlib, re, subprocess, sys
script = pathlib.Path(sys.argv[-1]).resolve()
folder = pathlib.Path(os.environ["STANDIN"])
(folder / "captured.sh").write_text(script.read_text())
found = re.search(r"--array=(\d+)-(\d+)(?:%(\d+))?", script.read_text())
first, last, at_once = (int(x) if x else None for x in found.groups()) if found else (0, 0, 1)
lines = ["cd " + os.getcwd()]
for task in range(first, last + 1):
    own = {"SLURM_JOB_ID": f"77{task}", "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(task),
           "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
           "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "node1"}
    env = " ".join(f"{k}={v}" for k, v in own.items())
    lines.append(f"env {env} bash {script}; echo $? > {folder}/77_{task}")
subprocess.Popen(["bash", "-c", "\n".join(lines)], start_new_session=True,
                 stdin=subprocess.DEVNULL, stdout=open(folder / "out", "w"), stderr=subprocess.STDOUT)
print("Submitted batch job 77")
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do case $1 in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""
SACCT = r"""#!/bin/bash
echo "JobID|State|NodeList"
for task in 0 1 2 3; do
  if [ -f $STANDIN/77_$task ]; then
    [ "$(cat $STANDIN/77_$task)" = 0 ] && state=COMPLETED || state=FAILED
  else state=RUNNING; fi
  echo "77_$task|$state|node1"
done
"""


def stand_in(folder: Path) -> dict[str, str]:
    """The environment in which `sbatch`, `srun` and `sacct` are those of the folder."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        (commands / name).write_text(text)
        (commands / name).chmod((commands / name).stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "STANDIN": str(folder)}
