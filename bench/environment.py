"""The virtual environment that has the peers of bench/compare, in the versions of requirements.txt. Standard library only."""

import os
import subprocess
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
OWN = os.path.join(os.path.dirname(FOLDER), "build", "venv-bench")
REQUIREMENTS = os.path.join(FOLDER, "requirements.txt")


def contents(path):
    """None when there is no such file."""
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return file.read()


def install(venv):
    """Makes the environment anew, unless it was made from the same requirements."""
    complete, wanted = os.path.join(venv, ".complete"), contents(REQUIREMENTS)
    if contents(complete) == wanted:
        return
    print("bench/compare: installing the peers of bench/requirements.txt into build/venv-bench (some gigabytes, minutes)", file=sys.stderr)
    for step in ([sys.executable, "-m", "venv", "--clear", venv], [os.path.join(venv, "bin", "python"), "-m", "pip", "install", "-q", "-r", REQUIREMENTS]):
        if subprocess.run(step).returncode != 0:
            sys.exit("bench/compare: the environment build/venv-bench cannot be made (package python3-venv; is a package index in reach?)")
    with open(complete, "w", encoding="utf-8") as file:
        file.write(wanted)


def enter(script):
    """Runs the script again, with the same arguments, under an interpreter that has the peers: that of BENCH_VENV, or of an environment of our own."""
    venv = os.path.abspath(os.environ.get("BENCH_VENV") or OWN)
    if os.path.abspath(sys.prefix) == venv:
        return
    if not os.environ.get("BENCH_VENV"):
        install(venv)
    python = os.path.join(venv, "bin", "python")
    if not os.path.exists(python):
        sys.exit(f"bench/compare: there is no {python}; BENCH_VENV must name a virtual environment")
    os.execv(python, [python, os.path.abspath(script), *sys.argv[1:]])
