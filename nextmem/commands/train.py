"""`nextmem train`: its arguments."""

from __future__ import annotations

import os

import click

from nextmem.commands.options import as_json_option, pool_option, say


@click.command()
@click.argument("run")
@click.option("--data", multiple=True, metavar="PASSAGES", help="Files, folders or globs; Parquet, JSONL, JSONL.gz.")
@click.option("--backbone", help="smollm2-135m (default), a Hugging Face id, or a model folder.")
@click.option("--stage", "stages", type=click.Choice(["both", "1", "2"]), help="Default: both.")
@click.option("--system", metavar="NAME", help="In a codec's place: head, reader, or a baseline.")
@click.option("--init", metavar="CODEC", help="Codec folder whose adapters to start from.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--gpus", is_flag=True, help="One GPU a worker, waited for.")
@pool_option
@click.option("--no-ray", is_flag=True, help="One process, without Ray.")
@click.option("--minutes", type=float, help="Stop whole after so long; the same command goes on.")
@click.option("--export", metavar="DIR", help="Train no further: write the latest checkpoint's codec to DIR.")
@click.option("--change", is_flag=True, help="Go on with other settings than the run folder's.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Any other setting; see docs/settings.md.")
@as_json_option
def train(
    run, data, backbone, stages, system, init, workers, gpus, pool, no_ray, minutes, export, change, pairs, as_json
):
    """Train a codec in the folder RUN; RUN/codec is what `nextmem encode --codec` takes.

    `nextmem train RUN` again goes on where it stopped, with any number of workers.
    """
    import nextmem
    from jobs.settings import typed_settings
    from nextmem.commands.progress import TrainBar

    if no_ray and workers > 1:
        raise click.UsageError("--no-ray is one process: leave out --workers")
    if export and (data or pairs or init or minutes or change):
        raise click.UsageError("--export changes nothing of the run: leave out --data, --init, --minutes, --set")
    if no_ray and pool:
        raise click.UsageError("--no-ray is this machine: leave out --pool")
    try:
        with TrainBar(as_json=as_json) as bar:
            codec = nextmem.train(
                run,
                data=data,
                backbone=backbone,
                stages=stages,
                system=system,
                init=init,
                workers=workers,
                gpus=gpus,
                pool=pool,
                ray=not no_ray,
                minutes=minutes,
                change=change,
                export=export,
                on_progress=bar,
                say=say,
                **typed_settings(pairs, *_configs(system, run)),
            )
    except KeyboardInterrupt:
        say("\nstopped; `nextmem train` with the same folder goes on from the last checkpoint.")
        raise
    if codec is None:
        say(f"the time is up; `nextmem train {run}` goes on.")
    elif not as_json:
        click.echo(codec if export else os.path.join(run, "codec"))


def _configs(system: str | None, run: str) -> tuple[object, ...]:
    """What --set may change."""
    from jobs.train.run_folder import system_of

    if (system or system_of(run)) == "reader":
        from model.training.reading_trainer import ReaderConfig

        return (ReaderConfig(),)
    if system == "head":
        from model.training.teaching import HeadConfig

        return (HeadConfig(),)
    from model.config import CodecConfig
    from model.training.curriculum import TrainConfig

    return TrainConfig(), CodecConfig()
