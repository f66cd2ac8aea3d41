"""`nextmem evaluate`: its arguments."""

from __future__ import annotations

import click

from nextmem.commands.differences import show_differences
from nextmem.commands.evaluated import Bar, show
from nextmem.commands.options import as_json_option, say


@click.command()
@click.argument("systems", nargs=-1, metavar="[SYSTEM]...")
@click.option("--data", multiple=True, metavar="DATA", help="Folders or files of sets, or hf:NAME.")
@click.option(
    "--compare",
    nargs=2,
    metavar="A.json B.json",
    help="Measure nothing: paired differences of two results.json, A less B.",
)
@click.option("--tasks", default="reconstruct", show_default=True, metavar="TASK,...", help="Or `all`.")
@click.option("--sets", metavar="NAME,...", help="Of DATA; default: all.")
@click.option(
    "--limit",
    "--passages",
    default=200,
    show_default=True,
    type=click.IntRange(min=0),
    help="Texts, questions and queries of each set, at most; 0: all.",
)
@click.option(
    "-o", "--out", metavar="OUT", help="A folder for results.json, report.html and what is measured: to go on there."
)
@click.option("--refine", default=0, type=click.IntRange(min=0), metavar="STEPS", help="One more row a codec, refined.")
@click.option("--backbone", help="smollm2-135m (default), a Hugging Face id, or a model folder. It reads, too.")
@click.option("--model", "models", multiple=True, metavar="NAME=FOLDER", help="An embedder's folder or hub id.")
@click.option("--prompt", help="Of answering, with {context} and {question}.")
@click.option("--judge", metavar="URL", help="An endpoint of OpenAI's kind that judges answers.")
@click.option("--judge-model", metavar="NAME", help="Which model is asked there.")
@click.option("--text-column", default="text", show_default=True)
@click.option("--tokens", default=128, show_default=True, type=click.IntRange(min=1), help="Texts are cut to so many.")
@click.option(
    "--min-tokens", default=32, show_default=True, type=click.IntRange(min=1), help="Shorter texts are left out."
)
@click.option(
    "--actors",
    default=0,
    type=click.IntRange(min=0),
    help="Ray actors that share the work; default: none, in this process.",
)
@as_json_option
@click.pass_obj
def evaluate(given, systems, data, compare, tasks, sets, limit, out, judge, judge_model, models, as_json, **more):
    """What memories are worth: SYSTEMs put to tasks on sets of passages, with intervals.

    A SYSTEM is a codec's folder, `default` (the one without any), `untrained`, a trained baseline's folder, or one of
    text, bm25, minilm, bge. The tasks are reconstruct, retrieve, answer, noise, length, segments, rate. The same
    command again goes on where it was stopped. docs/evaluation.md says what each figure means.
    """
    import nextmem

    if compare:
        if data or systems or out:
            raise click.UsageError("--compare measures nothing: leave out SYSTEM, --data and -o")
        show_differences(nextmem.compare(*compare), as_json=as_json)
        return
    if not data:
        raise click.UsageError("name sets to measure on with --data, or two results.json with --compare")
    if (judge is None) != (judge_model is None):
        raise click.UsageError("--judge and --judge-model go together")
    if odd := [each for each in models if "=" not in each]:
        raise click.BadParameter(f"{odd[0]!r} is no NAME=FOLDER", param_hint="--model")
    with Bar() as bar:
        results = nextmem.evaluate(
            systems or "default",
            data=data,
            tasks=tuple(tasks.split(",")),
            sets=tuple(sets.split(",")) if sets else (),
            limit=limit or None,
            out=out,
            models=dict(each.split("=", 1) for each in models),
            judge=(judge, judge_model) if judge else None,
            command=" ".join(["nextmem", *(given or ())]),
            on_progress=bar.show,
            say=say,
            **more,
        )
    show(results, as_json=as_json)
    if results.faults:
        raise click.exceptions.Exit(1)
