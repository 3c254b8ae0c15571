"""A joint inference from validated inputs to a diagnosed posterior in a folder."""

from __future__ import annotations

import time

from halo_mdn.config import to_toml
from halo_mdn.config.joint_schema import JointConfig
from halo_mdn.files import write_file
from halo_mdn.fitting.folder import POSTERIOR, RunFolder
from halo_mdn.joint.joint_container import build_joint
from halo_mdn.joint.joint_report import joint_content
from halo_mdn.joint.run import JointInputs, attributes, draw
from halo_mdn.posterior.container import write
from halo_mdn.posterior.summary import Summary
from halo_mdn.progress import Display, duration
from halo_mdn.report import REPORT, write_report


def infer(
    config: JointConfig, inputs: JointInputs, folder: RunFolder, *, display: Display,
    resume: bool = False,
) -> Summary:  # fmt: skip
    """Sample the joint posterior, diagnose it and write the results.

    Parameters
    ----------
    config : JointConfig
    inputs : JointInputs
        From :func:`halo_mdn.joint.run.prepare`.
    folder : RunFolder
        Where results and the checkpoint go.
    display : Display
        Where progress and results are shown.
    resume : bool
        Go on from the folder's checkpoint.

    Raises
    ------
    Interrupted
        After Ctrl-C or SIGTERM, with a checkpoint written.
    CheckpointError
        If the checkpoint belongs to another run.
    """
    began = time.monotonic()
    if not resume:
        display.say("Looking for a first field and bias of each chain")
    draws = draw(config, inputs, folder.checkpoint, display.update, resume=resume)
    display.say(f"\nSampled in {duration(draws.wall_time_s)}; computing diagnostics")
    posterior = build_joint(inputs.density, inputs.content, draws, attributes(config, inputs))
    content = joint_content(posterior)
    with folder.staged() as stage:
        write_file(stage / "config.toml", to_toml(config))
        content.summary.write_text(stage / "summary.txt")
        content.summary.write_csv(stage / "diagnostics.csv")
        write(posterior, stage / POSTERIOR)
        write_report(posterior, stage / REPORT, name=folder.path.name, content=content)
        names = sorted(part.name for part in stage.iterdir())
    display.say(f"\n{content.summary.verdict.to_text()}\n")
    display.say("\n".join(content.summary.field))
    display.say(f"\nWrote, {duration(time.monotonic() - began)} after the start")
    for name in names:
        display.say(f"  {folder.path / name}")
    return content.summary
