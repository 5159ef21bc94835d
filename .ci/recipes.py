"""Makes a shell script of each job in the recipes of pinnerfs/ci, for `make fresh`.

`python .ci/recipes.py DIRECTORY` writes DIRECTORY/JOB.sh. Such a script runs as root in a minimal Debian without its
own /dev/fuse, in a checkout of pinnerfs/ci/example. /srv/pinnerfs is a checkout of pinnerfs: git reads it in place of
the repository on GitHub, and it is also the checkout of the composite action. All other commands, variables, devices
and capabilities of a job come from its recipe.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "pinnerfs/ci"
SETUP = "OWNER/pinnerfs/.github/actions/setup@main"

# What a container has by default, from Docker's documentation.
CAPABILITIES = (
    "+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,"
    "+audit_write,+setfcap"
)

PREPARE = """set -e
cat > /etc/gitconfig <<'END'
[url "file:///srv/pinnerfs"]
    insteadOf = https://github.com/OWNER/pinnerfs
[safe]
    directory = *
END
export GITHUB_PATH=/tmp/github-path RUNNER_TEMP=/tmp/runner GITHUB_ACTION_PATH=/srv/pinnerfs/.github/actions/setup
mkdir "$RUNNER_TEMP"
touch "$GITHUB_PATH"
"""

FUSE = "mknod -m 666 /dev/fuse c 10 229\n"

# An image of Debian has no git.
CONTAINER = "dpkg --purge git\n"

# A virtual machine has an ordinary user, sudo, and /etc/mtab, which fusermount needs.
VM = """apt-get -qq update
apt-get -qq install --yes --no-install-recommends sudo
useradd --create-home runner
ln -s ../proc/self/mounts /etc/mtab
printf '%s\\n' 'Defaults !env_reset' 'runner ALL = (ALL) NOPASSWD: ALL' > /etc/sudoers.d/runner
chown -R runner: . /srv/pinnerfs "$RUNNER_TEMP" "$GITHUB_PATH"
"""

# Runs a step in a shell, with the directories that earlier steps of a workflow added to PATH. -v prints its lines.
STEPS = """set -e
step() {
    cat > /tmp/step
    PATH=$(tac "$GITHUB_PATH" | tr '\\n' ':')$PATH "$@" -v /tmp/step < /dev/null
}
"""


@dataclass
class Job:
    """A job of a recipe: its commands, and where they run."""

    name: str
    container: bool = True
    fuse: bool = False
    lines: list[str] = field(default_factory=list)

    def step(self, shell: str, commands: str) -> None:
        """Add commands, which run in their own shell."""
        self.lines.append(f"step {shell} <<'END'\n{commands.rstrip()}\nEND\n")

    def script(self) -> str:
        """Return the script for the minimal Debian."""
        if self.container:
            system = CONTAINER
            bounds = f"-all,{CAPABILITIES}" + (",+sys_admin" if self.fuse else "")
            enter = f"setpriv --inh-caps=-all --bounding-set={bounds}"
        else:
            system = VM
            enter = "runuser -u runner -- env HOME=/home/runner"
        steps = "".join([STEPS, *self.lines])
        return "".join(
            [
                PREPARE,
                FUSE if self.fuse else "",
                system,
                f"cat > /tmp/steps <<'END OF STEPS'\n{steps}END OF STEPS\n",
                f"exec {enter} bash /tmp/steps\n",
            ]
        )


def github() -> Iterator[Job]:
    """Yield the jobs of the workflow."""
    action = yaml.safe_load((ROOT / ".github/actions/setup/action.yml").read_text())
    workflow = yaml.safe_load((RECIPES / "github.yml").read_text())
    for name, content in workflow["jobs"].items():
        if "container" in content:
            assert content["container"]["options"].startswith("--device /dev/fuse --cap-add SYS_ADMIN ")
        job = Job(f"github-{name}", container="container" in content, fuse=True)
        for step in content["steps"]:
            if step.get("uses") == SETUP:
                for inner in action["runs"]["steps"]:
                    assert inner["shell"] == "bash"
                    job.step("bash -eo pipefail", inner["run"])
            elif not step.get("uses", "").startswith("actions/checkout@"):
                # The default shell of a container is sh.
                job.step("sh -e" if job.container else "bash -e", step["run"])
        yield job


def gitlab() -> Iterator[Job]:
    """Yield the jobs of the pipeline. All lines of a job run in one shell."""
    pipeline = yaml.safe_load((RECIPES / "gitlab.yml").read_text())
    before = pipeline.pop("default")["before_script"]
    for name, content in pipeline.items():
        job = Job(f"gitlab-{name}", fuse="fuse" in content.get("tags", []))
        job.step("bash -eo pipefail", "\n".join([*before, *content["script"]]))
        yield job


def containerfile() -> Iterator[Job]:
    """Yield one job, which builds and runs the image."""
    text = (RECIPES / "Containerfile").read_text()
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    job = Job("containerfile", fuse=True)
    for line in joined.splitlines():
        instruction, _, rest = line.partition(" ")
        match instruction:
            case "RUN":
                job.step("sh -e", rest)
            case "ENV":
                job.lines.append(f"export {rest}\n")
            case "CMD":
                job.step("sh -e", shlex.join(json.loads(rest)))
            case _:
                assert instruction == "FROM", line
    yield job


def main(directory: str) -> None:
    """Write the scripts."""
    for job in [*github(), *gitlab(), *containerfile()]:
        (Path(directory) / f"{job.name}.sh").write_text(job.script())


if __name__ == "__main__":
    main(sys.argv[1])
