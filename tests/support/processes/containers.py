"""The image without a container engine: build the Bento, install its own requirements, obey its recipe."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

import httpx

from tests.support.processes.servers import PROJECT, House, Server, free_port


@dataclass(frozen=True)
class Image:
    """A Bento's folder, and the Python environment that was made from the requirements inside it."""

    bento: Path
    python: Path

    @property
    def recipe(self) -> str:
        """The generated Dockerfile."""
        return (self.bento / "env" / "docker" / "Dockerfile").read_text()

    @property
    def entrypoint(self) -> list[str]:
        """What the container starts; its own words come behind it."""
        last = re.findall(r"^ENTRYPOINT (.*)$", self.recipe, flags=re.MULTILINE)[-1]
        place = variables(self.recipe)["BENTO_PATH"]
        return [word.replace(place, str(self.bento)) for word in json.loads(last)]

    def environment(self, state: Path, **changes: str) -> dict[str, str]:
        """The image's variables, nothing of ours, with its folders mapped to where they are here.

        Args:
            state: stands for the image's state volume.
            changes: what an operator gives with ``-e``.
        """
        said = variables(self.recipe)
        home = said["BENTOML_HOME"].rstrip("/")
        places = {said["BENTO_PATH"]: str(self.bento), home: str(state / "user"), "/app/.venv": str(self.python)}
        places[said["INCUMBENT_HOME"]] = str(state)
        (state / "user").mkdir(parents=True, exist_ok=True)
        found = {name: _mapped(value, places) for name, value in said.items()}
        return found | {"HOME": str(state / "user")} | changes

    def run(self, words: list[str], state: Path, **changes: str) -> subprocess.CompletedProcess[str]:
        """One command in the image, to its end."""
        return subprocess.run(
            [*self.entrypoint, *words], cwd=self.bento, env=self.environment(state, **changes),
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip


def build_bento(home: Path) -> Path:
    """``bentoml build`` with a home of its own; returns the Bento's folder."""
    # BentoML installs uv into the running environment when it finds none, even where it locks nothing.
    stub = home / "bin" / "uv"
    stub.parent.mkdir(parents=True)
    stub.write_text("#!/bin/sh\nexit 1\n")
    stub.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{stub.parent}{os.pathsep}{os.environ['PATH']}",
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "INCUMBENT_HOME": str(home / "never-made"),
    }
    done = subprocess.run(
        [str(Path(sys.executable).with_name("bentoml")), "build"],
        cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (home / "never-made").exists()
    return next(path.parent for path in (home / "bentos").rglob("bento.yaml"))


def install(bento: Path, where: Path) -> Image:
    """A new virtual environment with what the Bento asks for, and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", str(where)], check=True, timeout=600)
    wanted = bento / "env" / "python" / "requirements.txt"
    # The set is complete, so nothing is resolved; an incomplete one would fail at the first import.
    subprocess.run(
        [str(where / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--require-hashes", "-r", str(wanted)],
        check=True, timeout=900, capture_output=True,
    )  # fmt: skip
    (bento / "env" / "docker" / "entrypoint.sh").chmod(0o755)  # as the recipe does
    return Image(bento, where)


def isolated(where: Path) -> Path:
    """A Python with the packages of this one and without the project: the path of its program.

    A line of a ``.pth`` file adds a folder without the ``.pth`` files in it, and so without the editable installation.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(where)], check=True, timeout=600)
    (packages,) = where.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(f"{Path(httpx.__file__).parents[1]}\n")
    return where / "bin" / "python"


class Alone(Server):
    """A Bento from a file, served by somebody who has nothing else: no project, no ``PYTHONPATH``, an empty home.

    Args:
        python: program of an environment in which the project is not installed.
        file: the Bento, as ``bentoml export`` writes it.
        home: lies in the folder in which the service is started, under the name that it has without a setting.
    """

    def __init__(self, python: Path, file: Path, workspace: House) -> None:
        self.workspace = workspace
        self.python = python
        self.folder = workspace.home.parent
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=10.0)
        self.log = self.folder / "service.log"
        self._out = self.log.open("wb")
        self.run("-m", "bentoml", "import", str(file))
        words = ["-m", "bentoml", "serve", "incumbent:latest", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = self.start(*words)

    @property
    def environment(self) -> dict[str, str]:
        """All that the processes are told."""
        user = self.folder / "user"
        user.mkdir(exist_ok=True)
        path = f"{self.python.parent}{os.pathsep}/usr/bin{os.pathsep}/bin"
        return {"HOME": str(user), "PATH": path, "BENTOML_DO_NOT_TRACK": "True"}

    def run(self, *words: str, **environment: str) -> str:
        """Output of a command in this environment."""
        done = subprocess.run(
            [str(self.python), *words], cwd=self.folder, env=self.environment | environment,
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """A process in this environment."""
        return subprocess.Popen(
            [str(self.python), *words], cwd=self.folder, env=self.environment | environment,
            stdout=self._out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def export(bento: Path, file: Path) -> Path:
    """The Bento as one file, as ``bentoml export`` writes it."""
    environment = os.environ | {"BENTOML_HOME": str(bento.parents[2]), "BENTOML_DO_NOT_TRACK": "True"}
    words = [str(Path(sys.executable).with_name("bentoml")), "export", f"incumbent:{bento.name}", str(file)]
    subprocess.run(words, env=environment, check=True, timeout=600, capture_output=True)
    return file


def variables(recipe: str) -> dict[str, str]:
    """The variables that a Dockerfile sets, expanded as the engine would."""
    arguments: dict[str, str] = {"PATH": os.environ["PATH"]}
    found: dict[str, str] = {}
    for word, name, value in re.findall(r"^(ARG|ENV) (\w+)=(.*)$", recipe, flags=re.MULTILINE):
        text = Template(value.strip().strip("'\"")).substitute(arguments)
        arguments[name] = text
        if word == "ENV":
            found[name] = text
    return found


class Container(Server):
    """The service as the image starts it: its entry point, its folder, its variables."""

    def __init__(self, image: Image, workspace: House, **environment: str) -> None:
        self.workspace = workspace
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=10.0)
        self.log = workspace.home / f"container-{self.port}.log"
        self._out = self.log.open("wb")
        ours = {"BENTOML_HOST": "127.0.0.1", "BENTOML_PORT": str(self.port)}
        self.process = subprocess.Popen(
            image.entrypoint, cwd=image.bento, env=image.environment(workspace.home, **ours, **environment),
            stdout=self._out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def _mapped(value: str, places: Mapping[str, str]) -> str:
    """The value with each of the image's folders replaced, the longest first."""
    for place in sorted(places, key=len, reverse=True):
        value = re.sub(rf"{re.escape(place)}(?=[/:]|$)", places[place], value)
    return value
