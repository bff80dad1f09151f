"""`fmhub doctor`."""

from __future__ import annotations

import click

from fmhub.cli.output import emit_json, fields, json_option


@click.command()
@click.option("--quick", is_flag=True, help="Do not import torch to ask for the device.")
@json_option
@click.pass_context
def doctor(context: click.Context, quick: bool, as_json: bool) -> None:
    """Look for what is wrong and say what mends it; exit code 1 if something is."""
    from fmhub.doctor import examine

    findings = []
    for finding in examine(device=not quick):
        findings.append(finding)
        if not as_json:
            mark = {True: "well ", False: "WRONG", None: "  -  "}[finding.ok]
            fields({f"{mark} {finding.what}": finding.detail})
            if finding.ok is False:
                for line in finding.traceback.rstrip().splitlines():
                    click.echo(f"      {line}")
                if finding.mend:
                    click.echo(f"      Mend: {finding.mend}")
    if as_json:
        emit_json([vars(finding) for finding in findings])
    context.exit(1 if any(finding.ok is False for finding in findings) else 0)
