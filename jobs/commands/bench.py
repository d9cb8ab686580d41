"""``handloom bench``: measurements that anybody can repeat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say
from jobs.progress import RunProgress

app = typer.Typer(
    help="Measurements that anybody can repeat.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("accuracy")
@guarded
def accuracy(
    studio: Annotated[
        Path, typer.Option("--studio", help="Folder of studio clips; missing ones are rendered.")
    ] = Path("studio"),
    clips: Annotated[
        list[str] | None, typer.Option("--clip", help="Name of a studio clip; all for all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the studio.")] = 0,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder for a strip of frames per window.")
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(
            "--real",
            help="Folder with held_products (hand-made masks) and empty_hands: score there instead.",
        ),
    ] = None,
    sets: options.Set = None,
    as_json: options.Json = False,
) -> Exit:
    """Score boxes, masks, bodies and contact against the studio's truth, or masks against hand-made ones."""
    from schemas.recipes import apply_change

    stages: dict[str, Any] = {}
    for change in sets or ():
        apply_change(stages, change)
    if real is not None:
        return _real(real, clips or (), pictures, stages, as_json=as_json)
    from jobs.bench.accuracy import measure, render, summarise
    from jobs.studio.generate import generate

    with RunProgress() as progress:
        made = generate(studio, clips=clips or ["all"], seed=seed, progress=progress.step)
        scores = measure(made, progress.step, pictures, stages)
    figures = summarise(scores)
    if as_json:
        print_json(
            "bench accuracy", {"figures": figures, "dropped": {s.name: s.lost_at for s in scores}}
        )
    else:
        say(render(scores, figures))
    return Exit.DONE


def _real(
    data: Path,
    clips: Sequence[str],
    pictures: Path | None,
    stages: dict[str, Any],
    *,
    as_json: bool,
) -> Exit:
    from dataclasses import asdict

    from jobs.bench.real import measure_real, render_real, summarise_real

    with RunProgress() as progress:
        held, none = measure_real(data, stages, progress.step, pictures, clips)
    figures = summarise_real(held, none)
    if as_json:
        parts = [asdict(s) for s in (*held, *none)]
        print_json(
            "bench accuracy",
            {
                "figures": figures,
                "dropped": {s.part: s.lost_at for s in (*held, *none)},
                "parts": parts,
            },
        )
    else:
        say(render_real(held, none, figures))
    return Exit.DONE


@app.command("curation")
@guarded
def curation(
    videos: Annotated[
        list[Path] | None,
        typer.Argument(help="Videos to curate; by default studio clips, rendered once."),
    ] = None,
    studio: Annotated[
        Path, typer.Option("--studio", help="Folder of studio clips; missing ones are rendered.")
    ] = Path("studio"),
    clips: Annotated[
        list[str] | None, typer.Option("--clip", help="Name of a studio clip; by default clean.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the figures there, for --against.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Figures of before: ratios are shown.")
    ] = None,
    sets: options.Set = None,
    as_json: options.Json = False,
) -> Exit:
    """Measure the CPU seconds of every stage per second of video, in one process."""
    from jobs.bench.curation_cost import measure_curation, read_cost, table

    before = read_cost(against) if against else None
    given = videos or _studio_videos(studio, clips or ["clean"])
    cost = measure_curation(given, sets or ())
    if out is not None:
        out.write_text(cost.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if as_json:
        print_json("bench curation", cost.model_dump(mode="json"))
    else:
        say(table(cost, before))
    return Exit.DONE


def _studio_videos(folder: Path, clips: list[str]) -> list[Path]:
    from jobs.studio.generate import generate

    with RunProgress() as progress:
        return [c.video for c in generate(folder, clips=clips, progress=progress.step)]


@app.command("model")
@guarded
def model(
    quick: Annotated[bool, typer.Option("--quick", help="Measure on a smaller clip.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    peak_tflops: Annotated[float, typer.Option(help="Dense bf16 peak of the GPU.")] = 989.0,
    as_json: options.Json = False,
) -> Exit:
    """Count and measure what each form of the network costs, beside the theory."""
    from jobs.bench.model_cost import measure_cost, text_of

    with RunProgress() as progress:
        report = measure_cost(device, quick=quick, threads=threads, progress=progress.step)
    if as_json:
        print_json("bench model", report.as_json())
    else:
        say(text_of(report, device, peak_tflops))
    return Exit.DONE
